/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/mover.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

struct mover {
	struct cache *cache;
	struct carrier carrier;
	struct transfer **moves; /* [max_moves + 1], by number */
	uint32_t *vacant;        /* numbers not in use */
	uint64_t max_moves, vacant_count;
	struct list loads; /* that wait for a move's number to become vacant */
	bool pumping, again;
};

static struct block *block_of(const struct transfer *transfer)
{
	return cache_block(transfer->carrier->cache, transfer->block);
}

static struct mover *mover_of(const struct transfer *transfer)
{
	return container_of(transfer->carrier, struct mover, carrier);
}

/* ---- moves ---- */

/* Loads that wait for a movement of this block need not wait for one of their own. They must not, either: while they
 * do, they keep this one from ending. */
static void attach_waiting(struct mover *mover, struct transfer *move)
{
	if (block_of(move)->readers == 0)
		return;
	list_for_each_safe (node, after, &mover->loads) {
		struct transfer *load = container_of(node, struct transfer, link);
		if (load->block != move->block)
			continue;
		list_remove(&load->link);
		block_of(load)->readers--;
		list_push_back(&move->readers, &load->link);
	}
}

/* to NULL: only into host memory. The target's slot, if any, has been taken. */
static struct transfer *new_move(struct mover *mover, uint32_t number, struct tier *to, uint32_t to_unit, bool urgent)
{
	struct transfer *move = mover->vacant_count > 0 ? calloc(1, sizeof(*move)) : NULL;
	if (!move)
		return NULL;
	struct block *block = cache_block(mover->cache, number);
	*move = (struct transfer){.kind = TRANSFER_MOVE,
				  .carrier = &mover->carrier,
				  .block = number,
				  .bytes = cache_bytes(mover->cache, block),
				  .from = &mover->cache->tiers[block->place],
				  .from_unit = block->unit,
				  .to = to,
				  .to_unit = to_unit,
				  .urgent = urgent,
				  .number = mover->vacant[--mover->vacant_count],
				  .staging_unit = UINT32_MAX};
	list_init(&move->readers);
	mover->moves[move->number] = move;
	tier_unplace(move->from, move->bytes);
	block->flags |= BLOCK_MOVING;
	block->move = move->number;
	attach_waiting(mover, move);
	return move;
}

static void count_arrival(struct transfer *move)
{
	move->to->in_blocks++;
	move->to->in_bytes += move->bytes;
	move->from->out_blocks++;
	move->from->out_bytes += move->bytes;
}

/* Blocks that were on their way to a device that is lost are where they were, and now belong elsewhere. */
static bool is_good_at_source(const struct transfer *move)
{
	return move->host_valid && move->to && block_of(move)->tier != move->to->number;
}

static void finish_move(struct transfer *move)
{
	struct mover *mover = mover_of(move);
	struct block *block = block_of(move);
	uint32_t number = move->block;
	block->flags &= (uint8_t)~BLOCK_MOVING;
	block->move = 0;
	if (move->to && move->status == HBM_OK && (block->flags & BLOCK_DROPPED) == 0) {
		tier_place(move->to, move->bytes);
		tier_give(move->from, move->from_unit, move->bytes);
		block->place = move->to->number;
		block->unit = move->to_unit;
		count_arrival(move);
	} else {
		if (move->to)
			tier_give(move->to, move->to_unit, move->bytes);
		tier_place(move->from, move->bytes);
		if (move->status != HBM_OK && !is_good_at_source(move))
			cache_drop(mover->cache, number);
	}
	mover->moves[move->number] = NULL;
	mover->vacant[mover->vacant_count++] = move->number;
	cache_misplaced(mover->cache, number);
	cache_idle(mover->cache, number);
	free(move);
}

static void finish_store(struct transfer *store)
{
	struct cache *cache = store->carrier->cache;
	struct block *block = block_of(store);
	block->flags &= (uint8_t)~BLOCK_MOVING;
	if (store->status == HBM_OK && (block->flags & BLOCK_DROPPED) == 0) {
		tier_place(store->to, store->bytes);
		block->place = store->to->number;
		block->unit = store->to_unit;
		block->flags |= BLOCK_STORED;
		cache_misplaced(cache, store->block);
	} else {
		transfer_fail(store, HBM_NO_SPACE);
		if (store->to)
			tier_give(store->to, store->to_unit, store->bytes);
		cache_drop(cache, store->block);
	}
	cache_idle(cache, store->block);
	store->done(store);
}

/* The end of a load that read the block's own slot. */
static void finish_load(struct transfer *load)
{
	struct mover *mover = mover_of(load);
	struct block *block = block_of(load);
	block->readers--;
	if (block->readers == 0 && block->move != 0)
		transfer_try_end(mover->moves[block->move]);
	else
		cache_idle(mover->cache, load->block);
	load->done(load);
}

