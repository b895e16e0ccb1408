/* SPDX-License-Identifier: Apache-2.0 */
/* Busy shares of links over time, and percentiles of samples. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>

#include "client/ctl/samples.h"
#include "client/ctl/timeline.h"

#define NEAR 1e-9

static void assert_row(const struct timeline *timeline, uint32_t link, const double *expected)
{
	for (size_t s = 0; s < timeline->width; s++)
		assert_float_equal(timeline_busy(timeline, link, s), expected[s], NEAR);
}

static void test_no_intervals(void **state)
{
	(void)state;
	struct timeline timeline = {.width = 3};
	assert_int_equal(timeline_make(NULL, 0, 0, 10, &timeline), -ENODATA);
	assert_int_equal(timeline.width, 3);
}

static void test_overlapping_movements_count_once(void **state)
{
	(void)state;
	struct hbm_wire_interval intervals[] = {
		{.start_ns = 1050, .end_ns = 1100, .link = HBM_LINK_D2H},
		{.start_ns = 1000, .end_ns = 1060, .link = HBM_LINK_D2H},
		{.start_ns = 1010, .end_ns = 1020, .link = HBM_LINK_D2H},
		{.start_ns = 1150, .end_ns = 1400, .link = HBM_LINK_NVME_WRITE},
	};
	struct timeline timeline;
	assert_int_equal(timeline_make(intervals, 4, 0, 4, &timeline), 0);
	assert_int_equal(timeline.start_ns, 1000);
	assert_int_equal(timeline.end_ns, 1400);
	assert_row(&timeline, HBM_LINK_D2H, (const double[]){1, 0, 0, 0});
	assert_row(&timeline, HBM_LINK_NVME_WRITE, (const double[]){0, 0.5, 1, 1});
	assert_row(&timeline, HBM_LINK_D2D, (const double[]){0, 0, 0, 0});
	timeline_clear(&timeline);
}

static void test_last(void **state)
{
	(void)state;
	struct hbm_wire_interval intervals[] = {
		{.start_ns = 0, .end_ns = 500, .link = HBM_LINK_D2D},
		{.start_ns = 850, .end_ns = 950, .link = HBM_LINK_D2D},
		{.start_ns = 990, .end_ns = 1000, .link = HBM_LINK_H2D},
	};
	struct timeline timeline;
	assert_int_equal(timeline_make(intervals, 3, 100, 2, &timeline), 0);
	assert_int_equal(timeline.start_ns, 900);
	assert_row(&timeline, HBM_LINK_D2D, (const double[]){1, 0});
	assert_row(&timeline, HBM_LINK_H2D, (const double[]){0, 0.2});
	timeline_clear(&timeline);
}

static void test_strange_intervals(void **state)
{
	(void)state;
	struct hbm_wire_interval intervals[] = {
		{.start_ns = 100, .end_ns = 100, .link = HBM_LINK_D2D},
		{.start_ns = 100, .end_ns = 50, .link = 77},
	};
	struct timeline timeline;
	assert_int_equal(timeline_make(intervals, 2, 0, 10, &timeline), 0);
	for (uint32_t link = 0; link < HBM_LINKS; link++)
		assert_row(&timeline, link, (const double[10]){0});
	timeline_clear(&timeline);
}

static void test_percentiles(void **state)
{
	(void)state;
	struct samples samples = {0}, more = {0};
	assert_int_equal(samples_percentile(&samples, 50), 0);
	for (uint64_t i = 2000; i > 1000; i--)
		assert_int_equal(samples_add(&samples, i), 0);
	for (uint64_t i = 1000; i > 0; i--)
		assert_int_equal(samples_add(&more, i), 0);
	assert_int_equal(samples_merge(&samples, &more), 0);
	samples_sort(&samples);
	assert_int_equal(samples.count, 2000);
	assert_int_equal(samples.sum_ns, 2000 * 2001 / 2);
	assert_int_equal(samples_percentile(&samples, 0), 1);
	assert_int_equal(samples_percentile(&samples, 50), 1000);
	assert_int_equal(samples_percentile(&samples, 99), 1980);
	assert_int_equal(samples_percentile(&samples, 100), 2000);
	samples_clear(&samples);
	samples_clear(&more);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_intervals),
		cmocka_unit_test(test_overlapping_movements_count_once),
		cmocka_unit_test(test_last),
		cmocka_unit_test(test_strange_intervals),
		cmocka_unit_test(test_percentiles),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
