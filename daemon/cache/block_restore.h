/* SPDX-License-Identifier: Apache-2.0 */
/*
 * block_restore: makes blocks of what a daemon before this one has left in DDR and HBM, by its
 * records (block_record.h). The tiers' memory comes into service bit by bit (ddr.h, hbm_memory.h),
 * and so do their blocks:
 *
 * 	            all its bytes are in service          its parent is back, if that is to come
 * 	MISSING -----------------------------> CLAIMED ---------------------------------> RESTORED
 * 	   |                                      |
 * 	   | no more comes into service           | it is there again, or its namespace is dropped
 * 	   +--------------------------------------+-----------------------------------> LET GO
 *
 * What is in service is claimed at once, before it can be allocated to others. The rest goes on
 * in steps. A block waits for its parent, for no lookup finds it before. One that its tier has no
 * room for, as it has another size now, or as the block was about to leave it, waits until all
 * tiers are in service: it goes down then, and would be lost where none is below yet. What is let
 * go loses its record, and then its extent is free.
 *
 * Let go at once are blocks without a checksum, for their bytes cannot be verified, those of
 * namespaces that are gone, and those whose extents are in no memory that is there, or overlap.
 *
 * The order in which they are to be evicted is that in which they came to their tier, parents
 * behind their children: how they were used there is not recorded. Until all are there one may
 * be further in front.
 */
#pragma once

#include "daemon/cache/block_records.h"

struct block_restore;

struct block_restore_figures {
	uint64_t restored;
	uint64_t unsummed; /* let go: they had no checksum yet */
	uint64_t refused;  /* let go for another reason */
	uint64_t left;     /* records that are still to become blocks */
};

/* Reads the records; before a tier grows. -ENOMEM. */
int block_restore_new(struct block_restore **out, struct block_records *records);
/* The records of what is left stay. Accepts NULL, returns NULL. */
struct block_restore *block_restore_free(struct block_restore *restore);
/* tier->grown. */
void block_restore_grown(void *restore, const struct tier *tier, uint64_t from, uint64_t bytes);
/* The tier does not grow any more. */
void block_restore_grown_all(struct block_restore *restore, const struct tier *tier);
/* Only the first so many bytes of the tier are those of the daemon before: the rest of what it had
 * there did not come into service. */
void block_restore_cut(struct block_restore *restore, const struct tier *tier, uint64_t bytes);
/* All tiers are in service, those too whose memory is not kept, or never will be. */
void block_restore_in_service(struct block_restore *restore);
/* Restores or lets go at most `max` blocks, and fewer where it takes long to find their places in the
 * order. False: the others wait for a tier, or there are none. To be followed by settling. */
bool block_restore_some(struct block_restore *restore, uint32_t max);
/* Of DDR, or of all HBM; what is left is of both. */
struct block_restore_figures block_restore_figures(const struct block_restore *restore,
						   enum hbm_tier kind);
uint64_t block_restore_bytes_for(uint64_t max_blocks); /* with so many records */
