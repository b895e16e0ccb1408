/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cache: the policy: which blocks are kept, the target tier of each, and the order of
 * eviction.
 *
 * The tiers form one exclusive cascade: HBM (of each device) over DDR over NVMe. Each
 * tier orders its blocks by use; the concatenation of the orders is one LRU list cut at
 * the capacities, so that the tiers together hit exactly what one LRU of their summed
 * size would. A use moves a block to the front of the top tier; blocks beyond a
 * capacity are then evicted, oldest first, to the front of the tier below, and from the
 * last tier away. A use by host memory moves a block no higher than DDR, and one that is in
 * HBM stays there.
 *
 * order.h hides the order of a tier, which is least recently used (order_lru.c) unless
 * cache_open_ordered() is given another.
 *
 * Leaf first: a use of a block is a use of all its ancestors, in the order tail to head,
 * and a block goes after its children that are in the same tier. Where a child is in a
 * tier above (it was used on another device), dropping the block drops its descendants:
 * no prefix lookup could reach them anyway. The block goes at once, its descendants bit by
 * bit (cache_drop.c).
 *
 * Namespaces may be members of a group: a use of a block is one of the blocks of its key in the
 * others, and what is evicted from the cache in one of them goes in all (cache_group.c).
 *
 * Tenants may have bounds in a tier (owners.h): beyond its most, a tenant's own blocks are evicted
 * first, and what it is to keep is passed over as long as there is something else. Without
 * bounds all blocks of a tier are one LRU list, of whatever tenant.
 *
 * A tier that is silent is passed over: blocks are evicted to the next one below or away,
 * and a use leaves the blocks in it where they are. So is NVMe for the blocks of a namespace
 * that stays in memory (namespace.h).
 *
 * A durable block belongs in NVMe: a use moves it to the front of the order there, and nothing
 * moves it up, for its bytes in a tier of memory would be gone with the power, and a copy that
 * it left may go (block.h). It is evicted from there as any other.
 *
 * A pinned block, or an ancestor of one, is in no order and is never evicted; it counts
 * in its tier (cache_pin.c). What clients retain goes after the others (cache_retain.c).
 *
 * All of this sets targets only, at once. The bytes follow later (pump.h). block.c decides
 * the state of a block, and when its extent and its number are freed.
 */
#pragma once

#include "daemon/base/counters.h"
#include "daemon/base/slice.h"
#include "daemon/cache/block.h"
#include "daemon/cache/order.h"
#include "daemon/cache/retention.h"
#include "daemon/cache/usage.h"
#include "daemon/config/config_fields.h"

/* Dropped blocks with children, through block.older. */
struct cache_drop_list {
	uint32_t first, last;
	uint32_t depth; /* how many, from the first, are of the drop that is first */
};

/* What is still to be dropped (cache_drop.c). */
struct cache_drops {
	struct cache_drop_list list;
	uint32_t unrefs;       /* blocks with a reference to be dropped, through block.newer */
	uint32_t lost;         /* where the search for blocks of lost tiers goes on; 0: done */
	uint64_t begun, ended; /* drops, in the order of the list */
	struct list waits;     /* struct cache_drop_wait */
	/* Called when there is something to do for cache_drop_pending() or cache_settle_rest(); NULL:
	 * no one is told. */
	void (*pending)(void *arg);
	void *arg;
};

struct cache {
	struct index *index;
	struct namespaces *namespaces;
	struct blocks blocks;
	struct block_listener traffic; /* counts moves between tiers */
	struct usage usage;
	/* [0]: staging; [1..tier_count], from the top down; capacity 0: absent */
	struct tier tiers[TIER_NUMBERS];
	uint32_t tier_count;
	const struct order_ops *order_ops;
	struct order *orders[TIER_NUMBERS]; /* of the blocks of each tier that have no references */
	struct owners owners[TIER_NUMBERS]; /* of all blocks of each */
	uint32_t devices;
	bool nvme_wiped; /* blocks of namespaces with wipe_on_free may be there (nvme_file.h) */
	struct tier *ddr, *nvme, *staging; /* in tiers; ddr and nvme may be absent (capacity 0) */
	uint32_t pass;                     /* of the newest touch */
	uint32_t touching;                 /* touches that have begun and not ended */
	bool unsettled; /* tiers may have more than fits: theirs to settle, or the rest's */
	struct ledger *ledger;
	struct payer pinned[TIER_NUMBERS]; /* of the pinned bytes in each tier */
	struct config_size pinned_limit;   /* a percentage is of the tier */
	struct retention retention;
	struct config_size retained_limit; /* of one user; the same */
	struct cache_drops drops;
	struct list kept_pins; /* pins of operators, which outlive their sessions (serve_keys.c) */
	struct state *kept; /* where they are kept, and what is retained (marks.h); NULL: nowhere */
	/* A block of the daemon before is there again (cache_recover()); NULL: no one is told. */
	void (*recovered)(void *arg, uint32_t number);
	void *recovered_arg;

