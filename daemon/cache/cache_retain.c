/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cache_retain: blocks that clients retain go after the others in their tier: at a level of its
 * order that is their priority, until their time is over. It is no pin: they are used, moved down
 * and evicted as any other, when nothing of a lower level is left in the tier.
 *
 * Ancestors have at least the priority of what continues them, and for at least as long, so that
 * they go after it. They get it first, from the top down, and lose it last:
 *
 *	retain		up to the first ancestor that has enough; then, from the top down, no
 *			block gets more than its parent has by then
 *	release		only of a block that nothing retained continues
 *	time over	by the end, of equals the last made first (retention.h)
 *
 * What a user has at a level of a tier is limited. A block that would exceed it is in the tier as
 * any other. So the order does not say of what is retained that its descendants go first:
 * cache_evict.c looks for one in the tier before such a block goes.
 *
 * No timer ends it: who needs a victim or room looks for what is over, a few at a time.
 */
#include "daemon/base/clock.h"
#include "daemon/cache/cache.h"
#include "daemon/cache/marks.h"
#include "daemon/config/config.h"

static_assert(ORDER_LEVELS == HBM_WIRE_PRIORITY_MAX + 1, "a level for each priority");

uint64_t cache_retain_limit(const struct cache *cache, uint32_t tier)
{
	return config_size_of(cache->retained_limit, cache->tiers[tier].usable);
}

static bool cache_retain_is_ordered(const struct cache *cache, uint32_t number)
{
	const struct block *block = cache_block(cache, number);

	return block->target != 0 && block->refs == 0 && !block_is_dropped(block);
}

/* ---- orders ---- */

void cache_enter(struct cache *cache, uint32_t number, uint32_t ahead)
{
	struct block *block = &cache->blocks.table[number];
	struct retained *retained = retention_find(&cache->retention, number);

	if (retained && retention_favour(retained, block->target,
					 block_bytes_in(&cache->blocks, number,
							block_target(&cache->blocks, number)),
					 cache_retain_limit(cache, block->target)))
		block->level = retained->priority & 0x3u;

	order_insert(cache_order(cache, number), number, ahead);
}

void cache_leave(struct cache *cache, uint32_t number)
{
	order_remove(cache_order(cache, number), number);
	if (cache_block(cache, number)->level == 0)
		return;

	cache->blocks.table[number].level = 0;
	retention_unfavour(retention_find(&cache->retention, number));
}

void cache_reuse(struct cache *cache, uint32_t number, uint32_t ahead)
{
	if (!cache_is_retained(cache, number)) {
		order_use(cache_order(cache, number), number, ahead);
		return;
	}

	cache_leave(cache, number);
	cache_enter(cache, number, ahead);
}

/* ---- the end ---- */

void cache_retain_forget(struct cache *cache, uint32_t number)
{
	struct retained *retained = retention_find(&cache->retention, number), *above;
	if (!retained)
		return;

	above = retention_find(&cache->retention, retained->parent);
	if (above)
		above->children--;
	mark_release(cache, &retained->mark);
	retention_remove(&cache->retention, retained);
}

/* Its block is as any other from now on, as if it was used last: in front of what continues it. What
 * it continues is retained still. */
static void cache_retain_end(struct cache *cache, uint32_t number)
{
	bool is_ordered = cache_retain_is_ordered(cache, number);

	if (is_ordered)
		cache_leave(cache, number);
	cache_retain_forget(cache, number);
	if (is_ordered)
		cache_enter(cache, number, 0);
}

bool cache_retain_expire(struct cache *cache, uint32_t max)
{
	uint64_t now = cache->retention.count > 0 ? clock_now() : 0;
	const struct retained *first;

	while ((first = retention_first(&cache->retention)) != NULL && first->until_ns <= now) {
		if (max-- == 0)
			return true;
		cache_retain_end(cache, first->number);
	}

	return false;
}

int cache_release(struct cache *cache, uint32_t number, const struct user *user)
{
	const struct retained *retained = retention_find(&cache->retention, number);
	if (!retained)
		return HBM_OK;
	if (retained->retainer->user != user || retained->children > 0)
		return HBM_DENIED;

	cache_retain_end(cache, number);

	return HBM_OK;
}

/* ---- the beginning ---- */

static bool cache_retain_is_enough(const struct retained *retained,
				   const struct cache_retaining *retaining)
{
	return retained && retained->priority >= retaining->priority &&
	       retained->until_ns >= retaining->until_ns;
}

static bool cache_retain_is_there(const struct cache *cache, uint32_t number)
{
	return number != 0 && index_used(cache->index, number) &&
	       !block_is_dropped(cache_block(cache, number));
}

/* What retaining a block takes of what its user may have. */
static void cache_retain_count(const struct cache *cache, struct cache_retaining *retaining,
			       uint32_t number, const struct retained *retained)
{
	const struct block *block = cache_block(cache, number);
	bool is_own = retained && retained->retainer->user == retaining->user;

	retaining->blocks += !is_own;
	if (cache_retain_is_ordered(cache, number) && !(is_own && block->level > 0))
		retaining->bytes[block->target] +=
			block_bytes_in(&cache->blocks, number, &cache->tiers[block->target]);
}

