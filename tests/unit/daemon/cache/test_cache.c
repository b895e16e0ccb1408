/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The policy, against two models that are as dumb as can be. The first is one LRU list
 * for one size of block: which blocks are in which tier is the top C1 of it, the next C2,
 * the next C3. The second is the cascade itself over arrays that are searched and
 * shifted, for all that the first cannot say: several sizes, two devices, holding,
 * dropping.
 *
 * No bytes are moved here: a block is stored as soon as it is inserted, or, where that is
 * what is tested, has a slot.
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
#include "daemon/loop/loop.h"
#include "tests/support/leaks.h"
#include "tests/support/seed.h"

enum { DEVICES_MAX = 2, TIERS_MAX = DEVICES_MAX + 2, KEYS = 4000, LENGTH_MAX = 64 };
#define UNIT ((uint64_t)EXTENT_UNIT)

struct setting {
	struct leaks leaks;
	struct config config;
	struct ledger ledger;
	struct cache *cache;
	struct seed seed;
};

/* Capacities in units, by tier from the top; 0: absent. */
static void setting_open(struct setting *setting, const char *name, uint32_t devices,
			 const uint64_t *units)
{
	leaks_begin(&setting->leaks);
	seed_open(&setting->seed, name);
	assert_int_equal(config_defaults(&setting->config), 0);
	setting->config.limit_blocks = KEYS;
	ledger_open(&setting->ledger, &setting->config);
	assert_int_equal(cache_open(&setting->cache, &setting->config, &setting->ledger, devices),
			 0);
	struct cache *cache = setting->cache;
	static const enum hbm_tier kinds[] = {HBM_TIER_DDR, HBM_TIER_NVME};
	for (uint8_t i = 1; i <= devices + 2; i++) {
		uint64_t bytes = units[i - 1] * UNIT;
		if (bytes == 0)
			continue;

		enum hbm_tier kind = i <= devices ? HBM_TIER_HBM : kinds[i - devices - 1];
		assert_int_equal(tier_init(&cache->tiers[i], kind, i, bytes, 0, KEYS), 0);
		assert_int_equal(tier_grow(&cache->tiers[i], 0, bytes), 0);
	}

	for (uint32_t i = 0; i < devices; i++)
		cache_hbm(cache, i)->below = cache->ddr;
	cache->ddr->below = cache->nvme;
}

static void setting_close(struct setting *setting)
{
	setting->cache = cache_close(setting->cache);
	config_clear(&setting->config);
	assert_int_equal(leaks_end(&setting->leaks), 0);
}

static uint16_t open_namespace(struct setting *setting, uint64_t units)
{
	struct hbm_wire_namespace_spec spec = {.weights = units, .block_bytes = units * UNIT};
	return namespaces_open(setting->cache->namespaces, &spec);
}

static struct hbm_wire_key key_of(uint32_t n)
{
	struct hbm_wire_key key = {{1}};
	memcpy(key.bytes + 8, &n, sizeof(n));
	return key;
}

static uint32_t find(struct setting *setting, uint16_t ns, uint32_t n)
{
	struct hbm_wire_key key = key_of(n);
	return cache_find(setting->cache, ns, &key);
}

static uint32_t insert(struct setting *setting, uint16_t ns, uint32_t n, uint32_t parent)
{
	struct hbm_wire_key key = key_of(n);
	uint32_t number = cache_insert(setting->cache, ns, &key, parent);
	assert_int_not_equal(number, 0);
	block_stored(&setting->cache->blocks, number, (struct place){0});
	return number;
}

/* One request of an engine: the chain's blocks that are not there are inserted, then all
 * are used. */
static void request(struct setting *setting, uint16_t ns, const uint32_t *keys, uint32_t count,
		    uint32_t device)
{
	uint32_t numbers[LENGTH_MAX];

	for (uint32_t i = 0; i < count; i++) {
		numbers[i] = find(setting, ns, keys[i]);
		if (numbers[i] == 0)
			numbers[i] = insert(setting, ns, keys[i], i == 0 ? 0 : numbers[i - 1]);
	}

	cache_touch_begin(setting->cache);
	for (uint32_t i = count; i-- > 0;)
		cache_touch(setting->cache, numbers[i], device);
	cache_settle(setting->cache);
}

/* A block with a slot in HBM, used there once. */
static uint32_t insert_placed(struct setting *setting, uint16_t ns, uint32_t n)
{
	struct hbm_wire_key key = key_of(n);
	struct cache *cache = setting->cache;
	uint32_t number = cache_insert(cache, ns, &key, 0);

	assert_int_not_equal(number, 0);
	uint32_t unit = tier_alloc(cache_hbm(cache, 0), UNIT);
	assert_int_not_equal(unit, UINT32_MAX);
	block_stored(&cache->blocks, number, (struct place){cache_hbm(cache, 0), unit});
	request(setting, ns, &n, 1, 0);

	return number;
}

