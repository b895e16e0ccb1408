/* SPDX-License-Identifier: Apache-2.0 */
/* How much of a tier is in service, of one piece and of several, and divided or not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/tier/tier_resize.h"

#define U ((uint64_t)EXTENT_UNIT)

static void sort(struct tier *tier)
{
	while (tier_sort_some(tier, 1))
		;
	assert_ptr_equal(extent_check(tier->extents), NULL);
}

static void open_tier(struct tier *tier, uint64_t capacity, uint64_t headroom)
{
	assert_int_equal(tier_init(tier, HBM_TIER_DDR, 1, capacity, headroom, 100), 0);
}

static void test_from_the_top(void **state)
{
	(void)state;
	struct tier tier;

	open_tier(&tier, 10 * U, 2 * U);
	assert_int_equal(tier_grow(&tier, 0, 8 * U), 0);
	assert_int_equal(tier_grow(&tier, 10 * U, 4 * U), 0);
	assert_int_equal(tier.usable, 10 * U);

	tier.capacity = 7 * U;
	assert_int_equal(tier_retire_to(&tier, 9 * U), 0);
	sort(&tier);
	assert_int_equal(tier_in_service(&tier), 9 * U);
	assert_int_equal(tier.usable, 7 * U);
	assert_false(tier_is_retired(&tier, 10, U));
	assert_true(tier_is_retired(&tier, 10, 2 * U));

	/* what there is comes back first; then it lacks some */
	tier.capacity = 12 * U;
	assert_int_equal(tier_retire_to(&tier, 14 * U), 2 * U);
	sort(&tier);
	assert_int_equal(tier_in_service(&tier), 12 * U);
	assert_int_equal(tier.usable, 10 * U);

	assert_int_equal(tier_retire_to(&tier, 0), 0);
	sort(&tier);
	assert_int_equal(tier_in_service(&tier), 0);
	assert_int_equal(tier.usable, 0);
	tier_clear(&tier);
}

static void test_what_is_away_is_cut(void **state)
{
	(void)state;
	struct tier tier;

	open_tier(&tier, 8 * U, 0);
	assert_int_equal(tier_grow(&tier, 0, 8 * U), 0);
	tier.capacity = 5 * U;
	assert_int_equal(tier_retire_to(&tier, 5 * U), 0);
	sort(&tier);
	assert_int_equal(tier_cut(&tier, 6 * U, 2 * U), 0);
	tier.capacity = 8 * U;
	assert_int_equal(tier_retire_to(&tier, 8 * U), 2 * U);
	sort(&tier);
	assert_int_equal(tier.usable, 6 * U);
	assert_int_equal(tier_grow(&tier, 6 * U, 2 * U), 0);
	assert_int_equal(tier.usable, 8 * U);
	assert_int_equal(extent_largest(tier.extents), 8 * U);
	tier_clear(&tier);
}

/* Each part of a divided tier loses its share, at its own end. */
static void test_parts(void **state)
{
	(void)state;
	struct tier tier;
	static const uint64_t begins[] = {0, 40 * U, 80 * U};

	open_tier(&tier, 90 * U, 10 * U);
	tier_divide(&tier, begins, 3);
	assert_int_equal(tier_grow(&tier, 0, 100 * U), 0);
	tier.capacity = 40 * U;
	assert_int_equal(tier_retire_to(&tier, 50 * U), 0);
	sort(&tier);
	assert_int_equal(tier_in_service(&tier), 50 * U);
	assert_int_equal(tier.parts[0].bytes, 20 * U);
	assert_int_equal(tier.parts[1].bytes, 20 * U);
	assert_int_equal(tier.parts[2].bytes, 10 * U);
	assert_false(tier_is_retired(&tier, 0, 20 * U));
	assert_true(tier_is_retired(&tier, 20, U));
	assert_false(tier_is_retired(&tier, 40, 20 * U));
	assert_true(tier_is_retired(&tier, 79, U));
	assert_false(tier_is_retired(&tier, 80, 10 * U));
	assert_true(tier_is_retired(&tier, 99, U));

	assert_int_equal(tier_retire_to(&tier, 51 * U), 0);
	sort(&tier);
	assert_int_equal(tier_in_service(&tier), 51 * U);
	assert_int_equal(tier.parts[0].bytes + tier.parts[1].bytes + tier.parts[2].bytes, 51 * U);
	assert_int_equal(tier_retire_to(&tier, 101 * U), U);
	sort(&tier);
	assert_int_equal(tier_in_service(&tier), 100 * U);
	tier_clear(&tier);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_from_the_top),
		cmocka_unit_test(test_what_is_away_is_cut),
		cmocka_unit_test(test_parts),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
