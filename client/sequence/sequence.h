/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sequence: the handle of a sequence, and what it knows of its slot.
 *
 * A step reads the first cache line alone. `ready` says for how many tokens every slab is
 * mapped. Two limits follow from it: up to `calm` a step has nothing to do; up to `limit` it
 * only asks for more to be mapped ahead; beyond, it takes the lock and does what is needed.
 * The pool's thread raises them while steps read them. They are lowered by calls on the
 * sequence itself, which its user does not make during a step of it, and where memory is
 * taken from it (surplus.h), when no step is on its way (gate.h). A handle that is
 * not open has the limit 0 and more tokens than any length, so a step always looks closer.
 */
#pragma once

#include "client/sequence/books.h"
#include "client/sequence/stash.h"
#include "daemon/base/list.h"

#include <hbm/sequence.h>
#include <stdatomic.h>

#define SEQUENCE_CLOSED UINT64_MAX /* tokens of a handle that is not open */

struct slot;
struct tree;

struct hbm_sequence {
	_Alignas(64) struct hbm_pool *pool;
	_Atomic uint64_t tokens, calm, limit, ready;
	_Atomic uint64_t step;      /* the last one that named it */
	_Atomic uint64_t before[2]; /* tokens before the last step, and the one before it */

	uint32_t index; /* of the handle */
	struct slot *slot;
	uint64_t expected, max, first;
	uint64_t target; /* tokens of the growth in the making: their slabs stay */
	int32_t priority;
	uint64_t next_use;
	uint64_t slid; /* what lies in front of the windows of so many tokens is gone */
	struct account account;
	bool overrun; /* said */
	bool lost;    /* memory of it could not be mapped again: only to be closed */
	enum hbm_sequence_state state;
	bool is_idle;       /* may be suspended by hbm_pool_balance() */
	struct stash stash; /* while it is not active */
	uint64_t named;     /* switch.c */
	uint64_t number;    /* on the board, and in what is asked */
	bool is_opening;    /* the caller does not have it yet: nothing is said of it */
	bool overrun_due;   /* to be said */
	uint32_t asked;     /* enum hbm_ask, to be said; 0: nothing */
	uint32_t asked_tier;
	struct hbm_sequence *source; /* prefix.h: whose prefix it still lacks; NULL: none */
	struct list forks, fork;     /* those that lack a prefix of it; its place there */
	struct hbm_layout *layout;   /* what it has kept; NULL: all that the pool's has */
	struct tree *tree;           /* drafts; NULL: there were none */
	struct list link, event;
};

bool hbm_sequence_is_open(const struct hbm_sequence *sequence);
/* HBM_INVALID with the pool's line, if it is NULL, closed, or another pool's; HBM_DEVICE: it
 * is lost. */
int hbm_sequence_check_open(struct hbm_pool *pool, const struct hbm_sequence *sequence);
/* The same, and HBM_INVALID if it is suspended, or on its way; but where the pool has sent it on
 * its way by itself, it is called back. */
int hbm_sequence_check(struct hbm_pool *pool, const struct hbm_sequence *sequence);
/* The first byte in a slot that tokens from `token` on need of a buffer of tokens; that of
 * states begins with the buffer. */
uint64_t hbm_sequence_begin(const struct hbm_sequence *sequence, uint32_t buffer, uint64_t token);
/* A handle and a slot with these options, and without tokens. There is a free one. */
struct hbm_sequence *hbm_sequence_start(struct hbm_pool *pool, struct slot *slot,
					const struct hbm_sequence_options *options);
/* The other way round: what it was is counted by the caller. */
void hbm_sequence_end(struct hbm_pool *pool, struct hbm_sequence *sequence);
/* It is in that state from now on, with what it has stashed. */
void hbm_sequence_turn(struct hbm_sequence *sequence, enum hbm_sequence_state state);
/* Memory of it is gone. */
void hbm_sequence_lose(struct hbm_sequence *sequence);
/* Adds to the pool's ranges to shrink what others have of the slabs that hold none of its
 * first `tokens`, but some up to `end`: there is nothing to copy when they are needed again. */
void hbm_sequence_shared_beyond(struct hbm_sequence *sequence, uint64_t tokens, uint64_t end);
/* Looks again how far its slabs reach, and sets the limits: after what changed them. A step may
 * be on its way, which shows its tokens itself. */
void hbm_sequence_look(struct hbm_sequence *sequence);
/* The same where none is: shows its tokens, too. */
void hbm_sequence_refresh(struct hbm_sequence *sequence);
/* Adds to the pool's ranges to grow what the sequence lacks for tokens up to `end`. */
void hbm_sequence_gather(struct hbm_sequence *sequence, uint64_t end);
