/* SPDX-License-Identifier: Apache-2.0 */
/* A limit that was hit is named with its value; one that is not set is not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>
#include <sys/resource.h>

#include "daemon/base/rlimit.h"

static void test_errors_and_their_limits(void **state)
{
	(void)state;
	assert_int_equal(rlimit_of_error(-EMFILE), RLIMIT_NOFILE);
	assert_int_equal(rlimit_of_error(EMFILE), RLIMIT_NOFILE);
	assert_int_equal(rlimit_of_error(-EFBIG), RLIMIT_FSIZE);
	assert_int_equal(rlimit_of_error(-ENOMEM), RLIMIT_AS);
	assert_int_equal(rlimit_of_error(-EAGAIN), RLIMIT_NPROC); /* if nothing else is set */
	assert_int_equal(rlimit_of_error(-EIO), -1);
	assert_int_equal(rlimit_of_error(0), -1);
}

/* pthread_create() says EAGAIN where there is no room for a stack. */
static void test_a_thread_without_room_for_its_stack(void **state)
{
	(void)state;
	struct rlimit before, limit;

	assert_int_equal(getrlimit(RLIMIT_AS, &before), 0);
	limit = before;
	limit.rlim_cur = 1ull << 50;
	if (setrlimit(RLIMIT_AS, &limit) < 0)
		skip();
	assert_int_equal(rlimit_of_error(-EAGAIN), RLIMIT_AS);
	assert_int_equal(setrlimit(RLIMIT_AS, &before), 0);
}

static void test_the_hint(void **state)
{
	(void)state;
	char text[RLIMIT_HINT];
	struct rlimit before, limit;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	limit = before;
	limit.rlim_cur = 77;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_string_equal(rlimit_hint(text, RLIMIT_NOFILE),
			    "; RLIMIT_NOFILE is 77: raise LimitNOFILE= of the unit, or ulimit -n");
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);

	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	limit = before;
	limit.rlim_cur = 8 << 20;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	assert_string_equal(
		rlimit_hint(text, RLIMIT_FSIZE),
		"; RLIMIT_FSIZE is 8388608 bytes: raise LimitFSIZE= of the unit, or ulimit -f");
	limit.rlim_cur = limit.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	assert_int_equal(rlimit_hint(text, RLIMIT_FSIZE)[0] == '\0',
			 limit.rlim_max == RLIM_INFINITY);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);

	assert_string_equal(rlimit_hint(text, -1), "");
	assert_string_equal(rlimit_hint(text, RLIMIT_CPU), "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_errors_and_their_limits),
		cmocka_unit_test(test_a_thread_without_room_for_its_stack),
		cmocka_unit_test(test_the_hint),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
