/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A daemon that may have little, of what setrlimit(2) limits: from nearly nothing upwards.
 * It says which limit it is and ends with a status, or it serves; and it ends when told to.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/stage.h"
#include "tests/support/work.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB (1ull << 20)

/* Exit statuses: another try may succeed; the configuration has to be changed. */
enum { UNMET = 69, CONFIG = 78, NOT_STARTED = 127 };

static const char *const engines[] = {"hbmd.io=auto", "hbmd.io=threads"};

static void launch(const char *engine, const struct spawn_limit *limit)
{
	const char *const sets[] = {WORK_SETS, "limits.blocks=1000", engine,
				    "hbmd.log_level=notice", NULL};

	spawn_needs_soft();
	spawn_forget_log(&daemon_);
	daemon_.limit = limit;
	spawn_launch(&daemon_, sets, NULL);
}

/* Waits until it listens or has ended: whether it listens. */
static bool listens(void)
{
	for (;;) {
		siginfo_t info = {.si_pid = 0};
		if (access(daemon_.socket, F_OK) == 0)
			return true;

		assert_int_equal(
			waitid(P_PID, (id_t)daemon_.pid, &info, WEXITED | WNOHANG | WNOWAIT), 0);
		if (info.si_pid != 0)
			return false;

		poll(NULL, 0, 1);
	}
}

/* Starts with a limit. Whether it came to listen, and did what it was told to. */
static bool starts(const char *engine, int resource, unsigned long long value)
{
	const struct spawn_limit limit = {resource, value};

	launch(engine, &limit);
	bool is_up = listens();
	int status = is_up ? spawn_stop(&daemon_) : spawn_wait(&daemon_);
	unsigned lines =
		spawn_log_lines(&daemon_, " error: ") + spawn_log_lines(&daemon_, "hbmd: ");
	/* Below some value the program is not even loaded; where the driver refuses, what it
	 * refused is a line, and what that means another; the HBM tier and the slabs that are
	 * made in the background may each have failed by then, with a line each. */
	bool is_known = is_up ? status == 0
			      : (status == NOT_STARTED || ((status == UNMET || status == CONFIG) &&
							   lines >= 1 && lines <= 4));
	if (!is_known) {
		spawn_show_log(&daemon_);
		fail_msg("limit %d of %llu, %s: it ended with %d and %u lines of error", resource,
			 value, engine, status, lines);
	}

	return is_up;
}

/* With that much a client is served. */
static void serves(const char *engine, int resource, unsigned long long value)
{
	const struct spawn_limit limit = {resource, value};

	launch(engine, &limit);
	spawn_wait_warm(&daemon_);
	assert_int_equal(work_client(&daemon_), WORK_CLEAN);
	spawn_settle(&daemon_);
	assert_true(spawn_balanced(&daemon_));
	assert_int_equal(spawn_stop(&daemon_), 0);
}

static void test_descriptors(void **state)
{
	(void)state;
	for (size_t i = 0; i < 2; i++) {
		unsigned n = 4;
		while (!starts(engines[i], RLIMIT_NOFILE, n))
			assert_in_range(++n, 0, 64);

		assert_in_range(n, 8, 64);
		serves(engines[i], RLIMIT_NOFILE, 64);
	}
}

static void test_address_space(void **state)
{
	(void)state;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	print_message("SKIP: a sanitizer takes the address space for itself\n");
	skip();
#endif
	for (size_t i = 0; i < 2; i++) {
		unsigned long long n = 4 * MIB;
		for (; !starts(engines[i], RLIMIT_AS, n); n += 4 * MIB)
			assert_in_range(n, 0, 4096 * MIB);

		assert_in_range(n, 8 * MIB, 4096 * MIB);
		serves(engines[i], RLIMIT_AS, 8192 * MIB);
	}
}

/* The memory of a soft device is a file, too. */
static void test_file_sizes(void **state)
{
	(void)state;
	static const unsigned long long values[] = {64 << 10, MIB, 3 * MIB};
	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++)
		assert_false(starts(engines[i % 2], RLIMIT_FSIZE, values[i]));

	serves(engines[0], RLIMIT_FSIZE, 64 * MIB);
}

/* Nothing is locked but by a driver, and rings of kernels before 5.12. */
static void test_locked_memory(void **state)
{
	(void)state;
	starts(engines[0], RLIMIT_MEMLOCK, 0);
	serves(engines[1], RLIMIT_MEMLOCK, 0);
}

int main(int argc, char **argv)
{
	child_main(argc, argv, work_parts);
#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, stage_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_descriptors),
		TEST(test_address_space),
		TEST(test_file_sizes),
		TEST(test_locked_memory),
	};
	alarm(200); /* a hang is a failure */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
