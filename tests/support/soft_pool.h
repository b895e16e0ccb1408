/* SPDX-License-Identifier: Apache-2.0 */
/*
 * soft_pool: what the tests of slabs, leases and sessions share: an event loop, the soft
 * driver's devices opened as the daemon opens them, a slab pool on each, and a way to run
 * the loop until something has come true. Closing checks that the device holds nothing of
 * the daemon's any more and that the process leaked nothing.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "daemon/config/config.h"
#include "daemon/device/device.h"
#include "daemon/loop/loop.h"
#include "tests/support/leaks.h"
#include "tests/support/soft_calls.h"

#define MIB (1ull << 20)
#define GRANULE (2 * MIB)

struct soft_pool {
	struct leaks leaks;
	struct config config;
	struct loop *loop;
	struct devices *devices;
	struct timer watchman;
	bool (*wanted)(void *arg);
	void *arg;
	bool came_true;
	uint64_t until_ns;
	struct soft_calls call;
};

/* Two devices of 64 MiB, or more if the budget is, with `budget` each and slabs of 4 MiB by default. */
void pool_open(struct soft_pool *pool, uint64_t budget);
void pool_close(struct soft_pool *pool);
/* The same of one daemon after another in one test: what they have is kept there; what the process
 * leaks is for the test to check. */
struct region_kept;
void pool_begin(struct soft_pool *pool, uint64_t budget, const struct region_kept *kept);
void pool_end(struct soft_pool *pool);
/* Runs the loop until wanted(arg); the test fails if that takes ten seconds. */
void pool_run(struct soft_pool *pool, bool (*wanted)(void *arg), void *arg);
/* For pool_run(): whether no slab is being retired any more. Checks the books of each pool. */
bool pool_is_quiet(void *pool);
/* The same, and no slab of the default size can be made ahead any more: no thread makes
 * descriptors. */
bool pool_is_full(void *pool);
