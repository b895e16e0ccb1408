/* SPDX-License-Identifier: Apache-2.0 */
/* Slots that share slabs: who refers to what, that nothing is allocated for it, and devices
 * and clients that fail at every step. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "daemon/device/device.h"
#include "daemon/loop/worker.h"
#include "daemon/region/commit.h"
#include "daemon/region/decommit.h"
#include "daemon/region/slab.h"
#include "daemon/region/slot.h"
#include "daemon/region/slot_recount.h"
#include "tests/support/region_rig.h"
#include "tests/support/seed.h"

static struct hbm_wire_share slots(const struct region *source, uint64_t first,
				   const struct region *target, uint64_t to, uint64_t count)
{
	return (struct hbm_wire_share){
		.source = region_id(source),
		.target = region_id(target),
		.source_offset = first * region_slab(source),
		.target_offset = to * region_slab(target),
		.bytes = count * region_slab(source),
	};
}

static int share(struct region_rig *rig, const struct hbm_wire_share *shares, uint32_t count)
{
	struct region_outcome outcome = {0};
	struct commit *commit;
	int status = commit_new_share(&commit, &rig->regions, shares, count);
	if (status != HBM_OK)
		return status;

	commit_start(commit, region_rig_op_over, &outcome);
	pool_run(&rig->pool, region_rig_is_over, &outcome);
	commit_free(commit);

	return outcome.status;
}

static int share_slots(struct region_rig *rig, const struct region *source, uint64_t first,
		       const struct region *target, uint64_t to, uint64_t count)
{
	struct hbm_wire_share one = slots(source, first, target, to, count);
	return share(rig, &one, 1);
}

/* The daemon's byte of a slot. */
static void put(const struct region *region, uint64_t slot, char byte)
{
	CUdeviceptr where;
	struct device *device = region_device(region);

	assert_int_equal(region_address(region, slot * SLAB, 1, &where), HBM_OK);
	assert_int_equal(device_enter(device), CUDA_SUCCESS);
	assert_int_equal(device->driver->cuMemcpyHtoD(where, &byte, 1), CUDA_SUCCESS);
}

static char get(const struct region *region, uint64_t slot)
{
	CUdeviceptr where;
	struct device *device = region_device(region);
	char byte = 0;

	assert_int_equal(region_address(region, slot * SLAB, 1, &where), HBM_OK);
	assert_int_equal(device_enter(device), CUDA_SUCCESS);
	assert_int_equal(device->driver->cuMemcpyDtoH(&byte, where, 1), CUDA_SUCCESS);

	return byte;
}

static struct slabs_books books_of(struct region_rig *rig)
{
	struct slabs *slabs = rig->pool.devices->list[0].slabs;

	assert_null(slabs_check(slabs));
	assert_int_equal(slabs_check_slots(slabs),
			 regions_backed(&rig->regions, &rig->pool.devices->list[0]));

	return slabs_books(slabs);
}

static uint64_t shared_of(struct region_rig *rig, const struct region *region)
{
	struct hbm_wire_region records[4];
	uint32_t next, count = regions_records(&rig->regions, 0, records, 4, &next);

	for (uint32_t i = 0; i < count; i++)
		if (records[i].region == region_id(region))
			return records[i].shared;

	fail();
	return 0;
}

