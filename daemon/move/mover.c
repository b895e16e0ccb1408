/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/move/mover.h"

#include <errno.h>
#include <stdlib.h>

#include "daemon/device/device.h"
#include "daemon/move/load.h"
#include "daemon/move/move.h"
#include "daemon/move/store.h"

/* ---- failures ---- */

static void mover_give_up_lost_devices(struct mover *mover)
{
	struct cache *cache = mover->cache;

	for (uint32_t i = 1; i <= cache->tier_count; i++) {
		struct tier *tier = &cache->tiers[i];
		if (tier->device && tier->usable > 0 && device_is_lost(tier->device))
			cache_lose_tier(cache, tier);
	}
}

static void mover_log_mismatch(struct mover *mover, const struct transfer *transfer)
{
	struct place place = transfer->from.place;

	if (log_quota(&mover->mismatches))
		log_error("%s: checksum mismatch, block of %llu bytes at offset %llu dropped",
			  tier_name(place.tier->kind), (unsigned long long)transfer->bytes,
			  (unsigned long long)tier_offset(place.unit));
}

void mover_failed(struct mover *mover, const struct transfer *transfer)
{
	if (transfer->status == HBM_MISS) {
		mover->cache->checksum_failures++;
		mover_log_mismatch(mover, transfer);
	} else if (transfer->status == HBM_IO) {
		mover->cache->io_errors++;
	} else if (transfer->status == HBM_DEVICE) {
		mover_give_up_lost_devices(mover);
	}
}

/* ---- the pump ---- */

static bool mover_may_start(const struct mover *mover, uint32_t number, const struct tier *tier)
{
	const struct block *block = cache_block(mover->cache, number);

	return block->state == BLOCK_RESIDENT && block->target == tier->number &&
	       block->actual != tier->number;
}

/* Begins the move of the block at the head of a tier's inbound queue: false where there
 * is no slot for it. */
static bool mover_start_first(struct mover *mover, struct tier *tier)
{
	struct cache *cache = mover->cache;
	uint32_t number = tier->inbound_first;
	uint64_t bytes = block_stored_bytes(cache_block(cache, number));
	struct place to = {tier, tier_alloc(tier, bytes)};
	if (to.unit == UINT32_MAX)
		return false;

	struct move *move = move_new(mover, number, to, false);
	if (!move) {
		tier_free(tier, to.unit, bytes);
		cache_drop(cache, number);
	}

	block_unqueue(&cache->blocks, tier);

	if (move) {
		load_attach_waiting(move);
		move_begin(move);
	}

	return true;
}

/* Half of the numbers are for what the policy wants, half for what clients wait for. */
static void mover_start_inbound(struct mover *mover, struct tier *tier)
{
	while (tier->inbound_first != 0 && mover->vacant_count > mover->max_moves / 2) {
		if (!mover_may_start(mover, tier->inbound_first, tier)) {
			block_unqueue(&mover->cache->blocks, tier);
			mover->again = true; /* it may wait now for a tier whose turn is over */
		} else if (!mover_start_first(mover, tier)) {
			return;
		}
	}
}

static uint64_t mover_wanted(const struct mover *mover, const struct tier *tier)
{
	if (!list_empty(&tier->waiting))
		return container_of(tier->waiting.next, struct extent_request, link)->bytes;
	if (tier->inbound_first != 0)
		return block_stored_bytes(cache_block(mover->cache, tier->inbound_first));
	return 0;
}

/* Somebody waits for a slot and nothing that is under way will free one: the free space
 * is in pieces that are too small, or there is no reserve. One more block has to go. */
static void mover_make_room(struct mover *mover, struct tier *tier)
{
	uint64_t bytes = mover_wanted(mover, tier);
	if (bytes == 0 || tier->moving > 0 || extent_largest(tier->extents) >= bytes)
		return;

	bool in_pieces = extent_available(tier->extents) >= bytes;
	if (!in_pieces && mover->context.active > 0)
		return;

	if (cache_push_out(mover->cache, tier, 1, 1) > 0)
		mover->again = true;
}

