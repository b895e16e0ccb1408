/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blocks: the tokens of a sequence as blocks of the cache: where the bytes of a block are in a
 * slot, and which blocks are whole slabs.
 *
 * The bytes of a block are those of its tokens in the first buffer, then in the second, and so
 * on: one segment for each. In block order, tokens of a page do not lie one after the other,
 * so a block is a whole number of pages.
 */
#pragma once

#include "client/sequence/origin.h"

#include <hbm/sequence.h>

struct hbm_pool;
struct slot;

#define BLOCK_BATCH_MAX 256

/* Blocks of one request, at most BLOCK_BATCH_MAX. */
struct block_batch {
	struct hbm_block *list;
	struct hbm_segment *segments;
	hbm_result *results;
	size_t room, count;
};

/* HBM_INVALID or HBM_UNSUPPORTED, with the pool's line, if these are no blocks of a sequence of
 * at most `max` tokens. */
int hbm_blocks_check(struct hbm_pool *pool, const struct hbm_token_blocks *blocks, uint64_t max);
/* The tokens of the first `count` of them. */
uint64_t hbm_blocks_tokens(const struct hbm_token_blocks *blocks, size_t count);
/* Whether a block is whole slabs, all of whose bytes are of its tokens. */
bool hbm_blocks_is_whole(const struct hbm_pool *pool, const struct hbm_token_blocks *blocks,
			 size_t i);
uint64_t hbm_blocks_bytes(const struct hbm_pool *pool, const struct hbm_token_blocks *blocks);
/* The bytes of a block in a buffer: offset in a slot. */
void hbm_blocks_span(const struct hbm_pool *pool, const struct hbm_token_blocks *blocks, size_t i,
		     uint32_t buffer, uint64_t *offset, uint64_t *bytes);

/* The slab at that byte of a block that is whole slabs. */
struct origin hbm_blocks_origin(const struct hbm_pool *pool, const struct hbm_token_blocks *blocks,
				size_t i, uint64_t at);

/* As many as a request may have. False: no memory. */
bool hbm_batch_open(struct block_batch *batch, const struct hbm_pool *pool);
void hbm_batch_close(struct block_batch *batch);
/* Adds block i, as it lies in a slot; there is room. */
void hbm_batch_add(struct block_batch *batch, struct hbm_pool *pool, const struct slot *slot,
		   const struct hbm_token_blocks *blocks, size_t i);
