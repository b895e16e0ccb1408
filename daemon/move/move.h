/* SPDX-License-Identifier: Apache-2.0 */
/*
 * move: one complete block on its way from its place to another, or only into host
 * memory. While its bytes are in host memory it serves readers: loads of the same block,
 * so that a block is read from NVMe once however many want it.
 *
 * A move is over when its bytes are out, it has no readers, and nobody else uses the
 * block's place.
 */
#pragma once

#include "daemon/move/mover.h"

struct move_reader {
	struct list link; /* in move->readers */
	struct move *move;
	/* The bytes are in move->transfer.host until the reader has left the list, which
	 * it does by itself; then move_try_end(). */
	void (*ready)(struct move_reader *reader);
	/* The move has failed; it is forgotten. */
	void (*failed)(struct move_reader *reader, int status);
};

struct move {
	struct transfer transfer;
	struct mover *mover;
	uint32_t block;
	uint32_t number; /* of the move */
	bool out;        /* the transfer is done */
	struct list readers;
};

/* A move of a complete block that nothing moves, not begun yet. The slot at `to` has been
 * taken; without a tier: only into host memory. NULL: no number is vacant, or no memory. */
struct move *move_new(struct mover *mover, uint32_t number, struct place to, bool urgent);
void move_begin(struct move *move);
void move_add_reader(struct move *move, struct move_reader *reader);
/* Ends the move if it is over. A reader has left, or a user of the block's place has. */
void move_try_end(struct move *move);
