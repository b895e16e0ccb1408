/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recount: counts the blocks of a cache again, from the entries of the index and from the
 * eviction orders, in steps between which everything goes on. What comes out is what one
 * walk at the moment of the last step would have found:
 *
 * 	entries		by number. One that has been counted and changes is taken off the
 * 			tally before, and counted again afterwards (block.h, blocks.recount).
 * 	orders		from last victim to first. A block that is put among those that
 * 			have been seen is seen, one that leaves them is not any longer
 * 			(order.h, order_recount). The next one to see may leave, too.
 *
 * It trusts none of the counts that others keep; comparing is its user's. One at a time.
 */
#pragma once

#include "daemon/cache/cache.h"

/* Of one tier. */
struct recount_tier {
	struct order_recount hook;
	struct recount *recount;
	uint32_t next; /* of its order: to be seen next; 0: all have been */
	uint64_t seen; /* blocks of its order */
	/* a block whose place in the order is wrong, or 0: only the first is kept */
	uint32_t broken;
	uint64_t placed; /* bytes placed here that no transfer moves away */
	uint64_t source; /* bytes placed here that a transfer moves away */
	uint64_t copies; /* bytes of copies that blocks have here */
	/* stored and logical bytes whose target this is */
	uint64_t belongs, logical;
	/* whose target this is; of them: without references */
	uint64_t blocks, ordered;
	uint64_t pinned; /* bytes whose target this is, of blocks with references */
};

struct recount {
	struct block_recount hook;
	struct cache *cache;
	uint32_t next;    /* entries before it have been counted */
	uint64_t entries; /* in use, dropped ones included */
	uint64_t pins;    /* of all blocks, dropped ones included */
	uint64_t orphans; /* blocks missing from their parent's children */
	struct recount_tier tiers[TIER_NUMBERS];
	uint8_t *seen; /* a bit for each number: in the part of an order that has been seen */
};

int recount_new(struct recount **out, struct cache *cache); /* -ENOMEM */
struct recount *recount_free(struct recount *recount);
/* Looks at `max` more entries and blocks of orders. False when the tally is that of this
 * moment; it stays so, but for `orphans`, until recount_free(). */
bool recount_some(struct recount *recount, uint32_t max);
