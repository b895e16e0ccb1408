/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lend: what one device lends: replicas of blocks, in slabs that clients map (lent.h).
 *
 * A replica is a second copy of a block's bytes; the block itself stays where the policy has
 * it. It is made for one user when a client of that user first borrows the block, and each
 * later borrower of that user has the same memory. It is found by its block, its user and its
 * piece: the size of the slabs that it is divided into, so that each can be mapped by itself;
 * 0: it lies within a slab, beside other blocks of its namespace.
 *
 * 	MAKING ----> READY ----> gone, with its slabs: nothing holds them, and the room is wanted
 * 	    \____________/  \__> lost to its block: that was dropped, and no one finds it any
 * 	      it failed          more; gone after the last hold
 *
 * A hold (of a request that makes or lends it, of a loan) keeps a replica where it is. Slabs
 * without a hold are idle. They are closed, least recently used first, when others want their
 * room: of device.lend, of what one user may have, or of the device's pool.
 *
 * device.lend bounds the bytes of all lent slabs, which are leased from the pool for regions.
 */
#pragma once

#include "daemon/base/tally.h"
#include "daemon/cache/block.h"
#include "daemon/region/lent.h"

#define LEND_BUCKETS 4096
#define LEND_USER_BUCKETS 256
#define LEND_PACKED_BUCKETS 1024
/* Of others, in the same bucket, that a search for slabs with room passes at most: then it
 * takes new ones. */
#define LEND_PACKED_LOOK 16
/* Slabs and replicas that are closed in one turn, but for those of the last. */
#define LEND_SLICE 512

enum replica_state { REPLICA_MAKING, REPLICA_READY };

struct replica {
	struct list by_block; /* in lend->by_block, while its block is in the cache */
	struct lent *lent;
	uint32_t cell;
	uint32_t number; /* of its block; 0: that was dropped */
	uint64_t piece;
	enum replica_state state;
	uint64_t holds; /* loans and slots included */
	uint64_t slots; /* of regions, that its slabs back: each is a hold */
	struct list loans;
	uint64_t loan_count;
	struct charge charge;
	struct list waits; /* struct replica_wait, while it is made */
	/* Of who reads it, or NULL: what it points to is set to NULL when no request finds the
	 * replica any more. */
	struct replica **reader;
};

/* Waits until a replica is ready, or cannot be. */
struct replica_wait {
	struct list link;
	void (*done)(struct replica_wait *wait, int status);
};

/* What one user has of it that is idle. */
struct lend_user {
	struct list link; /* in a bucket of lend->users */
	struct user *user;
	struct list idle; /* struct lent, least recently used first */
	uint64_t idle_bytes;
	uint64_t refs; /* its lent slabs */
};

struct lend {
	struct device *device;
	struct loop *loop;
	struct blocks *blocks;
	struct block_listener listener;
	uint64_t budget;
	uint64_t bytes, busy;     /* of all lent slabs, and of those that are held */
	uint64_t replicas, loans; /* how many */
	uint64_t own;             /* bytes of slabs it has that are no region's, and were none's */
	uint64_t in_slots;        /* bytes of slots that lent slabs back */
	uint64_t last_id;
	struct tally all; /* struct lent */
	struct list idle; /* least recently used first */
	struct list users[LEND_USER_BUCKETS];
	struct list packed[LEND_PACKED_BUCKETS]; /* by user and namespace */
	struct background give_back;
	uint64_t wanted;        /* bytes that are still to be given back; 0: it is over */
	struct list *give_next; /* of the idle: where it is */
	const char *fault;      /* of those that the check has passed, or NULL */
	struct list *walk;      /* where the walk is; the list itself: it is over */
	uint32_t walk_cell;
	struct list by_block[LEND_BUCKETS];
};

/* Whose block it is for, and how it is to be divided. */
struct replica_form {
	struct user *user;
	uint32_t number; /* of a block in the cache */
	uint64_t piece;  /* 0, or slabs_is_size() and a divisor of the block's bytes */
};

