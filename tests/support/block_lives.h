/* SPDX-License-Identifier: Apache-2.0 */
/*
 * block_lives: a cache in one life of a daemon after the other, in one process: what is killed leaves
 * its state (state.h) and nothing else, and the next one restores the blocks from it, as their tiers
 * get their memory: that is the test's to do.
 */
#pragma once

#include "daemon/cache/block_restore.h"
#include "tests/support/cache_rig.h"

enum {
	BLOCK_LIVES_SIZE = 3,  /* units of a block of block_lives.ns */
	BLOCK_LIVES_FIRST = 7, /* where the memory of DDR begins in its records */
};

/* What memory the tiers of a life will have, in units; hbm_units 0: no tier of HBM. */
struct block_lives_memory {
	uint64_t hbm_units, ddr_units;
	uint32_t hbm_memory; /* which memory that of HBM is */
};

extern struct block_lives {
	const char *name; /* of the test */
	struct cache_rig rig;
	struct state *state;
	struct block_records records;
	struct block_restore *restore;
	uint16_t ns;
} block_lives;

/* The first life, whose tiers have their memory, and a namespace. */
void block_lives_begin(const char *name, const struct block_lives_memory *memory);
/* The daemon is killed. The next one has found its namespaces, and reads the records of blocks; its
 * tiers have no memory yet. */
void block_lives_kill(const struct block_lives_memory *memory);
void block_lives_end(void);

struct tier *block_lives_hbm(void);
struct tier *block_lives_ddr(void);
/* A block of the tier, the first to be evicted last; checksum 0: it has none yet. Its number. */
uint32_t block_lives_store(struct tier *tier, uint32_t key, uint32_t parent, uint64_t checksum);
uint32_t block_lives_find(uint32_t key); /* its number, or 0 */
