/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vacate: moves the blocks out of the retired ranges of a tier (tier_resize.h), to extents of the
 * same tier: they are what its policy keeps there. Blocks with another target leave by themselves,
 * and what is being stored or moved is waited for.
 *
 * 	walk over all blocks ---------> all is away: done()
 * 	 ^    |  no extent, no move free      | not all is
 * 	 |    v                               v
 * 	 +-- wait <---------------------------+
 *
 * Pinned blocks are moved like others. A block whose place is in use is moved, and its old place is
 * free when the last use is over. Copies are dropped. Where no extent is free and nothing moves that
 * may free one, the tier's next victim is evicted; where there is no victim either, what is left
 * of the tier is pinned, and it ends: `stuck`.
 */
#pragma once

#include "daemon/move/mover.h"

struct vacate {
	struct mover *mover;
	struct tier *tier;
	struct background walk;
	struct timer again;
	uint32_t next; /* the block the walk goes on with */
	bool stuck;    /* not all is away */
	void (*done)(struct vacate *vacate);
};

/* done() is called once, from the loop, unless vacate_stop() is first. Also if all is away
 * already. */
void vacate_begin(struct vacate *vacate, struct mover *mover, struct tier *tier,
		  void (*done)(struct vacate *vacate));
/* Accepts one that is zeroed, or done. */
void vacate_stop(struct vacate *vacate);
