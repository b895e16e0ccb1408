/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/cache.h"

#include "daemon/config.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

/* Ancestors the uses, or the holds, of one pass walk at most, all together: what one request may cost everybody else.
 * Uses lose nothing above but the exactness of leaf-first order; a hold that would have to go further is refused. */
#define WALK_MAX 65536

int cache_open(struct cache **out, const struct config *config, uint32_t devices)
{
	struct cache *cache = calloc(1, sizeof(*cache));
	if (!cache)
		return -ENOMEM;
	for (unsigned i = 0; i < TIER_NUMBERS; i++)
		cache->tiers[i] = (struct tier){.number = (uint8_t)i, .waiting = LIST_INIT(cache->tiers[i].waiting)};
	list_init(&cache->kept_pins);
	cache->walk_left = WALK_MAX;
	cache->devices = devices;
	cache->ddr = &cache->tiers[1 + devices];
	cache->nvme = &cache->tiers[2 + devices];
	cache->staging = &cache->tiers[3 + devices];
	cache->pinned_share = config->limit_pinned.percent / 100;
	cache->pinned_limit = config->limit_pinned.bytes;
	int r = index_new(&cache->index, config->limit_blocks);
	if (r == 0)
		r = spaces_new(&cache->spaces, config->limit_namespaces);
	if (r < 0) {
		cache_close(cache);
		return r;
	}
	cache->table = index_table(cache->index);
	*out = cache;
	return 0;
}

struct cache *cache_close(struct cache *cache)
{
	if (!cache)
		return NULL;
	for (unsigned i = 0; i < TIER_NUMBERS; i++)
		tier_clear(&cache->tiers[i]);
	cache->spaces = spaces_free(cache->spaces);
	cache->index = index_free(cache->index);
	free(cache);
	return NULL;
}

uint64_t cache_bytes(const struct cache *cache, const struct block *block)
{
	return spaces_get(cache->spaces, block->space)->block_bytes;
}

uint32_t cache_find(const struct cache *cache, uint16_t space, const struct hbm_wire_key *key)
{
	uint32_t number = index_find(cache->index, space, key);
	return number != 0 && (cache->table[number].flags & BLOCK_STORED) != 0 ? number : 0;
}

/* ---- the tree ---- */

static void tree_link(struct cache *cache, uint32_t number, uint32_t parent)
{
	struct block *block = cache_block(cache, number);
	block->parent = parent;
	if (parent == 0)
		return;
	struct block *above = cache_block(cache, parent);
	block->sibling = above->child;
	if (above->child != 0)
		cache_block(cache, above->child)->sibling_back = number;
	above->child = number;
}

static void tree_unlink(struct cache *cache, uint32_t number)
{
	struct block *block = cache_block(cache, number);
	assert(block->child == 0);
	if (block->sibling != 0)
		cache_block(cache, block->sibling)->sibling_back = block->sibling_back;
	if (block->sibling_back != 0)
		cache_block(cache, block->sibling_back)->sibling = block->sibling;
	else if (block->parent != 0)
		cache_block(cache, block->parent)->child = block->sibling;
	block->parent = block->sibling = block->sibling_back = 0;
}

uint32_t cache_insert(struct cache *cache, uint16_t space, const struct hbm_wire_key *key, uint32_t parent)
{
	uint32_t number = index_insert(cache->index, space, key);
	if (number == 0)
		return 0;
	tree_link(cache, number, parent);
	spaces_get(cache->spaces, space)->blocks++;
	return number;
}

/* ---- order ---- */

static void order_remove(struct cache *cache, uint32_t number)
{
	struct block *block = cache_block(cache, number);
	struct tier *tier = &cache->tiers[block->tier];
	if (block->newer != 0)
		cache_block(cache, block->newer)->older = block->older;
	else
		tier->newest = block->older;
	if (block->older != 0)
		cache_block(cache, block->older)->newer = block->newer;
	else
		tier->oldest = block->newer;
	block->newer = block->older = 0;
}

