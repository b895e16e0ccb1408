/* SPDX-License-Identifier: Apache-2.0 */
/*
 * saved_stage: a stage (stage.h) with one pool (pool_rig.h), of which sequences are saved and
 * restored: calls that succeed, and what is looked at after them.
 */
#pragma once

#include "tests/support/contents.h"
#include "tests/support/pool_rig.h"

#include <hbm/saved.h>

extern struct pool_rig saved_rig;
extern const struct hbm_saved_space saved_space;
extern const struct hbm_save_options saved_plain; /* that space, and nothing else */

/* Starts the daemon, unless the test has, and opens the pool. */
void saved_stage_start(const char *layout);
/* Another process, as far as the daemon can tell. */
void saved_stage_again(const char *layout);
void saved_stage_finish(void);

/* Of so many tokens, with the contents of that tag. */
struct hbm_sequence *saved_stage_sequence(uint64_t tokens, uint64_t tag);
void saved_stage_save(struct hbm_sequence *sequence, const char *name, uint64_t committed);
struct hbm_sequence *saved_stage_restore(const char *name);
void saved_stage_expect(struct hbm_sequence *sequence, uint64_t first, uint64_t tokens,
			uint64_t tag);
/* Blocks in the whole cache. */
uint64_t saved_stage_blocks(void);

void saved_stage_expect_done(int r);
/* The pool's line has the text in it. */
void saved_stage_expect_line(const char *text);