static void give_up_lost_devices(struct cache *cache)
{
	for (uint32_t i = 0; i < cache->devices; i++) {
		struct tier *tier = cache_hbm(cache, i);
		if (tier->online > 0 && device_is_lost(tier->device))
			cache_lose_tier(cache, tier);
	}
}

static void ended(struct transfer *transfer)
{
	if (transfer->status == HBM_DEVICE)
		give_up_lost_devices(transfer->carrier->cache);
	switch (transfer->kind) {
	case TRANSFER_MOVE:
		finish_move(transfer);
		break;
	case TRANSFER_STORE:
		finish_store(transfer);
		break;
	case TRANSFER_LOAD:
		finish_load(transfer);
		break;
	}
}

/* Ends a store that never began: its block has gone, or can have no slot. */
static void abandon(struct transfer *store)
{
	store->carrier->active++;
	transfer_end(store);
}

/* ---- stores ---- */

static void slot_for_store(struct slot_wait *wait, uint32_t unit)
{
	struct transfer *store = container_of(wait, struct transfer, wait);
	store->to_unit = unit;
	if ((block_of(store)->flags & BLOCK_DROPPED) != 0)
		abandon(store);
	else if (store->to->kind == HBM_TIER_HBM && store->to->device == store->device)
		transfer_direct(store);
	else
		transfer_begin(store);
}

void mover_store(struct mover *mover, struct transfer *store)
{
	struct block *block = cache_block(mover->cache, store->block);
	assert(block->tier != 0 && (block->flags & BLOCK_MOVING) != 0);
	store->carrier = &mover->carrier;
	store->bytes = cache_bytes(mover->cache, block);
	store->to = &mover->cache->tiers[block->tier];
	store->staging_unit = UINT32_MAX;
	store->urgent = true;
	store->status = HBM_OK;
	list_init(&store->readers);
	store->wait = (struct slot_wait){.bytes = store->bytes, .granted = slot_for_store};
	tier_wait(store->to, &store->wait);
}

/* ---- loads ---- */

/* A move to read from: the one under way, or a new one to where the block belongs if there is a slot for it now. */
static struct transfer *move_to_host(struct mover *mover, uint32_t number, bool *fresh)
{
	struct block *block = cache_block(mover->cache, number);
	*fresh = block->move == 0;
	if (!*fresh)
		return mover->moves[block->move];
	struct tier *to = block->tier != 0 && block->tier != block->place ? &mover->cache->tiers[block->tier] : NULL;
	uint32_t unit = to ? tier_take(to, cache_bytes(mover->cache, block)) : UINT32_MAX;
	if (unit == UINT32_MAX)
		to = NULL;
	struct transfer *move = new_move(mover, number, to, unit, true);
	if (!move && to)
		tier_give(to, unit, cache_bytes(mover->cache, block));
	return move;
}

static void load_through_host(struct transfer *load)
{
	struct mover *mover = mover_of(load);
	bool fresh;
	struct transfer *move = move_to_host(mover, load->block, &fresh);
	if (!move) {
		block_of(load)->readers++; /* so that the number stays this block's */
		list_push_back(&mover->loads, &load->link);
		return;
	}
	list_push_back(&move->readers, &load->link);
	if (fresh)
		transfer_begin(move);
	else if (move->host_valid)
		transfer_serve(load, move);
}

static void start_load(struct transfer *load)
{
	struct block *block = block_of(load);
	load->from = &load->carrier->cache->tiers[block->place];
	load->from_unit = block->unit;
	if (load->from->kind != HBM_TIER_DDR && load->from->device != load->device) {
		load_through_host(load);
		return;
	}
	block->readers++;
	transfer_direct(load);
}

void mover_load(struct mover *mover, struct transfer *load)
{
	load->carrier = &mover->carrier;
	load->bytes = cache_bytes(mover->cache, cache_block(mover->cache, load->block));
	load->to = NULL;
	load->staging_unit = UINT32_MAX;
	load->status = HBM_OK;
	list_init(&load->link);
	list_init(&load->readers);
	start_load(load);
}

static void retry_loads(struct mover *mover)
{
	while (mover->vacant_count > 0 && !list_empty(&mover->loads)) {
		struct list *node = list_pop_front(&mover->loads);
		struct transfer *load = container_of(node, struct transfer, link);
		block_of(load)->readers--;
		start_load(load);
		if (mover->loads.prev == node) /* no memory for its movement: later */
			return;
	}
}

/* ---- the pump ---- */

static bool may_start(struct mover *mover, uint32_t number, const struct tier *tier)
{
	const struct block *block = cache_block(mover->cache, number);
	return (block->flags & (BLOCK_DROPPED | BLOCK_MOVING)) == 0 && block->tier == tier->number &&
	       block->place != tier->number && block->place != 0;
}

