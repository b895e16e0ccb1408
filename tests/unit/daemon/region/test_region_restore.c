/* SPDX-License-Identifier: Apache-2.0 */
/* Regions that outlive the daemon: the next one has the same slots with the same bytes, charged to
 * the same sessions, whatever was under way, and nothing of what was given back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/region/slab.h"
#include "daemon/region/slot.h"
#include "daemon/session/validate.h"
#include "tests/support/restore_rig.h"
#include "tests/support/seed.h"

#define WORD 0x1234567812345678u

static struct slabs_books books_of(struct restore_rig *rig, uint32_t device)
{
	struct slabs *slabs = rig->pool.devices->list[device].slabs;

	assert_null(slabs_check(slabs));
	assert_int_equal(
		slabs_check_slots(slabs),
		regions_backed(&rig->clients[0].regions, &rig->pool.devices->list[device]) +
			regions_backed(&rig->clients[1].regions, &rig->pool.devices->list[device]) +
			regions_backed(&rig->publications->regions,
				       &rig->pool.devices->list[device]));

	return slabs_books(slabs);
}

static void commit(struct restore_rig *rig, struct region *region, uint64_t first, uint64_t count)
{
	int fds[16];

	assert_int_equal(restore_rig_commit(rig, region, first, count, fds), HBM_OK);
	for (uint64_t i = 0; i < count; i++) {
		close(fds[i]);
		restore_rig_write(rig, region, first + i, WORD + first + i);
	}
}

static void test_regions_are_there_again(void **state)
{
	struct restore_rig *rig = *state;
	struct region *region = restore_rig_make(rig, 0, 0, 8), *other;
	uint32_t id = region_id(region), other_id, gone;

	gone = region_id(restore_rig_make(rig, 0, 1, 4));
	other = restore_rig_make(rig, 1, 1, 4);
	other_id = region_id(other);
	commit(rig, region, 1, 5);
	commit(rig, other, 0, 2);
	assert_int_equal(restore_rig_decommit(rig, region, 2, 1), HBM_OK);
	assert_int_equal(restore_rig_share(rig, region, 5, region, 7, true), HBM_OK);
	struct region_outcome outcome = {0};
	assert_int_equal(
		region_destroy(&rig->clients[0].regions, gone, region_rig_region_over, &outcome),
		HBM_OK);
	pool_run(&rig->pool, region_rig_is_over, &outcome);
	restore_rig_run(rig);

	for (unsigned round = 0; round < 3; round++) {
		restore_rig_kill(rig);
		assert_int_equal(rig->restored.regions, 2);
		assert_int_equal(rig->restored.slots, 7);
		assert_int_equal(rig->restored.lost, 0);
		region = restore_rig_find(rig, 0, id);
		other = restore_rig_find(rig, 1, other_id);
		assert_null(restore_rig_find(rig, 0, gone));
		assert_int_equal(region->committed, 5 * SLAB);
		assert_int_equal(region->shared, 2 * SLAB);
		assert_int_equal(regions_committed(&rig->clients[0].regions), 4 * SLAB);
		assert_int_equal(ledger_used(&rig->user->payer, LEDGER_MEMORY), 6 * SLAB);
		assert_int_equal(ledger_used(&rig->clients[0].payer, LEDGER_REGIONS), 1);
		assert_int_equal(ledger_used(&rig->clients[0].payer, LEDGER_ADDRESS_SPACE),
				 8 * SLAB);
		assert_int_equal(books_of(rig, 0).leased, 4 * SLAB);
		assert_int_equal(books_of(rig, 1).leased, 2 * SLAB);
		assert_int_equal(region_rig_address(region, 2 * SLAB, SLAB), HBM_NOT_FOUND);
		assert_int_equal(restore_rig_read(rig, region, 1), WORD + 1);
		assert_int_equal(restore_rig_read(rig, region, 4), WORD + 4);
		assert_int_equal(restore_rig_read(rig, region, 7), WORD + 5);
		assert_int_equal(restore_rig_read(rig, other, 1), WORD + 1);
		assert_int_equal(region_is_read_only(region, 7 * SLAB, SLAB), true);
		assert_int_equal(region_is_read_only(region, 5 * SLAB, SLAB), false);
	}

	/* one memory still */
	restore_rig_write(rig, region, 5, 99);
	assert_int_equal(restore_rig_read(rig, region, 7), 99);

	/* and it goes on, by new names */
	assert_true(region_id(restore_rig_make(rig, 0, 0, 1)) > gone);
	commit(rig, region, 2, 1);
	assert_int_equal(restore_rig_decommit(rig, region, 4, 2), HBM_OK);
	assert_int_equal(restore_rig_read(rig, region, 7), 99);
	restore_rig_kill(rig);
	region = restore_rig_find(rig, 0, id);
	assert_int_equal(region->committed, 4 * SLAB);
	assert_int_equal(restore_rig_read(rig, region, 2), WORD + 2);
	assert_int_equal(restore_rig_read(rig, region, 7), 99);
}

