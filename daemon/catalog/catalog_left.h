/* SPDX-License-Identifier: Apache-2.0 */
/*
 * catalog_left: the extents of the tier that blocks have left for others of it (left_extents.h),
 * as a tier does that becomes smaller. A record of such a block is in a batch that is flushed, so
 * that it is not on the disk before the bytes that it names; and when that flush is over the extents
 * are free. A crash finds the block in one of its two places.
 *
 * Where a flush of the data fails, the bytes of those blocks may be where they were alone: their
 * records stay as they are (catalog_batch.c), and the extents out of service until a restart.
 */
#pragma once

#include "daemon/catalog/catalog_waits.h"
#include "daemon/tier/tier.h"

struct catalog_left {
	struct catalog_barrier barrier;
	struct tier *tier;
	uint32_t covered; /* that the barrier is behind */
	bool waits;       /* for the barrier */
	/* Has a flush come: barrier->done() is called once, or the catalog is closed first. */
	void (*flush)(void *arg, struct catalog_barrier *barrier);
	void (*progress)(void *arg); /* extents have become free, or will not */
	void *arg;
};

/* tier, and the calls, are set. -ENOMEM. */
int catalog_left_open(struct catalog_left *left);
/* A flush has failed: that of the data, or only the catalog's file. And: there are no records. */
void catalog_left_fail(struct catalog_left *left, bool data);
void catalog_left_end(struct catalog_left *left);
void catalog_left_close(struct catalog_left *left);
