/* SPDX-License-Identifier: Apache-2.0 */
/* Pins: what they charge, what is refused, and what becomes of them when their block goes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/cache/block.h"
#include "daemon/cache/cache.h"
#include "tests/support/cache_rig.h"

/* A request for many pins that are all refused does not walk a long chain for each of
 * them. */
static void test_refused_pins_share_their_walk(void **state)
{
	enum { TRUNK = 3000, LEAVES = 900 };

	(void)state;
	struct cache_rig rig;
	cache_rig_open(&rig, "test_refused_pins_share_their_walk", 1,
		       (const uint64_t[]){CACHE_RIG_BLOCKS, 0, 0});
	struct cache *cache = rig.cache;
	cache->pinned_limit = (struct config_size){.bytes = (TRUNK - 100) * UNIT};
	uint16_t ns = cache_rig_namespace(&rig, 1);
	cache_rig_grow_branches(&rig, ns, TRUNK, LEAVES);
	cache_rig_use_leaves(&rig, ns, TRUNK, LEAVES);

	uint32_t walk = CACHE_WALK_MAX;
	assert_in_range(walk, TRUNK, (LEAVES - 1) * TRUNK); /* not for each of them */
	for (uint32_t i = 0; i < LEAVES; i++)
		assert_int_equal(cache_pin(cache, cache_rig_find(&rig, ns, TRUNK + i), &walk),
				 HBM_LIMIT);
	assert_int_equal(walk, 0);
	assert_int_equal(cache_pinned(cache, &cache->tiers[1]), 0);
	walk = CACHE_WALK_MAX; /* what fits is held whatever was refused before */
	assert_int_equal(cache_pin(cache, cache_rig_find(&rig, ns, TRUNK - 200), &walk), HBM_OK);
	cache_unpin(cache, cache_rig_find(&rig, ns, TRUNK - 200));
	cache_rig_assert_empties(&rig);
	cache_rig_close(&rig);
}

static void test_pins_outlive_a_drop(void **state)
{
	(void)state;
	struct cache_rig rig;
	cache_rig_open(&rig, "test_pins_outlive_a_drop", 1, (const uint64_t[]){8, 0, 0});
	struct cache *cache = rig.cache;
	uint16_t ns = cache_rig_namespace(&rig, 1);
	cache_rig_request(&rig, ns, (const uint32_t[]){1, 2}, 2, 0);
	uint32_t parent = cache_rig_find(&rig, ns, 1), child = cache_rig_find(&rig, ns, 2);
	assert_int_equal(cache_pin(cache, child, &(uint32_t){CACHE_WALK_MAX}), HBM_OK);
	assert_int_equal(cache_is_pinned(cache, parent), true);
	assert_int_equal(cache_pinned(cache, &cache->tiers[1]), 2 * UNIT);
	cache_drop(cache, parent);
	assert_int_equal(cache_pinned(cache, &cache->tiers[1]), 0);
	assert_int_equal(index_used(cache->index, parent), false);
	assert_int_equal(index_used(cache->index, child), true);
	cache_unpin(cache, child);
	assert_int_equal(index_count(cache->index), 0);
	cache_rig_assert_empties(&rig);
	cache_rig_close(&rig);
}

/* How many pins of a namespace stand in the way of its drop: not those of blocks that are
 * gone, and none of blocks that have none. */
static void test_pins_of_a_namespace(void **state)
{
	(void)state;
	struct cache_rig rig;
	cache_rig_open(&rig, "test_pins_of_a_namespace", 1, (const uint64_t[]){8, 0, 0});
	struct cache *cache = rig.cache;
	uint16_t ns = cache_rig_namespace(&rig, 1);
	uint32_t numbers[3];

	for (uint32_t key = 0; key < 3; key++) {
		cache_rig_request(&rig, ns, &key, 1, 0);
		numbers[key] = cache_rig_find(&rig, ns, key);
		for (uint32_t pins = 0; pins < 3 - key; pins++)
			assert_int_equal(
				cache_pin(cache, numbers[key], &(uint32_t){CACHE_WALK_MAX}),
				HBM_OK);
	}

	const struct namespace *namespace = namespaces_get(cache->namespaces, ns);
	assert_int_equal(namespace->pins, 6);
	cache_drop(cache, numbers[0]);
	assert_int_equal(namespace->pins, 3);
	for (int pins = 0; pins < 3; pins++)
		cache_unpin(cache, numbers[0]);
	assert_int_equal(namespace->pins, 3);
	cache_unpin(cache, numbers[2]);
	assert_int_equal(namespace->pins, 2);
	cache_drop(cache, numbers[2]);
	assert_int_equal(namespace->pins, 2);
	cache_unpin(cache, numbers[1]);
	cache_unpin(cache, numbers[1]);
	assert_int_equal(namespace->pins, 0);
	cache_rig_assert_empties(&rig);
	cache_rig_close(&rig);
}

