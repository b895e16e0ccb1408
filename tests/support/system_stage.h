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

/* A sequence that is expected to get so many tokens; a namespace. */
struct hbm_sequence *system_stage_open(struct pool_rig *engine, uint64_t expected);
uint32_t system_stage_namespace(struct hbm *hbm, const char *model, uint64_t weights,
				uint64_t block_bytes);

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

/* What a decode of a batch must be once its memory is there: a step that succeeds, and makes no
 * system call, where that can be counted. */
void system_stage_silent_step(struct pool_rig *rig, struct hbm_sequence *const *sequences,
			      const uint64_t *lengths, size_t count);

#define SYSTEM_BLOCKS 64u

/* The slabs that have tokens [first, end) of a sequence, each a block of RIG_SLAB bytes. */
struct system_blocks {
	size_t count;
	struct hbm_block blocks[SYSTEM_BLOCKS];
	struct hbm_segment segments[SYSTEM_BLOCKS];
	hbm_key keys[SYSTEM_BLOCKS];
	hbm_result results[SYSTEM_BLOCKS];
};

/* Their keys are kv_key(name), and so on. */
void system_stage_blocks(struct pool_rig *rig, struct hbm_sequence *sequence, uint64_t first,
			 uint64_t end, uint64_t name, struct system_blocks *blocks);
/* Fails the test if one of the results is another. */
void system_stage_expect_results(const struct system_blocks *blocks, enum hbm_status status);

/* What a sequence of so many tokens has mapped. */
uint64_t system_stage_bytes(const struct pool_rig *rig, uint64_t tokens);
/* A device's memory, with all that was given back. */
struct hbm_device_memory system_stage_memory(struct hbm *hbm, uint32_t device);
/* Commits all that is free and not promised, as another engine would. */
void system_stage_take_all(struct kv *other);
/* Of it, what regions have. */
uint64_t system_stage_used(struct hbm *hbm, uint32_t device);
/* What the daemon says of it. */
struct hbm_wire_device system_stage_device(struct hbm *hbm, uint32_t index);
