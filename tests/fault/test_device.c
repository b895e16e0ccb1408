/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The n-th device call fails, for n = 1, 2, ... until a run passes without noticing:
 * first in the daemon, then in the client. Whatever the call was: a start that fails says
 * so and exits 1; else requests end with a status, the bytes that come back are right,
 * the books balance, and SIGTERM ends the daemon with 0.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/child.h"
#include "tests/support/effort.h"
#include "tests/support/kv.h"
#include "tests/support/stage.h"
#include "tests/support/work.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define BLOCK 65536u
#define BLOCKS 8u
/* Clean runs in a row that show that n is past the last call: some failures cost nothing. */
#define CLEAN_ROW 5
#define STEPS_MAX 2000
/* exit statuses: it could not go on; it could not start, and another try may succeed */
#define FAILED 1
#define UNMET 69

/* ---- In the daemon ---- */

static uint64_t device_errors(void)
{
	struct hbm_wire_status status;
	spawn_status(&daemon_, &status);
	return status.device_errors;
}

/* Whether nothing was noticed of the fault. */
static bool run_daemon(unsigned n)
{
	char fail[64];
	struct work work = {.failures = 1};

	snprintf(fail, sizeof(fail), "soft.fail=*:%u", n);
	const char *const sets[] = {WORK_SETS, fail, NULL};
	spawn_forget_log(&daemon_);
	spawn_launch(&daemon_, sets, NULL);
	int status = spawn_try_warm(&daemon_);
	if (status >= 0) {
		if ((status != UNMET && status != FAILED) ||
		    spawn_log_lines(&daemon_, " error: ") == 0) {
			spawn_show_log(&daemon_);
			fail_msg("call %u: the start ended with %d", n, status);
		}
		return false;
	}

	work_do(&daemon_, &work);

	if (work.wrong > 0 || !spawn_balanced(&daemon_)) {
		spawn_show_log(&daemon_);
		fail_msg("call %u: %u blocks came back wrong, or the books do not balance", n,
			 work.wrong);
	}

	bool clean = work.failures == 0 && device_errors() == 0;
	status = spawn_stop(&daemon_);
	if (status != 0) {
		spawn_show_log(&daemon_);
		fail_msg("call %u: hbmd ended with %d", n, status);
	}

	return clean;
}

/* Each call fails in a daemon of its own. */
static void test_every_call_of_the_daemon(void **state)
{
	(void)state;
	unsigned n = 1, row = 0, noticed = 0, stride = effort_stride();
	for (; row < CLEAN_ROW && n < STEPS_MAX; n += stride) {
		bool clean = run_daemon(n);
		row = clean ? row + 1 : 0;
		noticed += !clean;
	}

	print_message("the daemon made about %u device calls; the failure of %u was noticed\n",
		      n - CLEAN_ROW * stride, noticed);
	assert_int_equal(row, CLEAN_ROW);
	assert_in_range(noticed, effort_of(20), STEPS_MAX);
}

static int take_device(const void *record, size_t bytes, void *arg)
{
	assert_int_equal(bytes, sizeof(struct hbm_wire_device));
	memcpy(arg, record, bytes);
	return 0;
}

/* An error that does not pass is shown wherever one looks, and nothing is stored from the
 * device or loaded into it any more; what it is not needed for goes on. */
static void test_a_lost_device_is_seen(void **state)
{
	(void)state;
	static const char *const sets[] = {"ddr.size=4MiB", "soft.fail=cuMemcpyBatchAsync:1:214",
					   NULL};
	spawn_needs_soft();
	spawn_start(&daemon_, sets, NULL);
	struct work work;
	struct hbm_wire_status status;
	struct hbm_wire_device device = {0};
	struct hbm *hbm = spawn_connect(&daemon_);
	assert_int_equal(hbm_query(hbm, HBM_QUERY_DEVICES, take_device, &device), 0);
	assert_int_equal(device.lost, 0);
	work_do(&daemon_, &work);
	assert_true(work.failures > 0);
	assert_int_equal(work.wrong, 0);
	assert_int_equal(hbm_query(hbm, HBM_QUERY_DEVICES, take_device, &device), 0);
	assert_int_equal(device.lost, 1);
	spawn_status(&daemon_, &status);
	assert_string_equal(status.state, "running, device 0 lost");
	hbm_close(hbm);
	struct kv kv;
	kv_open(&kv, &daemon_, 0, BLOCK, BLOCKS);
	assert_int_equal(kv_store(&kv, 0, 100, BLOCKS, 0, NULL), HBM_DEVICE);
	assert_int_equal(kv_load(&kv, 0, 100, BLOCKS, NULL), HBM_DEVICE);
	assert_int_equal(kv_keys(&kv, HBM_WIRE_PREFETCH, 100, BLOCKS, 0, NULL), HBM_DEVICE);
	assert_int_equal(kv_lookup(&kv, 100, BLOCKS, NULL), 0);
	kv_close(&kv);
	assert_int_equal(spawn_log_lines(&daemon_, "sticky error, the device is lost"), 1);
	assert_int_equal(spawn_stop(&daemon_), 0);
}

