/* SPDX-License-Identifier: Apache-2.0 */
/* Blocks of a daemon before: which come back, with what, where in tree and order, whatever the
 * way in which their memory comes into service; and that nothing else is left of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/cache/block_restore.h"
#include "tests/support/block_lives.h"

enum { SIZE = BLOCK_LIVES_SIZE, UNITS = 120, KEYS = 60, RUNS = 300, STEPS = 200 };

static int setup(void **state)
{
	(void)state;
	block_lives_begin("test_block_restore", &(struct block_lives_memory){.ddr_units = UNITS});

	return 0;
}

static int teardown(void **state)
{
	(void)state;
	block_lives_end();

	return 0;
}

static void die(uint64_t units)
{
	block_lives_kill(&(struct block_lives_memory){.ddr_units = units});
}

static struct block_restore_figures restore_all(uint32_t step)
{
	block_restore_grown_all(block_lives.restore, block_lives_ddr());
	block_restore_in_service(block_lives.restore);
	while (block_restore_some(block_lives.restore, step))
		;
	cache_settle(block_lives.rig.cache);

	struct block_restore_figures figures =
		block_restore_figures(block_lives.restore, HBM_TIER_DDR);

	assert_int_equal(figures.left, 0);
	assert_int_equal(block_lives_ddr()->moving, 0);
	assert_int_equal(state_count(block_lives.state, STATE_BLOCKS),
			 index_count(block_lives.rig.cache->index));
	assert_null(extent_check(block_lives_ddr()->extents));
	namespaces_release_restored(block_lives.rig.cache->namespaces);

	return figures;
}

static struct block_restore_figures grow_and_restore(void)
{
	assert_int_equal(tier_grow(block_lives_ddr(), 0, block_lives_ddr()->capacity), 0);
	return restore_all(UINT32_MAX);
}

/* A block of DDR. */
static uint32_t store(uint32_t key, uint32_t parent, uint64_t checksum)
{
	return block_lives_store(block_lives_ddr(), key, parent, checksum);
}

static const struct block *block_of(uint32_t key)
{
	assert_int_not_equal(block_lives_find(key), 0);
	return cache_block(block_lives.rig.cache, block_lives_find(key));
}

static void test_a_block_is_as_it_was(void **state)
{
	(void)state;
	struct block before[3];
	uint32_t root = store(1, 0, 11), late = store(2, root, 0);

	(void)store(3, late, 33);
	assert_true(block_settle_checksum(&block_lives.rig.cache->blocks, late, 22));
	for (uint32_t key = 1; key <= 3; key++)
		before[key - 1] = *block_of(key);

	die(UNITS);
	assert_int_equal(block_lives_find(1), 0);
	assert_int_equal(grow_and_restore().restored, 3);
	for (uint32_t key = 1; key <= 3; key++) {
		const struct block *block = block_of(key), *was = &before[key - 1];

		assert_int_equal(block->unit, was->unit);
		assert_int_equal(block->stored_units, was->stored_units);
		assert_int_equal(block->checksum, 11 * key);
		assert_int_equal(block->checksummed, 1);
		assert_int_equal(block->unverified, 1);
		assert_int_equal(block->actual, block_lives_ddr()->number);
		assert_int_equal(block->target, block_lives_ddr()->number);
		assert_int_equal(block->parent, key == 1 ? 0 : block_lives_find(key - 1));
	}
	assert_int_equal(block_lives_ddr()->placed, 3 * SIZE * UNIT);

	/* and once more: the records are those of before */
	die(UNITS);
	assert_int_equal(grow_and_restore().restored, 3);
}

static void test_what_is_gone_stays_gone(void **state)
{
	(void)state;
	struct cache *cache = block_lives.rig.cache;
	uint32_t left = store(1, 0, 1), reader = store(2, 0, 2);

	(void)store(3, 0, 3);
	cache_drop(cache, left);
	block_use(&cache->blocks, reader); /* its extent is in use still */
	cache_drop(cache, reader);
	assert_int_equal(state_count(block_lives.state, STATE_BLOCKS), 1);
	block_unuse(&cache->blocks, reader);

	die(UNITS);
	assert_int_equal(grow_and_restore().restored, 1);
	assert_int_equal(block_lives_find(1) + block_lives_find(2), 0);
	assert_int_not_equal(block_lives_find(3), 0);
}

