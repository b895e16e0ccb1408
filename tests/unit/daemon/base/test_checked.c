/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/base/checked.h"

static void test_add(void **state)
{
	(void)state;
	uint64_t sum = 0;
	assert_true(checked_add(1, 2, &sum));
	assert_int_equal(sum, 3);
	assert_true(checked_add(UINT64_MAX, 0, &sum));
	assert_int_equal(sum, UINT64_MAX);
	assert_false(checked_add(UINT64_MAX, 1, &sum));
	assert_false(checked_add(UINT64_C(1) << 63, UINT64_C(1) << 63, &sum));
}

static void test_mul(void **state)
{
	(void)state;
	uint64_t product = 0;
	assert_true(checked_mul(UINT32_MAX, UINT32_MAX, &product));
	assert_int_equal(product, UINT64_C(0xfffffffe00000001));
	assert_true(checked_mul(0, UINT64_MAX, &product));
	assert_int_equal(product, 0);
	assert_false(checked_mul(UINT64_C(1) << 32, UINT64_C(1) << 32, &product));
	assert_false(checked_mul(UINT64_MAX, 2, &product));
}

static void test_range(void **state)
{
	(void)state;
	assert_true(checked_range(0, 10, 10));
	assert_true(checked_range(9, 1, 10));
	assert_false(checked_range(9, 2, 10));
	assert_false(checked_range(10, 1, 10));
	assert_false(checked_range(0, 0, 10));
	assert_false(checked_range(UINT64_MAX, 1, UINT64_MAX));
	assert_false(checked_range(2, UINT64_MAX - 1, UINT64_MAX));
	assert_true(checked_range(1, UINT64_MAX - 1, UINT64_MAX));
}

static void test_powers_and_alignment(void **state)
{
	(void)state;
	assert_false(is_power_of_two(0));
	assert_true(is_power_of_two(1));
	assert_false(is_power_of_two(3));
	assert_true(is_power_of_two(UINT64_C(1) << 63));
	assert_false(is_power_of_two(UINT64_MAX));
	assert_true(is_aligned(0, 4096));
	assert_true(is_aligned(8192, 4096));
	assert_false(is_aligned(8193, 4096));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_add),
		cmocka_unit_test(test_mul),
		cmocka_unit_test(test_range),
		cmocka_unit_test(test_powers_and_alignment),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
