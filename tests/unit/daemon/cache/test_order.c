/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Another order than the daemon's through the same cache: first in, first out. Against a
 * model over arrays, which knows each tier as a list of keys in the order of their
 * coming, takes the first as victim, and a child of it that is in the same tier instead
 * where there is one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "daemon/cache/cache.h"
#include "daemon/config/config.h"
#include "tests/support/leaks.h"
#include "tests/support/open_namespace.h"
#include "tests/support/order_fifo.h"
#include "tests/support/seed.h"

enum { TIERS = 3, NODES = 200, ROOTS = 10, DEPTH_MAX = 12, PINS_MAX = 2 };
#define UNIT ((uint64_t)EXTENT_UNIT)

/* A key of the model: its parent is a lower one, fixed for the test. */
struct node {
	uint32_t parent, depth; /* NODES: none */
	uint64_t born;          /* 0: not there */
	int tier;
	bool pinned;
};

struct fifo {
	uint32_t list[NODES], count; /* first to go first */
	uint64_t blocks, capacity;
};

struct model {
	struct leaks leaks;
	struct config config;
	struct ledger ledger;
	struct cache *cache;
	struct seed seed;
	uint16_t ns;
	struct node nodes[NODES];
	struct fifo tiers[TIERS + 1];
	uint64_t births;
	uint32_t pins;
};

static void model_open(struct model *model, const char *name, const uint64_t *units)
{
	static const enum hbm_tier kinds[] = {HBM_TIER_HBM, HBM_TIER_DDR, HBM_TIER_NVME};

	*model = (struct model){0};
	leaks_begin(&model->leaks);
	seed_open(&model->seed, name);
	assert_int_equal(config_defaults(&model->config), 0);
	model->config.limit_blocks = NODES + 1;
	ledger_open(&model->ledger, &model->config);
	assert_int_equal(
		cache_open_ordered(&model->cache, &model->config, &model->ledger, 1, &order_fifo),
		0);

	struct cache *cache = model->cache;
	cache->pinned_limit = (struct config_size){.percent = 100};
	for (uint8_t i = 1; i <= TIERS; i++) {
		uint64_t bytes = units[i - 1] * UNIT;
		assert_int_equal(tier_init(&cache->tiers[i], kinds[i - 1], i, bytes, 0, NODES), 0);
		assert_int_equal(tier_grow(&cache->tiers[i], 0, bytes), 0);
		cache->tiers[i].below = i < TIERS ? &cache->tiers[i + 1] : NULL;
		model->tiers[i].capacity = units[i - 1];
	}

	struct hbm_wire_namespace_spec spec = {.block_bytes = UNIT};
	model->ns = open_namespace(cache->namespaces, &model->ledger, &spec);

	for (uint32_t n = 0; n < NODES; n++) {
		uint32_t parent = n < ROOTS ? NODES : (uint32_t)seed_below(&model->seed, n);
		if (parent != NODES && model->nodes[parent].depth == DEPTH_MAX)
			parent = NODES;
		model->nodes[n].parent = parent;
		model->nodes[n].depth = parent == NODES ? 1 : model->nodes[parent].depth + 1;
	}
}

static void model_close(struct model *model)
{
	model->cache = cache_close(model->cache);
	config_clear(&model->config);
	assert_int_equal(leaks_end(&model->leaks), 0);
}

static struct hbm_wire_key key_of(uint32_t node)
{
	struct hbm_wire_key key = {{1}};
	memcpy(key.bytes + 8, &node, sizeof(node));
	return key;
}

static uint32_t number_of(const struct model *model, uint32_t node)
{
	struct hbm_wire_key key = key_of(node);
	return cache_find(model->cache, model->ns, &key);
}

/* ---- the model ---- */

static bool model_is_held(const struct model *model, uint32_t node)
{
	if (model->nodes[node].pinned)
		return true;
	for (uint32_t n = 0; n < NODES; n++)
		if (model->nodes[n].born && model->nodes[n].parent == node &&
		    model_is_held(model, n))
			return true;

	return false;
}

