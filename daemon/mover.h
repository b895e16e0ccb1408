/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mover: makes the bytes follow the policy, and carries blocks between clients and tiers. Everything that moves bytes
 * is a transfer, and there are three kinds:
 *
 *	move	a block from one tier's slot to another's (or only into host memory, for somebody to read there)
 *	store	a client's memory into a new slot
 *	load	a block's slot, or the host copy a move is making of it, into a client's memory
 *
 * How their bytes travel is transfer.h's. Loads of a block that is being brought from NVMe attach to that move and are
 * served from its host copy, so that each block is read once.
 *
 * Resources are taken in one order, slot of the target, then staging, and nothing that waits for a slot holds one. As
 * the slots of all tiers together outnumber the blocks by the reserves, some move can always go on; whatever is staged
 * has its target already. So nothing deadlocks, whatever the tiers are full of.
 *
 * A source slot is freed when its move is over and nobody reads it any more. A move that fails costs its block: it is
 * dropped, and later looked for in vain; it is never served wrong. But one that fails on its way to a place where the
 * block no longer belongs leaves it where it was.
 *
 * A device that is lost (device_is_lost) takes the blocks in its HBM along, and from then on no block belongs there.
 * What lies elsewhere is there for the other devices.
 */
#pragma once

#include "daemon/transfer.h"

struct mover;

struct mover_options {
	struct cache *cache;
	struct devices *devices;
	struct disk *disk; /* NULL without an NVMe tier */
	uint64_t max_moves;
};

int mover_new(struct mover **out, const struct mover_options *options);
struct mover *mover_free(struct mover *mover); /* nothing may be under way */

/* The block is STORING and has a target. When done with HBM_OK it is complete. The block may have been
 * dropped meanwhile (HBM_NO_SPACE). */
void mover_store(struct mover *mover, struct transfer *transfer);
/* The block is complete. */
void mover_load(struct mover *mover, struct transfer *transfer);
/* Starts what can be started. To be called after every change of policy and every batch of completions. */
void mover_pump(struct mover *mover);
uint64_t mover_active(const struct mover *mover); /* transfers begun and not over */
