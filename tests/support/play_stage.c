/* SPDX-License-Identifier: Apache-2.0 */
/* play_stage: see play_stage.h. */
#include "tests/support/play_stage.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/stage.h"

static unsigned fds;

void play_stage_start(void)
{
	/* Half of it may be pinned, and as much is on its way out and in. */
	static const char *const sets[] = {"nvme.size=128MiB", NULL};

	spawn_needs_soft();
	spawn_start(&daemon_, sets, NULL);
	fds = spawn_fds(&daemon_);
}

void play_stage_check(void)
{
	spawn_settle(&daemon_);
	assert_true(spawn_balanced(&daemon_));
}

unsigned play_stage_run(void)
{
	struct pool_play play;

	pool_play(&daemon_, &play);
	assert_false(play.ended);
	play_stage_check();

	return play.refused;
}

void play_stage_finish(void)
{
	stage_finish(fds);
}
