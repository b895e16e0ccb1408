/* SPDX-License-Identifier: Apache-2.0 */
/* What is handed to who started the process comes back, by its name, until it is dropped. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/state/keep.h"
#include "tests/support/leaks.h"
#include "tests/support/store_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct leaks leaks;

static int setup(void **state)
{
	(void)state;
	leaks_begin(&leaks);
	store_rig_open();
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	store_rig_close();
	assert_int_equal(leaks_end(&leaks), 0);
	return 0;
}

static int null_file(void)
{
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

static int put(const char *name)
{
	int fd = null_file(), r = keep_put(name, fd);
	close(fd);
	return r;
}

static void take(const char *name)
{
	int fd = keep_take(name);
	assert_true(fd >= 0);
	close(fd);
}

static void next(void)
{
	store_rig_settle();
	store_rig_next();
}

static void test_what_is_kept_comes_back(void **state)
{
	char name[KEEP_NAME_BYTES];
	(void)state;

	assert_true(keep_is_there());
	assert_int_equal(put("ddr0"), 0);
	assert_int_equal(put("ddr1"), 0);
	assert_int_equal(keep_take("ddr0"), -1); /* for the next one, not for this */
	assert_int_equal(keep_find("ddr", name), false);

	next();
	assert_int_equal(keep_count(), 2);
	assert_true(keep_find("ddr", name));
	assert_int_equal(keep_find("state", name), false);
	take("ddr1");
	assert_int_equal(keep_take("ddr1"), -1);

	next(); /* what was taken is still kept */
	take("ddr1");
}

static void test_what_is_dropped_does_not(void **state)
{
	(void)state;
	assert_int_equal(put("a"), 0);
	assert_int_equal(put("b"), 0);
	keep_drop("a");
	keep_drop("c");
	assert_int_equal(keep_count(), 1);
	next();
	assert_int_equal(keep_take("a"), -1);
	assert_int_equal(keep_count(), 1);
	keep_drop("b"); /* which came back and was not taken */
	assert_int_equal(store_rig_count(), 0);
}

static void test_a_pair(void **state)
{
	const int two[] = {null_file(), null_file()};
	(void)state;

	assert_int_equal(keep_put_pair("park-1", two), 0);
	close(two[0]);
	close(two[1]);
	next();
	int a = keep_take("park-1"), b = keep_take("park-1");
	assert_true(a >= 0 && b >= 0);
	assert_int_equal(keep_take("park-1"), -1);
	close(a);
	close(b);
}

static void test_what_is_not_taken_is_let_go(void **state)
{
	(void)state;
	assert_int_equal(put("a"), 0);
	assert_int_equal(put("b"), 0);
	assert_int_equal(put("b"), 0);
	assert_int_equal(put("c"), 0);
	next();
	take("a");
	take("b");
	keep_let_go();
	next();
	take("a");
	take("b");
	assert_int_equal(keep_take("c"), -1);
}

static void test_limits(void **state)
{
	char long_name[KEEP_NAME_BYTES + 1];
	(void)state;

	memset(long_name, 'x', sizeof(long_name) - 1);
	long_name[sizeof(long_name) - 1] = '\0';
	assert_int_equal(put(long_name), -EINVAL);
	assert_int_equal(put(""), -EINVAL);
	assert_int_equal(put("a:b"), -EINVAL);
	assert_int_equal(put("a\nFDSTOREREMOVE=1"), -EINVAL);

	store_rig_limit(2);
	assert_int_equal(put("a"), 0);
	const int two[] = {null_file(), null_file()};
	assert_int_equal(keep_put_pair("b", two), -ENOSPC);
	close(two[0]);
	close(two[1]);
	assert_int_equal(put("b"), 0);
	assert_int_equal(put("c"), -ENOSPC);
	keep_drop("a");
	assert_int_equal(put("c"), 0);
	assert_int_equal(store_rig_count(), 2);
}

static void test_kept_by_no_one(void **state)
{
	(void)state;
	store_rig_limit(0);
	assert_int_equal(keep_is_there(), false);
	assert_int_equal(put("a"), -ENOTCONN);
	assert_int_equal(keep_count(), 0);

	store_rig_limit(8);
	char *address = strdup(getenv("NOTIFY_SOCKET"));
	assert_non_null(address);
	unsetenv("NOTIFY_SOCKET");
	assert_int_equal(keep_is_there(), false);
	assert_int_equal(put("a"), -ENOTCONN);

	setenv("NOTIFY_SOCKET", "@hbmd-test-nowhere", 1);
	assert_true(put("a") < 0);
	assert_int_equal(keep_count(), 0);
	setenv("NOTIFY_SOCKET", address, 1);
	free(address);
}

static void test_what_others_pass_is_none_of_it(void **state)
{
	int fd = null_file();
	(void)state;

	assert_int_equal(keep_came_back("hbmd", fd), -EINVAL);
	assert_int_equal(keep_came_back("kept-", fd), -EINVAL);
	assert_int_equal(keep_came_back("kept-A b", fd), -EINVAL);
	assert_int_equal(keep_count(), 0);
	close(fd);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_what_is_kept_comes_back),
		TEST(test_what_is_dropped_does_not),
		TEST(test_a_pair),
		TEST(test_what_is_not_taken_is_let_go),
		TEST(test_limits),
		TEST(test_kept_by_no_one),
		TEST(test_what_others_pass_is_none_of_it),
	};
	alarm(100);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
