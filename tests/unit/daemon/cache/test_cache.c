/* SPDX-License-Identifier: Apache-2.0 */
/* The policy, case by case: uses, drops, room in the index, namespaces that are dropped. */
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

/* A request that names many ends of one long chain walks the chain once, not once for
 * each end. */
static void test_branches_share_their_walk(void **state)
{
	enum { TRUNK = 3000, LEAVES = 900 };

	(void)state;
	struct cache_rig rig;
	cache_rig_open(&rig, "test_branches_share_their_walk", 1,
		       (const uint64_t[]){CACHE_RIG_BLOCKS, 0, 0});
	uint16_t ns = cache_rig_namespace(&rig, 1);
	cache_rig_grow_branches(&rig, ns, TRUNK, LEAVES);
	assert_int_equal(cache_rig_use_leaves(&rig, ns, TRUNK, 1), TRUNK);
	assert_int_equal(cache_rig_use_leaves(&rig, ns, TRUNK, LEAVES), TRUNK);
	cache_rig_assert_empties(&rig);
	cache_rig_close(&rig);
}

enum { NODES_USED = 400 };

/* A tree of blocks at random, the keys being 0 to NODES_USED - 1. */
static uint16_t grow_tree(struct cache_rig *rig)
{
	uint16_t ns = cache_rig_namespace(rig, 1);

	for (uint32_t n = 0; n < NODES_USED; n++) {
		uint32_t parent =
			n == 0 ? 0 : cache_rig_find(rig, ns, (uint32_t)seed_below(&rig->seed, n));
		cache_rig_insert(rig, ns, n, parent);
	}

	return ns;
}

/* In the order of the first tier, whose every block is in it. */
static void assert_parents_are_ahead(struct cache *cache)
{
	bool seen[NODES_USED + 1] = {true};
	uint32_t length = 0;

	for (uint32_t number = 0; (number = order_walk(cache->orders[1], number)) != 0;) {
		assert_int_equal(seen[cache_parent(cache, number)], true);
		seen[number] = true;
		length++;
	}

	assert_int_equal(length, cache->tiers[1].blocks);
}

/* Whatever is used in one pass, a block's parent is ahead of it, so that it goes after
 * it. */
static void test_parents_go_after_their_children(void **state)
{
	(void)state;
	struct cache_rig rig;
	cache_rig_open(&rig, "test_parents_go_after_their_children", 1,
		       (const uint64_t[]){CACHE_RIG_BLOCKS, 0, 0});
	struct cache *cache = rig.cache;
	uint16_t ns = grow_tree(&rig);

	for (unsigned pass = 0; pass < 200; pass++) {
		struct cache_touch touch;
		cache_touch_begin(cache, &touch);
		for (uint64_t uses = 1 + seed_below(&rig.seed, 20); uses > 0; uses--)
			cache_touch(cache, &touch,
				    cache_rig_find(&rig, ns,
						   (uint32_t)seed_below(&rig.seed, NODES_USED)),
				    0);

		cache_settle(cache);
		cache_touch_end(cache);
		assert_parents_are_ahead(cache);
	}

	cache_rig_assert_empties(&rig);
	cache_rig_close(&rig);
}

/* A block in one device's HBM that is used on another, whose tiers cannot take it, stays
 * what it is. */
static void test_a_use_without_a_tier_that_fits(void **state)
{
	(void)state;
	struct cache_rig rig;
	cache_rig_open(&rig, "test_a_use_without_a_tier_that_fits", 2,
		       (const uint64_t[]){8, 2, 0, 0});
	uint16_t ns = cache_rig_namespace(&rig, 4);
	cache_rig_request(&rig, ns, (const uint32_t[]){1}, 1, 0);
	cache_rig_request(&rig, ns, (const uint32_t[]){1}, 1, 1);
	assert_int_equal(cache_block(rig.cache, cache_rig_find(&rig, ns, 1))->target, 1);
	cache_rig_request(&rig, ns, (const uint32_t[]){2}, 1, 0);
	cache_rig_request(&rig, ns, (const uint32_t[]){1}, 1, 1);
	cache_rig_request(&rig, ns, (const uint32_t[]){3}, 1, 0);
	assert_int_not_equal(cache_rig_find(&rig, ns, 1), 0); /* the use counted */
	assert_int_equal(cache_rig_find(&rig, ns, 2), 0);
	cache_rig_assert_empties(&rig);
	cache_rig_close(&rig);
}