static void test_a_limit_in_bytes(void **state)
{
	(void)state;
	struct cache_rig rig;
	cache_rig_open(&rig, "test_a_limit_in_bytes", 1, (const uint64_t[]){8, 0, 0});
	struct cache *cache = rig.cache;
	cache->pinned_limit = (struct config_size){.bytes = 2 * UNIT};
	uint16_t ns = cache_rig_namespace(&rig, 1);
	cache_rig_request(&rig, ns, (const uint32_t[]){1, 2, 3}, 3, 0);
	assert_int_equal(cache_pin(cache, cache_rig_find(&rig, ns, 3), &(uint32_t){CACHE_WALK_MAX}),
			 HBM_LIMIT);
	assert_int_equal(cache_pinned(cache, &cache->tiers[1]), 0);
	for (uint32_t key = 1; key <= 3; key++)
		assert_int_equal(cache_is_pinned(cache, cache_rig_find(&rig, ns, key)), false);
	assert_int_equal(cache_pin(cache, cache_rig_find(&rig, ns, 2), &(uint32_t){CACHE_WALK_MAX}),
			 HBM_OK);
	cache_unpin(cache, cache_rig_find(&rig, ns, 2));
	cache_rig_assert_empties(&rig);
	cache_rig_close(&rig);
}

static struct cache_amount drop_namespace(struct cache_rig *rig, uint16_t ns, uint32_t step)
{
	struct cache_drop drop = {.ns = ns};
	while (cache_drop_some(rig->cache, &drop, step))
		;
	return drop.dropped;
}

/* A pin counts in its namespace until its block is dropped; what is used goes later. */
static void test_a_drop_of_pinned_and_used_blocks(void **state)
{
	(void)state;
	struct cache_rig rig;
	cache_rig_open(&rig, "test_a_drop_of_pinned_and_used_blocks", 1,
		       (const uint64_t[]){8, 0, 0});
	struct cache *cache = rig.cache;
	uint16_t ns = cache_rig_namespace(&rig, 1);
	cache_rig_request(&rig, ns, (const uint32_t[]){1, 2}, 2, 0);
	uint32_t child = cache_rig_find(&rig, ns, 2), used = cache_rig_insert_placed(&rig, ns, 3);
	const struct namespace *namespace = namespaces_get(cache->namespaces, ns);
	for (uint64_t pins = 1; pins <= 2; pins++) {
		assert_int_equal(cache_pin(cache, child, &(uint32_t){CACHE_WALK_MAX}), HBM_OK);
		assert_int_equal(namespace->pins, pins);
	}

	cache_unpin(cache, child);
	assert_int_equal(namespace->pins, 1);
	block_use(&cache->blocks, used);
	struct cache_amount dropped = drop_namespace(&rig, ns, 4096);
	assert_int_equal(dropped.blocks, 3);
	assert_int_equal(dropped.bytes, 3 * UNIT);
	assert_int_equal(namespace->pins, 0);
	assert_int_equal(cache_pinned(cache, &cache->tiers[1]), 0);
	assert_int_equal(cache->tiers[1].blocks, 0);
	assert_int_equal(cache->tiers[1].placed, UNIT);
	assert_int_equal(cache->counters.removed_blocks, 3);

	block_unuse(&cache->blocks, used);
	assert_int_equal(cache->tiers[1].placed, 0);
	cache_unpin(cache, child);
	assert_int_equal(namespace->pins, 0);
	assert_int_equal(index_count(cache->index), 0);
	cache_rig_assert_empties(&rig);
	cache_rig_close(&rig);
}

/* A chain of that many blocks: the number of its last. */
static uint32_t grow_chain(struct cache_rig *rig, uint16_t ns, uint32_t blocks)
{
	cache_rig_grow_branches(rig, ns, blocks - 1, 1);
	cache_rig_use_leaves(rig, ns, blocks - 1, 1);
	cache_settle(rig->cache);

	return cache_rig_find(rig, ns, blocks - 1);
}

static int pin_in_slices(struct cache *cache, uint32_t number, uint32_t *walk, unsigned *slices)
{
	struct cache_pinning pinning;
	struct slice slice;

	cache_pin_begin(&pinning, number);
	for (*slices = 0, slice = (struct slice){0}; !cache_pin_some(cache, &pinning, walk, &slice);
	     slice = (struct slice){0})
		++*slices;

	return pinning.status;
}

