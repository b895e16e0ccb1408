/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stores from, and loads to, memory of a client that is in no region: more of it than the bounce
 * buffer has, from anywhere, and back; what was not loaded is not touched; an event loop; a block
 * larger than a slot; what is refused; and a daemon that is killed, with or without a next one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/keeper_rig.h"
#include "tests/support/kv.h"
#include "tests/support/stage.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

enum { SIZE = 100001, BLOCKS = 300, SEGMENTS = 2, GUARD = 0xa5 };

static const char *const sets[] = {"ddr.regions=64MiB", "device.cache=16MiB", "ddr.size=64MiB",
				   NULL};
static unsigned fds;
static struct hbm *hbm;
static uint32_t ns;
static unsigned char *memory; /* [BLOCKS][SIZE]: each block in two segments, the second one first */
static struct hbm_segment segments[BLOCKS][SEGMENTS];
static struct hbm_block blocks[BLOCKS];
static hbm_result results[BLOCKS];

static uint32_t open_namespace(uint64_t bytes)
{
	const struct hbm_namespace_options options = {.model = "engine", .block_bytes = bytes};
	uint32_t number;

	assert_int_equal(hbm_namespace_open(hbm, &options, &number), 0);

	return number;
}

static void begin(void)
{
	hbm = spawn_connect(&daemon_);
	ns = open_namespace(SIZE);
	memory = malloc((size_t)BLOCKS * SIZE);
	for (size_t i = 0; i < BLOCKS; i++) {
		unsigned char *at = memory + i * SIZE;
		uint64_t first = 1 + i * 101;

		segments[i][0] = (struct hbm_segment){NULL, HBM_ADDRESS(at + SIZE - first), first};
		segments[i][1] = (struct hbm_segment){NULL, HBM_ADDRESS(at), SIZE - first};
		blocks[i] = (struct hbm_block){.key = kv_key(1 + i),
					       .parent = i ? kv_key(i) : (hbm_key){{0}},
					       .segments = segments[i],
					       .segment_count = SEGMENTS};
	}
}

static int setup(void **state)
{
	stage_setup(state);
	spawn_start(&daemon_, sets, NULL);
	fds = spawn_fds(&daemon_);
	begin();

	return 0;
}

static int teardown(void **state)
{
	hbm = hbm_close(hbm);
	free(memory);
	if (daemon_.pid > 0)
		stage_finish(fds);

	return stage_teardown(state);
}

static unsigned char byte_of(size_t block, size_t i)
{
	return (unsigned char)((block * 131 + i * 7 + (i >> 8)) % 251);
}

static void fill_all(void)
{
	for (size_t b = 0; b < BLOCKS; b++)
		for (size_t i = 0; i < SIZE; i++)
			memory[b * SIZE + i] = byte_of(b, i);
}

static void wipe_all(void)
{
	memset(memory, GUARD, (size_t)BLOCKS * SIZE);
}

static bool holds(size_t block)
{
	for (size_t i = 0; i < SIZE; i++)
		if (memory[block * SIZE + i] != byte_of(block, i))
			return false;

	return true;
}

static bool is_untouched(size_t block)
{
	for (size_t i = 0; i < SIZE; i++)
		if (memory[block * SIZE + i] != GUARD)
			return false;

	return true;
}

static void expect_results(int status)
{
	for (size_t i = 0; i < BLOCKS; i++)
		if (results[i].status != status)
			fail_msg("result %zu is %d", i, results[i].status);
}

static void store_all(void)
{
	fill_all();
	if (hbm_store_from(hbm, ns, blocks, BLOCKS, results) != 0)
		fail_msg("%s", hbm_error(hbm));
	expect_results(HBM_OK);
}

/* ---- Bytes ---- */

static void test_there_and_back(void **state)
{
	(void)state;

	store_all();
	wipe_all();
	assert_int_equal(hbm_load_to(hbm, ns, blocks, BLOCKS, results), 0);
	expect_results(HBM_OK);
	for (size_t i = 0; i < BLOCKS; i++)
		assert_true(holds(i));

	assert_int_equal(hbm_store_from(hbm, ns, blocks, BLOCKS, results), 0);
	expect_results(HBM_EXISTS);
	assert_int_equal(hbm_load_to(hbm, ns, blocks, 1, NULL), 0);
	assert_true(spawn_balanced(&daemon_));
}

