/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/move/move.h"

#include "daemon/base/clock.h"

#include <stdlib.h>

#define READERS 512u /* made ready at a time */

static struct blocks *move_blocks(const struct move *move)
{
	return &move->mover->cache->blocks;
}

/* A block in transit to a lost device is intact at its source, and has another target by now
 * or will have; so is one on its way within a tier, unless that is lost. */
static bool move_is_good_at_source(const struct move *move)
{
	const struct tier *to = move->transfer.to.place.tier;
	const struct block *block = block_get(move_blocks(move), move->block);

	return move->transfer.host_valid && to &&
	       (to->lost || block->target != to->number || to == move->transfer.from.place.tier);
}

/* A silent tier did not begin the transfer. */
static void move_settle_cancelled(struct move *move)
{
	struct cache *cache = move->mover->cache;
	if (!move->transfer.host_valid)
		cache_stay(cache, move->block);
	else if (!move_is_good_at_source(move))
		cache_give_up_demotion(cache, move->block);
}

/* A block's checksum is compared when it comes from a disk, and in memory if the daemon before left
 * it; on its way to a disk it is computed if there is none. */
static enum transfer_checksum move_checksum(const struct mover *mover, const struct block *block,
					    const struct tier *from, const struct tier *to)
{
	if (block->unverified && tier_is_memory(from))
		return CHECKSUM_VERIFY;
	if (mover->checksums == CONFIG_CHECKSUM_OFF)
		return CHECKSUM_NONE;

	if (block->checksummed)
		return mover->checksums == CONFIG_CHECKSUM_ALWAYS || tier_has_io(from)
			       ? CHECKSUM_EXPECT
			       : CHECKSUM_NONE;

	return to && tier_has_io(to) ? CHECKSUM_TAKE : CHECKSUM_NONE;
}

/* Applies the end of the transfer to the block. */
static void move_settle(struct move *move)
{
	struct blocks *blocks = move_blocks(move);
	const struct transfer *transfer = &move->transfer;
	struct place to = transfer->to.place;
	bool dropped = block_is_dropped(block_get(blocks, move->block));

	if (to.tier && transfer->status == HBM_OK && !dropped) {
		if (transfer->checksum_mode == CHECKSUM_TAKE)
			block_settle_checksum(blocks, move->block, transfer->checksum);
		if (tier_has_io(to.tier))
			block_settle_stored(blocks, move->block, transfer->nvme_bytes);
		block_placed(blocks, move->block, to);
		return;
	}

	if (to.tier && transfer->status == HBM_IO && transfer->host_valid && tier_has_io(to.tier))
		mover_fail_extent(move->mover, to, transfer->nvme_bytes, transfer->wipe);
	else if (to.tier)
		block_free_extent(blocks, move->block, to, transfer_bytes_at(transfer, to.tier));
	if (transfer->status == HBM_IO && !transfer->host_valid &&
	    tier_has_io(transfer->from.place.tier))
		tier_read_failed(transfer->from.place.tier, transfer->from.place.unit);
	if (transfer->status == HBM_CANCELLED)
		move_settle_cancelled(move);
	else if (transfer->status != HBM_OK && !move_is_good_at_source(move))
		cache_drop(move->mover->cache, move->block);

	block_end_move(blocks, move->block);
}

static void move_fail_readers(struct move *move, int status)
{
	for (struct list *node; (node = list_pop_front(&move->readers)) != NULL;) {
		struct move_reader *reader = container_of(node, struct move_reader, link);
		reader->failed(reader, status == HBM_CANCELLED ? HBM_IO : status);
	}
}

static void move_end(struct move *move)
{
	struct mover *mover = move->mover;

	transfer_release(&move->transfer);
	move_fail_readers(move, move->transfer.status);
	if (move->transfer.status != HBM_OK)
		mover_failed(mover, &move->transfer, move->block);

	list_remove(&move->serving);
	mover->moves[move->number] = NULL;
	mover->vacant[mover->vacant_count++] = move->number;
	move_settle(move);
	list_remove(&move->link);
	io_share_give(&mover->io_share, &move->io_claim);
	ledger_release(&move->charge);
	free(move);
}

static void move_count_held(struct move *move, bool held)
{
	struct transfer *transfer = &move->transfer;
	struct tier *tiers[] = {transfer->from.place.tier, transfer->to.place.tier,
				transfer->staged ? transfer->context->staging : NULL};

	move->held = held;
	transfer->context->held += held ? 1 : UINT64_MAX;
	for (unsigned i = 0; i < 3; i++) {
		if (!tiers[i])
			continue;
		uint64_t bytes =
			i == 2 ? transfer->staged_bytes : transfer_bytes_at(transfer, tiers[i]);
		tiers[i]->held += held ? bytes : -bytes;
	}
}

void move_hold(struct move *move, const struct tier *tier)
{
	if (move->held || move->transfer.at != tier)
		return;

	move_count_held(move, true);
	if (!move->transfer.host_valid && move->transfer.from.place.tier == tier)
		move_fail_readers(move, HBM_IO);
}

void move_release(struct move *move)
{
	if (move->held)
		move_count_held(move, false);
}

void move_try_end(struct move *move)
{
	const struct block *block = block_get(move_blocks(move), move->block);

	if (!move->out || !list_empty(&move->readers) || !list_empty(&move->ready))
		return;

	if (block->users == 0)
		move_end(move);
	else if (tier_is_memory(move->transfer.from.place.tier)) /* a disk is read by moves alone */
		transfer_unstage(&move->transfer);
}

