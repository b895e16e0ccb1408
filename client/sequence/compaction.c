/* SPDX-License-Identifier: Apache-2.0 */
/* compaction: see compaction.h. */
#include "client/sequence/compaction.h"

#include "client/sequence/copies.h"
#include "client/sequence/growth.h"
#include "client/sequence/pool.h"
#include "client/sequence/scratch.h"

#define COMPACTION_MOVES 4096 /* so many are queued together */
#define COMPACTION_PIECES 1024
#define COMPACTION_FEW 16             /* moves: copies are as good */
#define COMPACTION_LARGE (1ull << 20) /* bytes of a move that is a copy, if it can be one */

/* ---- By way of scratch ---- */

struct batch {
	struct hbm_pool *pool;
	struct hbm_piece sources[COMPACTION_PIECES], targets[COMPACTION_PIECES];
	size_t count;
	uint64_t bytes;
	bool *moved;
};

static bool batch_flush(struct batch *batch)
{
	struct hbm_pool *pool = batch->pool;
	const uint32_t device = pool->region->device;
	const size_t count = batch->count;
	int r = 0;

	batch->count = 0;
	batch->bytes = 0;
	if (count == 0)
		return true;

	for (unsigned tries = 0; tries == 0 || (r && tries < 2); tries++)
		r = hbm_gather(pool->hbm, device, batch->sources, count, pool->bounce,
			       pool->stream);
	if (r)
		return false;

	*batch->moved = true;
	for (unsigned tries = 0; tries == 0 || (r && tries < 2); tries++)
		r = hbm_scatter(pool->hbm, device, batch->targets, count, pool->bounce,
				pool->stream);

	return r == 0;
}

static bool batch_add(struct batch *batch, const struct move *move)
{
	for (uint64_t at = 0; at < move->bytes;) {
		const uint64_t left = move->bytes - at, room = batch->pool->slab - batch->bytes;
		const uint64_t part = left < room ? left : room;

		batch->sources[batch->count] = (struct hbm_piece){move->source + at, part};
		batch->targets[batch->count++] = (struct hbm_piece){move->target + at, part};
		batch->bytes += part;
		at += part;
		if ((batch->count == COMPACTION_PIECES || batch->bytes == batch->pool->slab) &&
		    !batch_flush(batch))
			return false;
	}

	return true;
}

/* ---- Copies ---- */

/* A copy must not overlap itself: parts are as long as the way they go. */
static bool compaction_copy(struct hbm_pool *pool, const struct move *move, bool *moved)
{
	const uint64_t way = move->source - move->target;

	for (uint64_t at = 0; at < move->bytes; at += way) {
		const uint64_t left = move->bytes - at, part = left < way ? left : way;

		bool queued = hbm_copies_queue(pool, move->target + at, move->source + at, part);

		if (!queued) /* once more */
			queued = hbm_copies_queue(pool, move->target + at, move->source + at, part);
		if (!queued)
			return false;
		*moved = true;
	}

	return true;
}

static bool compaction_is_copy(const struct move *move)
{
	return move->bytes >= COMPACTION_LARGE && move->source - move->target >= move->bytes;
}

/* ---- Both ---- */

bool hbm_compaction_queue(struct hbm_pool *pool, bool *moved)
{
	const struct moves *moves = &pool->moves;
	const bool copies = !pool->bounce || moves->count < COMPACTION_FEW;
	struct batch batch = {.pool = pool, .moved = moved};
	bool done = true;

	for (size_t i = 0; i < moves->count && done; i++) {
		const struct move *move = &moves->list[i];

		if (copies || compaction_is_copy(move))
			done = batch_flush(&batch) && compaction_copy(pool, move, moved);
		else
			done = batch_add(&batch, move);
	}

	return done && batch_flush(&batch);
}

bool hbm_compaction_prepare(struct hbm_pool *pool)
{
	hbm_moves_begin(&pool->moves);

	return hbm_moves_prepare(&pool->moves, COMPACTION_MOVES);
}

bool hbm_compaction_begin(struct hbm_pool *pool)
{
	if (!hbm_compaction_prepare(pool))
		return false;

	hbm_ranges_begin(&pool->grow);
	if (hbm_scratch_open(pool, 1) != 0 || !hbm_copies_prepare(pool))
		return true;

	hbm_ranges_add(&pool->grow, pool->scratch, 0, pool->slab);
	if (!pool->grow.failed && hbm_growth_map(pool) == 0)
		pool->bounce = pool->scratch->address;

	return true;
}

bool hbm_compaction_add(struct hbm_pool *pool, uint64_t target, uint64_t source, uint64_t bytes,
			bool *moved)
{
	if (pool->moves.count == COMPACTION_MOVES) {
		if (!hbm_compaction_queue(pool, moved))
			return false;
		hbm_moves_begin(&pool->moves);
	}
	hbm_moves_add(&pool->moves, target, source, bytes);

	return true;
}

bool hbm_compaction_end(struct hbm_pool *pool)
{
	bool done = hbm_copies_wait(pool);

	if (!done) /* once more */
		done = hbm_copies_wait(pool);

	pool->bounce = 0;
	if (pool->scratch)
		hbm_scratch_empty(pool);

	return done;
}
