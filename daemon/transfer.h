/* SPDX-License-Identifier: Apache-2.0 */
/*
 * transfer: one block on its way, step by step. Between memory of one device, and from DDR to a device, it is one copy
 * (transfer_direct). Any other goes through host memory (transfer_begin): in by a copy or by an NVMe read, verified
 * against the checksum; then, loads that wait for the bytes are served from there; then out by a copy or an NVMe write.
 * Where neither end is host memory the bytes pass through the staging area.
 *
 * It knows how bytes travel and nothing of why: what the end of a transfer means for its block, and which is begun
 * when, is the mover's.
 */
#pragma once

#include "daemon/cache.h"
#include "daemon/disk.h"
#include "daemon/lane.h"
#include "daemon/log.h"

struct carrier;

enum transfer_kind { TRANSFER_MOVE, TRANSFER_STORE, TRANSFER_LOAD };

/* kind, block, device, spans and done are the caller's for a store or a load; the rest is of mover.c and transfer.c. */
struct transfer {
	enum transfer_kind kind;
	uint32_t block;
	struct device *device; /* of the spans */
	const struct span *spans;
	uint32_t span_count;
	int status;                              /* HBM_OK, HBM_MISS, HBM_IO, HBM_DEVICE, HBM_NO_SPACE */
	void (*done)(struct transfer *transfer); /* never called from within mover_store or mover_load */

	struct carrier *carrier;
	struct list link;        /* a load's: in the readers of the move that serves it */
	struct transfer *source; /* a load's: that move, once it does */
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

/* What transfers use, and whom they tell. */
struct carrier {
	struct cache *cache;
	struct devices *devices;
	struct disk *disk;
	uint64_t active;      /* begun and not ended */
	struct log_quota log; /* of blocks that went bad */
	void (*ended)(struct transfer *transfer);
};

/* From a client into a slot of its device, or from such a slot or one of DDR to a client: one copy. A store is then
 * read back into host memory once, for its checksum. */
void transfer_direct(struct transfer *transfer);
/* Through host memory. The target's slot is held already. */
void transfer_begin(struct transfer *transfer);
/* Copies the host copy a move has made to a reader of it, a load in its list of readers. */
void transfer_serve(struct transfer *reader, struct transfer *move);
/* Ends a move that is out, when nobody reads from its host copy or its source any more. */
void transfer_try_end(struct transfer *move);
/* The end of any transfer that was begun: gives the staging area back, fails who still waits, tells the carrier. */
void transfer_end(struct transfer *transfer);
/* The first failure of a transfer is its status. */
void transfer_fail(struct transfer *transfer, int status);
