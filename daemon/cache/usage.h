/* SPDX-License-Identifier: Apache-2.0 */
/*
 * usage: how often clients have used what a block stands for, since it was stored: they say so
 * themselves, with COUNT. A table by the blocks' numbers, whose address space is reserved once;
 * its pages are touched where something is counted. A block that is dropped takes its count
 * along.
 *
 * The policy does not know of it: what makes a block recently used is a use (cache.h).
 */
#pragma once

#include "daemon/cache/block.h"

struct usage {
	uint32_t *counts;
	uint64_t max;     /* blocks */
	uint32_t highest; /* no block above it has a count */
	struct block_listener listener;
};

uint64_t usage_bytes_for(uint64_t max_blocks);
/* -ENOMEM. Closed by usage_close(), also where it was never opened, but is zero. */
int usage_open(struct usage *usage, struct blocks *blocks, uint64_t max_blocks);
void usage_close(struct usage *usage);
/* Once more. It stays at UINT32_MAX. */
void usage_add(struct usage *usage, uint32_t number);
uint32_t usage_of(const struct usage *usage, uint32_t number);
