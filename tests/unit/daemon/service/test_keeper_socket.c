/* SPDX-License-Identifier: Apache-2.0 */
/* A keeper hears its daemon and no other process, and keeps no descriptor that it was not to have. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/service/keeper_socket.h"
#include "tests/support/leaks.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

static struct leaks leaks;
static int server = -1, pipe_ends[2];
static struct keeper_datagram datagram;

static int setup(void **state)
{
	char address[KEEPER_ADDRESS_BYTES];

	(void)state;
	leaks_begin(&leaks);
	assert_int_equal(keeper_socket_open(&server, address), 0);
	setenv("NOTIFY_SOCKET", address, 1);
	assert_int_equal(pipe2(pipe_ends, O_CLOEXEC), 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	close(server);
	close(pipe_ends[0]);
	if (pipe_ends[1] >= 0)
		close(pipe_ends[1]);
	assert_int_equal(leaks_end(&leaks), 0);
	return 0;
}

static bool receive(void)
{
	return keeper_socket_receive(server, getpid(), &datagram);
}

/* Sends the end of the pipe that is written, so many times. */
static void send_ends(const char *text, unsigned count)
{
	int fds[KEEPER_FDS_MAX];

	for (unsigned i = 0; i < count; i++)
		fds[i] = pipe_ends[1];
	assert_true(sd_pid_notify_with_fds(0, 0, text, fds, count) > 0);
}

/* Whether any copy of that end is open, besides ours, which is closed. */
static bool is_kept(void)
{
	struct pollfd poller = {.fd = pipe_ends[0]};

	if (pipe_ends[1] >= 0)
		close(pipe_ends[1]);
	pipe_ends[1] = -1;
	poll(&poller, 1, 0);

	return !(poller.revents & POLLHUP);
}

static void test_the_daemon_is_heard(void **state)
{
	(void)state;
	assert_int_equal(receive(), false);
	send_ends("FDSTORE=1\nFDNAME=a", 2);
	send_ends("READY=1", 0);

	assert_true(receive());
	assert_true(datagram.message.store);
	assert_string_equal(datagram.message.name, "a");
	assert_int_equal(datagram.count, 2);
	assert_true(fcntl(datagram.fds[0], F_GETFD) & FD_CLOEXEC);
	keeper_datagram_close(&datagram);

	assert_true(receive());
	assert_true(datagram.message.ready);
	assert_int_equal(datagram.count, 0);
	assert_int_equal(receive(), false);
}

static void test_as_many_descriptors_as_fit(void **state)
{
	(void)state;
	send_ends("FDSTORE=1", KEEPER_FDS_MAX);
	assert_true(receive());
	assert_int_equal(datagram.count, KEEPER_FDS_MAX);
	keeper_datagram_close(&datagram);
	assert_int_equal(is_kept(), false);
}

/* In a process of its own, as which it is not the daemon. */
static void send_as_a_stranger(const char *text)
{
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		send_ends(text, 3);
		_exit(0);
	}

	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void test_strangers_are_not_heard(void **state)
{
	(void)state;
	send_as_a_stranger("FDSTORE=1\nFDNAME=a");
	send_as_a_stranger("FDSTOREREMOVE=1\nFDNAME=a");
	send_ends("READY=1", 0);

	assert_true(receive());
	assert_true(datagram.message.ready);
	assert_int_equal(receive(), false);
	assert_int_equal(is_kept(), false);
}

static void test_no_daemon_no_one_is_heard(void **state)
{
	(void)state;
	send_ends("READY=1", 0);
	assert_int_equal(keeper_socket_receive(server, 0, &datagram), false);
	assert_int_equal(receive(), false); /* nor later */
}

static void test_a_text_that_is_too_long(void **state)
{
	char text[KEEPER_TEXT_MAX + 64];
	(void)state;

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	memcpy(text, "FDSTORE=1\n", 10);
	send_ends(text, 2);
	assert_true(receive());
	assert_int_equal(datagram.message.store, false);
	assert_int_equal(datagram.count, 0);
	assert_int_equal(is_kept(), false);
}

/* Some of its descriptors would be worse than none: two ends belong together. */
static void test_no_room_for_descriptors(void **state)
{
	struct rlimit limit, low;
	(void)state;

	send_ends("FDSTORE=1\nFDNAME=a", 2);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	low = limit;
	int next = fcntl(0, F_DUPFD_CLOEXEC, 3);
	close(next);
	low.rlim_cur = (rlim_t)next + 1;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
	assert_true(receive());
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_int_equal(datagram.message.store, false);
	assert_int_equal(datagram.count, 0);
	assert_int_equal(is_kept(), false);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_the_daemon_is_heard),     TEST(test_as_many_descriptors_as_fit),
		TEST(test_strangers_are_not_heard), TEST(test_no_daemon_no_one_is_heard),
		TEST(test_a_text_that_is_too_long), TEST(test_no_room_for_descriptors),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
