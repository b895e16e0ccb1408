/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cache_drop: takes blocks out of the cache, with all that descends from them.
 *
 * The block that is named goes at once: no lookup finds it again, which matters where its
 * bytes could not be read. There may be as many descendants as blocks, so they follow in
 * steps, from the top down; the first few at once, so that dropping what is small is over
 * when cache_drop() returns:
 *
 * 	                  has children                  the last child is taken from it
 * 	block --> dropped --------------> on the list ------------------------------> gone
 * 	             \ has none                 | a step
 * 	              `--> gone                 `--> its next child is dropped
 *
 * The list has the drops in the order in which they began. A step takes a child from the
 * first block of the list and drops it; if it has children it becomes the first, so that a
 * drop has ended before the next one begins: what waits for the end of one waits for
 * those before it, and for none after it. The list goes through the entries and needs no
 * memory.
 *
 * A descendant that has not been dropped yet is a block like any other. It can be found,
 * loaded, evicted, and be a parent, but not pinned; a walk up ends below the dropped one
 * (cache_parent). If it is dropped on its own and has children, it stays where it is in the
 * tree, and the drop that has begun above it comes to it.
 *
 * References: a child with references has one on its parent, dropped or not, until it is
 * dropped itself. That may be the last of a long branch, so it is given back in steps too:
 * the parent goes on a second list, which has its reference until a step comes to it. No
 * block is on it twice: what is on it has a reference left when another is given back. What
 * has references is in no order, so this list goes through entries as well.
 */
#include "daemon/cache/cache.h"
#include "daemon/cache/tree.h"

static bool cache_drop_is_pending(const struct cache *cache)
{
	const struct cache_drops *drops = &cache->drops;

	return drops->list.first != 0 || drops->unrefs != 0 || drops->lost != 0;
}

static void cache_drop_tell(struct cache *cache)
{
	if (cache->drops.pending)
		cache->drops.pending(cache->drops.arg);
}

/* ---- lists ---- */

static void cache_drop_append(struct cache *cache, struct cache_drop_list *list, uint32_t number)
{
	cache->blocks.table[number].older = 0;
	if (list->first == 0)
		list->first = number;
	else
		cache->blocks.table[list->last].older = number;

	list->last = number;
}

static void cache_drop_push(struct cache *cache, struct cache_drop_list *list, uint32_t number)
{
	cache->blocks.table[number].older = list->first;
	if (list->first == 0)
		list->last = number;

	list->first = number;
	list->depth++;
}

static uint32_t cache_drop_pop(struct cache *cache, struct cache_drop_list *list)
{
	uint32_t number = list->first;

	list->first = cache_block(cache, number)->older;
	if (list->first == 0)
		list->last = 0;

	list->depth--;
	cache->blocks.table[number].older = 0;

	return number;
}

/* ---- references ---- */

/* Drops a reference of a block; its ancestors' are left to cache_drop_unref_some(). */
static void cache_drop_unref(struct cache *cache, uint32_t number)
{
	const struct block *block = cache_block(cache, number);

	if (block->refs > 1 || block_is_dropped(block)) {
		cache_unref_branch(cache, number); /* goes no further */
		return;
	}

	cache->blocks.table[number].newer = cache->drops.unrefs;
	cache->drops.unrefs = number;
}

/* At most `max` blocks; how many more it might have been. */
static uint32_t cache_drop_unref_some(struct cache *cache, uint32_t max)
{
	struct cache_drops *drops = &cache->drops;

	while (max > 0 && drops->unrefs != 0) {
		uint32_t at = drops->unrefs;

		drops->unrefs = cache_block(cache, at)->newer;
		cache->blocks.table[at].newer = 0;
		max -= cache_unref_steps(cache, &at, max);
		if (at != 0)
			cache_drop_unref(cache, at);
	}

	return max;
}

/* ---- steps ---- */

