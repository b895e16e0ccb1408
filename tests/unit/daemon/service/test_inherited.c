/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the service manager passes: the socket is known by its kind and name, other
 * descriptors by the name of their taker, and what nobody knows fails the start and is
 * named. Each case runs in a process of its own, whose descriptors from 3 on are those
 * passed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/service/inherited.h"
#include "tests/support/leaks.h"

enum { FIRST = 3, PASSED_MAX = 4, HIGH = 200 };

/* What the process found, in memory shared with the test. */
struct outcome {
	int r, socket, taken[PASSED_MAX];
	unsigned takes;
	bool is_open[PASSED_MAX], is_close_on_exec[PASSED_MAX], is_non_blocking,
		environment_is_left;
	char error[256];
};

struct fixture {
	struct leaks leaks;
	struct outcome *outcome;
	char folder[64];
	int made[PASSED_MAX];
	size_t count;
	int take_result;
};

static int setup(void **state)
{
	static struct fixture fixture;

	fixture = (struct fixture){.folder = "/tmp/hbm-inherited-XXXXXX"};
	leaks_begin(&fixture.leaks);
	fixture.outcome = mmap(NULL, sizeof(*fixture.outcome), PROT_READ | PROT_WRITE,
			       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(fixture.outcome, MAP_FAILED);
	assert_non_null(mkdtemp(fixture.folder));
	*state = &fixture;

	return 0;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;
	char path[128];

	for (size_t i = 0; i < fixture->count; i++)
		close(fixture->made[i]);
	for (size_t i = 0; i < PASSED_MAX; i++) {
		snprintf(path, sizeof(path), "%s/%zu", fixture->folder, i);
		unlink(path);
	}

	assert_int_equal(rmdir(fixture->folder), 0);
	munmap(fixture->outcome, sizeof(*fixture->outcome));
	assert_int_equal(leaks_end(&fixture->leaks), 0);

	return 0;
}

/* ---- What is passed ---- */

static void add(struct fixture *fixture, int fd)
{
	assert_true(fd >= 0);
	fixture->made[fixture->count++] = fd;
}

static void add_file(struct fixture *fixture)
{
	add(fixture, open("/dev/null", O_RDWR | O_CLOEXEC));
}

static void add_socket(struct fixture *fixture, int type, bool listens)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

	add(fixture, fd);
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/%zu", fixture->folder,
		 fixture->count - 1);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	if (listens)
		assert_int_equal(listen(fd, 1), 0);
}

static int take(void *arg, const char *name, int fd, char *error, size_t error_size)
{
	struct fixture *fixture = arg;

	assert_string_equal(name, "kept");
	fixture->outcome->taken[fixture->outcome->takes++] = fd;
	if (fixture->take_result < 0)
		snprintf(error, error_size, "the taker refuses");
	return fixture->take_result;
}

/* ---- The process it is passed to ---- */

static void look(struct fixture *fixture)
{
	struct outcome *outcome = fixture->outcome;

	for (size_t i = 0; i < fixture->count; i++) {
		int flags = fcntl(FIRST + (int)i, F_GETFD);

		outcome->is_open[i] = flags >= 0;
		outcome->is_close_on_exec[i] = flags >= 0 && (flags & FD_CLOEXEC);
	}

	outcome->is_non_blocking =
		outcome->socket >= 0 && (fcntl(outcome->socket, F_GETFL) & O_NONBLOCK);
	outcome->environment_is_left =
		getenv("LISTEN_FDS") || getenv("LISTEN_PID") || getenv("LISTEN_FDNAMES");
}

static void pass(const struct fixture *fixture, const char *names)
{
	char text[32];
	int high[PASSED_MAX];

	if (fixture->count == 0)
		return;

	for (size_t i = 0; i < fixture->count; i++)
		high[i] = fcntl(fixture->made[i], F_DUPFD, HIGH);
	for (size_t i = 0; i < fixture->count; i++) {
		dup2(high[i], FIRST + (int)i);
		close(high[i]);
	}

	snprintf(text, sizeof(text), "%d", (int)getpid());
	setenv("LISTEN_PID", text, 1);
	snprintf(text, sizeof(text), "%zu", fixture->count);
	setenv("LISTEN_FDS", text, 1);
	if (names)
		setenv("LISTEN_FDNAMES", names, 1);
}

/* The outcome with so named descriptors (NULL: without names), and "kept" as the name
 * that has a taker. */
static const struct outcome *outcome_with(struct fixture *fixture, const char *names)
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		const struct inherited_taker takers[] = {{"kept", take, fixture}};
		struct inherited inherited = {.socket = -2};
		struct outcome *outcome = fixture->outcome;

		*outcome = (struct outcome){0};
		pass(fixture, names);
		outcome->r = inherited_open(&inherited, takers, 1, outcome->error,
					    sizeof(outcome->error));
		outcome->socket = inherited.socket;
		look(fixture);
		_exit(0);
	}

	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);

	return fixture->outcome;
}

