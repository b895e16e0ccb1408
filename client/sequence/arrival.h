/* SPDX-License-Identifier: Apache-2.0 */
/*
 * arrival: blocks of the stash on their way back into the slots of their sequences. Slabs are
 * committed first, some or all; then the blocks are loaded into them. Where several sequences
 * of the group have one block, the first gets a slab for it and the others share that: twins.
 */
#pragma once

#include "client/sequence/carry.h"

struct hbm_pool;
struct hbm_sequence;

struct arrival_twin {
	struct slot *source, *target;
	uint64_t offset;
};

struct arrival {
	struct carry carry;
	size_t acquired; /* slabs of it that are mapped */
	struct arrival_twin *twins;
	size_t twin_count, twin_room;
	size_t twins_mapped;
};

/* What the sequences have in their stashes. False: there is no memory. */
bool hbm_arrival_plan(struct hbm_pool *pool, struct arrival *arrival,
		      struct hbm_sequence *const *sequences, size_t count);
/* Commits the next `slabs` of it, all or none. */
int hbm_arrival_acquire(struct hbm_pool *pool, struct arrival *arrival, size_t slabs);
/* Maps the twins of what is mapped. */
int hbm_arrival_map_twins(struct hbm_pool *pool, struct arrival *arrival);
/* How many slabs from `first` on are of one group of the layout, and which: 0: none
 * are left. */
size_t hbm_arrival_group(const struct hbm_pool *pool, const struct arrival *arrival, size_t first,
			 uint32_t *group);
bool hbm_arrival_is_done(const struct arrival *arrival);
void hbm_arrival_clear(struct arrival *arrival);
