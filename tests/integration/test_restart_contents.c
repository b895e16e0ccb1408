/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is in DDR outlives the daemon: it is killed at any moment while blocks are stored, loaded,
 * evicted and removed. What is found afterwards is byte by byte what was stored, what was
 * acknowledged is found but for what is said below, and the books balance. What has rotted
 * meanwhile is a miss.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/keeper_rig.h"
#include "tests/support/kept_memory.h"
#include "tests/support/restart_rig.h"
#include "tests/support/stage.h"

enum { LIVES = 50, SOME = 24 };

static struct seed seed;

/* ---- one kill ---- */

static const char *const in_ddr[] = {"device.cache=0", "ddr.size=8MiB",        "nvme.path=",
				     "nvme.size=0",    "hbmd.checksum=always", NULL};

static void test_blocks_are_hits(void **state)
{
	(void)state;
	restart_begin(in_ddr);
	restart_store(1, SOME);
	uint32_t ns = restart_kv.ns;
	const struct hbm_namespace_options other = {.model = "other", .block_bytes = RESTART_BLOCK};

	assert_int_equal(hbm_namespace_open(restart_kv.hbm, &other, &restart_kv.ns), 0);
	restart_store(1, 2);
	restart_kill();

	assert_int_equal(restart_kv.ns, ns);
	assert_int_equal(restart_status().ddr_restored, SOME + 2);
	assert_int_equal(restart_status().ddr_dropped + restart_status().ddr_unsummed, 0);
	assert_int_equal(kv_lookup(&restart_kv, 1, SOME, restart_results), SOME);
	for (uint64_t key = 1; key <= SOME; key++)
		assert_int_equal(kv_tier(&restart_kv, key), HBM_TIER_DDR);
	assert_int_equal(restart_find_all(1, SOME), SOME);
	assert_int_equal(restart_status().checksum_failures, 0);

	/* life goes on: a child stored below, and once more */
	assert_int_equal(kv_store(&restart_kv, 0, SOME + 1, 1, SOME, restart_results), 0);
	assert_int_equal(kv_keys(&restart_kv, HBM_WIRE_REMOVE, SOME / 2, 1, 0, restart_results), 0);
	restart_kill();
	assert_int_equal(kv_lookup(&restart_kv, 1, SOME, restart_results), SOME / 2 - 1);
	assert_int_equal(restart_find_all(1, SOME + 1), SOME / 2 - 1);
	restart_end();
}

/* Where the events go on, or that they do not. */
static void expect_events(uint64_t *position, uint64_t expected, uint64_t missed)
{
	static struct hbm_wire_cache_event events[HBM_WIRE_WATCH_MAX];
	size_t count = 0;
	uint64_t lost = 0;

	assert_int_equal(hbm_watch(restart_kv.hbm, restart_kv.ns, position, events,
				   HBM_WIRE_WATCH_MAX, &count, &lost),
			 0);
	assert_int_equal(count, expected);
	assert_int_equal(lost, missed);
	for (size_t i = 0; i < count; i++)
		assert_int_equal(events[i].event, HBM_CACHE_STORED);
}

/* Whoever watches goes on with the next daemon, and is told once that what happened is not known:
 * also where that one has had more events than the last one. */
static void test_a_watch_is_told(void **state)
{
	(void)state;
	uint64_t position = 0, other;

	restart_begin(in_ddr);
	expect_events(&position, 0, 0);
	restart_store(1, 3);
	expect_events(&position, 3, 0);
	other = position;
	keeper_kill(&daemon_);
	expect_events(&position, 0, HBM_WIRE_MISSED_UNKNOWN);
	expect_events(&position, 0, 0);
	restart_store(11, 5);
	expect_events(&position, 5, 0);
	expect_events(&other, 5, HBM_WIRE_MISSED_UNKNOWN);
	assert_int_equal(other, position);
	restart_end();
}

/* As for an upgrade. */
static void test_a_new_daemon_takes_over(void **state)
{
	(void)state;
	restart_begin(in_ddr);
	restart_store(1, SOME);
	restart_disconnect();
	keeper_renew(&daemon_);
	restart_connect();
	assert_int_equal(restart_status().ddr_restored, SOME);
	assert_int_equal(restart_find_all(1, SOME), SOME);
	restart_end();
}

/* No checksum is given ahead of need; what has none yet is a miss. */
static void test_without_a_checksum_it_is_a_miss(void **state)
{
	static const char *const late[] = {
		"device.cache=0",     "ddr.size=8MiB",           "nvme.path=", "nvme.size=0",
		"hbmd.checksum=nvme", "hbmd.checksum_idle_ms=0", NULL};
	(void)state;
	restart_begin(late);
	restart_store(1, SOME);
	restart_kill();
	assert_int_equal(restart_status().ddr_unsummed, SOME);
	assert_int_equal(kv_lookup(&restart_kv, 1, SOME, restart_results), 0);
	restart_end();
}

