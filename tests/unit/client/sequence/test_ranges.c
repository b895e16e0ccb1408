/* SPDX-License-Identifier: Apache-2.0 */
/* Ranges and shares of a request in the making: what follows is joined, what does not is not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client/sequence/ranges.h"
#include "client/sequence/shares.h"

static struct hbm_region *const one = (struct hbm_region *)1, *const two = (struct hbm_region *)2;

static void test_ranges(void **state)
{
	(void)state;
	struct ranges ranges = {0};

	hbm_ranges_begin(&ranges);
	hbm_ranges_add(&ranges, one, 10, 5);
	hbm_ranges_add(&ranges, one, 15, 5);
	hbm_ranges_add(&ranges, one, 20, 0);
	assert_int_equal(ranges.count, 1);
	hbm_ranges_add(&ranges, two, 20, 5);
	hbm_ranges_add(&ranges, two, 26, 1);
	assert_int_equal(ranges.count, 3);
	assert_int_equal(ranges.bytes, 16);
	for (uint64_t i = 0; i < 1000; i++)
		hbm_ranges_add(&ranges, one, 100 + 2 * i, 1);
	assert_int_equal(ranges.count, 1003);
	assert_int_equal(ranges.list[0].bytes, 10);
	hbm_ranges_begin(&ranges);
	assert_int_equal(ranges.count + ranges.bytes, 0);
	hbm_ranges_clear(&ranges);
}

static void test_shares(void **state)
{
	(void)state;
	struct shares shares = {0};

	hbm_shares_begin(&shares);
	hbm_shares_add(&shares, &(struct hbm_share){one, two, 0, 8, 4, 0, NULL});
	hbm_shares_add(&shares, &(struct hbm_share){one, two, 4, 12, 4, 0, NULL});
	assert_int_equal(shares.count, 1);
	assert_int_equal(shares.list[0].bytes, 8);
	hbm_shares_add(&shares, &(struct hbm_share){one, two, 8, 20, 4, 0, NULL});
	hbm_shares_add(&shares, &(struct hbm_share){one, one, 12, 24, 4, 0, NULL});
	assert_int_equal(shares.count, 3);
	hbm_shares_clear(&shares);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ranges),
		cmocka_unit_test(test_shares),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
