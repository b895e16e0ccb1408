/* SPDX-License-Identifier: Apache-2.0 */
/* A plan's numbers as text; the module under test is compiled in. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client/ctl/plan_units.c"

static void test_whole_numbers_are_grouped(void **state)
{
	(void)state;
	assert_string_equal(plan_units_grouped(0).text, "0");
	assert_string_equal(plan_units_grouped(999).text, "999");
	assert_string_equal(plan_units_grouped(1000).text, "1,000");
	assert_string_equal(plan_units_grouped(12288000000).text, "12,288,000,000");
	assert_string_equal(plan_units_grouped(UINT64_MAX).text, "18,446,744,073,709,551,615");
}

static void test_four_digits(void **state)
{
	(void)state;
	assert_string_equal(plan_units_seconds(1.2288).text, "1.229 s");
	assert_string_equal(plan_units_seconds(0.0983).text, "0.0983 s");
	assert_string_equal(plan_units_seconds(123456.7).text, "123457 s");
	assert_string_equal(plan_units_figure(361.06).text, "361.1");
	assert_string_equal(plan_units_figure(438630.2).text, "438630");
	assert_string_equal(plan_units_figure(0).text, "-");
}

static void test_sizes_and_rates(void **state)
{
	(void)state;
	assert_string_equal(plan_units_gib(12288000000).text, "11.44 GiB");
	assert_string_equal(plan_units_gb_s(31.5e9).text, "31.5 GB/s");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_whole_numbers_are_grouped),
		cmocka_unit_test(test_four_digits),
		cmocka_unit_test(test_sizes_and_rates),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
