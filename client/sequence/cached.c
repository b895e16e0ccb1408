/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cached: a sequence that begins with blocks of the cache. Those that are whole slabs are
 * borrowed and mapped where its tokens are; the others, and those that cannot be lent, are
 * loaded. The mapped slabs keep what is borrowed, so the loans are returned at once.
 *
 * 	open -> find -> borrow -> map -> load -> the sequence has its tokens
 * 	            \____________________/ refused: closed, and all is as before
 *
 * A block may leave the cache at any time. Then the prefix ends in front of it.
 */
#include "client/loan.h"
#include "client/sequence/ahead.h"
#include "client/sequence/backing.h"
#include "client/sequence/blocks.h"
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
	size_t count;            /* of blocks that are there, from the first one on */
	struct hbm_loan **loans; /* of each block; NULL: it is loaded */
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

/* What the daemon does not lend is loaded. */
static bool cached_is_not_lent(int status)
{
	return status == HBM_UNSUPPORTED || status == HBM_NO_SPACE || status == HBM_LIMIT;
}

static int cached_borrow_some(struct cached *cached, size_t first, size_t count)
{
	struct hbm_pool *pool = cached->pool;
	hbm_result results[HBM_WIRE_FDS_MAX];
	int r = hbm_borrow(pool->hbm, cached->blocks->ns, pool->region->device, pool->slab,
			   cached->blocks->keys + first, count, cached->loans + first, results);
	if (r)
		return r;

	for (size_t i = 0; i < count; i++)
		if (results[i].status == HBM_MISS)
			cached_end_at(cached, first + i);

	return 0;
}

static int cached_borrow(struct cached *cached)
{
	struct hbm_pool *pool = cached->pool;
	const uint64_t pieces = hbm_blocks_bytes(pool, cached->blocks) / pool->slab;
	size_t whole = 0;

	while (whole < cached->count && hbm_blocks_is_whole(pool, cached->blocks, whole))
		whole++;
	if (pieces > HBM_WIRE_FDS_MAX)
		return 0;

	for (size_t i = 0; i < whole && i < cached->count;) {
		const size_t most = HBM_WIRE_FDS_MAX / pieces;
		const size_t part = whole - i < most ? whole - i : most;
		int r = cached_borrow_some(cached, i, part);

		if (cached_is_not_lent(r))
			return 0;
		if (r)
			return hbm_pool_fail_call(pool, r, "a cached prefix is not borrowed");
		i += part;
	}

	return 0;
}

/* The mapped slabs stay: what is returned is the right to borrow as much again. */
static void cached_return(struct cached *cached)
{
	size_t count = 0;

	for (size_t i = 0; i < cached->blocks->count; i++)
		if (cached->loans[i])
			cached->loans[count++] = cached->loans[i];
	for (size_t i = 0; i < count; i += CACHED_KEYS) {
		const size_t left = count - i;

		hbm_return(cached->pool->hbm, cached->loans + i,
			   left < CACHED_KEYS ? left : CACHED_KEYS);
	}
}

/* ---- Map ---- */

typedef void cached_span(struct cached *cached, size_t block, uint64_t offset, uint64_t bytes,
			 uint64_t from);

/* Calls for what is borrowed, buffer by buffer: offset in the slot, and in the loan. */
static void cached_each(struct cached *cached, cached_span *call)
{
	uint64_t from = 0;

	for (uint32_t k = 0; k < cached->pool->buffer_count; k++) {
		uint64_t offset, bytes = 0;

		for (size_t i = 0; i < cached->count; i++) {
			hbm_blocks_span(cached->pool, cached->blocks, i, k, &offset, &bytes);
			if (cached->loans[i])
				call(cached, i, offset, bytes, from);
		}
		from += bytes;
	}
}

/* What the slot has of a sequence before. */
static void cached_clear(struct cached *cached, size_t block, uint64_t offset, uint64_t bytes,
			 uint64_t from)
{
	(void)block;
	(void)from;
	hbm_slot_runs(cached->pool, cached->sequence->slot, offset, bytes, true,
		      &cached->pool->shrink);
}

static void cached_gather(struct cached *cached, size_t block, uint64_t offset, uint64_t bytes,
			  uint64_t from)
{
	struct hbm_pool *pool = cached->pool;
	const struct hbm_share share = {
		.loan = cached->loans[block],
		.source_offset = from,
		.target = pool->region,
		.target_offset = hbm_slot_offset(pool, cached->sequence->slot) + offset,
		.bytes = bytes,
		.flags = HBM_SHARE_READ_ONLY,
	};

	pool->shares.slabs += bytes / pool->slab;
	hbm_shares_add(&pool->shares, &share);
}

static void cached_note(struct cached *cached, size_t block, uint64_t offset, uint64_t bytes,
			uint64_t from)
{
	struct hbm_pool *pool = cached->pool;

	for (uint64_t at = 0; at < bytes; at += pool->slab) {
		const struct origin origin =
			hbm_blocks_origin(pool, cached->blocks, block, from + at);

		hbm_page_borrow(pool, &cached->sequence->slot->pages, offset + at, &origin);
	}
}

static int cached_map(struct cached *cached)
{
	struct hbm_pool *pool = cached->pool;

	hbm_ranges_begin(&pool->shrink);
	cached_each(cached, cached_clear);
	hbm_shares_begin(&pool->shares);
	cached_each(cached, cached_gather);
	if (pool->shrink.failed || pool->shares.failed ||
	    !hbm_page_prepare(pool, &cached->sequence->slot->pages, pool->shares.slabs))
		return cached_no_room(pool);

	int r = hbm_backing_decommit(pool);
	if (r)
		return hbm_pool_fail_call(pool, r, "slabs of the sequence before stay mapped");
	r = hbm_backing_share(pool);
	if (r)
		return hbm_pool_fail_call(pool, r, "a cached prefix");

	cached_each(cached, cached_note);

	return 0;
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
		if (cached->loans[*next])
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
	if (r == 0)
		r = cached_borrow(cached);
	if (r == 0)
		r = cached_map(cached);
	if (r == 0)
		r = cached_load(cached);
	if (r == 0)
		r = cached_finish(cached, tokens);
	cached_return(cached);

	return r;
}

static int cached_fill_sequence(struct hbm_sequence *sequence,
				const struct hbm_token_blocks *blocks, uint64_t *tokens)
{
	struct cached cached = {.pool = sequence->pool, .sequence = sequence, .blocks = blocks};
	int r = hbm_blocks_check(cached.pool, blocks, sequence->max);
	if (r)
		return r;

	cached.loans = calloc(blocks->count + 1, sizeof(struct hbm_loan *));
	if (!cached.loans)
		return cached_no_room(cached.pool);

	r = cached_fill(&cached, tokens);
	free(cached.loans);

	return r;
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
