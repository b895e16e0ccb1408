/* SPDX-License-Identifier: Apache-2.0 */
/* Who was busy when: sums, what counts as overlapped, and the intervals that are kept. No expectation is of a time:
 * only of what must be zero, equal, or no more than something else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <time.h>

#include "daemon/activity.h"

static struct activity *activity_open(void)
{
	struct activity *activity = NULL;
	assert_int_equal(activity_new(&activity), 0);
	return activity;
}

static struct hbm_wire_hop hop_of(struct activity *activity, enum hbm_hop hop)
{
	struct hbm_wire_hop record;
	activity_hop(activity, hop, &record);
	assert_int_equal(record.hop, hop);
	assert_in_range(record.overlapped_ns, 0, record.busy_ns);
	return record;
}

static void pass_time(void)
{
	nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
}

static void test_nothing_has_been_measured(void **state)
{
	(void)state;
	struct activity *activity = activity_open();
	for (enum hbm_hop hop = 0; hop < HBM_HOPS; hop++) {
		assert_int_equal(hop_of(activity, hop).busy_ns, 0);
		assert_true(activity_bandwidth(activity, hop) < 1);
	}
	struct hbm_wire_interval intervals[4];
	uint64_t cursor = 0;
	assert_int_equal(activity_intervals(activity, &cursor, intervals, 4), 0);
	assert_null(activity_free(activity));
	assert_null(activity_free(NULL));
}

static void test_sums(void **state)
{
	(void)state;
	struct activity *activity = activity_open();
	for (unsigned i = 1; i <= 3; i++) {
		uint64_t started = activity_begin(activity, HBM_HOP_D2H);
		pass_time();
		activity_end(activity, HBM_HOP_D2H, 1, started, i, 1000 * i, i == 2);
	}
	struct hbm_wire_hop hop = hop_of(activity, HBM_HOP_D2H);
	assert_int_equal(hop.count, 6);
	assert_int_equal(hop.bytes, 6000);
	assert_int_equal(hop.errors, 1);
	assert_in_range(hop.busy_ns, 3 * 200000, UINT64_MAX);
	assert_int_equal(hop.overlapped_ns, 0);
	assert_true(activity_bandwidth(activity, HBM_HOP_D2H) > 0);
	pass_time();
	assert_int_equal(hop_of(activity, HBM_HOP_D2H).busy_ns, hop.busy_ns); /* idle time is not busy time */
	activity_free(activity);
}

/* Two at once are one busy time; NVMe and device copies overlap each other, and neither overlaps its own kind. */
static void test_overlap(void **state)
{
	(void)state;
	struct activity *activity = activity_open();
	uint64_t first = activity_begin(activity, HBM_HOP_NVME_WRITE);
	uint64_t second = activity_begin(activity, HBM_HOP_NVME_READ);
	pass_time();
	assert_int_equal(hop_of(activity, HBM_HOP_NVME_WRITE).overlapped_ns, 0);
	uint64_t copy = activity_begin(activity, HBM_HOP_H2D);
	pass_time();
	activity_end(activity, HBM_HOP_H2D, 0, copy, 1, 1, 0);
	activity_end(activity, HBM_HOP_NVME_WRITE, 0, first, 1, 1, 0);
	activity_end(activity, HBM_HOP_NVME_READ, 0, second, 1, 1, 0);
	struct hbm_wire_hop h2d = hop_of(activity, HBM_HOP_H2D);
	assert_int_equal(h2d.overlapped_ns, h2d.busy_ns);
	assert_int_equal(hop_of(activity, HBM_HOP_NVME_WRITE).overlapped_ns, h2d.busy_ns);
	assert_int_equal(hop_of(activity, HBM_HOP_NVME_READ).overlapped_ns, h2d.busy_ns);
	assert_in_range(hop_of(activity, HBM_HOP_NVME_WRITE).busy_ns, h2d.busy_ns + 200000, UINT64_MAX);
	activity_free(activity);
}

/* A reader that is slow misses the oldest, and is told from where on it has them. */
static void test_intervals(void **state)
{
	(void)state;
	enum { MANY = 40000 };
	struct activity *activity = activity_open();
	struct hbm_wire_interval intervals[100];
	uint64_t cursor = 0, seen = 0;
	for (uint64_t i = 0; i < 10; i++)
		activity_end(activity, HBM_HOP_D2D, 2, activity_begin(activity, HBM_HOP_D2D), 1, i, 0);
	assert_int_equal(activity_intervals(activity, &cursor, intervals, 4), 4);
	assert_int_equal(cursor, 0);
	assert_int_equal(intervals[3].bytes, 3);
	assert_int_equal(intervals[3].hop, HBM_HOP_D2D);
	assert_int_equal(intervals[3].device, 2);
	assert_in_range(intervals[3].end_ns, intervals[3].start_ns, UINT64_MAX);
	for (uint64_t i = 10; i < MANY; i++)
		activity_end(activity, HBM_HOP_D2D, 0, activity_begin(activity, HBM_HOP_D2D), 1, i, 0);
	cursor = 4;
	for (uint32_t count; (count = activity_intervals(activity, &cursor, intervals, 100)) > 0; cursor += count) {
		for (uint32_t i = 0; i < count; i++)
			assert_int_equal(intervals[i].bytes, cursor + i);
		seen += count;
	}
	assert_int_equal(cursor, MANY);
	assert_in_range(seen, 1000, MANY - 5);
	activity_free(activity);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing_has_been_measured),
		cmocka_unit_test(test_sums),
		cmocka_unit_test(test_overlap),
		cmocka_unit_test(test_intervals),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