/* Of a namespace that stays in memory: NVMe is passed over, whatever puts blocks there. */
static void test_blocks_that_stay_in_memory(void **state)
{
	(void)state;
	struct cache_rig rig;
	cache_rig_open(&rig, "test_blocks_that_stay_in_memory", 1, (const uint64_t[]){2, 2, 8});
	struct cache *cache = rig.cache;
	uint16_t ns = cache_rig_namespace_in_memory(&rig, 1), other = cache_rig_namespace(&rig, 1);
	uint32_t number;

	for (uint32_t n = 1; n <= 8; n++) {
		cache_rig_request(&rig, ns, &n, 1, 0);
		cache_rig_request(&rig, other, &n, 1, 0);
		assert_int_equal(namespaces_get(cache->namespaces, ns)->blocks_in[HBM_TIER_NVME],
				 0);
	}
	/* Two in HBM and two in DDR, half of each of either; what was evicted is gone. */
	for (uint32_t n = 1; n <= 8; n++) {
		assert_int_equal(cache_rig_find(&rig, ns, n) != 0, n > 6);
		assert_int_not_equal(cache_rig_find(&rig, other, n), 0);
	}
	assert_int_equal(cache->counters.evicted_blocks, 6);

	number = cache_rig_find(&rig, ns, 8);
	assert_int_equal(cache_move(cache, number, cache->nvme), HBM_NO_SPACE);
	assert_int_equal(cache_move(cache, number, cache->ddr), HBM_OK);
	cache_settle(cache);
	assert_int_equal(cache_block(cache, number)->target, cache->ddr->number);
	assert_int_equal(cache_push_out(cache, cache->ddr, UINT64_MAX, UINT64_MAX).blocks, 2);
	assert_int_equal(cache_rig_find(&rig, ns, 8), 0);
	cache_rig_assert_empties(&rig);
	cache_rig_close(&rig);
}

/* Used, but in no tier: there is none that can hold it. */
static void test_a_block_larger_than_every_tier(void **state)
{
	(void)state;
	struct cache_rig rig;
	cache_rig_open(&rig, "test_a_block_larger_than_every_tier", 1, (const uint64_t[]){2, 3, 1});
	uint16_t ns = cache_rig_namespace(&rig, 4), fits = cache_rig_namespace(&rig, 3);
	cache_rig_request(&rig, ns, (const uint32_t[]){1}, 1, 0);
	cache_rig_request(&rig, fits, (const uint32_t[]){1}, 1, 0);
	assert_int_equal(cache_block(rig.cache, cache_rig_find(&rig, ns, 1))->target, 0);
	assert_int_equal(cache_block(rig.cache, cache_rig_find(&rig, fits, 1))->target, 2);
	cache_rig_assert_empties(&rig);
	cache_rig_close(&rig);
}

/* One of several uses that go on by turns. */
struct slow_use {
	struct cache_touch touch;
	uint64_t left; /* blocks */
	uint32_t number;
};

/* One slice of it, of a few steps. */
static void go_on_using(struct cache_rig *rig, uint16_t ns, struct slow_use *use)
{
	struct slice slice = {.until_ns = 0};
	if (use->left == 0)
		return;

	if (!use->touch.busy)
		use->number = cache_rig_find(rig, ns, (uint32_t)seed_below(&rig->seed, NODES_USED));
	if (cache_touch_some(rig->cache, &use->touch, use->number, 0, &slice) && --use->left == 0)
		cache_touch_end(rig->cache);
}

/* The same when several uses take turns, between two blocks of each, and blocks go
 * meanwhile. */
static void test_uses_in_turns(void **state)
{
	enum { USES = 3 };

	(void)state;
	for (unsigned round = 0; round < 30; round++) {
		struct cache_rig rig;
		struct slow_use uses[USES];

		cache_rig_open(&rig, "test_uses_in_turns", 1,
			       (const uint64_t[]){CACHE_RIG_BLOCKS, 0, 0});
		uint16_t ns = grow_tree(&rig);
		for (unsigned i = 0; i < USES; i++) {
			uses[i] = (struct slow_use){.left = 1 + seed_below(&rig.seed, 40)};
			cache_touch_begin(rig.cache, &uses[i].touch);
		}

		while (rig.cache->touching > 0) {
			uint32_t victim = cache_rig_find(
				&rig, ns, 1 + (uint32_t)seed_below(&rig.seed, NODES_USED - 1));

			go_on_using(&rig, ns, &uses[seed_below(&rig.seed, USES)]);
			if (victim != 0 && seed_below(&rig.seed, 40) == 0)
				cache_drop(rig.cache, victim);
		}

		while (cache_drop_pending(rig.cache, 64))
			;
		cache_settle(rig.cache);
		assert_parents_are_ahead(rig.cache);
		cache_rig_assert_empties(&rig);
		cache_rig_close(&rig);
	}
}

