/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Descriptors that came from others are closed, by this thread or by one of their own. A socket
 * that lingers on unsent bytes stands for what hangs in close(): its peer reads nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/base/fdpass.h"
#include "daemon/base/foreign_fd.h"
#include "tests/support/lingering.h"

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

static void await_closed(int fd)
{
	while (is_open(fd))
		sched_yield();
}

static int folder(void)
{
	int fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

static void await_may_stay(int fd)
{
	while (!foreign_fd_may_stay(fd))
		sched_yield();
}

/* Devices, pipes and memory files are closed when the call returns. */
static void what_never_waits_is_closed_at_once(void **state)
{
	(void)state;
	int pipes[2],
		fds[] = {open("/dev/null", O_RDWR | O_CLOEXEC), memfd_create("slab", MFD_CLOEXEC)};

	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	for (size_t i = 0; i < 2; i++) {
		assert_true(fds[i] >= 0);
		foreign_fd_close(fds[i]);
		assert_false(is_open(fds[i]));
		foreign_fd_close(pipes[i]);
		assert_false(is_open(pipes[i]));
	}
}

static void all_others_are_closed_soon(void **state)
{
	(void)state;
	int fds[] = {open("/proc/self/exe", O_RDONLY | O_CLOEXEC), eventfd(0, EFD_CLOEXEC),
		     open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC)};

	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
		assert_true(fds[i] >= 0);
		foreign_fd_close(fds[i]);
	}
	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
		await_closed(fds[i]);
	int slow = folder();
	await_may_stay(slow);
	close(slow);
}

static void none_may_stay_while_many_hang(void **state)
{
	(void)state;
	struct lingering hanging[FOREIGN_FDS_CLOSING];
	int quick = memfd_create("slab", MFD_CLOEXEC), slow = folder();

	for (size_t i = 0; i < FOREIGN_FDS_CLOSING; i++) {
		assert_true(foreign_fd_may_stay(slow));
		hanging[i] = lingering_make();
		foreign_fd_close(hanging[i].fd);
	}
	assert_false(foreign_fd_may_stay(slow));
	assert_true(foreign_fd_may_stay(quick));

	/* a peer that goes ends the wait */
	for (size_t i = 0; i < FOREIGN_FDS_CLOSING; i++)
		close(hanging[i].peer);
	await_may_stay(slow);
	close(slow);
	close(quick);
}

/* What came with one message is one thread's. */
static void many_of_them_take_one_thread(void **state)
{
	(void)state;
	int fds[2 * FOREIGN_FDS_CLOSING], slow = folder();
	struct lingering first = lingering_make();

	fds[0] = first.fd;
	for (size_t i = 1; i < 2 * FOREIGN_FDS_CLOSING; i++)
		fds[i] = i % 2 ? folder() : memfd_create("slab", MFD_CLOEXEC);
	foreign_fds_close(fds, 2 * FOREIGN_FDS_CLOSING);
	await_may_stay(slow); /* the test before may not have closed all yet */
	assert_false(is_open(fds[2]));
	assert_true(is_open(fds[1]));
	close(first.peer);
	for (size_t i = 0; i < 2 * FOREIGN_FDS_CLOSING; i++)
		await_closed(fds[i]);
	close(slow);
}

/* A socket's messages are dropped with it, and what is in them. */
static void a_socket_with_messages_is_closed_soon(void **state)
{
	(void)state;

	for (size_t bytes = 0; bytes < 2; bytes++) {
		struct lingering hanging = lingering_make();
		const struct iovec iov = {&bytes, bytes};
		int ends[2];

		assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
		assert_int_equal(fdpass_send(ends[0], &iov, 1, &hanging.fd, 1), 0);
		close(hanging.fd);
		foreign_fd_close_socket(ends[1]);
		close(hanging.peer);
		await_closed(ends[1]);
		close(ends[0]);
	}
}

static void a_socket_without_messages_is_closed_at_once(void **state)
{
	(void)state;
	int ends[2];

	for (int ended = 0; ended < 2; ended++) {
		assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
		if (ended)
			close(ends[0]);
		foreign_fd_close_socket(ends[1]);
		assert_false(is_open(ends[1]));
		if (!ended)
			close(ends[0]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_never_waits_is_closed_at_once),
		cmocka_unit_test(all_others_are_closed_soon),
		cmocka_unit_test(none_may_stay_while_many_hang),
		cmocka_unit_test(many_of_them_take_one_thread),
		cmocka_unit_test(a_socket_with_messages_is_closed_soon),
		cmocka_unit_test(a_socket_without_messages_is_closed_at_once),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