/* budget 0: it lends nothing. -ENOMEM. */
int lend_open(struct lend **out, struct device *device, struct loop *loop, struct blocks *blocks,
	      uint64_t budget);
/* For the time after loop_run(), when there are no loans. Accepts NULL, returns NULL. */
struct lend *lend_close(struct lend *lend);

/* One that is being made, or is ready; NULL: there is none. */
struct replica *replica_find(struct lend *lend, const struct replica_form *form);
/* One that is to be made, with a hold: HBM_OK. HBM_NO_SPACE: all that may be lent is on loan.
 * HBM_LIMIT: the user may have no more. `holder` is who asks. */
int replica_new(struct replica **out, struct lend *lend, const struct replica_form *form,
		struct holder *holder);
/* Whether its memory is there; else done() of the wait will say so. */
bool replica_is_open(const struct replica *replica);
void replica_await(struct replica *replica, struct lent_wait *wait);
CUdeviceptr replica_address(const struct replica *replica);
uint64_t replica_bytes(const struct replica *replica);
/* Its bytes are there. */
void replica_made(struct replica *replica);
/* Its bytes are not right: no request finds it any more, and it goes with its last hold. */
void replica_lose(struct replica *replica);
/* Registers slabs of a region as a replica that is ready, and without a hold. The slabs are
 * the block's bytes, in order. NULL: there is no room for it, one exists,
 * or a slab is lent with another block already. */
struct replica *replica_adopt(struct lend *lend, const struct replica_form *form,
			      struct slab *const *slabs, uint32_t count);
/* A hold more, or fewer: with its last one, one that no request finds is gone. */
void replica_hold(struct replica *replica);
void replica_unhold(struct replica *replica);

/* Closes idle slabs until so many bytes more are on their way back to the pool, or no idle one
 * has any: how many are after one slice. The others follow in the background. Those that a
 * region has, too, stay. */
uint64_t lend_give_back(struct lend *lend, uint64_t bytes);
/* Whether there is still something to look at for that. */
bool lend_gives_back(const struct lend *lend);
/* Closes slabs that are idle. */
void lend_evict(struct lent *lent);

/* A walk over all replicas that are ready and that a request finds; one at a time. Others come
 * and go meanwhile. The next, after at most *left cells, which are counted down. NULL: there was
 * none; over if any are left. */
void lend_walk_begin(struct lend *lend);
struct replica *lend_walk_next(struct lend *lend, uint32_t *left);

/* ---- For lend.c: ---- */

/* Makes room for so many bytes of that user, or says why there is none: HBM_OK, and what was in
 * the way is closed; HBM_NO_SPACE, HBM_LIMIT. */
int lend_make_room(struct lend *lend, struct user *user, uint64_t bytes);
void lend_room_init(struct lend *lend);

/* What its user has that is idle, which lives while it has lent slabs. -ENOMEM. */
int lend_index_add(struct lend *lend, struct lent *lent);
void lend_index_remove(struct lent *lent);
/* It is idle from now on, the last of all that are; or no longer. */
void lend_index_idle(struct lend *lend, struct lent *lent);
void lend_index_busy(struct lend *lend, struct lent *lent);
/* The one of a user that was used longest ago, and how much that user has; NULL, 0. */
struct lent *lend_index_oldest(const struct lend *lend, const struct user *user);
uint64_t lend_index_idle_of(const struct lend *lend, const struct user *user);
/* It may take more blocks, or not any more, whatever it was. */
void lend_index_sort(struct lend *lend, struct lent *lent, bool takes_more);
/* One that may take more blocks of that user and namespace; NULL: none was found. */
struct lent *lend_index_packed(const struct lend *lend, const struct user *user, uint16_t ns);
void lend_index_init(struct lend *lend);

/* Checks the counts as slabs_check_begin(), _some() and _end() do. */
void lend_check_begin(struct lend *lend);
bool lend_check_some(struct lend *lend, uint32_t max); /* over so many cells and slabs */
const char *lend_check_end(const struct lend *lend);
