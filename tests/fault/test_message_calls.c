/* SPDX-License-Identifier: Apache-2.0 */
/* Each send and each receive of a daemon that serves a client fails in turn: fault_loop.h. How
 * many receives a request costs. */
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

/* What passes costs the client nothing. */
static void test_sending(void **state)
{
	(void)state;
	fault_loop_start("auto");
	assert_int_equal(fault_loop_each(FAULT_SEND, EAGAIN, 1), 0);
	assert_int_equal(fault_loop_each(FAULT_SEND, EINTR, 1), 0);
	assert_int_equal(fault_loop_each(FAULT_SEND, ENOBUFS, 1), 0);
	assert_int_equal(fault_loop_each(FAULT_SEND, ETOOMANYREFS, 5), 0);
	assert_in_range(fault_loop_each(FAULT_SEND, ECONNRESET, 1), effort_of(5), FAULT_LOOP_MAX);
	fault_loop_finish();
}

static void test_receiving(void **state)
{
	(void)state;
	fault_loop_start("auto");
	assert_int_equal(fault_loop_each(FAULT_RECEIVE, EAGAIN, 1), 0);
	assert_int_equal(fault_loop_each(FAULT_RECEIVE, EINTR, 1), 0);
	assert_in_range(fault_loop_each(FAULT_RECEIVE, ECONNRESET, 1), effort_of(5),
			FAULT_LOOP_MAX);
	fault_loop_finish();
}

/* A client that waits for each answer costs a receive a request, though each request is under
 * way for a while. */
static void test_one_receive_a_request(void **state)
{
	enum { LOADS = 100 };
	char variable[FAULT_VARIABLE];
	hbm_result result;
	struct kv kv;

	(void)state;
	spawn_needs_soft();
	struct fault_page *faults = fault_open(&daemon_, variable);
	spawn_start(&daemon_, (const char *const[]){WORK_SETS, NULL},
		    (const char *[]){variable, NULL});
	kv_open(&kv, &daemon_, 0, 65536, 1);
	assert_int_equal(kv_store(&kv, 0, 1, 1, 0, &result), HBM_OK);

	fault_arm(faults, FAULT_RECEIVE, EIO, UINT64_MAX, 1); /* counts */
	for (int i = 0; i < LOADS; i++)
		assert_int_equal(kv_load(&kv, 0, 1, 1, &result), HBM_OK);
	assert_int_equal(fault_disarm(faults), 0);
	assert_int_equal(faults->calls, LOADS);

	kv_close(&kv);
	assert_int_equal(spawn_stop(&daemon_), 0);
	fault_close(faults);
}

int main(int argc, char **argv)
{
	child_main(argc, argv, work_parts);
#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, fault_loop_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_sending),
		TEST(test_receiving),
		TEST(test_one_receive_a_request),
	};
	alarm(500); /* a hang is a failure */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