static void start_inbound(struct mover *mover, struct tier *tier)
{
	struct cache *cache = mover->cache;
	while (tier->inbound_first != 0 && mover->vacant_count > mover->max_moves / 2) {
		uint32_t number = tier->inbound_first;
		if (!may_start(mover, number, tier)) {
			cache_next_inbound(cache, tier);
			cache_misplaced(cache, number);
			cache_idle(cache, number);
			mover->again = true; /* it may wait now for a tier whose turn is over */
			continue;
		}
		uint32_t unit = tier_take(tier, cache_bytes(cache, cache_block(cache, number)));
		if (unit == UINT32_MAX)
			return;
		cache_next_inbound(cache, tier);
		struct transfer *move = new_move(mover, number, tier, unit, false);
		if (!move) {
			tier_give(tier, unit, cache_bytes(cache, cache_block(cache, number)));
			cache_drop(cache, number);
			cache_idle(cache, number);
			continue;
		}
		transfer_begin(move);
	}
}

static uint64_t wanted(const struct mover *mover, const struct tier *tier)
{
	if (!list_empty(&tier->waiting))
		return container_of(tier->waiting.next, struct slot_wait, link)->bytes;
	if (tier->inbound_first != 0)
		return cache_bytes(mover->cache, cache_block(mover->cache, tier->inbound_first));
	return 0;
}

/* Somebody waits for a slot and nothing that is under way will free one: the free space is in pieces that are too
 * small, or there is no reserve. One more block has to go. */
static void make_room(struct mover *mover, struct tier *tier)
{
	uint64_t bytes = wanted(mover, tier);
	if (bytes == 0 || tier->moving > 0 || extent_largest(tier->extents) >= bytes)
		return;
	bool in_pieces = extent_available(tier->extents) >= bytes;
	if (!in_pieces && mover->carrier.active > 0)
		return;
	if (cache_push_out(mover->cache, tier, 1, 1) > 0)
		mover->again = true;
}

/* Nothing is under way and nothing can be pushed out of anywhere: what is left is held, and a block that waits for a
 * slot cannot be had. */
static void give_up_first(struct mover *mover, struct tier *tier)
{
	struct list *node = list_pop_front(&tier->waiting);
	if (!node)
		return;
	struct transfer *store = container_of(container_of(node, struct slot_wait, link), struct transfer, wait);
	store->to = NULL;
	transfer_fail(store, HBM_NO_SPACE);
	abandon(store);
	mover->again = true;
}

void mover_pump(struct mover *mover)
{
	struct cache *cache = mover->cache;
	mover->again = true;
	if (mover->pumping)
		return;
	mover->pumping = true;
	give_up_lost_devices(cache);
	while (mover->again) {
		mover->again = false;
		tier_serve(cache->staging);
		retry_loads(mover);
		for (uint32_t i = 1; i <= cache->nvme->number; i++) {
			tier_serve(&cache->tiers[i]);
			start_inbound(mover, &cache->tiers[i]);
		}
		for (uint32_t i = 1; i <= cache->nvme->number; i++)
			make_room(mover, &cache->tiers[i]);
		for (uint32_t i = 1; i <= cache->nvme->number && !mover->again && mover->carrier.active == 0; i++)
			give_up_first(mover, &cache->tiers[i]);
	}
	mover->pumping = false;
	if (mover->carrier.disk)
		disk_dispatch(mover->carrier.disk);
}

uint64_t mover_active(const struct mover *mover)
{
	return mover->carrier.active;
}

int mover_new(struct mover **out, const struct mover_options *options)
{
	struct mover *mover = calloc(1, sizeof(*mover));
	if (!mover)
		return -ENOMEM;
	mover->cache = options->cache;
	mover->carrier = (struct carrier){
		.cache = options->cache, .devices = options->devices, .disk = options->disk, .ended = ended};
	list_init(&mover->loads);
	/* half for what the policy wants, half for what clients wait for */
	mover->max_moves = options->max_moves * 2;
	mover->moves = calloc(mover->max_moves + 1, sizeof(*mover->moves));
	mover->vacant = calloc(mover->max_moves, sizeof(*mover->vacant));
	if (!mover->moves || !mover->vacant) {
		mover_free(mover);
		return -ENOMEM;
	}
	for (uint64_t n = mover->max_moves; n > 0; n--)
		mover->vacant[mover->vacant_count++] = (uint32_t)n;
	*out = mover;
	return 0;
}

struct mover *mover_free(struct mover *mover)
{
	if (!mover)
		return NULL;
	free(mover->vacant);
	free(mover->moves);
	free(mover);
	return NULL;
}