/* What the client has mapped is what the daemon has. */
static void test_a_client_s_mapping_goes_on(void **state)
{
	struct restore_rig *rig = *state;
	struct region *region = restore_rig_make(rig, 0, 0, 2);
	uint32_t id = region_id(region);
	int fd;

	assert_int_equal(restore_rig_commit(rig, region, 1, 1, &fd), HBM_OK);
	uint64_t *mapped = mmap(NULL, SLAB, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(mapped, MAP_FAILED);
	close(fd);
	*mapped = WORD;
	restore_rig_kill(rig);
	region = restore_rig_find(rig, 0, id);
	assert_int_equal(restore_rig_read(rig, region, 1), WORD);
	*mapped = 7;
	assert_int_equal(restore_rig_read(rig, region, 1), 7);
	restore_rig_write(rig, region, 1, 8);
	assert_int_equal(*mapped, 8);
	munmap(mapped, SLAB);
}

/* A session whose process has ended meanwhile: its memory is free again; what another process
 * still has of it is held. */
static void test_what_nobody_has_is_free(void **state)
{
	struct restore_rig *rig = *state;
	struct region *region = restore_rig_make(rig, 0, 0, 4);
	int fds[2];

	commit(rig, restore_rig_make(rig, 1, 0, 1), 0, 1);
	assert_int_equal(restore_rig_commit(rig, region, 0, 2, fds), HBM_OK);
	close(fds[0]);
	rig->clients[0].absent = true;
	restore_rig_kill(rig);
	restore_rig_run(rig);
	assert_int_equal(rig->restored.regions, 1);
	assert_int_equal(rig->restored.lost, 0);
	assert_int_equal(books_of(rig, 0).leased, SLAB);
	assert_int_equal(books_of(rig, 0).held, SLAB);
	assert_int_equal(ledger_used(&rig->user->payer, LEDGER_MEMORY), SLAB);
	close(fds[1]);
	rig->clients[0].absent = false;
}

/* It is charged for it as before, until it lets go. */
static void test_what_was_given_back_is_held(void **state)
{
	struct restore_rig *rig = *state;
	struct region *region = restore_rig_make(rig, 0, 0, 4);
	int fds[3];

	assert_int_equal(restore_rig_commit(rig, region, 0, 3, fds), HBM_OK);
	assert_int_equal(restore_rig_decommit(rig, region, 0, 2), HBM_OK);
	restore_rig_run(rig);
	assert_int_equal(books_of(rig, 0).held, 2 * SLAB);
	for (unsigned round = 0; round < 2; round++) {
		restore_rig_kill(rig);
		assert_int_equal(books_of(rig, 0).held, 2 * SLAB);
		assert_int_equal(ledger_used(&rig->clients[0].payer, LEDGER_HELD), 2 * SLAB);
		assert_int_equal(ledger_used(&rig->user->payer, LEDGER_MEMORY), 3 * SLAB);
	}

	close(fds[0]);
	close(fds[1]);
	close(fds[2]);
}

static bool one_is_held(void *arg)
{
	return books_of(arg, 0).held == SLAB;
}

static bool none_is_held(void *arg)
{
	return books_of(arg, 0).held == 0;
}

/* What it lets go of while no daemon runs is free, and what it keeps is not, whatever others have
 * had of the device before. */
static void test_what_is_let_go_of_meanwhile_is_free(void **state)
{
	struct restore_rig *rig = *state;
	struct region *region = restore_rig_make(rig, 0, 0, 4);
	struct device *device = &rig->pool.devices->list[0];
	CUmemAllocationProp prop = device_allocation(device);
	CUmemGenericAllocationHandle handle;
	int others, fds[3];

	/* another process, which keeps it by a descriptor alone */
	assert_int_equal(device->driver->cuMemCreate(&handle, 2 * SLAB, &prop, 0), CUDA_SUCCESS);
	assert_int_equal(device->driver->cuMemExportToShareableHandle(
				 &others, handle, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0),
			 CUDA_SUCCESS);
	assert_int_equal(device->driver->cuMemRelease(handle), CUDA_SUCCESS);

	assert_int_equal(restore_rig_commit(rig, region, 0, 3, fds), HBM_OK);
	assert_int_equal(restore_rig_decommit(rig, region, 0, 2), HBM_OK);
	restore_rig_run(rig);
	assert_int_equal(books_of(rig, 0).held, 2 * SLAB);
	close(fds[1]);
	restore_rig_kill(rig);
	assert_int_equal(ledger_used(&rig->clients[0].payer, LEDGER_HELD), 2 * SLAB);
	pool_run(&rig->pool, one_is_held, rig);
	assert_int_equal(ledger_used(&rig->clients[0].payer, LEDGER_HELD), SLAB);

	close(fds[0]);
	restore_rig_kill(rig);
	pool_run(&rig->pool, none_is_held, rig);
	assert_int_equal(ledger_used(&rig->clients[0].payer, LEDGER_HELD), 0);
	assert_int_equal(ledger_used(&rig->user->payer, LEDGER_MEMORY), SLAB);
	close(fds[2]);
	close(others);
	restore_rig_run_free(rig);
}

/* Killed while it is being released: nobody knows yet whether the client holds it. */
static void test_what_was_being_released_is_held(void **state)
{
	struct restore_rig *rig = *state;
	struct region *region = restore_rig_make(rig, 0, 0, 4);
	int fds[2];

	assert_int_equal(restore_rig_commit(rig, region, 0, 2, fds), HBM_OK);
	assert_int_equal(restore_rig_decommit(rig, region, 0, 2), HBM_OK);
	close(fds[0]);
	restore_rig_kill(rig);
	assert_int_equal(ledger_used(&rig->clients[0].payer, LEDGER_HELD), books_of(rig, 0).held);
	assert_in_range(books_of(rig, 0).held, SLAB, 2 * SLAB);

	/* What it does not hold is free as soon as the device is asked. */
	pool_run(&rig->pool, one_is_held, rig);
	assert_int_equal(ledger_used(&rig->clients[0].payer, LEDGER_HELD), SLAB);
	close(fds[1]);
	restore_rig_run_free(rig);
}

/* A slab that does not come back leaves its slot empty; its client may hold it. */
static void test_a_lost_slab(void **state)
{
	struct restore_rig *rig = *state;
	struct region *region = restore_rig_make(rig, 0, 0, 4);
	uint32_t id = region_id(region);

	commit(rig, region, 0, 3);
	parking_drop(rig->kept.parking, parking_id(PARK_SLAB, region->slots[1].slab->id));
	restore_rig_kill(rig);
	region = restore_rig_find(rig, 0, id);
	assert_int_equal(rig->restored.slots, 2);
	assert_int_equal(region->committed, 2 * SLAB);
	assert_int_equal(books_of(rig, 0).leased, 2 * SLAB);
	assert_int_equal(books_of(rig, 0).held, SLAB);
	assert_int_equal(ledger_used(&rig->clients[0].payer, LEDGER_HELD), SLAB);
	assert_int_equal(region_rig_address(region, SLAB, SLAB), HBM_NOT_FOUND);
	assert_int_equal(restore_rig_read(rig, region, 2), WORD + 2);
	commit(rig, region, 1, 1);
}

/* A client has it mapped that the device does not give the daemon again. */
static void test_a_slab_that_is_not_imported(void **state)
{
	struct restore_rig *rig = *state;
	struct region *region = restore_rig_make(rig, 0, 0, 4);
	int fds[2];

	assert_int_equal(restore_rig_commit(rig, region, 0, 2, fds), HBM_OK);
	setenv("HBM_SOFT_FAIL", "cuMemImportFromShareableHandle:1", 1);
	restore_rig_kill(rig);
	unsetenv("HBM_SOFT_FAIL");
	assert_int_equal(books_of(rig, 0).leased, SLAB);
	assert_int_equal(books_of(rig, 0).held, SLAB);
	assert_int_equal(ledger_used(&rig->clients[0].payer, LEDGER_HELD), SLAB);
	restore_rig_kill(rig);
	assert_int_equal(ledger_used(&rig->clients[0].payer, LEDGER_HELD), SLAB);
	assert_int_equal(ledger_used(&rig->user->payer, LEDGER_MEMORY), 2 * SLAB);
	close(fds[0]);
	close(fds[1]);
	restore_rig_run_free(rig);
}

/* A record that no daemon has written is dropped, and takes no memory. */
static void test_a_region_that_cannot_be(void **state)
{
	struct restore_rig *rig = *state;
	struct state *kept = rig->kept.state;

	commit(rig, restore_rig_make(rig, 0, 0, 4), 0, 1);
	uint32_t record = state_next(kept, STATE_REGIONS, 0);
	struct kept_region wrong =
		*(const struct kept_region *)state_body(kept, STATE_REGIONS, record);
	wrong.region++;
	wrong.address_space = UINT64_C(1) << 60;
	assert_int_not_equal(state_add(kept, STATE_REGIONS, &wrong, 0), STATE_NONE);
	restore_rig_kill(rig);
	assert_int_equal(rig->restored.regions, 1);
	assert_int_equal(rig->restored.lost, 1);
	assert_int_equal(state_count(rig->kept.state, STATE_REGIONS), 1);
}

/* Of memory that is not there any more, or of a descriptor that did not come back. */
static void test_a_guest_region_that_cannot_be(void **state)
{
	struct restore_rig *rig = *state;
	struct state *kept = rig->kept.state;

	commit(rig, restore_rig_make(rig, 0, 0, 4), 0, 1);
	uint32_t record = state_next(kept, STATE_REGIONS, 0);
	struct kept_region guest =
		*(const struct kept_region *)state_body(kept, STATE_REGIONS, record);
	guest.slab = guest.address_space;
	for (guest.guest = HBM_WIRE_GUEST_FD; guest.guest <= HBM_WIRE_GUEST_IPC; guest.guest++) {
		guest.region++;
		memset(guest.handle, 7, sizeof(guest.handle));
		assert_int_not_equal(state_add(kept, STATE_REGIONS, &guest, 0), STATE_NONE);
	}
	restore_rig_kill(rig);
	assert_int_equal(rig->restored.regions, 1);
	assert_int_equal(rig->restored.lost, 2);
	assert_int_equal(state_count(rig->kept.state, STATE_REGIONS), 1);
}

static void test_reservations(void **state)
{
	struct restore_rig *rig = *state;
	struct device *device = &rig->pool.devices->list[1];
	struct regions *regions = &rig->clients[1].regions;

	assert_int_equal(slabs_reserve(device->slabs, regions_promise(regions, device),
				       regions->payer, 6 * SLAB),
			 true);
	commit(rig, restore_rig_make(rig, 1, 1, 2), 0, 2);
	for (unsigned round = 0; round < 2; round++) {
		restore_rig_kill(rig);
		assert_int_equal(books_of(rig, 1).promised, 4 * SLAB);
		assert_int_equal(ledger_used(&rig->clients[1].payer, LEDGER_RESERVED), 6 * SLAB);
		assert_int_equal(books_of(rig, 0).promised, 0);
	}

	device = &rig->pool.devices->list[1];
	slabs_end_promise(regions_promise(&rig->clients[1].regions, device));
	restore_rig_kill(rig);
	assert_int_equal(books_of(rig, 1).promised, 0);
}

static int publish(struct restore_rig *rig, struct region *region, const char *name)
{
	struct refusal refusal;
	const struct publication_form form = {
		.name = name, .uid = 1234, .region = region, .offset = SLAB, .bytes = 2 * SLAB};

	return publication_new(rig->publications, &form, &refusal_reason(&refusal));
}

static struct region *attach(struct restore_rig *rig, unsigned client, const char *name)
{
	struct region_outcome outcome = {0};
	struct publication *publication = publication_find(rig->publications, 1234, NULL, name);

	assert_non_null(publication);
	assert_int_equal(region_attach(&rig->clients[client].regions, publication, true,
				       region_rig_region_over, &outcome),
			 HBM_OK);
	pool_run(&rig->pool, region_rig_is_over, &outcome);
	assert_int_equal(outcome.status, HBM_OK);

	return outcome.region;
}

/* What two sessions have in slots, as one has borrowed it of the other, outlives the one. */
static void test_a_slab_of_two_sessions(void **state)
{
	struct restore_rig *rig = *state;
	struct region *one = restore_rig_make(rig, 0, 0, 1), *two = restore_rig_make(rig, 1, 0, 1);
	uint32_t id = region_id(two);

	commit(rig, one, 0, 1);
	const struct kept_slot slot = {
		.session = 2, .slab = one->slots[0].slab->id, .region = id, .flags = KEPT_LENT};
	assert_int_not_equal(state_add(rig->kept.state, STATE_SLOTS, &slot, 0), STATE_NONE);
	restore_rig_kill(rig);
	two = restore_rig_find(rig, 1, id);
	assert_int_equal(restore_rig_read(rig, two, 0), WORD);
	assert_null(two->slots[0].slab->part.holder); /* the first may be gone before */
	assert_int_equal(restore_rig_decommit(rig, two, 0, 1), HBM_OK);
}

/* Slabs are in one publication at most, and once in that: it would not end else. */
static void test_a_slab_is_published_once(void **state)
{
	struct restore_rig *rig = *state;
	struct state *kept = rig->kept.state;
	struct region *region = restore_rig_make(rig, 0, 0, 2);

	commit(rig, region, 0, 2);
	struct kept_slot slot = {.slab = region->slots[1].slab->id, .region = 900};
	struct kept_region twice = *(const struct kept_region *)state_body(
		kept, STATE_REGIONS, state_next(kept, STATE_REGIONS, 0));
	const struct kept_publication publication = {.region = 900, .uid = 1234, .name = "b"};

	twice.session = 0;
	twice.region = 900;
	twice.address_space = 2 * SLAB;
	assert_int_not_equal(state_add(kept, STATE_REGIONS, &twice, 0), STATE_NONE);
	for (slot.slot = 0; slot.slot < 2; slot.slot++)
		assert_int_not_equal(state_add(kept, STATE_SLOTS, &slot, 0), STATE_NONE);
	assert_int_not_equal(state_add(kept, STATE_PUBLICATIONS, &publication, 0), STATE_NONE);
	restore_rig_kill(rig);
	assert_int_equal(rig->restored.publications, 0);
	assert_int_equal(rig->restored.slots, 2);
	assert_int_equal(books_of(rig, 0).leased, 2 * SLAB);
	assert_int_equal(state_count(rig->kept.state, STATE_SLOTS), 2);
}

/* A name outlives daemon and maker; what is attached is attached still. */
static void test_publications(void **state)
{
	struct restore_rig *rig = *state;
	struct region *region = restore_rig_make(rig, 0, 0, 4), *attached;
	int fd;

	commit(rig, region, 0, 4);
	assert_int_equal(publish(rig, region, "weights"), HBM_OK);
	attached = attach(rig, 1, "weights");
	uint32_t id = region_id(attached), maker = region_id(region);
	assert_int_equal(restore_rig_commit(rig, attached, 0, 1, &fd), HBM_OK);
	close(fd);
	restore_rig_kill(rig);
	assert_int_equal(rig->restored.publications, 1);
	assert_int_equal(rig->restored.regions, 2);
	attached = restore_rig_find(rig, 1, id);
	assert_int_equal(restore_rig_read(rig, attached, 0), WORD + 1);
	assert_int_equal(region_is_read_only(attached, 0, SLAB), true);
	assert_int_equal(restore_rig_commit(rig, attached, 1, 1, &fd), HBM_OK);
	close(fd);
	assert_int_equal(restore_rig_read(rig, attached, 1), WORD + 2);
	assert_int_equal(ledger_used(&rig->user->payer, LEDGER_PUBLISHED), 2 * SLAB);
	assert_int_equal(regions_committed(&rig->publications->regions), 2 * SLAB);
	assert_int_equal(publish(rig, restore_rig_find(rig, 0, maker), "other"), HBM_EXISTS);

	rig->clients[0].absent = true;
	restore_rig_kill(rig);
	restore_rig_run(rig);
	assert_int_equal(books_of(rig, 0).leased, 2 * SLAB);
	attached = restore_rig_find(rig, 1, id);
	assert_int_equal(restore_rig_read(rig, attached, 1), WORD + 2);
	publication_withdraw(publication_find(rig->publications, 1234, NULL, "weights"));
	restore_rig_kill(rig);
	assert_int_equal(rig->restored.publications, 1);
	assert_null(publication_find(rig->publications, 1234, NULL, "weights"));
	attached = restore_rig_find(rig, 1, id);
	assert_int_equal(restore_rig_read(rig, attached, 0), WORD + 1);

	rig->clients[1].absent = true;
	restore_rig_kill(rig);
	restore_rig_run(rig);
	assert_int_equal(rig->publications->regions.leased, 0);
	assert_int_equal(books_of(rig, 0).leased, 0);
	rig->clients[0].absent = rig->clients[1].absent = false;
}

/* The state has no room: refused, and nothing has changed. */
static void test_a_full_state(void **state)
{
	struct restore_rig *rig = *state;
	struct region *region = restore_rig_make(rig, 0, 0, 8);
	const struct kept_slot other = {.session = 77};
	uint32_t fill = 0;

	commit(rig, region, 0, 2);
	while (state_add(rig->kept.state, STATE_SLOTS, &other, 0) != STATE_NONE)
		fill++;
	assert_true(fill > 0);
	assert_int_equal(restore_rig_commit(rig, region, 2, 2, NULL), HBM_LIMIT);
	assert_int_equal(restore_rig_share(rig, region, 0, region, 5, false), HBM_LIMIT);
	assert_int_equal(publish(rig, region, "weights"), HBM_NOT_FOUND);
	restore_rig_run_free(rig);
	assert_int_equal(region->committed, 2 * SLAB);
	assert_int_equal(books_of(rig, 0).leased, 2 * SLAB);
	assert_int_equal(state_count(rig->kept.state, STATE_SLABS), 2);
	assert_int_equal(parking_count(rig->kept.parking), 2);

	/* of no session: they are dropped */
	restore_rig_kill(rig);
	assert_int_equal(rig->restored.slots, 2);
	assert_int_equal(state_count(rig->kept.state, STATE_SLOTS), 2);
}

/* Each device call of a start fails once: what is not there is not there as a whole, and the rest
 * is. */
static void test_a_device_that_refuses(void **state)
{
	static const char *const calls[] = {"cuMemImportFromShareableHandle", "cuMemAddressReserve",
					    "cuMemMap", "cuMemSetAccess"};
	struct restore_rig *rig = *state;

	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		for (unsigned nth = 1; nth <= 5; nth++) {
			char fault[64];
			struct region *one = restore_rig_make(rig, 0, 0, 3),
				      *two = restore_rig_make(rig, 1, 0, 3);

			commit(rig, one, 0, 2);
			commit(rig, two, 1, 2);
			assert_int_equal(restore_rig_share(rig, one, 0, one, 2, false), HBM_OK);
			snprintf(fault, sizeof(fault), "%s:%u", calls[i], nth);
			setenv("HBM_SOFT_FAIL", fault, 1);
			restore_rig_kill(rig);
			unsetenv("HBM_SOFT_FAIL");
			assert_int_equal(rig->restored.regions + rig->restored.lost, 2);
			assert_true(rig->restored.regions >= 1);
			struct slabs_books books = books_of(rig, 0);
			assert_true(books.leased <= 4 * SLAB);
			for (unsigned client = 0; client < 2; client++)
				list_for_each (node, &rig->clients[client].regions.all) {
					struct region *region =
						container_of(node, struct region, link);
					for (uint64_t k = 0; k < 3; k++)
						if (region->slots[k].slab)
							assert_in_range(
								restore_rig_read(rig, region, k),
								WORD, WORD + 2);
				}
			restore_rig_kill(rig);
			restore_rig_end_all(rig);
			restore_rig_kill(rig);
		}
	}
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, restore_rig_setup, restore_rig_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_regions_are_there_again),
		TEST(test_a_client_s_mapping_goes_on),
		TEST(test_what_nobody_has_is_free),
		TEST(test_what_was_given_back_is_held),
		TEST(test_what_is_let_go_of_meanwhile_is_free),
		TEST(test_what_was_being_released_is_held),
		TEST(test_a_lost_slab),
		TEST(test_a_slab_that_is_not_imported),
		TEST(test_a_region_that_cannot_be),
		TEST(test_a_guest_region_that_cannot_be),
		TEST(test_reservations),
		TEST(test_publications),
		TEST(test_a_slab_is_published_once),
		TEST(test_a_slab_of_two_sessions),
		TEST(test_a_full_state),
		TEST(test_a_device_that_refuses),
	};
#undef TEST

	return cmocka_run_group_tests(tests, NULL, NULL);
}
