/* SPDX-License-Identifier: Apache-2.0 */
/* fault_loop: see fault_loop.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/effort.h"
#include "tests/support/fault_loop.h"
#include "tests/support/stage.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* How many times in a row the work is done without reaching call n, to show that n is past
 * the last: how many calls there are differs a little. */
#define PAST_ROW 3

static struct fault_page *faults;
static unsigned fds;

void fault_loop_start(const char *engine)
{
	char variable[FAULT_VARIABLE], io[32];
	const char *const sets[] = {WORK_SETS, io, NULL};

	spawn_needs_soft();
	snprintf(io, sizeof(io), "hbmd.io=%s", engine);
	faults = fault_open(&daemon_, variable);
	spawn_start(&daemon_, sets, (const char *[]){variable, NULL});
	fds = spawn_fds(&daemon_);
}

void fault_loop_finish(void)
{
	assert_int_equal(spawn_stop(&daemon_), 0);
	faults = fault_close(faults);
}

int fault_loop_teardown(void **state)
{
	faults = fault_close(faults);
	return stage_teardown(state);
}

/* What has to be true whatever failed. */
static void fault_loop_check(int status, unsigned n)
{
	if (status > WORK_REFUSED)
		fail_msg("call %u: the client ended with %d", n, status);

	spawn_settle(&daemon_);
	assert_true(spawn_balanced(&daemon_));
	work_clear(&daemon_);
	status = work_client(&daemon_);
	if (status != WORK_CLEAN) {
		spawn_show_log(&daemon_);
		fail_msg("call %u: the next client ended with %d", n, status);
	}

	spawn_expect_fds(&daemon_, fds);
}

unsigned fault_loop_each(unsigned kinds, int error, unsigned count)
{
	unsigned n = 1, past = 0, noticed = 0, stride = effort_stride();

	for (; past < PAST_ROW && n < FAULT_LOOP_MAX; n += count * stride) {
		fault_arm(faults, kinds, error, n, count);
		int status = work_client(&daemon_);
		bool reached = fault_disarm(faults) > 0;
		fault_loop_check(status, n);
		past = reached ? 0 : past + 1;
		noticed += status != WORK_CLEAN;
	}

	print_message("%s: about %u calls, %u of which failed noticed\n", strerror(error),
		      n - PAST_ROW * count * stride, noticed);
	assert_int_equal(past, PAST_ROW);

	return noticed;
}
