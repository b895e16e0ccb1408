/* SPDX-License-Identifier: Apache-2.0 */
/* The leak checker must be able to fail: each kind of thing is leaked once on purpose,
 * also beside a driver that has things of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
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

/* ---- Beside a driver that keeps things of its own ---- */

static int setup_litter(void **state)
{
	(void)state;
	return setenv("HBM_SOFT", "memory=1GiB,litter=1", 1);
}

static int teardown_litter(void **state)
{
	(void)state;
	return unsetenv("HBM_SOFT");
}

static int bound_socket(const char *name)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int length = snprintf(address.sun_path + 1, sizeof(address.sun_path) - 1, "%s-%d", name,
			      (int)getpid());
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	assert_int_equal(
		bind(fd, (struct sockaddr *)&address,
		     (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length)),
		0);

	return fd;
}

static void test_what_may_be_the_drivers_is_no_leak(void **state)
{
	(void)state;
	struct leaks leaks;
	int ends[2];
	leaks_begin(&leaks);
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	const int fds[] = {ends[0],
			   ends[1],
			   eventfd(0, EFD_CLOEXEC),
			   epoll_create1(EPOLL_CLOEXEC),
			   open("/dev/zero", O_RDONLY | O_CLOEXEC),
			   open("/proc/self/maps", O_RDONLY | O_CLOEXEC),
			   memfd_create("cuda", MFD_CLOEXEC),
			   bound_socket("cuda")};
	assert_int_equal(leaks_end(&leaks), 0);
	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
		assert_int_equal(close(fds[i]), 0);
}

static void test_what_is_ours_is_a_leak(void **state)
{
	(void)state;
	struct leaks leaks;
	leaks_begin(&leaks);
	const int fds[] = {bound_socket("hbm"), socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0),
			   open("/proc/self/exe", O_RDONLY | O_CLOEXEC),
			   memfd_create("hbm-fences", MFD_CLOEXEC),
			   (int)syscall(SYS_pidfd_open, getpid(), 0)};
	void *memory = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fds[3], 0);
	assert_ptr_not_equal(memory, MAP_FAILED);
	assert_int_equal(leaks_end(&leaks), sizeof(fds) / sizeof(fds[0]) + 1);
	munmap(memory, 4096);
	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
		assert_int_equal(close(fds[i]), 0);
}

/* With the name that its maker gave it, or none. */
static size_t leaked_with_a_thread(const char *name)
{
	struct leaks leaks;
	pthread_t thread;
	int ends[2];

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	leaks_begin(&leaks);
	assert_int_equal(pthread_create(&thread, NULL, wait_for_eof, &ends[0]), 0);
	if (name)
		assert_int_equal(pthread_setname_np(thread, name), 0);

	size_t leaked = leaks_end(&leaks);
	close(ends[1]);
	pthread_join(thread, NULL);
	close(ends[0]);

	return leaked;
}

static void test_threads_beside_a_drivers(void **state)
{
	(void)state;
	assert_int_equal(leaked_with_a_thread(NULL), 0);
	assert_int_equal(leaked_with_a_thread("cuda-EvtHandlr"), 0);
	assert_int_equal(leaked_with_a_thread("hbmd-io"), 1);
}

int main(void)
{
#define BESIDE(name) cmocka_unit_test_setup_teardown(name, setup_litter, teardown_litter)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing_is_no_leak),
		cmocka_unit_test(test_fd_is_a_leak),
		cmocka_unit_test(test_fd_exchanged_for_another_is_a_leak),
		cmocka_unit_test(test_mapping_is_a_leak),
		cmocka_unit_test(test_thread_is_a_leak),
		BESIDE(test_what_may_be_the_drivers_is_no_leak),
		BESIDE(test_what_is_ours_is_a_leak),
		BESIDE(test_threads_beside_a_drivers),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
