/* SPDX-License-Identifier: Apache-2.0 */
/* Counters of several owners add up in a status record, and leave the rest of it alone. */
#include "daemon/base/counters.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

static void test_sums(void **state)
{
	(void)state;
	const struct counters server = {.requests = 3, .sessions_dropped = UINT32_MAX};
	const struct counters cache = {.requests = 4, .hits = {0, 1, 2, 3}, .lookup_misses = 5};
	struct hbm_wire_status status = {.device_errors = 1, .hits = {0, 10, 10, 10}};

	counters_add(&server, &status);
	counters_add(&cache, &status);
	assert_int_equal(status.requests, 7);
	assert_int_equal(status.sessions_dropped, UINT32_MAX);
	assert_int_equal(status.lookup_misses, 5);
	assert_int_equal(status.device_errors, 1);
	assert_int_equal(status.hits[HBM_TIER_HBM], 11);
	assert_int_equal(status.hits[HBM_TIER_DDR], 12);
	assert_int_equal(status.hits[HBM_TIER_NVME], 13);
	assert_int_equal(status.loads, 0);
}

/* Every counter, and no gauge: all ones become all ones. */
static void test_only_counters(void **state)
{
	(void)state;
	struct counters counters;
	struct hbm_wire_status status = {.pid = 7};
	size_t ones = 0;

	memset(&counters, 0xff, sizeof(counters));
	counters_add(&counters, &status);
	assert_int_equal(status.pid, 7);
	assert_int_equal(status.sessions, 0);
	assert_int_equal(status.blocks, 0);
	assert_string_equal(status.version, "");
	for (size_t i = 0; i < sizeof(status) / sizeof(uint64_t); i++)
		ones += ((const uint64_t *)&status)[i] == UINT64_MAX;
	assert_int_equal(ones * sizeof(uint64_t), sizeof(counters));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sums),
		cmocka_unit_test(test_only_counters),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
