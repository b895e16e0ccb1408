/* SPDX-License-Identifier: Apache-2.0 */
/* store: see store.h. */
#include "client/sequence/store.h"

#include "client/layout.h"
#include "client/sequence/blocks.h"
#include "client/sequence/growth.h"
#include "client/sequence/pool.h"
#include "client/sequence/prefix.h"
#include "client/sequence/sequence.h"
#include "client/sequence/slot.h"

#include <errno.h>
#include <string.h>

struct store {
	struct hbm_sequence *sequence;
	const struct hbm_token_blocks *blocks;
	struct block_batch batch;
	size_t first; /* of the batch */
	enum hbm_tier tier;
};

/* The first token of which every layer still has all. */
static uint64_t store_front(const struct hbm_sequence *sequence)
{
	const struct hbm_pool *pool = sequence->pool;
	uint64_t front = sequence->first;

	for (uint32_t i = 0; i < pool->buffer_count; i++) {
		const uint32_t window = pool->layout->buffers[i].window;

		if (window && sequence->slid > window && sequence->slid - window > front)
			front = sequence->slid - window;
	}

	return front;
}

static int store_check(struct hbm_sequence *sequence, const struct hbm_token_blocks *blocks,
		       size_t first)
{
	struct hbm_pool *pool = sequence->pool;
	int r = hbm_sequence_check(pool, sequence);
	if (r == 0)
		r = hbm_blocks_check(pool, blocks, sequence->tokens);
	if (r)
		return r;
	if (hbm_sequence_layout(sequence) != pool->layout)
		return hbm_pool_fail(pool, HBM_UNSUPPORTED,
				     "blocks of a sequence that has kept a part of its layers or "
				     "heads");
	if (first > blocks->count || first * blocks->block_tokens < store_front(sequence))
		return hbm_pool_fail(pool, HBM_INVALID,
				     "blocks %zu to %zu, of a sequence with tokens %llu to %llu",
				     first, blocks->count,
				     (unsigned long long)store_front(sequence),
				     (unsigned long long)sequence->tokens);

	return 0;
}

/* A block is stored as a whole: a last one of fewer tokens needs memory for the others. */
static int store_grow(struct hbm_sequence *sequence, const struct hbm_token_blocks *blocks)
{
	struct hbm_pool *pool = sequence->pool;
	const uint64_t end = blocks->count * blocks->block_tokens;
	if (hbm_blocks_tokens(blocks, blocks->count) == end)
		return 0;

	hbm_ranges_begin(&pool->grow);
	if (end > sequence->tokens)
		hbm_sequence_gather(sequence, end);
	if (pool->grow.failed)
		return hbm_pool_fail(pool, -ENOMEM, "cannot allocate the ranges of a block");

	int r = hbm_growth_map(pool);
	hbm_sequence_refresh(sequence);

	return r ? hbm_pool_fail_call(pool, r, "memory for the last block") : 0;
}

/* Every slab of a block. */
static void store_lend(struct store *store, size_t i)
{
	struct hbm_pool *pool = store->sequence->pool;
	uint64_t at = 0;

	for (uint32_t k = 0; k < pool->buffer_count; k++) {
		uint64_t offset, bytes;

		hbm_blocks_span(pool, store->blocks, i, k, &offset, &bytes);
		for (const uint64_t end = offset + bytes; offset < end; offset += pool->slab) {
			const struct origin origin = hbm_blocks_origin(pool, store->blocks, i, at);

			hbm_page_lend(pool, &store->sequence->slot->pages, offset, &origin);
			at += pool->slab;
		}
	}
}

/* r: of the request. After an errno the daemon may have done it. */
static void store_note(struct store *store, int r)
{
	for (size_t i = 0; i < store->batch.count; i++) {
		const bool stored = r < 0 || (r == 0 && store->batch.results[i].status == HBM_OK);

		if (stored && store->batch.list[i].lend)
			store_lend(store, store->first + i);
	}
}

/* As many of the blocks as one request takes. */
static int store_batch(struct store *store)
{
	struct hbm_pool *pool = store->sequence->pool;
	struct block_batch *batch = &store->batch;

	batch->count = 0;
	while (batch->count < batch->room && store->first + batch->count < store->blocks->count)
		hbm_batch_add(batch, pool, store->sequence->slot, store->blocks,
			      store->first + batch->count);
	for (size_t i = 0; i < batch->count; i++)
		batch->list[i].tier = store->tier;

	const uint64_t bytes = hbm_blocks_bytes(pool, store->blocks);

	if (!hbm_page_prepare(pool, &store->sequence->slot->pages,
			      batch->count * bytes / pool->slab))
		return hbm_pool_fail(pool, -ENOMEM, "cannot allocate what is lent");

	int r = hbm_store(pool->hbm, store->blocks->ns, batch->list, batch->count, batch->results);
	store_note(store, r);

	return r ? hbm_pool_fail_call(pool, r, "blocks of a sequence") : 0;
}

static int store_all(struct store *store, hbm_result *results)
{
	int r = 0;

	while (r == 0 && store->first < store->blocks->count) {
		r = store_batch(store);
		if (r == 0 && results) {
			memcpy(results, store->batch.results,
			       store->batch.count * sizeof(*results));
			results += store->batch.count;
		}
		store->first += store->batch.count;
	}
	hbm_sequence_refresh(store->sequence);

	return r;
}

int hbm_store_tokens(struct hbm_sequence *sequence, const struct hbm_token_blocks *blocks,
		     size_t first, enum hbm_tier tier, hbm_result *results)
{
	struct hbm_pool *pool = sequence->pool;
	struct store store = {.sequence = sequence, .blocks = blocks, .first = first, .tier = tier};
	int r = store_check(sequence, blocks, first);
	if (r == 0)
		r = hbm_prefix_map(sequence);
	if (r == 0)
		r = store_grow(sequence, blocks);
	if (r)
		return r;

	if (!hbm_batch_open(&store.batch, pool))
		return hbm_pool_fail(pool, -ENOMEM, "cannot allocate the blocks of a sequence");

	r = store_all(&store, results);
	hbm_batch_close(&store.batch);

	return r;
}

int hbm_sequence_store(struct hbm_sequence *sequence, const struct hbm_token_blocks *blocks,
		       size_t first, hbm_result *results)
{
	if (!sequence)
		return HBM_INVALID;

	hbm_pool_lock(sequence->pool);
	int r = hbm_store_tokens(sequence, blocks, first, HBM_TIER_NONE, results);
	hbm_pool_unlock(sequence->pool);

	return r;
}
