/* SPDX-License-Identifier: Apache-2.0 */
/* Who was busy when: sums, what counts as overlapped, and the intervals that are kept. No
 * expectation is of a time: only of what must be zero, equal, or no more than something
 * else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <time.h>

#include "daemon/base/link_stats.h"

static struct link_stats *link_stats_open(void)
{
	struct link_stats *link_stats = NULL;
	assert_int_equal(link_stats_new(&link_stats), 0);
	return link_stats;
}

static struct hbm_wire_link link_of(struct link_stats *link_stats, enum hbm_link link)
{
	struct hbm_wire_link record;
	link_stats_link(link_stats, link, &record);
	assert_int_equal(record.link, link);
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
	struct link_stats *link_stats = link_stats_open();
	for (enum hbm_link link = 0; link < HBM_LINKS; link++) {
		assert_int_equal(link_of(link_stats, link).busy_ns, 0);
		assert_true(link_stats_bandwidth(link_stats, link) < 1);
	}

	struct hbm_wire_interval intervals[4];
	uint64_t cursor = 0;
	assert_int_equal(link_stats_intervals(link_stats, &cursor, intervals, 4), 0);
	assert_null(link_stats_free(link_stats));
	assert_null(link_stats_free(NULL));
}

static void test_sums(void **state)
{
	(void)state;
	struct link_stats *link_stats = link_stats_open();
	for (unsigned i = 1; i <= 3; i++) {
		uint64_t started = link_stats_begin(link_stats, HBM_LINK_D2H);
		pass_time();
		link_stats_end(link_stats, HBM_LINK_D2H, 1, started, i, 1000 * i, i == 2);
	}

	struct hbm_wire_link link = link_of(link_stats, HBM_LINK_D2H);
	assert_int_equal(link.count, 6);
	assert_int_equal(link.bytes, 6000);
	assert_int_equal(link.errors, 1);
	assert_in_range(link.busy_ns, 3 * 200000, UINT64_MAX);
	assert_int_equal(link.overlapped_ns, 0);
	assert_true(link_stats_bandwidth(link_stats, HBM_LINK_D2H) > 0);
	pass_time();
	assert_int_equal(link_of(link_stats, HBM_LINK_D2H).busy_ns,
			 link.busy_ns); /* idle time is not busy time */
	link_stats_free(link_stats);
}

/* A seed is the bandwidth until something was measured, and no traffic. */
static void test_a_seed(void **state)
{
	(void)state;
	struct link_stats *link_stats = link_stats_open();
	link_stats_seed(link_stats, HBM_LINK_H2D, 5e18);
	assert_true(link_stats_bandwidth(link_stats, HBM_LINK_H2D) > 4e18);
	assert_true(link_stats_bandwidth(link_stats, HBM_LINK_D2H) < 1);
	assert_int_equal(link_of(link_stats, HBM_LINK_H2D).bytes, 0);
	assert_int_equal(link_of(link_stats, HBM_LINK_H2D).busy_ns, 0);

	uint64_t started = link_stats_begin(link_stats, HBM_LINK_H2D);
	pass_time();
	assert_true(link_stats_bandwidth(link_stats, HBM_LINK_H2D) > 4e18); /* not over yet */
	link_stats_end(link_stats, HBM_LINK_H2D, 0, started, 1, 1000, 0);
	assert_true(link_stats_bandwidth(link_stats, HBM_LINK_H2D) > 0);
	assert_true(link_stats_bandwidth(link_stats, HBM_LINK_H2D) < 4e18);
	link_stats_free(link_stats);
}

/* How pieces were issued adds up, each way by itself and of one link. */
static void test_ways(void **state)
{
	(void)state;
	struct link_stats *link_stats = link_stats_open();
	const struct link_ways ways = {.pieces = {1, 2, 3}, .bytes = {10, 20, 30}};

	link_stats_ways(link_stats, HBM_LINK_D2H, &ways);
	link_stats_ways(link_stats, HBM_LINK_D2H, &ways);
	struct hbm_wire_link d2h = link_of(link_stats, HBM_LINK_D2H);
	assert_int_equal(d2h.single_pieces, 2);
	assert_int_equal(d2h.single_bytes, 20);
	assert_int_equal(d2h.row_pieces, 4);
	assert_int_equal(d2h.row_bytes, 40);
	assert_int_equal(d2h.batch_pieces, 6);
	assert_int_equal(d2h.batch_bytes, 60);
	assert_int_equal(link_of(link_stats, HBM_LINK_H2D).row_pieces, 0);
	link_stats_free(link_stats);
}