/* Right behind `ahead`, which is in the same order; 0: in front of all. */
static void order_insert(struct cache *cache, uint32_t number, uint32_t ahead)
{
	struct block *block = cache_block(cache, number);
	struct tier *tier = &cache->tiers[block->tier];
	uint32_t *link = ahead != 0 ? &cache_block(cache, ahead)->older : &tier->newest;
	block->newer = ahead;
	block->older = *link;
	if (*link != 0)
		cache_block(cache, *link)->newer = number;
	else
		tier->oldest = number;
	*link = number;
}

static void order_push(struct cache *cache, uint32_t number)
{
	order_insert(cache, number, 0);
}

static void leave(struct cache *cache, struct block *block)
{
	struct tier *tier = &cache->tiers[block->tier];
	struct space *space = spaces_get(cache->spaces, block->space);
	tier->blocks--;
	tier->bytes -= space->block_bytes;
	space->blocks_in[tier->kind]--;
}

/* The place in the order of its tier that a block is to have: behind `ahead` if that is there, else in front. */
static void order_place(struct cache *cache, uint32_t number, uint32_t ahead)
{
	const struct block *other = cache_block(cache, ahead);
	bool there = ahead != 0 && other->tier == cache_block(cache, number)->tier && other->holds == 0;
	order_insert(cache, number, there ? ahead : 0);
}

/* A block that belongs nowhere, or has just left, belongs to `tier` now. */
static void join(struct cache *cache, uint32_t number, struct tier *tier, uint32_t ahead)
{
	struct block *block = cache_block(cache, number);
	struct space *space = spaces_get(cache->spaces, block->space);
	block->tier = tier->number;
	tier->blocks++;
	tier->bytes += space->block_bytes;
	space->blocks_in[tier->kind]++;
	order_place(cache, number, ahead);
	cache_misplaced(cache, number);
}

/* The tier itself or the first below that could ever take so large a block. */
static struct tier *tier_for(struct tier *tier, uint64_t bytes)
{
	while (tier && tier->online < bytes)
		tier = tier->below;
	return tier;
}

static void use(struct cache *cache, uint32_t number, uint32_t device, uint32_t ahead)
{
	struct block *block = cache_block(cache, number);
	block->touched = cache->pass;
	if (block->holds > 0)
		return;
	struct tier *top = tier_for(cache_hbm(cache, device), cache_bytes(cache, block));
	if (!top && block->tier != 0)
		top = &cache->tiers[block->tier]; /* too large for every tier of this device: it stays on the other */
	if (block->tier != 0) {
		order_remove(cache, number);
		if (top && block->tier == top->number) {
			order_place(cache, number, ahead);
			return;
		}
		leave(cache, block);
		block->tier = 0;
	}
	if (top)
		join(cache, number, top, ahead);
}

void cache_touch_begin(struct cache *cache)
{
	cache->pass++;
	cache->walk_left = WALK_MAX;
}

static bool may_walk(struct cache *cache)
{
	if (cache->walk_left == 0)
		return false;
	cache->walk_left--;
	return true;
}

static bool is_touched(const struct cache *cache, uint32_t number)
{
	return cache_block(cache, number)->touched == cache->pass;
}

/* A block and its ancestors, up to the first that is in front already: they go right behind that one, which keeps every
 * parent ahead of its children without another walk to the root for each branch. */
void cache_touch(struct cache *cache, uint32_t number, uint32_t device)
{
	uint32_t ahead = number, length = 0;
	while (ahead != 0 && !is_touched(cache, ahead) && (length == 0 || may_walk(cache))) {
		length++;
		ahead = cache_block(cache, ahead)->parent;
	}
	if (ahead != 0 && !is_touched(cache, ahead))
		ahead = 0;
	for (; length > 0; length--) {
		use(cache, number, device, ahead);
		number = cache_block(cache, number)->parent;
	}
}

static void push_down(struct cache *cache, uint32_t number)
{
	struct block *block = cache_block(cache, number);
	struct tier *tier = &cache->tiers[block->tier];
	struct tier *next = tier_for(tier->below, cache_bytes(cache, block));
	if (!next) {
		cache->evicted_blocks++;
		cache_drop(cache, number);
		return;
	}
	order_remove(cache, number);
	leave(cache, block);
	join(cache, number, next, 0);
}

