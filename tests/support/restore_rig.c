/* SPDX-License-Identifier: Apache-2.0 */
/* restore_rig: see restore_rig.h. */
#include "tests/support/restore_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/region/commit.h"
#include "daemon/region/decommit.h"
#include "daemon/region/slab.h"
#include "daemon/region/slot.h"
#include "daemon/state/keep.h"
#include "tests/support/store_rig.h"

static char folder[] = "/dev/shm/test-restore-XXXXXX";

static void restore_rig_shapes(const struct restore_rig *rig,
			       struct state_shape shapes[STATE_TABLES])
{
	for (size_t i = 0; i < STATE_TABLES; i++)
		shapes[i] = (struct state_shape){sizeof(uint64_t), 1};
	struct ledger ledger;

	ledger_open(&ledger, &rig->pool.config);
	region_kept_shapes(&ledger, shapes);
}

static struct regions *restore_rig_regions(void *arg, uint64_t session)
{
	struct restore_rig *rig = arg;
	struct restore_client *client =
		session <= RESTORE_SESSIONS ? &rig->clients[session - 1] : NULL;

	return client && !client->absent ? &client->regions : NULL;
}

/* What the daemon has beside its devices. */
static void restore_rig_begin_clients(struct restore_rig *rig)
{
	ledger_open(&rig->ledger, &rig->pool.config);
	rig->user = user_open(&rig->ledger, 1234);
	assert_non_null(rig->user);
	for (unsigned i = 0; i < RESTORE_SESSIONS; i++) {
		struct restore_client *client = &rig->clients[i];

		payer_open_below(&client->payer, &rig->user->payer, PAYER_SESSION);
		regions_init(&client->regions, &client->payer);
		client->regions.holder.session = i + 1;
		client->regions.user = rig->user;
	}
	assert_int_equal(publications_open(&rig->publications, &rig->ledger), 0);
}

static void restore_rig_begin(struct restore_rig *rig)
{
	assert_int_equal(parking_open(&rig->kept.parking), 0);
	state_count_to(rig->kept.state, STATE_STARTS,
		       state_counter(rig->kept.state, STATE_STARTS) + 1);
	pool_begin(&rig->pool, RESTORE_BUDGET, &rig->kept);
	restore_rig_begin_clients(rig);
	const struct region_restore form = {
		.kept = &rig->kept,
		.devices = rig->pool.devices,
		.publications = rig->publications,
		.find = restore_rig_regions,
		.arg = rig,
	};
	rig->restored = regions_restore(&form);
	for (unsigned i = 0; i < RESTORE_SESSIONS; i++)
		regions_go_on(&rig->clients[i].regions, &rig->kept);
	parking_let_go(rig->kept.parking);
}

static bool restore_rig_is_empty(void *arg)
{
	struct restore_rig *rig = arg;
	bool empty = true;

	for (unsigned i = 0; i < RESTORE_SESSIONS; i++)
		empty = empty && regions_is_empty(&rig->clients[i].regions);

	return empty;
}

static bool restore_rig_has_nothing(void *arg)
{
	struct restore_rig *rig = arg;
	bool nothing = pool_is_quiet(&rig->pool);

	for (uint32_t i = 0; i < 2; i++) {
		struct slabs_books books = slabs_books(rig->pool.devices->list[i].slabs);
		nothing = nothing && books.leased + books.quarantined + books.held == 0;
	}

	return nothing;
}

static void restore_rig_end_clients(struct restore_rig *rig)
{
	for (unsigned i = 0; i < RESTORE_SESSIONS; i++) {
		regions_end(&rig->clients[i].regions);
		regions_release(&rig->clients[i].regions);
	}
	pool_run(&rig->pool, restore_rig_is_empty, rig);
}

static void restore_rig_end(struct restore_rig *rig)
{
	restore_rig_end_clients(rig);
	rig->publications = publications_close(rig->publications);
	pool_run(&rig->pool, pool_is_quiet, &rig->pool);
	for (unsigned i = 0; i < RESTORE_SESSIONS; i++)
		payer_close(&rig->clients[i].payer);
	pool_end(&rig->pool);
	rig->user = user_close(rig->user);
	rig->kept.parking = parking_close(rig->kept.parking);
}

int restore_rig_setup(void **state)
{
	static struct restore_rig rig;
	struct state_shape shapes[STATE_TABLES];
	char words[128];

	memset(&rig, 0, sizeof(rig));
	memcpy(folder + sizeof(folder) - 7, "XXXXXX", 6);
	assert_non_null(mkdtemp(folder));
	snprintf(words, sizeof(words), "card=%s", folder);
	setenv("HBM_SOFT", words, 1);
	leaks_begin(&rig.leaks);
	store_rig_open();
	assert_int_equal(config_defaults(&rig.pool.config), 0);
	restore_rig_shapes(&rig, shapes);
	config_clear(&rig.pool.config);
	assert_int_equal(state_new(&rig.kept.state, shapes), 0);
	restore_rig_begin(&rig);
	*state = &rig;

	return 0;
}

void restore_rig_kill(struct restore_rig *rig)
{
	struct state_shape shapes[STATE_TABLES];
	struct state *old = rig->kept.state;
	char error[256] = "";
	int fd = dup(state_fd(old));

	restore_rig_shapes(rig, shapes);
	rig->kept.state = NULL;
	restore_rig_end(rig);
	state_free(old);
	if (state_adopt(&rig->kept.state, fd, shapes, error, sizeof(error)) != 0)
		fail_msg("%s", error);
	store_rig_settle();
	store_rig_next();
	restore_rig_begin(rig);
}