static void one_slab_at_two_addresses(void **state)
{
	struct region_rig *rig = *state;
	struct region *one = region_rig_make(rig, 0, 8 * SLAB, SLAB),
		      *two = region_rig_make(rig, 0, 8 * SLAB, SLAB);

	assert_int_equal(region_rig_commit_slots(rig, one, 1, 2), HBM_OK);
	put(one, 1, 'a');
	put(one, 2, 'b');
	assert_int_equal(share_slots(rig, one, 1, two, 5, 2), HBM_OK);
	assert_int_equal(get(two, 5), 'a');
	put(two, 6, 'c');
	assert_int_equal(get(one, 2), 'c');

	/* Charged once, seen in both. */
	assert_int_equal(books_of(rig).leased, 2 * SLAB);
	assert_int_equal(regions_committed(&rig->regions), 2 * SLAB);
	assert_int_equal(shared_of(rig, one), 2 * SLAB);
	assert_int_equal(shared_of(rig, two), 2 * SLAB);

	/* The one that had it first goes first. */
	assert_int_equal(region_rig_decommit_slots(rig, one, 1, 1), HBM_OK);
	assert_int_equal(books_of(rig).leased, 2 * SLAB);
	assert_int_equal(get(two, 5), 'a');
	assert_int_equal(shared_of(rig, one), SLAB);
	assert_int_equal(shared_of(rig, two), SLAB);
	assert_int_equal(region_rig_destroy(rig, one), HBM_OK);
	assert_int_equal(get(two, 6), 'c');
	assert_int_equal(shared_of(rig, two), 0);
	assert_int_equal(books_of(rig).leased, 2 * SLAB);
	assert_int_equal(region_rig_decommit_slots(rig, two, 5, 2), HBM_OK);
	assert_int_equal(books_of(rig).leased, 0);
	assert_int_equal(regions_committed(&rig->regions), 0);
}

static void many_forks_in_one_region(void **state)
{
	struct region_rig *rig = *state;
	struct region *region = region_rig_make(rig, 0, 8 * SLAB, SLAB);

	assert_int_equal(region_rig_commit_slots(rig, region, 0, 1), HBM_OK);
	put(region, 0, 'x');
	struct hbm_wire_share forks[] = {slots(region, 0, region, 1, 1),
					 slots(region, 0, region, 2, 1),
					 slots(region, 0, region, 7, 1)};
	assert_int_equal(share(rig, forks, 3), HBM_OK);
	assert_int_equal(shared_of(rig, region), 4 * SLAB);
	assert_int_equal(books_of(rig).leased, SLAB);
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(get(region, (uint64_t[]){0, 1, 2, 7}[i]), 'x');

	for (size_t i = 0; i < 3; i++)
		assert_int_equal(
			region_rig_decommit_slots(rig, region, (uint64_t[]){1, 0, 7}[i], 1),
			HBM_OK);
	assert_int_equal(get(region, 2), 'x');
	assert_int_equal(shared_of(rig, region), 0);
	assert_int_equal(books_of(rig).leased, SLAB);
}

/* Nothing is being made ahead any more, or released. */
static bool everything_is_ready(void *arg)
{
	struct soft_pool *pool = arg;
	bool ready = pool_is_quiet(pool);
	for (uint32_t i = 0; i < 2; i++) {
		struct slabs_books books = slabs_books(pool->devices->list[i].slabs);
		ready = ready && books.uncreated < 4 * MIB && books.retiring == 0;
	}
	return ready;
}

struct barrier {
	struct job job;
	bool over;
};

static void barrier_run(struct job *job)
{
	(void)job;
}

static void barrier_done(struct job *job)
{
	container_of(job, struct barrier, job)->over = true;
}

static bool barrier_is_over(void *arg)
{
	return ((struct barrier *)arg)->over;
}

/* A slab counts as ready while it is being created: what the devices do has ended, too. */
static void await_devices(struct region_rig *rig)
{
	pool_run(&rig->pool, everything_is_ready, &rig->pool);
	for (uint32_t i = 0; i < 2; i++) {
		struct barrier barrier = {.job = {.run = barrier_run, .done = barrier_done}};

		worker_post(rig->pool.devices->list[i].control, &barrier.job);
		pool_run(&rig->pool, barrier_is_over, &barrier);
	}
}

