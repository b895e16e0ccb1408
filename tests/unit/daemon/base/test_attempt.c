/* SPDX-License-Identifier: Apache-2.0 */
/* What is tried on a thread of its own: in time, and too late. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/base/attempt.h"
#include "daemon/base/list.h"
#include "tests/support/leaks.h"

#define FOREVER UINT64_C(3600000000000)

struct trial {
	struct attempt attempt;
	int wait[2], told[2]; /* pipes: run() waits for one, late() tells the other */
	char name[16];
	pthread_t thread;
};

static struct leaks leaks;

static int set_up(void **state)
{
	(void)state;
	leaks_begin(&leaks);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	return leaks_end(&leaks) == 0 ? 0 : -1;
}

static void run_trial(struct attempt *attempt)
{
	struct trial *trial = container_of(attempt, struct trial, attempt);
	char byte;

	pthread_getname_np(pthread_self(), trial->name, sizeof(trial->name));
	trial->thread = pthread_self();
	if (read(trial->wait[0], &byte, 1) != 1)
		abort();
}

static void late_trial(struct attempt *attempt)
{
	struct trial *trial = container_of(attempt, struct trial, attempt);
	int told = trial->told[1];

	free(trial);
	if (write(told, "l", 1) != 1)
		abort();
}

static struct trial *new_trial(void)
{
	struct trial *trial = calloc(1, sizeof(*trial));
	assert_non_null(trial);
	trial->attempt = (struct attempt){.run = run_trial, .late = late_trial};
	assert_int_equal(pipe(trial->wait), 0);
	assert_int_equal(pipe(trial->told), 0);
	return trial;
}

static void close_pipes(const int *wait, const int *told)
{
	for (int i = 0; i < 2; i++) {
		close(wait[i]);
		close(told[i]);
	}
}

static void test_in_time(void **state)
{
	(void)state;
	struct trial *trial = new_trial();
	assert_int_equal(write(trial->wait[1], "g", 1), 1);
	assert_int_equal(attempt_run(&trial->attempt, "a-name", FOREVER), 0);
	assert_string_equal(trial->name, "a-name");
	assert_false(pthread_equal(trial->thread, pthread_self()));

	/* It may be tried again. */
	assert_int_equal(write(trial->wait[1], "g", 1), 1);
	assert_int_equal(attempt_run(&trial->attempt, "another", FOREVER), 0);
	assert_string_equal(trial->name, "another");
	close_pipes(trial->wait, trial->told);
	free(trial);
}

static void test_too_late(void **state)
{
	(void)state;
	struct trial *trial = new_trial();
	int wait[2], told[2];
	char byte = 0;
	memcpy(wait, trial->wait, sizeof(wait));
	memcpy(told, trial->told, sizeof(told));
	assert_int_equal(write(wait[1], "g", 1), 1);
	assert_int_equal(attempt_run(&trial->attempt, "answers", FOREVER), 0);
	assert_int_equal(attempt_run(&trial->attempt, "hangs", 1), -ETIMEDOUT);
	assert_int_equal(write(wait[1], "g", 1), 1);
	assert_int_equal(read(told[0], &byte, 1), 1); /* late() has freed it */
	assert_int_equal(byte, 'l');
	close_pipes(wait, told);
}

/* The stacks of its threads are used again. */
static void test_many(void **state)
{
	enum { MANY = 64 };
	pthread_attr_t attributes;
	size_t stack = 0;
	assert_int_equal(pthread_attr_init(&attributes), 0);
	pthread_attr_getstacksize(&attributes, &stack);
	pthread_attr_destroy(&attributes);

	unsigned long before = leaks_address_space();
	for (unsigned i = 0; i < MANY; i++) {
		test_in_time(state);
		test_too_late(state);
	}
	unsigned long pages = leaks_address_space() - before;
	assert_in_range(pages * (unsigned long)sysconf(_SC_PAGESIZE), 0, MANY / 2 * stack);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_in_time),
		TEST(test_too_late),
		TEST(test_many),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
