/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replay_worker: one serving engine of a replay: a thread with a connection and a region
 * of its own, which takes every workers-th request of the trace. For each it looks up
 * the leading resident blocks, loads them into its region, compares every byte, generates
 * the others, and stores the whole chain. The store touches blocks that are already in the
 * cache, so that the eviction order is the order of use.
 *
 * The region holds `window` blocks. A longer request is processed window by window, from
 * its head.
 */
#pragma once

#include "client/ctl/tally.h"
#include "client/ctl/workload.h"

#include <stdatomic.h>
#include <stdbool.h>

/* Blocks that fit in one STORE or LOAD message. */
#define REPLAY_WINDOW_MAX                                                                          \
	((HBM_WIRE_MESSAGE_MAX - sizeof(struct hbm_wire_blocks)) /                                 \
	 (sizeof(struct hbm_wire_block) + sizeof(struct hbm_wire_range)))

/* Shared by all workers. Constant while they run, except for the two atomics. */
struct replay_plan {
	const struct workload *workload;
	struct hbm_options connect; /* but for the name */
	const char *model;
	uint32_t device, workers;
	uint64_t block_bytes;
	size_t window;
	double speed;      /* how many times faster than the trace; 0: at once */
	uint64_t start_ns; /* set before the first worker runs */
	atomic_bool *stop; /* any thread may set it: finish the current request */
	atomic_size_t requests_done;
};

struct replay_worker;

/* Connects and gets the region. 0; -1 and one line in error. */
int replay_worker_open(struct replay_worker **out, struct replay_plan *plan, uint32_t index,
		       char *error, size_t error_size);
struct replay_worker *
replay_worker_close(struct replay_worker *worker); /* takes NULL, returns NULL */
/* Processes its requests until the end, a failure (which stops all workers) or plan->stop.
 * Runs on its own thread. */
void replay_worker_run(struct replay_worker *worker);
const struct tally *replay_worker_tally(const struct replay_worker *worker);
/* Why it failed; "" if it did not. */
const char *replay_worker_error(const struct replay_worker *worker);
