/* SPDX-License-Identifier: Apache-2.0 */
/* Each send and each receive of a daemon that serves a client fails in turn: fault_loop.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/fault_loop.h"
#include "tests/support/stage.h"

#include <errno.h>
#include <unistd.h>

/* What passes costs the client nothing. */
static void test_sending(void **state)
{
	(void)state;
	fault_loop_start("auto");
	assert_int_equal(fault_loop_each(FAULT_SEND, EAGAIN, 1), 0);
	assert_int_equal(fault_loop_each(FAULT_SEND, EINTR, 1), 0);
	assert_int_equal(fault_loop_each(FAULT_SEND, ENOBUFS, 1), 0);
	assert_int_equal(fault_loop_each(FAULT_SEND, ETOOMANYREFS, 5), 0);
	assert_in_range(fault_loop_each(FAULT_SEND, ECONNRESET, 1), 5, FAULT_LOOP_MAX);
	fault_loop_finish();
}

static void test_receiving(void **state)
{
	(void)state;
	fault_loop_start("auto");
	assert_int_equal(fault_loop_each(FAULT_RECEIVE, EAGAIN, 1), 0);
	assert_int_equal(fault_loop_each(FAULT_RECEIVE, EINTR, 1), 0);
	assert_in_range(fault_loop_each(FAULT_RECEIVE, ECONNRESET, 1), 5, FAULT_LOOP_MAX);
	fault_loop_finish();
}

int main(int argc, char **argv)
{
	child_main(argc, argv, work_parts);
#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, fault_loop_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_sending),
		TEST(test_receiving),
	};
	alarm(500); /* a hang is a failure */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
