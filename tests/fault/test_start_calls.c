/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The n-th call of a daemon that starts fails, to the allocator, for a descriptor, to a file
 * or for a thread, for n = 1, 2, ... until it is in service without reaching it. Either it ends
 * with one line that says why and a status, and leaves no socket, or it can do without
 * and serves.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/effort.h"
#include "tests/support/fault.h"
#include "tests/support/stage.h"
#include "tests/support/work.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STEPS_MAX 2000
#define PAST_ROW 2 /* times in a row that call n is not reached: n is past the last */
/* Exit statuses: it could not go on; it could not start, and another try may succeed. */
enum { FAILED = 1, UNMET = 69 };

static struct fault_page *faults;

static int teardown(void **state)
{
	faults = fault_close(faults);
	return stage_teardown(state);
}

/* It serves, all or what it has said that it lacks. */
static void serves(unsigned n)
{
	int status = work_client(&daemon_);
	spawn_settle(&daemon_);
	bool is_less = spawn_log_lines(&daemon_, " error: ") > 0;
	if (status > (is_less ? WORK_REFUSED : WORK_CLEAN) || !spawn_balanced(&daemon_)) {
		spawn_show_log(&daemon_);
		fail_msg("call %u: it serves, but a client ended with %d", n, status);
	}

	status = spawn_stop(&daemon_);
	if (status != 0)
		fail_msg("call %u: it ended with %d", n, status);
}

static void has_refused(int status, unsigned n)
{
	unsigned lines =
		spawn_log_lines(&daemon_, " error: ") + spawn_log_lines(&daemon_, "hbmd: ");

	if ((status != FAILED && status != UNMET) || lines != 1 ||
	    access(daemon_.socket, F_OK) == 0) {
		spawn_show_log(&daemon_);
		fail_msg("call %u: the start ended with %d and %u lines", n, status, lines);
	}
}

/* Lets the n-th call fail, then the next, until none is reached. How often it did not
 * start. */
static unsigned fail_each(const char *engine, unsigned kinds, int error)
{
	char variable[FAULT_VARIABLE], io[32];
	const char *const sets[] = {WORK_SETS, "nvme.fail=read:1000000:EIO",
				    "hbmd.log_level=notice", io, NULL};
	unsigned n = 1, past = 0, refused = 0, stride = effort_stride();

	spawn_needs_soft();
	snprintf(io, sizeof(io), "hbmd.io=%s", engine);
	faults = fault_open(&daemon_, variable);

	for (; past < PAST_ROW && n < STEPS_MAX; n += stride) {
		fault_arm(faults, kinds, error, n, 1);
		spawn_forget_log(&daemon_);
		spawn_launch(&daemon_, sets, (const char *[]){variable, NULL});
		int status = spawn_try_warm(&daemon_);
		bool reached = fault_disarm(faults) > 0;
		if (status < 0)
			serves(n);
		else
			has_refused(status, n);

		past = reached ? 0 : past + 1;
		refused += status >= 0;
	}

	print_message("%s: about %u calls, without %u of which it did not start\n", strerror(error),
		      n - PAST_ROW * stride, refused);
	assert_int_equal(past, PAST_ROW);

	faults = fault_close(faults);

	return refused;
}

static void test_memory(void **state)
{
	(void)state;
	assert_in_range(fail_each("auto", FAULT_MEMORY, ENOMEM), effort_of(20), STEPS_MAX);
}

static void test_descriptors(void **state)
{
	(void)state;
	assert_in_range(fail_each("auto", FAULT_DESCRIPTOR, EMFILE), effort_of(3), STEPS_MAX);
	assert_in_range(fail_each("threads", FAULT_DESCRIPTOR, ENFILE), effort_of(3), STEPS_MAX);
}

static void test_files(void **state)
{
	(void)state;
	assert_in_range(fail_each("auto", FAULT_FILE, EIO), effort_of(3), STEPS_MAX);
	assert_in_range(fail_each("auto", FAULT_FILE, ENOSPC), effort_of(3), STEPS_MAX);
}

static void test_threads(void **state)
{
	(void)state;
	assert_in_range(fail_each("auto", FAULT_THREAD, EAGAIN), effort_of(3), STEPS_MAX);
	assert_in_range(fail_each("threads", FAULT_THREAD, EAGAIN), effort_of(3), STEPS_MAX);
}

int main(int argc, char **argv)
{
	child_main(argc, argv, work_parts);
#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_memory),
		TEST(test_descriptors),
		TEST(test_files),
		TEST(test_threads),
	};
	alarm(400); /* a hang is a failure */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
