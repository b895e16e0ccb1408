/* SPDX-License-Identifier: Apache-2.0 */
/* Blocks counted again in steps: whatever changes between two steps, what comes out is what
 * one walk at the end finds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/cache/block.h"
#include "daemon/cache/cache.h"
#include "daemon/cache/recount.h"
#include "tests/support/cache_rig.h"
#include "tests/support/seed.h"

enum { KEYS = 500, PINS = 8 };

/* The walk: of one tier. */
static struct recount_tier walk(const struct cache *cache, uint32_t tier)
{
	struct recount_tier found = {0};

	for (uint32_t number = 1; number <= index_highest(cache->index); number++) {
		const struct block *block = cache_block(cache, number);
		uint64_t bytes = block_stored_bytes(block);
		if (!index_used(cache->index, number))
			continue;

		if (block->actual == tier)
			*(block->move != 0 ? &found.source : &found.placed) += bytes;
		if (block->target != tier)
			continue;

		found.blocks++;
		found.belongs += bytes;
		found.logical += block_logical_bytes(&cache->blocks, number);
		if (block->refs > 0)
			found.pinned += bytes;
		else
			found.ordered++;
	}

	for (uint32_t number = 0; (number = order_walk(cache->orders[tier], number)) != 0;)
		found.seen++;

	return found;
}

static void assert_as_walked(const struct recount *recount)
{
	const struct cache *cache = recount->cache;

	assert_int_equal(recount->entries, index_count(cache->index));
	assert_int_equal(recount->orphans, 0);

	uint64_t pins = 0;
	for (uint32_t number = 1; number <= index_highest(cache->index); number++)
		pins += index_used(cache->index, number) ? cache_block(cache, number)->pins : 0;
	assert_int_equal(recount->pins, pins);

	for (uint32_t i = 1; i <= cache->tier_count; i++) {
		const struct recount_tier *tier = &recount->tiers[i];
		struct recount_tier found = walk(cache, i);

		assert_int_equal(tier->broken, 0);
		assert_int_equal(tier->placed, found.placed);
		assert_int_equal(tier->source, found.source);
		assert_int_equal(tier->belongs, found.belongs);
		assert_int_equal(tier->logical, found.logical);
		assert_int_equal(tier->blocks, found.blocks);
		assert_int_equal(tier->ordered, found.ordered);
		assert_int_equal(tier->pinned, found.pinned);
		assert_int_equal(tier->seen, found.seen);
	}
}

struct traffic {
	struct cache_rig rig;
	uint16_t ns[2];
	uint32_t pins[PINS], moving;
};

static void use(struct traffic *traffic, uint32_t number)
{
	struct cache *cache = traffic->rig.cache;
	struct cache_touch touch;

	cache_touch_begin(cache, &touch);
	cache_touch(cache, &touch, number, 0);
	cache_settle(cache);
	cache_touch_end(cache);
}

/* A block in HBM if there is room, else nowhere. */
static uint32_t insert(struct traffic *traffic, uint16_t ns, uint32_t n, uint32_t parent)
{
	struct cache *cache = traffic->rig.cache;
	struct hbm_wire_key key = cache_rig_key(n);
	struct place place = {.tier = cache_hbm(cache, 0)};

	(void)cache_make_room(cache, ns, 1, &(struct slice){UINT64_MAX, 0});
	if (parent != 0)
		parent = cache_rig_find(&traffic->rig, ns, n - 1);

	uint32_t number = cache_insert(cache, ns, &key, parent);
	place.unit = tier_alloc(place.tier, block_stored_bytes(cache_block(cache, number)));
	if (place.unit == UINT32_MAX)
		place.tier = NULL;
	block_stored(&cache->blocks, number, place);

	return number;
}

/* Begins, ends or finishes the one move. */
static void move(struct traffic *traffic, uint32_t number)
{
	struct cache *cache = traffic->rig.cache;
	struct blocks *blocks = &cache->blocks;
	const struct block *block = cache_block(cache, number);

	if (traffic->moving == 0) {
		if (number != 0 && block->actual != 0 && block->state == BLOCK_RESIDENT)
			block_begin_move(blocks, traffic->moving = number, 1);
		return;
	}

	number = traffic->moving;
	traffic->moving = 0;
	block = cache_block(cache, number);
	struct place to = {.tier = cache->ddr};
	if (!block_is_dropped(block))
		to.unit = tier_alloc(to.tier, block_stored_bytes(block));
	if (!block_is_dropped(block) && to.unit != UINT32_MAX)
		block_placed(blocks, number, to);
	else
		block_end_move(blocks, number);
}

static void unpin(struct traffic *traffic, uint32_t *pin)
{
	if (*pin != 0)
		cache_unpin(traffic->rig.cache, *pin);
	*pin = 0;
}

