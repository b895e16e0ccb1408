/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/move/load.h"

#include <stddef.h>

static struct blocks *load_blocks(const struct load *load)
{
	return &load->mover->cache->blocks;
}

/* ---- from the block's place ---- */

/* The first use of bytes that the daemon before left. */
static void load_verified(const struct load *load)
{
	if (load->transfer.host_valid)
		block_verified(load_blocks(load), load->block);
	else
		cache_drop(load->mover->cache, load->block);
}

static void load_copied(struct transfer *transfer)
{
	struct load *load = container_of(transfer, struct load, transfer);

	transfer_release(transfer);
	if (transfer->status != HBM_OK)
		mover_failed(load->mover, transfer, load->block);
	if (transfer->checksum_mode == CHECKSUM_VERIFY)
		load_verified(load);

	move_unuse(load->mover, load->block);
	load->done(load);
}

static void load_from_place(struct load *load, struct place place)
{
	const struct block *block = block_get(load_blocks(load), load->block);

	block_use(load_blocks(load), load->block);
	load->transfer.from.place = place;
	if (block->unverified) {
		load->transfer.checksum_mode = CHECKSUM_VERIFY;
		load->transfer.checksum = block->checksum;
	}
	load->transfer.done = load_copied;
	transfer_begin(&load->transfer);
}

/* ---- from a move's host memory ---- */

static void load_served(struct transfer *transfer)
{
	struct load *load = container_of(transfer, struct load, transfer);
	struct move *move = load->reader.move;

	transfer_release(transfer);
	if (transfer->status != HBM_OK)
		mover_failed(load->mover, transfer, load->block);
	if (transfer->late)
		transfer_keep(&move->transfer, transfer->late);

	list_remove(&load->reader.link);
	load->done(load);
	move_try_end(move);
}

static void load_serve(struct move_reader *reader)
{
	struct load *load = container_of(reader, struct load, reader);

	load->transfer.from.host = reader->move->transfer.host;
	load->transfer.done = load_served;
	transfer_begin(&load->transfer);
}

static void load_move_failed(struct move_reader *reader, int status)
{
	struct load *load = container_of(reader, struct load, reader);

	transfer_fail(&load->transfer, status);
	load->done(load);
}

/* Where a move that it begins is to go: to the block's target, unless it has none any more,
 * or a lost one. NULL: no further than host memory. */
static struct tier *load_target(const struct load *load)
{
	const struct block *block = block_get(load_blocks(load), load->block);
	if (block->target == block->actual)
		return NULL;

	struct tier *to = block_target(load_blocks(load), load->block);

	return to && to->lost ? NULL : to;
}

static bool load_may_begin_move(const struct load *load)
{
	return move_may_begin(load->mover, true, load->block, load_target(load));
}

/* Finds the move in flight to read from, or makes one: to its target if an extent is free
 * there now. */
static struct move *load_find_move(struct load *load, bool *fresh)
{
	struct mover *mover = load->mover;
	const struct block *block = block_get(load_blocks(load), load->block);

	*fresh = block->move == 0;
	if (!*fresh)
		return mover->moves[block->move];

	struct place to = {.tier = load_target(load)};
	if (!load_may_begin_move(load))
		return NULL;
	if (to.tier)
		to.unit = tier_alloc_near(to.tier,
					  block_bytes_in(load_blocks(load), load->block, to.tier),
					  load->device);
	if (to.unit == UINT32_MAX)
		to.tier = NULL;
	if (!to.tier && !move_may_begin(mover, true, load->block, NULL))
		return NULL;

	struct move *move = move_new(mover, &load->payer, load->block, to);
	if (!move && to.tier)
		tier_free(to.tier, to.unit,
			  block_bytes_in(load_blocks(load), load->block, to.tier));

	return move;
}

