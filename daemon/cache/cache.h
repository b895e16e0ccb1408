/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cache: the policy. Which blocks are kept, which tier each belongs to, and in which
 * order they go.
 *
 * The tiers form one exclusive cascade: HBM (of each device) over DDR over NVMe. Each
 * tier orders its blocks by use; the concatenation of the orders is one LRU list cut at
 * the capacities, so that the tiers together hit exactly what one LRU of their summed
 * size would. A use moves a block to the front of the top tier; what then exceeds a
 * capacity moves, oldest first, to the front of the tier below, and from the last one
 * away.
 *
 * The order of a tier is behind order.h, and least recently used (order_lru.c) unless
 * cache_open_ordered() is given another.
 *
 * Leaf first: a use of a block is a use of all its ancestors, in the order tail to head,
 * and a block goes after its children that are in the same tier. Where a child is in a
 * tier above (it was used on another device), dropping the block drops its descendants:
 * nobody could reach them by a prefix lookup anyway.
 *
 * A pinned block, or an ancestor of one, is in no order and is never evicted; it counts
 * in its tier (cache_pin.c).
 *
 * All of this sets targets only, at once. The bytes follow later (mover.c). What state a
 * block is in, and when its slot and its number are given back, is block.c's.
 */
#pragma once

#include "daemon/cache/block.h"
#include "daemon/cache/order.h"

struct cache {
	struct index *index;
	struct namespaces *namespaces;
	struct blocks blocks;
	struct block_listener traffic; /* counts moves between tiers */
	/* [0]: staging; [1..tier_count], from the top down; capacity 0: absent */
	struct tier tiers[TIER_NUMBERS];
	uint32_t tier_count;
	const struct order_ops *order_ops;
	struct order *orders[TIER_NUMBERS]; /* of the blocks of each tier that have no references */
	uint32_t devices;
	struct tier *ddr, *nvme, *staging; /* in tiers; ddr and nvme may be absent (capacity 0) */
	uint32_t pass;                     /* of touching */
	uint32_t walk_left;                /* ancestors this pass may still walk */
	double pinned_share;               /* of a tier that may be pinned */
	uint64_t pinned_limit;             /* or bytes, when > 0 */
	struct list kept_pins; /* those of operators, which outlive their sessions (serve_keys.c) */

	/* since start */
	uint64_t lookups, lookup_keys, hits[HBM_TIERS], misses;
	uint64_t stores, stored_blocks, stored_bytes, loads, loaded_blocks, loaded_bytes;
	uint64_t evicted_blocks, removed_blocks, checksum_failures, io_errors;
};

struct config;
int cache_open(struct cache **out, const struct config *config, uint32_t devices);
/* The same with another order of eviction. */
int cache_open_ordered(struct cache **out, const struct config *config, uint32_t devices,
		       const struct order_ops *ops);
struct cache *cache_close(struct cache *cache); /* slots and numbers still in use go with it */

static inline const struct block *cache_block(const struct cache *cache, uint32_t number)
{
	return block_get(&cache->blocks, number);
}
static inline struct tier *cache_hbm(struct cache *cache, uint32_t device)
{
	return &cache->tiers[1 + device];
}
/* The tier of that kind; of HBM, that of the device. NULL: none. */
struct tier *cache_tier(struct cache *cache, enum hbm_tier kind, uint32_t device);
/* One more tier, below all others, while there is no block. NULL: there are as many as
 * can be, or no memory. */
struct tier *cache_add_tier(struct cache *cache);
/* The order a block with that target is in, or would be without references. */
static inline struct order *cache_order(const struct cache *cache, uint32_t number)
{
	return cache->orders[cache_block(cache, number)->target];
}

/* The block of that key if it is complete, else 0. None is while its namespace is being
 * dropped. */
uint32_t cache_find(const struct cache *cache, uint16_t ns, const struct hbm_wire_key *key);

/* A new block under a parent (0: a root), whose store has begun; in no order and without
 * a target yet: 0 when the index is full. */
uint32_t cache_insert(struct cache *cache, uint16_t ns, const struct hbm_wire_key *key,
		      uint32_t parent);
/* Drops a block whose store has failed or cannot be done. */
void cache_abandon_store(struct cache *cache, uint32_t number);

/* A use of several blocks: one begin, a touch for each from tail to head, one settle,
 * which makes the capacities true again and may drop blocks, also those just touched. A
 * begin also before the pins of one request: what one pass may walk is bounded. */
void cache_touch_begin(struct cache *cache);
bool cache_may_walk(struct cache *cache); /* one more ancestor in this pass */
void cache_touch(struct cache *cache, uint32_t number, uint32_t device);
void cache_settle(struct cache *cache);

/* Pushes the oldest blocks out of a tier until `bytes` have gone or none is left, at most
 * max_blocks of them; the bytes that went. */
uint64_t cache_push_out(struct cache *cache, struct tier *tier, uint64_t bytes,
			uint64_t max_blocks);

/* Drops blocks, least recently used of the lowest tier first, until the index has room
 * for `count` new ones. */
void cache_make_room(struct cache *cache, uint32_t count);

/* What a tier had is gone, and nothing will belong there any more: blocks whose bytes are
 * there, and those that are pinned there, are dropped; the others belong to the tier
 * below. */
void cache_lose_tier(struct cache *cache, struct tier *tier);

/* Takes a block and its descendants out of the index. */
void cache_drop(struct cache *cache, uint32_t number);

/* Drops all blocks of a namespace, pinned ones too, in steps. Begins as {.ns = number};
 * meanwhile the namespace's `drop` is set, so that no block comes to it. */
struct cache_drop {
	uint16_t ns;
	uint32_t next; /* no entry before this one is a block of the namespace */
	uint32_t at;   /* where the walk goes on, if that is a block of the namespace */
};
/* One step, over at most `max` entries. False when no block is left. */
bool cache_drop_some(struct cache *cache, struct cache_drop *drop, uint32_t max);

/* ---- pins (cache_pin.c) ---- */

/* Whether the block or a descendant is pinned. */
bool cache_is_pinned(const struct cache *cache, uint32_t number);
/* Pins a block, which references it and its ancestors: false if that would exceed what
 * may be pinned of a tier, or more than 65,536 that have no reference yet have been
 * walked in this pass (nothing is pinned then). */
bool cache_pin(struct cache *cache, uint32_t number);
void cache_unpin(struct cache *cache, uint32_t number);
/* One reference less of a block and, while it was the last, of its ancestors. */
void cache_unref_branch(struct cache *cache, uint32_t number);