/* Tiers are numbered from the top down, so what one pushes out is settled when its turn comes. */
void cache_settle(struct cache *cache)
{
	for (uint32_t i = 1; i <= cache->nvme->number; i++) {
		struct tier *tier = &cache->tiers[i];
		while (tier->bytes > tier->online && tier->oldest != 0)
			push_down(cache, tier->oldest);
	}
}

uint64_t cache_push_out(struct cache *cache, struct tier *tier, uint64_t bytes, uint64_t max_blocks)
{
	uint64_t gone = 0;
	for (uint64_t n = 0; gone < bytes && n < max_blocks && tier->oldest != 0; n++) {
		gone += cache_bytes(cache, cache_block(cache, tier->oldest));
		push_down(cache, tier->oldest);
	}
	cache_settle(cache);
	return gone;
}

/* ---- holding ---- */

bool cache_held(const struct cache *cache, uint32_t number)
{
	return cache_block(cache, number)->holds > 0;
}

static bool may_hold(const struct cache *cache, const struct tier *tier, uint64_t bytes)
{
	uint64_t limit =
		cache->pinned_share > 0 ? (uint64_t)((double)tier->online * cache->pinned_share) : cache->pinned_limit;
	return tier->pinned + bytes <= limit;
}

/* The block and its ancestors, up to the first that is held already; all or none. */
static bool hold_branch(struct cache *cache, uint32_t number)
{
	struct block *block = cache_block(cache, number);
	for (;;) {
		if (block->holds++ > 0)
			return true; /* so are its ancestors */
		struct tier *tier = &cache->tiers[block->tier];
		uint64_t bytes = cache_bytes(cache, block);
		if (!may_hold(cache, tier, bytes) || !may_walk(cache))
			break;
		tier->pinned += bytes;
		order_remove(cache, index_number(cache->index, block));
		if (block->parent == 0)
			return true;
		block = cache_block(cache, block->parent);
	}
	block->holds--;
	for (uint32_t n = number; cache_block(cache, n) != block;) {
		uint32_t parent = cache_block(cache, n)->parent;
		struct block *undo = cache_block(cache, n);
		if (--undo->holds == 0) {
			cache->tiers[undo->tier].pinned -= cache_bytes(cache, undo);
			order_push(cache, n);
		}
		n = parent;
	}
	return false;
}

static void unhold_branch(struct cache *cache, uint32_t number)
{
	while (number != 0) {
		struct block *block = cache_block(cache, number);
		assert(block->holds > 0);
		if (--block->holds > 0)
			return;
		uint32_t parent = block->parent;
		if ((block->flags & BLOCK_DROPPED) != 0) {
			cache_idle(cache, number);
			return;
		}
		cache->tiers[block->tier].pinned -= cache_bytes(cache, block);
		order_push(cache, number);
		number = parent;
	}
}

bool cache_hold(struct cache *cache, uint32_t number)
{
	bool held = hold_branch(cache, number);
	cache_block(cache, number)->pins += held;
	return held;
}

void cache_unhold(struct cache *cache, uint32_t number)
{
	struct block *block = cache_block(cache, number);
	assert(block->pins > 0);
	block->pins--;
	unhold_branch(cache, number);
}

/* ---- dropping ---- */

static void drop_leaf(struct cache *cache, uint32_t number)
{
	struct block *block = cache_block(cache, number);
	uint32_t parent = block->parent;
	bool held = block->holds > 0;
	index_remove(cache->index, number);
	tree_unlink(cache, number);
	if (block->tier != 0) {
		if (held)
			cache->tiers[block->tier].pinned -= cache_bytes(cache, block);
		else
			order_remove(cache, number);
		leave(cache, block);
		block->tier = 0;
	}
	block->flags |= BLOCK_DROPPED;
	block->flags &= (uint8_t)~BLOCK_STORED;
	if (held && parent != 0)
		unhold_branch(cache, parent);
	cache_idle(cache, number);
}

