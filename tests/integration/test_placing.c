/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocks that their client places: stored to a tier of its choice, pinned from the moment they
 * are there, moved to another tier, and gone with the last session that has their namespace
 * open if that is ephemeral. What a suspended sequence is made of.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/child.h"
#include "tests/support/kv_stage.h"

#include <signal.h>
#include <unistd.h>

#define SOME 8

/* Stores slots as roots of a namespace, to a tier, pinned or not. */
static int store_to(struct kv *client, uint32_t ns, enum hbm_tier tier, bool pin, uint64_t first,
		    uint64_t count)
{
	struct hbm_block blocks[KV_STAGE_TIER];
	struct hbm_segment segments[KV_STAGE_TIER];

	for (uint64_t i = 0; i < count; i++)
		kv_put(client, i, first + i);
	kv_blocks(client, 0, first, count, 0, blocks, segments);
	for (uint64_t i = 0; i < count; i++) {
		blocks[i].parent = (hbm_key){0};
		blocks[i].tier = tier;
		blocks[i].pin = pin;
	}

	return hbm_store(client->hbm, ns, blocks, count, results);
}

static void expect_tier(uint64_t first, uint64_t count, int tier)
{
	for (uint64_t i = 0; i < count; i++)
		assert_int_equal(kv_tier(&kv, first + i), tier);
}

static int move_to(enum hbm_tier tier, uint64_t first, uint64_t count)
{
	hbm_key keys[KV_STAGE_TIER];

	for (uint64_t i = 0; i < count; i++)
		keys[i] = kv_key(first + i);
	return hbm_move(kv.hbm, kv.ns, tier, 0, keys, count, results);
}

static void test_a_store_goes_to_the_tier_it_names(void **state)
{
	(void)state;
	static const enum hbm_tier tiers[] = {HBM_TIER_NVME, HBM_TIER_DDR, HBM_TIER_HBM};

	for (uint64_t i = 0; i < 3; i++) {
		assert_int_equal(store_to(&kv, kv.ns, tiers[i], false, 1 + SOME * i, SOME), 0);
		kv_stage_expect(SOME, HBM_OK);
		assert_int_equal(results[0].tier, tiers[i]);
	}

	for (uint64_t i = 0; i < 3; i++)
		expect_tier(1 + SOME * i, SOME, tiers[i]);
	assert_true(spawn_balanced(&daemon_));
	kv_stage_load(1, SOME); /* a use, as any other: up they go */
	expect_tier(1, SOME, HBM_TIER_HBM);
}

/* More than a tier can take: what is there already makes way, as for any block. */
static void test_a_tier_that_is_full_makes_room(void **state)
{
	(void)state;
	kv_stage_press(1000);
	assert_int_equal(store_to(&kv, kv.ns, HBM_TIER_DDR, false, 1, SOME), 0);
	kv_stage_expect(SOME, HBM_OK);
	expect_tier(1, SOME, HBM_TIER_DDR);
	assert_true(spawn_balanced(&daemon_));
	kv_stage_load(1, SOME);
}

static void test_what_is_pinned_as_it_is_stored_stays(void **state)
{
	(void)state;
	assert_int_equal(store_to(&kv, kv.ns, HBM_TIER_DDR, true, 1, SOME), 0);
	kv_stage_expect(SOME, HBM_OK);
	for (uint64_t round = 1; round <= 3; round++)
		kv_stage_press(1000 * round);
	expect_tier(1, SOME, HBM_TIER_DDR);
	kv_stage_keys(HBM_WIRE_REMOVE, 1, SOME, HBM_DENIED);
	kv_stage_load(1, SOME);
	expect_tier(1, SOME, HBM_TIER_DDR); /* no use moves it */
	kv_stage_keys(HBM_WIRE_UNPIN, 1, SOME, HBM_OK);
	kv_stage_keys(HBM_WIRE_UNPIN, 1, SOME, HBM_NOT_FOUND);
	assert_true(spawn_balanced(&daemon_));
	kv_stage_press(5000);
	kv_stage_press(6000);
	kv_stage_keys(HBM_WIRE_PIN, 1, SOME, HBM_MISS);
}