static void test_without_a_checksum_it_is_let_go(void **state)
{
	(void)state;
	(void)store(1, 0, 0);
	(void)store(2, 0, 2);
	die(UNITS);

	struct block_restore_figures figures = grow_and_restore();

	assert_int_equal(figures.unsummed, 1);
	assert_int_equal(figures.restored, 1);
	assert_int_equal(block_lives_find(1), 0);
	assert_int_equal(extent_available(block_lives_ddr()->extents), (UNITS - SIZE) * UNIT);
}

/* An extent that comes into service bit by bit is one all the same, and no one gets its beginning
 * meanwhile. */
static void test_memory_comes_bit_by_bit(void **state)
{
	(void)state;
	uint32_t root = store(0, 0, 1);
	for (uint32_t key = 1; key < 6; key++)
		root = store(key, root, key + 1);
	die(UNITS);

	/* the end of the third and the beginning of the fourth; then half of the second */
	assert_int_equal(tier_grow(block_lives_ddr(), 8 * UNIT, 2 * UNIT), 0);
	assert_int_equal(tier_grow(block_lives_ddr(), 0, 4 * UNIT), 0);
	assert_false(block_restore_some(block_lives.restore, 100));
	assert_int_not_equal(block_lives_find(0), 0);
	assert_int_equal(block_lives_find(1), 0);
	assert_int_equal(tier_alloc(block_lives_ddr(), UNIT), UINT32_MAX);

	assert_int_equal(tier_grow(block_lives_ddr(), 4 * UNIT, 4 * UNIT), 0);
	assert_false(block_restore_some(block_lives.restore, 100));
	assert_int_not_equal(block_lives_find(1), 0);
	assert_int_not_equal(block_lives_find(2), 0);
	assert_int_equal(block_lives_find(3), 0);
	assert_int_equal(tier_grow(block_lives_ddr(), 10 * UNIT, (UNITS - 10) * UNIT), 0);
	assert_int_equal(restore_all(1).restored, 6);
}

static void test_a_child_waits_for_its_parent(void **state)
{
	(void)state;
	uint32_t root = store(1, 0, 1), other = store(2, 0, 2);

	cache_drop(block_lives.rig.cache, other);
	uint32_t child = store(3, root, 3);

	cache_drop(block_lives.rig.cache, root);
	root = store(1, 0, 1); /* at the first units again; its child has gone with it */
	assert_int_equal(block_get(&block_lives.rig.cache->blocks, root)->unit, 0);
	for (uint32_t i = 0; i < 5; i++)
		child = store(10 + i, i == 0 ? root : child, 10 + i);
	die(UNITS);

	assert_int_equal(tier_grow(block_lives_ddr(), SIZE * UNIT, 30 * UNIT), 0);
	assert_false(block_restore_some(block_lives.restore, 100));
	assert_int_equal(index_count(block_lives.rig.cache->index), 0);
	assert_int_equal(tier_grow(block_lives_ddr(), 0, SIZE * UNIT), 0);
	assert_false(block_restore_some(block_lives.restore, 100));
	assert_int_equal(index_count(block_lives.rig.cache->index), 6);
	assert_int_equal(block_of(10)->parent, block_lives_find(1));
	assert_int_equal(restore_all(1).refused, 0);
}

/* Memory that never comes: a smaller tier, or a device that refuses to register it. */
static void test_what_has_no_memory_is_let_go(void **state)
{
	(void)state;
	for (uint32_t key = 0; key < 6; key++)
		(void)store(key, 0, key + 1);
	die(4 * SIZE + 1);

	assert_int_equal(block_restore_figures(block_lives.restore, HBM_TIER_DDR).refused, 2);
	assert_int_equal(tier_grow(block_lives_ddr(), 4 * UNIT, 9 * UNIT),
			 0); /* the first 4 units never come */

	struct block_restore_figures figures = restore_all(2);

	assert_int_equal(figures.restored, 2);
	assert_int_equal(figures.refused, 4);
	assert_int_equal(block_lives_find(0) + block_lives_find(1), 0);
	assert_int_equal(extent_available(block_lives_ddr()->extents), 3 * UNIT);
}

static void test_who_was_stored_again_wins(void **state)
{
	(void)state;
	(void)store(1, 0, 1);
	(void)store(2, block_lives_find(1), 2);
	die(UNITS);

	assert_int_equal(tier_grow(block_lives_ddr(), 60 * UNIT, 60 * UNIT), 0);
	uint32_t again = store(1, 0, 1);
	assert_int_equal(tier_grow(block_lives_ddr(), 0, 60 * UNIT), 0);

	struct block_restore_figures figures = restore_all(1);

	assert_int_equal(figures.restored, 1);
	assert_int_equal(figures.refused, 1);
	assert_int_equal(block_lives_find(1), again);
	assert_int_equal(block_of(2)->parent, again);
	assert_int_equal(block_lives_ddr()->placed, 2 * SIZE * UNIT);
}

