/* SPDX-License-Identifier: Apache-2.0 */
/*
 * block: the state of each block. This module alone writes a block's state, target,
 * place, users, references, move number, stored size and checksum; other modules see
 * const entries and call the transitions below.
 *
 *                 begin_store             stored              begin_move
 * 	ABSENT ----------------> STORING ----------> RESIDENT ------------> MOVING
 * 	  ^                         |                |  |  ^  placed          |  |
 * 	  |                    drop |                |  |  +------------------+  |
 * 	  |                         |           drop |  |  +------------------+  | drop
 * 	  |                         v                |  |     end_move           |
 * 	  |                  STORING_DROPPED         |  use, unuse               v
 * 	  |                         |                |  (also while     MOVING_DROPPED
 * 	  |           abandon_store |                |   MOVING and        ^     |
 * 	  |                         v                |   dropped)          |     |
 * 	  +---------------------- DROPPED <----------+          begin_move |     | end_move
 * 	        when idle         |  ^  ^----------------------------------|-----+
 * 	                          +--|-------------------------------------+
 *
 * Any other transition is a bug of ours and fails an assertion (block_next() is the
 * table).
 *
 * STORING	incomplete and invisible to lookups; it has a target but no place yet
 * RESIDENT	complete, and nothing moves it
 * MOVING	complete, and a transfer with a number reads its place: to a new place (placed), or
 * 		only into host memory, or it fails (end_move)
 * DROPPED	out of the index. Its place is freed when it has no users; then its number is,
 * 		when nothing refers to it, it is on no queue and it is not dropping: one that had
 * 		children is, until they have been taken from it. STORING_DROPPED and
 * 		MOVING_DROPPED wait for their transfer first. No caller has to ask for any of
 * 		this: the transition that leaves a dropped block idle releases it.
 *
 * Target and place: the target is the tier where the policy wants the block, the place is
 * where its bytes are. A block whose place is in another tier than its target, and that
 * nothing moves, is on the inbound queue of its target. The transitions put it there. One
 * that is already on a queue stays there when its target changes; block_unqueue then
 * requeues it.
 *
 * Users and references: a user reads the block's place, or waits to; a block cannot get a
 * new place while it has users. A reference (of a pin, or of a child that has one) keeps
 * a dropped block's number, and counts as pinned bytes of the target.
 *
 * Sizes: the logical size is what a block was before a client encoded it; block_bytes of its
 * namespace is what clients store and load, any number of bytes. In memory it takes these in
 * whole units of an extent; what is behind them is not used, and zeros on a disk. On a disk it
 * takes its stored size, which is less where the daemon has encoded it (lossless.h): known once
 * it has been, and that of memory until then. One that did not shrink is not encoded again.
 * Extents, capacities and I/O are charged by what it takes there.
 *
 * Copies: a block that moves up from the tier that keeps copies leaves its extent there as
 * a clean copy, for its bytes never change. When that tier is its target again the copy
 * becomes its place (take_copy): nothing is moved. The copy goes with the block, when the
 * block is written to that tier all the same, or when an extent is wanted there and none is
 * free.
 *
 * Verified: the bytes of a block that a daemon before this one has left in memory are compared
 * with its checksum before the first use of them (load.c, move.c). Until then it is unverified.
 *
 * Charges: a block is charged to its namespace until its number is free, and, while it has
 * references, its stored bytes to the pinned bytes of its target.
 */
#pragma once

#include "daemon/base/list.h"
#include "daemon/cache/copies.h"
#include "daemon/cache/index.h"
#include "daemon/cache/namespace.h"
#include "daemon/cache/owners.h"
#include "daemon/tier/place.h"
#include "daemon/tier/tier.h"

enum block_state {
	BLOCK_ABSENT,
	BLOCK_STORING,
	BLOCK_RESIDENT,
	BLOCK_MOVING,
	BLOCK_STORING_DROPPED,
	BLOCK_MOVING_DROPPED,
	BLOCK_DROPPED,
	BLOCK_STATES /* one past the last */
};

enum block_event {
	BLOCK_BEGIN_STORE,
	BLOCK_STORED,
	BLOCK_ABANDON_STORE,
	BLOCK_BEGIN_MOVE,
	BLOCK_PLACED,
	BLOCK_END_MOVE,
	BLOCK_USE,
	BLOCK_UNUSE,
	BLOCK_DROP,
	BLOCK_TAKE_COPY,
	BLOCK_EVENTS /* one past the last */
};

