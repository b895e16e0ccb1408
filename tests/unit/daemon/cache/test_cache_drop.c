/* SPDX-License-Identifier: Apache-2.0 */
/* Drops: what is named goes at once, what descends from it in steps, and in between every
 * count is right. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/cache/block.h"
#include "daemon/cache/cache.h"
#include "daemon/cache/order.h"
#include "tests/support/cache_rig.h"
#include "tests/support/seed.h"

enum { CHAIN = 300 };

/* What the tiers count is what is there. */
static void assert_counts(struct cache_rig *rig)
{
	struct cache *cache = rig->cache;
	uint64_t blocks[CACHE_RIG_TIERS + 1] = {0}, bytes[CACHE_RIG_TIERS + 1] = {0};
	uint64_t pinned[CACHE_RIG_TIERS + 1] = {0}, ordered[CACHE_RIG_TIERS + 1] = {0};

	for (uint32_t number = 1; number <= index_highest(cache->index); number++) {
		const struct block *block = cache_block(cache, number);
		if (!index_used(cache->index, number))
			continue;

		assert_int_equal(block->target != 0 && block_is_dropped(block), 0);
		blocks[block->target]++;
		bytes[block->target] += block_stored_bytes(block);
		if (block->refs > 0)
			pinned[block->target] += block_stored_bytes(block);
		else
			ordered[block->target]++;
	}

	for (uint32_t i = 1; i <= cache->tier_count; i++) {
		uint64_t length = 0;
		for (uint32_t number = 0; (number = order_walk(cache->orders[i], number)) != 0;)
			length++;

		assert_int_equal(cache->tiers[i].blocks, blocks[i]);
		assert_int_equal(cache->tiers[i].bytes, bytes[i]);
		assert_int_equal(cache_pinned(cache, &cache->tiers[i]), pinned[i]);
		assert_int_equal(length, ordered[i]);
	}
}

/* Uses a block; how many ancestors that visits. */
static uint32_t use(struct cache_rig *rig, uint32_t number, uint32_t device)
{
	struct cache_touch touch;

	cache_touch_begin(rig->cache, &touch);
	uint32_t may_visit = touch.walk_left;
	cache_touch(rig->cache, &touch, number, device);
	cache_settle(rig->cache);
	cache_touch_end(rig->cache);

	return may_visit - touch.walk_left;
}

/* A chain of keys from `first` on, too long to be dropped at once. */
static void grow_chain(struct cache_rig *rig, uint16_t ns, uint32_t first)
{
	uint32_t parent = 0;

	for (uint32_t n = 0; n < CHAIN; n++)
		parent = cache_rig_insert(rig, ns, first + n, parent);
	use(rig, parent, 0);
}

/* A cache of one tier, and such a chain in it: its namespace. */
static uint16_t open_with_chain(struct cache_rig *rig, const char *name)
{
	cache_rig_open(rig, name, 1, (const uint64_t[]){CACHE_RIG_BLOCKS, 0, 0});
	uint16_t ns = cache_rig_namespace(rig, 1);
	grow_chain(rig, ns, 0);

	return ns;
}

static uint32_t found_of_chain(struct cache_rig *rig, uint16_t ns, uint32_t first)
{
	uint32_t found = 0;
	for (uint32_t n = 0; n < CHAIN; n++)
		found += cache_rig_find(rig, ns, first + n) != 0;
	return found;
}

static void finish(struct cache_rig *rig)
{
	while (cache_drop_pending(rig->cache, 7))
		assert_counts(rig);
	assert_counts(rig);
}

static void told(void *arg)
{
	++*(unsigned *)arg;
}

