/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pieces: the bytes of a token in a buffer. In token and layer order they are one row, in
 * block order one for each part of each layer, and with heads first one for each head.
 */
#pragma once

#include <hbm/sequence.h>

struct hbm_pool;

/* Adds the moves (compaction.h) that let tokens [from, from + count) become those from `to` on in
 * all buffers; base: the address of the slot. to <= from. */
bool hbm_pieces_move(struct hbm_pool *pool, const struct hbm_layout *layout, uint64_t base,
		     uint64_t to, uint64_t from, uint64_t count, bool *moved);
