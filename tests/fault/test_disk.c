/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The disk does not keep its word: the n-th read or write fails or comes back short, for
 * n = 1, 2, ...; and what is on it is changed behind the daemon's back. A block comes
 * back right or not at all, and everything goes on.
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
#include <sys/stat.h>
#include <unistd.h>

#define BLOCK 65536u
#define BLOCKS 64u
#define HEAD (1 << 20) /* of the file, before the first block: hbmd.conf(5) */

static struct kv kv;
static hbm_result results[BLOCKS];

static unsigned start(const char *fail, const char *engine, const char *merge)
{
	char fault[64], io[32], largest[32];

	snprintf(fault, sizeof(fault), "nvme.fail=%s", fail);
	snprintf(io, sizeof(io), "hbmd.io=%s", engine);
	snprintf(largest, sizeof(largest), "nvme.merge=%s", merge);
	/* One at a time where all is to be one read: else they are as many as arrive first. */
	const char *depth = strcmp(merge, "4MiB") == 0 ? "nvme.depth=1" : "nvme.depth=32";
	const char *const sets[] = {"device.cache=4MiB",
				    "ddr.size=4MiB",
				    "nvme.size=8MiB",
				    largest,
				    fault,
				    io,
				    depth,
				    NULL};
	spawn_start(&daemon_, sets, NULL);
	unsigned fds = spawn_fds(&daemon_);
	kv_open(&kv, &daemon_, 0, BLOCK, BLOCKS);

	return fds;
}

static void finish(unsigned fds)
{
	kv_close(&kv);
	stage_finish(fds);
}

/* How many of the blocks come back; each that does is right (kv_load). */
static uint64_t load_all(void)
{
	uint64_t found = 0;
	assert_int_equal(kv_load(&kv, 0, 1, BLOCKS, results), 0);

	for (uint64_t i = 0; i < BLOCKS; i++) {
		found += results[i].status == HBM_OK;
		assert_true(results[i].status == HBM_OK || results[i].status == HBM_MISS ||
			    results[i].status == HBM_IO);
	}

	return found;
}

static struct hbm_wire_status status_now(void)
{
	struct hbm_wire_status status;
	spawn_status(&daemon_, &status);
	return status;
}

static int failed(const void *record, size_t bytes, void *arg)
{
	const struct hbm_wire_tier *tier = record;
	assert_int_equal(bytes, sizeof(*tier));
	if (tier->tier == HBM_TIER_NVME)
		*(uint64_t *)arg = tier->failed;
	return 0;
}

/* Bytes of the disk that are not used again. */
static uint64_t failed_now(void)
{
	uint64_t bytes = 0;
	assert_int_equal(hbm_query(kv.hbm, HBM_QUERY_TIERS, failed, &bytes), 0);
	assert_true(spawn_balanced(&daemon_));
	return bytes;
}

/* Every block as a root, so that the loss of one costs no other. */
static void store_roots(void)
{
	struct hbm_block blocks[BLOCKS];
	struct hbm_segment segments[BLOCKS];

	for (uint64_t i = 0; i < BLOCKS; i++)
		kv_put(&kv, i, 1 + i);
	kv_blocks(&kv, 0, 1, BLOCKS, 0, blocks, segments);
	for (uint64_t i = 0; i < BLOCKS; i++)
		blocks[i].parent = (hbm_key){{0}};
	assert_int_equal(hbm_store(kv.hbm, kv.ns, blocks, BLOCKS, results), 0);
	for (uint64_t i = 0; i < BLOCKS; i++)
		assert_true(results[i].status == HBM_OK || results[i].status == HBM_EXISTS);
}

/* Down and up again with a fault on the way, and once more without: how many blocks it
 * cost. */
static uint64_t run(const char *fail, const char *engine, const char *merge)
{
	unsigned fds = start(fail, engine, merge);

	store_roots();
	kv_push_to_nvme(&kv);
	uint64_t first = load_all();
	kv_await_moves(&kv);
	assert_int_equal(failed_now(), fail[0] == 'w' ? (BLOCKS - first) * BLOCK : 0);
	store_roots();
	kv_push_to_nvme(&kv);
	assert_int_equal(load_all(), BLOCKS);
	assert_int_equal(status_now().io_errors, BLOCKS - first);
	finish(fds);
	spawn_free(&daemon_);
	spawn_init(&daemon_);

	return BLOCKS - first;
}

