/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store: copies a new block from a client's memory into an extent of its target. With
 * HBM_OK it is complete when done.
 */
#pragma once

#include "daemon/move/mover.h"

struct store {
	/* the caller's */
	uint32_t block; /* its store has begun, and it has a target */
	struct fair_payer payer;
	const struct device *device;
	const struct span *spans; /* [span_count] of device's memory: the block's bytes, in order */
	uint32_t span_count;
	void (*done)(struct store *store); /* never from within store_begin() */

	/* HBM_OK; HBM_NO_SPACE, also if the block was dropped meanwhile; HBM_IO,
	 * HBM_DEVICE */
	struct transfer transfer;
	struct mover *mover;
};

void store_begin(struct mover *mover, struct store *store);
/* Refuses the first store that waits for an extent of a tier. */
void store_refuse(struct extent_request *wait);