static void test_what_is_not_loaded_is_not_touched(void **state)
{
	(void)state;

	store_all();
	wipe_all();
	for (size_t i = 0; i < BLOCKS; i += 3)
		blocks[i].key.bytes[15] ^= 0x55;
	assert_int_equal(hbm_load_to(hbm, ns, blocks, BLOCKS, results), 0);
	for (size_t i = 0; i < BLOCKS; i++) {
		assert_int_equal(results[i].status, i % 3 ? HBM_OK : HBM_MISS);
		assert_true(i % 3 ? holds(i) : is_untouched(i));
	}

	/* Nor of a call that is refused. */
	wipe_all();
	assert_int_equal(hbm_load_to(hbm, ns + 1, blocks, BLOCKS, results), HBM_NOT_FOUND);
	expect_results(HBM_NOT_FOUND);
	for (size_t i = 0; i < BLOCKS; i++)
		assert_true(is_untouched(i));
}

/* Through the descriptor, with another call beside it. */
static void test_in_an_event_loop(void **state)
{
	(void)state;
	hbm_ticket tickets[2];
	hbm_result half[BLOCKS / 2];
	int ended = 0, status[2] = {-EAGAIN, -EAGAIN};

	fill_all();
	assert_int_equal(hbm_submit_store_from(hbm, ns, blocks, BLOCKS, results, &tickets[0]), 0);
	assert_int_equal(hbm_submit_load_to(hbm, ns, blocks, BLOCKS / 2, half, &tickets[1]), 0);
	while (status[0] == -EAGAIN || status[1] == -EAGAIN) {
		struct pollfd fd = {.fd = hbm_fd(hbm), .events = POLLIN};
		int rc = hbm_dispatch(hbm, 0);

		assert_true(rc >= 0);
		ended += rc;
		for (int i = 0; i < 2; i++)
			if (status[i] == -EAGAIN)
				status[i] = hbm_poll(hbm, tickets[i]);
		if (status[0] == -EAGAIN || status[1] == -EAGAIN)
			assert_int_equal(poll(&fd, 1, 20000), 1);
	}

	assert_int_equal(ended, 2);
	assert_int_equal(status[0], 0);
	assert_int_equal(status[1], 0);
	expect_results(HBM_OK);
	for (size_t i = 0; i < BLOCKS / 2; i++)
		assert_true(half[i].status == HBM_OK || half[i].status == HBM_MISS);
}

/* The slots become larger when what is under way has landed. */
static void test_a_block_larger_than_a_slot(void **state)
{
	(void)state;
	enum { LARGE = (5 << 20) + 1 };
	unsigned char *large = malloc(LARGE), *back = malloc(LARGE);
	const struct hbm_segment from = {NULL, HBM_ADDRESS(large), LARGE},
				 to = {NULL, HBM_ADDRESS(back), LARGE};
	struct hbm_block block = {.key = kv_key(1), .segments = &from, .segment_count = 1};
	uint32_t wide = open_namespace(LARGE);
	hbm_ticket small, ticket;
	hbm_result result;

	for (size_t i = 0; i < LARGE; i++)
		large[i] = byte_of(3, i);
	fill_all();
	assert_int_equal(hbm_submit_store_from(hbm, ns, blocks, BLOCKS, results, &small), 0);
	assert_int_equal(hbm_submit_store_from(hbm, wide, &block, 1, &result, &ticket), 0);
	assert_int_equal(hbm_wait(hbm, small, -1), 0);
	expect_results(HBM_OK);
	assert_int_equal(hbm_wait(hbm, ticket, -1), 0);
	assert_int_equal(result.status, HBM_OK);
	block.segments = &to;
	assert_int_equal(hbm_load_to(hbm, wide, &block, 1, &result), 0);
	assert_int_equal(result.status, HBM_OK);
	assert_memory_equal(large, back, LARGE);
	free(large);
	free(back);
}

/* ---- Refusals ---- */

