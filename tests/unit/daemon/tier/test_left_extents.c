/* SPDX-License-Identifier: Apache-2.0 */
/* What blocks have left within a tier is moving until no record names it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/tier/tier.h"
#include "tests/support/leaks.h"

#define UNITS 16u

static unsigned told;

static void tell(void *arg)
{
	(void)arg;
	told++;
}

static void open_tier(struct tier *tier)
{
	assert_int_equal(tier_init(tier, HBM_TIER_NVME, 1, UNITS * EXTENT_UNIT, 0, 1000), 0);
	tier->ops = &tier_nvme_ops;
	assert_int_equal(tier_grow(tier, 0, UNITS * EXTENT_UNIT), 0);
}

static void leave(struct tier *tier, bool wipe)
{
	uint32_t unit = tier_alloc(tier, EXTENT_UNIT);

	assert_int_not_equal(unit, UINT32_MAX);
	tier_leave(tier, &(struct left_extent){.unit = unit, .wipe = wipe, .bytes = EXTENT_UNIT});
}

static void expect(const struct tier *tier, uint64_t moving, uint64_t free, uint64_t failed)
{
	assert_int_equal(tier->moving, moving * EXTENT_UNIT);
	assert_int_equal(extent_available(tier->extents), free * EXTENT_UNIT);
	assert_int_equal(tier->failed, failed * EXTENT_UNIT);
}

static void test_without_records(void **state)
{
	struct tier tier;

	(void)state;
	open_tier(&tier);
	leave(&tier, false);
	expect(&tier, 0, UNITS, 0);
	leave(&tier, true);
	assert_int_equal(tier.wipes.bytes, EXTENT_UNIT);
	assert_true(left_extents_have_room(&tier.left, UINT64_MAX));
	tier_clear(&tier);
}

static void test_in_the_order_in_which_they_came(void **state)
{
	struct leaks leaks;
	struct tier tier;

	(void)state;
	told = 0;
	leaks_begin(&leaks);
	open_tier(&tier);
	assert_int_equal(left_extents_open(&tier.left, tell, NULL), 0);
	for (unsigned i = 0; i < 4; i++)
		leave(&tier, i == 1);
	assert_int_equal(told, 4);
	assert_true(left_extents_have_wiped(&tier.left));
	assert_true(tier_will_free_left(&tier));
	expect(&tier, 4, UNITS - 4, 0);

	tier_free_left(&tier, 2);
	assert_int_equal(tier.wipes.bytes, EXTENT_UNIT);
	assert_false(left_extents_have_wiped(&tier.left));
	expect(&tier, 3, UNITS - 3, 0);
	tier.left.failing = true;
	assert_false(tier_will_free_left(&tier));
	tier_fail_left(&tier);
	assert_int_equal(tier.left.bytes, 0);
	expect(&tier, 1, UNITS - 3, 2);
	tier_clear(&tier);
	assert_int_equal(leaks_end(&leaks), 0);
}

/* A ring, which has as many as there is room for. */
static void test_many(void **state)
{
	struct left_extents left = {0};
	struct left_extent extent;
	uint32_t came = 0, went = 0;

	(void)state;
	assert_int_equal(left_extents_open(&left, tell, NULL), 0);
	for (unsigned round = 0; round < 5; round++) {
		while (left_extents_have_room(&left, 1))
			left_extents_add(&left, &(struct left_extent){.unit = came++, .bytes = 1});
		assert_int_equal(left.bytes, LEFT_EXTENTS_MOST);
		assert_false(left_extents_have_room(&left, UINT64_MAX));
		for (unsigned i = 0; i < LEFT_EXTENTS_MOST / 3; i++) {
			assert_true(left_extents_take(&left, &extent));
			assert_int_equal(extent.unit, went++);
		}
	}
	while (left_extents_take(&left, &extent))
		assert_int_equal(extent.unit, went++);
	assert_int_equal(came, went);
	left_extents_close(&left);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_without_records),
		cmocka_unit_test(test_in_the_order_in_which_they_came),
		cmocka_unit_test(test_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