/* A share and a decommit of the source: the device neither makes nor releases memory. */
static void moving_a_slab_costs_no_memory(void **state)
{
	struct region_rig *rig = *state;
	struct region *region = region_rig_make(rig, 0, 8 * SLAB, SLAB);

	assert_int_equal(region_rig_commit_slots(rig, region, 0, 4), HBM_OK);
	put(region, 3, 'm');
	await_devices(rig);
	region_rig_settle(rig);
	uint64_t created = rig->pool.call.calls("cuMemCreate"),
		 released = rig->pool.call.calls("cuMemRelease"),
		 exported = rig->pool.call.calls("cuMemExportToShareableHandle");
	struct slabs_books before = books_of(rig);

	for (uint64_t turn = 0; turn < 10; turn++) {
		uint64_t from = turn % 2 * 4;
		assert_int_equal(share_slots(rig, region, from, region, 4 - from, 4), HBM_OK);
		assert_int_equal(region_rig_decommit_slots(rig, region, from, 4), HBM_OK);
		assert_int_equal(get(region, 4 - from + 3), 'm');
	}

	struct slabs_books after = books_of(rig);
	assert_memory_equal(&before, &after, sizeof(before));
	assert_int_equal(rig->pool.call.calls("cuMemCreate"), created);
	assert_int_equal(rig->pool.call.calls("cuMemRelease"), released);
	assert_int_equal(rig->pool.call.calls("cuMemExportToShareableHandle"), exported);
}

static void bad_shares_change_nothing(void **state)
{
	struct region_rig *rig = *state;
	struct region *one = region_rig_make(rig, 0, 8 * SLAB, SLAB),
		      *two = region_rig_make(rig, 0, 8 * SLAB, SLAB),
		      *far = region_rig_make(rig, 1, 8 * SLAB, SLAB),
		      *large = region_rig_make(rig, 0, 8 * SLAB, 2 * SLAB);

	assert_int_equal(region_rig_commit_slots(rig, one, 0, 3), HBM_OK);
	assert_int_equal(region_rig_commit_slots(rig, large, 0, 2), HBM_OK);
	assert_int_equal(region_rig_commit_slots(rig, two, 7, 1), HBM_OK);

	struct hbm_wire_share lost = slots(one, 0, two, 0, 1), nowhere = lost, odd = lost,
			      odd_source = lost, beyond = slots(one, 6, two, 0, 3),
			      wraps = slots(one, 1, two, 0, 1), whole = slots(large, 0, two, 0, 1);
	lost.source = 99;
	nowhere.target = 99;
	odd.target_offset = odd_source.source_offset = 4096;
	wraps.source_offset = 0 - (uint64_t)SLAB;
	wraps.bytes = 2 * SLAB;
	struct {
		struct hbm_wire_share share;
		int status;
	} cases[] = {
		{lost, HBM_NOT_FOUND},
		{nowhere, HBM_NOT_FOUND},
		{odd, HBM_INVALID},
		{odd_source, HBM_INVALID},
		{beyond, HBM_INVALID},
		{wraps, HBM_INVALID},
		{whole, HBM_INVALID},
		{slots(one, 0, far, 0, 1), HBM_INVALID},
		{slots(one, 0, two, 0, 0), HBM_INVALID},
		{slots(one, 0, two, 7, 2), HBM_INVALID}, /* beyond the end */
		{slots(one, 0, two, 7, 1), HBM_EXISTS},
		{slots(one, 0, one, 0, 1), HBM_EXISTS},
		{slots(one, 0, one, 2, 2), HBM_EXISTS},    /* overlap */
		{slots(one, 2, two, 0, 2), HBM_NOT_FOUND}, /* half committed */
		{slots(one, 0, two, 4, 1), HBM_INVALID},   /* a target already */
		{slots(two, 4, two, 0, 1), HBM_INVALID},   /* the source is a target */
		{slots(one, 1, one, 3, 1), HBM_OK},
	};
	struct slabs_books before = books_of(rig);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct hbm_wire_share both[] = {slots(one, 0, two, 4, 1), cases[i].share};
		assert_int_equal(share(rig, both, 2), cases[i].status);
		if (cases[i].status == HBM_OK)
			break;

		struct slabs_books after = books_of(rig);
		assert_memory_equal(&before, &after, sizeof(before));
		assert_int_equal(shared_of(rig, one) + shared_of(rig, two), 0);
		assert_int_equal(region_rig_address(two, 4 * SLAB, 1), HBM_NOT_FOUND);
	}

	assert_int_equal(shared_of(rig, one), 3 * SLAB);
	assert_int_equal(shared_of(rig, two), SLAB);
}