/* An I/O of one block that fails costs it; one of several is taken apart and tried again;
 * a short one goes on. */
static void run_all(const char *operation, const char *fault, uint64_t cost)
{
	char fail[48];
	for (unsigned n = 1; n <= (getenv("HBM_TEST_LONG") ? BLOCKS : 9); n++) {
		const char *engine = n % 2 ? "auto" : "threads";
		snprintf(fail, sizeof(fail), "%s:%u:%s", operation, n, fault);
		assert_int_equal(run(fail, engine, "64KiB"), cost);
		if (n % 4 == 1)
			assert_int_equal(run(fail, engine, "2MiB"), 0);
	}
}

static void test_reads_that_fail(void **state)
{
	(void)state;
	run_all("read", "EIO", 1);
}

static void test_reads_that_are_short(void **state)
{
	(void)state;
	run_all("read", "short", 0);
}

static void test_writes_that_fail(void **state)
{
	(void)state;
	run_all("write", "EIO", 1);
}

static void test_writes_that_find_no_space(void **state)
{
	(void)state;
	run_all("write", "ENOSPC", 1);
}

static void test_writes_that_are_short(void **state)
{
	(void)state;
	run_all("write", "short", 0);
}

static void test_several_failures_cost_as_many_blocks(void **state)
{
	(void)state;
	assert_int_equal(run("read:3:EIO,read:4:EIO,read:5:EIO", "auto", "64KiB"), 3);
	/* All pieces of a joined I/O that was taken apart. */
	assert_int_equal(run("read:1:EIO,read:2:EIO", "auto", "4MiB"), 1);
}

/* The first extent, which is used again and again. */
static void test_an_extent_that_cannot_be_read_twice(void **state)
{
	(void)state;
	unsigned fds = start("read:1-2:EIO", "auto", "64KiB");
	for (uint64_t reads = 1; reads <= 3; reads++) {
		assert_int_equal(kv_store(&kv, 0, 1, 1, 0, NULL), 0);
		kv_push_to_nvme(&kv);
		assert_int_equal(kv_load(&kv, 0, 1, 1, results), 0);
		assert_int_equal(results[0].status, reads < 3 ? HBM_IO : HBM_OK);
		kv_await_moves(&kv);
		assert_int_equal(failed_now(), reads < 2 ? 0 : BLOCK);
	}
	finish(fds);
}

/* A disk that takes nothing any more is given up, and everything else goes on. */
static void test_too_many_failures_cost_the_tier(void **state)
{
	(void)state;
	unsigned fds = start("write:1+:EIO", "auto", "64KiB");
	store_roots();
	kv_push_to_nvme(&kv);
	assert_in_range(failed_now(), (16 + 1) * BLOCK, BLOCKS * BLOCK); /* more than an eighth */
	assert_non_null(strstr(status_now().state, "NVMe lost"));
	assert_int_equal(spawn_log_lines(&daemon_, "the tier is lost"), 1);
	store_roots();
	assert_int_equal(load_all(), BLOCKS);
	assert_int_equal(kv_tier(&kv, 1), HBM_TIER_HBM);
	finish(fds);
}

/* ---- Behind the daemon's back ---- */

static void change_every_page(void)
{
	int fd = open(daemon_.nvme, O_RDWR | O_CLOEXEC);

	assert_true(fd >= 0);
	for (off_t at = HEAD + 100; at < HEAD + (8 << 20); at += 4096) {
		unsigned char byte;
		assert_int_equal(pread(fd, &byte, 1, at), 1);
		byte ^= 0x10;
		assert_int_equal(pwrite(fd, &byte, 1, at), 1);
	}

	assert_int_equal(fsync(fd), 0);
	assert_int_equal(close(fd), 0);
}

static void change_one_bit(void)
{
	int fd = open(daemon_.nvme, O_RDWR | O_CLOEXEC);
	unsigned char byte;

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &byte, 1, HEAD + 5 * BLOCK + 1234), 1);
	byte ^= 1;
	assert_int_equal(pwrite(fd, &byte, 1, HEAD + 5 * BLOCK + 1234), 1);
	assert_int_equal(fsync(fd), 0);
	assert_int_equal(close(fd), 0);
}

