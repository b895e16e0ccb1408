/* SPDX-License-Identifier: Apache-2.0 */
/*
 * host_stage: a stage whose daemon has host memory for regions, a client, and what tests of that
 * share: regions, blocks that are stored from them and loaded into them, and the pool's books.
 */
#pragma once

#include "tests/support/kv.h"
#include "tests/support/stage.h"

#define HOST_SLAB (2ull << 20)
#define HOST_POOL (32ull << 20)

enum { HOST_BLOCK = 128 << 10, HOST_BLOCKS = 8 };

/* ddr.regions, and slabs of HOST_SLAB. */
extern const char *const host_stage_sets[];
extern struct hbm *host_hbm;

/* cmocka's. */
int host_stage_setup(void **state);
int host_stage_teardown(void **state);

struct hbm_region *host_create(struct hbm *hbm, uint64_t bytes);
/* All of it committed. */
struct hbm_region *host_make(struct hbm *hbm, uint64_t bytes);
int host_commit(struct hbm *hbm, struct hbm_region *region, uint64_t offset, uint64_t bytes);
int host_decommit(struct hbm *hbm, struct hbm_region *region, uint64_t offset, uint64_t bytes);
char *host_at(const struct hbm_region *region, uint64_t offset);
/* What the daemon shows of the pool, which adds up to HOST_POOL. */
struct hbm_wire_device host_pool(struct hbm *hbm);
/* Waits until so much is leased, and nothing quarantined, held or on its way back. */
void host_await(struct hbm *hbm, uint64_t leased);

uint32_t host_namespace(struct hbm *hbm);
/* HOST_BLOCKS of them, from the begin of a region: their bytes, and whether they are there. */
void host_fill(const struct hbm_region *region);
void host_check(const struct hbm_region *region);
/* Stores or loads them; each must be HBM_OK. */
void host_store(struct hbm *hbm, uint32_t ns, struct hbm_region *region);
void host_load(struct hbm *hbm, uint32_t ns, struct hbm_region *region);
