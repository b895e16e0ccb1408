/* SPDX-License-Identifier: Apache-2.0 */
/* What a keeper has, and that the daemon finds all of it where it looks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/service/keeper_store.h"
#include "tests/support/leaks.h"
#include "tests/support/seed.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

enum { FEW = 40 };

static struct leaks leaks;
static struct keeper_store store;
static struct seed seed;

static int setup(void **state)
{
	(void)state;
	leaks_begin(&leaks);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	keeper_store_clear(&store);
	assert_int_equal(leaks_end(&leaks), 0);
	return 0;
}

/* A memfd that knows its name. */
static int thing(const char *name)
{
	int fd = memfd_create("thing", MFD_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, name, strlen(name), 0), strlen(name));
	return fd;
}

static bool is_thing(int fd, const char *name)
{
	char text[64] = "";
	return pread(fd, text, sizeof(text) - 1, 0) > 0 && strcmp(text, name) == 0;
}

static void put(const char *name, int fd)
{
	keeper_store_put(&store, name, &fd, 1);
}

static void test_names(void **state)
{
	(void)state;
	put("a", thing("a"));
	put("b", thing("b"));
	put("a", thing("a2"));
	put("", thing("none"));
	assert_int_equal(store.count, 4);
	assert_string_equal(store.names[3], "stored");

	keeper_store_drop(&store, "a");
	assert_int_equal(store.count, 2);
	assert_string_equal(store.names[0], "b");
	assert_true(is_thing(store.fds[0], "b"));
	keeper_store_drop(&store, "c");
	keeper_store_drop(&store, "");
	assert_int_equal(store.count, 2);
}

static void test_a_full_store_takes_all_or_none(void **state)
{
	(void)state;
	while (store.count < KEEPER_STORE_MAX - 1)
		put("a", open("/dev/null", O_RDONLY | O_CLOEXEC));

	int two[] = {thing("x"), thing("y")};
	keeper_store_put(&store, "b", two, 2);
	assert_int_equal(store.count, KEEPER_STORE_MAX - 1);
	assert_int_equal(fcntl(two[0], F_GETFD), -1);
	assert_int_equal(fcntl(two[1], F_GETFD), -1);

	put("b", thing("b"));
	assert_int_equal(store.count, KEEPER_STORE_MAX);
	put("c", thing("c"));
	assert_int_equal(store.count, KEEPER_STORE_MAX);
}

/* In the process that becomes the daemon. */
static bool is_passed_on(void)
{
	char **names, expected[16];
	int count = sd_listen_fds_with_names(1, &names);

	if (count != FEW)
		return false;

	for (int i = 0; i < count; i++) {
		snprintf(expected, sizeof(expected), "n%d", i);
		if (strcmp(names[i], expected) != 0 || !is_thing(SD_LISTEN_FDS_START + i, expected))
			return false;
	}

	return true;
}

/* Whatever numbers they have, those among them that others are to get. */
static void test_all_are_passed_on(void **state)
{
	int fds[FEW];
	char name[16];
	(void)state;

	for (size_t i = 0; i < FEW; i++) {
		snprintf(name, sizeof(name), "n%zu", i);
		fds[i] = thing(name);
	}

	/* The same descriptors in another order of their numbers. */
	for (size_t i = FEW - 1; i > 0; i--) {
		size_t k = seed_below(&seed, i + 1);
		int high = fcntl(fds[i], F_DUPFD_CLOEXEC, 500);
		dup3(fds[k], fds[i], O_CLOEXEC);
		dup3(high, fds[k], O_CLOEXEC);
		close(high);
		int fd = fds[i];
		fds[i] = fds[k];
		fds[k] = fd;
	}

	for (size_t i = 0; i < FEW; i++) {
		snprintf(name, sizeof(name), "n%zu", i);
		put(name, fds[i]);
	}

	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		_exit(keeper_store_pass(&store) == 0 && is_passed_on() ? 0 : 1);

	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void test_none_are_passed_on(void **state)
{
	(void)state;
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		_exit(keeper_store_pass(&store) == 0 && !getenv("LISTEN_FDS") ? 0 : 1);

	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

int main(void)
{
	seed_open(&seed, "keeper_store");
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_names),
		TEST(test_a_full_store_takes_all_or_none),
		TEST(test_all_are_passed_on),
		TEST(test_none_are_passed_on),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
