/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Drain, end to end: what is in memory is on NVMe when the daemon has ended by itself; what keeps it
 * from that is said; what is refused meanwhile, what goes on, and how it is ended.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/catalog_stage.h"
#include "tests/support/child.h"
#include "tests/support/hbmctl.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BLOCKS 32u
#define LONG_MS 60000u

static struct hbm *admin;
static hbm_ticket ticket;

static void begin(void)
{
	catalog_stage_begin(catalog_stage_usual);
	admin = spawn_connect(&daemon_);
}

static void begin_drain(uint64_t timeout_ms)
{
	assert_int_equal(hbm_submit_drain(admin, timeout_ms, &ticket), 0);
	while (strncmp(catalog_stage_status().state, "draining", 8) != 0)
		poll(NULL, 0, 1);
}

/* Of a drain that has ended well: the daemon ends by itself. */
static void expect_drained(void)
{
	assert_int_equal(hbm_wait(admin, ticket, -1), 0);
	assert_int_equal(spawn_wait(&daemon_), 0);
	hbm_close(admin);
}

/* ---- to the end ---- */

/* Blocks in HBM and DDR are on NVMe, and in the catalog; hbmctl waits, says so, and ends with 0. */
static void test_what_is_in_memory_is_parked(void **state)
{
	(void)state;
	catalog_stage_begin(catalog_stage_usual);
	catalog_stage_store(1, BLOCKS, 0);
	assert_int_equal(hbm_evict(kv.hbm, HBM_TIER_HBM, 0, UINT64_MAX, NULL), 0);
	catalog_stage_store(101, BLOCKS, 0);
	assert_int_equal(kv_tier(&kv, 1), HBM_TIER_DDR);
	assert_int_equal(kv_tier(&kv, 101), HBM_TIER_HBM);
	kv_close(&kv);
	hbmctl_expect("drain", 0);
	hbmctl_expect_text("drain", "drained");
	assert_int_equal(spawn_wait(&daemon_), 0);

	catalog_stage_begin(catalog_stage_usual);
	assert_int_equal(catalog_stage_status().catalog_restored, 2 * BLOCKS);
	assert_int_equal(catalog_stage_status().catalog_dropped, 0);
	catalog_stage_expect_found(1, BLOCKS);
	catalog_stage_expect_found(101, BLOCKS);
	catalog_stage_finish();
}

/* It waits for a lease to be given back, and then for nothing. */
static void test_a_lease_is_waited_for(void **state)
{
	(void)state;
	begin();
	catalog_stage_store(1, BLOCKS, 0);
	begin_drain(0);
	while (kv_tier(&kv, 1) != HBM_TIER_NVME)
		poll(NULL, 0, 1);
	kv_await_moves(&kv);
	assert_int_equal(hbm_poll(admin, ticket), -EAGAIN);
	assert_int_equal(hbm_region_destroy(kv.hbm, kv.region), 0);
	expect_drained();
	kv.region = NULL;
	hbm_close(kv.hbm);
	kv_leave(&kv);
	free(kv.buffer);
	catalog_stage_begin(catalog_stage_usual);
	catalog_stage_expect_found(1, BLOCKS);
	catalog_stage_finish();
}

static void hold(const struct spawn *spawn, uint64_t number)
{
	struct kv held;

	(void)number;
	kv_open(&held, spawn, 0, CATALOG_STAGE_BLOCK, CATALOG_STAGE_SLOTS);
	child_tell();
	for (;;)
		poll(NULL, 0, 1000);
}

/* A client that holds memory and is killed. */
static void test_a_client_is_killed(void **state)
{
	struct child child;

	(void)state;
	begin();
	kv_close(&kv);
	child_start(&child, "hold", &daemon_, 0);
	child_await(&child);
	begin_drain(0);
	poll(NULL, 0, 200);
	assert_int_equal(hbm_poll(admin, ticket), -EAGAIN);
	assert_int_equal(child_kill(&child), 128 + SIGKILL);
	expect_drained();
}

/* ---- what it does not end with ---- */

/* One line says who has what; afterwards all is as before. */
static void test_in_time(void **state)
{
	char text[64];

	(void)state;
	catalog_stage_begin(catalog_stage_usual);
	snprintf(text, sizeof(text), "leased by 1 sessions (most by session");
	hbmctl_expect("drain --within 1", 1);
	hbmctl_expect_text("drain", text);
	snprintf(text, sizeof(text), "pid %d, test", (int)getpid());
	hbmctl_expect_text("drain", text);
	assert_int_equal(spawn_log_lines(&daemon_, "serving as before"), 1);
	assert_int_equal(strncmp(catalog_stage_status().state, "running", 7), 0);
	struct hbm_region *more = kv_region(&kv, 2 << 20);
	assert_int_equal(hbm_region_destroy(kv.hbm, more), 0);
	catalog_stage_store(1, BLOCKS, 0);
	assert_int_equal(kv_tier(&kv, 1), HBM_TIER_HBM);
	hbmctl_expect_refusal("drain --cancel", 1, "no drain");
	catalog_stage_finish();
}