/* Whatever has been passed when a slot gets or loses its slab, the sum is that of the end. */
static void slots_change_between_steps_of_the_check(void **state)
{
	struct region_rig *rig = *state;
	struct device *device = &rig->pool.devices->list[0];
	struct region *region = region_rig_make(rig, 0, 16 * SLAB, SLAB);

	assert_int_equal(region_rig_commit_slots(rig, region, 0, 4), HBM_OK);
	assert_int_equal(share_slots(rig, region, 0, region, 4, 4), HBM_OK);
	for (unsigned steps = 0; steps < 30; steps++) {
		slabs_check_begin(device->slabs);
		for (unsigned i = 0; i < steps; i++)
			(void)slabs_check_some(device->slabs, 1);
		assert_int_equal(share_slots(rig, region, 0, region, 8, 4), HBM_OK);
		assert_int_equal(region_rig_decommit_slots(rig, region, 4, 4), HBM_OK);
		assert_int_equal(region_rig_decommit_slots(rig, region, 9, 1), HBM_OK);
		while (slabs_check_some(device->slabs, 1))
			;
		assert_null(slabs_check_end(device->slabs));
		assert_int_equal(slabs_check_slots(device->slabs), 7 * SLAB);
		assert_int_equal(slabs_slots(device->slabs)->backed, 7 * SLAB);
		assert_int_equal(regions_backed(&rig->regions, device), 7 * SLAB);
		assert_int_equal(share_slots(rig, region, 0, region, 4, 4), HBM_OK);
		assert_int_equal(region_rig_decommit_slots(rig, region, 8, 1), HBM_OK);
		assert_int_equal(region_rig_decommit_slots(rig, region, 10, 2), HBM_OK);
	}
}

#define WORDS 2u /* of bits, in the region */

/* Slots are counted some words at a time, however many a region has, and regions may come and go. */
static void slots_are_counted_in_steps(void **state)
{
	struct region_rig *rig = *state;
	struct slabs *slabs = rig->pool.devices->list[0].slabs;
	struct slot_recount *recount = slabs_slots(slabs);
	const uint64_t many = WORDS * SLOT_BITS;
	struct region *region = region_rig_make(rig, 0, many * SLAB, SLAB);

	assert_int_equal(region_rig_commit_slots(rig, region, 0, 1), HBM_OK);
	for (uint64_t steps = 0; steps <= WORDS + 1; steps++) {
		uint64_t n = 0;

		slot_recount_begin(recount);
		while (n < steps && slot_recount_some(recount, 1))
			n++;
		assert_int_equal(region_rig_commit_slots(rig, region, many - 1, 1), HBM_OK);
		assert_int_equal(region_rig_decommit_slots(rig, region, 0, 1), HBM_OK);
		assert_int_equal(region_rig_commit_slots(rig, region, 5, 2), HBM_OK);
		while (slot_recount_some(recount, 1))
			n++;
		assert_in_range(n, WORDS, WORDS + 2);
		assert_int_equal(recount->backed, 3 * SLAB);
		assert_int_equal(region_rig_decommit_slots(rig, region, 5, 2), HBM_OK);
		assert_int_equal(region_rig_decommit_slots(rig, region, many - 1, 1), HBM_OK);
		assert_int_equal(recount->backed, 0);
		assert_int_equal(region_rig_commit_slots(rig, region, 0, 1), HBM_OK);
	}
}