static void test_a_namespace_that_is_dropped_takes_them_along(void **state)
{
	(void)state;
	(void)store(1, 0, 1);
	die(UNITS);
	namespaces_get(block_lives.rig.cache->namespaces, block_lives.ns)->drops++;
	assert_int_equal(grow_and_restore().refused, 1);
	assert_int_equal(extent_available(block_lives_ddr()->extents), UNITS * UNIT);
}

/* Records that contradict each other: a bug, or a state that somebody has changed. */
static void test_no_extent_and_no_key_is_had_twice(void **state)
{
	(void)state;
	(void)store(1, 0, 1);
	struct block_record record = *block_records_at(&block_lives.records, 0);

	record.unit += 1; /* overlaps */
	record.key = cache_rig_key(2);
	assert_int_not_equal(state_add(block_lives.state, STATE_BLOCKS, &record, 5), STATE_NONE);
	record.unit += 20; /* the same key, and earlier */
	record.came = 0;
	record.key = cache_rig_key(1);
	assert_int_not_equal(state_add(block_lives.state, STATE_BLOCKS, &record, 5), STATE_NONE);
	record.key = cache_rig_key(3);
	record.ns = 9; /* there is none */
	assert_int_not_equal(state_add(block_lives.state, STATE_BLOCKS, &record, 5), STATE_NONE);
	record.ns = block_lives.ns;
	record.unit = UINT32_MAX;
	assert_int_not_equal(state_add(block_lives.state, STATE_BLOCKS, &record, 5), STATE_NONE);
	record.unit = 0; /* in front of the tier */
	assert_int_not_equal(state_add(block_lives.state, STATE_BLOCKS, &record, 5), STATE_NONE);
	die(UNITS);

	struct block_restore_figures figures = grow_and_restore();

	assert_int_equal(figures.restored, 1);
	assert_int_equal(figures.refused, 5);
}

/* One that was dropped and stored again below its own child, which is to go still. */
static void test_a_circle_is_cut(void **state)
{
	(void)state;
	(void)store(1, 0, 1);
	(void)store(2, block_lives_find(1), 2);
	struct block_record record = *block_records_at(&block_lives.records, 0);

	state_drop(block_lives.state, STATE_BLOCKS, 0);
	record.parent = cache_rig_key(2);
	assert_int_equal(state_add(block_lives.state, STATE_BLOCKS, &record, 5), 0);
	record.key = record.parent = cache_rig_key(3); /* its own parent */
	record.unit += 20;
	assert_int_not_equal(state_add(block_lives.state, STATE_BLOCKS, &record, 5), STATE_NONE);
	die(UNITS);

	assert_int_equal(grow_and_restore().restored, 3);
	assert_true(block_of(1)->parent == 0 || block_of(2)->parent == 0);
	assert_true(block_of(1)->parent == block_lives_find(2) ||
		    block_of(2)->parent == block_lives_find(1));
	assert_int_equal(block_of(3)->parent, 0);
}

/* The keys of the tier's order, from the last victim to the first. */
static void assert_order(const uint32_t *keys, uint32_t count)
{
	const struct order *order = block_lives.rig.cache->orders[block_lives_ddr()->number];
	uint32_t at = 0;

	for (uint32_t i = 0; i < count; i++) {
		at = order_walk(order, at);
		assert_int_equal(at, block_lives_find(keys[i]));
	}
	assert_int_equal(order_walk(order, at), 0);
}

static void test_order(void **state)
{
	(void)state;
	uint32_t root = store(1, 0, 1);

	(void)store(2, root, 2); /* later than its parent, and evicted before it */
	(void)store(3, 0, 3);
	(void)store(4, 0, 4);
	(void)store(5, 0, 5);
	static const uint32_t expected[] = {5, 4, 3, 1, 2};
	die(UNITS);

	/* 3 and 4 are there first, and 4 is used before 5 is there */
	assert_int_equal(tier_grow(block_lives_ddr(), 2 * SIZE * UNIT, 2 * SIZE * UNIT), 0);
	assert_false(block_restore_some(block_lives.restore, 100));
	cache_rig_request(&block_lives.rig, block_lives.ns, (const uint32_t[]){4}, 1, 0);
	assert_int_equal(tier_grow(block_lives_ddr(), 4 * SIZE * UNIT, 10 * SIZE * UNIT), 0);
	assert_int_equal(tier_grow(block_lives_ddr(), 0, 2 * SIZE * UNIT), 0);
	assert_int_equal(restore_all(1).restored, 5);
	cache_rig_request(&block_lives.rig, block_lives.ns, (const uint32_t[]){5}, 1, 0);
	assert_order(expected, 5);
}