static void test_descendants_go_in_steps(void **state)
{
	(void)state;
	struct cache_rig rig;
	unsigned times_told = 0;
	cache_rig_open(&rig, __func__, 1, (const uint64_t[]){CACHE_RIG_BLOCKS, 0, 0});
	uint16_t ns = cache_rig_namespace(&rig, 1);
	rig.cache->drops.pending = told;
	rig.cache->drops.arg = &times_told;
	grow_chain(&rig, ns, 0);
	assert_false(cache_drop_pending(rig.cache, 0));

	cache_drop(rig.cache, cache_rig_find(&rig, ns, 0));
	assert_int_equal(cache_rig_find(&rig, ns, 0), 0);
	assert_int_equal(times_told, 1);
	assert_true(cache_drop_pending(rig.cache, 0));
	assert_counts(&rig);

	uint32_t found = found_of_chain(&rig, ns, 0);
	assert_in_range(found, CHAIN / 2, CHAIN - 1);
	assert_true(cache_drop_pending(rig.cache, 10));
	assert_in_range(found_of_chain(&rig, ns, 0), found - 10, found - 5);
	finish(&rig);
	assert_int_equal(index_count(rig.cache->index), 0);
	cache_rig_close(&rig);
}

/* What is small is over at once, whatever else is still to be dropped. */
static void test_few_descendants_go_at_once(void **state)
{
	(void)state;
	struct cache_rig rig;
	uint16_t ns = open_with_chain(&rig, __func__);
	cache_rig_request(&rig, ns, (const uint32_t[]){1001, 1002, 1003}, 3, 0);
	cache_rig_request(&rig, ns, (const uint32_t[]){1001, 1004}, 2, 0);
	cache_drop(rig.cache, cache_rig_find(&rig, ns, 0));
	uint64_t left = index_count(rig.cache->index);
	cache_drop(rig.cache, cache_rig_find(&rig, ns, 1001));
	assert_int_equal(index_count(rig.cache->index), left - 4);
	finish(&rig);
	cache_rig_close(&rig);
}

struct waiter {
	struct cache_drop_wait wait;
	bool done;
};

static void wait_done(struct cache_drop_wait *wait)
{
	container_of(wait, struct waiter, wait)->done = true;
}

/* A wait is for what has been dropped by then. */
static void test_later_drops_delay_no_wait(void **state)
{
	(void)state;
	struct cache_rig rig;
	struct waiter one = {.wait = {.done = wait_done}}, other = one, late = one;
	uint16_t ns = open_with_chain(&rig, __func__);
	grow_chain(&rig, ns, 1000);
	assert_false(cache_wait_for_drops(rig.cache, &one.wait));

	cache_drop(rig.cache, cache_rig_find(&rig, ns, 0));
	assert_true(cache_wait_for_drops(rig.cache, &one.wait));
	cache_drop(rig.cache, cache_rig_find(&rig, ns, 1000));
	assert_true(cache_wait_for_drops(rig.cache, &other.wait));

	while (!one.done) {
		assert_int_not_equal(found_of_chain(&rig, ns, 0), 0);
		assert_true(cache_drop_pending(rig.cache, 1));
	}

	assert_int_equal(found_of_chain(&rig, ns, 0), 0);
	assert_in_range(found_of_chain(&rig, ns, 1000), CHAIN / 2, CHAIN);
	assert_false(other.done);
	finish(&rig);
	assert_true(other.done);
	assert_false(cache_wait_for_drops(rig.cache, &late.wait));
	cache_rig_close(&rig);
}

/* A block that is dropped on its own below one that was dropped before: the first wait is
 * for its descendants, too. */
