/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/move/store.h"

#include <assert.h>

static struct blocks *store_blocks(const struct store *store)
{
	return &store->mover->cache->blocks;
}

static bool store_is_dropped(const struct store *store)
{
	return block_is_dropped(block_get(store_blocks(store), store->block));
}

static void store_end(struct store *store)
{
	struct cache *cache = store->mover->cache;
	struct transfer *transfer = &store->transfer;
	struct place to = transfer->to.place;

	if (transfer->status == HBM_CANCELLED)
		transfer->status = HBM_IO;
	else if (transfer->status != HBM_OK)
		mover_failed(store->mover, transfer, store->block);

	if (transfer->status == HBM_OK && !store_is_dropped(store)) {
		if (transfer->checksum_mode == CHECKSUM_TAKE)
			block_settle_checksum(&cache->blocks, store->block, transfer->checksum);
		if (to.tier && tier_has_io(to.tier))
			block_settle_stored(&cache->blocks, store->block, transfer->nvme_bytes);
		block_stored(&cache->blocks, store->block, to);
	} else {
		transfer_fail(transfer, HBM_NO_SPACE);
		if (to.tier && transfer->status == HBM_IO && transfer->host_valid &&
		    tier_has_io(to.tier))
			mover_fail_extent(store->mover, to, transfer->nvme_bytes, transfer->wipe);
		else if (to.tier)
			block_free_extent(&cache->blocks, store->block, to,
					  transfer_bytes_at(transfer, to.tier));
		cache_abandon_store(cache, store->block);
	}

	store->done(store);
}

static void store_transferred(struct transfer *transfer)
{
	transfer_release(transfer);
	store_end(container_of(transfer, struct store, transfer));
}

static void store_slot_granted(struct extent_request *wait, uint32_t unit)
{
	struct store *store = container_of(wait, struct store, transfer.wait);

	store->transfer.to.place.unit = unit;
	if (store_is_dropped(store))
		store_end(store);
	else
		transfer_begin(&store->transfer);
}

void store_refuse(struct extent_request *wait)
{
	struct store *store = container_of(wait, struct store, transfer.wait);

	store->transfer.to.place.tier = NULL;
	transfer_fail(&store->transfer, HBM_NO_SPACE);
	store_end(store);
}

static enum transfer_checksum store_checksum(const struct mover *mover, const struct tier *target)
{
	bool wanted = mover->checksums == CONFIG_CHECKSUM_ALWAYS ||
		      (mover->checksums == CONFIG_CHECKSUM_NVME && tier_has_io(target));

	return wanted ? CHECKSUM_TAKE : CHECKSUM_NONE;
}

void store_begin(struct mover *mover, struct store *store)
{
	struct blocks *blocks = &mover->cache->blocks;
	const struct block *block = block_get(blocks, store->block);
	struct tier *target = block_target(blocks, store->block);

	assert(target && block->state == BLOCK_STORING);

	store->mover = mover;
	store->transfer = (struct transfer){
		.context = &mover->context,
		.from = {.device = store->device,
			 .spans = store->spans,
			 .span_count = store->span_count},
		.to = {.place = {.tier = target}},
		.bytes = block_bytes(blocks, store->block),
		.nvme_bytes = block_stored_bytes(block),
		.element = block_element(blocks, store->block),
		.wipe = block_is_wiped(blocks, store->block),
		.payer = store->payer,
		.urgent = true,
		.checksum_mode = store_checksum(mover, target),
		.done = store_transferred,
	};
	store->transfer.wait =
		(struct extent_request){.bytes = block_memory_bytes(blocks, store->block),
					.near = store->device,
					.granted = store_slot_granted};
	tier_request(target, &store->transfer.wait, store->payer);
}
