/* SPDX-License-Identifier: Apache-2.0 */
/*
 * catalog_contents: what was read from a catalog at the start, while it is being made blocks
 * of the cache. It is filled in the order of the units, and then has
 *
 * 	blocks		those whose records are sound, by unit: none overlaps another
 * 	order		the order to make them blocks in: those that are durable, then the
 * 			others, of each the newest first, but each behind one of its parent's key, so that
 * 			what is linked to is there. With copies there may be more than the tier
 * 			takes as blocks: what is durable must not be too late. A circle of
 * 			parents, which no client can have stored, is cut at its newest
 * 	refused		the units of the others, whose records are to be removed
 *
 * That two have one key is a catalog's that was damaged: as a parent any of them will do.
 *
 * Of two that overlap the newer is kept: where the older one's extent was freed and used
 * again, its removal may have been lost with the power.
 */
#pragma once

#include "daemon/catalog/catalog_record.h"

/* What a record must fit. */
struct catalog_bounds {
	uint64_t units;  /* of the tier */
	uint64_t blocks; /* at most */
	/* of blocks without a checksum, and of all */
	bool trust_unchecked, trust_any;
};

struct catalog_contents {
	struct catalog_namespace *namespaces; /* by id */
	uint32_t namespace_count, namespace_room;
	struct catalog_block *blocks;
	uint32_t *order; /* [count] */
	uint32_t count, room;
	int64_t *refused;
	uint32_t refused_count, refused_room;
	uint64_t stamp, ns; /* the highest that there was */
};

/* -ENOMEM: nothing has changed. Namespaces come first, by id. */
int catalog_contents_add_namespace(struct catalog_contents *contents, int64_t id, const void *bytes,
				   size_t size);
/* The next row, whose unit is above that of the last one; what is no record that fits is
 * refused. -ENOMEM. */
int catalog_contents_add_block(struct catalog_contents *contents,
			       const struct catalog_bounds *bounds, int64_t unit, const void *bytes,
			       size_t size);
/* After the last: makes the order. -ENOMEM. */
int catalog_contents_sort(struct catalog_contents *contents);
/* The namespace of that id, or NULL. */
const struct catalog_namespace *catalog_contents_namespace(const struct catalog_contents *contents,
							   uint64_t id);
/* Refuses one of the blocks. -ENOMEM. */
int catalog_contents_refuse(struct catalog_contents *contents, int64_t unit);
void catalog_contents_clear(struct catalog_contents *contents);

/* Bytes that this takes for so many blocks. */
uint64_t catalog_contents_bytes_for(uint64_t blocks);