static void assert_emptied(struct setting *setting)
{
	struct cache *cache = setting->cache;
	for (uint32_t number = 1; number <= index_highest(cache->index); number++)
		if (index_used(cache->index, number))
			cache_drop(cache, number);

	for (uint32_t i = 1; i <= cache->tier_count; i++) {
		while (cache->tiers[i].inbound_first != 0)
			block_unqueue(&cache->blocks, &cache->tiers[i]);
		assert_int_equal(cache->tiers[i].blocks, 0);
		assert_int_equal(cache->tiers[i].bytes, 0);
		assert_int_equal(cache_pinned(cache, &cache->tiers[i]), 0);
		assert_int_equal(cache->tiers[i].logical_bytes, 0);
		assert_int_equal(order_victim(cache->orders[i]), 0);
		assert_int_equal(order_walk(cache->orders[i], 0), 0);
		assert_int_equal(cache->tiers[i].placed, 0);
		assert_int_equal(cache->tiers[i].moving, 0);
	}

	assert_int_equal(index_count(cache->index), 0);
}

/* ---- one LRU list ---- */

struct lru {
	uint64_t stamp[KEYS]; /* 0: not in it */
	uint64_t clock, count, capacity;
};

static void lru_request(struct lru *lru, const uint32_t *keys, uint32_t count)
{
	for (uint32_t i = count; i-- > 0;) {
		lru->count += lru->stamp[keys[i]] == 0;
		lru->stamp[keys[i]] = ++lru->clock;
	}
	while (lru->count > lru->capacity) {
		uint32_t oldest = KEYS;
		for (uint32_t k = 0; k < KEYS; k++)
			if (lru->stamp[k] != 0 &&
			    (oldest == KEYS || lru->stamp[k] < lru->stamp[oldest]))
				oldest = k;

		lru->stamp[oldest] = 0;
		lru->count--;
	}
}

static uint64_t lru_rank(const struct lru *lru, uint32_t key)
{
	uint64_t rank = 0;
	for (uint32_t k = 0; k < KEYS; k++)
		rank += lru->stamp[k] > lru->stamp[key];
	return rank;
}

/* Keys of conversations: a turn repeats what was said before and adds to it. */
struct talk {
	uint32_t keys[LENGTH_MAX], length;
};

static void next_turn(struct talk *talk, struct talk *all, uint32_t talks, uint32_t *fresh,
		      struct seed *seed)
{
	if (talk->length >= LENGTH_MAX / 2 || seed_below(seed, 20) == 0) {
		const struct talk *other = &all[seed_below(
			seed, talks)]; /* a new one, maybe with a prefix of another */
		uint32_t shared = (uint32_t)seed_below(seed, other->length + 1);
		memmove(talk->keys, other->keys, shared * sizeof(talk->keys[0]));
		talk->length = shared;
	}
	for (uint64_t more = 1 + seed_below(seed, 10); more > 0; more--)
		talk->keys[talk->length++] = (*fresh)++;
}

static void one_lru_test(const char *name, const uint64_t *units)
{
	enum { TALKS = 12 };
	struct setting setting;

	setting_open(&setting, name, 1, units);
	struct talk talks[TALKS] = {0};
	static struct lru lru;
	lru = (struct lru){.capacity = units[0] + units[1] + units[2]};
	uint16_t ns = open_namespace(&setting, 1);
	for (uint32_t fresh = 0; fresh + 20 < KEYS;) {
		struct talk *talk = &talks[seed_below(&setting.seed, TALKS)];

		next_turn(talk, talks, TALKS, &fresh, &setting.seed);
		request(&setting, ns, talk->keys, talk->length, 0);
		lru_request(&lru, talk->keys, talk->length);

		for (uint32_t k = 0; k < fresh; k++) {
			uint32_t number = find(&setting, ns, k);

			assert_int_equal(number != 0, lru.stamp[k] != 0);
			if (number == 0 || seed_below(&setting.seed, 8) != 0)
				continue;

			uint64_t rank = lru_rank(&lru, k);
			uint8_t tier = rank < units[0] ? 1 : rank < units[0] + units[1] ? 2 : 3;
			assert_int_equal(cache_block(setting.cache, number)->target, tier);
		}

		assert_int_equal(index_count(setting.cache->index), lru.count);
	}

	assert_emptied(&setting);
	setting_close(&setting);
}

static void test_tiers_are_one_lru_list(void **state)
{
	(void)state;
	one_lru_test("test_tiers_are_one_lru_list", (const uint64_t[]){10, 30, 80});
}

static void test_one_lru_list_of_tiers_smaller_than_a_chain(void **state)
{
	(void)state;
	one_lru_test("test_one_lru_list_of_tiers_smaller_than_a_chain",
		     (const uint64_t[]){1, 3, 20});
}

