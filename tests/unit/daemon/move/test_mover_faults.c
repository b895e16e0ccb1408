/* SPDX-License-Identifier: Apache-2.0 */
/* The n-th device call, read or write fails, or is short, for every n until a run passes:
 * no wrong byte, everything ends, and the books balance. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/base/link_stats.h"
#include "daemon/device/device.h"
#include "tests/support/effort.h"
#include "tests/support/traffic.h"

static uint64_t piece; /* of a transfer, in the tests that run; 0: whole */

/* Enough to make every kind of movement: stores, demotions to NVMe, loads from each tier. */
static void small_workload(struct traffic *traffic)
{
	for (int round = 0; round < 2; round++) {
		for (uint32_t first = 0; first < 40; first += TRAFFIC_CHAIN)
			traffic_use(traffic, 0, first, TRAFFIC_CHAIN,
				    first / TRAFFIC_CHAIN % traffic->rig.hbmd.devices->count);
		traffic_wait(traffic, 0);
		rig_settle(&traffic->rig);
	}
	rig_assert_at_rest(&traffic->rig);
}

static void test_every_device_call_fails_once(void **state)
{
	(void)state;
	struct traffic *traffic = traffic_new(__func__);
	traffic->rig.config.soft_devices = 2;
	traffic->piece = piece;
	traffic_open(traffic, 1, traffic_one_size);
	traffic->faulty = true;
	struct rig *rig = &traffic->rig;
	unsigned nth = 1, failed = 0;
	for (bool struck = true; struck; nth += effort_stride()) {
		uint64_t before = rig->call.calls("*"), errors = 0;
		assert_int_equal(rig->call.fail_nth("*", nth, CUDA_ERROR_UNKNOWN), 0);
		small_workload(traffic);
		struck = rig->call.calls("*") - before >= nth;
		assert_int_equal(rig->call.fail_nth(NULL, 0, CUDA_SUCCESS), 0);
		for (uint32_t i = 0; i < 2; i++)
			errors += rig->hbmd.devices->list[i].errors;
		failed += struck;
		assert_in_range(errors, failed, UINT32_MAX);
		rig_assert_empties(rig);
	}

	print_message("%s: %u calls, %llu loads and %llu stores failed\n", __func__, failed,
		      (unsigned long long)traffic->failed_loads,
		      (unsigned long long)traffic->failed_stores);
	assert_in_range(failed, effort_of(20), UINT32_MAX);
	assert_int_not_equal(traffic->failed_loads + traffic->failed_stores, 0);
	traffic->faulty = false;
	small_workload(traffic);
	traffic_end(traffic);
}

static uint64_t count_ios(struct traffic *traffic, enum hbm_link link)
{
	struct hbm_wire_link record;
	link_stats_link(traffic->rig.hbmd.link_stats, link, &record);
	return record.count;
}

/* The n-th read and write, for every n until the run passes. */
static void every_io_fails_once(struct traffic *traffic, const char *direction, const char *what)
{
	char fail[64];

	free(traffic->rig.config.nvme_fail);
	traffic->rig.config.nvme_fail = fail;
	traffic->faulty = strcmp(what, "EIO") == 0;
	enum hbm_link link = direction[0] == 'r' ? HBM_LINK_NVME_READ : HBM_LINK_NVME_WRITE;
	uint64_t ios = UINT64_MAX;
	unsigned nth = 1;
	for (; nth <= ios; nth += effort_stride()) {
		snprintf(fail, sizeof(fail), "%s:%u:%s", direction, nth, what);
		traffic->piece = piece;
		traffic_open(traffic, 1, traffic_one_size);
		uint64_t failed = traffic->failed_loads + traffic->failed_stores;
		small_workload(traffic);
		ios = count_ios(traffic, link);
		if (!traffic->faulty)
			assert_int_equal(traffic->failed_loads + traffic->failed_stores, failed);

		traffic_close(traffic);
	}

	assert_in_range(nth, 5, UINT32_MAX);
	traffic->rig.config.nvme_fail = NULL;
	traffic_free(traffic);
}

static void test_every_read_fails_once(void **state)
{
	(void)state;
	every_io_fails_once(traffic_new(__func__), "read", "EIO");
}

static void test_every_write_fails_once(void **state)
{
	(void)state;
	every_io_fails_once(traffic_new(__func__), "write", "EIO");
}

static void test_every_read_is_short_once(void **state)
{
	(void)state;
	every_io_fails_once(traffic_new(__func__), "read", "short");
}

static void test_every_write_is_short_once(void **state)
{
	(void)state;
	every_io_fails_once(traffic_new(__func__), "write", "short");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_device_call_fails_once),
		cmocka_unit_test(test_every_read_fails_once),
		cmocka_unit_test(test_every_write_fails_once),
		cmocka_unit_test(test_every_read_is_short_once),
		cmocka_unit_test(test_every_write_is_short_once),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	piece = 16 * KIB;

	return failed + cmocka_run_group_tests(tests, NULL, NULL);
}
