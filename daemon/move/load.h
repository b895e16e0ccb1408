/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load: copies the bytes of a complete block to a client's memory. Without spans it is a
 * prefetch, which ends when the bytes have been in memory on the way to the block's
 * target. A block in host memory, or in the memory of the client's device, is copied from
 * its place. Any other is read by a move into host memory, and copied from there.
 */
#pragma once

#include "daemon/move/move.h"

struct load {
	/* the caller's */
	uint32_t block;
	struct fair_payer payer;
	const struct device *device;
	const struct span *spans; /* [span_count] of device's memory: the block's bytes, in order */
	uint32_t span_count;
	void (*done)(struct load *load); /* never from within load_begin() */

	union {
		struct waiting_load waiting; /* in mover->loads, for a move */
		struct transfer transfer;    /* its status: HBM_OK, HBM_MISS, HBM_IO, HBM_DEVICE */
	};
	struct mover *mover;
	struct move_reader reader;
};

void load_begin(struct mover *mover, struct load *load);
/* Loads that wait for a move of this block read from this one, which has not begun. They
 * must: while they wait they keep it from ending. */
void load_attach_waiting(struct move *move);
/* Fails the loads that wait to read from a tier that is silent. */
void load_fail_waiting(struct mover *mover);
/* Begins the moves that loads wait for, as many as there may be. */
void load_retry_waiting(struct mover *mover);