static void assert_refused(struct fixture *fixture, const char *names, const char *words)
{
	const struct outcome *outcome = outcome_with(fixture, names);

	assert_int_equal(outcome->r, -EINVAL);
	assert_int_equal(outcome->socket, -2); /* untouched */
	if (!strstr(outcome->error, words) || strchr(outcome->error, '\n'))
		fail_msg("'%s' does not say '%s'", outcome->error, words);

	for (size_t i = 0; i < fixture->count; i++)
		assert_int_equal(outcome->is_open[i], false);
	assert_int_equal(outcome->environment_is_left, false);
}

/* ---- Tests ---- */

static void test_nothing_is_passed(void **state)
{
	const struct outcome *outcome = outcome_with(*state, NULL);

	assert_int_equal(outcome->r, 0);
	assert_int_equal(outcome->socket, -1);
}

static void test_the_socket(void **state)
{
	static const char *const names[] = {"hbmd", "hbmd.socket", NULL};

	add_socket(*state, SOCK_SEQPACKET, true);

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		const struct outcome *outcome = outcome_with(*state, names[i]);

		assert_int_equal(outcome->r, 0);
		assert_int_equal(outcome->socket, FIRST);
		assert_int_equal(outcome->is_non_blocking, true);
		assert_int_equal(outcome->is_close_on_exec[0], true);
		assert_int_equal(outcome->environment_is_left, false);
	}
}

static void test_named_descriptors_beside_the_socket(void **state)
{
	struct fixture *fixture = *state;

	add_file(fixture);
	add_socket(fixture, SOCK_SEQPACKET, true);
	add_file(fixture);

	const struct outcome *outcome = outcome_with(fixture, "kept:hbmd:kept");

	assert_int_equal(outcome->r, 0);
	assert_int_equal(outcome->socket, FIRST + 1);
	assert_int_equal(outcome->takes, 2);
	assert_int_equal(outcome->taken[0], FIRST);
	assert_int_equal(outcome->taken[1], FIRST + 2);

	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(outcome->is_open[i], true);
		assert_int_equal(outcome->is_close_on_exec[i], true);
	}
}

static void test_an_unknown_name_is_refused(void **state)
{
	struct fixture *fixture = *state;

	add_socket(fixture, SOCK_SEQPACKET, true);
	add_file(fixture);
	assert_refused(fixture, "hbmd:other", "a descriptor named 'other'");
	assert_refused(fixture, "hbmd:kep", "a descriptor named 'kep'");
	assert_refused(fixture, "metrics:hbmd",
		       "a descriptor named 'metrics'"); /* a socket, but whose? */
}

static void test_fewer_names_than_descriptors(void **state)
{
	struct fixture *fixture = *state;

	add_socket(fixture, SOCK_SEQPACKET, true);
	add_file(fixture);

	const struct outcome *outcome = outcome_with(fixture, "hbmd");

	assert_int_equal(outcome->r, -EINVAL);
	assert_int_equal(outcome->socket, -2);
	assert_non_null(strstr(outcome->error, "cannot read which descriptors"));
}

static void test_what_is_no_listening_socket_is_refused(void **state)
{
	struct fixture *fixture = *state;

	add_file(fixture);
	assert_refused(fixture, "hbmd", "ListenSequentialPacket=");
	assert_refused(fixture, NULL, "ListenSequentialPacket=");
}

static void test_other_sockets_are_refused(void **state)
{
	struct fixture *fixture = *state;

	add_socket(fixture, SOCK_SEQPACKET, false);
	assert_refused(fixture, "hbmd", "ListenSequentialPacket=");
	add_socket(fixture, SOCK_STREAM, true);
	fixture->made[0] = dup2(fixture->made[1], fixture->made[0]);
	assert_refused(fixture, "hbmd:hbmd", "ListenSequentialPacket=");
}

static void test_two_sockets_are_refused(void **state)
{
	struct fixture *fixture = *state;

	add_socket(fixture, SOCK_SEQPACKET, true);
	add_socket(fixture, SOCK_SEQPACKET, true);
	assert_refused(fixture, "hbmd:hbmd", "two listening sockets");
}

static void test_a_taker_that_refuses(void **state)
{
	struct fixture *fixture = *state;

	fixture->take_result = -EINVAL;
	add_socket(fixture, SOCK_SEQPACKET, true);
	add_file(fixture);
	add_file(fixture);
	assert_refused(fixture, "hbmd:kept:kept", "the taker refuses");
	assert_int_equal(fixture->outcome->takes, 1); /* nobody is asked after the first failure */
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_nothing_is_passed),
		TEST(test_the_socket),
		TEST(test_named_descriptors_beside_the_socket),
		TEST(test_an_unknown_name_is_refused),
		TEST(test_fewer_names_than_descriptors),
		TEST(test_what_is_no_listening_socket_is_refused),
		TEST(test_other_sockets_are_refused),
		TEST(test_two_sockets_are_refused),
		TEST(test_a_taker_that_refuses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
