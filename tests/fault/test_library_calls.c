/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The n-th call of libhbm to the allocator, to the network and for a descriptor fails, for
 * n = 1, 2, ... until a client's work is done without reaching it. The client sees an
 * error, or the end of its connection, and nothing that is wrong; it leaks nothing; and
 * the daemon has everything back once it is gone.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/child.h"
#include "tests/support/effort.h"
#include "tests/support/fault.h"
#include "tests/support/leaks.h"
#include "tests/support/stage.h"
#include "tests/support/work.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STEPS_MAX 2000
#define PAST_ROW 2 /* times in a row that call n is not reached: n is past the last */

/* How a client ends, beside the outcomes of its work; REACHED is added where a call has
 * failed. */
enum { LEAKED = WORK_WRONG + 1, REACHED = 16 };

/* The number: kinds of calls, the error, how many fail in a row, n. */
static uint64_t pack(unsigned kinds, int error, unsigned count, unsigned n)
{
	return (uint64_t)kinds << 48 | (uint64_t)error << 32 | (uint64_t)count << 16 | n;
}

static void play_work(const struct spawn *spawn, uint64_t number)
{
	static struct fault_page page;
	struct leaks leaks;
	struct work work;

	leaks_begin(&leaks);
	fault_use(&page);
	fault_arm(&page, (unsigned)(number >> 48), (int)(number >> 32 & 0xffff), number & 0xffff,
		  number >> 16 & 0xffff);
	work_do(spawn, &work);
	int reached = fault_disarm(&page) > 0 ? REACHED : 0;

	int outcome = (int)work_outcome(&work);
	exit(reached + (leaks_end(&leaks) > 0 ? LEAKED : outcome));
}

static int run_client(uint64_t number)
{
	struct child child;

	child_start(&child, "work", &daemon_, number);

	return child_wait(&child);
}

/* Lets calls n to n + count - 1 fail, then the next, until none is reached. How many of
 * them the client noticed. */
static unsigned fail_each(unsigned kinds, int error, unsigned count)
{
	unsigned n = 1, past = 0, noticed = 0, stride = effort_stride();

	for (; past < PAST_ROW && n < STEPS_MAX; n += count * stride) {
		int status = run_client(pack(kinds, error, count, n));
		if ((status & ~REACHED) > WORK_REFUSED || status == WORK_REFUSED)
			fail_msg("%s in call %u: the client ended with %d", strerror(error), n,
				 status);

		spawn_settle(&daemon_);
		assert_true(spawn_balanced(&daemon_));
		work_clear(&daemon_);
		past = status & REACHED ? 0 : past + 1;
		noticed += (status & ~REACHED) != WORK_CLEAN;
	}

	print_message("%s: about %u calls, %u of which failed noticed\n", strerror(error),
		      n - PAST_ROW * count * stride, noticed);
	assert_int_equal(past, PAST_ROW);

	return noticed;
}

static unsigned start(void)
{
	static const char *const sets[] = {"device.cache=4MiB", NULL};

	spawn_needs_soft();
	spawn_start(&daemon_, sets, NULL);

	return spawn_fds(&daemon_);
}

static void test_memory(void **state)
{
	(void)state;
	unsigned fds = start();
	assert_in_range(fail_each(FAULT_MEMORY, ENOMEM, 1), effort_of(10), STEPS_MAX);
	assert_in_range(fail_each(FAULT_MEMORY, ENOMEM, 5), effort_of(2), STEPS_MAX);
	stage_finish(fds);
}

static void test_sending(void **state)
{
	(void)state;
	unsigned fds = start();
	assert_int_equal(fail_each(FAULT_SEND, EAGAIN, 1), 0);
	assert_int_equal(fail_each(FAULT_SEND, EINTR, 1), 0);
	assert_in_range(fail_each(FAULT_SEND, ENOBUFS, 1), effort_of(10), STEPS_MAX);
	assert_in_range(fail_each(FAULT_SEND, EPIPE, 1), effort_of(10), STEPS_MAX);
	stage_finish(fds);
}

static void test_receiving(void **state)
{
	(void)state;
	unsigned fds = start();
	assert_int_equal(fail_each(FAULT_RECEIVE, EINTR, 1), 0);
	assert_int_equal(fail_each(FAULT_RECEIVE, ECONNRESET, 1), 0); /* replies may follow it */
	assert_in_range(fail_each(FAULT_RECEIVE, ECONNRESET, 2), effort_of(10), STEPS_MAX);
	assert_in_range(fail_each(FAULT_RECEIVE, ENOMEM, 1), effort_of(10), STEPS_MAX);
	stage_finish(fds);
}

/* An answer that comes later has nowhere to go. */
static void test_a_wait_that_fails_ends_the_connection(void **state)
{
	(void)state;
	static struct fault_page page;
	unsigned fds = start();
	const struct hbm_options options = {
		.socket = daemon_.socket, .name = "test", .answer_ms = 60000};
	struct hbm *hbm;

	assert_int_equal(hbm_connect(&hbm, &options), 0);
	fault_use(&page);
	fault_arm(&page, FAULT_WAIT, ENOMEM, 1, 1);
	assert_int_equal(hbm_ping(hbm), -ENOMEM);
	assert_int_equal(fault_disarm(&page), 1);
	assert_int_equal(hbm_ping(hbm), -ENOTCONN);
	hbm_close(hbm);
	fault_use(NULL);
	stage_finish(fds);
}

static void test_descriptors_and_waiting(void **state)
{
	(void)state;
	unsigned fds = start();
	assert_in_range(fail_each(FAULT_DESCRIPTOR, EMFILE, 1), 1, STEPS_MAX);
	assert_int_equal(fail_each(FAULT_WAIT, EINTR, 1), 0);
	assert_in_range(fail_each(FAULT_WAIT, ENOMEM, 1), 1, STEPS_MAX);
	stage_finish(fds);
}

int main(int argc, char **argv)
{
	static const struct child_part parts[] = {{"work", play_work}, {NULL, NULL}};

	child_main(argc, argv, parts);
#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, stage_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_memory),
		TEST(test_sending),
		TEST(test_receiving),
		TEST(test_descriptors_and_waiting),
		TEST(test_a_wait_that_fails_ends_the_connection),
	};
	alarm(400); /* a hang is a failure */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
