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

static const struct block *block_of(const struct transfer *transfer)
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
	if (block_of(move)->users == 0)
		return;
	list_for_each_safe (node, after, &mover->loads) {
		struct transfer *load = container_of(node, struct transfer, link);
		if (load->block != move->block)
			continue;
		list_remove(&load->link);
		block_unuse(&mover->cache->blocks, load->block);
		list_push_back(&move->readers, &load->link);
	}
}

/* to NULL: only into host memory. The target's slot, if any, has been taken. */
static struct transfer *new_move(struct mover *mover, uint32_t number, struct tier *to, uint32_t to_unit, bool urgent)
{
	struct transfer *move = mover->vacant_count > 0 ? calloc(1, sizeof(*move)) : NULL;
	if (!move)
		return NULL;
	struct blocks *blocks = &mover->cache->blocks;
	struct place from = block_place(blocks, number);
	*move = (struct transfer){.kind = TRANSFER_MOVE,
				  .carrier = &mover->carrier,
				  .block = number,
				  .bytes = block_stored_bytes(block_get(blocks, number)),
				  .from = from.tier,
				  .from_unit = from.unit,
				  .to = to,
				  .to_unit = to_unit,
				  .urgent = urgent,
				  .number = mover->vacant[--mover->vacant_count],
				  .staging_unit = UINT32_MAX};
	list_init(&move->readers);
	mover->moves[move->number] = move;
	block_begin_move(blocks, number, move->number);
	attach_waiting(mover, move);
	return move;
}

/* Blocks that were on their way to a device that is lost are where they were, and now belong elsewhere. */
static bool is_good_at_source(const struct transfer *move)
{
	return move->host_valid && move->to && block_of(move)->target != move->to->number;
}

static void finish_move(struct transfer *move)
{
	struct mover *mover = mover_of(move);
	struct blocks *blocks = &mover->cache->blocks;
	uint32_t number = move->block;
	mover->moves[move->number] = NULL;
	mover->vacant[mover->vacant_count++] = move->number;
	if (move->to && move->status == HBM_OK && !block_is_dropped(block_of(move))) {
		block_placed(blocks, number, (struct place){move->to, move->to_unit});
	} else {
		if (move->to)
			tier_give(move->to, move->to_unit, move->bytes);
		if (move->status != HBM_OK && !is_good_at_source(move))
			cache_drop(mover->cache, number);
		block_end_move(blocks, number);
	}
	free(move);
}

static void finish_store(struct transfer *store)
{
	struct cache *cache = store->carrier->cache;
	if (store->status == HBM_OK && !block_is_dropped(block_of(store))) {
		block_stored(&cache->blocks, store->block, (struct place){store->to, store->to_unit});
	} else {
		transfer_fail(store, HBM_NO_SPACE);
		if (store->to)
			tier_give(store->to, store->to_unit, store->bytes);
		cache_abandon_store(cache, store->block);
	}
	store->done(store);
}

/* The end of a load that read the block's own slot. */
static void finish_load(struct transfer *load)
{
	struct mover *mover = mover_of(load);
	uint32_t move = block_of(load)->move;
	bool last = block_of(load)->users == 1;
	block_unuse(&mover->cache->blocks, load->block);
	if (last && move != 0)
		transfer_try_end(mover->moves[move]);
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
	if (block_is_dropped(block_of(store)))
		abandon(store);
	else if (store->to->kind == HBM_TIER_HBM && store->to->device == store->device)
		transfer_direct(store);
	else
		transfer_begin(store);
}

void mover_store(struct mover *mover, struct transfer *store)
{
	const struct block *block = cache_block(mover->cache, store->block);
	assert(block->target != 0 && block->state == BLOCK_STORING);
	store->carrier = &mover->carrier;
	store->bytes = block_stored_bytes(block);
	store->to = block_target(&mover->cache->blocks, store->block);
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
	const struct block *block = cache_block(mover->cache, number);
	*fresh = block->move == 0;
	if (!*fresh)
		return mover->moves[block->move];
	struct tier *to = block->target != block->actual ? block_target(&mover->cache->blocks, number) : NULL;
	uint32_t unit = to ? tier_take(to, block_stored_bytes(block)) : UINT32_MAX;
	if (unit == UINT32_MAX)
		to = NULL;
	struct transfer *move = new_move(mover, number, to, unit, true);
	if (!move && to)
		tier_give(to, unit, block_stored_bytes(block));
	return move;
}

static void load_through_host(struct transfer *load)
{
	struct mover *mover = mover_of(load);
	bool fresh;
	struct transfer *move = move_to_host(mover, load->block, &fresh);
	if (!move) {
		block_use(&mover->cache->blocks, load->block); /* so that the number stays this block's */
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
	struct blocks *blocks = &load->carrier->cache->blocks;
	struct place from = block_place(blocks, load->block);
	load->from = from.tier;
	load->from_unit = from.unit;
	if (load->from->kind != HBM_TIER_DDR && load->from->device != load->device) {
		load_through_host(load);
		return;
	}
	block_use(blocks, load->block);
	transfer_direct(load);
}

void mover_load(struct mover *mover, struct transfer *load)
{
	load->carrier = &mover->carrier;
	load->bytes = block_stored_bytes(block_of(load));
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
		uint32_t number = load->block;
		start_load(load);
		block_unuse(&mover->cache->blocks, number);
		if (mover->loads.prev == node) /* no memory for its movement: later */
			return;
	}
}

/* ---- the pump ---- */

static bool may_start(struct mover *mover, uint32_t number, const struct tier *tier)
{
	const struct block *block = cache_block(mover->cache, number);
	return block->state == BLOCK_RESIDENT && block->target == tier->number && block->actual != tier->number;
}

static void start_inbound(struct mover *mover, struct tier *tier)
{
	struct cache *cache = mover->cache;
	while (tier->inbound_first != 0 && mover->vacant_count > mover->max_moves / 2) {
		uint32_t number = tier->inbound_first;
		if (!may_start(mover, number, tier)) {
			block_unqueue(&cache->blocks, tier);
			mover->again = true; /* it may wait now for a tier whose turn is over */
			continue;
		}
		uint64_t bytes = block_stored_bytes(cache_block(cache, number));
		uint32_t unit = tier_take(tier, bytes);
		if (unit == UINT32_MAX)
			return;
		struct transfer *move = new_move(mover, number, tier, unit, false);
		if (!move) {
			tier_give(tier, unit, bytes);
			cache_drop(cache, number);
		}
		block_unqueue(&cache->blocks, tier);
		if (move)
			transfer_begin(move);
	}
}

static uint64_t wanted(const struct mover *mover, const struct tier *tier)
{
	if (!list_empty(&tier->waiting))
		return container_of(tier->waiting.next, struct slot_wait, link)->bytes;
	if (tier->inbound_first != 0)
		return block_stored_bytes(cache_block(mover->cache, tier->inbound_first));
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

/* Nothing is under way and nothing can be pushed out of anywhere: what is left is pinned, and a block that waits for a
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