/* A reference that is no slot's (a slab that is lent) keeps the memory, and counts nowhere. */
static void references_beside_slots(void **state)
{
	struct region_rig *rig = *state;
	struct region *one = region_rig_make(rig, 0, 8 * SLAB, SLAB),
		      *two = region_rig_make(rig, 0, 8 * SLAB, SLAB);

	for (uint64_t first = 0; first < 2; first++) {
		struct region *order[] = {first == 0 ? one : two, first == 0 ? two : one};

		assert_int_equal(region_rig_commit_slots(rig, one, 0, 1), HBM_OK);
		struct slab *slab = one->slots[0].slab;
		books_of(rig); /* it is passed when the reference comes */
		slab_ref(slab);
		assert_int_equal(slabs_check_slots(rig->pool.devices->list[0].slabs), SLAB);
		assert_int_equal(shared_of(rig, one), 0);
		assert_int_equal(share_slots(rig, one, 0, two, 0, 1), HBM_OK);
		assert_int_equal(shared_of(rig, one), SLAB);
		assert_int_equal(shared_of(rig, two), SLAB);
		assert_int_equal(regions_committed(&rig->regions), SLAB);

		assert_int_equal(region_rig_decommit_slots(rig, order[0], 0, 1), HBM_OK);
		assert_int_equal(shared_of(rig, one) + shared_of(rig, two), 0);
		assert_int_equal(regions_committed(&rig->regions), SLAB);
		assert_int_equal(region_rig_decommit_slots(rig, order[1], 0, 1), HBM_OK);
		assert_int_equal(shared_of(rig, one) + shared_of(rig, two), 0);
		assert_int_equal(regions_committed(&rig->regions), 0);
		assert_int_equal(books_of(rig).leased, SLAB);
		slab_unref(slab, false);
		assert_int_equal(books_of(rig).leased, 0);
	}
}

static void a_share_has_the_limit_of_a_commit(void **state)
{
	struct region_rig *rig = *state;
	struct region *region = region_rig_make(rig, 0, 8 * SLAB, SLAB);

	assert_int_equal(region_rig_commit_slots(rig, region, 0, 4), HBM_OK);
	ledger_set_limit(&rig->payer.ledger->host, LEDGER_COMMIT_SLABS, 3);
	assert_int_equal(share_slots(rig, region, 0, region, 4, 4), HBM_LIMIT);
	assert_int_equal(share_slots(rig, region, 0, region, 4, 3), HBM_OK);
}

/* From its start on, a share has references of its own. */
static void the_source_may_go_while_a_share_is_under_way(void **state)
{
	struct region_rig *rig = *state;
	struct region *one = region_rig_make(rig, 0, 8 * SLAB, SLAB),
		      *two = region_rig_make(rig, 0, 8 * SLAB, SLAB);
	struct region_outcome shared = {0}, gone = {0};
	struct commit *commit;

	assert_int_equal(region_rig_commit_slots(rig, one, 0, 4), HBM_OK);
	put(one, 3, 'z');
	struct hbm_wire_share all = slots(one, 0, two, 0, 4);
	assert_int_equal(commit_new_share(&commit, &rig->regions, &all, 1), HBM_OK);
	commit_start(commit, region_rig_op_over, &shared);
	assert_int_equal(
		region_destroy(&rig->regions, region_id(one), region_rig_region_over, &gone),
		HBM_OK);
	pool_run(&rig->pool, region_rig_is_over, &shared);
	pool_run(&rig->pool, region_rig_is_over, &gone);
	assert_int_equal(shared.status, HBM_OK);
	commit_free(commit);
	assert_int_equal(get(two, 3), 'z');
	assert_int_equal(regions_committed(&rig->regions), 4 * SLAB);
	assert_int_equal(shared_of(rig, two), 0);
	assert_int_equal(books_of(rig).leased, 4 * SLAB);
}

static void the_target_goes_while_a_share_is_under_way(void **state)
{
	struct region_rig *rig = *state;
	struct region *one = region_rig_make(rig, 0, 8 * SLAB, SLAB),
		      *two = region_rig_make(rig, 0, 8 * SLAB, SLAB);
	struct region_outcome shared = {0}, gone = {0};
	struct commit *commit;

	assert_int_equal(region_rig_commit_slots(rig, one, 0, 4), HBM_OK);
	struct hbm_wire_share all = slots(one, 0, two, 0, 4);
	assert_int_equal(commit_new_share(&commit, &rig->regions, &all, 1), HBM_OK);
	commit_start(commit, region_rig_op_over, &shared);
	assert_int_equal(
		region_destroy(&rig->regions, region_id(two), region_rig_region_over, &gone),
		HBM_OK);
	pool_run(&rig->pool, region_rig_is_over, &shared);
	commit_free(commit);
	pool_run(&rig->pool, region_rig_is_over, &gone);
	assert_int_equal(shared.status, HBM_NOT_FOUND);
	assert_int_equal(shared_of(rig, one), 0);
	assert_int_equal(rig->pool.call.live("mappings"), 4);
	assert_int_equal(books_of(rig).leased, 4 * SLAB);
}