/* Half of a tier is allowed: the rest is not stored at all. */
static void test_what_cannot_be_pinned_is_not_stored(void **state)
{
	(void)state;
	const uint64_t half = KV_STAGE_TIER / 2;

	assert_int_equal(store_to(&kv, kv.ns, HBM_TIER_DDR, true, 1, half), 0);
	kv_stage_expect(half, HBM_OK);
	assert_int_equal(store_to(&kv, kv.ns, HBM_TIER_DDR, true, 101, SOME), 0);
	kv_stage_expect(SOME, HBM_LIMIT);
	assert_int_equal(kv_lookup(&kv, 101, SOME, NULL), 0);
	assert_true(spawn_balanced(&daemon_));
	kv_stage_keys(HBM_WIRE_UNPIN, 1, half, HBM_OK);
	assert_int_equal(store_to(&kv, kv.ns, HBM_TIER_DDR, true, 101, SOME), 0);
	kv_stage_expect(SOME, HBM_OK);
}

static void test_move_down_and_up(void **state)
{
	(void)state;
	kv_stage_store(1, SOME, 0);
	assert_int_equal(move_to(HBM_TIER_NVME, 1, SOME), 0);
	kv_stage_expect(SOME, HBM_OK);
	assert_int_equal(results[0].tier, HBM_TIER_NVME);
	expect_tier(1, SOME, HBM_TIER_NVME);
	kv_await_moves(&kv);
	assert_true(spawn_balanced(&daemon_));
	assert_int_equal(move_to(HBM_TIER_DDR, 1, SOME), 0);
	expect_tier(1, SOME, HBM_TIER_DDR);
	kv_await_moves(&kv);
	assert_int_equal(move_to(HBM_TIER_DDR, 1, SOME), 0);
	kv_stage_expect(SOME, HBM_OK);
	assert_int_equal(move_to(HBM_TIER_HBM, 1, SOME), 0);
	expect_tier(1, SOME, HBM_TIER_HBM);
	kv_stage_load(1, SOME);
	assert_int_equal(move_to(HBM_TIER_DDR, 901, 1), 0);
	kv_stage_expect(1, HBM_MISS);
	assert_true(spawn_balanced(&daemon_));
}

/* They are pinned there too, and count there. */
static void test_pinned_blocks_move(void **state)
{
	(void)state;
	const uint64_t half = KV_STAGE_TIER / 2;

	assert_int_equal(store_to(&kv, kv.ns, HBM_TIER_DDR, true, 1, half), 0);
	kv_stage_expect(half, HBM_OK);
	assert_int_equal(move_to(HBM_TIER_NVME, 1, half), 0);
	kv_stage_expect(half, HBM_OK);
	assert_int_equal(store_to(&kv, kv.ns, HBM_TIER_DDR, true, 101, half), 0);
	kv_stage_expect(half, HBM_OK);
	assert_int_equal(move_to(HBM_TIER_DDR, 1, SOME), 0);
	kv_stage_expect(SOME, HBM_LIMIT); /* as much is pinned there as may be */
	expect_tier(1, half, HBM_TIER_NVME);
	for (uint64_t round = 1; round <= 3; round++)
		kv_stage_press(1000 * round);
	kv_await_moves(&kv);
	assert_true(spawn_balanced(&daemon_));
	kv_stage_load(1, half);
	kv_stage_load(101, half);
	kv_stage_keys(HBM_WIRE_UNPIN, 101, half, HBM_OK);
	assert_int_equal(move_to(HBM_TIER_DDR, 1, half), 0);
	kv_stage_expect(half, HBM_OK);
	kv_stage_load(1, half);
	kv_stage_keys(HBM_WIRE_UNPIN, 1, half, HBM_OK);
	assert_true(spawn_balanced(&daemon_));
}

static void test_what_is_refused(void **state)
{
	(void)state;
	const hbm_key key = kv_key(1);
	struct hbm_block block;
	struct hbm_segment segment;

	kv_stage_store(1, 1, 0);
	assert_int_equal(hbm_move(kv.hbm, kv.ns, HBM_TIER_NONE, 0, &key, 1, results), HBM_INVALID);
	assert_int_equal(hbm_move(kv.hbm, kv.ns, HBM_TIERS, 0, &key, 1, results), HBM_INVALID);
	assert_int_equal(hbm_move(kv.hbm, kv.ns, HBM_TIER_DDR, 1, &key, 1, results), HBM_INVALID);
	assert_int_equal(hbm_move(kv.hbm, kv.ns, HBM_TIER_HBM, 99, &key, 1, results), HBM_INVALID);
	assert_int_equal(hbm_move(kv.hbm, kv.ns + 99, HBM_TIER_DDR, 0, &key, 1, results),
			 HBM_NOT_FOUND);

	kv_blocks(&kv, 0, 2, 1, 1, &block, &segment);
	block.pin = true;
	assert_int_equal(hbm_store(kv.hbm, kv.ns, &block, 1, results), HBM_UNSUPPORTED);
	block.pin = false;
	block.tier = HBM_TIERS;
	assert_int_equal(hbm_store(kv.hbm, kv.ns, &block, 1, results), HBM_INVALID);
	assert_int_equal(kv_lookup(&kv, 1, 2, NULL), 1);
}

