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

#define UNLIMITED UINT32_MAX

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

bool cache_may_pin(struct cache *cache, uint32_t number, const struct tier *tier)
{
	if (tier->lost)
		return false;

	cache_limit_pins(cache, tier);

	return ledger_check(&cache->pinned[tier->number], LEDGER_PINNED,
			    block_bytes_in(&cache->blocks, number, tier));
}

/* Drops a reference; after the last one the block returns to its tier's order. */
static bool cache_pin_cache_unref(struct cache *cache, uint32_t number)
{
	bool dropped = block_is_dropped(cache_block(cache, number));
	if (!block_unref(&cache->blocks, number) || dropped)
		return false;

	cache_enter(cache, number, 0);
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

/* Whether it may be pinned where it is, for its tier and for its tenant. */
static bool cache_pin_may_begin(struct cache *cache, uint32_t number)
{
	const struct block *block = cache_block(cache, number);
	const struct tier *tier = &cache->tiers[block->target];
	struct namespace *ns = namespaces_get(cache->namespaces, block->ns);

	return cache_may_pin(cache, number, tier) &&
	       ledger_check(&ns->payer, LEDGER_TENANT_PINNED,
			    block_bytes_in(&cache->blocks, number, tier));
}

/* Refs the block and its ancestors, up to the first that already had a reference; all or
 * none. HBM_OK, HBM_LIMIT; HBM_MISS below a dropped block. */
static int cache_pin_cache_ref_branch(struct cache *cache, uint32_t number, uint32_t *walk,
				      bool always)
{
	uint32_t at = number;

	while (cache_pin_is_free(cache, at)) {
		if ((!always && !cache_pin_may_begin(cache, at)) || *walk == 0)
			break;
		--*walk;
		cache_leave(cache, at);
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
	int status = cache_pin_cache_ref_branch(cache, number, walk, false);
	if (status == HBM_OK)
		block_count_pin(&cache->blocks, number, 1);

	return status;
}

/* ---- in slices ---- */

static bool cache_pin_is_there(const struct cache *cache, uint32_t number)
{
	return index_used(cache->index, number) && !block_is_dropped(cache_block(cache, number));
}

/* Remembers the lowest of each stretch of ancestors that have no reference yet. */
static bool cache_pin_climb(struct cache *cache, struct cache_pinning *pinning, uint32_t *walk,
			    struct slice *slice)
{
	while (*walk > 0 && pinning->at != 0 && index_used(cache->index, pinning->at) &&
	       cache_pin_is_free(cache, pinning->at)) {
		if (pinning->length++ % CACHE_STRETCH == 0)
			pinning->lowest[pinning->stretches++] = pinning->at;

		--*walk;
		pinning->at = cache_block(cache, pinning->at)->parent;
		if (slice_is_over(slice))
			return false;
	}

	pinning->climbing = false;
	if (cache_pin_is_free(cache, pinning->at))
		pinning->status = HBM_LIMIT;

	return true;
}

/* References the uppermost stretch, and no longer holds what is above it by itself. */
static void cache_pin_stretch(struct cache *cache, struct cache_pinning *pinning)
{
	bool last = pinning->stretches <= 1;
	uint32_t lowest = last ? pinning->number : pinning->lowest[pinning->stretches - 1],
		 above = pinning->held;

	pinning->status = HBM_MISS;
	if (cache_pin_is_there(cache, lowest))
		pinning->status = cache_pin_cache_ref_branch(cache, lowest, &(uint32_t){UNLIMITED},
							     pinning->always);
	if (pinning->status != HBM_OK)
		return;

	pinning->stretches -= pinning->stretches > 0;
	pinning->done = last;
	pinning->held = last ? 0 : lowest;
	if (above != 0)
		cache_unref_branch(cache, above); /* what is below holds it */
	if (last)
		block_count_pin(&cache->blocks, lowest, 1);
}

void cache_pin_begin(struct cache_pinning *pinning, uint32_t number)
{
	pinning->number = pinning->at = number;
	pinning->length = pinning->stretches = pinning->held = 0;
	pinning->status = HBM_OK;
	pinning->climbing = true;
	pinning->done = pinning->always = false;
}

bool cache_pin_some(struct cache *cache, struct cache_pinning *pinning, uint32_t *walk,
		    struct slice *slice)
{
	if (pinning->climbing && pinning->status == HBM_OK &&
	    !cache_pin_climb(cache, pinning, walk, slice))
		return false;

	while (!pinning->done && pinning->status == HBM_OK) {
		cache_pin_stretch(cache, pinning);
		if (!pinning->done && slice_is_past(slice))
			return false;
	}

	return cache_unref_some(cache, &pinning->held, slice);
}

uint32_t cache_unref_steps(struct cache *cache, uint32_t *at, uint32_t max)
{
	uint32_t above = *at, steps = 0;

	for (; steps < max && above != 0; steps++)
		above = cache_parent(cache, above);

	/* Keeps the walk up from going on. */
	if (above != 0)
		block_ref(&cache->blocks, above);
	cache_unref_branch(cache, *at);
	*at = above;

	return steps;
}

bool cache_unref_some(struct cache *cache, uint32_t *at, struct slice *slice)
{
	while (*at != 0) {
		(void)cache_unref_steps(cache, at, CACHE_STRETCH);
		if (slice_is_past(slice))
			return *at == 0;
	}

	return true;
}

void cache_unpin_begin(struct cache *cache, uint32_t number)
{
	block_count_pin(&cache->blocks, number, -1);
}

void cache_unpin(struct cache *cache, uint32_t number)
{
	cache_unpin_begin(cache, number);
	cache_unref_branch(cache, number);
}