/* The next state; BLOCK_ABSENT if the transition is refused. */
enum block_state block_next(enum block_state state, enum block_event event);

/* Learns where bytes are: placed() is called afterwards, unplaced() before. */
struct block_listener {
	struct list link;
	/* The block's bytes are in `to` now; they came from `from`, or from a client
	 * (NULL). */
	void (*placed)(struct block_listener *listener, uint32_t number, struct tier *to,
		       struct tier *from);
	/* The block's bytes are about to leave `from`, for `to` or for nowhere (NULL). */
	void (*unplaced)(struct block_listener *listener, uint32_t number, struct tier *from,
			 struct tier *to);
	/* The block's copy has been freed, and it has not become its place. NULL: it need not
	 * know. */
	void (*uncopied)(struct block_listener *listener, uint32_t number);
	/* No key names the block any more. NULL: it need not know. */
	void (*dropped)(struct block_listener *listener, uint32_t number);
	/* The block has its checksum now. NULL: it need not know. */
	void (*summed)(struct block_listener *listener, uint32_t number);
};

/* Told of every change of what is counted of a block: before and after. */
struct block_recount {
	void (*changing)(struct block_recount *recount, uint32_t number);
	void (*changed)(struct block_recount *recount, uint32_t number);
};

struct blocks {
	struct block *table; /* the index's; written to by this module, and by tree and order */
	struct index *index;
	struct namespaces *namespaces;
	struct tier *tiers;    /* [TIER_NUMBERS] */
	struct payer *pinned;  /* [TIER_NUMBERS]: of the pinned bytes in each */
	struct owners *owners; /* [TIER_NUMBERS]: of the bytes in each */
	struct list listeners;
	struct copies copies;
	struct block_recount *recount; /* while blocks are counted again (recount.h), or NULL */
};

void blocks_init(struct blocks *blocks, struct index *index, struct namespaces *namespaces,
		 struct tier *tiers, struct payer *pinned, struct owners *owners);
void blocks_clear(struct blocks *blocks);
/* From now on blocks that move up from that tier leave copies there, as many as its
 * copies_max allows: -ENOMEM. Once. */
int blocks_keep_copies(struct blocks *blocks, struct tier *tier);
void block_listen(struct blocks *blocks, struct block_listener *listener);

/* ---- transitions ---- */

/* A new block of that namespace and key, of the namespace's size; 0: there are as many as
 * [limits] allows. */
uint32_t block_begin_store(struct blocks *blocks, uint16_t ns, const struct hbm_wire_key *key);
/* What the block takes on a disk, now that it has been encoded for one; as much as in memory:
 * it is not to be encoded again. It is on none yet, but for a copy, which goes if it was of
 * another size. */
void block_settle_stored(struct blocks *blocks, uint32_t number, uint64_t bytes);
/* The block is complete. Its extent now belongs to the block. Without a tier it has no
 * bytes. */
void block_stored(struct blocks *blocks, uint32_t number, struct place place);
/* The store of a dropped block has ended. */
void block_abandon_store(struct blocks *blocks, uint32_t number);

/* A transfer with that number, not 0, reads the block's place. Its extent counts as
 * moving. */
void block_begin_move(struct blocks *blocks, uint32_t number, uint32_t move);
/* The bytes are at a new place. The extent there now belongs to the block; the old one is
 * freed. */
void block_placed(struct blocks *blocks, uint32_t number, struct place place);
/* The block's copy becomes its place, without a transfer. False: it has none in its target,
 * or something reads its place, and nothing has changed. Only of a resident block. */
bool block_take_copy(struct blocks *blocks, uint32_t number);
/* The block stays where it was. */
void block_end_move(struct blocks *blocks, uint32_t number);

void block_use(struct blocks *blocks, uint32_t number);
void block_unuse(struct blocks *blocks, uint32_t number);

/* Removes a block from the index and from its target. It must already be in no order. One
 * that has children is dropping until block_end_drop(). */
void block_drop(struct blocks *blocks, uint32_t number);
/* The last child of a dropped block has been taken from it. */
void block_end_drop(struct blocks *blocks, uint32_t number);