/* False: there may be no move; the load waits for one. */
static bool load_through_host(struct load *load)
{
	bool fresh;
	struct move *move = load_find_move(load, &fresh);
	if (!move) {
		block_use(load_blocks(load),
			  load->block); /* keeps the block's number from being reused */
		waiting_loads_add(&load->mover->loads, &load->waiting, load->block, load->payer,
				  load->transfer.bytes);
		return false;
	}

	if (fresh)
		load_attach_waiting(move);

	move_add_reader(move, &load->reader, load->payer);
	if (fresh)
		move_begin(move);

	return true;
}

/* ---- begin ---- */

static bool load_may_start(const struct load *load)
{
	struct blocks *blocks = load_blocks(load);

	return tier_reaches(block_place(blocks, load->block).tier, load->device) ||
	       block_get(blocks, load->block)->move != 0 || load_may_begin_move(load);
}

static bool load_start(struct load *load)
{
	struct place place = block_place(load_blocks(load), load->block);
	const struct move *move =
		load->mover->moves[block_get(load_blocks(load), load->block)->move];
	if (!tier_reaches(place.tier, load->device) && (!move || move_can_serve(move)))
		return load_through_host(load);

	load_from_place(load, place);

	return true;
}

/* Makes what the load needs when it does not wait. */
static void load_prepare(struct load *load)
{
	load->transfer = (struct transfer){
		.context = &load->mover->context,
		.to = {.device = load->device,
		       .spans = load->spans,
		       .span_count = load->span_count},
		.bytes = block_bytes(load_blocks(load), load->block),
		.wipe = block_is_wiped(load_blocks(load), load->block),
		.payer = load->payer,
		.urgent = true,
	};
	load->reader = (struct move_reader){.ready = load_serve, .failed = load_move_failed};
}

void load_begin(struct mover *mover, struct load *load)
{
	load->mover = mover;
	load_prepare(load);
	load_start(load);
}

/* Of loads that have been taken out of those that wait. */
static struct load *load_pop(struct list *taken)
{
	struct list *node = list_pop_front(taken);
	struct load *load = node ? container_of(node, struct load, waiting.link) : NULL;
	if (load)
		load_prepare(load);

	return load;
}

void load_attach_waiting(struct move *move)
{
	struct mover *mover = move->mover;
	struct list taken = LIST_INIT(taken);
	if (block_get(&mover->cache->blocks, move->block)->users == 0)
		return;

	waiting_loads_take(&mover->loads, move->block, &taken);

	for (struct load *load; (load = load_pop(&taken));) {
		move_unuse(load->mover, load->block);
		move_add_reader(move, &load->reader, load->payer);
	}
}

/* Starts loads of one block that have been taken. False: one of them waits again. */
static bool load_start_all(struct mover *mover, struct list *taken)
{
	bool started = true;

	for (struct load *load; (load = load_pop(taken));) {
		uint32_t number = load->block;

		started = load_start(load) && started;
		move_unuse(mover, number);
	}

	return started;
}

void load_fail_waiting(struct mover *mover)
{
	struct list all = LIST_INIT(all), taken = LIST_INIT(taken);

	while (!waiting_loads_empty(&mover->loads)) {
		waiting_loads_take_next(&mover->loads, &taken);
		for (struct list *node; (node = list_pop_front(&taken));)
			list_push_back(&all, node);
	}

	for (struct load *load; (load = load_pop(&all));) {
		uint32_t number = load->block;
		if (!block_place(load_blocks(load), number).tier->silent) {
			load_start(load);
			move_unuse(mover, number);
			continue;
		}

		move_unuse(mover, number);
		transfer_fail(&load->transfer, HBM_IO);
		load->done(load);
	}
}

void load_retry_waiting(struct mover *mover)
{
	const struct waiting_load *next;

	while (ledger_has_room(&mover->for_loads, LEDGER_MOVES, 1) &&
	       (next = waiting_loads_next(&mover->loads))) {
		struct list taken = LIST_INIT(taken);
		if (!load_may_start(container_of(next, struct load, waiting)))
			return;

		waiting_loads_take_next(&mover->loads, &taken);
		if (!load_start_all(mover, &taken)) /* no memory for its move: retry later */
			return;
	}
}
