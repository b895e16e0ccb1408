/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/cache/recount.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

/* ---- entries ---- */

static uint64_t recount_bytes(const struct cache *cache, uint32_t number, uint32_t tier)
{
	return block_bytes_in(&cache->blocks, number, &cache->tiers[tier]);
}

/* Adds (sign 1) or takes off (-1) what an entry has. Sums wrap around in between. */
static void recount_tally(struct recount *recount, uint32_t number, int64_t sign)
{
	const struct cache *cache = recount->cache;
	const struct block *block = cache_block(cache, number);
	if (!index_used(cache->index, number))
		return;

	uint64_t one = (uint64_t)sign;

	recount->entries += one;
	recount->pins += one * block->pins;
	if (block->actual != 0 && block->move != 0)
		recount->tiers[block->actual].source +=
			one * recount_bytes(cache, number, block->actual);
	else if (block->actual != 0)
		recount->tiers[block->actual].placed +=
			one * recount_bytes(cache, number, block->actual);

	if (block->copied) {
		uint32_t tier = cache->blocks.copies.tier->number;
		recount->tiers[tier].copies += one * recount_bytes(cache, number, tier);
	}

	if (block->target == 0)
		return;

	struct recount_tier *target = &recount->tiers[block->target];
	uint64_t bytes = one * recount_bytes(cache, number, block->target);

	target->belongs += bytes;
	target->logical += one * block_logical_bytes(&cache->blocks, number);
	target->blocks += one;
	if (block->refs > 0)
		target->pinned += bytes;
	else
		target->ordered += one;
}

static void recount_changing(struct block_recount *hook, uint32_t number)
{
	struct recount *recount = container_of(hook, struct recount, hook);
	if (number < recount->next)
		recount_tally(recount, number, -1);
}

static void recount_changed(struct block_recount *hook, uint32_t number)
{
	struct recount *recount = container_of(hook, struct recount, hook);
	if (number < recount->next)
		recount_tally(recount, number, 1);
}

/* Whether its parent may have children: it is in the index, or its drop has still to come to
 * them. */
static bool recount_is_orphan(const struct cache *cache, uint32_t number)
{
	uint32_t parent = cache_block(cache, number)->parent;

	return index_used(cache->index, number) && parent != 0 &&
	       (!index_used(cache->index, parent) ||
		(block_is_dropped(cache_block(cache, parent)) &&
		 !cache_block(cache, parent)->dropping));
}

static uint32_t recount_entries(struct recount *recount, uint32_t max)
{
	uint32_t highest = index_highest(recount->cache->index);

	for (; max > 0 && recount->next <= highest; max--) {
		uint32_t number = recount->next++;

		recount_tally(recount, number, 1);
		recount->orphans += recount_is_orphan(recount->cache, number);
	}

	return max;
}

/* ---- orders ---- */

static bool recount_has_seen(const struct recount *recount, uint32_t number)
{
	return (recount->seen[number / 8] >> number % 8 & 1) != 0;
}

static void recount_set_seen(struct recount_tier *tier, uint32_t number)
{
	tier->recount->seen[number / 8] |= (uint8_t)(1u << number % 8);
	tier->seen++;
}

static struct order *recount_order(const struct recount_tier *tier)
{
	return tier->recount->cache->orders[tier - tier->recount->tiers];
}

static void recount_removing(struct order_recount *hook, uint32_t number)
{
	struct recount_tier *tier = container_of(hook, struct recount_tier, hook);

	if (tier->next == number)
		tier->next = order_walk(recount_order(tier), number);
	if (!recount_has_seen(tier->recount, number))
		return;

	tier->recount->seen[number / 8] &= (uint8_t) ~(1u << number % 8);
	tier->seen--;
}

/* What it is put in front of says where it is: before one that has been seen it has been
 * passed, and the one before the next is the next. */
static void recount_inserted(struct order_recount *hook, uint32_t number)
{
	struct recount_tier *tier = container_of(hook, struct recount_tier, hook);
	uint32_t behind = order_walk(recount_order(tier), number);

	if (behind == tier->next)
		tier->next = number;
	else if (behind != 0 && recount_has_seen(tier->recount, behind))
		recount_set_seen(tier, number);
}

/* Whether the block may be in that order, and its links agree. */
static bool recount_is_sound(const struct recount_tier *tier, uint32_t number)
{
	const struct cache *cache = tier->recount->cache;
	const struct order *order = recount_order(tier);
	const struct block *block = cache_block(cache, number);

	return index_used(cache->index, number) && !block_is_dropped(block) &&
	       cache->orders[block->target] == order && block->refs == 0 &&
	       !recount_has_seen(tier->recount, number) && order->ops->is_valid(order, number);
}

static uint32_t recount_order_some(struct recount_tier *tier, uint32_t max)
{
	for (; max > 0 && tier->next != 0 && tier->broken == 0; max--) {
		uint32_t number = tier->next;

		if (!recount_is_sound(tier, number)) {
			tier->broken = number;
			break;
		}

		recount_set_seen(tier, number);
		tier->next = order_walk(recount_order(tier), number);
	}

	return max;
}

/* ---- the whole ---- */

bool recount_some(struct recount *recount, uint32_t max)
{
	bool more = false;

	max = recount_entries(recount, max);
	for (uint32_t i = 1; i <= recount->cache->tier_count; i++) {
		struct recount_tier *tier = &recount->tiers[i];
		max = recount_order_some(tier, max);
		more |= tier->next != 0 && tier->broken == 0;
	}

	return more || recount->next <= index_highest(recount->cache->index);
}

int recount_new(struct recount **out, struct cache *cache)
{
	struct recount *recount = calloc(1, sizeof(*recount));
	uint8_t *seen = calloc(index_max(cache->index) / 8 + 1, 1);
	if (!recount || !seen) {
		free(seen);
		free(recount);
		return -ENOMEM;
	}

	assert(!cache->blocks.recount);
	recount->hook = (struct block_recount){recount_changing, recount_changed};
	recount->cache = cache;
	recount->next = 1;
	recount->seen = seen;
	cache->blocks.recount = &recount->hook;

	for (uint32_t i = 1; i <= cache->tier_count; i++) {
		struct recount_tier *tier = &recount->tiers[i];

		tier->hook = (struct order_recount){recount_removing, recount_inserted};
		tier->recount = recount;
		tier->next = order_walk(cache->orders[i], 0);
		cache->orders[i]->recount = &tier->hook;
	}

	*out = recount;

	return 0;
}

struct recount *recount_free(struct recount *recount)
{
	if (!recount)
		return NULL;

	recount->cache->blocks.recount = NULL;
	for (uint32_t i = 1; i <= recount->cache->tier_count; i++)
		recount->cache->orders[i]->recount = NULL;

	free(recount->seen);
	free(recount);

	return NULL;
}
