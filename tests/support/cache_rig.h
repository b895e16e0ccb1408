/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cache_rig: a cache for the tests of its policy. No bytes are moved: a block is stored as
 * soon as it is inserted, or, where that is what is tested, has an extent.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "daemon/cache/cache.h"
#include "daemon/config/config.h"
#include "daemon/ledger/ledger.h"
#include "tests/support/leaks.h"
#include "tests/support/seed.h"

enum {
	CACHE_RIG_TIERS = 4,     /* at most: two devices, DDR and NVMe */
	CACHE_RIG_BLOCKS = 4000, /* in the index, at most */
	CACHE_RIG_CHAIN = 64,    /* blocks of a request, at most */
};
#define UNIT ((uint64_t)EXTENT_UNIT)

struct cache_rig {
	struct leaks leaks;
	struct config config;
	struct ledger ledger;
	struct cache *cache;
	struct seed seed;
};

/* Capacities in units, by tier from the top; 0: absent. The name is printed with the seed. */
void cache_rig_open(struct cache_rig *rig, const char *name, uint32_t devices,
		    const uint64_t *units);
void cache_rig_close(struct cache_rig *rig);
/* Drops every block; the cache is to be as new afterwards. */
void cache_rig_assert_empties(struct cache_rig *rig);

uint16_t cache_rig_namespace(struct cache_rig *rig, uint64_t units); /* units of a block */
uint16_t cache_rig_namespace_in_memory(struct cache_rig *rig, uint64_t units); /* not on NVMe */
/* Of blocks of one unit, of a rank (its layout) of that group. */
uint16_t cache_rig_namespace_of(struct cache_rig *rig, const char *group, unsigned rank);
struct hbm_wire_key cache_rig_key(uint32_t n);
uint32_t cache_rig_find(struct cache_rig *rig, uint16_t ns, uint32_t n);
/* A stored block that has no place. */
uint32_t cache_rig_insert(struct cache_rig *rig, uint16_t ns, uint32_t n, uint32_t parent);
/* A block with an extent in HBM, used there once. */
uint32_t cache_rig_insert_placed(struct cache_rig *rig, uint16_t ns, uint32_t n);
/* One request of an engine: the chain's blocks that are not there are inserted, then all
 * are used. */
void cache_rig_request(struct cache_rig *rig, uint16_t ns, const uint32_t *keys, uint32_t count,
		       uint32_t device);

/* A chain of keys [0, trunk), and `leaves` children of its end. */
void cache_rig_grow_branches(struct cache_rig *rig, uint16_t ns, uint32_t trunk, uint32_t leaves);
/* Uses all leaves in one pass: how many ancestors that visits. */
uint32_t cache_rig_use_leaves(struct cache_rig *rig, uint16_t ns, uint32_t trunk, uint32_t leaves);