/* While uses go on nobody else evicts what these have put into the tiers: what is pushed
 * out is settled by the last of them. */
static void test_what_is_pushed_out_during_uses(void **state)
{
	(void)state;
	struct cache_rig rig;
	struct slice forever = {.until_ns = UINT64_MAX};
	struct cache_touch first, last;
	cache_rig_open(&rig, "test_what_is_pushed_out_during_uses", 1, (const uint64_t[]){4, 2, 2});
	struct cache *cache = rig.cache;
	uint16_t ns = cache_rig_namespace(&rig, 1);
	for (uint32_t n = 0; n < 6; n++)
		cache_rig_request(&rig, ns, &n, 1, 0);
	assert_int_equal(cache->ddr->bytes, 2 * UNIT);

	cache_touch_begin(cache, &first);
	cache_touch_begin(cache, &last);
	assert_int_equal(cache_push_out(cache, cache_hbm(cache, 0), 1, 1).blocks, 1);
	assert_int_equal(cache->ddr->bytes, 3 * UNIT);
	assert_true(cache_settle_touch(cache, &first, &forever));
	cache_touch_end(cache);
	assert_int_equal(cache->ddr->bytes, 3 * UNIT);
	assert_true(cache_settle_touch(cache, &last, &forever));
	cache_touch_end(cache);
	assert_int_equal(cache->ddr->bytes, 2 * UNIT);
	assert_int_equal(cache->nvme->bytes, UNIT);
	cache_rig_assert_empties(&rig);
	cache_rig_close(&rig);
}

/* One request walks so far and no further; what it has come to is used all the same. */
static void test_a_walk_has_an_end(void **state)
{
	(void)state;
	struct cache_rig rig;
	cache_rig_open(&rig, "test_a_walk_has_an_end", 1, (const uint64_t[]){8, 0, 0});
	struct cache *cache = rig.cache;
	uint16_t ns = cache_rig_namespace(&rig, 1);
	cache_rig_request(&rig, ns, (const uint32_t[]){1, 2, 3, 4}, 4, 0);
	cache_rig_request(&rig, ns, (const uint32_t[]){5}, 1, 0);

	struct cache_touch touch;
	cache_touch_begin(cache, &touch);
	touch.walk_left = 1;
	cache_touch(cache, &touch, cache_rig_find(&rig, ns, 4), 0);

	static const uint32_t order[] = {3, 4, 5, 1, 2};
	uint32_t number = 0;
	for (size_t i = 0; i < 5; i++) {
		number = order_walk(cache->orders[1], number);
		assert_int_equal(number, cache_rig_find(&rig, ns, order[i]));
	}

	cache_rig_assert_empties(&rig);
	cache_rig_close(&rig);
}

static void test_closing_none(void **state)
{
	(void)state;
	assert_null(cache_close(NULL));
}

static void test_incomplete_blocks_are_not_found(void **state)
{
	(void)state;
	struct cache_rig rig;
	cache_rig_open(&rig, "test_incomplete_blocks_are_not_found", 1,
		       (const uint64_t[]){8, 0, 0});
	uint16_t ns = cache_rig_namespace(&rig, 1);
	struct hbm_wire_key key = cache_rig_key(1);
	uint32_t number = cache_insert(rig.cache, ns, &key, 0);
	assert_int_equal(cache_rig_find(&rig, ns, 1), 0);
	block_stored(&rig.cache->blocks, number, (struct place){0});
	assert_int_equal(cache_rig_find(&rig, ns, 1), number);
	cache_rig_assert_empties(&rig);
	cache_rig_close(&rig);
}