/* What was on its way to other tiers is in this one again, which may be too much. */
static void test_no_more_stays_than_fits(void **state)
{
	(void)state;
	for (uint32_t key = 0; key < 20; key++)
		(void)store(key, 0, key + 1);
	die(UNITS);
	block_lives_ddr()->headroom = 60 * UNIT; /* beside 60 units that are the policy's */
	block_lives_ddr()->capacity = 60 * UNIT - 2 * SIZE * UNIT;
	assert_int_equal(tier_grow(block_lives_ddr(), 0, 90 * UNIT), 0);
	assert_false(block_restore_some(block_lives.restore, 100));
	assert_true(block_lives_ddr()->bytes <= block_lives_ddr()->usable);
	assert_int_equal(index_count(block_lives.rig.cache->index), 30 / SIZE);
	assert_int_equal(tier_grow(block_lives_ddr(), 90 * UNIT, 30 * UNIT), 0);
	assert_int_equal(restore_all(100).restored, 20);
	assert_int_equal(index_count(block_lives.rig.cache->index), 18);
	assert_int_equal(block_lives_find(0), 0);
	assert_int_not_equal(block_lives_find(19), 0);
}

static void test_namespaces_keep_their_numbers(void **state)
{
	(void)state;
	struct namespaces *namespaces = block_lives.rig.cache->namespaces;
	uint16_t gone = cache_rig_namespace(&block_lives.rig, 5), memory;
	struct user *user = user_open(&block_lives.rig.ledger, 0);

	memory = cache_rig_namespace_in_memory(&block_lives.rig, SIZE);
	namespaces_set_ephemeral(namespaces, memory);
	namespaces_unref(namespaces, gone);
	user_close(user);
	assert_int_equal(state_count(block_lives.state, STATE_NAMESPACES), 2);
	die(UNITS);

	namespaces = block_lives.rig.cache->namespaces;
	assert_null(namespaces_get(namespaces, gone));
	assert_true(namespaces_get(namespaces, memory)->ephemeral);
	assert_true(namespaces_get(namespaces, memory)->memory_only);
	assert_false(namespaces_get(namespaces, block_lives.ns)->ephemeral);
	assert_int_equal(cache_rig_namespace_in_memory(&block_lives.rig, SIZE), memory);
	assert_int_equal(cache_rig_namespace(&block_lives.rig, SIZE), block_lives.ns);
	assert_int_equal(cache_rig_namespace(&block_lives.rig, 7), gone); /* the first vacant one */
	assert_int_equal(state_count(block_lives.state, STATE_NAMESPACES), 3);
	namespaces_unref(namespaces, gone);
	namespaces_unref(namespaces, block_lives.ns);
	(void)grow_and_restore(); /* ends the opens of before */
	assert_int_equal(namespaces_count(namespaces), 1);
	assert_int_equal(state_count(block_lives.state, STATE_NAMESPACES), 1);
}

/* ---- at random ---- */

static uint32_t below(uint32_t end)
{
	return (uint32_t)seed_below(&block_lives.rig.seed, end);
}

static void live(uint64_t units)
{
	uint32_t most = (uint32_t)units / SIZE / 2;

	for (uint32_t step = 0; step < STEPS; step++) {
		uint32_t key = below(KEYS), number = block_lives_find(key);

		if (number == 0 && index_count(block_lives.rig.cache->index) < most)
			(void)store(key, block_lives_find(below(KEYS)),
				    below(4) == 0 ? 0 : key + 1);
		else if (number != 0 && below(3) == 0)
			cache_drop(block_lives.rig.cache, number);
		else if (number != 0)
			(void)block_settle_checksum(&block_lives.rig.cache->blocks, number,
						    key + 1);
		while (cache_drop_pending(block_lives.rig.cache, 1))
			;
	}
}

