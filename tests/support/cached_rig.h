/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cached_rig: sequences on prefixes that the cache has, for tests: a pool (pool_rig.h) and a
 * namespace for blocks of its tokens. Key i of a chain is kv_key(first + i); a token holds its
 * index where pool_rig.h writes it.
 */
#pragma once

#include "tests/support/pool_rig.h"

#define CACHED_BLOCK 4u /* tokens of a block, which are whole slabs in these layouts */
#define CACHED_SLABS 2u /* of a block */
#define CACHED_BLOCKS_MAX 32u

extern const char *const cached_rig_layouts[]; /* one of each order; NULL-terminated */

struct cached_rig {
	struct pool_rig pool;
	uint32_t ns;
	hbm_key keys[CACHED_BLOCKS_MAX];
	struct hbm_token_blocks blocks; /* of these keys; tests change it */
};

/* block_tokens: CACHED_BLOCK, or for what cannot be lent another number. */
void cached_rig_open(struct cached_rig *rig, const struct spawn *spawn, const char *layout,
		     uint64_t block_tokens, const struct hbm_pool_options *options);
void cached_rig_close(struct cached_rig *rig);
/* Names the chain from that key on, of so many blocks. */
void cached_rig_chain(struct cached_rig *rig, uint64_t first, size_t count);
/* A sequence of so many tokens, written. */
struct hbm_sequence *cached_rig_fill(struct cached_rig *rig, uint64_t tokens);
/* Stores the chain from block `first` on: fails the test unless every block is stored. */
void cached_rig_store(struct cached_rig *rig, struct hbm_sequence *sequence, size_t first);
/* Opens a sequence on the chain: fails the test unless it has so many tokens, and so many
 * slabs of them are borrowed. */
struct hbm_sequence *cached_rig_reopen(struct cached_rig *rig, uint64_t tokens, uint64_t slabs);
/* Tokens up to `own` are their index, those from there to `end` have `value` more. */
void cached_rig_expect(struct cached_rig *rig, struct hbm_sequence *sequence, uint64_t own,
		       uint64_t end, uint64_t value);
/* A step to `end`, and its tokens written. */
void cached_rig_grow(struct cached_rig *rig, struct hbm_sequence *sequence, uint64_t end,
		     uint64_t value);
/* What the daemon says of the device. */
struct hbm_wire_device cached_rig_device(struct cached_rig *rig);
/* How many of its slabs are leased. What has been given back is on its way to the pool for a moment:
 * the second waits until they are so many. */
uint64_t cached_rig_leased(struct cached_rig *rig);
void cached_rig_wait_for_leased(struct cached_rig *rig, uint64_t slabs);
