/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The policy beside a model that is as dumb as can be, for all that one LRU list cannot
 * say: blocks of several sizes, two devices, pins, drops. Random operations on both, and
 * after every few all of the cache is compared.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "daemon/cache/cache.h"
#include "daemon/cache/order.h"
#include "tests/support/cache_rig.h"
#include "tests/support/cascade_model.h"
#include "tests/support/seed.h"

/* The cache, and the model of it. */
struct pair {
	struct cache_rig rig;
	struct cascade model;
	uint16_t ns[CASCADE_SIZES];
};

static uint32_t number_of(struct pair *pair, uint32_t node)
{
	return cache_rig_find(&pair->rig, pair->ns[node % CASCADE_SIZES], node);
}

static void use_node(struct pair *pair, uint32_t leaf, uint32_t device)
{
	uint32_t path[CASCADE_NODES], depth = 0;

	for (uint32_t n = leaf; n != CASCADE_NODES; n = pair->model.nodes[n].parent)
		path[depth++] = n;
	for (uint32_t i = depth; i-- > 0;) {
		uint32_t parent = i + 1 < depth ? number_of(pair, path[i + 1]) : 0;
		if (pair->model.nodes[path[i]].there)
			continue;
		cache_rig_insert(&pair->rig, pair->ns[path[i] % CASCADE_SIZES], path[i], parent);
		pair->model.nodes[path[i]].there = true;
	}

	struct cache_touch touch;
	cache_touch_begin(pair->rig.cache, &touch);
	cache_touch(pair->rig.cache, &touch, number_of(pair, leaf), device);
	cache_settle(pair->rig.cache);
	cache_touch_end(pair->rig.cache);
	for (uint32_t i = 0; i < depth; i++)
		cascade_use(&pair->model, path[i], device);
	cascade_settle(&pair->model);
}

static void drop_node(struct pair *pair, uint32_t node)
{
	if (!pair->model.nodes[node].there || cascade_is_pinned(&pair->model, node))
		return;
	cache_drop(pair->rig.cache, number_of(pair, node));
	cascade_drop(&pair->model, node);
}

/* Pins, unless half of some tier would be exceeded; what was found free on the way has
 * been used, then. */
static void pin_node(struct pair *pair, uint32_t node)
{
	if (!pair->model.nodes[node].there)
		return;

	uint32_t fresh[CASCADE_NODES], count = 0;
	uint64_t pinned[CACHE_RIG_TIERS + 1];
	for (uint8_t t = 1; t <= pair->model.devices + 2; t++)
		pinned[t] = cascade_pinned(&pair->model, t);
	bool may = true;
	for (uint32_t n = node; may && n != CASCADE_NODES && !cascade_is_pinned(&pair->model, n);
	     n = pair->model.nodes[n].parent) {
		uint8_t t = pair->model.tier[n];
		pinned[t] += cascade_bytes(n);
		may = pinned[t] <= pair->model.orders[t].capacity / 2;
		if (may)
			fresh[count++] = n;
	}

	assert_int_equal(
		cache_pin(pair->rig.cache, number_of(pair, node), &(uint32_t){CACHE_WALK_MAX}),
		may ? HBM_OK : HBM_LIMIT);
	pair->model.nodes[node].pins += may;
	for (uint32_t i = 0; i < count; i++) {
		cascade_order_take(&pair->model.orders[pair->model.tier[fresh[i]]], fresh[i]);
		if (!may)
			cascade_order_push(&pair->model.orders[pair->model.tier[fresh[i]]],
					   fresh[i]);
	}
}

static void unpin_node(struct pair *pair, uint32_t node)
{
	if (pair->model.nodes[node].pins == 0)
		return;
	cache_unpin(pair->rig.cache, number_of(pair, node));
	pair->model.nodes[node].pins--;
	for (uint32_t n = node; n != CASCADE_NODES && !cascade_is_pinned(&pair->model, n);
	     n = pair->model.nodes[n].parent)
		cascade_order_push(&pair->model.orders[pair->model.tier[n]], n);
}

static void push_out(struct pair *pair, uint8_t tier, uint64_t bytes)
{
	struct cascade_order *order = &pair->model.orders[tier];
	uint64_t gone = 0;

	for (uint32_t most = 5; most > 0 && gone < bytes && order->count > 0; most--) {
		gone += cascade_bytes(order->list[order->count - 1]);
		cascade_push_down(&pair->model, tier);
	}

	cascade_settle(&pair->model);
	struct cache *cache = pair->rig.cache;
	assert_int_equal(cache_push_out(cache, &cache->tiers[tier], bytes, 5).bytes, gone);
}

static void compare_order(struct pair *pair, uint8_t tier)
{
	struct cache *cache = pair->rig.cache;
	const struct cascade_order *order = &pair->model.orders[tier];
	uint32_t number = order_walk(cache->orders[tier], 0), newer = 0;

	for (uint32_t i = 0; i < order->count; i++) {
		assert_int_equal(number, number_of(pair, order->list[i]));
		assert_int_equal(cache_block(cache, number)->newer, newer);
		assert_true(order_lru.is_valid(cache->orders[tier], number));
		newer = number;
		number = order_walk(cache->orders[tier], number);
	}

	assert_int_equal(number, 0);
	assert_int_equal(order_victim(cache->orders[tier], 0), newer);
}