/* ---- ephemeral namespaces ---- */

static uint32_t open_ephemeral(struct hbm *hbm)
{
	const struct hbm_namespace_options options = {.model = "parked",
						      .salt = "of one session",
						      .block_bytes = KV_STAGE_BLOCK,
						      .ephemeral = true};
	uint32_t ns = 0;

	assert_int_equal(hbm_namespace_open(hbm, &options, &ns), 0);
	return ns;
}

static uint64_t blocks_there(void)
{
	return kv_stage_blocks(kv.hbm).blocks;
}

static void await_blocks(uint64_t count)
{
	while (blocks_there() != count)
		usleep(1000);
}

static void test_an_ephemeral_namespace_goes_with_its_last_open(void **state)
{
	(void)state;
	struct kv other;

	kv_open(&other, &daemon_, 0, KV_STAGE_BLOCK, SOME);
	uint32_t ns = open_ephemeral(kv.hbm);
	assert_int_equal(open_ephemeral(other.hbm), ns);
	kv_stage_store(1, 2, 0);
	assert_int_equal(store_to(&kv, ns, HBM_TIER_DDR, true, 1, SOME), 0);
	kv_stage_expect(SOME, HBM_OK);
	assert_int_equal(store_to(&other, ns, HBM_TIER_NVME, true, 101, SOME), 0);
	kv_stage_expect(SOME, HBM_OK);
	assert_int_equal(blocks_there(), 2 + 2 * SOME);

	assert_int_equal(hbm_namespace_close(kv.hbm, ns), 0);
	assert_int_equal(blocks_there(), 2 + 2 * SOME); /* the other has it open */
	kv_close(&other);
	await_blocks(2);
	kv_stage_load(1, 2);

	ns = open_ephemeral(kv.hbm); /* a new one, and empty */
	assert_int_equal(store_to(&kv, ns, HBM_TIER_DDR, true, 1, SOME), 0);
	kv_stage_expect(SOME, HBM_OK);
	assert_int_equal(hbm_namespace_close(kv.hbm, ns), 0);
	await_blocks(2);
	kv_await_moves(&kv);
	assert_true(spawn_balanced(&daemon_));
}

/* The daemon stops while it is open: nothing is left of it. */
static void test_an_ephemeral_namespace_at_the_end(void **state)
{
	(void)state;
	uint32_t ns = open_ephemeral(kv.hbm);

	assert_int_equal(store_to(&kv, ns, HBM_TIER_DDR, true, 1, SOME), 0);
	kv_stage_expect(SOME, HBM_OK);
}

static void park(const struct spawn *spawn, uint64_t count)
{
	struct kv client;

	kv_open(&client, spawn, 0, KV_STAGE_BLOCK, count);
	uint32_t ns = open_ephemeral(client.hbm);
	assert_int_equal(store_to(&client, ns, HBM_TIER_NVME, true, 1, count), 0);
	kv_stage_expect(count, HBM_OK);
	child_tell();
	pause();
}

static const struct child_part parts[] = {{"park", park}, {NULL, NULL}};

static void test_what_a_killed_client_had_parked_goes(void **state)
{
	(void)state;
	struct child child;

	child_start(&child, "park", &daemon_, KV_STAGE_TIER / 2);
	child_await(&child);
	assert_int_equal(blocks_there(), KV_STAGE_TIER / 2);
	assert_int_equal(child_kill(&child), 128 + SIGKILL);
	await_blocks(0);
	kv_await_moves(&kv);
	assert_true(spawn_balanced(&daemon_));
}

int main(int argc, char **argv)
{
	child_main(argc, argv, parts);
#define TEST(name) cmocka_unit_test_setup_teardown(name, kv_stage_setup, kv_stage_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_a_store_goes_to_the_tier_it_names),
		TEST(test_a_tier_that_is_full_makes_room),
		TEST(test_what_is_pinned_as_it_is_stored_stays),
		TEST(test_what_cannot_be_pinned_is_not_stored),
		TEST(test_move_down_and_up),
		TEST(test_pinned_blocks_move),
		TEST(test_what_is_refused),
		TEST(test_an_ephemeral_namespace_goes_with_its_last_open),
		TEST(test_an_ephemeral_namespace_at_the_end),
		TEST(test_what_a_killed_client_had_parked_goes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