static unsigned unpin_in_slices(struct cache *cache, uint32_t number)
{
	unsigned slices = 0;

	cache_unpin_begin(cache, number);
	while (!cache_unref_some(cache, &number, &(struct slice){0}))
		slices++;

	return slices;
}

/* A long chain is pinned and unpinned in many slices, all of it or nothing. */
static void test_a_pin_in_slices(void **state)
{
	enum { BLOCKS = 1500 };

	(void)state;
	struct cache_rig rig;
	unsigned slices;
	uint32_t walk = CACHE_WALK_MAX, chain;

	cache_rig_open(&rig, "test_a_pin_in_slices", 1, (const uint64_t[]){CACHE_RIG_BLOCKS, 0, 0});
	struct cache *cache = rig.cache;
	uint16_t ns = cache_rig_namespace(&rig, 1);
	chain = grow_chain(&rig, ns, BLOCKS);
	cache->pinned_limit = (struct config_size){.bytes = BLOCKS * UNIT};

	assert_int_equal(pin_in_slices(cache, chain, &walk, &slices), HBM_OK);
	assert_in_range(slices, BLOCKS / 256, BLOCKS);
	assert_int_equal(walk, CACHE_WALK_MAX - BLOCKS);
	assert_int_equal(cache_pinned(cache, &cache->tiers[1]), BLOCKS * UNIT);
	assert_int_equal(pin_in_slices(cache, chain, &walk, &slices), HBM_OK);
	assert_int_equal(walk, CACHE_WALK_MAX - BLOCKS);

	assert_in_range(unpin_in_slices(cache, chain), 0, BLOCKS / 256 + 1);
	assert_int_equal(cache_pinned(cache, &cache->tiers[1]), BLOCKS * UNIT);
	assert_in_range(unpin_in_slices(cache, chain), BLOCKS / 256 - 1, BLOCKS);
	assert_int_equal(cache_pinned(cache, &cache->tiers[1]), 0);

	walk = BLOCKS - 1;
	assert_int_equal(pin_in_slices(cache, chain, &walk, &slices), HBM_LIMIT);
	assert_int_equal(cache_pinned(cache, &cache->tiers[1]), 0);
	cache->pinned_limit.bytes = (BLOCKS - 1) * UNIT;
	walk = BLOCKS;
	assert_int_equal(pin_in_slices(cache, chain, &walk, &slices), HBM_LIMIT);
	assert_int_equal(cache_pinned(cache, &cache->tiers[1]), 0);
	cache_rig_assert_empties(&rig);
	cache_rig_close(&rig);
}

/* A chain is dropped while it is being pinned: nothing stays pinned. */
static void test_a_drop_during_a_pin(void **state)
{
	enum { BLOCKS = 1500 };

	(void)state;
	for (unsigned after = 0; after < 30; after++) {
		struct cache_rig rig;
		struct cache_pinning pinning;
		uint32_t walk = CACHE_WALK_MAX, chain;
		unsigned slices = 0;

		cache_rig_open(&rig, "test_a_drop_during_a_pin", 1,
			       (const uint64_t[]){CACHE_RIG_BLOCKS, 0, 0});
		struct cache *cache = rig.cache;
		uint16_t ns = cache_rig_namespace(&rig, 1);
		chain = grow_chain(&rig, ns, BLOCKS);
		cache_pin_begin(&pinning, chain);
		while (!cache_pin_some(cache, &pinning, &walk, &(struct slice){0})) {
			if (++slices == after * BLOCKS / 4 / 25)
				cache_drop(cache, cache_rig_find(&rig, ns, BLOCKS / 2));
			if (cache_rig_find(&rig, ns, BLOCKS - 1) != chain)
				pinning.status = HBM_MISS;
		}

		if (pinning.status == HBM_OK)
			cache_unpin(cache, chain);
		while (cache_drop_pending(cache, 64))
			;
		assert_int_equal(cache_pinned(cache, &cache->tiers[1]), 0);
		cache_rig_assert_empties(&rig);
		cache_rig_close(&rig);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_pin_in_slices),
		cmocka_unit_test(test_a_drop_during_a_pin),
		cmocka_unit_test(test_refused_pins_share_their_walk),
		cmocka_unit_test(test_pins_outlive_a_drop),
		cmocka_unit_test(test_pins_of_a_namespace),
		cmocka_unit_test(test_a_limit_in_bytes),
		cmocka_unit_test(test_a_drop_of_pinned_and_used_blocks),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
