/* SPDX-License-Identifier: Apache-2.0 */
/*
 * catalog_recovery: makes what was read from a catalog blocks of the cache again, in slices
 * of the loop's background, while requests are served.
 *
 * 	OPENING		the namespaces, which are held open until the end
 * 	CLAIMING	the extents, one by one, so that no store gets one; in a tier that is
 * 			dirty what lies between is overwritten before it is free. The tier is
 * 			not usable before it is over (tier.h)
 * 	RECOVERING	the blocks, the last to be evicted first. A lookup finds what has come
 * 			so far. One that does not fit any longer is refused: its namespace
 * 			may not be opened, its key has been stored again, the tier or a limit
 * 			is smaller than it was
 * 	LETTING GO	the extents of those that were refused, when their records are gone
 * 	CLOSING		the namespaces: one that has no block is none any more
 *
 * A lookup does not wait for what has not come yet: it is a miss, because a disk that does not
 * answer would hold every lookup.
 */
#pragma once

#include "daemon/cache/cache.h"
#include "daemon/catalog/catalog_contents.h"
#include "daemon/catalog/catalog_ids.h"

enum catalog_recovery_phase {
	CATALOG_OPENING,
	CATALOG_CLAIMING,
	CATALOG_RECOVERING,
	CATALOG_LETTING_GO,
	CATALOG_CLOSING,
	CATALOG_RECOVERED,
};

struct catalog_recovery {
	struct cache *cache;
	struct catalog_ids *ids;
	struct catalog_contents *contents;
	/* Whether that namespace may have blocks of its size on NVMe. */
	bool (*fits)(void *arg, const struct namespace_identity *identity);
	void *fits_arg;
	/* The block has that record. */
	void (*recovered)(void *arg, uint32_t number, const struct catalog_block *record);
	void *arg;

	enum catalog_recovery_phase phase;
	uint32_t next;     /* of the phase */
	uint16_t *numbers; /* of the contents' namespaces, which are held open; 0: refused */
	uint32_t *refused; /* blocks of the contents; their units are in contents->refused, too */
	uint32_t refused_count;
	bool wiped; /* the tier was dirty */
	uint64_t restored;
	uint32_t last; /* the block that was made last, or 0 */
	/* the namespace that was looked for last, and its number */
	uint64_t near_id;
	uint16_t near;
};

/* cache, ids, contents and the calls are set. -ENOMEM. */
int catalog_recovery_begin(struct catalog_recovery *recovery);
/* At most `max` steps, each of a few blocks or one namespace; false when the phase is over, and
 * the next call goes on with the next one: LETTING_GO not before the caller has removed the
 * records. */
bool catalog_recovery_some(struct catalog_recovery *recovery, uint32_t max);
/* The units of those that were refused, to be freed by the caller; NULL: no memory. */
int64_t *catalog_recovery_units(const struct catalog_recovery *recovery);
/* Ends it, at any time. The contents are left to the caller. */
void catalog_recovery_end(struct catalog_recovery *recovery);
