/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cached_stage: a stage (stage.h) with one pool on prefixes that the cache has (cached_rig.h).
 */
#pragma once

#include "tests/support/cached_rig.h"
#include "tests/support/stage.h"

extern struct cached_rig cached_rig;
extern unsigned cached_stage_fds;              /* of the daemon, at its start */
extern const char *const cached_stage_lends[]; /* settings that lend enough */
extern const struct hbm_pool_options cached_stage_pool;

/* Starts the daemon with these settings, unless the test has, and opens the pool. */
void cached_stage_start_with(const char *const *sets, const char *layout, uint64_t block_tokens,
			     const struct hbm_pool_options *options);
/* The same as it is usual: it lends, and a block has CACHED_BLOCK tokens. */
void cached_stage_start(const char *layout);
/* Closes the pool and ends the daemon. */
void cached_stage_finish(void);
void cached_stage_close(struct hbm_sequence *sequence);