static void model_append(struct model *model, uint32_t node)
{
	struct fifo *fifo = &model->tiers[model->nodes[node].tier];
	fifo->list[fifo->count++] = node;
}

static void model_take(struct model *model, uint32_t node)
{
	struct fifo *fifo = &model->tiers[model->nodes[node].tier];
	uint32_t i = 0;

	while (fifo->list[i] != node)
		assert_true(++i < fifo->count);
	fifo->count--;
	memmove(&fifo->list[i], &fifo->list[i + 1], (fifo->count - i) * sizeof(node));
}

static void model_move(struct model *model, uint32_t node, int tier)
{
	if (model->nodes[node].tier != 0) {
		model_take(model, node);
		model->tiers[model->nodes[node].tier].blocks--;
	}

	model->nodes[node].tier = tier;
	if (tier != 0) {
		model->tiers[tier].blocks++;
		model_append(model, node);
	}
}

static void model_drop(struct model *model, uint32_t node)
{
	for (uint32_t n = 0; n < NODES; n++)
		if (model->nodes[n].born && model->nodes[n].parent == node)
			model_drop(model, n);
	model_move(model, node, 0);
	model->nodes[node].born = 0;
}

/* The youngest child in the same tier; NODES: none. */
static uint32_t model_child(const struct model *model, uint32_t node)
{
	uint32_t youngest = NODES;
	for (uint32_t n = 0; n < NODES; n++) {
		const struct node *child = &model->nodes[n];
		if (!child->born || child->parent != node || child->tier != model->nodes[node].tier)
			continue;
		if (youngest == NODES || child->born > model->nodes[youngest].born)
			youngest = n;
	}

	return youngest;
}

static void model_settle(struct model *model)
{
	for (int tier = 1; tier <= TIERS; tier++) {
		struct fifo *fifo = &model->tiers[tier];
		while (fifo->blocks > fifo->capacity) {
			assert_true(fifo->count > 0);
			uint32_t victim = fifo->list[0];
			while (model_child(model, victim) != NODES)
				victim = model_child(model, victim);
			if (tier == TIERS)
				model_drop(model, victim);
			else
				model_move(model, victim, tier + 1);
		}
	}
}

/* ---- both at once ---- */

static void use_node(struct model *model, uint32_t leaf)
{
	uint32_t path[DEPTH_MAX], depth = 0;

	for (uint32_t n = leaf; n != NODES; n = model->nodes[n].parent)
		path[depth++] = n;

	struct cache *cache = model->cache;
	for (uint32_t i = depth, parent = 0; i-- > 0; parent = number_of(model, path[i])) {
		if (model->nodes[path[i]].born)
			continue;

		struct hbm_wire_key key = key_of(path[i]);
		uint32_t number = cache_insert(cache, model->ns, &key, parent);
		assert_int_not_equal(number, 0);
		block_stored(&cache->blocks, number, (struct place){0});
		model->nodes[path[i]].born = ++model->births;
	}

	struct cache_touch touch;
	cache_touch_begin(cache, &touch);
	cache_touch(cache, &touch, number_of(model, leaf), 0);
	cache_settle(cache);
	cache_touch_end(cache);

	for (uint32_t i = depth; i-- > 0;)
		if (model->nodes[path[i]].tier != 1 && !model_is_held(model, path[i]))
			model_move(model, path[i], 1);

	model_settle(model);
}

static void pin_node(struct model *model, uint32_t node)
{
	if (!model->nodes[node].born || model->nodes[node].pinned || model->pins == PINS_MAX)
		return;

	assert_int_equal(
		cache_pin(model->cache, number_of(model, node), &(uint32_t){CACHE_WALK_MAX}),
		HBM_OK);
	for (uint32_t n = node; n != NODES && !model_is_held(model, n); n = model->nodes[n].parent)
		model_take(model, n);
	model->nodes[node].pinned = true;
	model->pins++;
}

