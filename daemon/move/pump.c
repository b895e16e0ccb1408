/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/move/pump.h"

#include <assert.h>

#include "daemon/base/clock.h"
#include "daemon/base/link_stats.h"
#include "daemon/loop/loop.h"
#include "daemon/move/load.h"
#include "daemon/move/move.h"
#include "daemon/move/store.h"
#include "daemon/move/wiper.h"

#define DROP_SLICE 64    /* steps */
#define PUMP_BLOCKS 1024 /* of each queue that are passed in one go */
#define PUMP_ROUNDS 256  /* in one go, in each of which a block may be evicted */
#define PUMP_MOVES 8     /* that begin in one go, which takes as long */
#define PUMP_LATE 256    /* blocks that are dropped in one go as the disk is behind */

static bool pump_may_start(const struct mover *mover, uint32_t number, const struct tier *tier)
{
	const struct block *block = cache_block(mover->cache, number);

	return block->state == BLOCK_RESIDENT && block->target == tier->number &&
	       block->actual != tier->number;
}

/* ---- what waits ---- */

static double pump_bandwidth(const struct mover *mover)
{
	return mover->link_stats ? link_stats_bandwidth(mover->link_stats, HBM_LINK_NVME_READ) : 0;
}

/* The block that is to be moved to a tier next: of those with a deadline and those on its
 * inbound queue by turns. 0: none waits. */
static uint32_t pump_next(struct mover *mover, const struct tier *tier)
{
	struct due_moves *due = &mover->due[tier->number];
	uint32_t number = 0;

	if (!fair_queue_empty(&due->turns) && (!due->others_turn || tier->inbound_first == 0))
		number = due_moves_next(due, clock_now(), pump_bandwidth(mover));

	return number != 0 ? number : tier->inbound_first;
}

/* It waits no more. */
static void pump_take(struct mover *mover, struct tier *tier, uint32_t number)
{
	struct due_moves *due = &mover->due[tier->number];

	due->others_turn = number != tier->inbound_first;
	if (number == tier->inbound_first) {
		block_unqueue(&mover->cache->blocks, tier);
	} else {
		due_moves_take(due);
		block_end_wait(&mover->cache->blocks, number);
	}
}

/* Begins the move of a block to a tier: false if there is no extent for it, or never will be
 * because the tier is lost, or a disk has its share. */
static bool pump_start_move(struct mover *mover, struct tier *tier, uint32_t number)
{
	struct cache *cache = mover->cache;
	uint64_t bytes = block_bytes_in(&cache->blocks, number, tier);
	if (tier->lost || !move_may_begin(mover, false, number, tier))
		return false;

	const struct tier *from = block_place(&cache->blocks, number).tier;
	struct place to = {tier, tier_alloc_near(tier, bytes, from ? from->device : NULL)};
	if (to.unit == UINT32_MAX)
		return false;

	struct move *move = move_new(mover, NULL, number, to);
	if (!move) {
		tier_free(tier, to.unit, bytes);
		cache_drop(cache, number);
	}

	pump_take(mover, tier, number);

	if (move) {
		load_attach_waiting(move);
		move_begin(move);
	}

	return true;
}

/* Gives up the move of a block to a tier if it cannot be made: the tier it would go to is
 * silent, or the one it is in. To be followed by settling. */
static bool pump_give_up(struct mover *mover, struct tier *tier, uint32_t number)
{
	struct cache *cache = mover->cache;
	if (tier->silent)
		cache_give_up_demotion(cache, number);
	else if (block_place(&cache->blocks, number).tier->silent)
		cache_stay(cache, number);
	else
		return false;

	pump_take(mover, tier, number);

	return true;
}

/* Begins moves until none can begin, or it has taken long enough. */
static void pump_start_inbound(struct mover *mover, struct tier *tier)
{
	uint32_t number = 0;
	bool gave_up = false;
	int left = PUMP_BLOCKS;

	for (; left > 0 && (number = pump_next(mover, tier)) != 0; left--) {
		if (!pump_may_start(mover, number, tier) ||
		    block_take_copy(&mover->cache->blocks, number))
			pump_take(mover, tier, number);
		else if (pump_give_up(mover, tier, number))
			gave_up = true;
		else {
			if (!ledger_has_room(&mover->for_policy, LEDGER_MOVES, 1) ||
			    !pump_start_move(mover, tier, number))
				break;
			left -= PUMP_BLOCKS / PUMP_MOVES - 1;
			continue;
		}

		mover->again = true; /* its queue may have had its turn already */
	}

	if (gave_up)
		cache_settle_soon(mover->cache);

	mover->cut |= left <= 0 && pump_next(mover, tier) != 0;
}

static uint64_t pump_wanted(struct mover *mover, struct tier *tier)
{
	const struct extent_request *wait = tier_waiting(tier);
	if (wait)
		return wait->bytes;

	uint32_t number = pump_next(mover, tier);
	return number != 0 ? block_bytes_in(&mover->cache->blocks, number, tier) : 0;
}

/* Evicts one more block if something waits for an extent and no transfer in flight will
 * free one: the free space is in pieces that are too small, or there is no headroom. */
static void pump_make_room(struct mover *mover, struct tier *tier)
{
	uint64_t bytes = pump_wanted(mover, tier);
	uint64_t held = tier->held + (tier->left.failing ? tier->left.bytes : 0);
	if (bytes == 0 || tier->lost || tier->moving > held ||
	    extent_largest(tier->extents) >= bytes)
		return;

	/* An allocation has taken only some of the copies that lie between. */
	if (tier_reclaim(tier, bytes)) {
		mover->again = true;
		return;
	}

	bool in_pieces = extent_available(tier->extents) >= bytes;
	if (!in_pieces && !mover_is_idle(mover))
		return;

	if (cache_push_out(mover->cache, tier, 1, 1).blocks > 0)
		mover->again = true;
}

