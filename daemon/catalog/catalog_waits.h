/* SPDX-License-Identifier: Apache-2.0 */
/*
 * catalog_waits: who waits until a block is durable: until its bytes and its record are on the
 * disk.
 *
 * 	WAITING		for the bytes to be in the NVMe tier, or for a batch with the record
 * 	FLUSHING	the flush that is in flight has both: how it ends is the answer
 *
 * A wait names its block by namespace and key, and finds it again before each flush. So it keeps
 * nothing alive, and what has been dropped meanwhile, or stored again as another, is an answer.
 *
 * A block whose bytes are in doubt (catalog_changes.h) does not become durable. One that is to be is
 * dropped, so that a store writes it again, unless it is pinned.
 */
#pragma once

#include "daemon/cache/cache.h"
#include "daemon/catalog/catalog_changes.h"

struct catalog_wait {
	struct list link;
	uint16_t ns;
	struct hbm_wire_key key;
	bool again; /* the block was there before it was to be durable */
	/* HBM_OK; HBM_NO_SPACE: it was dropped; HBM_IO: the disk, or the catalog's file, failed. The
	 * wait is over before the call. */
	void (*done)(struct catalog_wait *wait, int status);
};

/* Waits until all that has changed so far is flushed, bytes and records. */
struct catalog_barrier {
	struct list link; /* the catalog's */
	uint64_t until;   /* how many changes are taken when all before it are; the catalog's */
	void (*done)(struct catalog_barrier *barrier);
	/* Called instead if a flush fails, or takes too long. NULL: it waits however often one does. */
	void (*failed)(struct catalog_barrier *barrier);
};

struct catalog_waits {
	struct list barriers;
	struct list barred; /* those of which the flush in flight has all that changed before */
	struct cache *cache;
	struct catalog_changes *changes;
	struct list waiting, flushing;
};

void catalog_waits_init(struct catalog_waits *waits, struct cache *cache,
			struct catalog_changes *changes);
/* May be answered from within. */
void catalog_waits_add(struct catalog_waits *waits, struct catalog_wait *wait);
bool catalog_waits_empty(const struct catalog_waits *waits); /* none, of either kind */
void catalog_waits_bar(struct catalog_waits *waits, struct catalog_barrier *barrier);
/* Whether one is to be followed by a flush. */
bool catalog_waits_any(const struct catalog_waits *waits);
/* Whether it is a barrier. */
bool catalog_waits_barred(const struct catalog_waits *waits);
/* Whether one of them, or a barrier, waits for a limited time only. */
bool catalog_waits_are_limited(const struct catalog_waits *waits);
/* A batch has been made, and a flush may follow: whether somebody waits for it. Answers those
 * whose block is not to be expected any more. */
bool catalog_waits_begin(struct catalog_waits *waits);
/* The flush that followed has succeeded. */
void catalog_waits_succeed(struct catalog_waits *waits);
/* It has failed: that of the data (catalog_changes_fail() is called before), or only the catalog's
 * file. */
void catalog_waits_fail(struct catalog_waits *waits, bool data);
/* A flush that began after the block had its record has succeeded: if its bytes are still where
 * that says, they are on the disk. */
void catalog_waits_trust(struct catalog_waits *waits, uint32_t number);
/* HBM_IO to all, of both kinds; and the barriers that may fail do. */
void catalog_waits_give_up(struct catalog_waits *waits);