struct countdown {
	unsigned left;
};

static bool count_down(void *arg)
{
	struct countdown *countdown = arg;
	if (countdown->left > 0)
		countdown->left--;
	return countdown->left == 0;
}

/* Its slabs are quarantined once all of their references are, and come back once. */
static void a_client_dies_at_every_step_of_a_share(void **state)
{
	struct region_rig *rig = *state;
	for (unsigned step = 0; step < 6; step++) {
		struct region *one = region_rig_make(rig, 0, 8 * SLAB, SLAB),
			      *two = region_rig_make(rig, 0, 8 * SLAB, SLAB);
		struct region_outcome outcome = {0};
		struct countdown countdown = {step};
		struct commit *commit;

		assert_int_equal(region_rig_commit_slots(rig, one, 0, 4), HBM_OK);
		assert_int_equal(share_slots(rig, one, 1, one, 6, 2), HBM_OK);
		struct hbm_wire_share all = slots(one, 0, two, 2, 4);
		assert_int_equal(commit_new_share(&commit, &rig->regions, &all, 1), HBM_OK);
		commit_start(commit, region_rig_op_over, &outcome);
		if (step > 0)
			pool_run(&rig->pool, count_down, &countdown);

		regions_end(&rig->regions);
		pool_run(&rig->pool, region_rig_is_over, &outcome);
		commit_free(commit);
		assert_int_equal(books_of(rig).quarantined, 4 * SLAB);
		assert_int_equal(books_of(rig).leased, 0);
		regions_release(&rig->regions);
		region_rig_assert_all_back(rig);
		assert_int_equal(rig->regions.leased, 0);
		region_rig_open(rig);
	}
}

/* The n-th of these calls fails, for every n until the share passes: how many. */
static unsigned share_with_failing(struct region_rig *rig, const char *call,
				   const struct region *one, const struct region *two)
{
	struct hbm_wire_share both[] = {slots(one, 0, two, 4, 3), slots(one, 1, one, 4, 2)};
	unsigned failed = 0;

	for (int status = HBM_DEVICE; status != HBM_OK; failed++) {
		assert_int_equal(rig->pool.call.fail_nth(call, failed + 1, CUDA_ERROR_UNKNOWN), 0);
		status = share(rig, both, 2);
		rig->pool.call.fail_nth(NULL, 0, CUDA_SUCCESS);
		if (status == HBM_OK)
			break;

		assert_int_equal(status, HBM_DEVICE);
		assert_int_equal(rig->pool.call.live("mappings"), 3);
		assert_int_equal(books_of(rig).leased, 3 * SLAB);
		assert_int_equal(shared_of(rig, one) + shared_of(rig, two), 0);
		assert_int_equal(region_rig_address(two, 4 * SLAB, 1), HBM_NOT_FOUND);
	}

	assert_int_equal(rig->pool.call.live("mappings"), 8);

	return failed;
}

static void a_share_survives_failing_devices(void **state)
{
	struct region_rig *rig = *state;
	struct region *one = region_rig_make(rig, 0, 8 * SLAB, SLAB),
		      *two = region_rig_make(rig, 0, 8 * SLAB, SLAB);

	assert_int_equal(region_rig_commit_slots(rig, one, 0, 3), HBM_OK);
	assert_int_equal(share_with_failing(rig, "cuMemMap", one, two), 5);
	assert_int_equal(region_rig_decommit_slots(rig, two, 4, 3), HBM_OK);
	assert_int_equal(region_rig_decommit_slots(rig, one, 4, 2), HBM_OK);
	assert_int_equal(share_with_failing(rig, "cuMemSetAccess", one, two), 2);
}

/* What cannot be unmapped in one place stays where it is in the others, and is lost when
 * those go. */
