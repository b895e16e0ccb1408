/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cache: the policy. Which blocks are kept, which tier each belongs to, and in which order they go.
 *
 * The tiers form one exclusive cascade: HBM (of each device) over DDR over NVMe. Each tier orders its blocks by use;
 * the concatenation of the orders is one LRU list cut at the capacities, so that the tiers together hit exactly what
 * one LRU of their summed size would. A use moves a block to the front of the top tier; what then exceeds a capacity
 * moves, oldest first, to the front of the tier below, and from the last one away.
 *
 * Leaf first: a use of a block is a use of all its ancestors, in the order tail to head, so a parent is always ahead of
 * its children and goes after them. Where that cannot hold (a child used on another device), dropping a block drops its
 * descendants: nobody could reach them by a prefix lookup anyway.
 *
 * A held block (pinned, or an ancestor of a pinned one) is in no order and is never pushed out; it counts in its tier.
 *
 * All of this changes names only, at once. Where the bytes are follows later (mover.c): a block whose place is not its
 * tier is put on that tier's inbound queue here. A block that is dropped leaves the index here; its slot and its number
 * are given back when nothing uses them any more (cache_idle).
 */
#pragma once

#include "daemon/index.h"
#include "daemon/space.h"
#include "daemon/tier.h"

struct cache {
	struct index *index;
	struct block *table; /* the index's */
	struct spaces *spaces;
	struct tier tiers[TIER_NUMBERS]; /* by number; capacity 0: absent */
	uint32_t devices;
	struct tier *ddr, *nvme, *staging; /* in tiers; ddr and nvme may be absent (capacity 0) */
	uint32_t pass;                     /* of touching */
	uint32_t walk_left;                /* ancestors this pass may still walk */
	double pinned_share;               /* of a tier that may be held */
	uint64_t pinned_limit;             /* or bytes, when > 0 */
	struct list kept_pins;             /* those of operators, which outlive their sessions (serve_keys.c) */

	/* since start */
	uint64_t lookups, lookup_keys, hits[HBM_TIERS], misses;
	uint64_t stores, stored_blocks, stored_bytes, loads, loaded_blocks, loaded_bytes;
	uint64_t evicted_blocks, removed_blocks, checksum_failures, io_errors;
};

struct config;
int cache_open(struct cache **out, const struct config *config, uint32_t devices);
struct cache *cache_close(struct cache *cache); /* slots and numbers still in use go with it */

static inline struct block *cache_block(const struct cache *cache, uint32_t number)
{
	return &cache->table[number];
}
static inline struct tier *cache_hbm(struct cache *cache, uint32_t device)
{
	return &cache->tiers[1 + device];
}
uint64_t cache_bytes(const struct cache *cache, const struct block *block); /* of every block of its namespace */

/* The block of that key if it is complete, else 0. */
uint32_t cache_find(const struct cache *cache, uint16_t space, const struct hbm_wire_key *key);

/* A new, incomplete block under a parent (0: a root), in no order and no tier yet: 0 when the index is full. */
uint32_t cache_insert(struct cache *cache, uint16_t space, const struct hbm_wire_key *key, uint32_t parent);

/* A use of several blocks: one begin, a touch for each from tail to head, one settle, which makes the capacities true
 * again and may drop blocks, also those just touched. A begin also before the holds of one request: what one pass may
 * walk is bounded. */
void cache_touch_begin(struct cache *cache);
void cache_touch(struct cache *cache, uint32_t number, uint32_t device);
void cache_settle(struct cache *cache);

/* Pushes the oldest blocks out of a tier until `bytes` have gone or none is left, at most max_blocks of them; the bytes
 * that went. */
uint64_t cache_push_out(struct cache *cache, struct tier *tier, uint64_t bytes, uint64_t max_blocks);

/* Drops blocks, least recently used of the lowest tier first, until the index has room for `count` new ones. */
void cache_make_room(struct cache *cache, uint32_t count);

/* What a tier had is gone, and nothing will belong there any more: blocks whose bytes are there, and those that are
 * held there, are dropped; the others belong to the tier below. */
void cache_lose_tier(struct cache *cache, struct tier *tier);

/* Takes a block and its descendants out of the index. */
void cache_drop(struct cache *cache, uint32_t number);
/* Whether the block or a descendant is held. */
bool cache_held(const struct cache *cache, uint32_t number);
/* Holds a block and its ancestors: false if that would exceed what may be held of a tier, or more than 65,536 that are
 * not held yet have been walked in this pass (nothing is held then). */
bool cache_hold(struct cache *cache, uint32_t number);
void cache_unhold(struct cache *cache, uint32_t number);

/* Puts a block whose place is not its tier on its tier's inbound queue, unless something moves it already. */
void cache_misplaced(struct cache *cache, uint32_t number);
/* The next of a tier's inbound queue, off the queue; 0 when empty. */
uint32_t cache_next_inbound(struct cache *cache, struct tier *tier);
/* To be called whenever a use of a block ended: gives back slot and number of a dropped one that is idle. */
void cache_idle(struct cache *cache, uint32_t number);