static void test_cancelled(void **state)
{
	(void)state;
	begin();
	begin_drain(0);
	hbm_ticket second;
	assert_int_equal(hbm_submit_drain(admin, 0, &second), 0);
	assert_int_equal(hbm_wait(admin, second, -1), HBM_EXISTS);
	hbmctl_expect("drain --cancel", 0);
	assert_int_equal(hbm_wait(admin, ticket, -1), HBM_CANCELLED);
	assert_int_equal(hbm_drain_cancel(admin), HBM_NOT_FOUND);
	struct hbm_region *more = kv_region(&kv, 2 << 20);
	assert_int_equal(hbm_region_destroy(kv.hbm, more), 0);
	hbm_close(admin);
	catalog_stage_finish();
}

/* What leases memory is refused with a code of its own, and changes nothing; the rest goes on. */
static void test_what_is_refused(void **state)
{
	const struct hbm_region_options options = {.address_space = 2 << 20};
	const struct hbm_range rest = {kv.region, 0, 2 << 20};
	struct hbm_region *region;

	(void)state;
	begin();
	catalog_stage_store(1, BLOCKS, 0);
	struct hbm_reserve_change change = {.device = 0, .bytes = 4 << 20};
	assert_int_equal(hbm_region_create(kv.hbm, &options, &region), 0);
	assert_int_equal(hbm_reserve(kv.hbm, &change, 1, 0), 0);
	begin_drain(0);
	assert_int_equal(hbm_reserve(kv.hbm, &change, 1, 0), HBM_DRAINING);
	change.bytes = -change.bytes;
	assert_int_equal(hbm_reserve(kv.hbm, &change, 1, 0), 0);
	struct hbm_region *more;
	assert_int_equal(hbm_region_create(kv.hbm, &options, &more), HBM_DRAINING);
	struct hbm_range range = rest;
	range.region = region;
	assert_int_equal(hbm_commit(kv.hbm, &range, 1), HBM_DRAINING);
	assert_non_null(strstr(hbm_error(kv.hbm), "grants no memory"));
	catalog_stage_expect_found(1, BLOCKS);
	catalog_stage_store(101, BLOCKS, 0);
	assert_int_equal(hbm_drain_cancel(admin), 0);
	assert_int_equal(hbm_wait(admin, ticket, -1), HBM_CANCELLED);
	assert_int_equal(hbm_commit(kv.hbm, &range, 1), 0);
	assert_int_equal(hbm_region_destroy(kv.hbm, region), 0);
	hbm_close(admin);
	catalog_stage_finish();
}

/* So is what waits for memory: it will get none. */
static void test_what_waits_is_refused(void **state)
{
	struct hbm_device_memory memory;
	hbm_ticket waiting;

	(void)state;
	begin();
	assert_int_equal(hbm_device_memory(kv.hbm, 0, &memory), 0);
	struct hbm_reserve_change change = {.device = 0, .bytes = (int64_t)memory.capacity};
	assert_int_equal(hbm_reserve(kv.hbm, &change, 1, 0), 0);
	change.bytes = 2 << 20;
	assert_int_equal(hbm_submit_reserve(admin, &change, 1, LONG_MS, &waiting), 0);
	do {
		assert_int_equal(hbm_wait(admin, waiting, 1), -ETIMEDOUT);
		assert_int_equal(hbm_device_memory(kv.hbm, 0, &memory), 0);
	} while (memory.waiting == 0);
	begin_drain(0);
	assert_int_equal(hbm_wait(admin, waiting, -1), HBM_DRAINING);
	assert_non_null(strstr(hbm_error(admin), "grants no memory"));
	assert_int_equal(hbm_device_memory(kv.hbm, 0, &memory), 0);
	assert_int_equal(memory.waiting, 0);
	assert_int_equal(hbm_drain_cancel(admin), 0);
	assert_int_equal(hbm_wait(admin, ticket, -1), HBM_CANCELLED);
	hbm_close(admin);
	catalog_stage_finish();
}

/* It goes on when the one who asked for it is gone. */
static void test_nobody_waits(void **state)
{
	(void)state;
	begin();
	begin_drain(0);
	hbm_close(admin);
	poll(NULL, 0, 200);
	assert_int_equal(strncmp(catalog_stage_status().state, "draining", 8), 0);
	kv_close(&kv);
	assert_int_equal(spawn_wait(&daemon_), 0);
}

/* SIGTERM does not wait for leases. */
static void test_terminated(void **state)
{
	(void)state;
	begin();
	begin_drain(0);
	assert_int_equal(spawn_stop(&daemon_), 0);
	assert_int_not_equal(hbm_wait(admin, ticket, -1), 0);
	hbm_close(admin);
	kv_close(&kv);
}

int main(int argc, char **argv)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, catalog_stage_setup, stage_teardown)
	static const struct child_part parts[] = {{"hold", hold}, {NULL, NULL}};

	child_main(argc, argv, parts);
	const struct CMUnitTest tests[] = {
		TEST(test_what_is_in_memory_is_parked),
		TEST(test_a_lease_is_waited_for),
		TEST(test_a_client_is_killed),
		TEST(test_in_time),
		TEST(test_cancelled),
		TEST(test_what_is_refused),
		TEST(test_what_waits_is_refused),
		TEST(test_nobody_waits),
		TEST(test_terminated),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
