/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cached: a sequence that begins with blocks of the cache. Those that are whole slabs are
 * borrowed and mapped where its tokens are (borrowing.h); the others, and those that cannot be
 * lent, are loaded.
 *
 * 	open -> find -> borrow -> map -> load -> the sequence has its tokens
 * 	            \____________________/ refused: closed, and all is as before
 *
 * A block may leave the cache at any time. Then the prefix ends in front of it.
 */
#include "client/sequence/ahead.h"
#include "client/sequence/backing.h"
#include "client/sequence/blocks.h"
#include "client/sequence/borrowing.h"
#include "client/sequence/close.h"
#include "client/sequence/credit.h"
#include "client/sequence/growth.h"
#include "client/sequence/mark.h"
#include "client/sequence/pool.h"
#include "client/sequence/sequence.h"
#include "client/sequence/slot.h"

#include <errno.h>
#include <stdlib.h>

#define CACHED_KEYS 4096 /* of one lookup */

struct cached {
	struct hbm_pool *pool;
	struct hbm_sequence *sequence;
	const struct hbm_token_blocks *blocks;
	size_t count; /* of blocks that are there, from the first one on */
	struct borrowing borrowing;
};

static int cached_no_room(struct hbm_pool *pool)
{
	return hbm_pool_fail(pool, -ENOMEM, "cannot allocate a cached prefix");
}

/* The prefix ends in front of that block. */
static void cached_end_at(struct cached *cached, size_t i)
{
	if (i < cached->count)
		cached->count = i;
}

/* ---- Find ---- */

static int cached_find(struct cached *cached)
{
	const struct hbm_token_blocks *blocks = cached->blocks;
	size_t asked = 0;

	while (cached->count == asked && asked < blocks->count) {
		const size_t left = blocks->count - asked;
		const size_t part = left < CACHED_KEYS ? left : CACHED_KEYS;
		struct hbm_lookup answer;
		int r = hbm_lookup(cached->pool->hbm, blocks->ns, blocks->keys + asked, part,
				   &answer, NULL);
		if (r)
			return hbm_pool_fail_call(cached->pool, r, "a cached prefix");

		cached->count += answer.resident;
		asked += part;
	}

	return 0;
}

/* ---- Borrow ---- */

/* Those that are borrowed have loans, the others none. */
static int cached_borrow(struct cached *cached)
{
	struct borrowing *borrowing = &cached->borrowing;

	if (!hbm_borrowing_open(borrowing, cached->sequence, cached->blocks, 0, cached->count))
		return cached_no_room(cached->pool);

	int r = hbm_borrowing_borrow(borrowing);

	cached_end_at(cached, borrowing->end);

	return r ? r : hbm_borrowing_map(borrowing);
}

/* ---- Load ---- */

static int cached_grow(struct cached *cached)
{
	struct hbm_pool *pool = cached->pool;

	hbm_ranges_begin(&pool->grow);
	hbm_sequence_gather(cached->sequence, cached->count * cached->blocks->block_tokens);
	if (pool->grow.failed)
		return cached_no_room(pool);

	int r = hbm_growth_map(pool);

	return r ? hbm_pool_fail_call(pool, r, "memory for a cached prefix") : 0;
}

/* Loads blocks from *next on that are not borrowed, as many as one request takes. */
static int cached_load_some(struct cached *cached, struct block_batch *batch, size_t *next)
{
	struct hbm_pool *pool = cached->pool;
	size_t which[BLOCK_BATCH_MAX];

	batch->count = 0;
	for (; *next < cached->count && batch->count < batch->room; (*next)++) {
		if (cached->borrowing.loans[*next])
			continue;
		which[batch->count] = *next;
		hbm_batch_add(batch, pool, cached->sequence->slot, cached->blocks, *next);
		batch->list[batch->count - 1].parent = (hbm_key){{0}};
		batch->list[batch->count - 1].lend = false;
	}
	if (batch->count == 0)
		return 0;

	int r = hbm_load(pool->hbm, cached->blocks->ns, batch->list, batch->count, batch->results);
	if (r)
		return hbm_pool_fail_call(pool, r, "blocks of a cached prefix");

	for (size_t i = 0; i < batch->count; i++)
		if (batch->results[i].status != HBM_OK)
			cached_end_at(cached, which[i]);

	return 0;
}

static int cached_load(struct cached *cached)
{
	struct block_batch batch;
	size_t next = 0;
	int r = cached_grow(cached);
	if (r)
		return r;
	if (!hbm_batch_open(&batch, cached->pool))
		return cached_no_room(cached->pool);

	while (r == 0 && next < cached->count)
		r = cached_load_some(cached, &batch, &next);
	hbm_batch_close(&batch);

	return r;
}

/* ---- The end ---- */

/* What was borrowed behind a block that has gone. It is copied when it is grown into, should
 * the device refuse to unmap it. */
static void cached_cut(struct cached *cached, uint64_t tokens)
{
	struct hbm_pool *pool = cached->pool;

	hbm_ranges_begin(&pool->shrink);
	hbm_sequence_shared_beyond(cached->sequence, tokens,
				   cached->blocks->count * cached->blocks->block_tokens);
	if (pool->shrink.count > 0)
		hbm_backing_decommit(pool);
}

static int cached_finish(struct cached *cached, uint64_t *out)
{
	const uint64_t tokens = hbm_blocks_tokens(cached->blocks, cached->count);

	cached_cut(cached, tokens);
	cached->sequence->tokens = tokens;
	hbm_sequence_refresh(cached->sequence);
	hbm_mark_set(cached->pool, cached->sequence->index);
	hbm_ahead_wake(cached->pool);
	*out = tokens;

	return hbm_credit_settle(cached->pool, &cached->sequence, 1);
}

static int cached_fill(struct cached *cached, uint64_t *tokens)
{
	int r = cached_find(cached);
	if (r)
		return r;

	r = cached_borrow(cached);
	if (r == 0)
		r = cached_load(cached);
	if (r == 0)
		r = cached_finish(cached, tokens);
	hbm_borrowing_close(&cached->borrowing);

	return r;
}

static int cached_fill_sequence(struct hbm_sequence *sequence,
				const struct hbm_token_blocks *blocks, uint64_t *tokens)
{
	struct cached cached = {.pool = sequence->pool, .sequence = sequence, .blocks = blocks};
	int r = hbm_blocks_check(cached.pool, blocks, sequence->max);

	return r ? r : cached_fill(&cached, tokens);
}

int hbm_sequence_open_cached(struct hbm_pool *pool, const struct hbm_sequence_options *options,
			     const struct hbm_token_blocks *blocks, struct hbm_sequence **out,
			     uint64_t *tokens)
{
	struct hbm_sequence *sequence;
	int r = hbm_sequence_open(pool, options, &sequence);
	if (r)
		return r;

	hbm_pool_lock(pool);
	r = cached_fill_sequence(sequence, blocks, tokens);
	hbm_pool_unlock(pool);
	if (r)
		return hbm_sequence_abandon(sequence, r);

	*out = sequence;

	return 0;
}