	struct counters counters;
};

struct config;
int cache_open(struct cache **out, const struct config *config, struct ledger *ledger,
	       uint32_t devices);
/* The same with another eviction order. */
int cache_open_ordered(struct cache **out, const struct config *config, struct ledger *ledger,
		       uint32_t devices, const struct order_ops *ops);
struct cache *cache_close(struct cache *cache); /* frees extents and numbers still in use too */

static inline const struct block *cache_block(const struct cache *cache, uint32_t number)
{
	return block_get(&cache->blocks, number);
}
static inline struct tier *cache_hbm(struct cache *cache, uint32_t device)
{
	return &cache->tiers[1 + device];
}
/* The uppermost tier for what is used on that device: its HBM; of host memory
 * (HBM_WIRE_DEVICE_HOST), which no device is near, DDR. */
struct tier *cache_top(struct cache *cache, uint32_t device);
/* The tier of that kind; of HBM, that of the device. NULL: none. */
struct tier *cache_tier(struct cache *cache, enum hbm_tier kind, uint32_t device);
/* The tier itself or the first one below that answers, whose capacity fits the block, and that
 * its namespace allows. */
struct tier *cache_tier_for(const struct cache *cache, struct tier *tier, uint32_t number);
/* Adds a tier below all others; only while there is no block. NULL: too many tiers, or no
 * memory. */
struct tier *cache_add_tier(struct cache *cache);
/* Takes what tenants may have of each tier from the ledger. What one has beyond it is evicted as
 * the cache is used. */
void cache_bound_owners(struct cache *cache);
/* What the blocks of a tenant take of the tiers of that kind together. */
uint64_t cache_owner_bytes(const struct cache *cache, enum hbm_tier kind, uint32_t owner);
/* The order a block with that target is in, or would be without references. */
static inline struct order *cache_order(const struct cache *cache, uint32_t number)
{
	return cache->orders[cache_block(cache, number)->target];
}

/* Whether the tier that had its bytes is lost. */
static inline bool cache_is_lost(const struct cache *cache, uint32_t number)
{
	return cache->tiers[cache_block(cache, number)->actual].lost;
}
/* Whether a client may read it: it is complete, and its bytes are there. */
static inline bool cache_is_readable(const struct cache *cache, uint32_t number)
{
	return block_is_complete(cache_block(cache, number)) && !cache_is_lost(cache, number);
}
/* The block of that key if it is readable, else 0. None is while its namespace is being
 * dropped. */
uint32_t cache_find(const struct cache *cache, uint16_t ns, const struct hbm_wire_key *key);
/* The block of that key, stored or being stored, else 0. For a store: one whose bytes are
 * lost makes way. */
uint32_t cache_find_entry(struct cache *cache, uint16_t ns, const struct hbm_wire_key *key);
/* The same of a block that is to be stored: one whose bytes cannot be loaded now makes way
 * too, unless it is pinned. */
uint32_t cache_find_for_store(struct cache *cache, uint16_t ns, const struct hbm_wire_key *key);
/* Its parent; 0: none, or one that has been dropped. */
uint32_t cache_parent(const struct cache *cache, uint32_t number);
/* Whether the block is complete and its bytes can be read: not while they are in a tier
 * that is silent. */
bool cache_is_loadable(const struct cache *cache, uint32_t number);
/* cache_find() of a block that can be loaded, else 0. */
uint32_t cache_find_loadable(const struct cache *cache, uint16_t ns,
			     const struct hbm_wire_key *key);

/* Inserts a new block under a parent (0: a root) and begins its store. It has no order
 * and no target yet. 0: the index is full. */
uint32_t cache_insert(struct cache *cache, uint16_t ns, const struct hbm_wire_key *key,
		      uint32_t parent);
/* Makes that tier, or the next one below it that answers and fits the block, the target of a
 * block that has just been inserted, without a use of it. HBM_NO_SPACE: there is none.
 * To be followed by settling. */
