/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store: a new block on its way from a client's memory into a slot of the tier it belongs
 * in. With HBM_OK it is complete when done.
 */
#pragma once

#include "daemon/move/mover.h"

struct store {
	/* the caller's */
	uint32_t block; /* whose store has begun, and that has a target */
	const struct device *device;
	const struct span *spans; /* [span_count] of device's memory: the block's bytes, in order */
	uint32_t span_count;
	void (*done)(struct store *store); /* never from within store_begin() */

	/* HBM_OK; HBM_NO_SPACE: also where the block was dropped meanwhile; HBM_IO,
	 * HBM_DEVICE */
	struct transfer transfer;
	struct mover *mover;
	struct extent_request wait;
};

void store_begin(struct mover *mover, struct store *store);
/* The store at the head of those that wait for a slot of a tier cannot have one. */
void store_give_up(struct extent_request *wait);
