/* SPDX-License-Identifier: Apache-2.0 */
/* Each new descriptor, and each wait, of a daemon that serves a client fails in turn:
 * fault_loop.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/fault_loop.h"
#include "tests/support/stage.h"

#include <errno.h>
#include <unistd.h>

/* A client waits for them. */
static void test_descriptors(void **state)
{
	(void)state;
	static const char *const engines[] = {"auto", "threads"};
	for (size_t i = 0; i < 2; i++) {
		fault_loop_start(engines[i]);
		assert_int_equal(fault_loop_each(FAULT_DESCRIPTOR, EMFILE, 1), 0);
		assert_int_equal(fault_loop_each(FAULT_DESCRIPTOR, ENOMEM, 1), 0);
		fault_loop_finish();
	}
}

static void test_waiting(void **state)
{
	(void)state;
	fault_loop_start("auto");
	assert_int_equal(fault_loop_each(FAULT_WAIT, EINTR, 1), 0);
	assert_int_equal(fault_loop_each(FAULT_WAIT, EAGAIN, 5), 0);
	fault_loop_finish();
	fault_loop_start("threads");
	assert_int_equal(fault_loop_each(FAULT_WAIT, EINTR, 1), 0);
	fault_loop_finish();
}

int main(int argc, char **argv)
{
	child_main(argc, argv, work_parts);
#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, fault_loop_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_descriptors),
		TEST(test_waiting),
	};
	alarm(500); /* a hang is a failure */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
