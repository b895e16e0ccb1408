/* SPDX-License-Identifier: Apache-2.0 */
/* What a client says it has after a restart: what it cannot have, and what is given back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "daemon/region/reconcile.h"
#include "daemon/region/slot.h"
#include "tests/support/region_rig.h"
#include "tests/support/seed.h"

static struct seed seed;

static int drop(struct region_rig *rig)
{
	struct region_outcome outcome = {0};

	assert_int_equal(reconcile_drop(&rig->regions, region_rig_op_over, &outcome), HBM_OK);
	pool_run(&rig->pool, region_rig_is_over, &outcome);

	return outcome.status;
}

static int tell(struct region_rig *rig, const struct hbm_wire_range *range)
{
	return reconcile_tell(&rig->regions, range);
}

static void what_a_client_cannot_have_is_refused(void **state)
{
	struct region_rig *rig = *state;
	struct region *region = region_rig_make(rig, 0, 8 * SLAB, SLAB);
	uint32_t id = region_id(region);

	assert_int_equal(region_rig_commit_slots(rig, region, 2, 2), HBM_OK);

	/* No such region, not there, nowhere, and absurd. */
	assert_int_equal(tell(rig, &(struct hbm_wire_range){.region = id + 1}), HBM_NOT_FOUND);
	assert_int_equal(tell(rig, &(struct hbm_wire_range){id, 0, SLAB, 2 * SLAB}), HBM_NOT_FOUND);
	assert_int_equal(tell(rig, &(struct hbm_wire_range){id, 0, 3 * SLAB, 2 * SLAB}),
			 HBM_NOT_FOUND);
	assert_int_equal(tell(rig, &(struct hbm_wire_range){id, 0, 2 * SLAB + 1, SLAB}),
			 HBM_INVALID);
	assert_int_equal(tell(rig, &(struct hbm_wire_range){id, 0, 2 * SLAB, SLAB - 1}),
			 HBM_INVALID);
	assert_int_equal(tell(rig, &(struct hbm_wire_range){id, 0, 8 * SLAB, SLAB}), HBM_INVALID);
	assert_int_equal(
		tell(rig, &(struct hbm_wire_range){id, 0, 2 * SLAB, UINT64_MAX - SLAB + 1}),
		HBM_INVALID);
	assert_int_equal(
		tell(rig, &(struct hbm_wire_range){id, 0, UINT64_MAX - SLAB + 1, 2 * SLAB}),
		HBM_INVALID);

	assert_int_equal(tell(rig, &(struct hbm_wire_range){id, 0, 2 * SLAB, 2 * SLAB}), HBM_OK);
	assert_int_equal(drop(rig), HBM_OK);
	assert_int_equal(regions_committed(&rig->regions), 2 * SLAB);
	assert_int_equal(region_rig_address(region, 2 * SLAB, 2 * SLAB), HBM_OK);
}

static void regions_that_are_not_told_of_are_destroyed(void **state)
{
	struct region_rig *rig = *state;
	struct region *kept = region_rig_make(rig, 0, 2 * SLAB, SLAB),
		      *lost = region_rig_make(rig, 0, 2 * SLAB, SLAB);
	uint32_t id = region_id(lost);

	assert_int_equal(region_rig_commit_slots(rig, kept, 0, 1), HBM_OK);
	assert_int_equal(region_rig_commit_slots(rig, lost, 0, 2), HBM_OK);
	assert_int_equal(tell(rig, &(struct hbm_wire_range){.region = region_id(kept)}), HBM_OK);
	assert_int_equal(drop(rig), HBM_OK);
	assert_null(region_find(&rig->regions, id));
	assert_ptr_equal(region_find(&rig->regions, region_id(kept)), kept);
	assert_int_equal(regions_committed(&rig->regions), 0);

	/* It is told of once: the next time it is not there. */
	id = region_id(kept);
	assert_int_equal(drop(rig), HBM_OK);
	assert_null(region_find(&rig->regions, id));
}

/* Each slot once: what a message costs follows from what there is, not from what it says. */
static void what_is_told_twice_is_refused(void **state)
{
	struct region_rig *rig = *state;
	struct region *region = region_rig_make(rig, 0, 4 * SLAB, SLAB);
	uint32_t id = region_id(region);

	assert_int_equal(region_rig_commit_slots(rig, region, 0, 3), HBM_OK);
	assert_int_equal(tell(rig, &(struct hbm_wire_range){id, 0, 0, 2 * SLAB}), HBM_OK);
	assert_int_equal(tell(rig, &(struct hbm_wire_range){id, 0, SLAB, 2 * SLAB}), HBM_INVALID);
	assert_int_equal(drop(rig), HBM_OK);
	assert_int_equal(regions_committed(&rig->regions), 2 * SLAB);
}

/* Of slots that are committed at random a client has some at random. */
static void the_rest_is_given_back(void **state)
{
	struct region_rig *rig = *state;
	enum { SLOTS = 16 };
	struct region *region = region_rig_make(rig, 0, SLOTS * SLAB, SLAB);

	/* So that it takes several decommits. */
	rig->pool.config.limit_commit_slabs = 3;
	for (int round = 0; round < 30; round++) {
		bool has[SLOTS] = {false};
		uint64_t count = 0;

		for (uint64_t i = 0; i < SLOTS; i++)
			if (!region->slots[i].slab && seed_below(&seed, 3) > 0)
				assert_int_equal(region_rig_commit_slots(rig, region, i, 1),
						 HBM_OK);
		assert_int_equal(tell(rig, &(struct hbm_wire_range){.region = region_id(region)}),
				 HBM_OK);
		for (uint64_t i = 0; i < SLOTS; i++) {
			const struct hbm_wire_range range = region_rig_range(region, i, 1);

			has[i] = region->slots[i].slab && seed_below(&seed, 2) == 0;
			count += has[i];
			if (has[i])
				assert_int_equal(tell(rig, &range), HBM_OK);
		}

		assert_int_equal(drop(rig), HBM_OK);
		assert_int_equal(regions_committed(&rig->regions), count * SLAB);
		for (uint64_t i = 0; i < SLOTS; i++) {
			assert_int_equal(region->slots[i].slab != NULL, has[i]);
			assert_false(region->slots[i].told);
		}
	}
}

#define RIG(test) cmocka_unit_test_setup_teardown(test, region_rig_setup, region_rig_teardown)

int main(void)
{
	seed_open(&seed, "reconcile");
	const struct CMUnitTest tests[] = {
		RIG(what_a_client_cannot_have_is_refused),
		RIG(what_is_told_twice_is_refused),
		RIG(regions_that_are_not_told_of_are_destroyed),
		RIG(the_rest_is_given_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