static void a_shared_slab_that_cannot_be_unmapped(void **state)
{
	struct region_rig *rig = *state;
	struct region *region = region_rig_make(rig, 0, 8 * SLAB, SLAB);

	assert_int_equal(region_rig_commit_slots(rig, region, 0, 1), HBM_OK);
	put(region, 0, 's');
	assert_int_equal(share_slots(rig, region, 0, region, 4, 1), HBM_OK);
	pool_run(&rig->pool, everything_is_ready, &rig->pool);
	CUdeviceptr stuck;
	assert_int_equal(region_address(region, 4 * SLAB, SLAB, &stuck), HBM_OK);
	assert_int_equal(rig->pool.call.faults("cuMemUnmap:1,cuMemUnmap:2,cuMemUnmap:3"), 0);
	assert_int_equal(region_rig_decommit_slots(rig, region, 4, 1), HBM_OK);
	rig->pool.call.fail_nth(NULL, 0, CUDA_SUCCESS);

	assert_int_equal(get(region, 0), 's');
	assert_int_equal(books_of(rig).leased, SLAB);
	assert_int_equal(share_slots(rig, region, 0, region, 5, 1), HBM_DEVICE);
	assert_int_equal(region_rig_commit_slots(rig, region, 4, 1), HBM_EXISTS);

	CUdeviceptr first;
	assert_int_equal(region_address(region, 0, SLAB, &first), HBM_OK);
	assert_int_equal(region_rig_destroy(rig, region), HBM_OK);
	pool_run(&rig->pool, region_rig_is_empty, rig);
	assert_int_equal(books_of(rig).quarantined, SLAB);
	assert_int_equal(rig->pool.call.live("mappings"), 2);

	/* By hand, for the rig's own check. */
	const struct driver *driver = rig->pool.devices->driver;
	CUmemGenericAllocationHandle handle;
	assert_int_equal(device_enter(&rig->pool.devices->list[0]), CUDA_SUCCESS);
	assert_int_equal(driver->cuMemRetainAllocationHandle(&handle, (void *)(uintptr_t)first),
			 CUDA_SUCCESS);
	for (int i = 0; i < 2; i++)
		assert_int_equal(driver->cuMemRelease(handle), CUDA_SUCCESS);
	assert_int_equal(driver->cuMemUnmap(first, SLAB), CUDA_SUCCESS);
	assert_int_equal(driver->cuMemUnmap(stuck, SLAB), CUDA_SUCCESS);
	assert_int_equal(driver->cuMemAddressFree(first, 8 * SLAB), CUDA_SUCCESS);
}

static int stuck_teardown(void **state)
{
	struct region_rig *rig = *state;
	pool_close(&rig->pool);
	return 0;
}

/* ---- At random ---- */

enum { SLOTS = 24, SLABS = 16, STEPS = 600 };

/* Which slab each slot of both regions has, by its number; 0: none. */
struct model {
	unsigned slab[2][SLOTS];
	unsigned last;
};

static unsigned model_references(const struct model *model, unsigned slab)
{
	unsigned count = 0;
	for (size_t i = 0; i < 2; i++)
		for (size_t k = 0; k < SLOTS; k++)
			count += model->slab[i][k] == slab;
	return count;
}

static void model_check(struct region_rig *rig, struct region *const regions[2],
			const struct model *model)
{
	for (size_t i = 0; i < 2; i++) {
		uint64_t shared = 0;
		for (size_t k = 0; k < SLOTS; k++) {
			unsigned number = model->slab[i][k], references;
			const struct slab *slab = regions[i]->slots[k].slab;

			assert_int_equal(slab != NULL, number != 0);
			if (number == 0)
				continue;

			references = model_references(model, number);
			assert_int_equal(slab->refs, references);
			shared += references > 1 ? SLAB : 0;
			assert_int_equal((unsigned char)get(regions[i], k), number % 251);
		}
		assert_int_equal(shared_of(rig, regions[i]), shared);
	}

	uint64_t slabs = 0;
	for (unsigned n = 1; n <= model->last; n++)
		slabs += model_references(model, n) > 0;
	assert_int_equal(books_of(rig).leased, slabs * SLAB);
	assert_int_equal(regions_committed(&rig->regions), slabs * SLAB);
}