static void test_one_lru_list_without_some_tier(void **state)
{
	(void)state;
	one_lru_test("without HBM", (const uint64_t[]){0, 30, 80});
	one_lru_test("without DDR", (const uint64_t[]){10, 0, 80});
	one_lru_test("without NVMe", (const uint64_t[]){10, 30, 0});
	one_lru_test("only HBM", (const uint64_t[]){50, 0, 0});
	one_lru_test("only NVMe", (const uint64_t[]){0, 0, 50});
}

/* ---- the cascade ---- */

enum { NODES = 240, SIZES = 3 };

/* A node of the model: key n of space n % SIZES, its parent fixed by n. */
struct node {
	uint32_t parent; /* NODES: none */
	bool there;
	uint32_t pins;
};

struct ranking {
	uint32_t list[NODES], count; /* newest first; held ones not in it */
	uint64_t bytes, capacity;
};

struct model {
	struct setting setting;
	uint16_t ns[SIZES];
	struct node nodes[NODES];
	uint8_t tier[NODES];
	struct ranking orders[TIERS_MAX + 1]; /* by number of the tier */
	uint32_t devices;
};

static uint64_t bytes_of(uint32_t node)
{
	static const uint64_t units[SIZES] = {1, 3, 8};
	return units[node % SIZES] * UNIT;
}

/* Whether it is pinned, or an ancestor of a pinned one. */
static bool model_held(const struct model *model, uint32_t node)
{
	if (model->nodes[node].pins > 0)
		return true;
	for (uint32_t n = 0; n < NODES; n++)
		if (model->nodes[n].there && model->nodes[n].parent == node && model_held(model, n))
			return true;

	return false;
}

static void ranking_take(struct ranking *order, uint32_t node)
{
	for (uint32_t i = 0; i < order->count; i++) {
		if (order->list[i] != node)
			continue;
		memmove(&order->list[i], &order->list[i + 1],
			(order->count - i - 1) * sizeof(node));
		order->count--;
		return;
	}
}

static void ranking_push(struct ranking *order, uint32_t node)
{
	memmove(&order->list[1], &order->list[0], order->count * sizeof(node));
	order->list[0] = node;
	order->count++;
}

static void model_leave(struct model *model, uint32_t node)
{
	struct ranking *order = &model->orders[model->tier[node]];
	ranking_take(order, node);
	order->bytes -= bytes_of(node);
	model->tier[node] = 0;
}

static void model_join(struct model *model, uint32_t node, uint8_t tier)
{
	model->tier[node] = tier;
	model->orders[tier].bytes += bytes_of(node);
	ranking_push(&model->orders[tier], node);
}

static void model_drop(struct model *model, uint32_t node)
{
	for (uint32_t n = 0; n < NODES; n++)
		if (model->nodes[n].there && model->nodes[n].parent == node)
			model_drop(model, n);

	if (model->tier[node] != 0)
		model_leave(model, node);
	model->nodes[node].there = false;
}

/* The first tier from this one down that has room for it at all; 0: none. */
static uint8_t model_tier_for(const struct model *model, uint32_t node, uint8_t tier)
{
	for (; tier <= model->devices + 2;
	     tier = tier <= model->devices ? (uint8_t)(model->devices + 1) : tier + 1)
		if (model->orders[tier].capacity >= bytes_of(node))
			return tier;
	return 0;
}

static void model_push_down(struct model *model, uint8_t tier)
{
	struct ranking *order = &model->orders[tier];
	uint32_t node = order->list[order->count - 1];
	uint8_t below = tier <= model->devices ? (uint8_t)(model->devices + 1) : tier + 1;

	below = model_tier_for(model, node, below);
	if (below == 0) {
		model_drop(model, node);
		return;
	}

	model_leave(model, node);
	model_join(model, node, below);
}

static void model_settle(struct model *model)
{
	for (uint8_t tier = 1; tier <= model->devices + 2; tier++)
		while (model->orders[tier].bytes > model->orders[tier].capacity &&
		       model->orders[tier].count > 0)
			model_push_down(model, tier);
}

static void model_use(struct model *model, uint32_t node, uint32_t device)
{
	if (model_held(model, node))
		return;
	if (model->tier[node] != 0)
		model_leave(model, node);
	uint8_t tier = model_tier_for(model, node, (uint8_t)(1 + device));
	if (tier != 0)
		model_join(model, node, tier);
}

/* ---- both at once ---- */

static uint32_t number_of(struct model *model, uint32_t node)
{
	return find(&model->setting, model->ns[node % SIZES], node);
}