void restore_rig_end_all(struct restore_rig *rig)
{
	restore_rig_end_clients(rig);
	while (!list_empty(&rig->publications->all))
		publication_withdraw(
			container_of(rig->publications->all.next, struct publication, link));
	pool_run(&rig->pool, restore_rig_has_nothing, rig);
	/* what others have of devices is no client's */
	for (enum state_table i = 0; i < STATE_TABLES; i++)
		assert_int_equal(state_count(rig->kept.state, i),
				 i == STATE_DEVICES ? rig->pool.devices->count : 0);
	assert_int_equal(parking_count(rig->kept.parking), 0);
}

int restore_rig_teardown(void **state)
{
	struct restore_rig *rig = *state;

	restore_rig_end_all(rig);
	restore_rig_end(rig);
	rig->kept.state = state_free(rig->kept.state);
	store_rig_close();
	keep_forget();
	assert_int_equal(leaks_end(&rig->leaks), 0);
	unsetenv("HBM_SOFT");

	return rmdir(folder);
}

/* ---- What clients ask for ---- */

struct region *restore_rig_make(struct restore_rig *rig, unsigned client, uint32_t device,
				uint64_t slots)
{
	struct region_outcome outcome = {0};
	int status = region_create(&rig->clients[client].regions, &rig->pool.devices->list[device],
				   slots * SLAB, SLAB, region_rig_region_over, &outcome);

	assert_int_equal(status, HBM_OK);
	pool_run(&rig->pool, region_rig_is_over, &outcome);
	assert_int_equal(outcome.status, HBM_OK);

	return outcome.region;
}

struct region *restore_rig_find(struct restore_rig *rig, unsigned client, uint32_t id)
{
	return region_find(&rig->clients[client].regions, id);
}

static int restore_rig_finish(struct restore_rig *rig, struct commit *commit, int *fds)
{
	struct region_outcome outcome = {0};

	commit_start(commit, region_rig_op_over, &outcome);
	pool_run(&rig->pool, region_rig_is_over, &outcome);
	if (outcome.status == HBM_OK && fds) {
		struct hbm_wire_range range;
		for (int fd; (fd = commit_next(commit, &range)) >= 0;)
			*fds++ = fd;
	}
	commit_free(commit);

	return outcome.status;
}

int restore_rig_commit(struct restore_rig *rig, struct region *region, uint64_t first,
		       uint64_t count, int *fds)
{
	const struct hbm_wire_range range = region_rig_range(region, first, count);
	struct commit *commit;
	int status = commit_new(&commit, region->regions, &range, 1);

	return status == HBM_OK ? restore_rig_finish(rig, commit, fds) : status;
}

int restore_rig_share(struct restore_rig *rig, struct region *source, uint64_t from,
		      struct region *target, uint64_t to, bool read_only)
{
	const struct hbm_wire_share share = {
		.source = source->id,
		.target = target->id,
		.source_offset = from * SLAB,
		.target_offset = to * SLAB,
		.bytes = SLAB,
		.flags = read_only ? HBM_WIRE_READ_ONLY : 0,
	};
	struct commit *commit;
	int status = commit_new_share(&commit, target->regions, &share, 1);

	return status == HBM_OK ? restore_rig_finish(rig, commit, NULL) : status;
}

int restore_rig_decommit(struct restore_rig *rig, struct region *region, uint64_t first,
			 uint64_t count)
{
	const struct hbm_wire_range range = region_rig_range(region, first, count);
	struct region_outcome outcome = {0};
	int status = decommit_start(region->regions, &range, 1, region_rig_op_over, &outcome);
	if (status != HBM_OK)
		return status;

	pool_run(&rig->pool, region_rig_is_over, &outcome);

	return outcome.status;
}

static CUdeviceptr restore_rig_address(const struct region *region, uint64_t slot)
{
	CUdeviceptr address = 0;

	assert_int_equal(region_address(region, slot * SLAB, SLAB, &address), HBM_OK);

	return address;
}

void restore_rig_write(struct restore_rig *rig, const struct region *region, uint64_t slot,
		       uint64_t word)
{
	assert_int_equal(rig->pool.call.poke(region->device->index,
					     restore_rig_address(region, slot), &word,
					     sizeof(word)),
			 0);
}

uint64_t restore_rig_read(struct restore_rig *rig, const struct region *region, uint64_t slot)
{
	uint64_t word = 0;

	assert_int_equal(rig->pool.call.peek(&word, region->device->index,
					     restore_rig_address(region, slot), sizeof(word)),
			 0);

	return word;
}

void restore_rig_run(struct restore_rig *rig)
{
	pool_run(&rig->pool, pool_is_quiet, &rig->pool);
}

static bool restore_rig_holds_nothing(void *arg)
{
	struct restore_rig *rig = arg;
	bool nothing = pool_is_quiet(&rig->pool);

	for (uint32_t i = 0; i < 2; i++)
		nothing = nothing && slabs_books(rig->pool.devices->list[i].slabs).held == 0;

	return nothing;
}

void restore_rig_run_free(struct restore_rig *rig)
{
	pool_run(&rig->pool, restore_rig_holds_nothing, rig);
}
