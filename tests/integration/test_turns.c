/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One client loads much, another little, over a link that is slow: the little one has its
 * turn before the other is done. What counts is how many loads of the large client have
 * ended by then, not how long that took.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/kv.h"
#include "tests/support/stage.h"

#include <errno.h>

enum { MANY = 25, FEW = 12 }; /* loads of the large client; of those that may go first */
#define LARGE (2u << 20)
#define SMALL (512u << 10) /* not so small that it would go first within a turn */

static hbm_ticket tickets[MANY];
static hbm_result results[MANY];
static struct hbm_block blocks[MANY];
static struct hbm_segment segments[MANY];

static void store_many(struct kv *kv)
{
	for (uint64_t i = 0; i < MANY; i++) {
		kv_blocks(kv, i, 1 + i, 1, 0, &blocks[i], &segments[i]);
		assert_int_equal(hbm_store(kv->hbm, kv->ns, &blocks[i], 1, &results[i]), 0);
		assert_int_equal(results[i].status, HBM_OK);
	}
}

static void submit_many(struct kv *kv)
{
	for (size_t i = 0; i < MANY; i++)
		assert_int_equal(hbm_submit_load(kv->hbm, kv->ns, &blocks[i], 1, NULL, &results[i],
						 &tickets[i]),
				 0);
}

/* Loads of the large client that have ended, in all. */
static unsigned count_ended(struct kv *kv)
{
	unsigned ended = 0;

	assert_in_range(hbm_dispatch(kv->hbm, 0), 0, INT32_MAX);
	for (size_t i = 0; i < MANY; i++) {
		int status = tickets[i] ? hbm_poll(kv->hbm, tickets[i]) : 0;
		if (status == -EAGAIN)
			continue;

		assert_int_equal(status, 0);
		tickets[i] = 0;
		ended++;
	}

	return ended;
}

static void wait_many(struct kv *kv)
{
	for (size_t i = 0; i < MANY; i++) {
		if (tickets[i])
			assert_int_equal(hbm_wait(kv->hbm, tickets[i], 60000), 0);
		assert_int_equal(results[i].status, HBM_OK);
	}
}

static void run(const char *const *sets)
{
	struct kv large, small;
	hbm_result result;

	spawn_start(&daemon_, sets, NULL);
	unsigned fds = spawn_fds(&daemon_);
	kv_open(&large, &daemon_, 0, LARGE, MANY);
	kv_open(&small, &daemon_, 0, SMALL, 1);
	assert_int_equal(kv_store(&small, 0, 1, 1, 0, &result), 0);
	assert_int_equal(result.status, HBM_OK);
	store_many(&large);

	submit_many(&large);
	assert_int_equal(hbm_ping(large.hbm), 0); /* all have been read */
	unsigned before = count_ended(&large);
	assert_int_equal(kv_load(&small, 0, 1, 1, &result), 0);
	assert_int_equal(result.status, HBM_OK);
	assert_in_range(count_ended(&large), before, before + FEW);

	wait_many(&large);
	kv_close(&small);
	kv_close(&large);
	stage_finish(fds);
}

/* From host memory, over the link alone. */
static void test_from_ddr(void **state)
{
	(void)state;
	static const char *const sets[] = {
		"soft.h2d_gib_s=0.02", "device.cache=0", "ddr.size=96MiB",
		"nvme.path=",          "nvme.size=0",    NULL};
	run(sets);
}

/* From NVMe, with staging for some of the large client's loads. */
static void test_from_nvme(void **state)
{
	(void)state;
	static const char *const sets[] = {"soft.h2d_gib_s=0.02", "device.cache=0",  "ddr.size=0",
					   "ddr.staging=12MiB",   "nvme.size=96MiB", NULL};
	run(sets);
}

static void test_from_nvme_with_threads(void **state)
{
	(void)state;
	static const char *const sets[] = {
		"soft.h2d_gib_s=0.02", "device.cache=0",  "ddr.size=0", "ddr.staging=12MiB",
		"nvme.size=96MiB",     "hbmd.io=threads", NULL};
	run(sets);
}

/* The few moves that loads may have go in turns, too. */
static void test_with_few_moves(void **state)
{
	(void)state;
	static const char *const sets[] = {"soft.h2d_gib_s=0.02", "device.cache=0",  "ddr.size=0",
					   "limits.moves=2",      "nvme.size=96MiB", NULL};
	run(sets);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, stage_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_from_ddr),
		TEST(test_from_nvme),
		TEST(test_from_nvme_with_threads),
		TEST(test_with_few_moves),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