/* A pinned block that cannot be read is lost like any other, and nothing of it is left:
 * not its pin, not its entry. */
static void test_a_lost_block_takes_its_pins_along(void **state)
{
	static const char *const sets[] = {"device.cache=4MiB", "ddr.size=4MiB",
					   "nvme.size=8MiB",    "nvme.fail=read:1:EIO",
					   "limits.pins=1",     NULL};

	(void)state;
	spawn_start(&daemon_, sets, NULL);
	unsigned fds = spawn_fds(&daemon_);
	kv_open(&kv, &daemon_, 0, BLOCK, BLOCKS);
	assert_int_equal(kv_store(&kv, 0, 1, 1, 0, NULL), 0);
	kv_push_to_nvme(&kv);
	assert_int_equal(kv_keys(&kv, HBM_WIRE_PIN, 1, 1, 0, results), 0);
	assert_int_equal(results[0].status, HBM_OK);
	assert_int_equal(kv_keys(&kv, HBM_WIRE_PIN, 1, 1, HBM_WIRE_KEEP, results), 0);
	assert_int_equal(results[0].status, HBM_OK);
	assert_int_equal(kv_load(&kv, 0, 1, 1, results), 0);
	assert_int_equal(results[0].status, HBM_IO);

	for (uint32_t kept = 0; kept < 2;
	     kept++) { /* each a new block, the second after the first has been removed */
		assert_int_equal(kv_store(&kv, 0, 1, 1, 0, results), 0);
		assert_int_equal(results[0].status, HBM_OK);
		assert_int_equal(
			kv_keys(&kv, HBM_WIRE_PIN, 1, 1, kept ? HBM_WIRE_KEEP : 0, results), 0);
		assert_int_equal(results[0].status, HBM_OK);
		assert_int_equal(
			kv_keys(&kv, HBM_WIRE_UNPIN, 1, 1, kept ? HBM_WIRE_KEEP : 0, results), 0);
		assert_int_equal(results[0].status, HBM_OK);
		assert_int_equal(kv_keys(&kv, HBM_WIRE_REMOVE, 1, 1, 0, results), 0);
		assert_int_equal(results[0].status, HBM_OK);
	}

	assert_int_equal(status_now().blocks, 0);
	finish(fds);
}

static void test_changed_bytes_are_never_served(void **state)
{
	(void)state;
	unsigned fds = start("", "auto", "2MiB");
	store_roots();
	kv_push_to_nvme(&kv);
	for (uint64_t i = 0; i < BLOCKS; i++)
		assert_int_equal(kv_tier(&kv, 1 + i), HBM_TIER_NVME);
	change_every_page();
	assert_int_equal(load_all(), 0);
	for (uint64_t i = 0; i < BLOCKS; i++)
		assert_int_equal(results[i].status, HBM_MISS);
	assert_int_equal(status_now().checksum_failures, BLOCKS);
	store_roots();
	kv_push_to_nvme(&kv);
	assert_int_equal(load_all(), BLOCKS);
	finish(fds);
}

static void test_one_bit_costs_one_block(void **state)
{
	(void)state;
	unsigned fds = start("", "threads", "2MiB");
	store_roots();
	kv_push_to_nvme(&kv);
	change_one_bit();
	assert_int_equal(load_all(), BLOCKS - 1);
	assert_int_equal(status_now().checksum_failures, 1);
	finish(fds);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, stage_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_reads_that_fail),
		TEST(test_reads_that_are_short),
		TEST(test_writes_that_fail),
		TEST(test_writes_that_find_no_space),
		TEST(test_writes_that_are_short),
		TEST(test_several_failures_cost_as_many_blocks),
		TEST(test_an_extent_that_cannot_be_read_twice),
		TEST(test_too_many_failures_cost_the_tier),
		TEST(test_a_lost_block_takes_its_pins_along),
		TEST(test_changed_bytes_are_never_served),
		TEST(test_one_bit_costs_one_block),
	};
	alarm(400);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
