/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cache_evict: takes blocks that no longer fit out of their tier, to the front of the one below
 * or away: down to the capacities, as many as an operator says, or until the index has room.
 * What does not get to where it was evicted stays where it is, or goes.
 */
#include "daemon/cache/cache.h"

#include "daemon/cache/tree.h"

#define DESCENT_MAX 256 /* generations of a victim's descendants that are looked at */
#define ANY_OWNER UINT32_MAX
#define SETTLED_MAX 256 /* blocks that are evicted at once; the rest later */
#define EXPIRED_MAX 4   /* blocks that are retained no longer, before each victim */

/* Whether one block goes before another of the same tier and another owner: by level, and then
 * by how many touches ago it was used. */
static bool cache_evict_is_before(const struct cache *cache, uint32_t number, uint32_t other)
{
	const struct block *one = cache_block(cache, number), *two = cache_block(cache, other);

	if (one->level != two->level)
		return one->level < two->level;

	return cache->pass - one->touched > cache->pass - two->touched;
}

/* The first of what the owners' orders name, but what an owner keeps unless there is nothing
 * else; 0: none. */
static uint32_t cache_evict_first(const struct cache *cache, const struct tier *tier, bool all)
{
	const struct owners *owners = &cache->owners[tier->number];
	uint32_t first = 0;

	for (uint32_t i = 0; i <= owners->highest; i++) {
		uint32_t number = order_victim(cache->orders[tier->number], i);
		if (number == 0 ||
		    (!all &&
		     owner_keeps(&owners->list[i], block_bytes_in(&cache->blocks, number, tier))))
			continue;
		if (first == 0 || cache_evict_is_before(cache, number, first))
			first = number;
	}

	return first == 0 && !all ? cache_evict_first(cache, tier, true) : first;
}

/* The block itself, or a descendant in the same tier. Children go before their parents whatever
 * the order says, which it does not say of what is retained. A block with references is in no
 * order, and so are its ancestors. */
static uint32_t cache_evict_below(const struct cache *cache, const struct tier *tier,
				  uint32_t number)
{
	const struct order *order = cache->orders[tier->number];
	if (number == 0 || (order->ops->parents_last && !cache_is_retained(cache, number)))
		return number;

	for (unsigned depth = 0; depth < DESCENT_MAX; depth++) {
		uint32_t child = tree_child_in(cache->blocks.table, number, tier->number);
		if (child == 0)
			break;
		number = child;
	}

	return number;
}

/* The next victim of a tier; 0: none. */
static uint32_t cache_evict_victim(struct cache *cache, const struct tier *tier)
{
	(void)cache_retain_expire(cache, EXPIRED_MAX);

	return cache_evict_below(cache, tier, cache_evict_first(cache, tier, false));
}

/* The next of an owner that has more than it may; 0: none has. */
static uint32_t cache_evict_surplus(const struct cache *cache, const struct tier *tier)
{
	const struct owners *owners = &cache->owners[tier->number];
	uint32_t number = 0;

	for (uint32_t i = 0; owners->bounded && number == 0 && i <= owners->highest; i++)
		if (owner_has_too_much(&owners->list[i]))
			number = order_victim(cache->orders[tier->number], i);

	return cache_evict_below(cache, tier, number);
}

/* What has to leave a tier next; 0: nothing. */
static uint32_t cache_evict_next(struct cache *cache, const struct tier *tier)
{
	if (tier->lost)
		return 0;

	uint32_t number = cache_evict_surplus(cache, tier);

	return number == 0 && tier->bytes > tier->usable ? cache_evict_victim(cache, tier) : number;
}

void cache_stay(struct cache *cache, uint32_t number)
{
	const struct block *block = cache_block(cache, number);
	struct tier *here = block_place(&cache->blocks, number).tier;
	if (block_is_dropped(block) || block->target == here->number)
		return;

	if (block->target != 0 && block->refs == 0)
		cache_leave(cache, number);
	block_set_target(&cache->blocks, number, here);
	if (block->refs == 0)
		cache_enter(cache, number, 0);
}

void cache_give_up_demotion(struct cache *cache, uint32_t number)
{
	const struct block *block = cache_block(cache, number);
	const struct tier *here = block_place(&cache->blocks, number).tier;
	if (block_is_dropped(block))
		return;

	if (block->refs > 0 &&
	    here->bytes + block_bytes_in(&cache->blocks, number, here) <= here->usable) {
		cache_stay(cache, number);
		return;
	}

	cache->counters.demotions_dropped++;
	(void)cache_drop_with_group(cache, number);
}

/* Evicts a block from the cache. How many others went with it. */
static uint32_t cache_evict_away(struct cache *cache, uint32_t number)
{
	cache->counters.evicted_blocks++;

	return cache_drop_with_group(cache, number);
}

/* Evicts a block to the front of the tier below, or away; back to its place if that cannot
 * be left now. How many others went with it. */
static uint32_t cache_evict_one(struct cache *cache, uint32_t number)
{
	struct tier *tier = block_target(&cache->blocks, number);
	struct tier *below = cache_tier_for(cache, tier->below, number);
	const struct tier *place = block_place(&cache->blocks, number).tier;
	if (place && place->silent && place != tier) {
		cache_stay(cache, number);
		return 0;
	}

	if (!below)
		return cache_evict_away(cache, number);

	cache_leave(cache, number);
	block_set_target(&cache->blocks, number, below);
	cache_enter(cache, number, 0);

	return 0;
}

