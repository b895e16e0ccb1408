/* SPDX-License-Identifier: Apache-2.0 */
/*
 * block_record: what the state (state.h) has of a block in memory. The word of a record is the
 * checksum of the block's bytes; 0: it has none yet.
 */
#pragma once

#include <assert.h>
#include <hbm/wire.h>
#include <stdint.h>

/* Of record.flags: it was encoded for a disk, and took no less. */
#define BLOCK_RECORD_INCOMPRESSIBLE 1u
/* Of record.memory: the memory that is kept behind the DDR tier; those of HBM tiers have the numbers
 * of hbm_kept.h. */
#define BLOCK_RECORD_DDR 1u

struct block_record {
	struct hbm_wire_key key, parent; /* parent: all zero: a root */
	uint64_t came;                   /* how many had come to memory before it */
	uint32_t unit;                   /* of its extent in that memory, in EXTENT_UNIT */
	uint32_t stored_units;           /* what it takes on a disk */
	uint16_t ns;
	uint8_t tier; /* enum hbm_tier */
	uint8_t flags;
	uint32_t memory; /* that it is in */
};
static_assert(sizeof(struct block_record) == 56, "the state");
