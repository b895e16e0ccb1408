/* SPDX-License-Identifier: Apache-2.0 */
/*
 * copies: where the clean copies are: for each block that has one, its extent in the tier
 * that keeps copies; and their order, oldest first, which is that in which they go. It is
 * block.c's, which says when a block has a copy, and tier.h counts the bytes.
 *
 * A table by block number, reserved once and touched where blocks have copies, so that
 * entries of the index are no larger for it.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct tier;
struct copies_entry;

struct copies {
	struct tier *tier; /* the one that keeps copies; NULL: none does */
	struct copies_entry *table;
	size_t table_bytes;
	uint32_t oldest, newest; /* blocks; 0: there is no copy */
};

int copies_open(struct copies *copies, struct tier *tier, uint64_t max_blocks); /* -ENOMEM */
void copies_close(struct copies *copies);
uint64_t copies_bytes_for(uint64_t max_blocks); /* its table, when full */

/* The block has none yet. */
void copies_add(struct copies *copies, uint32_t number, uint32_t unit);
/* The block has one. Both return its unit. */
uint32_t copies_unit(const struct copies *copies, uint32_t number);
uint32_t copies_remove(struct copies *copies, uint32_t number);

/* The block whose copy is the oldest, or 0. */
static inline uint32_t copies_oldest(const struct copies *copies)
{
	return copies->oldest;
}
