/* SPDX-License-Identifier: Apache-2.0 */
/* Decommits: what is refused, what they wait for, and devices that refuse to unmap. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/device/device.h"
#include "daemon/region/commit.h"
#include "daemon/region/decommit.h"
#include "daemon/region/slab.h"
#include "tests/support/region_rig.h"

static void bad_decommits_change_nothing(void **state)
{
	struct region_rig *rig = *state;
	struct region *region = region_rig_make(rig, 0, 8 * SLAB, SLAB);

	assert_int_equal(region_rig_commit_slots(rig, region, 0, 4), HBM_OK);
	struct hbm_wire_range ranges[] = {region_rig_range(region, 0, 2),
					  region_rig_range(region, 3, 2)};
	assert_int_equal(region_rig_decommit(rig, ranges, 2), HBM_NOT_FOUND);
	ranges[1] = region_rig_range(region, 1, 1);
	assert_int_equal(region_rig_decommit(rig, ranges, 2), HBM_INVALID);
	ranges[1] = region_rig_range(region, 3, 6);
	assert_int_equal(region_rig_decommit(rig, ranges, 2), HBM_INVALID);
	assert_int_equal(regions_committed(&rig->regions), 4 * SLAB);
	assert_int_equal(region_rig_address(region, 0, 4 * SLAB), HBM_OK);
	ranges[1] = region_rig_range(region, 3, 1);
	assert_int_equal(region_rig_decommit(rig, ranges, 2), HBM_OK);
	assert_int_equal(regions_committed(&rig->regions), SLAB);
	assert_int_equal(region_rig_address(region, 2 * SLAB, SLAB), HBM_OK);
}

struct again {
	struct region_rig *rig;
	const struct region *region;
	bool over;
	int status;
};

static void commit_again(void *arg, int status)
{
	struct again *again = arg;
	struct hbm_wire_range range = region_rig_range(again->region, 0, 1);
	struct commit *commit = NULL;

	assert_int_equal(status, HBM_OK);
	again->over = true;
	again->status = commit_new(&commit, &again->rig->regions, &range, 1);
	commit_free(commit);
}

static bool again_is_over(void *arg)
{
	return ((struct again *)arg)->over;
}

/* Whoever hears the end of a decommit may commit the same slots. */
static void slots_are_free_when_the_decommit_ends(void **state)
{
	struct region_rig *rig = *state;
	struct region *region = region_rig_make(rig, 0, 8 * SLAB, SLAB);
	struct hbm_wire_range range = region_rig_range(region, 0, 1);
	struct again again = {.rig = rig, .region = region};

	assert_int_equal(region_rig_commit_slots(rig, region, 0, 1), HBM_OK);
	assert_int_equal(decommit_start(&rig->regions, &range, 1, commit_again, &again), HBM_OK);
	pool_run(&rig->pool, again_is_over, &again);
	assert_int_equal(again.status, HBM_OK);
}

static void a_decommit_waits_for_holds(void **state)
{
	struct region_rig *rig = *state;
	struct region *region = region_rig_make(rig, 0, 8 * SLAB, SLAB);
	struct region_outcome outcome = {0};
	struct hbm_wire_range slots = region_rig_range(region, 1, 2);

	assert_int_equal(region_rig_commit_slots(rig, region, 0, 4), HBM_OK);
	region_use(region, SLAB, SLAB);
	region_use(region, 2 * SLAB, 2 * SLAB);
	region_use(region, 0, SLAB); /* of another slab: does not matter */
	assert_int_equal(decommit_start(&rig->regions, &slots, 1, region_rig_op_over, &outcome),
			 HBM_OK);

	/* Nothing new may begin there; the rest stays usable. */
	assert_int_equal(region_rig_address(region, SLAB, SLAB), HBM_NOT_FOUND);
	assert_int_equal(region_rig_address(region, 0, SLAB), HBM_OK);
	assert_int_equal(region_rig_commit_slots(rig, region, 1, 1), HBM_EXISTS);
	region_unuse(region, SLAB, SLAB);
	region_rig_settle(rig);
	assert_int_equal(outcome.over, false);
	assert_int_equal(rig->pool.call.live("mappings"), 4);
	region_unuse(region, 2 * SLAB, 2 * SLAB);
	pool_run(&rig->pool, region_rig_is_over, &outcome);
	assert_int_equal(outcome.status, HBM_OK);
	assert_int_equal(rig->pool.call.live("mappings"), 2);
	region_unuse(region, 0, SLAB);
}

