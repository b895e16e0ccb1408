/* SPDX-License-Identifier: Apache-2.0 */
/*
 * compaction: makes the moves of a pool, in order on its stream. Few of them are copies. Many
 * go by way of a slab of scratch, into which one kernel gathers and from which another
 * scatters them; without that slab, or where the driver refuses the kernels, all are copies.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct hbm_pool;

/* Begins one. False: no memory for its moves in this process. */
bool hbm_compaction_prepare(struct hbm_pool *pool);
/* The same for very many moves, with the slab, if there is memory for it. */
bool hbm_compaction_begin(struct hbm_pool *pool);
/* Adds a move, and queues those before when there are many. False, *moved: as below. */
bool hbm_compaction_add(struct hbm_pool *pool, uint64_t target, uint64_t source, uint64_t bytes,
			bool *moved);
/* Queues all. What the device refuses is tried once more. False: refused, and *moved says
 * whether some of them have been queued. */
bool hbm_compaction_queue(struct hbm_pool *pool, bool *moved);
/* Waits for all, and gives the slab back. False: the device refuses to wait. */
bool hbm_compaction_end(struct hbm_pool *pool);
