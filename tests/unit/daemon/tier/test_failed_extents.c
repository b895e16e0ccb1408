/* SPDX-License-Identifier: Apache-2.0 */
/* Where the extents are that are out of service. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/tier/tier_resize.h"
#include "tests/support/leaks.h"

#define UNITS 100u

static void test_come_and_go(void **state)
{
	struct failed_extents failed = {0};
	struct leaks leaks;

	(void)state;
	leaks_begin(&leaks);
	for (uint32_t i = 0; i < UNITS; i++)
		failed_extents_add(&failed, i, EXTENT_UNIT);
	assert_int_equal(failed.count, UNITS);
	for (uint32_t i = 0; i < UNITS; i += 2)
		failed_extents_remove(&failed, i, EXTENT_UNIT);
	assert_int_equal(failed.count, UNITS / 2);
	for (size_t i = 0; i < failed.count; i++)
		assert_int_equal(failed.list[i].unit % 2, 1);
	failed_extents_clear(&failed);
	assert_int_equal(leaks_end(&leaks), 0);
}

/* What of them lies in the part that goes; of one that lies across the bound its end. */
static void test_in_what_is_retired(void **state)
{
	struct tier tier;

	(void)state;
	assert_int_equal(tier_init(&tier, HBM_TIER_DDR, 1, UNITS * EXTENT_UNIT, 0, 1000), 0);
	assert_int_equal(tier_grow(&tier, 0, UNITS * EXTENT_UNIT), 0);
	for (unsigned i = 0; i < UNITS / 4; i++)
		(void)tier_alloc(&tier, 4ull * EXTENT_UNIT);
	tier_fail(&tier, 0, 4ull * EXTENT_UNIT);
	tier_fail(&tier, 48, 4ull * EXTENT_UNIT);
	tier_fail(&tier, 80, 4ull * EXTENT_UNIT);
	assert_int_equal(tier_retired_failed(&tier), 0);
	assert_int_equal(tier_retire_to(&tier, 51ull * EXTENT_UNIT), 0);
	assert_int_equal(tier_retired_failed(&tier), 5ull * EXTENT_UNIT);
	tier_clear(&tier);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_come_and_go),
		cmocka_unit_test(test_in_what_is_retired),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
