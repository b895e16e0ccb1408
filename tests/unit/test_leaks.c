/* SPDX-License-Identifier: Apache-2.0 */
/* The leak checker must be able to fail: each kind of thing is leaked once on purpose. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/support/leaks.h"

static void test_nothing_is_no_leak(void **state)
{
	(void)state;
	struct leaks leaks;
	leaks_begin(&leaks);
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	assert_int_not_equal(fd, -1);
	close(fd);
	assert_int_equal(leaks_end(&leaks), 0);
}

static void test_fd_is_a_leak(void **state)
{
	(void)state;
	struct leaks leaks;
	leaks_begin(&leaks);
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	assert_int_not_equal(fd, -1);
	assert_int_equal(leaks_end(&leaks), 1);
	close(fd);
}

static void test_fd_exchanged_for_another_is_a_leak(void **state)
{
	(void)state;
	struct leaks leaks;
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	leaks_begin(&leaks);
	close(fd);
	fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	assert_int_equal(leaks_end(&leaks), 1);
	close(fd);
}

static void test_mapping_is_a_leak(void **state)
{
	(void)state;
	struct leaks leaks;
	leaks_begin(&leaks);
	int fd = memfd_create("leak", MFD_CLOEXEC);
	assert_int_equal(ftruncate(fd, 8192), 0);
	void *memory = mmap(NULL, 8192, PROT_READ, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(memory, MAP_FAILED);
	close(fd);
	assert_int_equal(leaks_end(&leaks), 1);
	munmap(memory, 8192);
}

static void *wait_for_eof(void *fd)
{
	char byte;
	return read(*(int *)fd, &byte, 1) == 0 ? NULL : fd;
}

static void test_thread_is_a_leak(void **state)
{
	(void)state;
	struct leaks leaks;
	pthread_t thread;
	int ends[2];
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	leaks_begin(&leaks);
	assert_int_equal(pthread_create(&thread, NULL, wait_for_eof, &ends[0]), 0);
	assert_int_equal(leaks_end(&leaks), 1);
	close(ends[1]);
	pthread_join(thread, NULL);
	close(ends[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing_is_no_leak),
		cmocka_unit_test(test_fd_is_a_leak),
		cmocka_unit_test(test_fd_exchanged_for_another_is_a_leak),
		cmocka_unit_test(test_mapping_is_a_leak),
		cmocka_unit_test(test_thread_is_a_leak),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