/* Nothing is under way and nothing can be pushed out of anywhere: what is left is pinned,
 * and the store that waits for a slot can have none. */
static void mover_give_up_first(struct mover *mover, struct tier *tier)
{
	struct list *node = list_pop_front(&tier->waiting);
	if (!node)
		return;

	store_give_up(container_of(node, struct extent_request, link));
	mover->again = true;
}

static void mover_pump_once(struct mover *mover)
{
	struct cache *cache = mover->cache;

	tier_serve(mover->context.staging);
	load_retry_waiting(mover);

	for (uint32_t i = 1; i <= cache->tier_count; i++) {
		tier_serve(&cache->tiers[i]);
		mover_start_inbound(mover, &cache->tiers[i]);
	}

	for (uint32_t i = 1; i <= cache->tier_count; i++)
		mover_make_room(mover, &cache->tiers[i]);
	for (uint32_t i = 1; i <= cache->tier_count; i++)
		if (!mover->again && mover->context.active == 0)
			mover_give_up_first(mover, &cache->tiers[i]);
}

static void mover_flush(struct mover *mover)
{
	for (uint32_t i = 1; i <= mover->cache->tier_count; i++) {
		const struct tier *tier = &mover->cache->tiers[i];
		if (tier->ops && tier->ops->flush)
			tier->ops->flush(tier);
	}
}

void mover_pump(struct mover *mover)
{
	mover->again = true;
	if (mover->pumping)
		return;

	mover->pumping = true;
	mover_give_up_lost_devices(mover);

	while (mover->again) {
		mover->again = false;
		mover_pump_once(mover);
	}

	mover->pumping = false;
	mover_flush(mover);
}

uint64_t mover_active(const struct mover *mover)
{
	return mover->context.active;
}

/* ---- the mover ---- */

static void mover_batch_done(void *arg)
{
	mover_pump(arg);
}

/* Completions free slots, buffers and numbers: the pump follows each batch of them. */
static void mover_listen(struct mover *mover, void (*batch_done)(void *arg))
{
	const struct devices *devices = mover->context.devices;
	const struct cache *cache = mover->cache;

	for (uint32_t i = 0; i < devices->count; i++)
		for (enum copy_direction kind = COPY_D2D; kind <= COPY_H2D; kind++)
			copy_queue_on_batch(devices->list[i].queues[kind], batch_done, mover);

	for (uint32_t i = 1; i <= cache->tier_count; i++)
		if (cache->tiers[i].ops && cache->tiers[i].ops->on_batch)
			cache->tiers[i].ops->on_batch(&cache->tiers[i], batch_done, mover);
}

int mover_new(struct mover **out, const struct mover_options *options)
{
	struct mover *mover = calloc(1, sizeof(*mover));
	if (!mover)
		return -ENOMEM;

	mover->cache = options->cache;
	mover->context =
		(struct transfer_context){.staging = options->staging, .devices = options->devices};
	list_init(&mover->loads);
	mover->max_moves = options->max_moves * 2;
	mover->moves = calloc(mover->max_moves + 1, sizeof(*mover->moves));
	mover->vacant = calloc(mover->max_moves, sizeof(*mover->vacant));
	if (!mover->moves || !mover->vacant) {
		mover_free(mover);
		return -ENOMEM;
	}

	for (uint64_t n = mover->max_moves; n > 0; n--)
		mover->vacant[mover->vacant_count++] = (uint32_t)n;
	mover_listen(mover, mover_batch_done);
	*out = mover;

	return 0;
}

struct mover *mover_free(struct mover *mover)
{
	if (!mover)
		return NULL;

	if (mover->vacant && mover->moves)
		mover_listen(mover, NULL);

	free(mover->vacant);
	free(mover->moves);
	free(mover);

	return NULL;
}
