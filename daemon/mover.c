/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/mover.h"

#include "daemon/log.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

struct mover {
	struct cache *cache;
	struct devices *devices;
	struct disk *disk;
	struct transfer **moves; /* [max_moves + 1], by number */
	uint32_t *vacant;        /* numbers not in use */
	uint64_t max_moves, vacant_count;
	uint64_t active;   /* transfers that hold a slot or read one */
	struct list loads; /* that wait for a move's number to become vacant */
	bool pumping, again;
};

static void step_in(struct transfer *transfer);
static void step_out(struct transfer *transfer);
static void finish(struct transfer *transfer);

static struct block *block_of(const struct transfer *transfer)
{
	return cache_block(transfer->mover->cache, transfer->block);
}

static struct lane *lane_of(const struct device *device, enum lane_kind kind)
{
	return device->lanes[kind];
}

/* The device whose lanes touch this transfer's side: of the client, else of the HBM tier. */
static struct device *device_of(const struct transfer *transfer, const struct tier *tier)
{
	return tier ? tier->device : transfer->device;
}

/* ---- steps ---- */

static void fail(struct transfer *transfer, int status)
{
	if (transfer->status == HBM_OK)
		transfer->status = status;
}

/* The device side of the next copy: the client's spans, or one span that is the tier's slot. */
static void aim(struct transfer *transfer, const struct tier *tier, uint32_t unit)
{
	struct copy *copy = &transfer->copy;
	*copy = (struct copy){.bytes = transfer->bytes};
	if (tier) {
		transfer->span = (struct span){tier->base + tier_offset(unit), transfer->bytes};
		copy->spans = &transfer->span;
		copy->span_count = 1;
	} else {
		copy->spans = transfer->spans;
		copy->span_count = transfer->span_count;
	}
}

static void remember_checksum(struct transfer *transfer)
{
	struct block *block = block_of(transfer);
	block->checksum = transfer->copy.checksum;
	block->flags |= BLOCK_CHECKSUMMED;
}

static void start_reader(struct transfer *reader, struct transfer *move);

/* The bytes are in host memory and are what was stored. */
static void host_is_valid(struct transfer *transfer)
{
	transfer->host_valid = true;
	list_for_each_safe (node, after, &transfer->readers)
		start_reader(container_of(node, struct transfer, link), transfer);
	step_out(transfer);
}

static void came_in(struct copy *copy)
{
	struct transfer *transfer = container_of(copy, struct transfer, copy);
	if (copy->status == HBM_MISS) {
		transfer->mover->cache->checksum_failures++;
		log_error("nvme: a block of %llu bytes at %llu is not what was written: dropped",
			  (unsigned long long)transfer->bytes, (unsigned long long)tier_offset(transfer->from_unit));
	}
	if (copy->status != HBM_OK) {
		fail(transfer, copy->status);
		finish(transfer);
		return;
	}
	if (copy->take_checksum)
		remember_checksum(transfer);
	host_is_valid(transfer);
}

/* A lane takes the checksum: the loop thread has better things to do. */
static void verify(struct transfer *transfer)
{
	struct block *block = block_of(transfer);
	struct device *device =
		transfer->to && transfer->to->device ? transfer->to->device : &transfer->mover->devices->list[0];
	transfer->copy = (struct copy){.verify_checksum = (block->flags & BLOCK_CHECKSUMMED) != 0,
				       .checksum = block->checksum,
				       .host = transfer->host,
				       .bytes = transfer->bytes,
				       .done = came_in};
	lane_post(lane_of(device, LANE_H2D), &transfer->copy, transfer->urgent);
}

static void was_read(struct disk_op *op)
{
	struct transfer *transfer = container_of(op, struct transfer, op);
	if (op->error == 0) {
		verify(transfer);
		return;
	}
	transfer->mover->cache->io_errors++;
	fail(transfer, HBM_IO);
	finish(transfer);
}

static void step_in(struct transfer *transfer)
{
	if (transfer->from && transfer->from->kind == HBM_TIER_NVME) {
		transfer->op = (struct disk_op){.offset = tier_offset(transfer->from_unit),
						.bytes = transfer->bytes,
						.memory = transfer->host,
						.done = was_read};
		disk_submit(transfer->mover->disk, &transfer->op, transfer->urgent);
		return;
	}
	aim(transfer, transfer->from, transfer->from_unit);
	transfer->copy.host = transfer->host;
	transfer->copy.take_checksum = (block_of(transfer)->flags & BLOCK_CHECKSUMMED) == 0;
	transfer->copy.done = came_in;
	lane_post(lane_of(device_of(transfer, transfer->from), LANE_D2H), &transfer->copy, transfer->urgent);
}

