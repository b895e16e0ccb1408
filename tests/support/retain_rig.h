/* SPDX-License-Identifier: Apache-2.0 */
/*
 * retain_rig: a cache (cache_rig.h) of one device, two users, and a namespace of small blocks, for
 * tests of what clients retain. Each may retain all of a tier, unless a test says otherwise.
 */
#pragma once

#include "tests/support/cache_rig.h"

#define HOUR_NS 3600000000000u

extern struct cache_rig retain_rig;
extern struct cache *retain_cache;
extern struct user *retain_user, *retain_other;
extern uint16_t retain_ns;

/* Capacities as of cache_rig_open(). */
void retain_rig_open(const char *name, const uint64_t *units);
/* Nothing is retained, or charged for it, when all blocks are gone. */
void retain_rig_close(void);
uint32_t retain_rig_find(uint32_t n);
void retain_rig_use(uint32_t n); /* a root */
/* The status. */
int retain_rig_retain_by(struct user *who, uint32_t n, unsigned priority, uint64_t until_ns);
int retain_rig_retain(uint32_t n, unsigned priority); /* by user, for an hour */
