/* SPDX-License-Identifier: Apache-2.0 */
/*
 * batch: one STORE, LOAD or PREFETCH, from its arrival to its reply.
 *
 * 	arrived ---> waits for the ready fence ---> begins ------> its transfers run ---> reply
 * 	      \___________________________________^   \               ^
 * 	                                               prepares, in slices
 *
 * Until it begins it takes no more than its message and a pointer for each segment, and
 * nothing has been decided: a client whose data never is ready keeps only its own regions
 * in use.
 *
 * It prepares in phases, each of which may take several slices of its session's turns:
 *
 * 	room, find	finds its blocks, or begins the stores of new ones
 * 	touch		uses them all, before the policy decides anything, from tail to head
 * 	settle		lets the policy evict what no longer fits
 * 	start		starts one transfer for each block that must move
 *
 * A block that is to be durable keeps its batch until the catalog says that it is.
 *
 * What others do between two slices may make a block go that was found: it is then a miss,
 * or its store has no space.
 */
#pragma once

#include "daemon/base/reason.h"
#include "daemon/cache/cache.h"
#include "daemon/serve/server.h"

struct batch_item;

struct batch {
	struct hbmd *hbmd;
	struct request *request;
	struct work work;
	struct ready_wait wait; /* slot HBM_WIRE_NO_FENCE: for nothing */
	int waited;             /* how that ended: HBM_OK or HBM_TIMEOUT */
	struct resumption resumption;
	uint16_t ns;
	uint16_t opcode;
	uint64_t block_bytes; /* logical, the namespace's */
	uint32_t count;       /* blocks */
	uint32_t span_count, in_use;
	uint32_t checked,
		checked_spans; /* blocks and segments that may be lent, or are not to be */
	struct completion_fence fence;
	struct device *device;
	const struct hbm_wire_range *segments; /* [span_count], the request's */
	struct region **regions;               /* [span_count], the first `in_use` of them */
	/* The rest is batch.c's, from its begin on. */
	bool (*phase)(struct batch *batch, struct slice *slice);
	uint32_t at, next_span, pending;
	bool placed; /* some block has gone where its client wants it */
	struct cache_touch touch;
	struct span *spans; /* [span_count] */
	struct hbm_wire_results *reply;
	struct batch_item *items; /* [count] */
};

/* A batch of the request, whose namespace is open; it keeps the namespace. NULL: out of
 * memory. */
struct batch *batch_new(struct hbmd *hbmd, struct request *request, uint32_t ns, uint32_t count,
			uint32_t span_count);
/* The most memory that a batch of so many blocks and segments takes. */
uint64_t batch_bytes(uint64_t count, uint64_t span_count);
/* Refuses the request, completes its fence with all blocks failed, and frees the batch. */
void batch_refuse(struct batch *batch, int status, const char *why);
/* Prepares it and starts its transfers, from its session's next slice on. */
void batch_begin(struct batch *batch);
