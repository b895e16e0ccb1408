/* SPDX-License-Identifier: Apache-2.0 */
/* cache_rig: see cache_rig.h. */
#include "tests/support/cache_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "daemon/cache/block.h"
#include "daemon/cache/cache.h"
#include "daemon/cache/order.h"
#include "daemon/config/config.h"
#include "daemon/ledger/user.h"
#include "daemon/tier/tier.h"
#include "tests/support/leaks.h"
#include "tests/support/open_namespace.h"
#include "tests/support/seed.h"

void cache_rig_open(struct cache_rig *rig, const char *name, uint32_t devices,
		    const uint64_t *units)
{
	leaks_begin(&rig->leaks);
	seed_open(&rig->seed, name);
	assert_int_equal(config_defaults(&rig->config), 0);
	rig->config.limit_blocks = CACHE_RIG_BLOCKS;
	ledger_open(&rig->ledger, &rig->config);
	assert_int_equal(cache_open(&rig->cache, &rig->config, &rig->ledger, devices), 0);
	struct cache *cache = rig->cache;
	static const enum hbm_tier kinds[] = {HBM_TIER_DDR, HBM_TIER_NVME};
	for (uint8_t i = 1; i <= devices + 2; i++) {
		uint64_t bytes = units[i - 1] * UNIT;
		if (bytes == 0)
			continue;

		enum hbm_tier kind = i <= devices ? HBM_TIER_HBM : kinds[i - devices - 1];
		assert_int_equal(tier_init(&cache->tiers[i], kind, i, bytes, 0, CACHE_RIG_BLOCKS),
				 0);
		assert_int_equal(tier_grow(&cache->tiers[i], 0, bytes), 0);
	}

	for (uint32_t i = 0; i < devices; i++)
		cache_hbm(cache, i)->below = cache->ddr;
	cache->ddr->below = cache->nvme;
}

void cache_rig_close(struct cache_rig *rig)
{
	rig->cache = cache_close(rig->cache);
	config_clear(&rig->config);
	assert_int_equal(leaks_end(&rig->leaks), 0);
}

uint16_t cache_rig_namespace(struct cache_rig *rig, uint64_t units)
{
	struct hbm_wire_namespace_spec spec = {.weights = units, .block_bytes = units * UNIT};
	return open_namespace(rig->cache->namespaces, &rig->ledger, &spec);
}

uint16_t cache_rig_namespace_in_memory(struct cache_rig *rig, uint64_t units)
{
	struct hbm_wire_namespace_spec spec = {.weights = units, .block_bytes = units * UNIT};
	struct user *user = user_open(&rig->ledger, 0);

	assert_non_null(user);
	uint16_t number = namespaces_open(
		rig->cache->namespaces,
		&(struct namespace_identity){.spec = &spec, .memory_only = true}, user);
	user_close(user);

	return number;
}

uint16_t cache_rig_namespace_of(struct cache_rig *rig, const char *group, unsigned rank)
{
	struct hbm_wire_namespace_spec spec = {.model = "of ranks", .block_bytes = UNIT};
	struct user *user = user_open(&rig->ledger, 0);

	assert_non_null(user);
	snprintf(spec.layout, sizeof(spec.layout), "rank %u", rank);
	uint16_t number =
		namespaces_open(rig->cache->namespaces,
				&(struct namespace_identity){.spec = &spec, .group = group}, user);
	user_close(user);

	return number;
}

struct hbm_wire_key cache_rig_key(uint32_t n)
{
	struct hbm_wire_key key = {{1}};
	memcpy(key.bytes + 8, &n, sizeof(n));
	return key;
}

uint32_t cache_rig_find(struct cache_rig *rig, uint16_t ns, uint32_t n)
{
	struct hbm_wire_key key = cache_rig_key(n);
	return cache_find(rig->cache, ns, &key);
}

