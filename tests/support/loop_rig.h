/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loop_rig: an event loop for its tests, each of which runs with both engines. Where io_uring
 * may not be used, its half is skipped.
 *
 * 	struct CMUnitTest tests[] = {
 * 		LOOP_RIG_BOTH(test_stop),
 * 	};
 * 	loop_rig_leave_out(tests, sizeof(tests) / sizeof(tests[0]));
 * 	return cmocka_run_group_tests(tests, NULL, NULL);
 */
#pragma once

#include "daemon/loop/loop.h"
#include "tests/support/leaks.h"

/* Whatever includes this has included cmocka.h. */
#define LOOP_RIG_WITH(test, engine)                                                                \
	cmocka_unit_test_prestate_setup_teardown(test, loop_rig_setup, loop_rig_teardown, &engine)
#define LOOP_RIG_BOTH(test)                                                                        \
	LOOP_RIG_WITH(test, loop_rig_uring), LOOP_RIG_WITH(test, loop_rig_threads)

/* A test's state. */
struct loop_rig {
	enum loop_engine engine;
	struct leaks leaks;
};

extern struct loop *loop; /* the one under test */
extern enum loop_engine loop_rig_uring, loop_rig_threads;

/* Each test gets a loop, and must leave nothing but what it found. */
int loop_rig_setup(void **state);
int loop_rig_teardown(void **state);
/* Another loop. */
struct loop *loop_rig_new(enum loop_engine engine);
/* Until somebody stops it. */
void loop_rig_run(void);
/* Before the tests run: those with io_uring are skipped where that may not be used. */
struct CMUnitTest;
void loop_rig_leave_out(struct CMUnitTest *tests, size_t count);
