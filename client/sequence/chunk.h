/* SPDX-License-Identifier: Apache-2.0 */
/*
 * chunk: how the contents of a sequence are cut into pieces of equal size, each a block of
 * the cache. A piece of tokens has the same number of them, the last one perhaps fewer, in all
 * layers: a buffer for each of the layout's, one after the other, each as in a slot. Behind
 * these come the pieces of the states, which lie one after the other without gaps.
 *
 * All of it follows from the layout's canonical text.
 */
#pragma once

#include "client/layout.h"

#define CHUNK_BYTES (2ull << 20) /* of a piece, as far as whole tokens or pages allow */
#define CHUNK_UNIT 4096u         /* of a block */

struct chunk {
	const struct hbm_layout *layout; /* borrowed */
	uint64_t tokens;                 /* of a piece; 0: the layout has none */
	uint64_t bytes;                  /* of a piece */
	uint64_t state_bytes;            /* of all states */
};

void hbm_chunk_init(struct chunk *chunk, const struct hbm_layout *layout);
/* Pieces of so many tokens; of the states. */
uint64_t hbm_chunk_pieces(const struct chunk *chunk, uint64_t tokens);
uint64_t hbm_chunk_state_pieces(const struct chunk *chunk);
/* Bytes from the begin of a piece to that of a buffer. */
uint64_t hbm_chunk_buffer(const struct chunk *chunk, uint32_t buffer);
/* The number of the buffer that has a part of a layer. */
uint32_t hbm_chunk_buffer_of(const struct hbm_layout *layout, uint32_t layer,
			     enum hbm_kv_part part);