static void test_a_drop_below_a_drop(void **state)
{
	(void)state;
	struct cache_rig rig;
	struct waiter waiter = {.wait = {.done = wait_done}};
	uint16_t ns = open_with_chain(&rig, __func__);
	struct cache *cache = rig.cache;
	cache_drop(cache, cache_rig_find(&rig, ns, 0));
	assert_true(cache_wait_for_drops(cache, &waiter.wait));

	uint32_t next = CHAIN - found_of_chain(&rig, ns, 0); /* the child of a dropped one */
	uint32_t child = cache_rig_find(&rig, ns, next);
	assert_int_equal(cache_parent(cache, child), 0);
	assert_int_not_equal(cache_block(cache, child)->parent, 0);
	cache_drop(cache, child);
	assert_int_equal(cache_rig_find(&rig, ns, next), 0);
	cache_drop(cache, cache_rig_find(&rig, ns, next + 1));
	cache_drop(cache, cache_rig_find(&rig, ns, CHAIN - 1));
	assert_counts(&rig);

	while (!waiter.done) {
		assert_int_not_equal(index_count(cache->index), 0);
		cache_drop_pending(cache, 1);
	}

	assert_int_equal(found_of_chain(&rig, ns, 0), 0);
	finish(&rig);
	assert_int_equal(index_count(cache->index), 0);
	cache_rig_close(&rig);
}

/* Walks up end below the dropped block; what is about to go cannot be pinned. */
static void test_use_below_a_dropped_block(void **state)
{
	(void)state;
	struct cache_rig rig;
	uint16_t ns = open_with_chain(&rig, __func__);
	struct cache *cache = rig.cache;
	cache_drop(cache, cache_rig_find(&rig, ns, 0));
	uint32_t last = cache_rig_find(&rig, ns, CHAIN - 1), left = found_of_chain(&rig, ns, 0);

	assert_int_equal(use(&rig, last, 0), left - 1);
	assert_counts(&rig);

	assert_int_equal(cache_pin(cache, last, &(uint32_t){CACHE_WALK_MAX}), HBM_MISS);
	assert_false(cache_is_pinned(cache, last));
	assert_int_equal(cache_pinned(cache, &cache->tiers[1]), 0);
	assert_counts(&rig);
	finish(&rig);
	cache_rig_close(&rig);
}

/* Blocks that could not be read go, pinned or not. */
static void test_pinned_descendants(void **state)
{
	(void)state;
	struct cache_rig rig;
	uint16_t ns = open_with_chain(&rig, __func__);
	struct cache *cache = rig.cache;
	uint32_t last = cache_rig_find(&rig, ns, CHAIN - 1);
	uint32_t middle = cache_rig_find(&rig, ns, CHAIN / 2);
	assert_int_equal(cache_pin(cache, last, &(uint32_t){CACHE_WALK_MAX}), HBM_OK);
	assert_int_equal(cache_pin(cache, middle, &(uint32_t){CACHE_WALK_MAX}), HBM_OK);

	cache_drop(cache, cache_rig_find(&rig, ns, 5));
	assert_false(cache_is_pinned(cache, cache_rig_find(&rig, ns, 4)));
	assert_counts(&rig);
	cache_drop_pending(cache, 30);
	cache_unpin(cache, last); /* before the drop has come to it */
	assert_counts(&rig);
	finish(&rig);
	assert_int_equal(index_count(cache->index), 5 + 1); /* a pin keeps a number */
	cache_unpin(cache, middle);
	assert_int_equal(index_count(cache->index), 5);
	cache_rig_assert_empties(&rig);
	cache_rig_close(&rig);
}

/* How many blocks of a chain from key 0 on are pinned: those above a pinned one are too. */
static uint32_t pinned_of_chain(struct cache_rig *rig, uint16_t ns, uint32_t count)
{
	uint32_t pinned = 0;
	while (pinned < count && cache_is_pinned(rig->cache, cache_rig_find(rig, ns, pinned)))
		pinned++;

	for (uint32_t n = pinned; n < count; n++)
		assert_false(cache_is_pinned(rig->cache, cache_rig_find(rig, ns, n)));

	return pinned;
}

/* A chain whose last block is pinned, and is dropped: the references of the first are left.
 * The number of the last. */
static uint32_t drop_pinned_end(struct cache_rig *rig, uint16_t ns)
{
	uint32_t last = cache_rig_find(rig, ns, CHAIN - 1);

	assert_int_equal(cache_pin(rig->cache, last, &(uint32_t){CACHE_WALK_MAX}), HBM_OK);
	cache_drop(rig->cache, last);
	assert_in_range(pinned_of_chain(rig, ns, CHAIN - 1), CHAIN / 2, CHAIN - 2);
	assert_counts(rig);

	return last;
}