static void test_what_is_refused_before_anything_is_sent(void **state)
{
	(void)state;
	const struct hbm_segment good = blocks[0].segments[0];
	const struct hbm_segment bad[] = {{(struct hbm_region *)(uintptr_t)8, good.offset, SIZE},
					  {NULL, 0, SIZE},
					  {NULL, good.offset, 0},
					  {NULL, UINT64_MAX - 5, SIZE}};
	struct hbm_block block = blocks[0];

	block.segment_count = 1;
	for (size_t i = 0; i < 4; i++) {
		block.segments = &bad[i];
		assert_int_equal(hbm_store_from(hbm, ns, &block, 1, results), HBM_INVALID);
	}

	assert_int_equal(hbm_store_from(hbm, ns, blocks, 0, results), HBM_INVALID);
	blocks[5].segments = &good;
	blocks[5].segment_count = 1;
	assert_int_equal(hbm_load_to(hbm, ns, blocks, BLOCKS, results), HBM_INVALID);
	blocks[5].key = (hbm_key){{0}};
	assert_int_equal(hbm_load_to(hbm, ns, blocks, BLOCKS, results), HBM_INVALID);

	/* Of a region's memory the other calls are for: here it would be an address. */
	assert_int_equal(hbm_store(hbm, ns, blocks, 1, results), HBM_INVALID);
	assert_int_equal(hbm_dispatch(hbm, 0), 0);
}

static void test_a_daemon_without_host_memory(void **state)
{
	stage_setup(state);
	spawn_start(&daemon_, NULL, NULL);
	fds = spawn_fds(&daemon_);
	begin();
	assert_int_equal(hbm_store_from(hbm, ns, blocks, BLOCKS, results), HBM_UNSUPPORTED);
	assert_non_null(strstr(hbm_error(hbm), "ddr.regions"));
	teardown(state);
}

/* ---- The end ---- */

static void test_closed_on_the_way(void **state)
{
	(void)state;
	hbm_ticket ticket;

	fill_all();
	assert_int_equal(hbm_submit_store_from(hbm, ns, blocks, BLOCKS, results, &ticket), 0);
}

static void test_a_daemon_that_is_gone(void **state)
{
	(void)state;
	hbm_ticket tickets[2];

	fill_all();
	assert_int_equal(hbm_submit_store_from(hbm, ns, blocks, BLOCKS, results, &tickets[0]), 0);
	assert_int_equal(hbm_submit_load_to(hbm, ns, blocks, BLOCKS, NULL, &tickets[1]), 0);
	spawn_kill(&daemon_);
	assert_int_equal(hbm_wait(hbm, tickets[0], -1), -ENOTCONN);
	assert_int_equal(results[BLOCKS - 1].status, HBM_SHUTDOWN);
	assert_int_equal(hbm_poll(hbm, tickets[1]), -ENOTCONN);
	assert_int_equal(hbm_store_from(hbm, ns, blocks, BLOCKS, results), -ENOTCONN);
}

/* The bounce buffer stays this process's, and the calls go on with the next daemon. */
static void test_a_daemon_that_is_killed(void **state)
{
	enum { ROUNDS = 4 };
	struct seed seed;

	stage_setup(state);
	keeper_start(&daemon_, sets, NULL);
	begin();
	seed_open(&seed, "indirect");
	for (int round = 0; round < ROUNDS; round++) {
		hbm_ticket ticket;
		bool load = round % 2;

		load ? wipe_all() : fill_all();
		assert_int_equal((load ? hbm_submit_load_to : hbm_submit_store_from)(
					 hbm, ns, blocks, BLOCKS, results, &ticket),
				 0);
		keeper_kill_within(&daemon_, &seed, 20000);
		if (hbm_wait(hbm, ticket, -1) != 0)
			fail_msg("%s", hbm_error(hbm));
		for (size_t i = 0; load && i < BLOCKS; i++)
			assert_true(results[i].status == HBM_OK ? holds(i) : is_untouched(i));
	}
	hbm = hbm_close(hbm);
	free(memory);
	spawn_wait_warm(&daemon_);
	assert_int_equal(spawn_stop(&daemon_), 0);
	stage_teardown(state);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_there_and_back),
		TEST(test_what_is_not_loaded_is_not_touched),
		TEST(test_in_an_event_loop),
		TEST(test_a_block_larger_than_a_slot),
		TEST(test_what_is_refused_before_anything_is_sent),
		cmocka_unit_test(test_a_daemon_without_host_memory),
		TEST(test_closed_on_the_way),
		TEST(test_a_daemon_that_is_gone),
		cmocka_unit_test(test_a_daemon_that_is_killed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
