/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/catalog/catalog_batch.h"

#include <assert.h>
#include <string.h>

/* The unit of the block's extent in the tier. False: it has none that is to be recorded. */
static bool catalog_batch_unit(const struct cache *cache, uint32_t number, uint32_t *unit)
{
	const struct block *block = cache_block(cache, number);
	const struct tier *nvme = cache->nvme;
	if (nvme->lost || !index_used(cache->index, number) || !block_is_complete(block) ||
	    namespaces_get(cache->namespaces, block->ns)->ephemeral)
		return false;

	if (block->actual == nvme->number)
		*unit = block->unit;
	else if (block->copied)
		*unit = copies_unit(&cache->blocks.copies, number);
	else
		return false;

	return true;
}

static void catalog_batch_describe(const struct catalog_source *source, uint32_t number,
				   struct catalog_block *record)
{
	const struct cache *cache = source->cache;
	const struct block *block = cache_block(cache, number);
	uint32_t parent = cache_parent(cache, number);

	*record = (struct catalog_block){
		.ns = catalog_ids_of(source->ids, block->ns),
		.key = block->key,
		.checksum = block->checksummed ? block->checksum : 0,
		.stamp = source->stamp,
		.unit = record->unit,
		.units = block->stored_units,
		.flags = (block->checksummed ? CATALOG_CHECKSUMMED : 0) |
			 (block->durable ? CATALOG_DURABLE : 0),
	};
	if (parent != 0)
		record->parent = cache_block(cache, parent)->key;
	catalog_block_seal(record);
}

/* The namespace has an id in the end. */
static void catalog_batch_name(struct catalog_made *made, struct catalog_source *source,
			       uint16_t ns)
{
	struct catalog_batch *batch = &made->batch;
	if (catalog_ids_of(source->ids, ns) != 0)
		return;

	struct catalog_id_change *change = &made->ids[made->id_count++];

	catalog_ids_give(source->ids, ns, change);
	made->namespaces[batch->namespace_count++] = change->record;
	if (change->forgotten != 0)
		made->forgotten[batch->forgotten_count++] = change->forgotten;
}

/* Its bytes have moved within the tier, and a flush has failed since: they may be on the disk only
 * where its record says (catalog_left.h). */
static bool catalog_batch_stays(const struct catalog_source *source, uint32_t number)
{
	const struct cache *cache = source->cache;
	const struct block *block = cache_block(cache, number);
	const struct catalog_entry *entry = &source->changes->table[number];

	return entry->stamp != 0 && index_used(cache->index, number) && block_is_complete(block) &&
	       block->durable && block->actual == cache->nvme->number &&
	       block->unit != entry->unit && catalog_changes_doubt(source->changes, number);
}

static void catalog_batch_add(struct catalog_made *made, struct catalog_source *source,
			      uint32_t number)
{
	struct catalog_changes *changes = source->changes;
	const struct catalog_entry *entry = &changes->table[number];
	struct catalog_change *change = &made->changes[made->batch.change_count];

	*change = (struct catalog_change){.old_unit = entry->unit, .old_stamp = entry->stamp};
	change->put = catalog_batch_unit(source->cache, number, &change->block.unit);
	if (change->put) {
		catalog_batch_name(made, source, cache_block(source->cache, number)->ns);
		source->stamp++;
		catalog_batch_describe(source, number, &change->block);
	}

	if (!change->put && change->old_stamp == 0)
		return; /* it came and went */

	catalog_changes_record(changes, number, change->put ? source->stamp : 0,
			       change->block.unit);
	made->numbers[made->batch.change_count++] = number;
}

void catalog_batch_make(struct catalog_made *made, struct catalog_source *source)
{
	made->id_count = 0;
	made->batch = (struct catalog_batch){.forgotten = made->forgotten,
					     .namespaces = made->namespaces,
					     .changes = made->changes};

	while (made->batch.change_count < CATALOG_BATCH_CHANGES &&
	       made->id_count < CATALOG_BATCH_NAMESPACES) {
		uint32_t number = catalog_changes_take(source->changes);
		if (number == 0)
			break;
		if (catalog_batch_stays(source, number))
			continue;
		catalog_batch_add(made, source, number);
	}
}

void catalog_batch_take_back(const struct catalog_made *made, struct catalog_source *source)
{
	for (uint32_t i = 0; i < made->batch.change_count; i++) {
		const struct catalog_change *change = &made->changes[i];

		catalog_changes_record(source->changes, made->numbers[i], change->old_stamp,
				       change->old_unit);
		catalog_changes_mark(source->changes, made->numbers[i]);
	}

	for (uint32_t i = made->id_count; i > 0; i--)
		catalog_ids_take_back(source->ids, &made->ids[i - 1]);
}