static void test_checksums_come_by_themselves(void **state)
{
	static const char *const soon[] = {
		"device.cache=0",     "ddr.size=8MiB",           "nvme.path=", "nvme.size=0",
		"hbmd.checksum=nvme", "hbmd.checksum_idle_ms=1", NULL};
	(void)state;
	restart_begin(soon);
	restart_expect_checksums(SOME);
	restart_end();
}

/* ---- what has rotted ---- */

static void test_a_bit_of_a_block(void **state)
{
	(void)state;
	unsigned char bytes[RESTART_BLOCK];

	restart_begin(in_ddr);
	restart_store(1, SOME);
	kv_fill(SOME / 2, bytes, sizeof(bytes));
	kept_memory_flip(&daemon_, "hbmd-ddr", bytes, 64, RESTART_BLOCK - 1);
	restart_kill();
	restart_expect_rotten(SOME / 2, SOME);
	restart_end();
}

static void test_a_bit_of_a_record(void **state)
{
	(void)state;
	const hbm_key key = kv_key(SOME / 2);

	restart_begin(in_ddr);
	for (uint64_t i = 1; i <= SOME; i++)
		restart_store(i, 1);
	kept_memory_flip(&daemon_, "hbmd-state", &key, sizeof(key), 3);
	restart_kill();
	assert_int_equal(restart_status().ddr_restored, SOME - 1);
	assert_true(spawn_logged(&daemon_, "records of the state had a wrong checksum"));
	assert_int_equal(restart_find_all(1, SOME), SOME - 1);
	assert_false(restart_find(SOME / 2));
	assert_int_equal(restart_status().checksum_failures, 0);
	restart_end();
}

/* ---- kills at any moment ---- */

static void test_nothing_is_lost(void **state)
{
	(void)state;
	restart_at_random(&seed, in_ddr, RESTART_LOSES_NOTHING, LIVES);
}

static void test_only_what_is_new_is_lost(void **state)
{
	static const char *const sets[] = {
		"device.cache=0",     "ddr.size=8MiB",           "nvme.path=", "nvme.size=0",
		"hbmd.checksum=nvme", "hbmd.checksum_idle_ms=1", NULL};
	(void)state;
	restart_at_random(&seed, sets, RESTART_LOSES_NEW, LIVES);
}

static void test_only_what_moves_is_lost(void **state)
{
	static const char *const sets[] = {"device.cache=0",       "ddr.size=2MiB",
					   "ddr.headroom=1MiB",    "nvme.size=16MiB",
					   "nvme.catalog_ms=1",    "nvme.catalog_flush_ms=1",
					   "hbmd.checksum=always", NULL};
	(void)state;
	restart_at_random(&seed, sets, RESTART_LOSES_MOVED, LIVES);
}

/* What a killed daemon had not overwritten yet may be anywhere in its memory, so that the next one
 * begins with new memory, and others' blocks are misses, too. */
static void test_what_is_wiped_does_not_outlive_it(void **state)
{
	(void)state;
	restart_begin(in_ddr);
	restart_store(1, SOME);
	restart_kill();
	assert_int_equal(restart_find_all(1, SOME), SOME);
	restart_store_wiped(1);
	restart_kill();
	assert_int_equal(restart_status().ddr_restored, 0);
	assert_int_equal(restart_find_all(1, SOME), 0);
	restart_store(1, SOME);
	assert_int_equal(restart_find_all(1, SOME), SOME);
	restart_end();
}

/* But when nothing of such is left, neither of blocks nor of a daemon that was killed with some, the
 * next one finds memory as it is. */
static void test_what_was_wiped_costs_nothing(void **state)
{
	(void)state;
	restart_begin(in_ddr);
	restart_store(1, SOME);
	restart_remove_wiped(restart_store_wiped(SOME));
	restart_await_wiped(1);
	keeper_kill(&daemon_);
	assert_int_equal(restart_find_all(1, SOME), SOME);

	uint32_t ns = restart_store_wiped(SOME);
	keeper_kill(&daemon_);
	assert_int_equal(restart_find_all(1, SOME), 0);
	restart_store(1, SOME);
	restart_remove_wiped(ns);
	restart_await_wiped(2);
	keeper_kill(&daemon_);
	assert_int_equal(restart_find_all(1, SOME), SOME);
	assert_int_equal(restart_status().ddr_restored, SOME);
	restart_end();
}

int main(void)
{
	seed_open(&seed, "restart_contents");
#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, stage_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_blocks_are_hits),
		TEST(test_a_watch_is_told),
		TEST(test_a_new_daemon_takes_over),
		TEST(test_without_a_checksum_it_is_a_miss),
		TEST(test_checksums_come_by_themselves),
		TEST(test_a_bit_of_a_block),
		TEST(test_a_bit_of_a_record),
		TEST(test_what_is_wiped_does_not_outlive_it),
		TEST(test_what_was_wiped_costs_nothing),
		TEST(test_nothing_is_lost),
		TEST(test_only_what_is_new_is_lost),
		TEST(test_only_what_moves_is_lost),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