/* Drops a block that is in the tree no longer, or below a dropped one. */
static void cache_drop_block(struct cache *cache, uint32_t number, uint32_t parent)
{
	const struct block *block = cache_block(cache, number);
	bool pinned = block->refs > 0;

	if (block->target != 0 && !pinned)
		cache_leave(cache, number);

	block_drop(&cache->blocks, number);
	if (pinned && parent != 0)
		cache_drop_unref(cache, parent);
}

/* Drops a block, and puts it on the list if it has children. */
static void cache_drop_begin(struct cache *cache, struct cache_drop_list *list, uint32_t number)
{
	const struct block *block = cache_block(cache, number);
	uint32_t parent = block->parent;
	bool has_children = block->child != 0;
	bool will_be_found = has_children && parent != 0 && cache_parent(cache, number) == 0;

	if (!will_be_found)
		tree_unlink(cache->blocks.table, number);

	cache_drop_block(cache, number, parent);
	if (has_children && !will_be_found)
		cache_drop_append(cache, list, number);
}

/* Takes a child from the first block of the list, and drops it. True: that was the end of
 * the first drop. */
static bool cache_drop_step(struct cache *cache, struct cache_drop_list *list)
{
	uint32_t number = list->first, child = cache_block(cache, number)->child;
	bool has_children = false;

	if (list->depth == 0)
		list->depth = 1;

	if (child != 0) {
		/* One that was dropped on its own is here because it had children. */
		bool dropped = block_is_dropped(cache_block(cache, child));
		has_children = dropped || cache_block(cache, child)->child != 0;
		tree_unlink(cache->blocks.table, child);
		if (!dropped)
			cache_drop_block(cache, child, number);
	}

	if (cache_block(cache, number)->child == 0)
		block_end_drop(&cache->blocks, cache_drop_pop(cache, list));
	if (has_children)
		cache_drop_push(cache, list, child);

	return list->depth == 0;
}

/* ---- drops ---- */

/* Leaves it to cache_drop_pending() to drop the children of a dropped block. */
static void cache_drop_leave(struct cache *cache, uint32_t number)
{
	cache_drop_append(cache, &cache->drops.list, number);
	cache->drops.begun++;
}

void cache_drop_together(struct cache *cache, uint32_t number, uint32_t *steps)
{
	struct cache_drop_list list = {0};
	uint32_t unrefs = cache->drops.unrefs;
	if (block_is_dropped(cache_block(cache, number)))
		return;

	cache_drop_begin(cache, &list, number);
	if (cache->drops.unrefs != unrefs)
		(void)cache_drop_unref_some(cache, CACHE_DROP_STEPS);
	for (; *steps > 0 && list.first != 0; --*steps)
		(void)cache_drop_step(cache, &list);

	/* Each that is left is a drop of its own: its children are in no other's tree. */
	while (list.first != 0)
		cache_drop_leave(cache, cache_drop_pop(cache, &list));

	if (cache_drop_is_pending(cache))
		cache_drop_tell(cache);
}

void cache_drop(struct cache *cache, uint32_t number)
{
	uint32_t steps = CACHE_DROP_STEPS;

	cache_drop_together(cache, number, &steps);
}

void cache_abandon_store(struct cache *cache, uint32_t number)
{
	cache_drop(cache, number);
	block_abandon_store(&cache->blocks, number);
}

bool cache_wait_for_drops(struct cache *cache, struct cache_drop_wait *wait)
{
	wait->until = cache->drops.begun;
	if (wait->until == cache->drops.ended)
		return false;

	list_push_back(&cache->drops.waits, &wait->link);
	return true;
}

static void cache_drop_wake(struct cache *cache)
{
	while (!list_empty(&cache->drops.waits)) {
		struct cache_drop_wait *wait =
			container_of(cache->drops.waits.next, struct cache_drop_wait, link);
		if (wait->until > cache->drops.ended)
			return;

		list_remove(&wait->link);
		wait->done(wait);
	}
}

/* ---- losing a tier ---- */

static bool cache_drop_is_lost(const struct cache *cache, const struct block *block)
{
	return cache->tiers[block->actual].lost ||
	       (cache->tiers[block->target].lost && block->refs > 0);
}

