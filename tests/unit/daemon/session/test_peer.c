/* SPDX-License-Identifier: Apache-2.0 */
/* Who is at the other end, and in which unit; and whether it is still there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/session/peer.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <systemd/sd-login.h>
#include <unistd.h>

/* A process that ends when `hold` is closed, at the other end of a socket. */
static int connect_child(pid_t *pid, int *hold)
{
	int sockets[2], pipes[2];
	char byte;

	assert_int_equal(pipe(pipes), 0);
	*pid = fork();
	if (*pid == 0) {
		close(pipes[1]);
		(void)!read(pipes[0], &byte, 1);
		_exit(0);
	}

	close(pipes[0]);
	*hold = pipes[1];
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sockets), 0);
	close(sockets[1]);

	return sockets[0];
}

static void the_unit_of_a_process(void **state)
{
	(void)state;
	struct peer peer;
	char unit[256], *expected = NULL;
	pid_t pid;
	int hold, socket = connect_child(&pid, &hold);

	close(hold);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(peer_identify(socket, &peer), 0); /* this process made the pair */
	assert_int_equal(peer.pid, getpid());
	(void)sd_pid_get_unit(getpid(), &expected);
	strcpy(unit, "not written");
	peer_unit(&peer, unit, sizeof(unit));
	assert_string_equal(unit, expected ? expected : "");

	free(expected);
	close(peer.pidfd);
	close(socket);
}

/* Its number may be another's by now. */
static void a_process_that_is_gone_has_none(void **state)
{
	(void)state;
	struct peer peer;
	char unit[256] = "not written";
	pid_t pid;
	int hold, socket = connect_child(&pid, &hold);

	assert_int_equal(peer_identify(socket, &peer), 0);
	close(peer.pidfd);
	close(hold);
	assert_int_equal(waitpid(pid, NULL, 0), pid);

	/* a handle that says so, beside a number that is in use */
	int pipes[2];
	assert_int_equal(pipe(pipes), 0);
	close(pipes[1]);
	peer.pidfd = pipes[0];
	peer.pid = getpid();
	peer_unit(&peer, unit, sizeof(unit));
	assert_string_equal(unit, "");

	close(pipes[0]);
	close(socket);
}

static void a_process_is_found_again(void **state)
{
	(void)state;
	pid_t pid = fork();
	int pidfd;

	if (pid == 0)
		_exit(0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(peer_find(pid, UINT64_MAX), -ESRCH);
	assert_int_equal(peer_find(0, UINT64_MAX), -ESRCH);
	assert_int_equal(peer_find(getpid(), 0), -ESRCH); /* it has the number since */
	pidfd = peer_find(getpid(), UINT64_MAX);
	assert_true(pidfd >= 0);

	close(pidfd);
}

struct thread {
	int started[2], ends[2];
};

static void *say_number(void *arg)
{
	const struct thread *thread = arg;
	pid_t number = gettid();
	char byte;

	(void)!write(thread->started[1], &number, sizeof(number));
	(void)!read(thread->ends[0], &byte, 1);

	return NULL;
}

/* Such a process has ended: else no daemon could start as long as the thread runs. */
static void a_number_that_a_thread_has_now(void **state)
{
	(void)state;
	struct thread thread;
	pthread_t id;
	pid_t number;

	assert_int_equal(pipe(thread.started), 0);
	assert_int_equal(pipe(thread.ends), 0);
	assert_int_equal(pthread_create(&id, NULL, say_number, &thread), 0);
	assert_int_equal(read(thread.started[0], &number, sizeof(number)), sizeof(number));
	assert_int_equal(peer_find(number, UINT64_MAX), -ESRCH);

	close(thread.ends[1]);
	assert_int_equal(pthread_join(id, NULL), 0);
	close(thread.ends[0]);
	close(thread.started[0]);
	close(thread.started[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_unit_of_a_process),
		cmocka_unit_test(a_process_that_is_gone_has_none),
		cmocka_unit_test(a_process_is_found_again),
		cmocka_unit_test(a_number_that_a_thread_has_now),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