static void try_finish(struct transfer *transfer)
{
	if (transfer->out_done && list_empty(&transfer->readers) && block_of(transfer)->readers == 0)
		finish(transfer);
}

static void went_out(struct copy *copy)
{
	struct transfer *transfer = container_of(copy, struct transfer, copy);
	if (copy->status != HBM_OK)
		fail(transfer, copy->status);
	transfer->out_done = true;
	if (transfer->kind == TRANSFER_MOVE)
		try_finish(transfer);
	else
		finish(transfer);
}

static void was_written(struct disk_op *op)
{
	struct transfer *transfer = container_of(op, struct transfer, op);
	if (op->error < 0) {
		transfer->mover->cache->io_errors++;
		fail(transfer, HBM_IO);
	}
	transfer->out_done = true;
	if (transfer->kind == TRANSFER_MOVE)
		try_finish(transfer);
	else
		finish(transfer);
}

static void step_out(struct transfer *transfer)
{
	const struct tier *to = transfer->to;
	if (to && to->kind == HBM_TIER_NVME) {
		transfer->op = (struct disk_op){.write = true,
						.offset = tier_offset(transfer->to_unit),
						.bytes = transfer->bytes,
						.memory = transfer->host,
						.done = was_written};
		disk_submit(transfer->mover->disk, &transfer->op, transfer->urgent);
	} else if (to && to->kind == HBM_TIER_HBM) {
		aim(transfer, to, transfer->to_unit);
		transfer->copy.host = transfer->host;
		transfer->copy.done = went_out;
		lane_post(lane_of(to->device, LANE_H2D), &transfer->copy, transfer->urgent);
	} else {
		transfer->out_done = true;
		if (transfer->kind == TRANSFER_MOVE)
			try_finish(transfer);
		else
			finish(transfer);
	}
}

static void staged(struct slot_wait *wait, uint32_t unit)
{
	struct transfer *transfer = container_of(wait, struct transfer, wait);
	transfer->staging_unit = unit;
	transfer->host = transfer->mover->cache->staging->host + tier_offset(unit);
	step_in(transfer);
}