/* Empties the orders of lost tiers, at most `max` blocks. False when they are empty. */
static bool cache_drop_targets(struct cache *cache, uint32_t max)
{
	uint64_t gone = 0;

	for (uint32_t i = 1; i <= cache->tier_count && gone < max; i++) {
		struct tier *tier = &cache->tiers[i];
		if (!tier->lost)
			continue;

		struct cache_amount amount = cache_push_out(cache, tier, UINT64_MAX, max - gone);
		gone += amount.blocks + amount.others;
	}

	return gone >= max;
}

static void cache_drop_if_lost(struct cache *cache, uint32_t number)
{
	struct cache_drop_list list = {0};

	if (block_copy_is_lost(&cache->blocks, number))
		block_drop_copy(&cache->blocks, number);
	if (!index_used(cache->index, number) || block_is_dropped(cache_block(cache, number)) ||
	    !cache_drop_is_lost(cache, cache_block(cache, number)))
		return;

	cache_drop_begin(cache, &list, number);
	if (list.first != 0)
		cache_drop_leave(cache, number);
}

/* Looks at some entries for blocks that went with a lost tier, then finds others for what
 * was to come there. */
static void cache_drop_lost(struct cache *cache, uint32_t max)
{
	struct cache_drops *drops = &cache->drops;
	uint32_t highest = index_highest(cache->index);

	for (; max > 0 && drops->lost <= highest; max--, drops->lost++)
		cache_drop_if_lost(cache, drops->lost);

	if (drops->lost > highest && !cache_drop_targets(cache, max))
		drops->lost = 0;
}

void cache_lose_tier(struct cache *cache, struct tier *tier)
{
	tier->usable = 0;
	tier->lost = true;
	cache->drops.lost = 1;
	cache_drop_tell(cache);
}

bool cache_drop_pending(struct cache *cache, uint32_t max)
{
	struct cache_drops *drops = &cache->drops;

	max = cache_drop_unref_some(cache, max);
	if (drops->lost != 0)
		cache_drop_lost(cache, max);
	for (; max > 0 && drops->list.first != 0; max--)
		drops->ended += cache_drop_step(cache, &drops->list);

	cache_drop_wake(cache);
	return cache_drop_is_pending(cache);
}

void cache_drop_for_store(struct cache *cache)
{
	if (cache_drop_is_pending(cache))
		(void)cache_drop_pending(cache, 2);
}

/* ---- a namespace ---- */

static bool cache_drop_is_in(const struct cache *cache, uint32_t number, uint16_t ns)
{
	return number != 0 && index_used(cache->index, number) &&
	       cache_block(cache, number)->ns == ns &&
	       !block_is_dropped(cache_block(cache, number));
}

/* What goes of the block's target; of one that is being stored to nowhere, nothing. */
static uint64_t cache_drop_bytes(const struct cache *cache, uint32_t number)
{
	const struct tier *target = block_target(&cache->blocks, number);

	return target ? block_bytes_in(&cache->blocks, number, target) : 0;
}

/* Descends to a leaf, drops it, and goes up again, one block per step, because a chain may
 * be as long as the index. If the block it was at has been dropped meanwhile, it starts
 * again from the entry that led there. */
bool cache_drop_some(struct cache *cache, struct cache_drop *drop, uint32_t max)
{
	uint32_t highest = index_highest(cache->index);
	for (uint32_t i = 0; i < max; i++) {
		if (!cache_drop_is_in(cache, drop->at, drop->ns)) {
			if (!cache_drop_is_in(cache, drop->next, drop->ns) &&
			    drop->next++ >= highest)
				return false;
			drop->at = drop->next;
			continue;
		}

		const struct block *block = cache_block(cache, drop->at);
		uint32_t at = drop->at;

		drop->at = block->child != 0 ? block->child : block->parent;
		if (block->child != 0)
			continue;

		drop->dropped.blocks++;
		drop->dropped.bytes += cache_drop_bytes(cache, at);
		cache->counters.removed_blocks++;
		cache_drop(cache, at);
	}

	return true;
}
