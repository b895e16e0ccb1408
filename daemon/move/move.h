/* SPDX-License-Identifier: Apache-2.0 */
/*
 * move: transfers one complete block from its place to another, or only into host memory.
 * While its bytes are in host memory it serves readers: loads of the same block, so that
 * the block is read from NVMe once for any number of loads.
 *
 * Readers become ready some hundred at a time, so that a block with very many does not hold
 * the loop; the others when the bytes of some have been copied.
 *
 * A move ends when its bytes are out, it has no readers, and the block's place has no
 * other users. These may wait for a staging buffer, so that one which waits for them keeps none: who
 * comes then reads the place, too.
 *
 * A move that a silent tier did not begin (HBM_CANCELLED) costs no error: a block that
 * could not be read stays where it is, one that could not be written goes away. One that
 * the tier has begun is held: the kernel uses its memory until the I/O ends, so its
 * extents stay in use, and are counted as held. Loads do not wait for it.
 */
#pragma once

#include "daemon/move/mover.h"

struct move_reader {
	struct list link; /* in move->readers, then in move->ready */
	struct move *move;
	/* The bytes are in move->transfer.host until the reader has left the list, which
	 * it does by itself; then move_try_end(). */
	void (*ready)(struct move_reader *reader);
	/* The move has failed; it forgets the reader. */
	void (*failed)(struct move_reader *reader, int status);
};

struct move {
	struct transfer transfer;
	struct mover *mover;
	uint32_t block;
	uint32_t number; /* of the move */
	struct charge charge;
	struct io_claim io_claim;
	struct list link; /* in mover->writes, if it is a write to a disk */
	uint64_t begun_ns;
	bool out;            /* the transfer is done */
	bool held;           /* a silent tier does not answer it */
	struct list readers; /* that are not ready */
	struct list ready;
	struct list serving; /* in mover->serving: there are more readers than go at once */
};

/* Whether a disk leaves room for a move of the block; without a tier: only into host
 * memory. */
bool move_may_begin(const struct mover *mover, bool for_loads, uint32_t number,
		    const struct tier *to);
/* Makes a move of a complete block that nothing moves; does not begin it. The extent at
 * `to` is allocated already; without a tier: only into host memory. A move for a load takes
 * the turns of the load's payer; payer NULL: the policy wants it, and the turns are the
 * daemon's. NULL: there may be no more moves of that kind, or no memory. */
struct move *move_new(struct mover *mover, const struct fair_payer *payer, uint32_t number,
		      struct place to);
void move_begin(struct move *move);
/* Whether it has the bytes in host memory, or will: readers can be added. */
bool move_can_serve(const struct move *move);
/* The payer is the reader's: from now on the move takes its turns, if it took the daemon's. */
void move_add_reader(struct move *move, struct move_reader *reader, struct fair_payer payer);
/* Makes more readers ready, of moves that have too many for one time. Called after each batch
 * of completions. */
void move_serve_more(struct mover *mover);
/* The tier does not answer: holds the move if its I/O is there. */
void move_hold(struct move *move, const struct tier *tier);
/* The tier answers again: a move that is held may end. */
void move_release(struct move *move);
/* Ends the move if nothing keeps it. Called when a reader, or a user of the block's
 * place, has left. */
void move_try_end(struct move *move);
/* Ends a use of a block, and with the last one the move that has waited for that. */
void move_unuse(struct mover *mover, uint32_t number);