/* What uses a dropped block keeps its slot and number, each until it is done with it. */
static void test_a_dropped_block_goes_when_nothing_uses_it(void **state)
{
	(void)state;
	struct cache_rig rig;
	cache_rig_open(&rig, "test_a_dropped_block_goes_when_nothing_uses_it", 1,
		       (const uint64_t[]){8, 8, 0});
	struct cache *cache = rig.cache;
	uint16_t ns = cache_rig_namespace(&rig, 1);
	uint32_t number = cache_rig_insert_placed(&rig, ns, 1);
	cache_push_out(cache, cache_hbm(cache, 0), 1,
		       1); /* belongs to DDR now, and is on its inbound queue */
	assert_int_equal(cache->ddr->inbound_first, number);
	block_use(&cache->blocks, number);
	cache_drop(cache, number);
	assert_int_equal(cache_rig_find(&rig, ns, 1), 0);
	assert_int_equal(index_used(cache->index, number), true);
	assert_int_equal(cache_hbm(cache, 0)->placed, UNIT);
	block_unuse(&cache->blocks, number);
	assert_int_equal(cache_hbm(cache, 0)->placed, 0);
	assert_int_equal(extent_available(cache_hbm(cache, 0)->extents), 8 * UNIT);
	assert_int_equal(index_used(cache->index, number), true); /* the queue still names it */
	block_unqueue(&cache->blocks, cache->ddr);
	assert_int_equal(index_used(cache->index, number), false);
	namespaces_unref(cache->namespaces, ns);
	assert_int_equal(namespaces_count(cache->namespaces), 0);
	cache_rig_close(&rig);
}

/* The oldest go, one for one, also where they wait to be moved to the tier they belong
 * to. */
static void test_room_in_the_index(void **state)
{
	enum { BLOCKS = 8 };

	(void)state;
	struct cache_rig rig;
	cache_rig_open(&rig, "test_room_in_the_index", 1,
		       (const uint64_t[]){BLOCKS, BLOCKS, BLOCKS});
	struct cache *cache = rig.cache;
	uint16_t ns = cache_rig_namespace(&rig, 1);
	for (uint32_t key = 1; key <= BLOCKS; key++)
		cache_rig_insert_placed(&rig, ns, key);
	cache_push_out(cache, cache_hbm(cache, 0), 4 * UNIT, 4);
	assert_int_equal(cache->ddr->blocks, 4);
	const uint32_t gone[] = {0, 2, 6};
	struct slice never = {.until_ns = UINT64_MAX};
	for (uint32_t i = 0; i < 3; i++) {
		cache_make_room(cache, ns, CACHE_RIG_BLOCKS - BLOCKS + gone[i], &never);
		assert_int_equal(index_count(cache->index), BLOCKS - gone[i]);
		for (uint32_t key = 1; key <= BLOCKS; key++)
			assert_int_equal(cache_rig_find(&rig, ns, key) == 0, key <= gone[i]);
	}

	assert_int_equal(cache->ddr->inbound_first, 0);
	cache_rig_assert_empties(&rig);
	cache_make_room(cache, ns, CACHE_RIG_BLOCKS + 1, &never); /* more than there can be */
	cache_rig_close(&rig);
}

/* Whatever the step, and whatever else is dropped between two steps. */
static void test_all_of_a_namespace_is_dropped_in_steps(void **state)
{
	(void)state;
	for (uint32_t step = 1; step <= 16; step *= 2) {
		struct cache_rig rig;
		cache_rig_open(&rig, "test_all_of_a_namespace_is_dropped_in_steps", 1,
			       (const uint64_t[]){64, 0, 0});
		struct cache *cache = rig.cache;
		uint16_t ns = cache_rig_namespace(&rig, 1), other = cache_rig_namespace(&rig, 2);
		cache_rig_request(&rig, ns, (const uint32_t[]){1, 2, 3, 4}, 4, 0);
		cache_rig_request(&rig, other, (const uint32_t[]){1, 2, 3}, 3, 0);
		cache_rig_request(&rig, ns, (const uint32_t[]){1, 2, 5, 6}, 4, 0);
		cache_rig_request(&rig, ns, (const uint32_t[]){7}, 1, 0);

		struct cache_drop drop = {.ns = ns};
		assert_int_equal(cache_drop_some(cache, &drop, step), true);
		if (cache_rig_find(&rig, ns, 2) != 0)
			cache_drop(cache, cache_rig_find(&rig, ns, 2));
		while (cache_drop_some(cache, &drop, step))
			;

		for (uint32_t key = 1; key <= 7; key++)
			assert_int_equal(cache_rig_find(&rig, ns, key), 0);
		for (uint32_t key = 1; key <= 3; key++)
			assert_int_not_equal(cache_rig_find(&rig, other, key), 0);
		assert_int_equal(namespace_blocks(namespaces_get(cache->namespaces, ns)), 0);
		assert_int_equal(index_count(cache->index), 3);
		cache_rig_assert_empties(&rig);
		cache_rig_close(&rig);
	}
}