/* Refuses the store that waits for an extent: nothing is in flight and nothing can be
 * evicted, so what is left is pinned. */
static void pump_refuse_first(struct mover *mover, struct tier *tier)
{
	struct extent_request *wait = tier_take_waiting(tier);
	if (!wait)
		return;

	store_refuse(wait);
	mover->again = true;
}

/* ---- a disk that is behind ---- */

static bool pump_store_waits(const struct cache *cache)
{
	for (uint32_t i = 1; i <= cache->tier_count; i++)
		if (!fair_queue_empty(&cache->tiers[i].waiting))
			return true;
	return false;
}

static bool pump_write_is_late(const struct mover *mover)
{
	if (mover->late_ns == 0 || list_empty(&mover->writes))
		return false;

	const struct move *oldest = container_of(mover->writes.next, struct move, link);
	return clock_now() - oldest->begun_ns >= mover->late_ns;
}

/* Whether something needs an extent of the tier and there is none. */
static bool pump_lacks_extents(struct mover *mover, struct tier *tier)
{
	return extent_largest(tier->extents) < pump_wanted(mover, tier);
}

static bool pump_may_drop_late(struct mover *mover, const struct tier *tier)
{
	uint32_t number = tier->inbound_first;

	return number != 0 && pump_may_start(mover, number, tier) &&
	       pump_lacks_extents(mover, block_place(&mover->cache->blocks, number).tier);
}

/* Drops blocks that wait to be written, the first first, while a store waits for what they
 * keep and the disk is behind. */
static void pump_drop_late(struct mover *mover, struct tier *tier)
{
	struct cache *cache = mover->cache;
	if (tier->inbound_first == 0 || !tier_has_io(tier) || !pump_store_waits(cache) ||
	    !pump_write_is_late(mover))
		return;

	for (int left = PUMP_LATE; pump_may_drop_late(mover, tier); left--) {
		if (left == 0) {
			mover->cut = true;
			break;
		}

		cache_give_up_demotion(cache, tier->inbound_first);
		block_unqueue(&cache->blocks, tier);
		mover->again = true;
	}

	cache_settle_soon(cache);
}

/* ---- running ---- */

static void pump_once(struct mover *mover)
{
	struct cache *cache = mover->cache;

	wiper_run(mover->wiper);
	tier_serve(mover->context.staging);
	load_retry_waiting(mover);

	for (uint32_t i = 1; i <= cache->tier_count; i++) {
		tier_serve(&cache->tiers[i]);
		pump_start_inbound(mover, &cache->tiers[i]);
	}

	/* Until all that can begin has begun, it is not known what lacks an extent. */
	if (mover->cut)
		return;

	for (uint32_t i = 1; i <= cache->tier_count; i++)
		pump_drop_late(mover, &cache->tiers[i]);
	for (uint32_t i = 1; i <= cache->tier_count; i++)
		pump_make_room(mover, &cache->tiers[i]);
	for (uint32_t i = 1; i <= cache->tier_count; i++)
		if (!mover->again && mover_is_idle(mover) && !tier_will_free_left(&cache->tiers[i]))
			pump_refuse_first(mover, &cache->tiers[i]);
}

/* The promise of pump.h: if something waits for an extent, a transfer is active that will
 * end, or a flush of records. */
static bool pump_can_go_on(const struct mover *mover)
{
	const struct cache *cache = mover->cache;

	for (uint32_t i = 1; i <= cache->tier_count; i++)
		if (!fair_queue_empty(&cache->tiers[i].waiting) && mover_is_idle(mover) &&
		    !tier_will_free_left(&cache->tiers[i]))
			return false;

	return true;
}

static void pump_flush(struct mover *mover)
{
	for (uint32_t i = 1; i <= mover->cache->tier_count; i++) {
		const struct tier *tier = &mover->cache->tiers[i];
		if (tier->ops && tier->ops->flush)
			tier->ops->flush(tier);
	}
}

void pump_run(struct mover *mover)
{
	mover->again = true;
	if (mover->pumping)
		return;

	mover->pumping = true;
	mover->cut = false;
	mover_give_up_lost_devices(mover);
	move_serve_more(mover);

	for (unsigned round = 0; mover->again && !mover->cut; round++) {
		mover->again = false;
		pump_once(mover);
		mover->cut |= mover->again && round == PUMP_ROUNDS;
	}

	assert(mover->cut || pump_can_go_on(mover));
	mover->pumping = false;
	pump_flush(mover);
	if (mover->cut)
		loop_background(mover->loop, &mover->rest);
}

static void pump_batch_done(void *arg)
{
	pump_run(arg);
}

/* ---- what is left to later turns ---- */

static bool pump_go_on(struct background *background)
{
	struct mover *mover = container_of(background, struct mover, rest);
	bool more = cache_drop_pending(mover->cache, DROP_SLICE);

	more |= cache_settle_rest(mover->cache);

	pump_run(mover);

	return more;
}

void pump_soon(struct mover *mover)
{
	loop_background(mover->loop, &mover->rest);
}

static void pump_drop_later(void *arg)
{
	pump_soon(arg);
}

void pump_start(struct mover *mover, struct loop *loop)
{
	mover->loop = loop;
	mover->rest.run = pump_go_on;
	mover->cache->drops.pending = pump_drop_later;
	mover->cache->drops.arg = mover;
	mover_listen(mover, pump_batch_done);
}
