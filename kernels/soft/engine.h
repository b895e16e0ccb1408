/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine: a copy engine, of which a device has two, one for each direction. It is a
 * clock: a copy occupies the engine for the latency and its bytes at the bandwidth, one
 * copy after the other, and must not be seen to be done earlier.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct engine {
	pthread_mutex_t lock;
	double ns_per_byte, latency_ns;
	uint64_t free_at; /* ns: when what was scheduled so far is done */
};

void engine_setup(struct engine *engine, double gib_s, double latency_us);
bool engine_is_limited(const struct engine *engine);
/*
 * Returns when a copy of `bytes` that could start at `ready` (ns) completes. `ready` may be
 * in the past, so that the average bandwidth is the configured one even if threads and
 * timers are late.
 */
uint64_t engine_schedule(struct engine *engine, uint64_t ready, uint64_t bytes);
