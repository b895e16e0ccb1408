/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls that are larger than a message, with a daemon: the keys and blocks of a prompt of 128K
 * tokens, chains whose parents came in an earlier part, fences that are set when all of them are
 * over, cancelling, refusals of a part, and a daemon that is killed in the middle.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/keeper_rig.h"
#include "tests/support/kv.h"
#include "tests/support/stage.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>

enum {
	BLOCK = 4096,
	COUNT = 8192, /* blocks of 16 tokens */
	PART = (HBM_WIRE_MESSAGE_MAX - sizeof(struct hbm_wire_blocks)) /
	       (sizeof(struct hbm_wire_block) + sizeof(struct hbm_wire_range)),
	READY = 3,
	FENCE = 7,
	FAILED = 8,
	KILLS = 4,
};

static unsigned fds;
static struct kv kv;
static struct hbm_block *blocks;
static struct hbm_segment *segments;
static hbm_result *results;

static void open_kv(void)
{
	kv_open(&kv, &daemon_, 0, BLOCK, COUNT);
	blocks = malloc(COUNT * sizeof(*blocks));
	segments = malloc(COUNT * sizeof(*segments));
	results = malloc((COUNT + 100) * sizeof(*results));
	kv_blocks(&kv, 0, 1, COUNT, 0, blocks, segments);
}

static void close_kv(void)
{
	kv_close(&kv);
	free(blocks);
	free(segments);
	free(results);
}

static int setup(void **state)
{
	static const char *const sets[] = {"limits.pinned=100%", NULL};

	stage_setup(state);
	spawn_start(&daemon_, sets, NULL);
	fds = spawn_fds(&daemon_);
	open_kv();
	return 0;
}

static int teardown(void **state)
{
	close_kv();
	stage_finish(fds);
	return stage_teardown(state);
}

/* Writes each block's bytes, in one piece. */
static void put_all(void)
{
	char *bytes = malloc((size_t)COUNT * BLOCK);

	for (uint64_t i = 0; i < COUNT; i++)
		kv_fill(1 + i, bytes + i * BLOCK, BLOCK);
	kv_write(&kv, hbm_region_address(kv.region), bytes, (uint64_t)COUNT * BLOCK);
	free(bytes);
}

static void wipe_all(void)
{
	char *bytes = calloc(COUNT, BLOCK);

	kv_write(&kv, hbm_region_address(kv.region), bytes, (uint64_t)COUNT * BLOCK);
	free(bytes);
}

/* How many of the slots have their block's bytes. */
static uint64_t holding(void)
{
	char *bytes = malloc((size_t)COUNT * BLOCK), expected[BLOCK];
	uint64_t count = 0;

	kv_read(&kv, bytes, hbm_region_address(kv.region), (uint64_t)COUNT * BLOCK);
	for (uint64_t i = 0; i < COUNT; i++) {
		kv_fill(1 + i, expected, BLOCK);
		count += memcmp(bytes + i * BLOCK, expected, BLOCK) == 0;
	}
	free(bytes);

	return count;
}

static void expect_results(size_t first, size_t end, int status)
{
	for (size_t i = first; i < end; i++)
		if (results[i].status != status)
			fail_msg("result %zu is %d, expected %d", i, results[i].status, status);
}

static void await_fence(uint64_t value)
{
	while (__atomic_load_n(hbm_fence(kv.hbm, FENCE), __ATOMIC_ACQUIRE) != value)
		poll(NULL, 0, 1);
}

static void store_all(void)
{
	put_all();
	assert_int_equal(hbm_store(kv.hbm, kv.ns, blocks, COUNT, results), 0);
	expect_results(0, COUNT, HBM_OK);
}

/* ---- Stores, loads and keys ---- */

