/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A daemon whose standard error is a pipe of this test, which is read, not read, or
 * closed. None of it is noticed by clients, or keeps the daemon from ending.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/kv.h"
#include "tests/support/stage.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOCK 65536u
#define BLOCKS 16u
#define DROPPED " lines dropped: stderr was not read"

static int reader;

static int setup(void **state)
{
	stage_setup(state);
	if (mkfifo(daemon_.log, 0600) < 0)
		return -1;

	reader =
		open(daemon_.log, O_RDWR | O_NONBLOCK | O_CLOEXEC); /* so that both ends are open */
	spawn_start(&daemon_, NULL, NULL);

	return reader < 0 ? -1 : 0;
}

static int teardown(void **state)
{
	if (reader >= 0)
		close(reader);
	return stage_teardown(state);
}

static uint64_t dropped(void)
{
	struct hbm_wire_status status;
	spawn_status(&daemon_, &status);
	return status.log_lines_dropped;
}

/* What an operator can make it log as often as wanted. */
static void fill_the_log(void)
{
	while (dropped() == 0)
		assert_int_equal(kill(daemon_.pid, SIGHUP), 0);
}

static void clients_are_served(void)
{
	struct kv kv;
	hbm_result results[BLOCKS];

	kv_open(&kv, &daemon_, 0, BLOCK, BLOCKS);
	assert_int_equal(kv_store(&kv, 0, 1, BLOCKS, 0, results), 0);
	assert_int_equal(kv_load(&kv, 0, 1, BLOCKS, results), 0);
	for (unsigned i = 0; i < BLOCKS; i++)
		assert_int_equal(results[i].status, HBM_OK);
	kv_close(&kv);
	spawn_settle(&daemon_);
	assert_true(spawn_balanced(&daemon_));
}

/* The next line of the log. */
static void read_line(char *line, size_t size)
{
	size_t length = 0;

	do {
		struct pollfd poller = {.fd = reader, .events = POLLIN};
		assert_int_equal(poll(&poller, 1, 20000), 1);
		assert_int_equal(read(reader, line + length, 1), 1);
	} while (line[length] != '\n' && ++length < size - 1);

	line[length] = '\0';
}

static void test_a_log_that_nobody_reads(void **state)
{
	(void)state;
	char line[2048] = "";
	unsigned long long said = 0, one;

	fill_the_log();
	clients_are_served();

	while (said == 0 || said < dropped()) {
		const char *notice;
		read_line(line, sizeof(line));
		if ((notice = strstr(line, DROPPED)) &&
		    sscanf(line, "%*s warning: %llu", &one) == 1)
			said += one;
	}

	assert_int_equal(said, dropped());
	kill(daemon_.pid, SIGHUP);
	do /* and it goes on */
		read_line(line, sizeof(line));
	while (!strstr(line, "SIGHUP: tenants are as the configuration says now"));

	assert_int_equal(spawn_stop(&daemon_), 0);
}

static void test_an_end_that_nobody_reads(void **state)
{
	(void)state;
	fill_the_log();
	assert_int_equal(spawn_stop(&daemon_), 0);
}

static void test_a_reader_that_has_gone(void **state)
{
	(void)state;
	close(reader);
	reader = -1;
	for (int i = 0; i < 100; i++)
		assert_int_equal(kill(daemon_.pid, SIGHUP), 0);
	clients_are_served();
	assert_int_equal(spawn_stop(&daemon_), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_a_log_that_nobody_reads),
		TEST(test_an_end_that_nobody_reads),
		TEST(test_a_reader_that_has_gone),
	};
	alarm(100); /* a hang is a failure */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
