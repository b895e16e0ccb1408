/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The disk hangs: reads and writes have no answer until the test lets them (nvme.fail,
 * hang). It counts as lost meanwhile: stores and loads of what is elsewhere go on, loads of
 * what is on it are misses, and afterwards everything on it is there again.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/kv.h"
#include "tests/support/stage.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BLOCK 65536u
#define SLOTS 64u
#define ON_DISK 32u                    /* blocks [1, ON_DISK] are written before the disk hangs */
#define TIMEOUT "nvme.timeout_ms=1500" /* no disk takes so long that works */
#define PATIENT "nvme.timeout_ms=86400000"
#define IMPATIENT "nvme.behind_ms=1"

static struct kv kv;
static hbm_result results[SLOTS];
static char gate[128];

static void hang(void)
{
	int fd = open(gate, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(close(fd), 0);
}

static void release(void)
{
	assert_int_equal(unlink(gate), 0);
}

static unsigned start_with(const char *fail, const char *engine, const char *timeout,
			   const char *behind)
{
	char fault[64], io[32];

	snprintf(fault, sizeof(fault), "nvme.fail=%s", fail);
	snprintf(io, sizeof(io), "hbmd.io=%s", engine);
	const char *const sets[] = {"device.cache=4MiB",
				    "device.headroom=2MiB",
				    "ddr.size=2MiB",
				    "ddr.headroom=1MiB",
				    "ddr.staging=1MiB",
				    "nvme.size=16MiB",
				    timeout,
				    behind,
				    fault,
				    io,
				    NULL};
	spawn_start(&daemon_, sets, NULL);
	snprintf(gate, sizeof(gate), "%s.hang", daemon_.nvme);
	unsigned fds = spawn_fds(&daemon_);
	kv_open(&kv, &daemon_, 0, BLOCK, SLOTS);

	return fds;
}

static unsigned start(const char *fail, const char *engine)
{
	return start_with(fail, engine, TIMEOUT, "nvme.behind_ms=0");
}

static void finish(unsigned fds)
{
	kv_close(&kv);
	stage_finish(fds);
	spawn_free(&daemon_);
	spawn_init(&daemon_);
}

struct nvme_tier {
	uint64_t lost, blocks;
};

static int look_at_tier(const void *record, size_t bytes, void *arg)
{
	const struct hbm_wire_tier *tier = record;
	struct nvme_tier *nvme = arg;

	assert_int_equal(bytes, sizeof(*tier));
	if (tier->tier == HBM_TIER_NVME)
		*nvme = (struct nvme_tier){.lost = tier->lost, .blocks = tier->blocks};

	return 0;
}

static struct nvme_tier nvme_now(void)
{
	struct nvme_tier nvme = {0};
	assert_int_equal(hbm_query(kv.hbm, HBM_QUERY_TIERS, look_at_tier, &nvme), 0);
	return nvme;
}

static void wait_until_lost(uint64_t lost)
{
	while (nvme_now().lost != lost)
		;
}

static struct hbm_wire_status status_now(void)
{
	struct hbm_wire_status status;
	spawn_status(&daemon_, &status);
	return status;
}

/* A block that has no parent and is in no other's way. */
static int store_root(uint64_t block)
{
	int r = kv_store(&kv, block % SLOTS, block, 1, 0, results);
	assert_int_equal(r, 0);
	return results[0].status;
}

static int load_one(uint64_t block)
{
	int r = kv_load(&kv, block % SLOTS, block, 1, results);
	assert_int_equal(r, 0);
	return results[0].status;
}

static void store_on_disk(void)
{
	for (uint64_t block = 1; block <= ON_DISK; block++)
		assert_int_equal(store_root(block), HBM_OK);
	kv_push_to_nvme(&kv);
	for (uint64_t block = 1; block <= ON_DISK; block++)
		assert_int_equal(kv_tier(&kv, block), HBM_TIER_NVME);
}

/* What is on the disk is missed, and is not promised. */
static void assert_disk_is_missed(void)
{
	for (uint64_t block = 1; block <= ON_DISK; block++) {
		assert_int_equal(load_one(block), HBM_MISS);
		assert_int_equal(kv_tier(&kv, block), HBM_TIER_NONE);
	}
}

static void assert_disk_is_there(void)
{
	for (uint64_t block = 1; block <= ON_DISK; block++)
		assert_int_equal(load_one(block), HBM_OK);
}

/* Everybody goes on in HBM and DDR: more than both is stored, the last of it is there. */
static void assert_all_go_on(uint64_t first, uint64_t count)
{
	for (uint64_t block = first; block < first + count; block++)
		assert_int_equal(store_root(block), HBM_OK);
	for (uint64_t block = first + count - 32; block < first + count; block++)
		assert_int_equal(load_one(block), HBM_OK);

	struct hbm_region *region = kv_region(&kv, 4 << 20);
	assert_int_equal(hbm_region_destroy(kv.hbm, region), 0);
	assert_true(spawn_balanced(&daemon_));
}

static void check_writes(const char *engine)
{
	unsigned fds = start("write:1+:hang", engine);

	store_on_disk();
	hang();
	assert_all_go_on(1000, 200);
	wait_until_lost(1);
	assert_non_null(strstr(status_now().state, "no answer from NVMe"));
	assert_int_equal(status_now().nvme_hangs, 1);
	assert_int_not_equal(status_now().demotions_dropped, 0);
	assert_int_equal(spawn_log_lines(&daemon_, "no answer"), 1);
	assert_disk_is_missed();
	assert_all_go_on(2000, 200);

	release();
	wait_until_lost(0);
	assert_null(strstr(status_now().state, "no answer from NVMe"));
	assert_int_equal(spawn_log_lines(&daemon_, "answers again"), 1);
	assert_disk_is_there();
	assert_int_equal(status_now().checksum_failures, 0);
	assert_int_equal(status_now().io_errors, 0);
	kv_push_to_nvme(&kv);
	finish(fds);
}

static void check_reads(const char *engine)
{
	unsigned fds = start("read:1+:hang", engine);

	store_on_disk();
	hang();
	assert_int_equal(kv_load(&kv, 0, 1, ON_DISK, results), 0); /* ends when it is lost */
	for (uint64_t i = 0; i < ON_DISK; i++)
		assert_int_equal(results[i].status, HBM_IO);
	assert_int_equal(nvme_now().lost, 1);
	assert_disk_is_missed();
	assert_all_go_on(1000, 200);

	release();
	wait_until_lost(0);
	assert_disk_is_there();
	assert_int_equal(status_now().io_errors, 0);
	kv_push_to_nvme(&kv);
	assert_disk_is_there();
	finish(fds);
}

static void test_writes_without_an_answer(void **state)
{
	(void)state;
	check_writes("auto");
	check_writes("threads");
}

static void test_reads_without_an_answer(void **state)
{
	(void)state;
	check_reads("auto");
	check_reads("threads");
}

/* A block that is on the disk can be stored anew meanwhile. */
static void test_a_block_is_stored_again(void **state)
{
	(void)state;
	unsigned fds = start("read:1+:hang", "auto");

	store_on_disk();
	hang();
	assert_int_equal(load_one(1), HBM_IO);
	assert_int_equal(store_root(2), HBM_OK);
	assert_int_equal(load_one(2), HBM_OK);
	assert_int_equal(store_root(2), HBM_EXISTS);
	assert_true(spawn_balanced(&daemon_));

	release();
	wait_until_lost(0);
	assert_disk_is_there();
	finish(fds);
}

/* A pinned block on the disk keeps its pin. */
static void test_pins_outlive_it(void **state)
{
	(void)state;
	unsigned fds = start("read:1+:hang", "auto");

	store_on_disk();
	assert_int_equal(kv_keys(&kv, HBM_WIRE_PIN, 1, 1, 0, results), 0);
	assert_int_equal(results[0].status, HBM_OK);
	hang();
	assert_int_equal(load_one(1), HBM_IO);
	assert_all_go_on(1000, 400);
	assert_int_equal(kv_keys(&kv, HBM_WIRE_PIN, 2, 1, 0, results), 0);
	assert_int_equal(results[0].status, HBM_MISS);

	release();
	wait_until_lost(0);
	assert_int_equal(load_one(1), HBM_OK);
	assert_int_equal(kv_keys(&kv, HBM_WIRE_UNPIN, 1, 1, 0, results), 0);
	assert_int_equal(results[0].status, HBM_OK);
	finish(fds);
}

/* The daemon stops although the disk does not answer. */
static void test_it_stops(void **state)
{
	(void)state;
	start("write:1+:hang", "auto");
	hang();
	assert_all_go_on(1000, 200);
	wait_until_lost(1);
	kv_close(&kv);
	assert_int_equal(spawn_stop(&daemon_), 0);
	release();
}

/* Deleted, and put back: said each time, and the tier goes on. */
static void test_a_file_that_is_replaced(void **state)
{
	(void)state;
	char away[128];
	unsigned fds = start("", "auto");
	snprintf(away, sizeof(away), "%s.away", daemon_.nvme);
	store_on_disk();
	assert_int_equal(status_now().nvme_replaced, 0);
	assert_int_equal(rename(daemon_.nvme, away), 0);
	while (status_now().nvme_replaced == 0)
		;
	assert_string_equal(status_now().state, "running, NVMe file replaced");
	assert_disk_is_there();
	assert_int_equal(rename(away, daemon_.nvme), 0);
	while (status_now().nvme_replaced == 1)
		;
	assert_int_equal(spawn_log_lines(&daemon_, "was deleted or replaced"), 1);
	assert_int_equal(spawn_log_lines(&daemon_, "is the tier's file again"), 1);
	finish(fds);
}

/* A disk that is behind: stores go on long before it counts as lost. */
static void test_stores_do_not_wait_for_it(void **state)
{
	(void)state;
	unsigned fds = start_with("write:1+:hang", "auto", PATIENT, IMPATIENT);
	hang();
	assert_all_go_on(1000, 300);
	assert_int_equal(nvme_now().lost, 0);
	assert_int_not_equal(status_now().demotions_dropped, 0);
	release();
	kv_await_moves(&kv);
	assert_int_equal(status_now().io_errors, 0);
	kv_push_to_nvme(&kv);
	finish(fds);
}

/* Nothing is dropped while no store waits, however slow the disk. */
static void test_evictions_wait_for_it(void **state)
{
	(void)state;
	unsigned fds = start_with("write:1+:5ms", "auto", PATIENT, IMPATIENT);
	store_on_disk();
	assert_int_equal(status_now().demotions_dropped, 0);
	assert_disk_is_there();
	finish(fds);
}

/* Nor where the configuration says so. */
static void test_stores_wait_for_it_if_told_to(void **state)
{
	(void)state;
	unsigned fds = start_with("write:1+:2ms", "auto", PATIENT, "nvme.behind_ms=0");
	assert_all_go_on(1000, 200);
	kv_push_to_nvme(&kv);
	assert_int_equal(status_now().demotions_dropped, 0);
	for (uint64_t block = 1000; block < 1200; block++)
		assert_int_equal(load_one(block), HBM_OK);
	finish(fds);
}

static void use_all(uint64_t first, uint64_t count)
{
	for (uint64_t block = first; block < first + count; block++) {
		store_root(block);
		load_one(1 + block % count);
	}
}

/* The n-th read or write has no answer, the others have. */
static void hang_nth(const char *direction, unsigned n)
{
	char fail[64];

	snprintf(fail, sizeof(fail), "%s:%u:hang", direction, n);
	unsigned fds = start(fail, n % 2 ? "auto" : "threads");
	hang();
	use_all(1, 150);
	for (uint64_t block = 1; block <= 150; block++)
		load_one(block);
	assert_true(spawn_balanced(&daemon_));

	release();
	wait_until_lost(0);
	kv_await_moves(&kv);
	use_all(1, 150);
	kv_push_to_nvme(&kv);
	assert_int_equal(status_now().io_errors, 0);
	finish(fds);
}

static void test_the_nth_write_without_an_answer(void **state)
{
	(void)state;
	for (unsigned n = 1; n <= (getenv("HBM_TEST_LONG") ? 100 : 4); n++)
		hang_nth("write", n);
}

static void test_the_nth_read_without_an_answer(void **state)
{
	(void)state;
	for (unsigned n = 1; n <= (getenv("HBM_TEST_LONG") ? 100 : 4); n++)
		hang_nth("read", n);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, stage_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_writes_without_an_answer),
		TEST(test_reads_without_an_answer),
		TEST(test_a_block_is_stored_again),
		TEST(test_pins_outlive_it),
		TEST(test_it_stops),
		TEST(test_a_file_that_is_replaced),
		TEST(test_stores_do_not_wait_for_it),
		TEST(test_evictions_wait_for_it),
		TEST(test_stores_wait_for_it_if_told_to),
		TEST(test_the_nth_write_without_an_answer),
		TEST(test_the_nth_read_without_an_answer),
	};
	alarm(400);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
