/* SPDX-License-Identifier: Apache-2.0 */
/*
 * waiting_loads: the loads for which there was no move. They take turns between those who
 * pay for them (fair_queue.h), and those of one block are found, and leave, together: one
 * move serves them all, and while one of them waits the block cannot be placed, so that a
 * move which did not serve it would never end.
 *
 * How many may wait is bounded by what requests may take: each load belongs to a block of
 * a request, whose memory is charged to limits.request_bytes and request_bytes_total.
 */
#pragma once

#include "daemon/base/fair_queue.h"
#include "daemon/base/list.h"

#include <stdint.h>

/* Embedded in a load. */
struct waiting_load {
	struct fair_item turn;
	struct list link;       /* once it has been taken */
	struct list same_hash;  /* if it is the first of its block: in waiting_loads.blocks */
	struct list same_block; /* the others of its block */
	uint32_t block;
};

struct waiting_loads {
	struct fair_queue turns;
	struct list *blocks; /* [block_count] */
	uint32_t block_count;
};

/* For so many moves at a time; more loads may wait. -ENOMEM */
int waiting_loads_open(struct waiting_loads *loads, uint64_t moves);
void waiting_loads_close(struct waiting_loads *loads); /* accepts a zeroed one */
bool waiting_loads_empty(const struct waiting_loads *loads);

/* The load whose turn it is; it stays. NULL: none waits. */
const struct waiting_load *waiting_loads_next(struct waiting_loads *loads);

void waiting_loads_add(struct waiting_loads *loads, struct waiting_load *load, uint32_t block,
		       struct fair_payer payer, uint64_t bytes);
/* Takes all loads of a block, onto the empty list `taken`, in the order they came in; none
 * if none waits for it. */
void waiting_loads_take(struct waiting_loads *loads, uint32_t block, struct list *taken);
/* The same for the block of the load whose turn it is, which pays. One must be waiting. */
void waiting_loads_take_next(struct waiting_loads *loads, struct list *taken);