static void use_node(struct model *model, uint32_t leaf, uint32_t device)
{
	uint32_t path[NODES], depth = 0;

	for (uint32_t n = leaf; n != NODES; n = model->nodes[n].parent)
		path[depth++] = n;
	for (uint32_t i = depth; i-- > 0;) {
		uint32_t parent = i + 1 < depth ? number_of(model, path[i + 1]) : 0;
		if (model->nodes[path[i]].there)
			continue;
		insert(&model->setting, model->ns[path[i] % SIZES], path[i], parent);
		model->nodes[path[i]].there = true;
	}

	cache_touch_begin(model->setting.cache);
	cache_touch(model->setting.cache, number_of(model, leaf), device);
	cache_settle(model->setting.cache);
	for (uint32_t i = 0; i < depth; i++)
		model_use(model, path[i], device);
	model_settle(model);
}

static void drop_node(struct model *model, uint32_t node)
{
	if (!model->nodes[node].there || model_held(model, node))
		return;
	cache_drop(model->setting.cache, number_of(model, node));
	model_drop(model, node);
}

static uint64_t model_pinned(const struct model *model, uint8_t tier)
{
	uint64_t pinned = 0;
	for (uint32_t n = 0; n < NODES; n++)
		if (model->nodes[n].there && model->tier[n] == tier && model_held(model, n))
			pinned += bytes_of(n);
	return pinned;
}

/* Pins, unless half of some tier would be exceeded; what was found free on the way has
 * been used, then. */
static void pin_node(struct model *model, uint32_t node)
{
	if (!model->nodes[node].there)
		return;

	uint32_t fresh[NODES], count = 0;
	uint64_t pinned[TIERS_MAX + 1];
	for (uint8_t t = 1; t <= model->devices + 2; t++)
		pinned[t] = model_pinned(model, t);
	bool may = true;
	for (uint32_t n = node; may && n != NODES && !model_held(model, n);
	     n = model->nodes[n].parent) {
		uint8_t t = model->tier[n];
		pinned[t] += bytes_of(n);
		may = pinned[t] <= model->orders[t].capacity / 2;
		if (may)
			fresh[count++] = n;
	}

	assert_int_equal(cache_pin(model->setting.cache, number_of(model, node)), may);
	model->nodes[node].pins += may;
	for (uint32_t i = 0; i < count; i++) {
		ranking_take(&model->orders[model->tier[fresh[i]]], fresh[i]);
		if (!may)
			ranking_push(&model->orders[model->tier[fresh[i]]], fresh[i]);
	}
}

static void unpin_node(struct model *model, uint32_t node)
{
	if (model->nodes[node].pins == 0)
		return;
	cache_unpin(model->setting.cache, number_of(model, node));
	model->nodes[node].pins--;
	for (uint32_t n = node; n != NODES && !model_held(model, n); n = model->nodes[n].parent)
		ranking_push(&model->orders[model->tier[n]], n);
}

static void push_out(struct model *model, uint8_t tier, uint64_t bytes)
{
	struct ranking *order = &model->orders[tier];
	uint64_t gone = 0;

	for (uint32_t most = 5; most > 0 && gone < bytes && order->count > 0; most--) {
		gone += bytes_of(order->list[order->count - 1]);
		model_push_down(model, tier);
	}

	model_settle(model);
	struct cache *cache = model->setting.cache;
	assert_int_equal(cache_push_out(cache, &cache->tiers[tier], bytes, 5), gone);
}

static void compare_order(struct model *model, uint8_t tier)
{
	struct cache *cache = model->setting.cache;
	const struct ranking *order = &model->orders[tier];
	uint32_t number = order_walk(cache->orders[tier], 0), newer = 0;

	for (uint32_t i = 0; i < order->count; i++) {
		assert_int_equal(number, number_of(model, order->list[i]));
		assert_int_equal(cache_block(cache, number)->newer, newer);
		assert_true(order_lru.is_valid(cache->orders[tier], number));
		newer = number;
		number = order_walk(cache->orders[tier], number);
	}

	assert_int_equal(number, 0);
	assert_int_equal(order_victim(cache->orders[tier]), newer);
}

static void compare_namespaces(struct model *model)
{
	struct cache *cache = model->setting.cache;
	uint64_t blocks_in[SIZES][HBM_TIERS] = {0};
	for (uint32_t n = 0; n < NODES; n++)
		if (model->nodes[n].there)
			blocks_in[n % SIZES][cache->tiers[model->tier[n]].kind]++;

	for (uint32_t i = 0; i < SIZES; i++)
		for (unsigned kind = HBM_TIER_HBM; kind < HBM_TIERS; kind++)
			assert_int_equal(
				namespaces_get(cache->namespaces, model->ns[i])->blocks_in[kind],
				blocks_in[i][kind]);
}

