/* SPDX-License-Identifier: Apache-2.0 */
/* Sizes, durations and rates as hbmctl prints and reads them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "client/ctl/units.h"

static void test_bytes(void **state)
{
	(void)state;
	assert_string_equal(units_bytes(0).text, "0 B");
	assert_string_equal(units_bytes(1023).text, "1023 B");
	assert_string_equal(units_bytes(1024).text, "1 KiB");
	assert_string_equal(units_bytes(65536).text, "64 KiB");
	assert_string_equal(units_bytes(1536ull << 20).text, "1.5 GiB");
	assert_string_equal(units_bytes(1ull << 40).text, "1 TiB");
	assert_string_equal(units_bytes(UINT64_MAX).text, "16777216.0 TiB");
}

static void test_duration(void **state)
{
	(void)state;
	assert_string_equal(units_duration_ns(0).text, "0 ns");
	assert_string_equal(units_duration_ns(999).text, "999 ns");
	assert_string_equal(units_duration_ns(17500).text, "17.5 us");
	assert_string_equal(units_duration_ns(2500000).text, "2.5 ms");
	assert_string_equal(units_duration_ns(1200000000).text, "1.2 s");
	assert_string_equal(units_duration_ns(200ull * 1000000000).text, "3 min 20 s");
	assert_string_equal(units_duration_ns(187200ull * 1000000000).text, "2 d 4 h");
}

static void test_rate_and_percent(void **state)
{
	(void)state;
	assert_string_equal(units_rate(3ull << 30, 2000000000).text, "1.50");
	assert_string_equal(units_rate(1, 0).text, "-");
	assert_string_equal(units_percent(1, 3).text, "33.3%");
	assert_string_equal(units_percent(0, 0).text, "-");
}

static void test_parse(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		int result;
		uint64_t bytes;
	} cases[] = {
		{"0", 0, 0},
		{"4096", 0, 4096},
		{"17B", 0, 17},
		{"64KiB", 0, 65536},
		{"64 KiB", 0, 65536},
		{"3MiB", 0, 3145728},
		{"2GiB", 0, 2147483648},
		{"1TiB", 0, 1ull << 40},
		{"18446744073709551615", 0, UINT64_MAX},
		{"18446744073709551616", -ERANGE, 0},
		{"16777216TiB", -ERANGE, 0},
		{"", -EINVAL, 0},
		{"-1", -EINVAL, 0},
		{"+1", -EINVAL, 0},
		{" 1", -EINVAL, 0},
		{"KiB", -EINVAL, 0},
		{"1kib", -EINVAL, 0},
		{"1KB", -EINVAL, 0},
		{"1.5GiB", -EINVAL, 0},
		{"1  KiB", -EINVAL, 0},
		{"0x10", -EINVAL, 0},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint64_t bytes = 12345;
		assert_int_equal(units_parse_bytes(cases[i].text, &bytes), cases[i].result);
		assert_int_equal(bytes, cases[i].result == 0 ? cases[i].bytes : 12345);
	}
}

static void test_whole_sizes_survive_printing(void **state)
{
	(void)state;
	for (uint64_t bytes = 1; bytes != 0; bytes <<= 1) {
		uint64_t parsed = 0;
		assert_int_equal(units_parse_bytes(units_bytes(bytes).text, &parsed), 0);
		assert_int_equal(parsed, bytes);
	}
}

static void test_parse_count(void **state)
{
	(void)state;
	uint64_t count = 7;
	assert_int_equal(units_parse_count("64KiB", &count), -EINVAL);
	assert_int_equal(units_parse_count("", &count), -EINVAL);
	assert_int_equal(units_parse_count("99999999999999999999", &count), -ERANGE);
	assert_int_equal(count, 7);
	assert_int_equal(units_parse_count("42", &count), 0);
	assert_int_equal(count, 42);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bytes),
		cmocka_unit_test(test_duration),
		cmocka_unit_test(test_rate_and_percent),
		cmocka_unit_test(test_parse),
		cmocka_unit_test(test_whole_sizes_survive_printing),
		cmocka_unit_test(test_parse_count),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
