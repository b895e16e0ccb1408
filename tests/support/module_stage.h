/* SPDX-License-Identifier: Apache-2.0 */
/*
 * module_stage: a stage (stage.h) with one pool (pool_rig.h) and a module, "m" of "chat", whose
 * slabs are lent. Every byte is looked at (contents.h).
 *
 * In layouts of CACHED_BLOCK = 4 tokens a block (cached_rig.h) the module is tokens [6, 21) of
 * the sequence that puts it: two tokens, three blocks, a token. So it is at 2, at 6 and so on;
 * at other positions its blocks are other ones.
 */
#pragma once

#include "tests/support/cached_rig.h"
#include "tests/support/contents.h"

#include <hbm/saved.h>

enum {
	MODULE_FIRST = 6,
	MODULE_END = 21,
	MODULE_TOKENS = MODULE_END - MODULE_FIRST,
	MODULE_LENT = 3 * CACHED_SLABS,
	MODULE_SOURCE = 30, /* tokens of who puts it */
	MODULE_AT = 2,
};

/* Of contents: of who puts it, and of what others have in front of it. */
enum { MODULE_TAG = 1, MODULE_OWN = 5, MODULE_OTHER = 6 };

extern struct pool_rig module_rig;
extern const struct hbm_pool_options module_pool;
extern const struct hbm_saved_space module_space;

/* Starts the daemon, unless the test has; NULL: with settings that lend enough. */
void module_stage_daemon(const char *const *settings);
/* And opens the pool. */
void module_stage_start(const char *const *settings, const char *layout);
/* The daemon balances; closes the pool and ends it. Or ends it alone. */
void module_stage_finish(void);
void module_stage_end(void);

/* Slabs that regions have, or are lent; waits for so many, as what is given back is on its way to
 * the pool for a moment. */
uint64_t module_stage_leased(void);
uint64_t module_stage_lent(void);
void module_stage_await_leased(uint64_t slabs);
/* Drops the schema: all that is lent belongs to it, and is gone then. */
void module_stage_drop_all(void);

/* A step, and its tokens written with that tag; a sequence that has grown so. */
void module_stage_grow(struct hbm_sequence *sequence, uint64_t end, uint64_t tag);
struct hbm_sequence *module_stage_sequence(uint64_t tokens, uint64_t tag);
void module_stage_close(struct hbm_sequence *sequence);
/* Tokens [at, at + count) are those from `first` on of what has that tag. */
void module_stage_expect(struct hbm_sequence *sequence, uint64_t at, uint64_t count, uint64_t first,
			 uint64_t tag);
/* So many of its slabs are borrowed, and what is said of it is right. */
void module_stage_check(struct hbm_sequence *sequence, uint64_t slabs);

int module_stage_put(struct hbm_sequence *sequence, uint64_t version);
int module_stage_map(struct hbm_sequence *sequence);
/* Who has put version 1. */
struct hbm_sequence *module_stage_source(void);
/* One of `at` own tokens with the module, of which so many slabs are borrowed; it is that. */
struct hbm_sequence *module_stage_mapped(uint64_t at, uint64_t tag, uint64_t slabs);
void module_stage_expect_mapped(struct hbm_sequence *sequence, uint64_t at, uint64_t tag);