bool move_can_serve(const struct move *move)
{
	return !move->out || move->transfer.host;
}

void move_unuse(struct mover *mover, uint32_t number)
{
	struct blocks *blocks = &mover->cache->blocks;
	struct move *move = mover->moves[block_get(blocks, number)->move];
	bool last = block_get(blocks, number)->users == 1;

	block_unuse(blocks, number);
	if (last && move)
		move_try_end(move);
}

static void move_done(struct transfer *transfer)
{
	struct move *move = container_of(transfer, struct move, transfer);

	move_release(move);
	move->out = true;
	if (transfer->host_valid)
		move_try_end(move);
	else
		move_end(move);
}

/* Makes at most so many readers ready: how many. */
static unsigned move_serve(struct move *move, unsigned most)
{
	unsigned count = 0;

	for (struct list *node; count < most && (node = list_pop_front(&move->readers)); count++) {
		struct move_reader *reader = container_of(node, struct move_reader, link);
		list_push_back(&move->ready, node);
		reader->ready(reader);
	}

	return count;
}

static void move_on_host(struct transfer *transfer)
{
	struct move *move = container_of(transfer, struct move, transfer);

	if (!transfer->at)
		move_release(move);
	move_serve(move, READERS);
	if (!list_empty(&move->readers))
		list_push_back(&move->mover->serving, &move->serving);
}

void move_serve_more(struct mover *mover)
{
	unsigned left = READERS;

	while (left > 0 && !list_empty(&mover->serving)) {
		struct move *move = container_of(mover->serving.next, struct move, serving);
		left -= move_serve(move, left);
		list_remove(&move->serving);
		if (!list_empty(&move->readers))
			list_push_back(&mover->serving, &move->serving);
	}
}

/* What of the transfer the block decides. */
static struct transfer move_transfer(const struct mover *mover, uint32_t number, struct place to)
{
	const struct blocks *blocks = &mover->cache->blocks;
	const struct block *block = block_get(blocks, number);

	return (struct transfer){.from = {.place = block_place(blocks, number)},
				 .to = {.place = to},
				 .bytes = block_bytes(blocks, number),
				 .nvme_bytes = block_stored_bytes(block),
				 .element = block_element(blocks, number),
				 .wipe = block_is_wiped(blocks, number)};
}

static struct io_claim move_claim(const struct mover *mover, bool for_loads, uint32_t number,
				  const struct tier *to)
{
	struct transfer transfer =
		move_transfer(mover, number, (struct place){.tier = (struct tier *)to});
	struct io_claim claim = io_share_claim(transfer.from.place.tier, to,
					       extent_bytes(transfer.bytes), for_loads);

	claim.staged += transfer_coded_room(&transfer);

	return claim;
}

bool move_may_begin(const struct mover *mover, bool for_loads, uint32_t number,
		    const struct tier *to)
{
	struct io_claim claim = move_claim(mover, for_loads, number, to);
	const struct payer *account = for_loads ? &mover->for_loads : &mover->for_policy;
	return io_share_allows(&mover->io_share, &claim, mover->context.staging,
			       ledger_limit(account, LEDGER_MOVES));
}

/* The rest of its transfer. */
static void move_prepare(struct move *move, const struct fair_payer *payer,
			 const struct block *block)
{
	struct transfer *transfer = &move->transfer;

	transfer->context = &move->mover->context;
	transfer->payer = payer ? *payer : (struct fair_payer){0};
	transfer->urgent = payer != NULL;
	transfer->checksum_mode = move_checksum(move->mover, block, transfer->from.place.tier,
						transfer->to.place.tier);
	transfer->checksum = block->checksum;
	transfer->on_host = move_on_host;
	transfer->done = move_done;
}

struct move *move_new(struct mover *mover, const struct fair_payer *payer, uint32_t number,
		      struct place to)
{
	struct payer *account = payer ? &mover->for_loads : &mover->for_policy;
	struct move *move =
		ledger_has_room(account, LEDGER_MOVES, 1) ? malloc(sizeof(*move)) : NULL;
	if (!move)
		return NULL;

	struct blocks *blocks = &mover->cache->blocks;
	const struct block *block = block_get(blocks, number);
	*move = (struct move){
		.transfer = move_transfer(mover, number, to),
		.mover = mover,
		.block = number,
		.io_claim = move_claim(mover, payer != NULL, number, to.tier),
		.number = mover->vacant[--mover->vacant_count],
	};
	move_prepare(move, payer, block);
	list_init(&move->readers);
	list_init(&move->ready);
	list_init(&move->serving);
	list_init(&move->link);
	if (move->io_claim.left) {
		move->begun_ns = clock_now();
		list_push_back(&mover->writes, &move->link);
	}

	io_share_take(&mover->io_share, &move->io_claim);
	ledger_charge_always(&move->charge, account, LEDGER_MOVES, 1);
	mover->moves[move->number] = move;
	block_begin_move(blocks, number, move->number);

	return move;
}

void move_begin(struct move *move)
{
	transfer_begin(&move->transfer);
}

void move_add_reader(struct move *move, struct move_reader *reader, struct fair_payer payer)
{
	reader->move = move;
	list_push_back(&move->readers, &reader->link);
	if (!move->transfer.host_valid)
		transfer_hasten(&move->transfer, payer);
	else if (list_empty(&move->serving))
		move_serve(move, 1);
}