/* The status that the model expects of a share, which is done if it is HBM_OK. */
static int model_share(struct model *model, unsigned from, uint64_t first, unsigned to, uint64_t at,
		       uint64_t count)
{
	if (at + count > SLOTS)
		return HBM_INVALID;
	for (uint64_t k = 0; k < count; k++)
		if (model->slab[to][at + k] != 0)
			return HBM_EXISTS;
	if (first + count > SLOTS)
		return HBM_INVALID;
	for (uint64_t k = 0; k < count; k++) {
		if (from == to && first + k >= at && first + k < at + count)
			return HBM_INVALID;
		if (model->slab[from][first + k] == 0)
			return HBM_NOT_FOUND;
	}
	memcpy(&model->slab[to][at], &model->slab[from][first], count * sizeof(unsigned));

	return HBM_OK;
}

/* The first slot from that one on that has a slab, or the last of the region. */
static uint64_t model_source(const struct model *model, unsigned r, uint64_t first)
{
	while (first < SLOTS - 1 && model->slab[r][first] == 0)
		first++;

	return first;
}

static void random_commit(struct region_rig *rig, struct region *region, struct model *model,
			  unsigned r, uint64_t at)
{
	int expected = model->slab[r][at] != 0 ? HBM_EXISTS : HBM_OK, status;

	status = region_rig_commit_slots(rig, region, at, 1);
	if (expected == HBM_OK && status == HBM_NO_SPACE)
		return; /* all of the pool is in use */
	assert_int_equal(status, expected);
	if (status != HBM_OK)
		return;

	model->slab[r][at] = ++model->last;
	put(region, at, (char)(model->last % 251));
}

static void random_decommit(struct region_rig *rig, struct region *region, struct model *model,
			    unsigned r, uint64_t at)
{
	bool there = model->slab[r][at] != 0;

	assert_int_equal(region_rig_decommit_slots(rig, region, at, 1),
			 there ? HBM_OK : HBM_NOT_FOUND);
	model->slab[r][at] = 0;
}

static void shares_at_random(void **state)
{
	struct region_rig *rig = *state;
	struct region *regions[2];
	struct model model = {0};
	struct seed seed;
	unsigned shares = 0;

	seed_open(&seed, __func__);
	for (size_t i = 0; i < 2; i++)
		regions[i] = region_rig_make(rig, 0, SLOTS * SLAB, SLAB);

	for (unsigned step = 0; step < STEPS; step++) {
		unsigned from = (unsigned)seed_below(&seed, 2), to = (unsigned)seed_below(&seed, 2);
		uint64_t first = model_source(&model, from, seed_below(&seed, SLOTS)),
			 at = seed_below(&seed, SLOTS);
		uint64_t count = 1 + seed_below(&seed, 3);
		uint64_t kind = seed_below(&seed, 6);

		if (kind < 1 || model.last == 0) {
			random_commit(rig, regions[to], &model, to, at);
		} else if (kind < 3) {
			random_decommit(rig, regions[to], &model, to, at);
		} else {
			int expected = model_share(&model, from, first, to, at, count);
			assert_int_equal(
				share_slots(rig, regions[from], first, regions[to], at, count),
				expected);
			shares += expected == HBM_OK;
		}
		model_check(rig, regions, &model);
	}

	assert_in_range(shares, 10, STEPS);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, region_rig_setup, region_rig_teardown)
	const struct CMUnitTest tests[] = {
		TEST(one_slab_at_two_addresses),
		TEST(many_forks_in_one_region),
		TEST(moving_a_slab_costs_no_memory),
		TEST(bad_shares_change_nothing),
		TEST(slots_change_between_steps_of_the_check),
		TEST(slots_are_counted_in_steps),
		TEST(references_beside_slots),
		TEST(a_share_has_the_limit_of_a_commit),
		TEST(the_source_may_go_while_a_share_is_under_way),
		TEST(the_target_goes_while_a_share_is_under_way),
		TEST(a_client_dies_at_every_step_of_a_share),
		TEST(a_share_survives_failing_devices),
		TEST(shares_at_random),
		cmocka_unit_test_setup_teardown(a_shared_slab_that_cannot_be_unmapped,
						region_rig_setup, stuck_teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