static void test_nothing_is_found_while_its_namespace_is_dropped(void **state)
{
	(void)state;
	struct cache_rig rig;
	cache_rig_open(&rig, "test_nothing_is_found_while_its_namespace_is_dropped", 1,
		       (const uint64_t[]){8, 0, 0});
	uint16_t ns = cache_rig_namespace(&rig, 1);
	struct namespace *namespace = namespaces_get(rig.cache->namespaces, ns);
	cache_rig_request(&rig, ns, (const uint32_t[]){1}, 1, 0);
	namespace->drop = (struct namespace_drop *)namespace;
	assert_int_equal(cache_rig_find(&rig, ns, 1), 0);
	namespace->drop = NULL;
	assert_int_not_equal(cache_rig_find(&rig, ns, 1), 0);
	cache_rig_assert_empties(&rig);
	cache_rig_close(&rig);
}

static unsigned pending;

static void count_pending(void *arg)
{
	(void)arg;
	pending++;
}

/* However many blocks do not fit any more, and whoever has to settle that: each goes on for a part
 * of them, and says that there are more. */
static void test_much_is_settled_in_parts(void **state)
{
	enum { MANY = 3000, AT_ONCE = 256 };

	(void)state;
	struct cache_rig rig;
	cache_rig_open(&rig, "test_much_is_settled_in_parts", 1, (const uint64_t[]){MANY, MANY, 0});
	uint16_t ns = cache_rig_namespace(&rig, 1);
	struct cache *cache = rig.cache;
	struct tier *hbm = cache_hbm(cache, 0);
	unsigned parts = 0;

	for (uint32_t n = 0; n < MANY; n++)
		cache_rig_request(&rig, ns, &n, 1, 0);
	assert_int_equal(hbm->blocks, MANY);

	cache->drops.pending = count_pending;
	hbm->usable = 100 * UNIT;
	assert_int_equal(cache_push_out(cache, hbm, 1, 1).blocks, 1);
	assert_int_equal(pending, 1);
	assert_int_equal(hbm->blocks, MANY - 1 - AT_ONCE);
	for (uint64_t left = hbm->blocks; cache_settle_rest(cache); left = hbm->blocks) {
		assert_in_range(left - hbm->blocks, 1, AT_ONCE);
		parts++;
	}
	assert_in_range(parts, (MANY - 101) / AT_ONCE - 2, MANY / AT_ONCE + 1);
	assert_int_equal(hbm->blocks, 100);
	assert_false(cache->unsettled);
	assert_int_equal(pending, 1);

	/* while touches go on it is theirs */
	struct cache_touch touch;
	struct slice slice = {.until_ns = UINT64_MAX};
	hbm->usable = 50 * UNIT;
	cache_touch_begin(cache, &touch);
	cache_settle_soon(cache);
	assert_false(cache_settle_rest(cache));
	assert_int_equal(hbm->blocks, 100);
	assert_true(cache_settle_touch(cache, &touch, &slice));
	cache_touch_end(cache);
	assert_int_equal(hbm->blocks, 50);

	/* without anyone for the rest it is all done at once */
	cache->drops.pending = NULL;
	cache->ddr->usable = 10 * UNIT;
	cache_settle_soon(cache);
	assert_int_equal(cache->ddr->blocks, 10);
	cache_rig_assert_empties(&rig);
	cache_rig_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_branches_share_their_walk),
		cmocka_unit_test(test_parents_go_after_their_children),
		cmocka_unit_test(test_uses_in_turns),
		cmocka_unit_test(test_a_use_without_a_tier_that_fits),
		cmocka_unit_test(test_blocks_that_stay_in_memory),
		cmocka_unit_test(test_a_block_larger_than_every_tier),
		cmocka_unit_test(test_what_is_pushed_out_during_uses),
		cmocka_unit_test(test_much_is_settled_in_parts),
		cmocka_unit_test(test_a_walk_has_an_end),
		cmocka_unit_test(test_closing_none),
		cmocka_unit_test(test_incomplete_blocks_are_not_found),
		cmocka_unit_test(test_a_dropped_block_goes_when_nothing_uses_it),
		cmocka_unit_test(test_room_in_the_index),
		cmocka_unit_test(test_all_of_a_namespace_is_dropped_in_steps),
		cmocka_unit_test(test_nothing_is_found_while_its_namespace_is_dropped),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
