/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers with units as hbmctl plan reads them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "client/ctl/plan_quantity.h"

static const struct {
	enum plan_quantity kind;
	const char *text;
	int result;
	double value;
} quantities[] = {
	{PLAN_TOKENS, "4000", 0, 4000},
	{PLAN_TOKENS, "4K", 0, 4000},
	{PLAN_TOKENS, "1.4K", 0, 1400},
	{PLAN_TOKENS, "1M", 0, 1000000},
	{PLAN_TOKENS, "1000M", 0, 1e9},
	{PLAN_TOKENS, "1001M", -ERANGE, 0},
	{PLAN_TOKENS, "0", -ERANGE, 0},
	{PLAN_TOKENS, "1.5", -EINVAL, 0},
	{PLAN_TOKENS, "4k", -EINVAL, 0},
	{PLAN_TOKENS, "-4", -EINVAL, 0},
	{PLAN_TOKENS, "+4", -EINVAL, 0},
	{PLAN_TOKENS, " 4", -EINVAL, 0},
	{PLAN_TOKENS, "", -EINVAL, 0},
	{PLAN_TOKENS, "nan", -EINVAL, 0},
	{PLAN_TOKENS, "inf", -EINVAL, 0},
	{PLAN_TOKENS, "0x10", -EINVAL, 0},
	{PLAN_TOKENS, "1e400", -ERANGE, 0},
	{PLAN_COUNT, "1000000", 0, 1e6},
	{PLAN_COUNT, "1000001", -ERANGE, 0},
	{PLAN_PARAMS, "34.39B", 0, 34390000000},
	{PLAN_PARAMS, "34e9", 0, 34e9},
	{PLAN_BYTES, "80GB", 0, 80e9},
	{PLAN_BYTES, "80GiB", 0, 85899345920},
	{PLAN_BYTES, "1.5TiB", 0, 1649267441664},
	{PLAN_BYTES, "4096B", 0, 4096},
	{PLAN_BYTES, "64", -EINVAL, 0},
	{PLAN_BYTES, "64 ", -EINVAL, 0},
	{PLAN_BYTES, "80Gb", -EINVAL, 0},
	{PLAN_BYTES, "2000TiB", -ERANGE, 0},
	{PLAN_BYTES, "0", -EINVAL, 0},
	{PLAN_BYTES, "0GiB", -ERANGE, 0},
	{PLAN_RATE, "20GB/s", 0, 20e9},
	{PLAN_RATE, "20", 0, 20e9},
	{PLAN_RATE, "2.039TB/s", 0, 2.039e12},
	{PLAN_RATE, "1GiB/s", 0, 1073741824},
	{PLAN_RATE, "20GB", -EINVAL, 0},
	{PLAN_RATE, "0", -ERANGE, 0},
	{PLAN_FLOP_S, "312T", 0, 312e12},
	{PLAN_FLOP_S, "312e12", 0, 312e12},
	{PLAN_FLOP_S, "2.25PFLOP/s", 0, 2.25e15},
	{PLAN_FLOP_S, "312", -ERANGE, 0},
	{PLAN_SECONDS, "0", 0, 0},
	{PLAN_SECONDS, "90s", 0, 90},
	{PLAN_SECONDS, "5min", 0, 300},
	{PLAN_SECONDS, "2000h", -ERANGE, 0},
	{PLAN_RATIO, "0.5", 0, 0.5},
	{PLAN_RATIO, "50%", 0, 0.5},
	{PLAN_RATIO, "1/4", 0, 0.25},
	{PLAN_RATIO, "1", 0, 1},
	{PLAN_RATIO, "0", -ERANGE, 0},
	{PLAN_RATIO, "1.01", -ERANGE, 0},
	{PLAN_RATIO, "1/0", -EINVAL, 0},
	{PLAN_RATIO, "1/", -EINVAL, 0},
	{PLAN_RATIO, "1/2/3", -EINVAL, 0},
	{PLAN_WIDTH, "6656", 0, 6656},
	{PLAN_BITS, "4.25", 0, 4.25},
	{PLAN_BITS, "33", -ERANGE, 0},
};

static void test_quantities(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(quantities) / sizeof(quantities[0]); i++) {
		double value = 12345;
		const char *text = quantities[i].text;
		int r = plan_quantity_parse(quantities[i].kind, text, strlen(text), &value);
		if (r != quantities[i].result)
			fail_msg("\"%s\" is %d, not %d", text, r, quantities[i].result);

		double expected = r == 0 ? quantities[i].value : 12345;
		if (value < expected * (1 - 1e-12) || value > expected * (1 + 1e-12))
			fail_msg("\"%s\" is %.17g, not %.17g", text, value, expected);
	}
}

static void test_only_the_length_is_read(void **state)
{
	(void)state;
	double value = 0;
	assert_int_equal(plan_quantity_parse(PLAN_TOKENS, "4K..8K", 2, &value), 0);
	assert_int_equal((int)value, 4000);
	char long_text[200];
	memset(long_text, '1', sizeof(long_text));
	assert_int_equal(plan_quantity_parse(PLAN_BYTES, long_text, sizeof(long_text), &value),
			 -EINVAL);
}

static void test_every_kind_says_what_it_expects(void **state)
{
	(void)state;
	for (int kind = PLAN_TOKENS; kind <= PLAN_BITS; kind++)
		assert_non_null(plan_quantity_expected((enum plan_quantity)kind));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_quantities),
		cmocka_unit_test(test_only_the_length_is_read),
		cmocka_unit_test(test_every_kind_says_what_it_expects),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
