/* SPDX-License-Identifier: Apache-2.0 */
/* The listening socket: made with its rights, never taken from a living daemon, taken
 * over from a dead one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/base/log.h"
#include "daemon/config/config.h"
#include "daemon/serve/listener.h"
#include "tests/support/leaks.h"

struct fixture {
	struct leaks leaks;
	struct config config;
	char folder[64], path[128], error[256];
};

static int setup(void **state)
{
	static struct fixture fixture;

	memset(&fixture, 0, sizeof(fixture));
	leaks_begin(&fixture.leaks);
	log_open(LOG_CRIT);
	strcpy(fixture.folder, "/tmp/hbm-listener-XXXXXX");
	assert_non_null(mkdtemp(fixture.folder));
	snprintf(fixture.path, sizeof(fixture.path), "%s/socket", fixture.folder);
	fixture.config = (struct config){.socket = fixture.path, .socket_mode = 0640};
	*state = &fixture;

	return 0;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;
	assert_int_equal(rmdir(fixture->folder), 0); /* empty: nothing was left behind */
	assert_int_equal(leaks_end(&fixture->leaks), 0);
	return 0;
}

static int try_open(struct fixture *fixture, struct listener *listener)
{
	fixture->error[0] = '\0';
	return listener_open(listener, -1, &fixture->config, fixture->error,
			     sizeof(fixture->error));
}

static void the_socket_has_its_mode_and_goes_with_the_listener(void **state)
{
	struct fixture *fixture = *state;
	struct listener listener;
	struct stat status;

	assert_int_equal(try_open(fixture, &listener), 0);
	assert_int_equal(stat(fixture->path, &status), 0);
	assert_int_equal(status.st_mode & 07777, 0640);
	assert_int_equal(fcntl(listener.fd, F_GETFD), FD_CLOEXEC);
	listener_close(&listener);
	assert_int_equal(stat(fixture->path, &status), -1);
	listener_close(&listener);
}

static void a_living_daemons_socket_is_left_alone(void **state)
{
	struct fixture *fixture = *state;
	struct listener first, second;

	assert_int_equal(try_open(fixture, &first), 0);
	assert_int_equal(try_open(fixture, &second), -EADDRINUSE);
	assert_non_null(strstr(fixture->error, "another daemon answers"));
	struct stat status;
	assert_int_equal(stat(fixture->path, &status), 0);
	listener_close(&first);
}

static void a_stale_socket_is_replaced(void **state)
{
	struct fixture *fixture = *state;
	struct listener listener;

	assert_int_equal(try_open(fixture, &listener), 0);
	close(listener.fd); /* as a killed daemon leaves it */
	free(listener.path);
	assert_int_equal(try_open(fixture, &listener), 0);
	listener_close(&listener);
}

static void what_is_not_a_socket_is_refused(void **state)
{
	struct fixture *fixture = *state;
	struct listener listener;

	close(open(fixture->path, O_CREAT | O_WRONLY, 0600));
	assert_int_equal(try_open(fixture, &listener), -EEXIST);
	assert_non_null(strstr(fixture->error, "is not a socket"));
	assert_int_equal(unlink(fixture->path), 0);
	assert_int_equal(symlink("/dev/null", fixture->path), 0);
	assert_int_equal(try_open(fixture, &listener), -EEXIST);
	assert_int_equal(unlink(fixture->path), 0);
	assert_int_equal(mkdir(fixture->path, 0700), 0);
	assert_int_equal(try_open(fixture, &listener), -EEXIST);
	assert_int_equal(rmdir(fixture->path), 0);
}

static void a_socket_of_another_type_is_refused(void **state)
{
	struct fixture *fixture = *state;
	struct listener listener;
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	strcpy(address.sun_path, fixture->path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(fd, 1), 0);
	assert_int_equal(try_open(fixture, &listener), -EADDRINUSE);
	close(fd);
	assert_int_equal(unlink(fixture->path), 0);
}

static void bad_paths_and_groups_are_named(void **state)
{
	struct fixture *fixture = *state;
	struct listener listener;
	char longest[200], missing[160];

	memset(longest, 'x', sizeof(longest));
	longest[0] = '/';
	longest[sizeof(longest) - 1] = '\0';
	fixture->config.socket = longest;
	assert_int_equal(try_open(fixture, &listener), -ENAMETOOLONG);
	assert_non_null(strstr(fixture->error, "hbmd.socket"));
	snprintf(missing, sizeof(missing), "%s/missing/socket", fixture->folder);
	fixture->config.socket = missing;
	assert_int_equal(try_open(fixture, &listener), -ENOENT);
	assert_non_null(strstr(fixture->error, missing));
	fixture->config.socket = fixture->path;
	fixture->config.socket_group = (char[]){"no-such-group-here"};
	assert_int_equal(try_open(fixture, &listener), -EINVAL);
	assert_non_null(strstr(fixture->error, "no-such-group-here"));
}

/* Of many daemons that start at once over a stale socket exactly one gets it. */
static void one_of_many_wins(void **state)
{
	struct fixture *fixture = *state;
	enum { DAEMONS = 8 };
	struct listener stale;
	int won[2], go[2];
	pid_t pids[DAEMONS];

	assert_int_equal(try_open(fixture, &stale), 0);
	close(stale.fd);
	free(stale.path);
	assert_int_equal(pipe2(won, O_CLOEXEC), 0);
	assert_int_equal(pipe2(go, O_CLOEXEC), 0);

	for (int i = 0; i < DAEMONS; i++) {
		pids[i] = fork();
		if (pids[i] == 0) {
			char byte;
			struct listener listener;

			close(go[1]);
			int r = try_open(fixture, &listener);
			if (write(won[1], r == 0 ? "y" : "n", 1) != 1 || read(go[0], &byte, 1) != 0)
				_exit(2);
			if (r == 0)
				listener_close(&listener);

			_exit(0);
		}
	}

	unsigned winners = 0;
	for (int i = 0; i < DAEMONS; i++) {
		char byte = 0;
		assert_int_equal(read(won[0], &byte, 1), 1);
		winners += byte == 'y';
	}

	close(go[1]);

	for (int i = 0; i < DAEMONS; i++) {
		int status;
		assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
		assert_int_equal(status, 0);
	}

	close(go[0]);
	close(won[0]);
	close(won[1]);
	assert_int_equal(winners, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(the_socket_has_its_mode_and_goes_with_the_listener),
		TEST(a_living_daemons_socket_is_left_alone),
		TEST(a_stale_socket_is_replaced),
		TEST(what_is_not_a_socket_is_refused),
		TEST(a_socket_of_another_type_is_refused),
		TEST(bad_paths_and_groups_are_named),
		TEST(one_of_many_wins),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
