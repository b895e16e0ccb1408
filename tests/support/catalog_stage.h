/* SPDX-License-Identifier: Apache-2.0 */
/*
 * catalog_stage: a stage (stage.h) whose daemon is stopped, killed and started again on the same
 * NVMe file, and a client, kv_stage.h's, that says what is found. Calls succeed, or fail the
 * test.
 */
#pragma once

#include "tests/support/kv_stage.h"

#define CATALOG_STAGE_BLOCK 65536u
#define CATALOG_STAGE_SLOTS 64u
#define CATALOG_STAGE_SOME 32u /* blocks that most tests use */

extern char catalog_stage_path[128]; /* of the catalog */
/* Settings: 4 MiB of HBM and of DDR, 8 MiB of NVMe. */
extern const char *const catalog_stage_usual[];

/* cmocka's, instead of the stage's. */
int catalog_stage_setup(void **state);

/* Starts the daemon, and a client connects. */
void catalog_stage_begin(const char *const *sets);
/* The client goes, and the daemon is stopped as an operator does. */
void catalog_stage_stop(void);
void catalog_stage_stop_and_begin(const char *const *sets);
void catalog_stage_kill(void);
/* The books balance, and the daemon stops. */
void catalog_stage_finish(void);
struct hbm_wire_status catalog_stage_status(void);

void catalog_stage_store(uint64_t first, uint64_t count, uint64_t parent);
/* A chain that is in the NVMe tier when this returns. */
void catalog_stage_store_on_nvme(uint64_t first, uint64_t count);
/* Waits until the catalog has so many records. */
void catalog_stage_await_records(uint64_t count);
/* All are found, and are what was stored. */
void catalog_stage_expect_found(uint64_t first, uint64_t count);
/* The daemon has begun empty. */
void catalog_stage_expect_nothing(void);
/* Of blocks 1 to 328 each is what was stored, or a miss. */
void catalog_stage_look_at_all(void);
