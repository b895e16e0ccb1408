/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Events of blocks, end to end: a client that asks now and then knows which blocks are where, as
 * the index says; others with other namespaces hear nothing of them; and too many are refused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/kv_stage.h"

#include <string.h>

#define BLOCKS 300u /* more than all tiers hold, and than a reply has */

static struct hbm_wire_cache_event events[HBM_WIRE_WATCH_MAX];
static size_t count;
static uint64_t missed, position;

static int watch(size_t room)
{
	return hbm_watch(kv.hbm, kv.ns, &position, events, room, &count, &missed);
}

static void begin(void)
{
	position = 0;
	assert_int_equal(watch(HBM_WIRE_WATCH_MAX), 0);
	assert_int_equal(count, 0);
	assert_int_equal(missed, 0);
}

static bool is_key(const struct hbm_wire_cache_event *event, uint64_t block)
{
	const hbm_key key = kv_key(block);

	return memcmp(&event->key, &key, sizeof(key)) == 0;
}

/* The next event, and no more. */
static void expect_one(uint64_t block, unsigned event, unsigned from, unsigned to)
{
	assert_int_equal(watch(1), 0);
	assert_int_equal(count, 1);
	assert_int_equal(missed, 0);
	assert_true(is_key(&events[0], block));
	assert_int_equal(events[0].event, event);
	assert_int_equal(events[0].from, from);
	assert_int_equal(events[0].to, to);
}

static void test_one_block(void **state)
{
	(void)state;
	begin();
	assert_int_equal(watch(1), 0);
	assert_int_equal(count, 0);

	kv_stage_store(1, 1, 0);
	expect_one(1, HBM_CACHE_STORED, HBM_TIER_NONE, HBM_TIER_HBM);
	assert_int_equal(hbm_evict(kv.hbm, HBM_TIER_HBM, 0, UINT64_MAX, NULL), 0);
	kv_await_moves(&kv);
	expect_one(1, HBM_CACHE_MOVED, HBM_TIER_HBM, HBM_TIER_DDR);
	kv_stage_keys(HBM_WIRE_REMOVE, 1, 1, HBM_OK);
	expect_one(1, HBM_CACHE_DROPPED, HBM_TIER_DDR, HBM_TIER_NONE);
	assert_int_equal(watch(1), 0);
	assert_int_equal(count, 0);
}

/* Where each block is, of what was heard alone. */
static void follow(unsigned places[BLOCKS + 1])
{
	do {
		assert_int_equal(watch(HBM_WIRE_WATCH_MAX), 0);
		assert_int_equal(missed, 0);
		for (size_t i = 0; i < count; i++)
			for (uint64_t block = 1; block <= BLOCKS; block++)
				if (is_key(&events[i], block)) {
					assert_int_equal(events[i].from, places[block]);
					places[block] = events[i].to;
				}
	} while (count > 0);
}

static void test_a_copy_of_the_index(void **state)
{
	(void)state;
	unsigned places[BLOCKS + 1] = {HBM_TIER_NONE};

	begin();
	for (uint64_t first = 1; first <= BLOCKS; first += 50) {
		kv_stage_store(first, 50, 0);
		follow(places);
	}
	kv_stage_load(BLOCKS - 9, 10);
	kv_await_moves(&kv);
	follow(places);
	for (uint64_t block = 1; block <= BLOCKS; block++)
		assert_int_equal(places[block], kv_tier(&kv, block));
}

/* A client that comes late is told how much it does not know. */
static void test_what_was_missed(void **state)
{
	(void)state;
	begin();
	for (unsigned i = 0; i < 1100; i++) {
		kv_stage_store(1, 1, 0);
		kv_stage_keys(HBM_WIRE_REMOVE, 1, 1, HBM_OK);
	}
	assert_int_equal(watch(HBM_WIRE_WATCH_MAX), 0);
	assert_int_equal(missed, 2 * 1100 - 2048);
	assert_int_equal(count, HBM_WIRE_WATCH_MAX);
	assert_int_equal(watch(HBM_WIRE_WATCH_MAX), 0);
	assert_int_equal(missed, 0);
}

static void test_of_one_namespace(void **state)
{
	(void)state;
	const struct hbm_namespace_options other = {
		.model = "other", .layout = "l", .block_bytes = KV_STAGE_BLOCK};
	const uint32_t ns = kv.ns;

	assert_int_equal(hbm_namespace_open(kv.hbm, &other, &kv.ns), 0);
	begin();
	uint64_t of_other = position;
	kv.ns = ns;
	begin();
	kv_stage_store(1, 2, 0);
	assert_int_equal(watch(HBM_WIRE_WATCH_MAX), 0);
	assert_int_equal(count, 2);

	hbm_namespace_open(kv.hbm, &other, &kv.ns);
	position = of_other;
	assert_int_equal(watch(HBM_WIRE_WATCH_MAX), 0);
	assert_int_equal(count, 0);
	kv.ns = ns;
}

static void test_refusals(void **state)
{
	(void)state;
	const uint32_t ns = kv.ns;

	position = 0;
	assert_int_equal(watch(0), HBM_INVALID);
	kv.ns = 999;
	assert_int_equal(watch(1), HBM_NOT_FOUND);
	kv.ns = ns;
	begin();
	position += 5;
	assert_int_equal(watch(1), HBM_INVALID);
	assert_non_null(strstr(hbm_error(kv.hbm), "there is no event"));

	/* As many as there may be; they go with the client, for nothing was stored. */
	for (unsigned i = 0; i < 64; i++) {
		struct hbm_namespace_options many = {
			.model = "many", .layout = "l", .weights = i + 1, .block_bytes = 4096};

		if (i == 63)
			many.block_bytes *= 2;
		assert_int_equal(hbm_namespace_open(kv.hbm, &many, &kv.ns), i < 63 ? 0 : HBM_LIMIT);
		position = 0;
		if (i < 63)
			assert_int_equal(watch(1), 0);
	}
	kv.ns = ns;
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, kv_stage_setup, kv_stage_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_one_block),       TEST(test_a_copy_of_the_index),
		TEST(test_what_was_missed), TEST(test_of_one_namespace),
		TEST(test_refusals),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
