/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stash: what suspended sequences of a pool have instead of slabs: blocks of an ephemeral
 * namespace of the pool, one for each slab, pinned. They are gone with the connection.
 *
 * Sequences that shared a slab when they were suspended together share its block. A block
 * that no sequence has any more is dropped by the next sweep.
 */
#pragma once

#include "client/sequence/origin.h"
#include "daemon/base/list.h"

#include <hbm/sequence.h>

struct slot;

struct stash_block {
	hbm_key key;
	uint32_t users;
	struct origin origin;    /* of the slab, if the cache had it, too */
	const struct slot *slot; /* of a resume in the making: who has its slab; else NULL */
	struct list link;        /* where no sequence uses it */
};

struct stash_slab {
	uint64_t offset; /* in the slot */
	struct stash_block *block;
};

/* Of a sequence, in order of the offsets. */
struct stash {
	struct stash_slab *list;
	size_t count, room;
	enum hbm_tier tier;
};

/* Of a pool. */
struct stashes {
	bool is_open;
	uint32_t ns;
	uint64_t last_key;
	struct list unused; /* struct stash_block */
};

/* Opens the namespace, if that has not been done. 0, or the status of the call. */
int hbm_stash_open(struct stashes *stashes, struct hbm *hbm, uint64_t block_bytes, bool memory_only,
		   bool wipe_on_free);
/* The block for the slab at an offset is `block`, or NULL: a new one. Which; NULL: there is no
 * memory. */
struct stash_block *hbm_stash_add(struct stashes *stashes, struct stash *stash, uint64_t offset,
				  struct stash_block *block);
/* The sequence needs its blocks no more. */
void hbm_stash_clear(struct stashes *stashes, struct stash *stash);
/* Drops blocks that no sequence uses. What the daemon does not drop now is left for the next. */
void hbm_stash_sweep(struct stashes *stashes, struct hbm *hbm);
/* Closes the namespace, and with it drops all that is there; no sequence has a stash. */
void hbm_stash_close(struct stashes *stashes, struct hbm *hbm);