/* After an eviction that has taken so many others with it. */
static bool cache_evict_is_over(struct slice *slice, uint32_t others)
{
	return others > 0 ? slice_is_past(slice) : slice_is_over(slice);
}

/* At most `max` blocks. Tiers are numbered from the top down, so the blocks that one tier evicts are
 * settled in a later turn. Those of a lost tier are cache_drop_pending()'s. */
static bool cache_evict_settle(struct cache *cache, struct slice *slice, uint32_t max)
{
	for (uint32_t i = 1; i <= cache->tier_count; i++) {
		struct tier *tier = &cache->tiers[i];
		for (uint32_t number; (number = cache_evict_next(cache, tier)) != 0;) {
			uint32_t others = cache_evict_one(cache, number);

			if (cache_evict_is_over(slice, others) || --max == 0)
				return false;
		}
	}

	return true;
}

bool cache_settle_some(struct cache *cache, struct slice *slice)
{
	return cache_evict_settle(cache, slice, UINT32_MAX);
}

bool cache_settle_touch(struct cache *cache, const struct cache_touch *touch, struct slice *slice)
{
	bool is_last = cache->touching == 1;

	if (!touch->moved && !(cache->unsettled && is_last))
		return true;
	if (!cache_settle_some(cache, slice))
		return false;

	cache->unsettled = false;

	return true;
}

void cache_settle(struct cache *cache)
{
	(void)cache_settle_some(cache, &(struct slice){.until_ns = UINT64_MAX});
}

bool cache_settle_rest(struct cache *cache)
{
	struct slice endless = {.until_ns = UINT64_MAX};

	if (cache->unsettled && cache->touching == 0)
		cache->unsettled = !cache_evict_settle(cache, &endless, SETTLED_MAX);

	return cache->unsettled && cache->touching == 0;
}

void cache_settle_soon(struct cache *cache)
{
	cache->unsettled = true;
	if (!cache->drops.pending && cache->touching == 0) {
		cache_settle(cache);
		cache->unsettled = false;
	} else if (cache_settle_rest(cache)) {
		cache->drops.pending(cache->drops.arg);
	}
}

static void cache_evict_count(const struct cache *cache, uint32_t number,
			      struct cache_amount *amount)
{
	amount->blocks++;
	amount->bytes +=
		block_bytes_in(&cache->blocks, number, block_target(&cache->blocks, number));
}

struct cache_amount cache_push_out(struct cache *cache, struct tier *tier, uint64_t bytes,
				   uint64_t max_blocks)
{
	struct cache_amount gone = {0};

	while (gone.bytes < bytes && gone.blocks + gone.others < max_blocks) {
		uint32_t number = cache_evict_victim(cache, tier);
		if (number == 0)
			break;
		cache_evict_count(cache, number, &gone);
		gone.others += cache_evict_one(cache, number);
	}

	cache_settle_soon(cache);

	return gone;
}

/* ---- room in the index ---- */

/* Frees the numbers of blocks that were dropped while they were next on their tier's
 * queue. The oldest blocks of a tier, if they wait at all, were queued first. */
static void cache_evict_release(struct cache *cache, struct tier *tier)
{
	while (tier->inbound_first != 0 &&
	       block_is_dropped(cache_block(cache, tier->inbound_first)))
		block_unqueue(&cache->blocks, tier);
}

/* The next victim of a tier among the blocks of one owner, or of ANY_OWNER; 0: none. */
static uint32_t cache_evict_victim_of(struct cache *cache, const struct tier *tier, uint32_t owner)
{
	return owner == ANY_OWNER
		       ? cache_evict_victim(cache, tier)
		       : cache_evict_below(cache, tier,
					   order_victim(cache->orders[tier->number], owner));
}

/* Until a payer may have so many blocks more. What is being dropped goes first. Then it does not
 * evict tier by tier: a dropped block that is queued for another tier keeps its number. */
static bool cache_evict_for(struct cache *cache, const struct payer *payer, uint32_t owner,
			    uint32_t count, struct slice *slice)
{
	while (!ledger_has_own_room(payer, LEDGER_BLOCKS, count) && cache_drop_pending(cache, 1))
		if (slice_is_over(slice))
			return false;

	uint32_t lowest = cache->tier_count;
	while (lowest >= 1 && !ledger_has_own_room(payer, LEDGER_BLOCKS, count)) {
		struct tier *tier = &cache->tiers[lowest];
		uint32_t victim = cache_evict_victim_of(cache, tier, owner);
		if (victim == 0) {
			lowest--;
			continue;
		}

		uint32_t others = cache_evict_away(cache, victim);

		cache_evict_release(cache, tier);
		if (cache_evict_is_over(slice, others))
			return false;
	}

	return true;
}

bool cache_make_room(struct cache *cache, uint16_t ns, uint32_t count, struct slice *slice)
{
	const struct payer *payer = &namespaces_get(cache->namespaces, ns)->payer;
	uint32_t owner = namespaces_owners(cache->namespaces)[ns];

	return cache_evict_for(cache, ledger_tenant(payer), owner, count, slice) &&
	       cache_evict_for(cache, &cache->ledger->host, ANY_OWNER, count, slice);
}