static void decommit_and_destroy_survive_failing_devices(void **state)
{
	struct region_rig *rig = *state;
	for (unsigned n = 1; n < 30; n++) {
		struct region *one = region_rig_make(rig, 0, 16 * SLAB, SLAB);
		struct region *two = region_rig_make(rig, 1, 32 * MIB, 0);
		struct hbm_wire_range ranges[] = {region_rig_range(one, 0, 2),
						  region_rig_range(two, 1, 2),
						  region_rig_range(one, 5, 2)};

		assert_int_equal(region_rig_commit(rig, ranges, 3), HBM_OK);
		assert_int_equal(region_rig_commit_slots(rig, one, 8, 3), HBM_OK);
		assert_int_equal(rig->pool.call.fail_nth("*", n, CUDA_ERROR_UNKNOWN), 0);
		assert_int_equal(region_rig_decommit(rig, ranges, 3), HBM_OK);
		assert_int_equal(region_rig_destroy(rig, one), HBM_OK);
		assert_int_equal(region_rig_destroy(rig, two), HBM_OK);
		pool_run(&rig->pool, region_rig_is_empty, rig);
		rig->pool.call.fail_nth(NULL, 0, CUDA_SUCCESS);
		region_rig_assert_all_back(rig);
	}
}

/* So that the rig's own check can be made: undoes what the daemon has given up, a slab of a
 * region's address space. */
static void give_back_by_hand(struct region_rig *rig, CUdeviceptr slab, CUdeviceptr base,
			      uint64_t bytes)
{
	const struct driver *driver = rig->pool.devices->driver;
	CUmemGenericAllocationHandle handle;
	assert_int_equal(device_enter(&rig->pool.devices->list[0]), CUDA_SUCCESS);
	assert_int_equal(driver->cuMemRetainAllocationHandle(&handle, (void *)(uintptr_t)slab),
			 CUDA_SUCCESS);
	assert_int_equal(driver->cuMemRelease(handle), CUDA_SUCCESS);
	assert_int_equal(driver->cuMemRelease(handle), CUDA_SUCCESS);
	assert_int_equal(driver->cuMemUnmap(slab, SLAB), CUDA_SUCCESS);
	assert_int_equal(driver->cuMemAddressFree(base, bytes), CUDA_SUCCESS);
}

/* A device that refuses to unmap for good: the memory stays quarantined, the client's
 * request is done. */
static void what_cannot_be_unmapped_stays_quarantined(void **state)
{
	struct region_rig *rig = *state;
	struct region *region = region_rig_make(rig, 0, 8 * SLAB, SLAB);
	struct slabs *slabs = rig->pool.devices->list[0].slabs;
	CUdeviceptr where;

	assert_int_equal(region_rig_commit_slots(rig, region, 0, 4), HBM_OK);
	assert_int_equal(region_address(region, 0, SLAB, &where), HBM_OK);

	/* The run as a whole, then the first slab twice. */
	assert_int_equal(rig->pool.call.faults("cuMemUnmap:1,cuMemUnmap:2,cuMemUnmap:3"), 0);
	assert_int_equal(region_rig_decommit_slots(rig, region, 0, 2), HBM_OK);
	pool_run(&rig->pool, pool_is_quiet, &rig->pool);
	assert_int_equal(slabs_books(slabs).quarantined, SLAB);
	assert_int_equal(slabs_books(slabs).leased, 2 * SLAB);
	assert_int_equal(region_rig_address(region, 0, SLAB), HBM_NOT_FOUND);
	assert_int_equal(region_rig_commit_slots(rig, region, 0, 1), HBM_EXISTS);
	assert_int_equal(region_rig_commit_slots(rig, region, 1, 1), HBM_OK);
	assert_int_equal(region_rig_decommit_slots(rig, region, 0, 1), HBM_NOT_FOUND);
	assert_int_equal(region_rig_destroy(rig, region), HBM_OK);
	pool_run(&rig->pool, region_rig_is_empty, rig);
	pool_run(&rig->pool, pool_is_quiet, &rig->pool);
	assert_int_equal(slabs_books(slabs).quarantined, SLAB);
	assert_int_equal(slabs_books(slabs).leased, 0);
	assert_int_equal(rig->pool.call.live("mappings"), 1);

	give_back_by_hand(rig, where, where, 8 * SLAB);
}