/* In pieces, in any order. */
static void grow_at_random(uint64_t units)
{
	uint32_t piece = 2 + below(20), count = ((uint32_t)units + piece - 1) / piece, order[UNITS];

	for (uint32_t i = 0; i < count; i++) {
		uint32_t j = below(i + 1);
		order[i] = order[j];
		order[j] = i;
	}

	for (uint32_t i = 0; i < count; i++) {
		uint64_t from = (uint64_t)order[i] * piece, left = units - from;

		/* an extent of which both ends are there and the middle is not is let go */
		assert_int_equal(tier_grow(block_lives_ddr(), from * UNIT,
					   (left < piece ? left : piece) * UNIT),
				 0);
		(void)block_restore_some(block_lives.restore, below(4));
	}
}

static void test_at_random(void **state)
{
	(void)state;
	for (unsigned run = 0; run < RUNS; run++) {
		struct block before[KEYS];
		uint32_t there = 0;

		live(UNITS);
		for (uint32_t key = 0; key < KEYS; key++) {
			before[key] = (struct block){0};
			if (block_lives_find(key) != 0 && block_of(key)->checksummed)
				before[key] = *block_of(key);
			there += before[key].checksummed;
		}

		struct seed seed = block_lives.rig.seed;

		die(UNITS);
		block_lives.rig.seed = seed;
		grow_at_random(UNITS);
		assert_int_equal(
			restore_all(1 + run % 5).restored +
				block_restore_figures(block_lives.restore, HBM_TIER_DDR).refused,
			there);
		for (uint32_t key = 0; key < KEYS; key++) {
			if (block_lives_find(key) == 0)
				continue;
			assert_int_equal(block_of(key)->unit, before[key].unit);
			assert_int_equal(block_of(key)->checksum, key + 1);
			assert_int_equal(before[key].checksummed, 1);
		}
		block_lives.restore = block_restore_free(block_lives.restore);
		block_lives_ddr()->grown = NULL;
		block_lives.ns = cache_rig_namespace(&block_lives.rig, SIZE);
	}
}

/* What an operator keeps pinned is in no order. */
static void pin(void *arg, uint32_t number)
{
	struct slice slice = {.until_ns = UINT64_MAX};
	struct cache_pinning pinning;
	uint32_t walk = CACHE_WALK_MAX;

	(void)arg;
	cache_pin_begin(&pinning, number);
	pinning.always = true;
	assert_true(cache_pin_some(block_lives.rig.cache, &pinning, &walk, &slice));
	assert_int_equal(pinning.status, HBM_OK);
}

/* A step looks at so many entries, and those for one block more: here it has to look at all. */
static void test_a_step_is_short(void **state)
{
	enum { BLOCKS = 800, ROOM = BLOCKS * SIZE, STEP = 32, LOOKED_AT = 16 * STEP };
	uint64_t steps = 1;

	(void)state;
	die(ROOM);
	assert_int_equal(grow_and_restore().restored, 0);
	block_lives.ns = cache_rig_namespace(&block_lives.rig, BLOCK_LIVES_SIZE);
	for (uint32_t key = 0; key < BLOCKS; key++)
		block_lives_store(block_lives_ddr(), key, 0, key + 1);
	die(ROOM);
	block_lives.rig.cache->recovered = pin;
	assert_int_equal(tier_grow(block_lives_ddr(), 0, block_lives_ddr()->capacity), 0);
	block_restore_grown_all(block_lives.restore, block_lives_ddr());
	block_restore_in_service(block_lives.restore);
	while (block_restore_some(block_lives.restore, STEP))
		steps++;
	assert_in_range(steps, BLOCKS * BLOCKS / 2 / (LOOKED_AT + BLOCKS), BLOCKS);
	assert_int_equal(restore_all(STEP).restored, BLOCKS);
	for (uint32_t key = 0; key < BLOCKS; key++)
		cache_unpin(block_lives.rig.cache, block_lives_find(key));
}

int main(void)
{
#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_a_block_is_as_it_was),
		TEST(test_what_is_gone_stays_gone),
		TEST(test_without_a_checksum_it_is_let_go),
		TEST(test_memory_comes_bit_by_bit),
		TEST(test_a_child_waits_for_its_parent),
		TEST(test_what_has_no_memory_is_let_go),
		TEST(test_who_was_stored_again_wins),
		TEST(test_a_namespace_that_is_dropped_takes_them_along),
		TEST(test_no_extent_and_no_key_is_had_twice),
		TEST(test_a_circle_is_cut),
		TEST(test_order),
		TEST(test_a_step_is_short),
		TEST(test_no_more_stays_than_fits),
		TEST(test_namespaces_keep_their_numbers),
		TEST(test_at_random),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