static void compare_namespaces(struct pair *pair)
{
	struct cache *cache = pair->rig.cache;
	uint64_t blocks_in[CASCADE_SIZES][HBM_TIERS] = {0};
	for (uint32_t n = 0; n < CASCADE_NODES; n++)
		if (pair->model.nodes[n].there)
			blocks_in[n % CASCADE_SIZES][cache->tiers[pair->model.tier[n]].kind]++;

	for (uint32_t i = 0; i < CASCADE_SIZES; i++)
		for (unsigned kind = HBM_TIER_HBM; kind < HBM_TIERS; kind++)
			assert_int_equal(
				namespaces_get(cache->namespaces, pair->ns[i])->blocks_in[kind],
				blocks_in[i][kind]);
}

static void compare(struct pair *pair)
{
	struct cache *cache = pair->rig.cache;
	uint64_t there = 0, blocks[CACHE_RIG_TIERS + 1] = {0};

	for (uint32_t n = 0; n < CASCADE_NODES; n++) {
		uint32_t number = number_of(pair, n);

		assert_int_equal(number != 0, pair->model.nodes[n].there);
		if (number == 0)
			continue;

		there++;
		blocks[pair->model.tier[n]]++;
		assert_int_equal(cache_block(cache, number)->target, pair->model.tier[n]);
		assert_int_equal(cache_is_pinned(cache, number),
				 cascade_is_pinned(&pair->model, n));
		assert_int_equal(cache_block(cache, number)->pins, pair->model.nodes[n].pins);
	}

	assert_int_equal(index_count(cache->index), there);
	compare_namespaces(pair);

	for (uint8_t tier = 1; tier <= pair->model.devices + 2; tier++) {
		compare_order(pair, tier);
		assert_int_equal(cache->tiers[tier].blocks, blocks[tier]);
		assert_int_equal(cache->tiers[tier].bytes, pair->model.orders[tier].bytes);
		assert_int_equal(cache_pinned(cache, &cache->tiers[tier]),
				 cascade_pinned(&pair->model, tier));
		assert_in_range(cache->tiers[tier].bytes, 0, cache->tiers[tier].usable);
	}
}

static void random_step(struct pair *pair)
{
	struct seed *seed = &pair->rig.seed;
	uint32_t node = (uint32_t)seed_below(seed, CASCADE_NODES);
	switch (seed_below(seed, 12)) {
	case 0:
		drop_node(pair, node);
		break;
	case 1:
	case 2:
		pin_node(pair, node);
		break;
	case 3:
		for (uint32_t n = 0; n < CASCADE_NODES; n++)
			if (seed_below(seed, 3) == 0)
				unpin_node(pair, n);
		break;
	case 4:
		push_out(pair, (uint8_t)(1 + seed_below(seed, pair->model.devices + 2)),
			 1 + seed_below(seed, 10 * UNIT));
		break;
	default:
		use_node(pair, node, (uint32_t)seed_below(seed, pair->model.devices));
	}
}

static void cascade_test(const char *name, uint32_t devices, const uint64_t *units)
{
	struct pair *pair = calloc(1, sizeof(*pair));

	assert_non_null(pair);
	cache_rig_open(&pair->rig, name, devices, units);
	pair->model.devices = devices;
	for (uint32_t i = 0; i < CASCADE_SIZES; i++)
		pair->ns[i] = cache_rig_namespace(&pair->rig, cascade_bytes(i) / UNIT);
	for (uint32_t i = 1; i <= devices + 2; i++)
		pair->model.orders[i].capacity = units[i - 1] * UNIT;
	for (uint32_t n = 0; n < CASCADE_NODES; n++) /* trees of one namespace each */
		pair->model.nodes[n].parent =
			n < 10 * CASCADE_SIZES
				? CASCADE_NODES
				: n - CASCADE_SIZES *
						  (1 + (uint32_t)seed_below(&pair->rig.seed, 9));

	for (unsigned i = 0; i < 6000; i++) {
		random_step(pair);
		if (i % 4 == 0)
			compare(pair);
	}

	for (uint32_t n = 0; n < CASCADE_NODES; n++)
		while (pair->model.nodes[n].pins > 0)
			unpin_node(pair, n);

	compare(pair);
	cache_rig_assert_empties(&pair->rig);
	cache_rig_close(&pair->rig);
	free(pair);
}

static void test_sizes_pins_and_drops(void **state)
{
	(void)state;
	cascade_test("test_sizes_pins_and_drops", 1, (const uint64_t[]){40, 90, 200});
}

static void test_two_devices(void **state)
{
	(void)state;
	cascade_test("test_two_devices", 2, (const uint64_t[]){30, 50, 90, 200});
}

static void test_tiers_too_small_for_some_blocks(void **state)
{
	(void)state;
	cascade_test("test_tiers_too_small_for_some_blocks", 2, (const uint64_t[]){2, 7, 4, 60});
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sizes_pins_and_drops),
		cmocka_unit_test(test_two_devices),
		cmocka_unit_test(test_tiers_too_small_for_some_blocks),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
