/* SPDX-License-Identifier: Apache-2.0 */
/* Shares that do not go to their end: the source or the target is destroyed, the client dies or the
 * device refuses, at every step. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/device/device.h"
#include "daemon/region/commit.h"
#include "daemon/region/slab.h"
#include "tests/support/region_rig.h"
#include "tests/support/share_rig.h"

/* From its start on, a share has references of its own. */
static void the_source_may_go_while_a_share_is_under_way(void **state)
{
	struct region_rig *rig = *state;
	struct region *one = region_rig_make(rig, 0, 8 * SLAB, SLAB),
		      *two = region_rig_make(rig, 0, 8 * SLAB, SLAB);
	struct region_outcome shared = {0}, gone = {0};
	struct commit *commit;

	assert_int_equal(region_rig_commit_slots(rig, one, 0, 4), HBM_OK);
	share_rig_put(one, 3, 'z');
	struct hbm_wire_share all = share_rig_range(one, 0, two, 0, 4);
	assert_int_equal(commit_new_share(&commit, &rig->regions, &all, 1), HBM_OK);
	commit_start(commit, region_rig_op_over, &shared);
	assert_int_equal(
		region_destroy(&rig->regions, region_id(one), region_rig_region_over, &gone),
		HBM_OK);
	pool_run(&rig->pool, region_rig_is_over, &shared);
	pool_run(&rig->pool, region_rig_is_over, &gone);
	assert_int_equal(shared.status, HBM_OK);
	commit_free(commit);
	assert_int_equal(share_rig_get(two, 3), 'z');
	assert_int_equal(regions_committed(&rig->regions), 4 * SLAB);
	assert_int_equal(share_rig_shared(rig, two), 0);
	assert_int_equal(share_rig_books(rig).leased, 4 * SLAB);
}

static void the_target_goes_while_a_share_is_under_way(void **state)
{
	struct region_rig *rig = *state;
	struct region *one = region_rig_make(rig, 0, 8 * SLAB, SLAB),
		      *two = region_rig_make(rig, 0, 8 * SLAB, SLAB);
	struct region_outcome shared = {0}, gone = {0};
	struct commit *commit;

	assert_int_equal(region_rig_commit_slots(rig, one, 0, 4), HBM_OK);
	struct hbm_wire_share all = share_rig_range(one, 0, two, 0, 4);
	assert_int_equal(commit_new_share(&commit, &rig->regions, &all, 1), HBM_OK);
	commit_start(commit, region_rig_op_over, &shared);
	assert_int_equal(
		region_destroy(&rig->regions, region_id(two), region_rig_region_over, &gone),
		HBM_OK);
	pool_run(&rig->pool, region_rig_is_over, &shared);
	commit_free(commit);
	pool_run(&rig->pool, region_rig_is_over, &gone);
	assert_int_equal(shared.status, HBM_NOT_FOUND);
	assert_int_equal(share_rig_shared(rig, one), 0);
	assert_int_equal(rig->pool.call.live("mappings"), 4);
	assert_int_equal(share_rig_books(rig).leased, 4 * SLAB);
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
		assert_int_equal(share_rig_slots(rig, one, 1, one, 6, 2), HBM_OK);
		struct hbm_wire_share all = share_rig_range(one, 0, two, 2, 4);
		assert_int_equal(commit_new_share(&commit, &rig->regions, &all, 1), HBM_OK);
		commit_start(commit, region_rig_op_over, &outcome);
		if (step > 0)
			pool_run(&rig->pool, count_down, &countdown);

		regions_end(&rig->regions);
		pool_run(&rig->pool, region_rig_is_over, &outcome);
		commit_free(commit);
		assert_int_equal(share_rig_books(rig).quarantined, 4 * SLAB);
		assert_int_equal(share_rig_books(rig).leased, 0);
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
	struct hbm_wire_share both[] = {share_rig_range(one, 0, two, 4, 3),
					share_rig_range(one, 1, one, 4, 2)};
	unsigned failed = 0;

	for (int status = HBM_DEVICE; status != HBM_OK; failed++) {
		assert_int_equal(rig->pool.call.fail_nth(call, failed + 1, CUDA_ERROR_UNKNOWN), 0);
		status = share_rig_share(rig, both, 2);
		rig->pool.call.fail_nth(NULL, 0, CUDA_SUCCESS);
		if (status == HBM_OK)
			break;

		assert_int_equal(status, HBM_DEVICE);
		assert_int_equal(rig->pool.call.live("mappings"), 3);
		assert_int_equal(share_rig_books(rig).leased, 3 * SLAB);
		assert_int_equal(share_rig_shared(rig, one) + share_rig_shared(rig, two), 0);
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
	share_rig_put(region, 0, 's');
	assert_int_equal(share_rig_slots(rig, region, 0, region, 4, 1), HBM_OK);
	pool_run(&rig->pool, share_rig_is_ready, &rig->pool);
	CUdeviceptr stuck;
	assert_int_equal(region_address(region, 4 * SLAB, SLAB, &stuck), HBM_OK);
	assert_int_equal(rig->pool.call.faults("cuMemUnmap:1,cuMemUnmap:2,cuMemUnmap:3"), 0);
	assert_int_equal(region_rig_decommit_slots(rig, region, 4, 1), HBM_OK);
	rig->pool.call.fail_nth(NULL, 0, CUDA_SUCCESS);

	assert_int_equal(share_rig_get(region, 0), 's');
	assert_int_equal(share_rig_books(rig).leased, SLAB);
	assert_int_equal(share_rig_slots(rig, region, 0, region, 5, 1), HBM_DEVICE);
	assert_int_equal(region_rig_commit_slots(rig, region, 4, 1), HBM_EXISTS);

	CUdeviceptr first;
	assert_int_equal(region_address(region, 0, SLAB, &first), HBM_OK);
	assert_int_equal(region_rig_destroy(rig, region), HBM_OK);
	pool_run(&rig->pool, region_rig_is_empty, rig);
	assert_int_equal(share_rig_books(rig).quarantined, SLAB);
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

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, region_rig_setup, region_rig_teardown)
	const struct CMUnitTest tests[] = {
		TEST(the_source_may_go_while_a_share_is_under_way),
		TEST(the_target_goes_while_a_share_is_under_way),
		TEST(a_client_dies_at_every_step_of_a_share),
		TEST(a_share_survives_failing_devices),
		cmocka_unit_test_setup_teardown(a_shared_slab_that_cannot_be_unmapped,
						region_rig_setup, stuck_teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