/* ---- the rest of what a block has ---- */

/* Where the policy wants the block; NULL: nowhere. */
void block_set_target(struct blocks *blocks, uint32_t number, struct tier *tier);

/* The block is for the NVMe tier, and for none above it, from now on. */
void block_set_durable(struct blocks *blocks, uint32_t number);

/* Of block.c: so many bytes of it are pinned in its target, more or fewer. */
void block_count_pinned(struct blocks *blocks, uint32_t number, uint64_t bytes);
void block_uncount_pinned(struct blocks *blocks, uint32_t number, uint64_t bytes);

/* Adds or drops a reference; block_unref returns true for the last one. */
void block_ref(struct blocks *blocks, uint32_t number);
bool block_unref(struct blocks *blocks, uint32_t number);

/* Adds or drops a pin; each pin has a reference too. */
void block_count_pin(struct blocks *blocks, uint32_t number, int change);

/* Sets the checksum of a block that has none yet; otherwise compares: false on a
 * mismatch. */
bool block_settle_checksum(struct blocks *blocks, uint32_t number, uint64_t checksum);

/* Whether what held its bytes is overwritten before it is used for others. */
bool block_is_wiped(const struct blocks *blocks, uint32_t number);
/* Frees a moving extent that may have bytes of the block, as its namespace says. */
void block_free_extent(const struct blocks *blocks, uint32_t number, struct place place,
		       uint64_t bytes);
/* A complete block with a checksum, whose bytes another daemon has left where they are: they are
 * to be compared with it before they are used. And: they have been, and are right. */
void block_set_unverified(struct blocks *blocks, uint32_t number);
void block_verified(struct blocks *blocks, uint32_t number);

/* Frees the block's copy, if it has one. */
void block_drop_copy(struct blocks *blocks, uint32_t number);

/* The block joins no inbound queue until block_end_wait(): it waits for its move in a queue of
 * the caller's, or is there to find that there is none. False: it is on an inbound queue. */
bool block_begin_wait(struct blocks *blocks, uint32_t number);
void block_end_wait(struct blocks *blocks, uint32_t number);
/* Takes the first block off a tier's inbound queue. If its target has become another
 * tier, it joins that tier's queue. */
void block_unqueue(struct blocks *blocks, struct tier *tier);

/* ---- questions ---- */

static inline const struct block *block_get(const struct blocks *blocks, uint32_t number)
{
	return &blocks->table[number];
}

static inline bool block_is_complete(const struct block *block)
{
	return block->state == BLOCK_RESIDENT || block->state == BLOCK_MOVING;
}

static inline bool block_is_dropped(const struct block *block)
{
	return block->state >= BLOCK_STORING_DROPPED;
}

static inline struct place block_place(const struct blocks *blocks, uint32_t number)
{
	const struct block *block = block_get(blocks, number);
	return (struct place){block->actual != 0 ? &blocks->tiers[block->actual] : NULL,
			      block->unit};
}

/* NULL: nowhere. */
static inline struct tier *block_target(const struct blocks *blocks, uint32_t number)
{
	const struct block *block = block_get(blocks, number);
	return block->target != 0 ? &blocks->tiers[block->target] : NULL;
}

/* Whether its copy, if it has one, was in a tier that is lost. */
static inline bool block_copy_is_lost(const struct blocks *blocks, uint32_t number)
{
	return block_get(blocks, number)->copied && blocks->copies.tier->lost;
}

/* What it takes on a disk. */
static inline uint64_t block_stored_bytes(const struct block *block)
{
	return (uint64_t)block->stored_units * EXTENT_UNIT;
}

/* What it takes in that tier. */
uint64_t block_bytes_in(const struct blocks *blocks, uint32_t number, const struct tier *tier);
/* What clients store and load. */
uint64_t block_bytes(const struct blocks *blocks, uint32_t number);
/* What it takes in memory: these in whole units. */
uint64_t block_memory_bytes(const struct blocks *blocks, uint32_t number);
/* Bytes of a number, if the daemon encodes the block for disks; 0: it does not, or not again. */
unsigned block_element(const struct blocks *blocks, uint32_t number);
uint64_t block_logical_bytes(const struct blocks *blocks, uint32_t number);