void cache_drop(struct cache *cache, uint32_t number)
{
	if ((cache_block(cache, number)->flags & BLOCK_DROPPED) != 0)
		return;
	uint32_t leaf = number;
	for (;;) {
		while (cache_block(cache, leaf)->child != 0)
			leaf = cache_block(cache, leaf)->child;
		uint32_t parent = cache_block(cache, leaf)->parent;
		drop_leaf(cache, leaf);
		if (leaf == number)
			return;
		leaf = parent;
	}
}

void cache_idle(struct cache *cache, uint32_t number)
{
	struct block *block = cache_block(cache, number);
	if ((block->flags & BLOCK_DROPPED) == 0 || (block->flags & BLOCK_MOVING) != 0 || block->readers > 0)
		return;
	if (block->place != 0) {
		struct tier *place = &cache->tiers[block->place];
		tier_unplace(place, cache_bytes(cache, block));
		tier_give(place, block->unit, cache_bytes(cache, block));
		block->place = 0;
	}
	if ((block->flags & BLOCK_QUEUED) != 0 || block->holds > 0)
		return;
	spaces_block_gone(cache->spaces, block->space);
	index_release(cache->index, number);
}

/* ---- towards placement ---- */

void cache_misplaced(struct cache *cache, uint32_t number)
{
	struct block *block = cache_block(cache, number);
	if (block->place == 0 || block->place == block->tier || block->tier == 0 ||
	    (block->flags & (BLOCK_QUEUED | BLOCK_MOVING | BLOCK_DROPPED)) != 0)
		return;
	struct tier *tier = &cache->tiers[block->tier];
	block->flags |= BLOCK_QUEUED;
	block->queue_next = 0;
	if (tier->inbound_last != 0)
		cache_block(cache, tier->inbound_last)->queue_next = number;
	else
		tier->inbound_first = number;
	tier->inbound_last = number;
}

uint32_t cache_next_inbound(struct cache *cache, struct tier *tier)
{
	uint32_t number = tier->inbound_first;
	if (number == 0)
		return 0;
	struct block *block = cache_block(cache, number);
	tier->inbound_first = block->queue_next;
	if (tier->inbound_first == 0)
		tier->inbound_last = 0;
	block->queue_next = 0;
	block->flags &= (uint8_t)~BLOCK_QUEUED;
	return number;
}

/* ---- losing a tier ---- */

static bool is_lost_with(const struct block *block, const struct tier *tier)
{
	return block->place == tier->number || (block->tier == tier->number && block->holds > 0);
}

void cache_lose_tier(struct cache *cache, struct tier *tier)
{
	tier->online = 0;
	uint32_t highest = index_highest(cache->index);
	for (uint32_t number = 1; number <= highest; number++)
		if (index_used(cache->index, number) && is_lost_with(cache_block(cache, number), tier))
			cache_drop(cache, number);
	cache_settle(cache);
}

/* ---- room in the index ---- */

/* Frees the numbers of blocks that were dropped while they were next on the queue of their tier. The oldest of a tier,
 * where they wait at all, were queued first. */
static void shed_dropped(struct cache *cache, struct tier *tier)
{
	while (tier->inbound_first != 0 && (cache_block(cache, tier->inbound_first)->flags & BLOCK_DROPPED) != 0)
		cache_idle(cache, cache_next_inbound(cache, tier));
}

/* Not by pushing out, tier by tier: a block that is queued for another tier keeps its number when it is dropped. */
void cache_make_room(struct cache *cache, uint32_t count)
{
	uint32_t lowest = cache->nvme->number;
	while (lowest >= 1 && index_max(cache->index) - index_count(cache->index) < count) {
		struct tier *tier = &cache->tiers[lowest];
		if (tier->oldest == 0) {
			lowest--;
			continue;
		}
		cache->evicted_blocks++;
		cache_drop(cache, tier->oldest);
		shed_dropped(cache, tier);
	}
}