int cache_place(struct cache *cache, uint32_t number, struct tier *tier);
/* The same of a block that has a target. HBM_LIMIT: it is pinned, and more than [limits]
 * allows would be pinned there. HBM_DENIED: it is durable, and that tier is above NVMe. Its
 * ancestors stay where they are. */
int cache_move(struct cache *cache, uint32_t number, struct tier *tier);
/* Makes a block that has a target durable, on its way to NVMe if it is not there. Otherwise as
 * cache_move(), and it is what it was. */
int cache_make_durable(struct cache *cache, uint32_t number);
/*
 * A use of several blocks and of their ancestors, in slices: one begin, each block from tail
 * to head, one end, then settling. Each step moves one block right behind its parent, which
 * has been moved already, so that a parent stays ahead of its children whatever others do
 * between two slices. What is dropped meanwhile is not used. The members are cache.c's.
 */
#define CACHE_WALK_MAX 65536 /* ancestors that one request may visit */
#define CACHE_STRETCH 256    /* blocks of a branch that are used in one step */
struct cache_touch {
	uint32_t device; /* for which */
	uint32_t pass;
	uint32_t walk_left; /* ancestors it may still visit */
	bool moved;         /* blocks changed their tier */
	bool busy, climbing;
	uint32_t at, length; /* where it climbs; blocks of the branch so far */
	/* The lowest block of each stretch of the branch, from the bottom up. */
	uint32_t stretches, lowest[CACHE_WALK_MAX / CACHE_STRETCH + 1];
};

/* Whether it has been used since that touch began, by it or by another. */
static inline bool cache_is_touched(const struct cache *cache, const struct cache_touch *touch,
				    uint32_t number)
{
	return cache_block(cache, number)->touched - touch->pass <= cache->pass - touch->pass;
}

void cache_touch_begin(struct cache *cache, struct cache_touch *touch);
/* Uses a block on a device, and its ancestors. False: the slice is over; to be called again
 * until it is true; what `number` is counts the first time only. */
bool cache_touch_some(struct cache *cache, struct cache_touch *touch, uint32_t number,
		      uint32_t device, struct slice *slice);
/* Evicts down to the capacities; may drop blocks, also those just used. False: the slice is
 * over. */
bool cache_settle_some(struct cache *cache, struct slice *slice);
/* The same after a use. One that has put nothing into any tier leaves it to those that
 * have: what they used is not this one's to evict. The last leaves nothing. */
bool cache_settle_touch(struct cache *cache, const struct cache_touch *touch, struct slice *slice);
/* After the first cache_touch_begin() until this, tiers may have more than fits. */
void cache_touch_end(struct cache *cache);
/* The same without slices. */
void cache_touch(struct cache *cache, struct cache_touch *touch, uint32_t number, uint32_t device);
void cache_settle(struct cache *cache);
/* The same of some blocks at once. The rest is left to touches that go on, or to
 * cache_settle_rest(), for which drops.pending is called; until then tiers may have more than fits.
 */
void cache_settle_soon(struct cache *cache);
/* Some more. False: nothing is left, or touches go on. */
bool cache_settle_rest(struct cache *cache);

/* Blocks, and their bytes as stored. */
struct cache_amount {
	uint64_t blocks, bytes;
	uint64_t others; /* blocks that were evicted from the cache with these, for their groups */
};

/* Evicts the oldest blocks of a tier until `bytes` are gone or no block is left, or max_blocks
 * with those of their groups, of which the last may bring some more; then cache_settle_soon().
 * Returns what has been evicted. */
struct cache_amount cache_push_out(struct cache *cache, struct tier *tier, uint64_t bytes,
				   uint64_t max_blocks);

/* Drops what is being dropped, then blocks, least recently used of the lowest tier first,
 * until the index has room for `count` new ones; of a tenant's own blocks, until it may have
 * so many more in that namespace. False: the slice is over. */
bool cache_make_room(struct cache *cache, uint16_t ns, uint32_t count, struct slice *slice);

/* Drops a block that is evicted, and with it those of its key in the other namespaces of its
 * group (cache_group.c). How many others. */
uint32_t cache_drop_with_group(struct cache *cache, uint32_t number);

/* Of a use of a block: uses those of its key in the other namespaces of its group, each in the
 * tier where it is. To be called before that use, from parents to children. How many there are. */
uint32_t cache_group_use(struct cache *cache, const struct cache_touch *touch, uint32_t number);

