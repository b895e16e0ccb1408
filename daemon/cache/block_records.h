/* SPDX-License-Identifier: Apache-2.0 */
/*
 * block_records: keeps the records of the blocks in memory that outlives the daemon (block_record.h)
 * as the blocks are, at every instruction:
 *
 * 	placed there		its bytes are there; then it has a record, and its client is told
 * 				after that
 * 	summed			its checksum is in the record
 * 	placed elsewhere there	it has the next record, and then no longer the first
 * 	unplaced, dropped	it has none; then its extent is free for others
 *
 * So what a record names are the bytes of its block, whenever the daemon ends. It knows no
 * order but that in which blocks came, and restores nothing: block_restore.h.
 *
 * Where the state has no room for a record, its block does not survive. One thread.
 */
#pragma once

#include "daemon/cache/block_record.h"
#include "daemon/cache/cache.h"
#include "daemon/state/state.h"

/* The memory behind a tier. */
struct block_memory {
	uint32_t number; /* record.memory; 0: it is not kept, and blocks there have no records */
	uint32_t first_unit; /* where the tier begins in it */
	uint64_t units;      /* of the tier, from its start, that are kept */
};

struct block_records {
	struct state *state;
	struct cache *cache;
	struct block_listener listener;
	uint32_t *of; /* by number: one more than the index of its record; 0: it has none */
	uint64_t came;
	struct block_memory memories[TIER_NUMBERS]; /* by the tier's number */
	uint32_t restoring; /* the record of the block that is being restored; STATE_NONE: none */
};

/* From now on, of tiers with these memories, by their numbers. -ENOMEM. */
int block_records_open(struct block_records *records, struct state *state, struct cache *cache,
		       const struct block_memory memories[TIER_NUMBERS]);
/* The records stay. Accepts a zeroed one. */
void block_records_close(struct block_records *records);
uint64_t block_records_bytes_for(uint64_t max_blocks); /* its table, when full */

static inline const struct block_record *block_records_at(const struct block_records *records,
							  uint32_t index)
{
	return state_body(records->state, STATE_BLOCKS, index);
}

/* The index of the record of a block; STATE_NONE: it has none. */
static inline uint32_t block_records_of(const struct block_records *records, uint32_t number)
{
	return records->of[number] - 1;
}
