/* SPDX-License-Identifier: Apache-2.0 */
/*
 * due_moves: blocks that are to be in a tier by a deadline (MOVE), in the order in which their
 * moves begin. Payers take turns (fair_queue.h). Of one payer, the request with the earliest
 * deadline goes first; one that cannot be met any more, at the bandwidth that is measured, goes
 * behind all that can, in the order in which that was noticed, so it delays none of them.
 *
 * A request is looked at as a whole: what counts is that its last block arrives in time. Only
 * what waits is in the queue, by number; that the numbers stay valid, and that the blocks are
 * on no other queue, is the caller's (block.h).
 *
 * Each request is charged for its memory to limits.request_bytes of its session. A payer has at
 * most DUE_MOVES_MAX of them, so that finding the place of one takes a short time; this is no
 * limit of the configuration, as what is beyond moves without a deadline.
 */
#pragma once

#include "daemon/base/fair_queue.h"
#include "daemon/ledger/ledger.h"

#include <stdbool.h>
#include <stdint.h>

#define DUE_MOVES_MAX 64u

struct due_payer;

/* The blocks of one request. */
struct due_move {
	struct list link; /* in one of its payer's lists */
	struct due_payer *payer;
	struct charge charge;
	uint64_t deadline_ns, block_bytes;
	uint32_t count, next; /* numbers before `next` have gone */
	uint32_t numbers[];
};

/* Of one tier. */
struct due_moves {
	struct fair_queue turns; /* of payers */
	struct list payers;
	struct due_move *picked; /* by due_moves_next() */
	bool others_turn;        /* one of these has begun since the last one without a deadline */
};

void due_moves_open(struct due_moves *due);
/* Accepts a zeroed one. */
void due_moves_close(struct due_moves *due);

/* Room for `count` blocks. NULL: no memory, a limit of the session's payer, or it has too many. */
struct due_move *due_move_new(struct due_moves *due, struct payer *charged, struct fair_payer payer,
			      uint64_t deadline_ns, uint64_t block_bytes, uint32_t count);
void due_move_add(struct due_move *move, uint32_t number);
/* Queues it; one without blocks is freed. */
void due_moves_push(struct due_moves *due, struct due_move *move);
/* The block whose turn it is; it stays. bytes_s: at which such blocks arrive, 0: not known.
 * 0: there is none. */
uint32_t due_moves_next(struct due_moves *due, uint64_t now_ns, double bytes_s);
/* Takes out the one that due_moves_next() has said. */
void due_moves_take(struct due_moves *due);
/* A payer goes: the blocks of one of its requests leave the queue. False: it has none. */
bool due_moves_forget(struct due_moves *due, uint64_t payer_id,
		      void (*leave)(void *arg, uint32_t number), void *arg);