static void compare(struct model *model)
{
	struct cache *cache = model->setting.cache;
	uint64_t there = 0, blocks[TIERS_MAX + 1] = {0};

	for (uint32_t n = 0; n < NODES; n++) {
		uint32_t number = number_of(model, n);

		assert_int_equal(number != 0, model->nodes[n].there);
		if (number == 0)
			continue;

		there++;
		blocks[model->tier[n]]++;
		assert_int_equal(cache_block(cache, number)->target, model->tier[n]);
		assert_int_equal(cache_is_pinned(cache, number), model_held(model, n));
		assert_int_equal(cache_block(cache, number)->pins, model->nodes[n].pins);
	}

	assert_int_equal(index_count(cache->index), there);
	compare_namespaces(model);

	for (uint8_t tier = 1; tier <= model->devices + 2; tier++) {
		compare_order(model, tier);
		assert_int_equal(cache->tiers[tier].blocks, blocks[tier]);
		assert_int_equal(cache->tiers[tier].bytes, model->orders[tier].bytes);
		assert_int_equal(cache_pinned(cache, &cache->tiers[tier]),
				 model_pinned(model, tier));
		assert_in_range(cache->tiers[tier].bytes, 0, cache->tiers[tier].usable);
	}
}

static void random_step(struct model *model)
{
	struct seed *seed = &model->setting.seed;
	uint32_t node = (uint32_t)seed_below(seed, NODES);
	switch (seed_below(seed, 12)) {
	case 0:
		drop_node(model, node);
		break;
	case 1:
	case 2:
		pin_node(model, node);
		break;
	case 3:
		for (uint32_t n = 0; n < NODES; n++)
			if (seed_below(seed, 3) == 0)
				unpin_node(model, n);
		break;
	case 4:
		push_out(model, (uint8_t)(1 + seed_below(seed, model->devices + 2)),
			 1 + seed_below(seed, 10 * UNIT));
		break;
	default:
		use_node(model, node, (uint32_t)seed_below(seed, model->devices));
	}
}