/* A chain: each block's parent is the one before, and so that of a part's first in another. */
static void test_a_prompt_in_one_call(void **state)
{
	(void)state;
	struct hbm_lookup found;
	hbm_key *keys = malloc((COUNT + 100) * sizeof(*keys));

	store_all();
	for (uint64_t i = 0; i < COUNT + 100; i++)
		keys[i] = kv_key(1 + i);
	assert_int_equal(hbm_lookup(kv.hbm, kv.ns, keys, COUNT, &found, results), 0);
	assert_int_equal(found.resident, COUNT);
	assert_int_equal(hbm_lookup(kv.hbm, kv.ns, keys, COUNT + 100, &found, results), 0);
	assert_int_equal(found.resident, COUNT);
	expect_results(0, COUNT, HBM_OK);
	expect_results(COUNT, COUNT + 100, HBM_MISS);

	wipe_all();
	assert_int_equal(hbm_load(kv.hbm, kv.ns, blocks, COUNT, results), 0);
	expect_results(0, COUNT, HBM_OK);
	assert_int_equal(holding(), COUNT);

	assert_int_equal(hbm_prefetch(kv.hbm, kv.ns, 0, keys, COUNT + 100, 0, results), 0);
	expect_results(0, COUNT, HBM_OK);
	expect_results(COUNT, COUNT + 100, HBM_MISS);
	assert_int_equal(hbm_keys(kv.hbm, HBM_WIRE_PIN, kv.ns, 0, keys, COUNT, results), 0);
	expect_results(0, COUNT, HBM_OK);
	assert_int_equal(hbm_keys(kv.hbm, HBM_WIRE_UNPIN, kv.ns, 0, keys, COUNT, results), 0);
	expect_results(0, COUNT, HBM_OK);
	assert_int_equal(hbm_keys(kv.hbm, HBM_WIRE_UNPIN, kv.ns, 0, keys, COUNT, results), 0);
	expect_results(0, COUNT, HBM_NOT_FOUND);
	assert_int_equal(hbm_keys(kv.hbm, HBM_WIRE_REMOVE, kv.ns, 0, keys, COUNT, results), 0);
	assert_int_equal(results[0].status, HBM_OK);
	assert_int_equal(hbm_lookup(kv.hbm, kv.ns, keys, COUNT, &found, NULL), 0);
	assert_int_equal(found.resident, 0);
	free(keys);
}

static void test_blocks_of_many_segments(void **state)
{
	(void)state;
	enum { SEGMENTS = 160, MANY = 64, PIECE = 512 };
	struct hbm_namespace_options options = {.model = "wide", .block_bytes = SEGMENTS * PIECE};
	struct hbm_segment *pieces = malloc(MANY * SEGMENTS * sizeof(*pieces));
	uint32_t ns;

	assert_int_equal(hbm_namespace_open(kv.hbm, &options, &ns), 0);
	put_all();
	for (size_t i = 0; i < MANY; i++) {
		/* piece k of block i in slot k * MANY + i: blocks lie in each other's gaps */
		for (size_t k = 0; k < SEGMENTS; k++)
			pieces[i * SEGMENTS + k] =
				(struct hbm_segment){kv.region, (k * MANY + i) * PIECE, PIECE};
		blocks[i].segments = &pieces[i * SEGMENTS];
		blocks[i].segment_count = SEGMENTS;
	}
	char *before = malloc((size_t)MANY * SEGMENTS * PIECE),
	     *after = malloc((size_t)MANY * SEGMENTS * PIECE);
	kv_read(&kv, before, hbm_region_address(kv.region), (uint64_t)MANY * SEGMENTS * PIECE);
	assert_int_equal(hbm_store(kv.hbm, ns, blocks, MANY, results), 0);
	expect_results(0, MANY, HBM_OK);
	wipe_all();
	assert_int_equal(hbm_load(kv.hbm, ns, blocks, MANY, results), 0);
	expect_results(0, MANY, HBM_OK);
	kv_read(&kv, after, hbm_region_address(kv.region), (uint64_t)MANY * SEGMENTS * PIECE);
	assert_memory_equal(before, after, (size_t)MANY * SEGMENTS * PIECE);
	free(before);
	free(after);
	free(pieces);
}

/* ---- Fences ---- */

