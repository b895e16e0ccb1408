/* SPDX-License-Identifier: Apache-2.0 */
/*
 * system_stage: what the tests that are named after a serving system share: a daemon, pools of
 * sequences on it (pool_rig.h) that play the system's engine, tokens that are known by number,
 * and what of a device's memory is in use.
 */
#pragma once

#include "tests/support/pool_rig.h"
#include "tests/support/stage.h"

#define SYSTEM_SEQUENCES 16u
/* Memory for regions of the default device: 192 MiB less cache and reserve. */
#define SYSTEM_MEMORY (168ull << 20)

/* Starts the daemon of stage.h; sets as of spawn_start(). Between stage_setup() and
 * stage_teardown(). */
void system_stage_start(const char *const *sets);
/* Its end: it has been left as it was found. */
void system_stage_finish(void);
/* A pool on a device, of at most SYSTEM_SEQUENCES; what is closed stays warm up to that. */
void system_stage_pool(struct pool_rig *rig, const char *layout, uint32_t device,
		       uint64_t warm_bytes);

/* Token i of a prompt or a reply is the number value + i. */
void system_stage_write(struct pool_rig *rig, struct hbm_sequence *sequence, uint64_t first,
			uint64_t end, uint64_t value);
void system_stage_expect(struct pool_rig *rig, struct hbm_sequence *sequence, uint64_t first,
			 uint64_t end, uint64_t value);
/* A step of one sequence to `end` tokens, and the new ones written. */
void system_stage_grow(struct pool_rig *rig, struct hbm_sequence *sequence, uint64_t end,
		       uint64_t value);
/* A new sequence that has grown so. */
struct hbm_sequence *system_stage_prompt(struct pool_rig *rig, uint64_t tokens, uint64_t value);

/* What a sequence of so many tokens has mapped. */
uint64_t system_stage_bytes(const struct pool_rig *rig, uint64_t tokens);
/* A device's memory, with all that was given back. */
struct hbm_device_memory system_stage_memory(struct hbm *hbm, uint32_t device);
/* Of it, what regions have. */
uint64_t system_stage_used(struct hbm *hbm, uint32_t device);