static void cascade_test(const char *name, uint32_t devices, const uint64_t *units)
{
	struct model *model = calloc(1, sizeof(*model));

	assert_non_null(model);
	setting_open(&model->setting, name, devices, units);
	model->devices = devices;
	for (uint32_t i = 0; i < SIZES; i++)
		model->ns[i] = open_namespace(&model->setting, bytes_of(i) / UNIT);
	for (uint32_t i = 1; i <= devices + 2; i++)
		model->orders[i].capacity = units[i - 1] * UNIT;
	for (uint32_t n = 0; n < NODES; n++) /* trees of one namespace each */
		model->nodes[n].parent =
			n < 10 * SIZES
				? NODES
				: n - SIZES * (1 + (uint32_t)seed_below(&model->setting.seed, 9));

	for (unsigned i = 0; i < 6000; i++) {
		random_step(model);
		if (i % 4 == 0)
			compare(model);
	}

	for (uint32_t n = 0; n < NODES; n++)
		while (model->nodes[n].pins > 0)
			unpin_node(model, n);

	compare(model);
	assert_emptied(&model->setting);
	setting_close(&model->setting);
	free(model);
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

/* ---- one use of many branches ---- */

static uint64_t branch_ns(struct setting *setting, uint16_t ns, uint32_t trunk, uint32_t leaves)
{
	uint64_t least = UINT64_MAX;
	for (unsigned repeat = 0; repeat < 20; repeat++) {
		uint64_t started = clock_now();

		cache_touch_begin(setting->cache);
		for (uint32_t i = 0; i < leaves; i++)
			cache_touch(setting->cache, find(setting, ns, trunk + i), 0);
		uint64_t took = clock_now() - started;
		least = took < least ? took : least;
	}

	return least;
}

/* A chain of keys [0, trunk), and `leaves` children of its end. */
static void grow_branches(struct setting *setting, uint16_t ns, uint32_t trunk, uint32_t leaves)
{
	uint32_t parent = 0;
	for (uint32_t n = 0; n < trunk; n++)
		parent = insert(setting, ns, n, parent);
	for (uint32_t n = trunk; n < trunk + leaves; n++)
		insert(setting, ns, n, parent);
}

/* A request that names many ends of one long chain walks the chain once, not once for
 * each end. */
static void test_branches_share_their_walk(void **state)
{
	enum { TRUNK = 3000, LEAVES = 900 };

	(void)state;
	struct setting setting;
	setting_open(&setting, "test_branches_share_their_walk", 1, (const uint64_t[]){KEYS, 0, 0});
	uint16_t ns = open_namespace(&setting, 1);
	grow_branches(&setting, ns, TRUNK, LEAVES);
	uint64_t one = branch_ns(&setting, ns, TRUNK, 1),
		 all = branch_ns(&setting, ns, TRUNK, LEAVES);
	assert_in_range(all, 0, 50 * one);
	assert_emptied(&setting);
	setting_close(&setting);
}

/* Nor can a request that asks for many holds of which none can be had walk a long chain
 * for each of them. */
static void test_refused_holds_share_their_walk(void **state)
{
	enum { TRUNK = 3000, LEAVES = 900 };

	(void)state;
	struct setting setting;
	setting_open(&setting, "test_refused_holds_share_their_walk", 1,
		     (const uint64_t[]){KEYS, 0, 0});
	struct cache *cache = setting.cache;
	cache->pinned_limit = (struct config_size){.bytes = (TRUNK - 100) * UNIT};
	uint16_t ns = open_namespace(&setting, 1);
	grow_branches(&setting, ns, TRUNK, LEAVES);
	branch_ns(&setting, ns, TRUNK, LEAVES);
	uint64_t least[2] = {UINT64_MAX, UINT64_MAX};
	for (unsigned repeat = 0; repeat < 20; repeat++) {
		for (unsigned all = 0; all < 2; all++) {
			uint64_t started = clock_now();

			cache_touch_begin(cache);

			for (uint32_t i = 0; i < (all ? LEAVES : 1); i++)
				assert_int_equal(cache_pin(cache, find(&setting, ns, TRUNK + i)),
						 false);

			uint64_t took = clock_now() - started;
			least[all] = took < least[all] ? took : least[all];
		}
	}

	assert_in_range(least[1], 0, 150 * least[0]);
	assert_int_equal(cache_pinned(cache, &cache->tiers[1]), 0);
	cache_touch_begin(cache); /* what fits is held whatever was refused before */
	assert_int_equal(cache_pin(cache, find(&setting, ns, TRUNK - 200)), true);
	cache_unpin(cache, find(&setting, ns, TRUNK - 200));
	assert_emptied(&setting);
	setting_close(&setting);
}

/* Whatever is used in one pass, a block's parent is ahead of it, so that it goes after
 * it. */
static void test_parents_go_after_their_children(void **state)
{
	enum { NODES_USED = 400 };

	(void)state;
	struct setting setting;
	setting_open(&setting, "test_parents_go_after_their_children", 1,
		     (const uint64_t[]){KEYS, 0, 0});
	struct cache *cache = setting.cache;
	uint16_t ns = open_namespace(&setting, 1);
	for (uint32_t n = 0; n < NODES_USED; n++) {
		uint32_t parent =
			n == 0 ? 0 : find(&setting, ns, (uint32_t)seed_below(&setting.seed, n));
		insert(&setting, ns, n, parent);
	}

	for (unsigned pass = 0; pass < 200; pass++) {
		cache_touch_begin(cache);
		for (uint64_t uses = 1 + seed_below(&setting.seed, 20); uses > 0; uses--)
			cache_touch(
				cache,
				find(&setting, ns, (uint32_t)seed_below(&setting.seed, NODES_USED)),
				0);

		cache_settle(cache);
		bool seen[NODES_USED + 1] = {true};
		uint32_t length = 0;
		for (uint32_t number = 0; (number = order_walk(cache->orders[1], number)) != 0;) {
			assert_int_equal(seen[cache_block(cache, number)->parent], true);
			seen[number] = true;
			length++;
		}

		assert_int_equal(length, cache->tiers[1].blocks);
	}

	assert_emptied(&setting);
	setting_close(&setting);
}

/* ---- cases ---- */

/* A block in one device's HBM that is used on another, whose tiers cannot take it, stays
 * what it is. */
static void test_a_use_where_it_cannot_go(void **state)
{
	(void)state;
	struct setting setting;
	setting_open(&setting, "test_a_use_where_it_cannot_go", 2, (const uint64_t[]){8, 2, 0, 0});
	uint16_t ns = open_namespace(&setting, 4);
	request(&setting, ns, (const uint32_t[]){1}, 1, 0);
	request(&setting, ns, (const uint32_t[]){1}, 1, 1);
	assert_int_equal(cache_block(setting.cache, find(&setting, ns, 1))->target, 1);
	request(&setting, ns, (const uint32_t[]){2}, 1, 0);
	request(&setting, ns, (const uint32_t[]){1}, 1, 1);
	request(&setting, ns, (const uint32_t[]){3}, 1, 0);
	assert_int_not_equal(find(&setting, ns, 1), 0); /* the use counted */
	assert_int_equal(find(&setting, ns, 2), 0);
	assert_emptied(&setting);
	setting_close(&setting);
}

static void test_incomplete_blocks_are_not_found(void **state)
{
	(void)state;
	struct setting setting;
	setting_open(&setting, "test_incomplete_blocks_are_not_found", 1,
		     (const uint64_t[]){8, 0, 0});
	uint16_t ns = open_namespace(&setting, 1);
	struct hbm_wire_key key = key_of(1);
	uint32_t number = cache_insert(setting.cache, ns, &key, 0);
	assert_int_equal(find(&setting, ns, 1), 0);
	block_stored(&setting.cache->blocks, number, (struct place){0});
	assert_int_equal(find(&setting, ns, 1), number);
	assert_emptied(&setting);
	setting_close(&setting);
}

/* What uses a dropped block keeps its slot and number, each until it is done with it. */
static void test_a_dropped_block_goes_when_nothing_uses_it(void **state)
{
	(void)state;
	struct setting setting;
	setting_open(&setting, "test_a_dropped_block_goes_when_nothing_uses_it", 1,
		     (const uint64_t[]){8, 8, 0});
	struct cache *cache = setting.cache;
	uint16_t ns = open_namespace(&setting, 1);
	uint32_t number = insert_placed(&setting, ns, 1);
	cache_push_out(cache, cache_hbm(cache, 0), 1,
		       1); /* belongs to DDR now, and is on its inbound queue */
	assert_int_equal(cache->ddr->inbound_first, number);
	block_use(&cache->blocks, number);
	cache_drop(cache, number);
	assert_int_equal(find(&setting, ns, 1), 0);
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
	setting_close(&setting);
}

/* The oldest go, one for one, also where they wait to be moved to the tier they belong
 * to. */
static void test_room_in_the_index(void **state)
{
	enum { BLOCKS = 8 };

	(void)state;
	struct setting setting;
	setting_open(&setting, "test_room_in_the_index", 1,
		     (const uint64_t[]){BLOCKS, BLOCKS, BLOCKS});
	struct cache *cache = setting.cache;
	uint16_t ns = open_namespace(&setting, 1);
	for (uint32_t key = 1; key <= BLOCKS; key++)
		insert_placed(&setting, ns, key);
	cache_push_out(cache, cache_hbm(cache, 0), 4 * UNIT, 4);
	assert_int_equal(cache->ddr->blocks, 4);
	const uint32_t gone[] = {0, 2, 6};
	for (uint32_t i = 0; i < 3; i++) {
		cache_make_room(cache, KEYS - BLOCKS + gone[i]);
		assert_int_equal(index_count(cache->index), BLOCKS - gone[i]);
		for (uint32_t key = 1; key <= BLOCKS; key++)
			assert_int_equal(find(&setting, ns, key) == 0, key <= gone[i]);
	}

	assert_int_equal(cache->ddr->inbound_first, 0);
	assert_emptied(&setting);
	cache_make_room(cache, KEYS + 1); /* more than there can be */
	setting_close(&setting);
}

static void test_pins_outlive_a_drop(void **state)
{
	(void)state;
	struct setting setting;
	setting_open(&setting, "test_pins_outlive_a_drop", 1, (const uint64_t[]){8, 0, 0});
	struct cache *cache = setting.cache;
	uint16_t ns = open_namespace(&setting, 1);
	request(&setting, ns, (const uint32_t[]){1, 2}, 2, 0);
	uint32_t parent = find(&setting, ns, 1), child = find(&setting, ns, 2);
	assert_int_equal(cache_pin(cache, child), true);
	assert_int_equal(cache_is_pinned(cache, parent), true);
	assert_int_equal(cache_pinned(cache, &cache->tiers[1]), 2 * UNIT);
	cache_drop(cache, parent);
	assert_int_equal(cache_pinned(cache, &cache->tiers[1]), 0);
	assert_int_equal(index_used(cache->index, parent), false);
	assert_int_equal(index_used(cache->index, child), true);
	cache_unpin(cache, child);
	assert_int_equal(index_count(cache->index), 0);
	assert_emptied(&setting);
	setting_close(&setting);
}

static void test_a_limit_in_bytes(void **state)
{
	(void)state;
	struct setting setting;
	setting_open(&setting, "test_a_limit_in_bytes", 1, (const uint64_t[]){8, 0, 0});
	struct cache *cache = setting.cache;
	cache->pinned_limit = (struct config_size){.bytes = 2 * UNIT};
	uint16_t ns = open_namespace(&setting, 1);
	request(&setting, ns, (const uint32_t[]){1, 2, 3}, 3, 0);
	assert_int_equal(cache_pin(cache, find(&setting, ns, 3)), false);
	assert_int_equal(cache_pinned(cache, &cache->tiers[1]), 0);
	for (uint32_t key = 1; key <= 3; key++)
		assert_int_equal(cache_is_pinned(cache, find(&setting, ns, key)), false);
	assert_int_equal(cache_pin(cache, find(&setting, ns, 2)), true);
	cache_unpin(cache, find(&setting, ns, 2));
	assert_emptied(&setting);
	setting_close(&setting);
}

static void drop_namespace(struct setting *setting, uint16_t ns, uint32_t step)
{
	struct cache_drop drop = {.ns = ns};
	while (cache_drop_some(setting->cache, &drop, step))
		;
}

/* Whatever the step, and whatever else is dropped between two steps. */
static void test_all_of_a_namespace_is_dropped_in_steps(void **state)
{
	(void)state;
	for (uint32_t step = 1; step <= 16; step *= 2) {
		struct setting setting;
		setting_open(&setting, "test_all_of_a_namespace_is_dropped_in_steps", 1,
			     (const uint64_t[]){64, 0, 0});
		struct cache *cache = setting.cache;
		uint16_t ns = open_namespace(&setting, 1), other = open_namespace(&setting, 2);
		request(&setting, ns, (const uint32_t[]){1, 2, 3, 4}, 4, 0);
		request(&setting, other, (const uint32_t[]){1, 2, 3}, 3, 0);
		request(&setting, ns, (const uint32_t[]){1, 2, 5, 6}, 4, 0);
		request(&setting, ns, (const uint32_t[]){7}, 1, 0);

		struct cache_drop drop = {.ns = ns};
		assert_int_equal(cache_drop_some(cache, &drop, step), true);
		if (find(&setting, ns, 2) != 0)
			cache_drop(cache, find(&setting, ns, 2));
		while (cache_drop_some(cache, &drop, step))
			;

		for (uint32_t key = 1; key <= 7; key++)
			assert_int_equal(find(&setting, ns, key), 0);
		for (uint32_t key = 1; key <= 3; key++)
			assert_int_not_equal(find(&setting, other, key), 0);
		assert_int_equal(namespace_blocks(namespaces_get(cache->namespaces, ns)), 0);
		assert_int_equal(index_count(cache->index), 3);
		assert_emptied(&setting);
		setting_close(&setting);
	}
}

/* A pin counts in its namespace until its block is dropped; what is used goes later. */
static void test_a_drop_of_pinned_and_used_blocks(void **state)
{
	(void)state;
	struct setting setting;
	setting_open(&setting, "test_a_drop_of_pinned_and_used_blocks", 1,
		     (const uint64_t[]){8, 0, 0});
	struct cache *cache = setting.cache;
	uint16_t ns = open_namespace(&setting, 1);
	request(&setting, ns, (const uint32_t[]){1, 2}, 2, 0);
	uint32_t child = find(&setting, ns, 2), used = insert_placed(&setting, ns, 3);
	const struct namespace *namespace = namespaces_get(cache->namespaces, ns);
	for (uint64_t pins = 1; pins <= 2; pins++) {
		assert_int_equal(cache_pin(cache, child), true);
		assert_int_equal(namespace->pins, pins);
	}

	cache_unpin(cache, child);
	assert_int_equal(namespace->pins, 1);
	block_use(&cache->blocks, used);
	drop_namespace(&setting, ns, 4096);
	assert_int_equal(namespace->pins, 0);
	assert_int_equal(cache_pinned(cache, &cache->tiers[1]), 0);
	assert_int_equal(cache->tiers[1].blocks, 0);
	assert_int_equal(cache->tiers[1].placed, UNIT);
	assert_int_equal(cache->removed_blocks, 3);

	block_unuse(&cache->blocks, used);
	assert_int_equal(cache->tiers[1].placed, 0);
	cache_unpin(cache, child);
	assert_int_equal(namespace->pins, 0);
	assert_int_equal(index_count(cache->index), 0);
	assert_emptied(&setting);
	setting_close(&setting);
}

static void test_nothing_is_found_while_its_namespace_is_dropped(void **state)
{
	(void)state;
	struct setting setting;
	setting_open(&setting, "test_nothing_is_found_while_its_namespace_is_dropped", 1,
		     (const uint64_t[]){8, 0, 0});
	uint16_t ns = open_namespace(&setting, 1);
	struct namespace *namespace = namespaces_get(setting.cache->namespaces, ns);
	request(&setting, ns, (const uint32_t[]){1}, 1, 0);
	namespace->drop = (struct namespace_drop *)namespace;
	assert_int_equal(find(&setting, ns, 1), 0);
	namespace->drop = NULL;
	assert_int_not_equal(find(&setting, ns, 1), 0);
	assert_emptied(&setting);
	setting_close(&setting);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tiers_are_one_lru_list),
		cmocka_unit_test(test_one_lru_list_of_tiers_smaller_than_a_chain),
		cmocka_unit_test(test_one_lru_list_without_some_tier),
		cmocka_unit_test(test_sizes_pins_and_drops),
		cmocka_unit_test(test_two_devices),
		cmocka_unit_test(test_tiers_too_small_for_some_blocks),
		cmocka_unit_test(test_branches_share_their_walk),
		cmocka_unit_test(test_refused_holds_share_their_walk),
		cmocka_unit_test(test_parents_go_after_their_children),
		cmocka_unit_test(test_a_use_where_it_cannot_go),
		cmocka_unit_test(test_incomplete_blocks_are_not_found),
		cmocka_unit_test(test_a_dropped_block_goes_when_nothing_uses_it),
		cmocka_unit_test(test_room_in_the_index),
		cmocka_unit_test(test_pins_outlive_a_drop),
		cmocka_unit_test(test_a_limit_in_bytes),
		cmocka_unit_test(test_all_of_a_namespace_is_dropped_in_steps),
		cmocka_unit_test(test_a_drop_of_pinned_and_used_blocks),
		cmocka_unit_test(test_nothing_is_found_while_its_namespace_is_dropped),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