/* Who sees the fence sees all bytes, and how many of all blocks failed, without any call. */
static void test_the_fence_is_set_once_for_all(void **state)
{
	(void)state;
	hbm_ticket ticket;
	struct hbm_sync sync = {.ready_slot = HBM_WIRE_NO_FENCE,
				.fence_slot = FENCE,
				.fence_value = 1,
				.failed_slot = FAILED};

	store_all();
	for (uint64_t round = 1; round <= 2; round++) {
		wipe_all();
		sync.fence_value = round;
		*hbm_fence(kv.hbm, FAILED) = 99;
		assert_int_equal(
			hbm_submit_load(kv.hbm, kv.ns, blocks, COUNT, &sync, results, &ticket), 0);
		await_fence(round);
		assert_int_equal(*hbm_fence(kv.hbm, FAILED), 0);
		assert_int_equal(holding(), COUNT);
		assert_int_equal(hbm_wait(kv.hbm, ticket, -1), 0);
		expect_results(0, COUNT, HBM_OK);
	}

	/* Failures of all parts are added up. */
	for (size_t part = 0; part < 4; part++)
		blocks[part * PART + 5].key.bytes[15] ^= 0x55;
	sync.fence_value = 3;
	assert_int_equal(hbm_submit_load(kv.hbm, kv.ns, blocks, COUNT, &sync, results, &ticket), 0);
	await_fence(3);
	assert_int_equal(*hbm_fence(kv.hbm, FAILED), 4);
	assert_int_equal(hbm_wait(kv.hbm, ticket, -1), 0);
	assert_int_equal(results[2 * PART + 5].status, HBM_MISS);
}

static void test_no_part_begins_before_its_data_is_ready(void **state)
{
	(void)state;
	hbm_ticket ticket;
	struct hbm_lookup found;
	const struct hbm_sync sync = {.ready_slot = READY,
				      .ready_value = 10,
				      .fence_slot = FENCE,
				      .fence_value = 1,
				      .failed_slot = FAILED};

	assert_int_equal(hbm_submit_store(kv.hbm, kv.ns, blocks, COUNT, &sync, results, &ticket),
			 0);
	/* other requests of the connection do not wait for it */
	assert_int_equal(hbm_lookup(kv.hbm, kv.ns, &blocks[0].key, 1, &found, NULL), 0);
	assert_int_equal(found.resident, 0);
	put_all();
	assert_int_equal(*hbm_fence(kv.hbm, FENCE), 0);
	assert_int_equal(hbm_fence_signal(kv.hbm, READY, 10), 0);
	await_fence(1);
	assert_int_equal(*hbm_fence(kv.hbm, FAILED), 0);
	assert_int_equal(hbm_wait(kv.hbm, ticket, -1), 0);
	expect_results(0, COUNT, HBM_OK);
	wipe_all();
	assert_int_equal(hbm_load(kv.hbm, kv.ns, blocks, COUNT, results), 0);
	assert_int_equal(holding(), COUNT);
}

static void test_all_parts_are_cancelled_or_none(void **state)
{
	(void)state;
	hbm_ticket ticket;
	struct hbm_lookup found;
	struct hbm_sync sync = {.ready_slot = READY,
				.ready_value = 10,
				.fence_slot = FENCE,
				.fence_value = 1,
				.failed_slot = FAILED};

	for (uint64_t round = 1; round <= 3; round++) {
		sync.fence_value = round;
		assert_int_equal(
			hbm_submit_store(kv.hbm, kv.ns, blocks, COUNT, &sync, results, &ticket), 0);
		assert_int_equal(hbm_cancel(kv.hbm, ticket), 0);
		assert_int_equal(*hbm_fence(kv.hbm, FENCE), round);
		assert_int_equal(*hbm_fence(kv.hbm, FAILED), COUNT);
		assert_int_equal(hbm_wait(kv.hbm, ticket, 0), HBM_CANCELLED);
		expect_results(0, COUNT, HBM_CANCELLED);
		assert_int_equal(hbm_lookup(kv.hbm, kv.ns, &blocks[0].key, 1, &found, NULL), 0);
		assert_int_equal(found.resident, 0);
	}

	/* It has begun, or it is cancelled, in a race with the fence. */
	for (uint64_t round = 4; round <= 12; round++) {
		sync.fence_value = round;
		sync.ready_value = round;
		assert_int_equal(
			hbm_submit_store(kv.hbm, kv.ns, blocks, COUNT, &sync, results, &ticket), 0);
		assert_int_equal(hbm_fence_signal(kv.hbm, READY, round), 0);
		int rc = hbm_cancel(kv.hbm, ticket);
		int status = hbm_wait(kv.hbm, ticket, -1);
		assert_int_equal(status, rc == 0 ? HBM_CANCELLED : 0);
		assert_int_equal(*hbm_fence(kv.hbm, FAILED), rc == 0 ? COUNT : 0);
		assert_int_equal(
			hbm_keys(kv.hbm, HBM_WIRE_REMOVE, kv.ns, 0, &blocks[0].key, 1, results), 0);
		assert_int_equal(results[0].status, rc == 0 ? HBM_MISS : HBM_OK);
	}
}