static void do_something(struct traffic *traffic)
{
	struct seed *seed = &traffic->rig.seed;
	struct cache *cache = traffic->rig.cache;
	uint16_t ns = traffic->ns[seed_below(seed, 2)];
	uint32_t n = 1 + (uint32_t)seed_below(seed, KEYS);
	uint32_t number = cache_rig_find(&traffic->rig, ns, n);
	uint32_t *pin = &traffic->pins[seed_below(seed, PINS)];

	switch (seed_below(seed, 14)) {
	case 0:
		if (number != 0)
			cache_drop(cache, number);
		break;
	case 1:
		cache_drop_pending(cache, (uint32_t)seed_below(seed, 9));
		break;
	case 2:
		unpin(traffic, pin);
		if (number != 0 && cache_pin(cache, number, &(uint32_t){CACHE_WALK_MAX}) == HBM_OK)
			*pin = number;
		break;
	case 3:
	case 4:
		move(traffic, number);
		break;
	case 5:
		cache_push_out(cache, &cache->tiers[1 + seed_below(seed, 3)], UINT64_MAX,
			       seed_below(seed, 4));
		break;
	default:
		if (number == 0)
			number = insert(traffic, ns, n, cache_rig_find(&traffic->rig, ns, n - 1));
		use(traffic, number);
	}

	for (uint32_t i = 1; i <= cache->tier_count; i++)
		while (cache->tiers[i].inbound_first != 0 && seed_below(seed, 2) == 0)
			block_unqueue(&cache->blocks, &cache->tiers[i]);
}

static void traffic_open(struct traffic *traffic, const char *name)
{
	*traffic = (struct traffic){0};
	cache_rig_open(&traffic->rig, name, 1, (const uint64_t[]){120, 300, 400});
	traffic->ns[0] = cache_rig_namespace(&traffic->rig, 1);
	traffic->ns[1] = cache_rig_namespace(&traffic->rig, 2);
}

static void traffic_close(struct traffic *traffic)
{
	if (traffic->moving != 0)
		block_end_move(&traffic->rig.cache->blocks, traffic->moving);
	for (uint32_t i = 0; i < PINS; i++)
		unpin(traffic, &traffic->pins[i]);
	for (uint32_t number = 1; number <= index_highest(traffic->rig.cache->index); number++)
		if (index_used(traffic->rig.cache->index, number))
			cache_drop(traffic->rig.cache, number);
	cache_rig_close(&traffic->rig);
}

static void test_changes_between_steps(void **state)
{
	(void)state;
	struct traffic traffic;
	traffic_open(&traffic, __func__);

	for (unsigned round = 0; round < 60; round++) {
		struct recount *recount;
		assert_int_equal(recount_new(&recount, traffic.rig.cache), 0);
		do {
			for (uint64_t i = seed_below(&traffic.rig.seed, 20); i > 0; i--)
				do_something(&traffic);
		} while (recount_some(recount, 1 + (uint32_t)seed_below(&traffic.rig.seed, 60)));

		assert_as_walked(recount);
		for (unsigned i = 0; i < 50; i++) { /* it stays right */
			do_something(&traffic);
			while (recount_some(recount, 1))
				;
			assert_as_walked(recount);
		}

		recount_free(recount);
	}

	traffic_close(&traffic);
}

/* In one step, of nothing and of something. */
static void test_at_once(void **state)
{
	(void)state;
	struct traffic traffic;
	struct recount *recount;
	traffic_open(&traffic, __func__);

	for (unsigned round = 0; round < 2; round++) {
		assert_int_equal(recount_new(&recount, traffic.rig.cache), 0);
		assert_false(recount_some(recount, UINT32_MAX));
		assert_as_walked(recount);
		recount_free(recount);
		for (unsigned i = 0; i < 2000; i++)
			do_something(&traffic);
	}

	traffic_close(&traffic);
}

/* What is wrong with an order or a tree is found, however small the steps. */
static void test_what_is_broken(void **state)
{
	(void)state;
	struct cache_rig rig;
	cache_rig_open(&rig, __func__, 1, (const uint64_t[]){20, 0, 0});
	uint16_t ns = cache_rig_namespace(&rig, 1);
	for (uint32_t n = 1; n <= 10; n++)
		cache_rig_request(&rig, ns, &n, 1, 0);
	cache_rig_request(&rig, ns, (const uint32_t[]){20, 21}, 2, 0);

	struct block *table = rig.cache->blocks.table;
	uint32_t middle = cache_rig_find(&rig, ns, 5), child = cache_rig_find(&rig, ns, 21);
	uint32_t first = cache_rig_find(&rig, ns, 1);
	struct {
		uint32_t *at, wrong;
	} faults[] = {
		{&table[middle].newer, first},  {&table[middle].older, 0},
		{&table[middle].older, middle}, {&table[middle].older, cache_rig_find(&rig, ns, 8)},
		{&table[child].parent, 99},     {&table[middle].refs, 1},
	};

	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
		for (uint32_t max = 1; max <= 100; max += 33) {
			struct recount *recount;
			uint32_t right = *faults[i].at;

			*faults[i].at = faults[i].wrong;
			assert_int_equal(recount_new(&recount, rig.cache), 0);
			while (recount_some(recount, max))
				;

			const struct recount_tier *tier = &recount->tiers[1];
			assert_true(tier->broken != 0 || tier->seen != tier->ordered ||
				    recount->orphans == 1);
			recount_free(recount);
			*faults[i].at = right;
		}
	}

	cache_rig_assert_empties(&rig);
	cache_rig_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_changes_between_steps),
		cmocka_unit_test(test_at_once),
		cmocka_unit_test(test_what_is_broken),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
