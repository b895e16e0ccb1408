/* SPDX-License-Identifier: Apache-2.0 */
/* What a message looks like on stderr, which each test points at a file of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <regex.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/base/log.h"

static int real_stderr, file;

static int set_up(void **state)
{
	(void)state;
	unsetenv("JOURNAL_STREAM");
	real_stderr = dup(STDERR_FILENO);
	file = memfd_create("stderr", MFD_CLOEXEC);

	/* Writers of a memfd share a position, but do not lock it. */
	if (fcntl(file, F_SETFL, O_APPEND) < 0)
		return -1;

	return dup2(file, STDERR_FILENO) < 0 ? -1 : 0;
}

static int tear_down(void **state)
{
	(void)state;
	dup2(real_stderr, STDERR_FILENO);
	close(real_stderr);
	close(file);
	return 0;
}

/* What was written so far, as a string. */
static const char *written(void)
{
	static char text[1 << 20];
	ssize_t length = pread(file, text, sizeof(text) - 1, 0);
	assert_in_range(length, 0, sizeof(text) - 1);
	text[length] = '\0';
	return text;
}

static void pretend_journal(void)
{
	struct stat status;
	char stream[64];

	assert_int_equal(fstat(STDERR_FILENO, &status), 0);
	snprintf(stream, sizeof(stream), "%ju:%ju", (uintmax_t)status.st_dev,
		 (uintmax_t)status.st_ino);
	setenv("JOURNAL_STREAM", stream, 1);
}

static void test_time_and_word(void **state)
{
	(void)state;
	regex_t pattern;
	assert_int_equal(regcomp(&pattern,
				 "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}\\.[0-9]{3}Z warning: 3 of "
				 "4 things\n$",
				 REG_EXTENDED | REG_NOSUB),
			 0);
	log_open(LOG_INFO);
	log_warning("%d of %d things", 3, 4);
	assert_int_equal(regexec(&pattern, written(), 0, NULL, 0), 0);
	regfree(&pattern);
}

static void test_journal_prefix(void **state)
{
	(void)state;
	pretend_journal();
	log_open(LOG_DEBUG);
	log_error("broken");
	log_debug("fine");
	assert_string_equal(written(), "<3>broken\n<7>fine\n");
}

static void test_another_journal_stream(void **state)
{
	(void)state;
	setenv("JOURNAL_STREAM", "1:1", 1);
	log_open(LOG_DEBUG);
	log_error("broken");
	assert_non_null(strstr(written(), "Z error: broken\n"));
	assert_null(strchr(written(), '<'));
}

static void test_levels(void **state)
{
	(void)state;
	pretend_journal();
	log_open(LOG_NOTICE);
	log_info("not this");
	log_notice("this");
	assert_string_equal(written(), "<5>this\n");
}

static void test_nobody_forges_a_line(void **state)
{
	(void)state;
	pretend_journal();
	log_open(LOG_INFO);
	log_info("session '%s'", "a\n<0>b\x1b[31m\x7f");
	assert_string_equal(written(), "<6>session 'a?<0>b?[31m?'\n");
}

static void test_errno_is_kept(void **state)
{
	(void)state;
	pretend_journal();
	log_open(LOG_INFO);
	errno = ENOSPC;
	log_info("%m");
	assert_int_equal(errno, ENOSPC);
	assert_string_equal(written(), "<6>No space left on device\n");
}

static void test_long_lines_are_cut(void **state)
{
	(void)state;
	char *text = malloc(100001);
	memset(text, 'x', 100000);
	text[100000] = '\0';
	pretend_journal();
	log_open(LOG_INFO);
	log_info("%s", text);
	log_info("next");
	const char *line = written(), *end = strchr(line, '\n');
	assert_int_equal(end - line, 2046);
	assert_memory_equal(end - 4, "x...\n<6>next\n", 13);
	free(text);
}

enum { THREADS = 4, LINES = 2000 };

static void *write_lines(void *arg)
{
	for (int i = 0; i < LINES; i++)
		log_info("thread %s line %s", (const char *)arg, (const char *)arg);
	return NULL;
}

static void test_threads_do_not_mix(void **state)
{
	(void)state;
	static char names[THREADS][2] = {"a", "b", "c", "d"};
	pthread_t threads[THREADS];
	pretend_journal();
	log_open(LOG_INFO);
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, write_lines, names[i]), 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	int lines = 0;
	for (const char *line = written(); *line; line += strlen("<6>thread a line a\n"), lines++) {
		char expected[32];
		snprintf(expected, sizeof(expected), "<6>thread %c line %c\n", line[10], line[10]);
		assert_memory_equal(line, expected, strlen(expected));
	}

	assert_int_equal(lines, THREADS * LINES);
}

/* What fails by the thousand is logged for a while, and later it is said how many were
 * not. */
static void test_a_quota(void **state)
{
	(void)state;
	struct log_quota quota = {.second_ns = UINT64_MAX / 2}; /* a second that does not end */
	unsigned within = 0;
	pretend_journal();
	log_open(LOG_INFO);
	for (unsigned i = 0; i < 1000; i++)
		within += log_quota(&quota);
	assert_int_equal(within, LOG_QUOTA);
	assert_string_equal(written(), "");
	quota.second_ns = 0;
	assert_true(log_quota(&quota));
	assert_string_equal(written(), "<3>980 similar messages suppressed\n");
	assert_int_equal(quota.count, 1);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_time_and_word),
		TEST(test_journal_prefix),
		TEST(test_another_journal_stream),
		TEST(test_levels),
		TEST(test_nobody_forges_a_line),
		TEST(test_errno_is_kept),
		TEST(test_long_lines_are_cut),
		TEST(test_threads_do_not_mix),
		TEST(test_a_quota),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
