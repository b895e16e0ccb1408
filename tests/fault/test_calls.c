/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The n-th call of the daemon to the allocator, to the network and for a descriptor fails,
 * for n = 1, 2, ... until the work of a client is done without reaching it. The client
 * may be refused, or lose its connection; the daemon lives, whatever comes back is right,
 * the books balance, nothing is left open, and the next client is served.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/child.h"
#include "tests/support/fault.h"
#include "tests/support/stage.h"
#include "tests/support/work.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STEPS_MAX 2000
/* How many times in a row the work is done without reaching call n, to show that n is past
 * the last: how many calls there are differs a little. */
#define PAST_ROW 3

static struct fault_page *faults;
static unsigned fds;

static void start(const char *engine)
{
	char page[160], variable[180], io[32];
	const char *const sets[] = {"soft.memory=32MiB",
				    "device.memory=14MiB",
				    "device.cache=2MiB",
				    "device.headroom=2MiB",
				    "ddr.size=2MiB",
				    "ddr.headroom=1MiB",
				    "ddr.staging=1MiB",
				    "nvme.size=4MiB",
				    io,
				    NULL};

	spawn_needs_soft();
	snprintf(page, sizeof(page), "%s/faults", daemon_.dir);
	snprintf(variable, sizeof(variable), "HBM_FAULTS=%s", page);
	snprintf(io, sizeof(io), "hbmd.io=%s", engine);
	faults = fault_open(page);
	daemon_.program = "tests/fault/hbmd";
	spawn_start(&daemon_, sets, (const char *[]){variable, NULL});
	fds = spawn_fds(&daemon_);
}

static void finish(void)
{
	assert_int_equal(spawn_stop(&daemon_), 0);
	faults = fault_close(faults);
}

static int teardown(void **state)
{
	faults = fault_close(faults);
	return stage_teardown(state);
}

/* How the work of a client goes, which is a process of its own: what it had is given back
 * when that ends. */
enum { CLEAN, REFUSED, WRONG };

static void play_work(const struct spawn *spawn, uint64_t number)
{
	struct work work;

	(void)number;
	work_do(spawn, &work);
	_exit(work.wrong > 0 ? WRONG : work.failures > 0 ? REFUSED : CLEAN);
}

static int run_client(void)
{
	struct child child;

	child_start(&child, "work", &daemon_, 0);

	return child_wait(&child);
}

/* What has to be true whatever failed. */
static void check(int status, unsigned n)
{
	if (status > REFUSED)
		fail_msg("call %u: the client ended with %d", n, status);

	spawn_settle(&daemon_);
	assert_true(spawn_balanced(&daemon_));
	work_clear(&daemon_);
	status = run_client();
	if (status != CLEAN) {
		spawn_show_log(&daemon_);
		fail_msg("call %u: the next client ended with %d", n, status);
	}

	assert_int_equal(spawn_fds(&daemon_), fds);
}

/* Lets calls n to n + count - 1 fail, then the next, until none is reached. How many of
 * them the client noticed. */
static unsigned fail_each(unsigned kinds, int error, unsigned count)
{
	unsigned n = 1, past = 0, noticed = 0;

	for (; past < PAST_ROW && n < STEPS_MAX; n += count) {
		fault_arm(faults, kinds, error, n, count);
		int status = run_client();
		bool reached = fault_disarm(faults) > 0;
		check(status, n);
		past = reached ? 0 : past + 1;
		noticed += status != CLEAN;
	}

	print_message("%s: about %u calls, %u of which failed noticed\n", strerror(error),
		      n - PAST_ROW * count, noticed);
	assert_int_equal(past, PAST_ROW);

	return noticed;
}

static void test_memory(void **state)
{
	(void)state;
	start("auto");
	assert_in_range(fail_each(FAULT_MEMORY, ENOMEM, 1), 20, STEPS_MAX);
	assert_in_range(fail_each(FAULT_MEMORY, ENOMEM, 7), 3, STEPS_MAX);
	finish();
}

static void test_memory_without_io_uring(void **state)
{
	(void)state;
	start("threads");
	assert_in_range(fail_each(FAULT_MEMORY, ENOMEM, 1), 20, STEPS_MAX);
	finish();
}

/* What passes costs the client nothing. */
static void test_sending(void **state)
{
	(void)state;
	start("auto");
	assert_int_equal(fail_each(FAULT_SEND, EAGAIN, 1), 0);
	assert_int_equal(fail_each(FAULT_SEND, EINTR, 1), 0);
	assert_int_equal(fail_each(FAULT_SEND, ENOBUFS, 1), 0);
	assert_int_equal(fail_each(FAULT_SEND, ETOOMANYREFS, 5), 0);
	assert_in_range(fail_each(FAULT_SEND, ECONNRESET, 1), 5, STEPS_MAX);
	finish();
}

static void test_receiving(void **state)
{
	(void)state;
	start("auto");
	assert_int_equal(fail_each(FAULT_RECEIVE, EAGAIN, 1), 0);
	assert_int_equal(fail_each(FAULT_RECEIVE, EINTR, 1), 0);
	assert_in_range(fail_each(FAULT_RECEIVE, ECONNRESET, 1), 5, STEPS_MAX);
	finish();
}

/* A client waits for them. */
static void test_descriptors(void **state)
{
	(void)state;
	static const char *const engines[] = {"auto", "threads"};
	for (size_t i = 0; i < 2; i++) {
		start(engines[i]);
		assert_int_equal(fail_each(FAULT_DESCRIPTOR, EMFILE, 1), 0);
		assert_int_equal(fail_each(FAULT_DESCRIPTOR, ENOMEM, 1), 0);
		finish();
	}
}

static void test_waiting(void **state)
{
	(void)state;
	start("auto");
	assert_int_equal(fail_each(FAULT_WAIT, EINTR, 1), 0);
	assert_int_equal(fail_each(FAULT_WAIT, EAGAIN, 5), 0);
	finish();
	start("threads");
	assert_int_equal(fail_each(FAULT_WAIT, EINTR, 1), 0);
	finish();
}

int main(int argc, char **argv)
{
	static const struct child_part parts[] = {{"work", play_work}, {NULL, NULL}};

	child_main(argc, argv, parts);
#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_memory),      TEST(test_memory_without_io_uring),
		TEST(test_sending),     TEST(test_receiving),
		TEST(test_descriptors), TEST(test_waiting),
	};
	alarm(400); /* a hang is a failure */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