/* A block cannot leave its place, because the tier is silent: that tier is its target
 * again. To be followed by settling. */
void cache_stay(struct cache *cache, uint32_t number);

/* Drops a block that was on its way down and cannot get there, and counts it; a pinned one
 * stays if there is room. To be followed by settling. */
void cache_give_up_demotion(struct cache *cache, uint32_t number);

/* ---- drops (cache_drop.c) ---- */

/* Drops a block: it is out of the index, and of its tier's order, when this returns. So are
 * its descendants if they are few; otherwise they are dropped later, and until then can be
 * found and read. */
void cache_drop(struct cache *cache, uint32_t number);
/* The same for one of several: of the descendants of all, *steps are dropped at once, which begins
 * as CACHE_DROP_STEPS. */
#define CACHE_DROP_STEPS 64u
void cache_drop_together(struct cache *cache, uint32_t number, uint32_t *steps);
/* Drops a block whose store has failed or is refused. */
void cache_abandon_store(struct cache *cache, uint32_t number);

/* Drops at most `max` blocks of those that are still to be dropped. False when none is
 * left. */
bool cache_drop_pending(struct cache *cache, uint32_t max);
/* A client is about to store a block: some steps, so that the drop of a block ends however
 * much is stored below it. */
void cache_drop_for_store(struct cache *cache);

/* Calls done() when the descendants of all that has been dropped so far are gone. Drops that
 * begin later do not delay it. */
struct cache_drop_wait {
	struct list link;                           /* the cache's */
	uint64_t until;                             /* the cache's */
	void (*done)(struct cache_drop_wait *wait); /* from cache_drop_pending() */
};
/* False: they are gone, and done() will not be called. */
bool cache_wait_for_drops(struct cache *cache, struct cache_drop_wait *wait);

/* A tier has lost its bytes and can be no target any longer: blocks with bytes there are not
 * found from now on. Later they are dropped, and so are blocks pinned there; the others get
 * the tier below as target. */
void cache_lose_tier(struct cache *cache, struct tier *tier);

/* Drops all blocks of a namespace, pinned ones too, in steps. Begins as {.ns = number};
 * meanwhile the namespace's `drop` is set, so that no block comes to it. */
struct cache_drop {
	uint16_t ns;
	uint32_t next; /* no entry before this one is a block of the namespace */
	uint32_t at;   /* where the walk goes on, if that is a block of the namespace */
	struct cache_amount dropped; /* so far */
};
/* One step, over at most `max` entries. False when no block is left. */
bool cache_drop_some(struct cache *cache, struct cache_drop *drop, uint32_t max);

/* ---- what was there before (cache_recover.c) ---- */

/* A block that is in the NVMe tier already, or in DDR, in an extent that is claimed. */
struct cache_recovered {
	struct tier *tier;
	uint16_t ns;
	bool checksummed, durable;
	bool unverified; /* block.h */
	bool incompressible;
	struct hbm_wire_key key, parent; /* all zero: a root */
	uint32_t near;                   /* a block that may be its parent, or 0 */
	uint64_t checksum;
	uint32_t unit, units; /* units: that it takes on a disk */
	bool ordered; /* it goes before `ahead`, as of order.h; else it is the next victim */
	uint32_t ahead;
};
/* Makes it a block; one whose parent is not there is a root.
 * HBM_OK and its number; or, and the extent stays claimed, HBM_INVALID: its namespace has no
 * blocks of that size; HBM_EXISTS: its key has been stored again; HBM_NO_SPACE: the tier, a disk,
 * has enough; HBM_LIMIT: so have the limits; HBM_NOT_FOUND: its namespace has been dropped. In
 * memory it may be more than is usable, and is to be followed by settling. */
int cache_recover(struct cache *cache, const struct cache_recovered *found, uint32_t *number);

/* ---- pins (cache_pin.c) ---- */

/* Stored bytes of the pinned blocks of a tier and of their ancestors there. */
uint64_t cache_pinned(const struct cache *cache, const struct tier *tier);
/* Sets what may be pinned in a tier to its share of what is usable now. */
void cache_limit_pins(struct cache *cache, const struct tier *tier);
/* Whether [limits] allows the block's bytes to be pinned in that tier too. */
bool cache_may_pin(struct cache *cache, uint32_t number, const struct tier *tier);
/* Whether the block or a descendant is pinned. */
bool cache_is_pinned(const struct cache *cache, uint32_t number);
/* Pins a block, which references it and its ancestors: HBM_OK. Otherwise nothing is pinned.
 * HBM_LIMIT: that would exceed the pinned limit of a tier, or visit more ancestors without a
 * reference than are left of *walk, which begins as CACHE_WALK_MAX for each request.
 * HBM_MISS: an ancestor has been dropped, and so will be this block. */
