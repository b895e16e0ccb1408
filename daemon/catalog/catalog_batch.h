/* SPDX-License-Identifier: Apache-2.0 */
/*
 * catalog_batch: the changes of one transaction: made from what the blocks are at that moment,
 * and taken back if the transaction fails. Allocated once; for so many changes and
 * namespaces at most, the rest waits for the next.
 */
#pragma once

#include "daemon/cache/cache.h"
#include "daemon/catalog/catalog_changes.h"
#include "daemon/catalog/catalog_ids.h"
#include "daemon/catalog/catalog_store.h"

enum { CATALOG_BATCH_CHANGES = 4096, CATALOG_BATCH_NAMESPACES = 64 };

struct catalog_made {
	struct catalog_change changes[CATALOG_BATCH_CHANGES];
	uint32_t numbers[CATALOG_BATCH_CHANGES]; /* of the changes' blocks */
	struct catalog_id_change ids[CATALOG_BATCH_NAMESPACES];
	struct catalog_namespace namespaces[CATALOG_BATCH_NAMESPACES];
	uint64_t forgotten[CATALOG_BATCH_NAMESPACES];
	struct catalog_batch batch;
	uint32_t id_count;
};

struct catalog_source {
	struct cache *cache;
	struct catalog_changes *changes;
	struct catalog_ids *ids;
	uint64_t stamp; /* the last that was given */
};

/* Takes changes from the queue. The batch may be empty in the end. A block that has moved within the
 * tier, to where its bytes are in doubt, keeps its record. */
void catalog_batch_make(struct catalog_made *made, struct catalog_source *source);
/* The transaction has failed: all is as before, and queued again. */
void catalog_batch_take_back(const struct catalog_made *made, struct catalog_source *source);
