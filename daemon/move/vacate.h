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
 * of the tier is pinned, and it ends: VACATE_PINNED. It ends, too, where what is left of the
 * ranges has failed (failed_extents.h), where the tier does not answer or is lost, and where the
 * records of what moves cannot be flushed (left_extents.h): what was moved is not moved back.
 */
#pragma once

#include "daemon/move/mover.h"

enum vacate_end {
	VACATE_AWAY,
	VACATE_PINNED,
	VACATE_FAILED,     /* what has failed lies there */
	VACATE_LOST,       /* the tier is, or does not answer */
	VACATE_UNRECORDED, /* the catalog cannot be flushed */
};

struct vacate {
	struct mover *mover;
	struct tier *tier;
	struct background walk;
	struct timer again;
	uint32_t next; /* the block the walk goes on with */
	enum vacate_end end;
	unsigned waited, stuck; /* for an extent, one time after the other; without a victim */
	void (*done)(struct vacate *vacate);
};

/* done() is called once, from the loop, unless vacate_stop() is first. Also if all is away
 * already. */
void vacate_begin(struct vacate *vacate, struct mover *mover, struct tier *tier,
		  void (*done)(struct vacate *vacate));
/* Accepts one that is zeroed, or done. */
void vacate_stop(struct vacate *vacate);
