/* SPDX-License-Identifier: Apache-2.0 */
/*
 * io_share: how much of what everybody uses may be in the hands of a disk. A disk answers
 * late, or not at all, and until then its moves keep what they have: staging buffers, move
 * numbers, and the extents that blocks leave. So that stores and the loads of other blocks
 * find some whatever the disk does, moves to and from disks may have at most
 *
 * 	three quarters of the staging buffer,
 * 	half of the moves that loads may have, and of those that the policy may,
 * 	and, of each tier that blocks leave for a disk, half of its headroom,
 *
 * but always one move. The rest of each is for what does not wait for a disk. These are
 * shares of what the configuration gives (ddr.staging, limits.moves, the headrooms), so they
 * have no keys of their own.
 *
 * A move that has its share has all that it needs but time; one that has not, has not begun:
 * it waits as a block on an inbound queue, or as a load in mover->loads, where it can be
 * given up at no cost.
 */
#pragma once

#include "daemon/tier/place.h"

#include <stdbool.h>
#include <stdint.h>

struct payer;

struct io_share {
	uint64_t staged;   /* bytes of the staging buffer */
	uint64_t moves[2]; /* of the policy, of loads */
};

struct io_claim {
	bool any, for_loads;
	struct tier *left; /* whose extent is left; NULL: none */
	uint64_t bytes;    /* of it */
	uint64_t staged;   /* bytes of the staging buffer; to be added to for encoded ones */
};

/* What a move between these places would have of it. */
struct io_claim io_share_claim(const struct tier *from, const struct tier *to, uint64_t bytes,
			       bool for_loads);
/* Whether a move may begin; moves_max: that its payer may have. */
bool io_share_allows(const struct io_share *share, const struct io_claim *claim,
		     const struct tier *staging, uint64_t moves_max);
void io_share_take(struct io_share *share, const struct io_claim *claim);
void io_share_give(struct io_share *share, const struct io_claim *claim);