static void test_references_of_a_branch_go_in_steps(void **state)
{
	(void)state;
	struct cache_rig rig;
	unsigned times_told = 0;
	uint16_t ns = open_with_chain(&rig, __func__);
	rig.cache->drops.pending = told;
	rig.cache->drops.arg = &times_told;

	uint32_t last = drop_pinned_end(&rig, ns);
	uint32_t before = pinned_of_chain(&rig, ns, CHAIN - 1);
	assert_int_equal(times_told, 1);

	assert_true(cache_drop_pending(rig.cache, 7));
	assert_int_equal(pinned_of_chain(&rig, ns, CHAIN - 1), before - 7);
	finish(&rig);
	assert_int_equal(pinned_of_chain(&rig, ns, CHAIN - 1), 0);
	cache_unpin(rig.cache, last);
	cache_rig_assert_empties(&rig);
	cache_rig_close(&rig);
}

/* Between two steps a pin keeps what is above it, and what is dropped is not waited for. */
static void test_others_pin_and_drop_where_references_are_left(void **state)
{
	(void)state;
	struct cache_rig rig;
	uint16_t ns = open_with_chain(&rig, __func__);
	struct cache *cache = rig.cache;
	uint32_t last = drop_pinned_end(&rig, ns);
	uint32_t pinned = pinned_of_chain(&rig, ns, CHAIN - 1);
	uint32_t waits = cache_rig_find(&rig, ns, pinned - 1), kept = cache_rig_find(&rig, ns, 9);
	assert_int_equal(cache_pin(cache, waits, &(uint32_t){CACHE_WALK_MAX}), HBM_OK);
	assert_int_equal(cache_pin(cache, kept, &(uint32_t){CACHE_WALK_MAX}), HBM_OK);
	cache_drop_pending(cache, 7);
	assert_int_equal(pinned_of_chain(&rig, ns, CHAIN - 1), pinned);

	cache_unpin(cache, waits);
	assert_int_equal(pinned_of_chain(&rig, ns, CHAIN - 1), 10);
	assert_int_equal(cache_pin(cache, waits, &(uint32_t){CACHE_WALK_MAX}), HBM_OK);
	cache_drop(cache, waits); /* another branch to give back */
	assert_true(cache_drop_pending(cache, 7));
	cache_drop(cache, cache_rig_find(&rig, ns, 20)); /* with what has its references left */
	finish(&rig);
	assert_int_equal(pinned_of_chain(&rig, ns, 20), 10);

	cache_unpin(cache, last);
	cache_unpin(cache, waits);
	cache_unpin(cache, kept);
	assert_int_equal(index_count(cache->index), 20);
	cache_rig_assert_empties(&rig);
	cache_rig_close(&rig);
}

/* The drop of a block whose own reference waits to be given back, and one more of it. */
static void test_a_block_is_dropped_while_its_reference_is_left(void **state)
{
	(void)state;
	struct cache_rig rig;
	uint16_t ns = open_with_chain(&rig, __func__);
	struct cache *cache = rig.cache;
	uint32_t last = drop_pinned_end(&rig, ns);
	uint32_t pinned = pinned_of_chain(&rig, ns, CHAIN - 1);
	uint32_t waits = cache_rig_find(&rig, ns, pinned - 1);
	uint32_t leaf = cache_rig_insert(&rig, ns, CHAIN, waits);
	use(&rig, leaf, 0);
	assert_int_equal(cache_pin(cache, leaf, &(uint32_t){CACHE_WALK_MAX}), HBM_OK);
	cache_drop(cache, leaf);
	assert_int_equal(pinned_of_chain(&rig, ns, CHAIN - 1), pinned);
	cache_drop(cache, waits);
	assert_true(index_used(cache->index, waits)); /* until its reference is */
	assert_counts(&rig);
	finish(&rig);

	assert_int_equal(pinned_of_chain(&rig, ns, pinned - 1), 0);
	cache_unpin(cache, leaf);
	cache_unpin(cache, last);
	assert_int_equal(index_count(cache->index), pinned - 1);
	cache_rig_assert_empties(&rig);
	cache_rig_close(&rig);
}

