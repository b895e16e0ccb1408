/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/move/vacate.h"

#include "daemon/base/clock.h"
#include "daemon/loop/loop.h"
#include "daemon/move/load.h"
#include "daemon/move/move.h"
#include "daemon/move/pump.h"
#include "daemon/tier/tier_resize.h"

#define MS UINT64_C(1000000)
#define WALK_BLOCKS 1024   /* looked at in a slice */
#define WALK_MOVES 8       /* that begin in one, which takes as long */
#define ROOM_NS (1 * MS)   /* until it looks for an extent again */
#define WAITS 100          /* for room, before a victim makes some */
#define AGAIN_NS (20 * MS) /* until it walks again, which may be over very many blocks */

enum outcome { PASSED, BEGUN, NO_ROOM };

static void vacate_wait(struct vacate *vacate, uint64_t ns)
{
	loop_timer_set(vacate->mover->loop, &vacate->again, clock_now() + ns);
}

/* Whether its bytes lie in what is retired, and nothing else takes them away. */
static bool vacate_wants(const struct vacate *vacate, uint32_t number)
{
	const struct blocks *blocks = &vacate->mover->cache->blocks;
	const struct tier *tier = vacate->tier;
	const struct block *block = block_get(blocks, number);

	return block->state == BLOCK_RESIDENT && block->actual == tier->number &&
	       block->target == tier->number &&
	       tier_is_retired(tier, block->unit, block_bytes_in(blocks, number, tier));
}

static void vacate_drop_copy(struct vacate *vacate, uint32_t number)
{
	struct blocks *blocks = &vacate->mover->cache->blocks;

	if (block_get(blocks, number)->copied && blocks->copies.tier == vacate->tier &&
	    tier_is_retired(vacate->tier, copies_unit(&blocks->copies, number),
			    block_bytes_in(blocks, number, vacate->tier)))
		block_drop_copy(blocks, number);
}

/* Whether there will be room for the extent that one more block leaves. */
static bool vacate_may_leave(const struct vacate *vacate)
{
	return left_extents_have_room(&vacate->tier->left, mover_moves(vacate->mover) + 1);
}

static enum outcome vacate_move(struct vacate *vacate, uint32_t number)
{
	struct mover *mover = vacate->mover;
	struct tier *tier = vacate->tier;
	uint64_t bytes = block_bytes_in(&mover->cache->blocks, number, tier);
	if (tier->silent || tier->lost || !ledger_has_room(&mover->for_policy, LEDGER_MOVES, 1) ||
	    !move_may_begin(mover, false, number, tier) || !vacate_may_leave(vacate))
		return NO_ROOM;

	struct place to = {tier, tier_alloc(tier, bytes)};
	if (to.unit == UINT32_MAX)
		return NO_ROOM;

	struct move *move = move_new(mover, NULL, number, to);
	if (!move) {
		tier_free(tier, to.unit, bytes);
		return NO_ROOM;
	}

	load_attach_waiting(move);
	move_begin(move);

	return BEGUN;
}

/* Nothing will give an extent of the tier back by itself. */
static bool vacate_is_at_rest(const struct vacate *vacate)
{
	const struct tier *tier = vacate->tier;

	return tier->moving == tier->held && tier->wipes.bytes == 0;
}

static void vacate_stop_at(struct vacate *vacate, enum vacate_end end)
{
	vacate->end = end;
	vacate->done(vacate);
}

/* No extent is free, or no move: what moves gives some back, else the next victim does. Where
 * others take what moves give back, it does so all the same. What waits for the records to be flushed
 * gets nothing by a victim. */
static void vacate_make_room(struct vacate *vacate)
{
	struct mover *mover = vacate->mover;
	bool none = false;

	pump_run(mover);
	if (!vacate_may_leave(vacate)) {
		vacate_wait(vacate, ROOM_NS);
		return;
	}
	if (vacate_is_at_rest(vacate) || ++vacate->waited > WAITS) {
		none = cache_push_out(mover->cache, vacate->tier, 1, 1).blocks == 0;
		vacate->waited = 0;
		pump_run(mover);
	}

	vacate->stuck = none && vacate_is_at_rest(vacate) ? vacate->stuck + 1 : 0;
	if (vacate->stuck > 0 && (mover_is_idle(mover) || vacate->stuck > WAITS))
		vacate_stop_at(vacate, VACATE_PINNED);
	else
		vacate_wait(vacate, ROOM_NS);
}

/* What will not be better by waiting. */
static enum vacate_end vacate_is_in_vain(const struct vacate *vacate)
{
	const struct tier *tier = vacate->tier;

	if (extent_retiring(tier->extents) == 0)
		return VACATE_AWAY;
	if (tier->lost || tier->silent)
		return VACATE_LOST;

	return tier->left.failing ? VACATE_UNRECORDED : VACATE_AWAY;
}

/* The walk has looked at all blocks. */
static void vacate_end_walk(struct vacate *vacate)
{
	vacate->next = 1;
	pump_run(vacate->mover);

	uint64_t retiring = extent_retiring(vacate->tier->extents);

	if (retiring > 0 && retiring <= tier_retired_failed(vacate->tier))
		vacate_stop_at(vacate, VACATE_FAILED);
	else if (retiring > 0)
		vacate_wait(vacate, AGAIN_NS);
	else
		vacate_stop_at(vacate, VACATE_AWAY);
}

static bool vacate_walk(struct background *background)
{
	struct vacate *vacate = container_of(background, struct vacate, walk);
	const struct index *index = vacate->mover->cache->index;
	enum vacate_end end = vacate_is_in_vain(vacate);

	if (end != VACATE_AWAY) {
		vacate_stop_at(vacate, end);
		return false;
	}
	if (tier_sort_some(vacate->tier, WALK_BLOCKS))
		return true;

	for (int left = WALK_BLOCKS; left > 0; left--, vacate->next++) {
		uint32_t number = vacate->next;
		if (number > index_highest(index) || extent_retiring(vacate->tier->extents) == 0) {
			vacate_end_walk(vacate);
			return false;
		}
		if (!index_used(index, number))
			continue;

		vacate_drop_copy(vacate, number);
		enum outcome outcome =
			vacate_wants(vacate, number) ? vacate_move(vacate, number) : PASSED;
		if (outcome == NO_ROOM) {
			vacate_make_room(vacate);
			return false;
		}
		if (outcome == BEGUN) {
			vacate->waited = vacate->stuck = 0;
			left -= WALK_BLOCKS / WALK_MOVES - 1;
		}
	}

	pump_run(vacate->mover);

	return true;
}

static void vacate_again(struct timer *timer)
{
	struct vacate *vacate = container_of(timer, struct vacate, again);

	loop_background(vacate->mover->loop, &vacate->walk);
}

void vacate_begin(struct vacate *vacate, struct mover *mover, struct tier *tier,
		  void (*done)(struct vacate *vacate))
{
	*vacate = (struct vacate){.mover = mover,
				  .tier = tier,
				  .walk.run = vacate_walk,
				  .again.fire = vacate_again,
				  .next = 1,
				  .done = done};
	loop_background(mover->loop, &vacate->walk);
}

void vacate_stop(struct vacate *vacate)
{
	if (!vacate->mover)
		return;

	loop_background_stop(&vacate->walk);
	loop_timer_stop(vacate->mover->loop, &vacate->again);
}
