/* SPDX-License-Identifier: Apache-2.0 */
/* Lines on their way to a stderr that is a pipe, which each test reads as slowly as it
 * wants. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/base/log_queue.h"
#include "tests/support/leaks.h"

enum { PIPE = 16384, LINE = 64 };
#define HELD (LOG_QUEUE_BYTES / LINE + PIPE / LINE) /* no more lines than that can wait */

static int real_stderr, reader;
static uint64_t dropped_before;
static struct leaks leaks;

static size_t print_dropped(char *line, size_t size, uint64_t dropped)
{
	return (size_t)snprintf(line, size, "%llu dropped\n", (unsigned long long)dropped);
}

static int set_up(void **state)
{
	int ends[2];

	(void)state;
	leaks_begin(&leaks);
	real_stderr = dup(STDERR_FILENO);
	if (pipe2(ends, O_CLOEXEC) < 0 || fcntl(ends[0], F_SETPIPE_SZ, PIPE) < 0 ||
	    dup2(ends[1], STDERR_FILENO) < 0)
		return -1;

	close(ends[1]);
	reader = ends[0];
	dropped_before = log_queue_dropped();

	return log_queue_start(print_dropped);
}

static int tear_down(void **state)
{
	(void)state;
	log_queue_stop();
	dup2(real_stderr, STDERR_FILENO);
	close(real_stderr);
	if (reader >= 0)
		close(reader);
	assert_int_equal(leaks_end(&leaks), 0);
	return 0;
}

static void put(unsigned number)
{
	char line[LINE + 1];
	snprintf(line, sizeof(line), "line %08u %*s\n", number, LINE - 15, ".");
	log_queue_put(line, strlen(line));
}

/* The next line, without its end. */
static void next(char *line, size_t size)
{
	size_t length = 0;
	while (length < size - 1 && read(reader, line + length, 1) == 1 && line[length] != '\n')
		length++;
	line[length] = '\0';
}

static void expect(unsigned number)
{
	char line[256], expected[256];
	next(line, sizeof(line));
	snprintf(expected, sizeof(expected), "line %08u ", number);
	if (strncmp(line, expected, strlen(expected)) != 0)
		fail_msg("expected %s, got %s", expected, line);
}

static void test_lines_keep_their_order(void **state)
{
	(void)state;
	for (unsigned round = 0; round < 100; round++) {
		for (unsigned i = 0; i < 500; i++)
			put(round * 500 + i);
		for (unsigned i = 0; i < 500; i++)
			expect(round * 500 + i);
	}

	assert_int_equal(log_queue_dropped(), dropped_before);
}

/* Puts lines until one is dropped, and some more: how many were taken. */
static unsigned fill(void)
{
	unsigned taken = 0;

	while (log_queue_dropped() == dropped_before) {
		assert_true(taken <= HELD);
		put(taken++);
	}

	for (unsigned i = 0; i < 10; i++)
		put(taken + i);
	assert_int_equal(log_queue_dropped(), dropped_before + 11);

	return taken - 1;
}

/* What is lost is the newest, in one place, and that place is marked. */
static void test_what_does_not_fit_is_dropped(void **state)
{
	(void)state;
	char line[256];
	for (unsigned round = 0; round < 3; round++) {
		dropped_before = log_queue_dropped();
		unsigned taken = fill();
		for (unsigned i = 0; i < taken; i++)
			expect(i);
		next(line, sizeof(line));
		assert_string_equal(line, "11 dropped");
		put(7);
		expect(7);
		assert_int_equal(log_queue_dropped(), dropped_before + 11);
	}
}

enum { THREADS = 4, LINES = 3000 };

static void *put_lines(void *arg)
{
	for (unsigned i = 0; i < LINES; i++)
		put(*(unsigned *)arg * LINES + i);
	return NULL;
}

/* Each line comes whole and once, or is among those said to be dropped. */
static void test_none_is_lost_unsaid(void **state)
{
	(void)state;
	pthread_t threads[THREADS];
	unsigned numbers[THREADS], came = 0;
	unsigned long long said = 0, one;
	char line[256];

	for (unsigned i = 0; i < THREADS; i++) {
		numbers[i] = i;
		assert_int_equal(pthread_create(&threads[i], NULL, put_lines, &numbers[i]), 0);
	}

	while (came + said < THREADS * LINES) {
		next(line, sizeof(line));
		if (sscanf(line, "%llu dropped", &one) == 1) {
			said += one;
		} else {
			assert_int_equal(strlen(line), LINE - 1);
			came++;
		}
	}

	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(log_queue_dropped() - dropped_before, said);
}

static void test_last_words(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 10; i++)
		put(i);
	log_queue_stop();
	put(10); /* by who logs it */
	for (unsigned i = 0; i <= 10; i++)
		expect(i);
}

/* A stop does not wait for a reader; what comes later is for whoever does read. */
static void test_a_stop_that_nobody_reads(void **state)
{
	(void)state;
	char line[256];
	unsigned taken = fill();
	log_queue_stop();
	assert_int_equal(log_queue_start(print_dropped), -EBUSY);
	for (unsigned i = 0; i < taken; i++)
		expect(i);
	next(line, sizeof(line));
	assert_string_equal(line, "11 dropped");
	int r;
	while ((r = log_queue_start(print_dropped)) == -EBUSY)
		poll(NULL, 0, 1);
	assert_int_equal(r, 0);
}

static void test_a_reader_that_has_gone(void **state)
{
	(void)state;
	signal(SIGPIPE, SIG_IGN);
	close(reader);
	reader = -1;
	for (unsigned i = 0; i < 10 * HELD; i++)
		put(i);
	log_queue_stop();
	put(0);
	assert_int_equal(log_queue_start(print_dropped), 0);
}

static void test_somebody_makes_it_non_blocking(void **state)
{
	(void)state;
	int flags = fcntl(STDERR_FILENO, F_GETFL);
	assert_int_equal(fcntl(STDERR_FILENO, F_SETFL, flags | O_NONBLOCK), 0);
	for (unsigned i = 0; i < 500; i++)
		put(i);
	for (unsigned i = 0; i < 500; i++)
		expect(i);
}

static void fail_after_a_line(void)
{
	if (log_queue_start(print_dropped) != 0)
		_exit(1);
	for (unsigned i = 0; i < 500; i++)
		put(i);
	abort();
}

/* In another process, as this one is to go on. */
static void test_words_before_a_crash(void **state)
{
	(void)state;
	int status;
	log_queue_stop();
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		fail_after_a_line();
	for (unsigned i = 0; i < 500; i++)
		expect(i);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGABRT);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_lines_keep_their_order),
		TEST(test_what_does_not_fit_is_dropped),
		TEST(test_none_is_lost_unsaid),
		TEST(test_last_words),
		TEST(test_a_stop_that_nobody_reads),
		TEST(test_a_reader_that_has_gone),
		TEST(test_somebody_makes_it_non_blocking),
		TEST(test_words_before_a_crash),
	};
	alarm(100); /* a hang is a failure */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
