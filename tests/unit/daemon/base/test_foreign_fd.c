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
#include <netinet/in.h>
#include <sched.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/base/foreign_fd.h"

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

static void await_closed(int fd)
{
	while (is_open(fd))
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
	while (!foreign_fds_may_come())
		sched_yield();
}

/* A connection with bytes that nobody reads, whose close() waits for them for a minute. */
static int make_lingering(int listener, const struct sockaddr_in *address, int *peer)
{
	static char bytes[65536];
	const struct linger linger = {.l_onoff = 1, .l_linger = 60};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (const struct sockaddr *)address, sizeof(*address)), 0);
	*peer = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	assert_true(*peer >= 0);
	while (send(fd, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
		;
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)), 0);

	return fd;
}

static void none_may_come_while_many_hang(void **state)
{
	(void)state;
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof(address);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), peers[FOREIGN_FDS_CLOSING];

	assert_int_equal(bind(listener, (struct sockaddr *)&address, size), 0);
	assert_int_equal(listen(listener, FOREIGN_FDS_CLOSING), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &size), 0);

	for (size_t i = 0; i < FOREIGN_FDS_CLOSING; i++) {
		assert_true(foreign_fds_may_come());
		foreign_fd_close(make_lingering(listener, &address, &peers[i]));
	}
	assert_false(foreign_fds_may_come());

	/* a peer that goes ends the wait */
	for (size_t i = 0; i < FOREIGN_FDS_CLOSING; i++)
		close(peers[i]);
	while (!foreign_fds_may_come())
		sched_yield();
	close(listener);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_never_waits_is_closed_at_once),
		cmocka_unit_test(all_others_are_closed_soon),
		cmocka_unit_test(none_may_come_while_many_hang),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
