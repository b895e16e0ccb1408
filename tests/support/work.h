/* SPDX-License-Identifier: Apache-2.0 */
/*
 * work: a client that does a bit of everything and takes every refusal: for tests in which
 * something fails, and anything may be refused, but nothing may come back wrong. It
 * allocates nothing itself.
 */
#pragma once

#include "tests/support/kv.h"

struct work {
	struct kv kv;
	struct hbm_region *region;
	unsigned failures; /* calls and results that were no success */
	unsigned wrong;    /* blocks whose bytes were not what was stored */
};

/* Connects, commits a region, stores blocks and loads them from every tier, looks them up,
 * pins them, evicts them, gives everything back and closes. */
void work_do(const struct spawn *spawn, struct work *work);
/* Removes what work_do() has stored; fails the test if it cannot. */
void work_clear(const struct spawn *spawn);
