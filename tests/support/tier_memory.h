/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tier_memory: a tier of plain memory that no copy engine reaches, below all others. It shows
 * that one more tier is one more implementation of tier_ops. Reads and writes are completed
 * from the loop, and bytes pass through the staging buffer.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct cache;
struct loop;
struct tier;

struct tier_memory {
	struct tier *tier;
	struct loop *loop;
	char *bytes;
	void (*batch_done)(void *arg);
	void *arg;
	uint64_t reads, writes;
	/* the caller's: reads or writes end with an I/O error */
	bool fail_reads, fail_writes;
};

/* Adds the tier, all of it usable. There must be no block yet; whoever listens to batches has
 * to start again. */
void tier_memory_open(struct tier_memory *memory, struct cache *cache, struct loop *loop,
		      uint64_t capacity, uint64_t max_blocks);
void tier_memory_close(struct tier_memory *memory); /* after the cache is closed */