/* Two at once are one busy time; NVMe and device copies overlap each other, and neither
 * overlaps its own kind. */
static void test_overlap(void **state)
{
	(void)state;
	struct link_stats *link_stats = link_stats_open();
	uint64_t first = link_stats_begin(link_stats, HBM_LINK_NVME_WRITE);
	uint64_t second = link_stats_begin(link_stats, HBM_LINK_NVME_READ);
	pass_time();
	assert_int_equal(link_of(link_stats, HBM_LINK_NVME_WRITE).overlapped_ns, 0);
	uint64_t copy = link_stats_begin(link_stats, HBM_LINK_H2D);
	pass_time();
	link_stats_end(link_stats, HBM_LINK_H2D, 0, copy, 1, 1, 0);
	link_stats_end(link_stats, HBM_LINK_NVME_WRITE, 0, first, 1, 1, 0);
	link_stats_end(link_stats, HBM_LINK_NVME_READ, 0, second, 1, 1, 0);
	struct hbm_wire_link h2d = link_of(link_stats, HBM_LINK_H2D);
	assert_int_equal(h2d.overlapped_ns, h2d.busy_ns);
	assert_int_equal(link_of(link_stats, HBM_LINK_NVME_WRITE).overlapped_ns, h2d.busy_ns);
	assert_int_equal(link_of(link_stats, HBM_LINK_NVME_READ).overlapped_ns, h2d.busy_ns);
	assert_in_range(link_of(link_stats, HBM_LINK_NVME_WRITE).busy_ns, h2d.busy_ns + 200000,
			UINT64_MAX);
	link_stats_free(link_stats);
}

/* A reader that is slow misses the oldest, and is told from where on it has them. */
static void test_intervals(void **state)
{
	(void)state;
	enum { MANY = 40000 };
	struct link_stats *link_stats = link_stats_open();
	struct hbm_wire_interval intervals[100];
	uint64_t cursor = 0, seen = 0;

	for (uint64_t i = 0; i < 10; i++)
		link_stats_end(link_stats, HBM_LINK_D2D, 2,
			       link_stats_begin(link_stats, HBM_LINK_D2D), i + 2, i, i == 3);

	assert_int_equal(link_stats_intervals(link_stats, &cursor, intervals, 4), 4);
	assert_int_equal(cursor, 0);
	assert_int_equal(intervals[3].bytes, 3);
	assert_int_equal(intervals[3].link, HBM_LINK_D2D);
	assert_int_equal(intervals[3].device, 2);
	assert_int_equal(intervals[3].count, 5);
	assert_int_equal(intervals[3].errors, 1);
	assert_in_range(intervals[3].end_ns, intervals[3].start_ns, UINT64_MAX);

	for (uint64_t i = 10; i < MANY; i++)
		link_stats_end(link_stats, HBM_LINK_D2D, 0,
			       link_stats_begin(link_stats, HBM_LINK_D2D), 1, i, 0);

	cursor = 4;
	for (uint32_t count;
	     (count = link_stats_intervals(link_stats, &cursor, intervals, 100)) > 0;
	     cursor += count) {
		for (uint32_t i = 0; i < count; i++)
			assert_int_equal(intervals[i].bytes, cursor + i);
		seen += count;
	}

	assert_int_equal(cursor, MANY);
	assert_in_range(seen, 1000, MANY - 5);
	link_stats_free(link_stats);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing_has_been_measured),
		cmocka_unit_test(test_sums),
		cmocka_unit_test(test_a_seed),
		cmocka_unit_test(test_ways),
		cmocka_unit_test(test_overlap),
		cmocka_unit_test(test_intervals),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