/* One that fell off the bus answers every call with an error that may pass elsewhere: it is
 * asked, and lost. */
static void test_a_device_that_is_gone_is_lost(void **state)
{
	(void)state;
	static const char *const sets[] = {"ddr.size=4MiB", "soft.fail=cuMemcpyDtoHAsync:3:gone",
					   "device.cache=0", NULL};
	spawn_needs_soft();
	spawn_start(&daemon_, sets, NULL);
	struct work work;
	struct hbm_wire_device device = {0};
	struct hbm *hbm = spawn_connect(&daemon_);
	work_do(&daemon_, &work);
	assert_true(work.failures > 0);
	assert_int_equal(work.wrong, 0);
	assert_int_equal(hbm_query(hbm, HBM_QUERY_DEVICES, take_device, &device), 0);
	while (device.lost == 0) /* its control thread is still asking */
		assert_int_equal(hbm_query(hbm, HBM_QUERY_DEVICES, take_device, &device), 0);

	hbm_close(hbm);
	assert_int_equal(spawn_log_lines(&daemon_, "the device is lost until hbmd restarts"), 1);
	assert_true(spawn_balanced(&daemon_));
	assert_int_equal(spawn_stop(&daemon_), 0);
}

/* ---- In the client ---- */

static void fail_and_work(const struct spawn *spawn, uint64_t n)
{
	char fail[32];
	struct work work;

	snprintf(fail, sizeof(fail), "*:%u", (unsigned)n);
	setenv("HBM_SOFT_FAIL", fail, 1);
	work_do(spawn, &work);
	_exit(work_outcome(&work));
}

static int run_client(unsigned n)
{
	struct child child;
	child_start(&child, "fail_and_work", &daemon_, n);
	return child_wait(&child);
}

static void test_every_call_of_a_client(void **state)
{
	(void)state;
	static const char *const sets[] = {"device.cache=4MiB", "device.lend=4MiB", NULL};
	spawn_needs_soft();
	spawn_start(&daemon_, sets, NULL);
	unsigned fds = spawn_fds(&daemon_), n = 1, row = 0, noticed = 0, stride = effort_stride();
	for (; row < CLEAN_ROW && n < STEPS_MAX; n += stride) {
		int status = run_client(n);
		if (status > WORK_REFUSED)
			fail_msg("call %u: the client ended with %d", n, status);

		spawn_settle(&daemon_);
		assert_true(spawn_balanced(&daemon_));
		row = status == WORK_CLEAN ? row + 1 : 0;
		noticed += status != WORK_CLEAN;
	}

	print_message("the client made about %u device calls; the failure of %u was noticed\n",
		      n - CLEAN_ROW * stride, noticed);
	assert_int_equal(row, CLEAN_ROW);
	assert_in_range(noticed, effort_of(10), STEPS_MAX);
	stage_finish(fds);
}

int main(int argc, char **argv)
{
	static const struct child_part parts[] = {{"fail_and_work", fail_and_work}, {NULL, NULL}};

	child_main(argc, argv, parts);
#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, stage_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_every_call_of_the_daemon),
		TEST(test_a_lost_device_is_seen),
		TEST(test_a_device_that_is_gone_is_lost),
		TEST(test_every_call_of_a_client),
	};
	alarm(560); /* a hang is a failure */

	return cmocka_run_group_tests(tests, NULL, NULL);
}