/* Where the bytes pass through host memory, and then the first step. The target's slot is held already. */
static void begin(struct transfer *transfer)
{
	const struct tier *from = transfer->from, *to = transfer->to;
	transfer->mover->active++;
	if (from && from->kind == HBM_TIER_DDR) {
		transfer->host = from->host + tier_offset(transfer->from_unit);
		host_is_valid(transfer);
	} else if (to && to->kind == HBM_TIER_DDR) {
		transfer->host = to->host + tier_offset(transfer->to_unit);
		step_in(transfer);
	} else {
		transfer->wait = (struct slot_wait){.bytes = transfer->bytes, .granted = staged};
		tier_wait(transfer->mover->cache->staging, &transfer->wait);
	}
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
		load->number = move->number;
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
				  .mover = mover,
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

static void finish_move(struct transfer *move)
{
	struct mover *mover = move->mover;
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
		if (move->status != HBM_OK)
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
	struct cache *cache = store->mover->cache;
	struct block *block = block_of(store);
	block->flags &= (uint8_t)~BLOCK_MOVING;
	if (store->status == HBM_OK && (block->flags & BLOCK_DROPPED) == 0) {
		tier_place(store->to, store->bytes);
		block->place = store->to->number;
		block->unit = store->to_unit;
		block->flags |= BLOCK_STORED;
		cache_misplaced(cache, store->block);
	} else {
		fail(store, HBM_NO_SPACE);
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
	struct mover *mover = load->mover;
	struct block *block = block_of(load);
	block->readers--;
	if (block->readers == 0 && block->move != 0)
		try_finish(mover->moves[block->move]);
	else
		cache_idle(mover->cache, load->block);
	load->done(load);
}

static void fail_readers(struct transfer *move)
{
	for (struct list *node; (node = list_pop_front(&move->readers)) != NULL;) {
		struct transfer *reader = container_of(node, struct transfer, link);
		fail(reader, move->status);
		reader->done(reader);
	}
}

/* The end of any transfer that was begun. */
static void finish(struct transfer *transfer)
{
	struct mover *mover = transfer->mover;
	mover->active--;
	if (transfer->staging_unit != UINT32_MAX)
		tier_give(mover->cache->staging, transfer->staging_unit, transfer->bytes);
	switch (transfer->kind) {
	case TRANSFER_MOVE:
		fail_readers(transfer);
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

/* ---- stores ---- */

static void slot_for_store(struct slot_wait *wait, uint32_t unit)
{
	struct transfer *store = container_of(wait, struct transfer, wait);
	store->to_unit = unit;
	if ((block_of(store)->flags & BLOCK_DROPPED) != 0) {
		store->mover->active++;
		finish(store);
		return;
	}
	if (store->to->kind != HBM_TIER_HBM || store->to->device != store->device) {
		begin(store);
		return;
	}
	store->mover->active++;
	aim(store, NULL, 0);
	store->copy.flat = store->to->base + tier_offset(unit);
	store->copy.gather = true;
	store->copy.done = went_out;
	lane_post(lane_of(store->device, LANE_D2D), &store->copy, true);
}

void mover_store(struct mover *mover, struct transfer *store)
{
	struct block *block = cache_block(mover->cache, store->block);
	assert(block->tier != 0 && (block->flags & BLOCK_MOVING) != 0);
	store->mover = mover;
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

static void loaded_directly(struct copy *copy)
{
	struct transfer *load = container_of(copy, struct transfer, copy);
	fail(load, copy->status);
	finish(load);
}

static void load_directly(struct transfer *load)
{
	struct block *block = block_of(load);
	block->readers++;
	load->mover->active++;
	aim(load, NULL, 0);
	load->copy.done = loaded_directly;
	if (load->from->kind == HBM_TIER_HBM) {
		load->copy.flat = load->from->base + tier_offset(block->unit);
		lane_post(lane_of(load->device, LANE_D2D), &load->copy, true);
	} else {
		load->copy.host = load->from->host + tier_offset(block->unit);
		lane_post(lane_of(load->device, LANE_H2D), &load->copy, true);
	}
}

static void loaded_from_move(struct copy *copy)
{
	struct transfer *reader = container_of(copy, struct transfer, copy);
	struct transfer *move = reader->mover->moves[reader->number];
	fail(reader, copy->status);
	list_remove(&reader->link);
	reader->done(reader);
	try_finish(move);
}

static void start_reader(struct transfer *reader, struct transfer *move)
{
	aim(reader, NULL, 0);
	reader->copy.host = move->host;
	reader->copy.done = loaded_from_move;
	lane_post(lane_of(reader->device, LANE_H2D), &reader->copy, true);
}

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
	struct mover *mover = load->mover;
	bool fresh;
	struct transfer *move = move_to_host(mover, load->block, &fresh);
	if (!move) {
		block_of(load)->readers++; /* so that the number stays this block's */
		list_push_back(&mover->loads, &load->link);
		return;
	}
	load->number = move->number;
	list_push_back(&move->readers, &load->link);
	if (fresh)
		begin(move);
	else if (move->host_valid)
		start_reader(load, move);
}

static void start_load(struct transfer *load)
{
	struct block *block = block_of(load);
	load->from = &load->mover->cache->tiers[block->place];
	if (load->from->kind == HBM_TIER_DDR || load->from->device == load->device)
		load_directly(load);
	else
		load_through_host(load);
}

void mover_load(struct mover *mover, struct transfer *load)
{
	load->mover = mover;
	load->bytes = cache_bytes(mover->cache, cache_block(mover->cache, load->block));
	load->to = NULL;
	load->staging_unit = UINT32_MAX;
	load->status = HBM_OK;
	list_init(&load->link);
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
		begin(move);
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
	if (!in_pieces && mover->active > 0)
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
	fail(store, HBM_NO_SPACE);
	mover->active++;
	finish(store);
	mover->again = true;
}

void mover_pump(struct mover *mover)
{
	struct cache *cache = mover->cache;
	mover->again = true;
	if (mover->pumping)
		return;
	mover->pumping = true;
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
		for (uint32_t i = 1; i <= cache->nvme->number && !mover->again && mover->active == 0; i++)
			give_up_first(mover, &cache->tiers[i]);
	}
	mover->pumping = false;
	if (mover->disk)
		disk_dispatch(mover->disk);
}

uint64_t mover_active(const struct mover *mover)
{
	return mover->active;
}

int mover_new(struct mover **out, const struct mover_options *options)
{
	struct mover *mover = calloc(1, sizeof(*mover));
	if (!mover)
		return -ENOMEM;
	mover->cache = options->cache;
	mover->devices = options->devices;
	mover->disk = options->disk;
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