/* A client stores below what is being dropped, as fast as it can: the drop ends. */
static void test_stores_below_do_not_delay_for_ever(void **state)
{
	(void)state;
	struct cache_rig rig;
	struct waiter waiter = {.wait = {.done = wait_done}};
	uint16_t ns = open_with_chain(&rig, __func__);
	struct cache *cache = rig.cache;
	cache_drop(cache, cache_rig_find(&rig, ns, 0));
	assert_true(cache_wait_for_drops(cache, &waiter.wait));

	uint32_t stored = 0, key = CHAIN - 1;
	for (; !waiter.done && stored <= CHAIN; stored++) {
		cache_drop_for_store(cache);
		uint32_t parent = cache_rig_find(&rig, ns, key);
		if (parent != 0)
			cache_rig_insert(&rig, ns, ++key, parent);
	}

	assert_true(waiter.done);
	assert_int_equal(cache_rig_find(&rig, ns, key), 0);
	assert_int_equal(index_count(cache->index), 0);
	cache_rig_close(&rig);
}

/* A full index makes room by what is being dropped, not by what is not. */
static void test_room_by_what_is_being_dropped(void **state)
{
	(void)state;
	struct cache_rig rig;
	uint16_t ns = open_with_chain(&rig, __func__);
	struct cache *cache = rig.cache;
	cache_rig_request(&rig, ns, (const uint32_t[]){1001}, 1, 0);
	for (uint32_t n = 2000; index_count(cache->index) < CACHE_RIG_BLOCKS; n++)
		cache_rig_insert(&rig, ns, n, 0);
	cache_rig_request(&rig, ns, (const uint32_t[]){1}, 1, 0);

	cache_drop(cache, cache_rig_find(&rig, ns, 0));
	for (uint32_t i = 0; i < 4; i++) {
		assert_true(cache_make_room(cache, ns, 40, &(struct slice){UINT64_MAX, 0}));
		for (uint32_t n = 0; n < 40; n++)
			cache_rig_insert(&rig, ns, 10000 + 40 * i + n, 0);
	}

	assert_int_equal(cache->counters.evicted_blocks, 0);
	assert_int_not_equal(cache_rig_find(&rig, ns, 1001), 0);
	cache_rig_assert_empties(&rig);
	cache_rig_close(&rig);
}

/* A tier loses its bytes: nothing that was there is found from then on, a store of the same
 * key begins at once, and what was to come there goes to the tier below, in its order. */
static void test_a_lost_tier(void **state)
{
	enum { BLOCKS = 40 };

	(void)state;
	struct cache_rig rig;
	cache_rig_open(&rig, __func__, 1, (const uint64_t[]){BLOCKS, BLOCKS, 0});
	struct cache *cache = rig.cache;
	struct tier *hbm = cache_hbm(cache, 0);
	uint16_t ns = cache_rig_namespace(&rig, 1);
	for (uint32_t n = 1; n <= BLOCKS / 2; n++)
		cache_rig_insert_placed(&rig, ns, n);
	for (uint32_t n = 101; n <= 100 + BLOCKS / 2; n++) /* in HBM by its target only */
		cache_rig_request(&rig, ns, &n, 1, 0);

	cache_lose_tier(cache, hbm);
	assert_counts(&rig);
	for (uint32_t n = 1; n <= BLOCKS / 2; n++)
		assert_int_equal(cache_rig_find(&rig, ns, n), 0);
	assert_int_not_equal(cache_rig_find(&rig, ns, 101), 0);

	struct hbm_wire_key key = cache_rig_key(3);
	assert_int_equal(cache_find_entry(cache, ns, &key), 0);
	assert_int_equal(index_count(cache->index), BLOCKS - 1);
	assert_int_not_equal(
		cache_pin(cache, cache_rig_find(&rig, ns, 101), &(uint32_t){CACHE_WALK_MAX}),
		HBM_OK);

	while (cache_drop_pending(cache, 3))
		assert_counts(&rig);
	assert_int_equal(hbm->blocks, 0);
	assert_int_equal(hbm->placed, 0);
	assert_int_equal(index_count(cache->index), BLOCKS / 2);
	uint32_t number = 0;
	for (uint32_t n = 100 + BLOCKS / 2; n > 100; n--) {
		number = order_walk(cache->orders[2], number);
		assert_int_equal(number, cache_rig_find(&rig, ns, n));
	}

	cache_rig_assert_empties(&rig);
	cache_rig_close(&rig);
}