uint32_t cache_rig_insert(struct cache_rig *rig, uint16_t ns, uint32_t n, uint32_t parent)
{
	struct hbm_wire_key key = cache_rig_key(n);
	uint32_t number = cache_insert(rig->cache, ns, &key, parent);
	assert_int_not_equal(number, 0);
	block_stored(&rig->cache->blocks, number, (struct place){0});
	return number;
}

void cache_rig_request(struct cache_rig *rig, uint16_t ns, const uint32_t *keys, uint32_t count,
		       uint32_t device)
{
	uint32_t numbers[CACHE_RIG_CHAIN];

	for (uint32_t i = 0; i < count; i++) {
		numbers[i] = cache_rig_find(rig, ns, keys[i]);
		if (numbers[i] == 0)
			numbers[i] =
				cache_rig_insert(rig, ns, keys[i], i == 0 ? 0 : numbers[i - 1]);
	}

	struct cache_touch touch;
	cache_touch_begin(rig->cache, &touch);
	for (uint32_t i = count; i-- > 0;)
		cache_touch(rig->cache, &touch, numbers[i], device);
	cache_settle(rig->cache);
	cache_touch_end(rig->cache);
}

uint32_t cache_rig_insert_placed(struct cache_rig *rig, uint16_t ns, uint32_t n)
{
	struct hbm_wire_key key = cache_rig_key(n);
	struct cache *cache = rig->cache;
	uint32_t number = cache_insert(cache, ns, &key, 0);

	assert_int_not_equal(number, 0);
	uint32_t unit = tier_alloc(cache_hbm(cache, 0), UNIT);
	assert_int_not_equal(unit, UINT32_MAX);
	block_stored(&cache->blocks, number, (struct place){cache_hbm(cache, 0), unit});
	cache_rig_request(rig, ns, &n, 1, 0);

	return number;
}

void cache_rig_assert_empties(struct cache_rig *rig)
{
	struct cache *cache = rig->cache;
	for (uint32_t number = 1; number <= index_highest(cache->index); number++)
		if (index_used(cache->index, number))
			cache_drop(cache, number);

	while (cache_drop_pending(cache, 1))
		;

	for (uint32_t i = 1; i <= cache->tier_count; i++) {
		while (cache->tiers[i].inbound_first != 0)
			block_unqueue(&cache->blocks, &cache->tiers[i]);
		assert_int_equal(cache->tiers[i].blocks, 0);
		assert_int_equal(cache->tiers[i].bytes, 0);
		assert_int_equal(cache_pinned(cache, &cache->tiers[i]), 0);
		assert_int_equal(cache->tiers[i].logical_bytes, 0);
		assert_int_equal(order_victim(cache->orders[i], 0), 0);
		assert_int_equal(order_walk(cache->orders[i], 0), 0);
		assert_int_equal(cache->tiers[i].placed, 0);
		assert_int_equal(cache->tiers[i].moving, 0);
	}

	assert_int_equal(index_count(cache->index), 0);
}

uint32_t cache_rig_use_leaves(struct cache_rig *rig, uint16_t ns, uint32_t trunk, uint32_t leaves)
{
	struct cache_touch touch;
	cache_touch_begin(rig->cache, &touch);
	uint32_t may_visit = touch.walk_left;

	for (uint32_t i = 0; i < leaves; i++)
		cache_touch(rig->cache, &touch, cache_rig_find(rig, ns, trunk + i), 0);

	cache_touch_end(rig->cache);

	return may_visit - touch.walk_left;
}

void cache_rig_grow_branches(struct cache_rig *rig, uint16_t ns, uint32_t trunk, uint32_t leaves)
{
	uint32_t parent = 0;
	for (uint32_t n = 0; n < trunk; n++)
		parent = cache_rig_insert(rig, ns, n, parent);
	for (uint32_t n = trunk; n < trunk + leaves; n++)
		cache_rig_insert(rig, ns, n, parent);
}
