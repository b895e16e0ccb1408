/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/cached_stage.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

struct cached_rig cached_rig;
unsigned cached_stage_fds;
const char *const cached_stage_lends[] = {"device.lend=64MiB", "ddr.staging=32MiB", NULL};
const struct hbm_pool_options cached_stage_pool = {.max_sequences = 8};

void cached_stage_start_with(const char *const *sets, const char *layout, uint64_t block_tokens,
			     const struct hbm_pool_options *options)
{
	if (daemon_.pid == 0) {
		spawn_start(&daemon_, sets, NULL);
		cached_stage_fds = spawn_fds(&daemon_);
	}
	cached_rig_open(&cached_rig, &daemon_, layout, block_tokens, options);
}

void cached_stage_start(const char *layout)
{
	cached_stage_start_with(cached_stage_lends, layout, CACHED_BLOCK, &cached_stage_pool);
}

void cached_stage_finish(void)
{
	cached_rig_close(&cached_rig);
	stage_finish(cached_stage_fds);
}

void cached_stage_close(struct hbm_sequence *sequence)
{
	if (hbm_sequence_close(sequence) != 0)
		fail_msg("%s", hbm_pool_error(cached_rig.pool.pool));
}