static void unpin_node(struct model *model, uint32_t node)
{
	if (!model->nodes[node].pinned)
		return;

	cache_unpin(model->cache, number_of(model, node));
	model->nodes[node].pinned = false;
	model->pins--;
	for (uint32_t n = node; n != NODES && !model_is_held(model, n); n = model->nodes[n].parent)
		model_append(model, n);
}

/* The same blocks in the same tiers in the same order, none of them over its capacity. */
static void compare(const struct model *model)
{
	const struct cache *cache = model->cache;
	for (uint32_t n = 0; n < NODES; n++) {
		uint32_t number = number_of(model, n);
		assert_int_equal(number != 0, model->nodes[n].born != 0);
		if (number != 0)
			assert_int_equal(cache_block(cache, number)->target, model->nodes[n].tier);
	}

	for (int tier = 1; tier <= TIERS; tier++) {
		const struct fifo *fifo = &model->tiers[tier];
		uint32_t number = 0;

		for (uint32_t i = fifo->count; i-- > 0;) {
			number = order_walk(cache->orders[tier], number);
			assert_int_equal(number, number_of(model, fifo->list[i]));
		}

		assert_int_equal(order_walk(cache->orders[tier], number), 0);
		assert_int_equal(cache->tiers[tier].bytes, fifo->blocks * UNIT);
		assert_in_range(cache->tiers[tier].bytes, 0, cache->tiers[tier].usable);
	}
}

/* On one device and without pins, no block is ever in a tier below one of its children. */
static void assert_leaf_first(const struct cache *cache)
{
	for (uint32_t number = 1; number <= index_highest(cache->index); number++) {
		if (!index_used(cache->index, number))
			continue;
		const struct block *block = cache_block(cache, number);
		if (block->parent != 0)
			assert_in_range(cache_block(cache, block->parent)->target, 1,
					block->target);
	}
}

static void fifo_test(const char *name, bool pins, const uint64_t *units)
{
	struct model *model = calloc(1, sizeof(*model));

	assert_non_null(model);
	model_open(model, name, units);

	for (unsigned step = 0; step < 4000; step++) {
		uint32_t node = (uint32_t)seed_below(&model->seed, NODES);

		if (pins && seed_below(&model->seed, 4) == 0)
			pin_node(model, node);

		for (uint32_t n = 0; pins && n < NODES; n++)
			if (seed_below(&model->seed, 20) == 0)
				unpin_node(model, n);

		use_node(model, (uint32_t)seed_below(&model->seed, NODES));
		compare(model);
		if (!pins)
			assert_leaf_first(model->cache);
	}

	model_close(model);
	free(model);
}

static void test_fifo(void **state)
{
	(void)state;
	fifo_test("test_fifo", false, (const uint64_t[]){20, 40, 60});
}

static void test_fifo_of_tiers_smaller_than_a_chain(void **state)
{
	(void)state;
	fifo_test("test_fifo_of_tiers_smaller_than_a_chain", false, (const uint64_t[]){1, 3, 30});
}

static void test_fifo_with_pins(void **state)
{
	(void)state;
	uint64_t least = PINS_MAX * DEPTH_MAX;
	fifo_test("test_fifo_with_pins", true,
		  (const uint64_t[]){least + 10, least + 10, least + 10});
}

/* The daemon's own is least recently used, and keeps parents behind their children by
 * itself. */
static void test_the_order_of_the_daemon(void **state)
{
	(void)state;
	struct config config;
	struct ledger ledger;
	struct cache *cache;
	assert_int_equal(config_defaults(&config), 0);
	config.limit_blocks = NODES;
	ledger_open(&ledger, &config);
	assert_int_equal(cache_open(&cache, &config, &ledger, 1), 0);
	for (uint32_t i = 1; i <= cache->tier_count; i++)
		assert_ptr_equal(cache->orders[i]->ops, &order_lru);
	cache_close(cache);
	config_clear(&config);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fifo),
		cmocka_unit_test(test_fifo_of_tiers_smaller_than_a_chain),
		cmocka_unit_test(test_fifo_with_pins),
		cmocka_unit_test(test_the_order_of_the_daemon),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
