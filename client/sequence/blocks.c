/* SPDX-License-Identifier: Apache-2.0 */
/* blocks: see blocks.h. */
#include "client/sequence/blocks.h"

#include "client/sequence/pool.h"
#include "client/sequence/slot.h"
#include "daemon/base/checked.h"

#include <stdlib.h>

#define BATCH_HEAD 4096 /* more than a message has beside its blocks */

/* Whether block_tokens can be the size of a block. */
static int blocks_check_size(struct hbm_pool *pool, uint64_t block_tokens)
{
	const struct hbm_layout_options *options = hbm_layout_options(pool->layout);
	struct hbm_layout_facts facts;

	hbm_layout_facts(pool->layout, &facts);
	if (facts.state_bytes)
		return hbm_pool_fail(pool, HBM_UNSUPPORTED,
				     "blocks of tokens, of a layout with states");
	if (block_tokens == 0 || block_tokens > pool->max_tokens)
		return hbm_pool_fail(
			pool, HBM_INVALID, "blocks of %llu tokens, of a layout of %llu",
			(unsigned long long)block_tokens, (unsigned long long)pool->max_tokens);
	if (options->order == HBM_ORDER_BLOCK && block_tokens % options->page_tokens)
		return hbm_pool_fail(pool, HBM_INVALID,
				     "blocks of %llu tokens, of a layout with pages of %u",
				     (unsigned long long)block_tokens, options->page_tokens);

	return 0;
}

int hbm_blocks_check(struct hbm_pool *pool, const struct hbm_token_blocks *blocks, uint64_t max)
{
	uint64_t end;
	int r = blocks_check_size(pool, blocks->block_tokens);
	if (r)
		return r;

	if (blocks->count && !blocks->keys)
		return hbm_pool_fail(pool, HBM_INVALID, "%zu blocks without keys", blocks->count);
	if (!checked_mul(blocks->block_tokens, blocks->count, &end) || end > pool->max_tokens ||
	    hbm_blocks_tokens(blocks, blocks->count) > max)
		return hbm_pool_fail(pool, HBM_INVALID,
				     "%zu blocks of %llu tokens, of a sequence of at most %llu",
				     blocks->count, (unsigned long long)blocks->block_tokens,
				     (unsigned long long)max);
	if (blocks->tokens &&
	    (blocks->tokens > end || end - blocks->tokens >= blocks->block_tokens))
		return hbm_pool_fail(pool, HBM_INVALID, "%llu tokens in %zu blocks of %llu",
				     (unsigned long long)blocks->tokens, blocks->count,
				     (unsigned long long)blocks->block_tokens);

	return 0;
}

uint64_t hbm_blocks_tokens(const struct hbm_token_blocks *blocks, size_t count)
{
	const uint64_t tokens = count * blocks->block_tokens;

	return blocks->tokens && blocks->tokens < tokens ? blocks->tokens : tokens;
}

bool hbm_blocks_is_whole(const struct hbm_pool *pool, const struct hbm_token_blocks *blocks,
			 size_t i)
{
	const uint64_t whole = hbm_layout_block_tokens(pool->layout);

	return whole && blocks->block_tokens % whole == 0 &&
	       hbm_blocks_tokens(blocks, i + 1) == (i + 1) * blocks->block_tokens;
}

uint64_t hbm_blocks_bytes(const struct hbm_pool *pool, const struct hbm_token_blocks *blocks)
{
	struct hbm_layout_facts facts;

	hbm_layout_facts(pool->layout, &facts);

	return facts.token_bytes * blocks->block_tokens;
}

void hbm_blocks_span(const struct hbm_pool *pool, const struct hbm_token_blocks *blocks, size_t i,
		     uint32_t buffer, uint64_t *offset, uint64_t *bytes)
{
	struct hbm_buffer where;

	hbm_layout_buffer(pool->layout, buffer, &where);
	*bytes = blocks->block_tokens * where.token_bytes;
	*offset = where.offset + i * *bytes;
}

struct origin hbm_blocks_origin(const struct hbm_pool *pool, const struct hbm_token_blocks *blocks,
				size_t i, uint64_t at)
{
	return (struct origin){
		.ns = blocks->ns,
		.closes = pool->hbm->closes[blocks->ns % NAMESPACE_BUCKETS],
		.piece = (uint32_t)(at / pool->slab),
		.pieces = (uint32_t)(hbm_blocks_bytes(pool, blocks) / pool->slab),
		.key = blocks->keys[i],
	};
}

int hbm_pool_namespace(struct hbm_pool *pool, const struct hbm_namespace_options *options,
		       uint64_t block_tokens, uint32_t *ns)
{
	struct hbm_namespace_options filled = *options;
	const struct hbm_token_blocks blocks = {.block_tokens = block_tokens};
	char layout[HBM_WIRE_NAME_BYTES];

	hbm_pool_lock(pool);
	int r = blocks_check_size(pool, block_tokens);
	if (r == 0 && options->encoding != HBM_ENCODING_RAW)
		r = hbm_pool_fail(pool, HBM_UNSUPPORTED, "blocks of tokens that are encoded");
	if (r == 0) {
		hbm_layout_fingerprint(pool->layout, layout);
		filled.layout = layout;
		filled.block_bytes = hbm_blocks_bytes(pool, &blocks);
		r = hbm_namespace_open(pool->hbm, &filled, ns);
		if (r)
			r = hbm_pool_fail_call(pool, r, "a namespace for blocks of tokens");
	}
	hbm_pool_unlock(pool);

	return r;
}

/* ---- Requests ---- */

bool hbm_batch_open(struct block_batch *batch, const struct hbm_pool *pool)
{
	const size_t each =
		sizeof(struct hbm_wire_block) + pool->buffer_count * sizeof(struct hbm_wire_range);
	const size_t most = (HBM_WIRE_MESSAGE_MAX - BATCH_HEAD) / each;
	const size_t room = most < BLOCK_BATCH_MAX ? most : BLOCK_BATCH_MAX;

	*batch = (struct block_batch){.room = room ? room : 1};
	batch->list = calloc(batch->room, sizeof(*batch->list));
	batch->results = calloc(batch->room, sizeof(*batch->results));
	batch->segments = calloc(batch->room * pool->buffer_count, sizeof(*batch->segments));
	if (batch->list && batch->results && batch->segments)
		return true;

	hbm_batch_close(batch);

	return false;
}

void hbm_batch_close(struct block_batch *batch)
{
	free(batch->segments);
	free(batch->results);
	free(batch->list);
	*batch = (struct block_batch){0};
}

void hbm_batch_add(struct block_batch *batch, struct hbm_pool *pool, const struct slot *slot,
		   const struct hbm_token_blocks *blocks, size_t i)
{
	struct hbm_segment *segments = &batch->segments[batch->count * pool->buffer_count];
	const uint64_t base = hbm_slot_offset(pool, slot);

	for (uint32_t k = 0; k < pool->buffer_count; k++) {
		segments[k].region = pool->region;
		hbm_blocks_span(pool, blocks, i, k, &segments[k].offset, &segments[k].bytes);
		segments[k].offset += base;
	}

	batch->list[batch->count++] = (struct hbm_block){
		.key = blocks->keys[i],
		.parent = i ? blocks->keys[i - 1] : (hbm_key){{0}},
		.segments = segments,
		.segment_count = pool->buffer_count,
		.lend = hbm_blocks_is_whole(pool, blocks, i),
	};
}
