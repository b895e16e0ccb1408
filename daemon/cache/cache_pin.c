/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cache_pin: keeps blocks from being evicted. A pin of a block is a reference to it and,
 * if it is the first, to its parent, and so on up, so that no ancestor goes before it. A
 * block with references is in no order. When its last reference goes it returns to the
 * front of its order.
 *
 * A block below one that has been dropped cannot be pinned: it is about to go.
 */
#include "daemon/cache/cache.h"
#include "daemon/config/config.h"

bool cache_is_pinned(const struct cache *cache, uint32_t number)
{
	return cache_block(cache, number)->refs > 0;
}

uint64_t cache_pinned(const struct cache *cache, const struct tier *tier)
{
	return ledger_used(&cache->pinned[tier->number], LEDGER_PINNED);
}

void cache_limit_pins(struct cache *cache, const struct tier *tier)
{
	ledger_set_limit(&cache->pinned[tier->number], LEDGER_PINNED,
			 config_size_of(cache->pinned_limit, tier->usable));
}

static bool cache_pin_cache_may_pin(struct cache *cache, uint32_t number)
{
	const struct block *block = cache_block(cache, number);
	if (cache->tiers[block->target].lost)
		return false;

	cache_limit_pins(cache, &cache->tiers[block->target]);

	return ledger_check(&cache->pinned[block->target], LEDGER_PINNED,
			    block_stored_bytes(block));
}

/* Drops a reference; after the last one the block returns to its tier's order. */
static bool cache_pin_cache_unref(struct cache *cache, uint32_t number)
{
	bool dropped = block_is_dropped(cache_block(cache, number));
	if (!block_unref(&cache->blocks, number) || dropped)
		return false;

	order_insert(cache_order(cache, number), number, 0);
	return true;
}

void cache_unref_branch(struct cache *cache, uint32_t number)
{
	while (number != 0) {
		uint32_t parent = cache_block(cache, number)->parent;
		if (!cache_pin_cache_unref(cache, number))
			return;
		number = parent;
	}
}

/* Whether a walk up to reference ancestors is to go on at this one. */
static bool cache_pin_is_free(const struct cache *cache, uint32_t number)
{
	const struct block *block = cache_block(cache, number);
	return number != 0 && block->refs == 0 && !block_is_dropped(block);
}

/* Refs the block and its ancestors, up to the first that already had a reference; all or
 * none. HBM_OK, HBM_LIMIT; HBM_MISS below a dropped block. */
static int cache_pin_cache_ref_branch(struct cache *cache, uint32_t number, uint32_t *walk)
{
	uint32_t at = number;

	while (cache_pin_is_free(cache, at)) {
		if (!cache_pin_cache_may_pin(cache, at) || *walk == 0)
			break;
		--*walk;
		order_remove(cache_order(cache, at), at);
		block_ref(&cache->blocks, at);
		at = cache_block(cache, at)->parent;
	}

	if (at == 0)
		return HBM_OK;

	bool dropped = block_is_dropped(cache_block(cache, at));
	if (!dropped && cache_block(cache, at)->refs > 0) {
		block_ref(&cache->blocks, at); /* its ancestors have theirs */
		return HBM_OK;
	}

	for (uint32_t undo = number; undo != at; undo = cache_block(cache, undo)->parent)
		cache_pin_cache_unref(cache, undo);

	return dropped ? HBM_MISS : HBM_LIMIT;
}

int cache_pin(struct cache *cache, uint32_t number, uint32_t *walk)
{
	int status = cache_pin_cache_ref_branch(cache, number, walk);
	if (status == HBM_OK)
		block_count_pin(&cache->blocks, number, 1);

	return status;
}

void cache_unpin(struct cache *cache, uint32_t number)
{
	block_count_pin(&cache->blocks, number, -1);
	cache_unref_branch(cache, number);
}
