/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mover: makes the bytes follow the policy, and carries blocks between clients and tiers. Everything that moves bytes
 *is a transfer, and there are three kinds:
 *
 *	move	a block from one tier's slot to another's (or only into host memory, for somebody to read there)
 *	store	a client's memory into a new slot
 *	load	a block's slot, or the host copy a move is making of it, into a client's memory
 *
 * A transfer between memory of one device is one copy. Any other goes through host memory: in (a copy or an NVMe read,
 * verified against the checksum), then out (a copy or an NVMe write). Where neither end is host memory the bytes pass
 * through the staging area. Loads of a block that is being brought from NVMe attach to that move and are served from
 *its host copy, so that each block is read once.
 *
 * Resources are taken in one order, slot of the target, then staging, and nothing that waits for a slot holds one. As
 * the slots of all tiers together outnumber the blocks by the reserves, some move can always go on; whatever is staged
 * has its target already. So nothing deadlocks, whatever the tiers are full of.
 *
 * A source slot is freed when its move is over and nobody reads it any more. A move that fails costs its block: it is
 * dropped, and later looked for in vain; it is never served wrong.
 */
#pragma once

#include "daemon/cache.h"
#include "daemon/disk.h"
#include "daemon/lane.h"

struct mover;

enum transfer_kind { TRANSFER_MOVE, TRANSFER_STORE, TRANSFER_LOAD };

/* kind, block, device, spans and done are the caller's for a store or a load; the rest is the mover's. */
struct transfer {
	enum transfer_kind kind;
	uint32_t block;
	struct device *device; /* of the spans */
	const struct span *spans;
	uint32_t span_count;
	int status;                              /* HBM_OK, HBM_MISS, HBM_IO, HBM_DEVICE, HBM_NO_SPACE */
	void (*done)(struct transfer *transfer); /* never called from within mover_store or mover_load */

	struct mover *mover;
	struct list link; /* a load's: in the readers of the move that serves it */
	uint64_t bytes;
	struct tier *from, *to; /* NULL: a client, or nowhere */
	uint32_t from_unit, to_unit;
	uint32_t number; /* a move's */
	bool urgent;
	bool host_valid, out_done;
	char *host;
	uint32_t staging_unit;
	struct list readers; /* a move's: loads to be served from its host copy */
	struct slot_wait wait;
	struct span span; /* the tier's side of a device copy */
	struct copy copy;
	struct disk_op op;
};

struct mover_options {
	struct cache *cache;
	struct devices *devices;
	struct disk *disk; /* NULL without an NVMe tier */
	uint64_t max_moves;
};

int mover_new(struct mover **out, const struct mover_options *options);
struct mover *mover_free(struct mover *mover); /* nothing may be under way */

/* The block is new: incomplete, in a tier, MOVING. When done with HBM_OK it is complete. The block may have been
 * dropped meanwhile (HBM_NO_SPACE). */
void mover_store(struct mover *mover, struct transfer *transfer);
/* The block is complete. */
void mover_load(struct mover *mover, struct transfer *transfer);
/* Starts what can be started. To be called after every change of policy and every batch of completions. */
void mover_pump(struct mover *mover);
uint64_t mover_active(const struct mover *mover); /* transfers begun and not over */
