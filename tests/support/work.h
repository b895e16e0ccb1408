/* SPDX-License-Identifier: Apache-2.0 */
/*
 * work: a client that does a bit of everything and takes every refusal: for tests in which
 * something fails, and anything may be refused, but nothing may come back wrong. It
 * allocates nothing itself.
 */
#pragma once

#include "tests/support/child.h"
#include "tests/support/kv.h"

/* A small daemon in which the work reaches every tier: settings for spawn_start(). */
#define WORK_SETS                                                                                  \
	"soft.memory=32MiB", "device.memory=14MiB", "device.cache=2MiB", "device.headroom=2MiB",   \
		"device.lend=2MiB", "ddr.size=2MiB", "ddr.headroom=1MiB", "ddr.staging=1MiB",      \
		"nvme.size=4MiB"

struct work {
	struct kv kv;
	struct hbm_region *region;
	unsigned failures; /* calls and results that were no success */
	unsigned wrong;    /* blocks whose bytes were not what was stored */
};

enum work_outcome { WORK_CLEAN, WORK_REFUSED, WORK_WRONG };

/* Connects, commits a region, stores blocks and loads them from every tier, looks them up,
 * pins them, borrows them, evicts them, gives everything back and closes. */
void work_do(const struct spawn *spawn, struct work *work);
enum work_outcome work_outcome(const struct work *work);
/* The same in a process of its own: what it had is given back when that ends. An outcome, or
 * 128 + signal. The test's main() begins with child_main() and these parts. */
int work_client(const struct spawn *spawn);
extern const struct child_part work_parts[];
/* Removes what work_do() has stored; fails the test if it cannot. */
void work_clear(const struct spawn *spawn);