/* ---- Refusals ---- */

static void test_a_part_that_is_refused(void **state)
{
	(void)state;
	hbm_ticket ticket;
	const struct hbm_sync sync = {.ready_slot = HBM_WIRE_NO_FENCE,
				      .fence_slot = FENCE,
				      .fence_value = 1,
				      .failed_slot = FAILED};
	const struct hbm_region_options options = {.address_space = 2 << 20, .slab = 2 << 20};
	struct hbm_region *empty;

	store_all();
	wipe_all();
	assert_int_equal(hbm_region_create(kv.hbm, &options, &empty), 0);
	segments[PART + 3].region = empty; /* nothing of it is committed */
	segments[PART + 3].offset = 0;
	assert_int_equal(hbm_submit_load(kv.hbm, kv.ns, blocks, COUNT, &sync, results, &ticket), 0);
	await_fence(1);
	assert_int_equal(*hbm_fence(kv.hbm, FAILED), PART);
	assert_int_equal(hbm_wait(kv.hbm, ticket, -1), HBM_NOT_FOUND);
	assert_non_null(strstr(hbm_error(kv.hbm), "not committed"));
	expect_results(0, PART, HBM_OK);
	expect_results(PART, 2 * PART, HBM_NOT_FOUND);
	expect_results(2 * PART, COUNT, HBM_OK);
	assert_int_equal(holding(), COUNT - PART);
	assert_int_equal(hbm_region_destroy(kv.hbm, empty), 0);
}

/* ---- A daemon that is killed ---- */

static int setup_keeper(void **state)
{
	static const char *const sets[] = {"nvme.path=", "nvme.size=0", NULL};

	stage_setup(state);
	keeper_start(&daemon_, sets, NULL);
	open_kv();
	return 0;
}

static int teardown_keeper(void **state)
{
	close_kv();
	spawn_wait_warm(&daemon_);
	assert_int_equal(spawn_stop(&daemon_), 0);
	return stage_teardown(state);
}

static void test_a_daemon_that_is_killed_in_the_middle(void **state)
{
	(void)state;
	struct seed seed;
	seed_open(&seed, "parts");
	struct hbm_sync sync = {
		.ready_slot = HBM_WIRE_NO_FENCE, .fence_slot = FENCE, .failed_slot = FAILED};

	for (uint64_t round = 1; round <= KILLS; round++) {
		hbm_ticket ticket;
		bool load = round % 2 == 0;

		load ? wipe_all() : put_all();
		sync.fence_value = round;
		assert_int_equal((load ? hbm_submit_load : hbm_submit_store)(
					 kv.hbm, kv.ns, blocks, COUNT, &sync, results, &ticket),
				 0);
		keeper_kill_within(&daemon_, &seed, 20000);
		assert_int_equal(hbm_wait(kv.hbm, ticket, -1), 0);
		assert_int_equal(*hbm_fence(kv.hbm, FENCE), round);

		uint64_t failed = 0, right = 0;
		for (size_t i = 0; i < COUNT; i++) {
			failed += results[i].status != HBM_OK && results[i].status != HBM_EXISTS;
			right += results[i].status == HBM_OK;
		}
		assert_true(!load || holding() >= right);
		/* what had set the fence before it was killed says it there */
		assert_true(*hbm_fence(kv.hbm, FAILED) <= failed);
	}
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_a_prompt_in_one_call),
		TEST(test_blocks_of_many_segments),
		TEST(test_the_fence_is_set_once_for_all),
		TEST(test_no_part_begins_before_its_data_is_ready),
		TEST(test_all_parts_are_cancelled_or_none),
		TEST(test_a_part_that_is_refused),
		cmocka_unit_test_setup_teardown(test_a_daemon_that_is_killed_in_the_middle,
						setup_keeper, teardown_keeper),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