int cache_pin(struct cache *cache, uint32_t number, uint32_t *walk);

/*
 * The same in slices, from the top down: at every moment what is referenced has its ancestors
 * referenced. The members are cache.c's, but for status: when done, HBM_OK: it is pinned, or
 * why it is not.
 */
struct cache_pinning {
	int status;
	bool climbing, done;
	bool always; /* set after the beginning: whatever [limits] allows now */
	uint32_t number, at, length;
	uint32_t held; /* this block has a reference for now */
	uint32_t stretches, lowest[CACHE_WALK_MAX / CACHE_STRETCH + 1];
};
void cache_pin_begin(struct cache_pinning *pinning, uint32_t number);
/* False: the slice is over. Setting status before the next ends it with that. */
bool cache_pin_some(struct cache *cache, struct cache_pinning *pinning, uint32_t *walk,
		    struct slice *slice);

/* ---- retention (cache_retain.c) ---- */

/* Bytes of a tier, by its number, that one user may retain. */
uint64_t cache_retain_limit(const struct cache *cache, uint32_t tier);

/* A block that has a target and no references enters the order of its tier, leaves it, and is
 * used within it; `ahead` as of order.h. */
void cache_enter(struct cache *cache, uint32_t number, uint32_t ahead);
void cache_leave(struct cache *cache, uint32_t number);
void cache_reuse(struct cache *cache, uint32_t number, uint32_t ahead);

static inline bool cache_is_retained(const struct cache *cache, uint32_t number)
{
	return cache->retention.count > 0 && retention_find(&cache->retention, number);
}

/*
 * Retains a block and its ancestors for a user, with a priority of 1 to HBM_WIRE_PRIORITY_MAX, in
 * slices. What they have of both already stays, if it is more. The members are
 * cache_retain.c's, but for status: when done, HBM_OK, or why it is not so; HBM_LIMIT: nothing
 * has changed, and the user would have more than [limits] allows, of blocks or of a tier, or
 * more ancestors would be visited than are left of *walk; HBM_MISS: it is being dropped.
 */
struct cache_retaining {
	int status;
	struct user *user;
	unsigned priority;
	uint64_t until_ns;
	bool busy, climbing;
	bool always; /* set after the beginning: whatever [limits] allows of a tier now */
	uint32_t at, length;
	uint64_t blocks, bytes[TIER_NUMBERS]; /* that it takes */
	uint32_t stretches, lowest[CACHE_WALK_MAX / CACHE_STRETCH + 1];
};
void cache_retain_begin(struct cache_retaining *retaining, uint32_t number, struct user *user,
			unsigned priority, uint64_t until_ns);
/* False: the slice is over. Setting status before the next ends it with that. */
bool cache_retain_some(struct cache *cache, struct cache_retaining *retaining, uint32_t *walk,
		       struct slice *slice);
/* A block is retained no longer: HBM_OK, also if it was not. HBM_DENIED: another user retains it,
 * or a block that continues it is retained. */
int cache_release(struct cache *cache, uint32_t number, const struct user *user);
/* Ends at most `max` retentions whose time is over. Whether there are more. */
bool cache_retain_expire(struct cache *cache, uint32_t max);
/* A tier may have more room for what is retained than it had: it enters its order again, if it is
 * not favoured there. No more than one step. */
void cache_retain_again(struct cache *cache, uint32_t number);
/* The block has been dropped. */
void cache_retain_forget(struct cache *cache, uint32_t number);

/* Unpins, in slices: begin, and then drops the reference of *at, which begins as the block,
 * until it is true. */
void cache_unpin_begin(struct cache *cache, uint32_t number);
bool cache_unref_some(struct cache *cache, uint32_t *at, struct slice *slice);
/* The same for at most `max` blocks; how many. */
uint32_t cache_unref_steps(struct cache *cache, uint32_t *at, uint32_t max);
/* At once. */
void cache_unpin(struct cache *cache, uint32_t number);
/* Drops a reference of a block and, after its last one, of its ancestors. */
void cache_unref_branch(struct cache *cache, uint32_t number);