/* A late copy uses its slabs until it is known to be over: what ends them waits for that. */
static void what_a_late_copy_uses_is_waited_for(void **state)
{
	struct region_rig *rig = *state;
	struct region *region = region_rig_make(rig, 0, 8 * SLAB, SLAB);
	struct slabs *slabs = rig->pool.devices->list[0].slabs;
	struct hbm_wire_range range = region_rig_range(region, 1, 1);
	struct region_outcome outcome = {0};

	assert_int_equal(region_rig_commit_slots(rig, region, 0, 4), HBM_OK);
	region_use(region, SLAB + 5, 7);
	region_keep(region, SLAB + 5, 7);
	region_unuse(region, SLAB + 5, 7);
	assert_int_equal(decommit_start(&rig->regions, &range, 1, region_rig_op_over, &outcome),
			 HBM_OK);
	assert_false(list_empty(&rig->regions.waiting));
	pool_run(&rig->pool, region_rig_is_over, &outcome);
	assert_int_equal(outcome.status, HBM_OK);
	assert_int_equal(region_rig_commit_slots(rig, region, 1, 1), HBM_OK);
	assert_int_equal(slabs_books(slabs).quarantined, 0);

	region_use(region, 0, 4 * SLAB);
	region_keep(region, 0, 4 * SLAB);
	region_unuse(region, 0, 4 * SLAB);
	assert_int_equal(region_rig_destroy(rig, region), HBM_OK);
	region_rig_assert_all_back(rig);
}

/* Where a copy may go on, and nobody will know, nothing is unmapped, by whatever ends the
 * region. */
static void what_a_copy_may_use_stays_mapped(void **state)
{
	struct region_rig *rig = *state;
	struct region *region = region_rig_make(rig, 0, 8 * SLAB, SLAB);
	struct slabs *slabs = rig->pool.devices->list[0].slabs;

	CUdeviceptr where;

	assert_int_equal(region_rig_commit_slots(rig, region, 0, 4), HBM_OK);
	assert_int_equal(region_address(region, SLAB, SLAB, &where), HBM_OK);
	assert_int_equal(rig->pool.call.fail_nth("cuCtxSynchronize", 1, CUDA_ERROR_UNKNOWN), 0);
	region_use(region, SLAB + 5, 7);
	region_keep(region, SLAB + 5, 7);
	region_unuse(region, SLAB + 5, 7);
	uint64_t unmaps = rig->pool.call.calls("cuMemUnmap");
	assert_int_equal(region_rig_decommit_slots(rig, region, 1, 1), HBM_OK);
	assert_int_equal(rig->pool.call.calls("cuMemUnmap"), unmaps);
	assert_int_equal(region_rig_commit_slots(rig, region, 1, 1), HBM_EXISTS);
	assert_int_equal(region_rig_destroy(rig, region), HBM_OK);
	pool_run(&rig->pool, region_rig_is_empty, rig);
	pool_run(&rig->pool, pool_is_quiet, &rig->pool);
	assert_int_equal(slabs_books(slabs).quarantined, SLAB);
	assert_int_equal(slabs_books(slabs).leased, 0);
	assert_int_equal(rig->pool.call.live("mappings"), 1);
	give_back_by_hand(rig, where, where - SLAB, 8 * SLAB);
}

static int stuck_teardown(void **state)
{
	struct region_rig *rig = *state;

	regions_end(&rig->regions);
	regions_release(&rig->regions);
	payer_close(&rig->payer);
	pool_close(&rig->pool);

	return 0;
}

/* The one that began to wait later may be the first to go on. */
static void each_decommit_waits_for_its_own_uses(void **state)
{
	struct region_rig *rig = *state;
	struct region *region = region_rig_make(rig, 0, 8 * SLAB, SLAB);
	struct region_outcome outcomes[2] = {0};

	assert_int_equal(region_rig_commit_slots(rig, region, 0, 2), HBM_OK);
	for (uint64_t i = 0; i < 2; i++) {
		struct hbm_wire_range slot = region_rig_range(region, i, 1);
		region_use(region, i * SLAB, SLAB);
		assert_int_equal(
			decommit_start(&rig->regions, &slot, 1, region_rig_op_over, &outcomes[i]),
			HBM_OK);
	}

	region_unuse(region, SLAB, SLAB);
	pool_run(&rig->pool, region_rig_is_over, &outcomes[1]);
	assert_false(outcomes[0].over);
	region_unuse(region, 0, SLAB);
	pool_run(&rig->pool, region_rig_is_over, &outcomes[0]);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, region_rig_setup, region_rig_teardown)
	const struct CMUnitTest tests[] = {
		TEST(each_decommit_waits_for_its_own_uses),
		TEST(bad_decommits_change_nothing),
		TEST(slots_are_free_when_the_decommit_ends),
		TEST(a_decommit_waits_for_holds),
		TEST(what_a_late_copy_uses_is_waited_for),
		TEST(decommit_and_destroy_survive_failing_devices),
		cmocka_unit_test_setup_teardown(what_cannot_be_unmapped_stays_quarantined,
						region_rig_setup, stuck_teardown),
		cmocka_unit_test_setup_teardown(what_a_copy_may_use_stays_mapped, region_rig_setup,
						stuck_teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
