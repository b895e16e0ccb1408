/* SPDX-License-Identifier: Apache-2.0 */
/* What links did in a window: cut movements, overlaps, and random ones against a model that
 * looks at every nanosecond. */
#include "client/ctl/link_sums.h"
#include "tests/support/seed.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void assert_link(const struct hbm_wire_link *link, uint64_t count, uint64_t bytes,
			uint64_t busy_ns, uint64_t overlapped_ns)
{
	assert_int_equal(link->count, count);
	assert_int_equal(link->bytes, bytes);
	assert_int_equal(link->busy_ns, busy_ns);
	assert_int_equal(link->overlapped_ns, overlapped_ns);
}

static void test_nothing(void **state)
{
	(void)state;
	struct hbm_wire_link links[HBM_LINKS] = {{.count = 7}};
	assert_int_equal(link_sums(NULL, 0, 0, UINT64_MAX, links), 0);
	for (uint32_t link = 0; link < HBM_LINKS; link++) {
		assert_int_equal(links[link].link, link);
		assert_link(&links[link], 0, 0, 0, 0);
	}
}

static void test_window(void **state)
{
	(void)state;
	const struct hbm_wire_interval intervals[] = {
		{.start_ns = 0, .end_ns = 100, .bytes = 9000, .link = HBM_LINK_D2H, .count = 9},
		{.start_ns = 50, .end_ns = 150, .bytes = 100, .link = HBM_LINK_D2H, .count = 2},
		{.start_ns = 120, .end_ns = 180, .bytes = 60, .link = HBM_LINK_D2H, .count = 1},
		{.start_ns = 170,
		 .end_ns = 300,
		 .bytes = 130,
		 .link = HBM_LINK_NVME_WRITE,
		 .count = 1,
		 .errors = 1},
		{.start_ns = 200, .end_ns = 210, .bytes = 1, .link = HBM_LINK_H2D, .count = 1},
		{.start_ns = 150, .end_ns = 160, .bytes = 1, .link = 77, .count = 1},
	};
	struct hbm_wire_link links[HBM_LINKS];

	assert_int_equal(link_sums(intervals, 6, 100, 200, links), 0);
	assert_link(&links[HBM_LINK_D2H], 3, 50 + 60, 80, 10);
	assert_link(&links[HBM_LINK_NVME_WRITE], 1, 30, 30, 10);
	assert_link(&links[HBM_LINK_H2D], 0, 0, 0, 0);
	assert_int_equal(links[HBM_LINK_NVME_WRITE].errors, 1);
	assert_int_equal(links[HBM_LINK_D2H].errors, 0);

	/* A whole movement keeps its bytes, however many. */
	const struct hbm_wire_interval large = {
		.end_ns = 3, .bytes = UINT64_MAX, .link = HBM_LINK_D2D, .count = 1};
	assert_int_equal(link_sums(&large, 1, 0, 3, links), 0);
	assert_link(&links[HBM_LINK_D2D], 1, UINT64_MAX, 3, 0);
}

#define SPAN 200
#define MOVEMENTS 12

static bool is_nvme(uint32_t link)
{
	return link == HBM_LINK_NVME_WRITE || link == HBM_LINK_NVME_READ;
}

/* Busy and overlapped, one nanosecond after the other. */
static void model(const struct hbm_wire_interval *intervals, uint64_t from, uint64_t to,
		  uint64_t busy[HBM_LINKS], uint64_t overlapped[HBM_LINKS])
{
	for (uint64_t at = from; at < to; at++) {
		bool in_flight[HBM_LINKS] = {false}, sides[2] = {false};
		for (size_t i = 0; i < MOVEMENTS; i++)
			if (intervals[i].start_ns <= at && at < intervals[i].end_ns) {
				in_flight[intervals[i].link] = true;
				if (intervals[i].link < HBM_LINK_HASH)
					sides[is_nvme(intervals[i].link)] = true;
			}

		for (uint32_t link = 0; link < HBM_LINKS; link++) {
			busy[link] += in_flight[link];
			overlapped[link] += in_flight[link] && sides[!is_nvme(link)];
		}
	}
}

static void test_random_against_a_model(void **state)
{
	(void)state;
	struct seed seed;
	seed_open(&seed, "test_link_sums");
	for (int round = 0; round < 500; round++) {
		struct hbm_wire_interval intervals[MOVEMENTS];
		struct hbm_wire_link links[HBM_LINKS];
		uint64_t busy[HBM_LINKS] = {0}, overlapped[HBM_LINKS] = {0};
		uint64_t from = seed_below(&seed, SPAN), to = from + seed_below(&seed, SPAN);

		for (size_t i = 0; i < MOVEMENTS; i++) {
			uint64_t start = seed_below(&seed, SPAN);
			intervals[i] = (struct hbm_wire_interval){
				.start_ns = start,
				.end_ns = start + seed_below(&seed, SPAN / 4),
				.link = (uint32_t)seed_below(&seed, HBM_LINKS)};
		}

		assert_int_equal(link_sums(intervals, MOVEMENTS, from, to, links), 0);
		model(intervals, from, to, busy, overlapped);
		for (uint32_t link = 0; link < HBM_LINKS; link++)
			assert_link(&links[link], 0, 0, busy[link], overlapped[link]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing),
		cmocka_unit_test(test_window),
		cmocka_unit_test(test_random_against_a_model),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