/* Remembers the lowest of each stretch of ancestors that have not enough. False: the slice is
 * over. */
static bool cache_retain_climb(struct cache *cache, struct cache_retaining *retaining,
			       uint32_t *walk, struct slice *slice)
{
	const struct retained *retained = NULL;

	while (*walk > 0 && cache_retain_is_there(cache, retaining->at) &&
	       !cache_retain_is_enough(retained = retention_find(&cache->retention, retaining->at),
				       retaining)) {
		if (retaining->length++ % CACHE_STRETCH == 0)
			retaining->lowest[retaining->stretches++] = retaining->at;

		cache_retain_count(cache, retaining, retaining->at, retained);
		--*walk;
		retaining->at = cache_block(cache, retaining->at)->parent;
		if (slice_is_over(slice))
			return false;
	}

	retaining->climbing = false;
	if (retaining->at != 0 && !cache_retain_is_there(cache, retaining->at))
		retaining->status = HBM_MISS;
	else if (retaining->at != 0 && !cache_retain_is_enough(retained, retaining))
		retaining->status = HBM_LIMIT;

	return true;
}

/* Before anything has changed. */
static void cache_retain_check(struct cache *cache, struct cache_retaining *retaining)
{
	struct user *user = retaining->user;
	bool has_room = ledger_check(&user->payer, LEDGER_RETAINED_BLOCKS, retaining->blocks);

	for (uint32_t i = 1; has_room && i <= cache->tier_count; i++)
		if (retaining->bytes[i] > 0)
			has_room = retention_has_bytes(&cache->retention, user, (uint8_t)i,
						       retaining->bytes[i],
						       cache_retain_limit(cache, i));

	if (!has_room)
		retaining->status = HBM_LIMIT;
}

/* Its parent, if the block belongs behind it. */
static uint32_t cache_retain_ahead(const struct cache *cache, uint32_t number)
{
	uint32_t parent = cache_parent(cache, number);

	return parent != 0 && cache_retain_is_ordered(cache, parent) &&
			       cache_block(cache, parent)->target ==
				       cache_block(cache, number)->target
		       ? parent
		       : 0;
}

/* No more than its parent has; without that, nothing. */
static int cache_retain_one(struct cache *cache, const struct cache_retaining *retaining,
			    uint32_t number)
{
	struct retention *retention = &cache->retention;
	uint32_t parent = cache_parent(cache, number);
	struct retained *above = parent != 0 ? retention_find(retention, parent) : NULL;
	unsigned priority = retaining->priority;
	uint64_t until_ns = retaining->until_ns;
	bool is_ordered = cache_retain_is_ordered(cache, number),
	     is_new = !retention_find(retention, number);

	if (parent != 0 && !above)
		return HBM_LIMIT;
	if (above && above->priority < priority)
		priority = above->priority;
	if (above && above->until_ns < until_ns)
		until_ns = above->until_ns;

	if (is_ordered)
		cache_leave(cache, number);
	struct retained *retained =
		retention_set(retention, number, retaining->user, priority, until_ns);
	if (retained && is_new && above) {
		retained->parent = parent;
		above->children++;
	}
	if (retained)
		mark_retain(cache, retained, &retained->mark);
	if (is_ordered)
		cache_enter(cache, number, cache_retain_ahead(cache, number));

	return retained ? HBM_OK : HBM_LIMIT;
}

void cache_retain_again(struct cache *cache, uint32_t number)
{
	if (!cache_retain_is_ordered(cache, number) || cache_block(cache, number)->level > 0)
		return;

	cache_leave(cache, number);
	cache_enter(cache, number, cache_retain_ahead(cache, number));
}

/* The uppermost stretch, from the top down. */
static void cache_retain_stretch(struct cache *cache, struct cache_retaining *retaining)
{
	uint32_t branch[CACHE_STRETCH], count = 0;
	uint32_t length = (retaining->length - 1) % CACHE_STRETCH + 1,
		 at = retaining->lowest[--retaining->stretches];

	for (; count < length && cache_retain_is_there(cache, at); count++) {
		branch[count] = at;
		at = cache_block(cache, at)->parent;
	}

	if (count < length)
		retaining->status = HBM_MISS;
	while (count > 0 && retaining->status == HBM_OK)
		retaining->status = cache_retain_one(cache, retaining, branch[--count]);

	retaining->length -= length;
}

void cache_retain_begin(struct cache_retaining *retaining, uint32_t number, struct user *user,
			unsigned priority, uint64_t until_ns)
{
	*retaining = (struct cache_retaining){.user = user,
					      .priority = priority,
					      .until_ns = until_ns,
					      .at = number,
					      .climbing = true,
					      .busy = true};
}

bool cache_retain_some(struct cache *cache, struct cache_retaining *retaining, uint32_t *walk,
		       struct slice *slice)
{
	if (retaining->climbing) {
		if (!cache_retain_climb(cache, retaining, walk, slice))
			return false;
		if (retaining->status == HBM_OK && !retaining->always)
			cache_retain_check(cache, retaining);
	}

	while (retaining->stretches > 0 && retaining->status == HBM_OK) {
		cache_retain_stretch(cache, retaining);
		if (slice_is_past(slice) && retaining->stretches > 0)
			return false;
	}

	retaining->busy = false;

	return true;
}
