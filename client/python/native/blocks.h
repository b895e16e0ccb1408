/* SPDX-License-Identifier: Apache-2.0 */
/* blocks: where the blocks of a store or load are, and what they continue, of objects of Python. */
#pragma once

#include "client/python/native/native.h"

struct core;
struct keys;
struct op;

/* What a request keeps goes to its op. */
struct blocks {
	struct hbm_block *blocks; /* owned, as is what they refer to */
	struct hbm_segment *segments;
	unsigned char **memory; /* of each block that is in no region; NULL: all are in regions */
};

/* `where` is Spans, a sequence of lists of (region, offset, bytes), or a sequence of buffers: a
 * block of block_bytes of each key. Pins regions and buffers in the op. False: an exception is
 * set. */
bool blocks_parse(PyObject *where, const struct keys *keys, uint64_t block_bytes, bool writable,
		  const struct core *core, struct op *op, struct blocks *blocks);
void blocks_free(struct blocks *blocks);
/* The parent of each block: None for roots, or keys, of which each may be None. */
bool blocks_parents(PyObject *parents, struct blocks *blocks, size_t count);
