/* SPDX-License-Identifier: Apache-2.0 */
/* Each allocation of a daemon that serves a client fails in turn: fault_loop.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/effort.h"
#include "tests/support/fault_loop.h"
#include "tests/support/stage.h"

#include <errno.h>
#include <unistd.h>

static void test_memory(void **state)
{
	(void)state;
	fault_loop_start("auto");
	assert_in_range(fault_loop_each(FAULT_MEMORY, ENOMEM, 1), effort_of(20), FAULT_LOOP_MAX);
	assert_in_range(fault_loop_each(FAULT_MEMORY, ENOMEM, 7), effort_of(3), FAULT_LOOP_MAX);
	fault_loop_finish();
}

static void test_memory_without_io_uring(void **state)
{
	(void)state;
	fault_loop_start("threads");
	assert_in_range(fault_loop_each(FAULT_MEMORY, ENOMEM, 1), effort_of(20), FAULT_LOOP_MAX);
	fault_loop_finish();
}

int main(int argc, char **argv)
{
	child_main(argc, argv, work_parts);
#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, fault_loop_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_memory),
		TEST(test_memory_without_io_uring),
	};
	alarm(500); /* a hang is a failure */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
