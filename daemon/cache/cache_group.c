/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cache_group: what is evicted from the cache in one namespace of a group goes in the others.
 * Each has a part of what a key stands for, as the ranks of tensor parallelism have: no engine can
 * use a prefix beyond a block that one of them lacks.
 *
 * 	rank 0   a - b - c - d           evicted: d
 * 	rank 1   a - b - c - d - e       dropped with it: d, and e, which no lookup reaches then
 * 	rank 2   a - b - c - d(pinned)   stays, until it is evicted as any other
 *
 * What a client has asked to be kept longer there stays, too: what is durable, where the one that
 * is evicted is not, and what is retained with a higher priority. So does what is being stored.
 * Blocks that are removed, or dropped because their bytes are lost, take no others with them.
 *
 * A use of a block is a use of those of its key in the others, where they are: the ranks use a
 * prefix one after the other, and what the first has just used must not go because the last has
 * not yet. So their orders agree, and so do their demotions as far as their tiers are alike.
 *
 * A group has few members (HBM_WIRE_GROUP_MAX), so that both are done at once: a search for each,
 * and a drop or a step in its tier's order. The descendants of what is dropped, but for the first
 * few, follow bit by bit (cache_drop.c).
 */
#include "daemon/cache/cache.h"

static uint32_t cache_group_next(const struct cache *cache, uint32_t ns)
{
	return namespaces_get(cache->namespaces, ns)->next_member;
}

/* ---- uses ---- */

/* A use within its tier, as cache_use(): right behind its parent, if that has been used with it, or
 * else not at all, so that it does not get ahead of its ancestors. */
static void cache_group_use_one(struct cache *cache, const struct cache_touch *touch,
				uint32_t number)
{
	const struct block *block = cache_block(cache, number);
	uint32_t parent = cache_parent(cache, number);
	const struct block *above = cache_block(cache, parent);
	if (cache_is_touched(cache, touch, number) ||
	    (parent != 0 && !cache_is_touched(cache, touch, parent)))
		return;

	cache->blocks.table[number].touched = touch->pass;
	if (block->target == 0 || block->refs > 0 || cache->tiers[block->actual].silent)
		return;

	cache_reuse(cache, number,
		    parent != 0 && above->target == block->target && above->refs == 0 ? parent : 0);
}

uint32_t cache_group_use(struct cache *cache, const struct cache_touch *touch, uint32_t number)
{
	const struct block *used = cache_block(cache, number);
	uint32_t count = 0;

	for (uint32_t ns = cache_group_next(cache, used->ns); ns != used->ns;
	     ns = cache_group_next(cache, ns)) {
		uint32_t other = index_find(cache->index, (uint16_t)ns, &used->key);
		if (other == 0)
			continue;

		cache_group_use_one(cache, touch, other);
		count++;
	}

	return count;
}

/* ---- evictions ---- */

/* Whether a block goes with one of its key that is evicted. */
static bool cache_group_goes_with(const struct block *block, const struct block *evicted)
{
	return block->refs == 0 && block_is_complete(block) && block->level <= evicted->level &&
	       (!block->durable || evicted->durable);
}

uint32_t cache_drop_with_group(struct cache *cache, uint32_t number)
{
	const struct block *evicted = cache_block(cache, number);
	uint32_t next, count = 0, steps = CACHE_DROP_STEPS;

	/* A namespace may be forgotten with its last block; that of this block is not, yet. */
	for (uint32_t ns = cache_group_next(cache, evicted->ns); ns != evicted->ns; ns = next) {
		uint32_t other = index_find(cache->index, (uint16_t)ns, &evicted->key);

		next = cache_group_next(cache, ns);
		if (other == 0 || !cache_group_goes_with(cache_block(cache, other), evicted))
			continue;

		cache_drop_together(cache, other, &steps);
		count++;
	}

	cache_drop(cache, number);
	cache->counters.evicted_blocks += count;
	cache->counters.evicted_together += count;

	return count;
}
