/* SPDX-License-Identifier: Apache-2.0 */
/*
 * restoration: what is in DDR and HBM outlives the daemon: while it serves it keeps the records
 * of the blocks there (block_records.h), and when it starts it makes blocks of those that the
 * daemon before it has left (block_restore.h), in the background of the loop, as their memory
 * comes into service.
 *
 * The namespaces of those records must be there already, and open until it has ended: then
 * ended() is called. Where the memory is not that which the records name (first start, another
 * size), the caller drops the records.
 */
#pragma once

#include "daemon/cache/block_restore.h"
#include "daemon/move/mover.h"

struct restoration;

struct restoration_options {
	struct mover *mover;
	struct state *state;
	struct block_memory memories[TIER_NUMBERS]; /* that are kept, by the tier's number */
	void (*ended)(void *arg);
	void *arg;
};

/* Before the loop runs. -ENOMEM. ended() is never called from within. */
int restoration_new(struct restoration **out, const struct restoration_options *options);
/* All memory of the tier is in service, or never will be. */
void restoration_tier_grown(struct restoration *restoration, const struct tier *tier);
/* All tiers are in service, or never will be: block_restore_in_service(). */
void restoration_in_service(struct restoration *restoration);
/* Only the first so many bytes of the tier are those of the daemon before: block_restore_cut(). */
void restoration_tier_cut(struct restoration *restoration, const struct tier *tier, uint64_t bytes);
/* The records stay. Accepts NULL, returns NULL. */
struct restoration *restoration_free(struct restoration *restoration);
/* Whether all that will come back has. */
bool restoration_has_ended(const struct restoration *restoration);
struct block_restore_figures restoration_figures(const struct restoration *restoration,
						 enum hbm_tier kind);
uint64_t restoration_bytes_for(uint64_t max_blocks); /* the most memory that it takes */
