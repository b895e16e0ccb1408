/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kv_stage: a stage (stage.h) with a daemon that has small tiers, and a client (kv.h) whose
 * calls succeed: for tests of what the cache says to requests on keys.
 */
#pragma once

#include "tests/support/kv.h"
#include "tests/support/stage.h"

/* All tiers together: 4, 4 and 8 MiB. */
#define KV_STAGE_BLOCK 65536u
#define KV_STAGE_TIER 64u /* blocks of HBM, and of DDR */
#define KV_STAGE_ALL (64u + 64u + 128u)

extern struct kv kv;
extern hbm_result results[1024]; /* of the last call */

/* cmocka's, instead of the stage's. */
int kv_stage_setup(void **state);
int kv_stage_teardown(void **state);

/* The first `count` results are this. */
void kv_stage_expect(uint64_t count, int status);
/* kv_store(), kv_load() and kv_keys() of the client, from its first slot on: every block is
 * stored, is loaded, has that status. */
void kv_stage_store(uint64_t first, uint64_t count, uint64_t parent);
void kv_stage_load(uint64_t first, uint64_t count);
void kv_stage_keys(enum hbm_wire_opcode op, uint64_t first, uint64_t count, int status);
/* Fills every tier with other blocks. */
void kv_stage_press(uint64_t first);

/* Another daemon, without NVMe, and a client with 1000 slots of small blocks: of these
 * KV_STAGE_MANY fit, which is more than any step of the daemon works on. */
#define KV_STAGE_SMALL 4096u
#define KV_STAGE_MANY 18000u
void kv_stage_open_small(struct spawn *daemon, struct kv *small);
void kv_stage_close_small(struct spawn *daemon, struct kv *small);
/* Stores blocks [1, KV_STAGE_MANY] there, one chain. */
void kv_stage_store_many(struct kv *small);

/* What a query of blocks shows: how many, and how many children they have in all. */
struct kv_stage_blocks {
	uint64_t blocks, children;
};
struct kv_stage_blocks kv_stage_blocks(struct hbm *hbm);