enum { NODES = 1500, PINS = 8 };

/* Drops a block, goes on with what is being dropped, changes a pin, or uses a block, which
 * is stored first where it is not there. */
static void do_at_random(struct cache_rig *rig, uint16_t ns, uint32_t *pins)
{
	struct cache *cache = rig->cache;
	uint32_t n = (uint32_t)seed_below(&rig->seed, NODES);
	uint32_t number = cache_rig_find(rig, ns, n);
	uint32_t *pin = &pins[seed_below(&rig->seed, PINS)];

	switch (seed_below(&rig->seed, 12)) {
	case 0:
		if (number != 0)
			cache_drop(cache, number);
		break;
	case 1:
		cache_drop_pending(cache, (uint32_t)seed_below(&rig->seed, 20));
		break;
	case 2:
		if (*pin != 0)
			cache_unpin(cache, *pin);
		*pin = number != 0 && cache_pin(cache, number, &(uint32_t){CACHE_WALK_MAX}) ==
					       HBM_OK
			       ? number
			       : 0;
		break;
	default:
		if (number == 0) {
			uint32_t back = 1 + (uint32_t)seed_below(&rig->seed, 3);
			number = cache_rig_insert(rig, ns, n,
						  n < back ? 0 : cache_rig_find(rig, ns, n - back));
		}

		use(rig, number, (uint32_t)seed_below(&rig->seed, 2));
	}
}

/* Trees of any form, used, pinned, evicted and dropped at random, with a few steps now and
 * then. */
static void test_random_drops(void **state)
{
	(void)state;
	struct cache_rig rig;
	cache_rig_open(&rig, __func__, 2, (const uint64_t[]){200, 200, 400, 600});
	uint16_t ns = cache_rig_namespace(&rig, 1);
	uint32_t pins[PINS] = {0};

	for (unsigned step = 0; step < 20000; step++) {
		do_at_random(&rig, ns, pins);
		if (step % 8 == 0)
			assert_counts(&rig);
	}

	for (uint32_t i = 0; i < PINS; i++)
		if (pins[i] != 0)
			cache_unpin(rig.cache, pins[i]);
	finish(&rig);
	cache_rig_assert_empties(&rig);
	cache_rig_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_descendants_go_in_steps),
		cmocka_unit_test(test_few_descendants_go_at_once),
		cmocka_unit_test(test_later_drops_delay_no_wait),
		cmocka_unit_test(test_a_drop_below_a_drop),
		cmocka_unit_test(test_use_below_a_dropped_block),
		cmocka_unit_test(test_pinned_descendants),
		cmocka_unit_test(test_references_of_a_branch_go_in_steps),
		cmocka_unit_test(test_others_pin_and_drop_where_references_are_left),
		cmocka_unit_test(test_a_block_is_dropped_while_its_reference_is_left),
		cmocka_unit_test(test_stores_below_do_not_delay_for_ever),
		cmocka_unit_test(test_room_by_what_is_being_dropped),
		cmocka_unit_test(test_a_lost_tier),
		cmocka_unit_test(test_random_drops),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
