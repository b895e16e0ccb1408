/* SPDX-License-Identifier: Apache-2.0 */
/* The service manager is told what it wants to know, and what it hands over is used or
 * refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/file.h"
#include "tests/support/stage.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* How a start ends that nothing but a change can mend, or that another try may. */
enum { CONFIG = 78, UNMET = 69 };

static int bind_socket(const char *name, int type, struct sockaddr_un *address)
{
	*address = (struct sockaddr_un){.sun_family = AF_UNIX};
	snprintf(address->sun_path, sizeof(address->sun_path), "%s/%s", daemon_.dir, name);
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)address, sizeof(*address)), 0);

	return fd;
}

/* Reads messages until one has that text. */
static void await_message(int fd, const char *text)
{
	char bytes[4096];
	do {
		struct pollfd poller = {.fd = fd, .events = POLLIN};
		if (poll(&poller, 1, 20000) != 1)
			fail_msg("no %s", text);

		ssize_t n = read(fd, bytes, sizeof(bytes) - 1);
		assert_true(n >= 0);
		bytes[n] = '\0';
	} while (!strstr(bytes, text));
}

static void test_the_service_manager_is_told(void **state)
{
	(void)state;
	struct sockaddr_un address;
	char set[160];
	int fd = bind_socket("notify", SOCK_DGRAM, &address);
	snprintf(set, sizeof(set), "NOTIFY_SOCKET=%s", address.sun_path);
	spawn_launch(&daemon_, NULL, (const char *[]){set, "WATCHDOG_USEC=200000", NULL});
	await_message(fd, "READY=1");
	await_message(fd, "STATUS=");
	for (int i = 0; i < 3; i++)
		await_message(fd, "WATCHDOG=1");
	kill(daemon_.pid, SIGTERM);
	await_message(fd, "STOPPING=1");
	assert_int_equal(spawn_wait(&daemon_), 0);
	close(fd);
}

/* Where a configuration error is looked for: the log at priority err, and the status of
 * the service. */
static void test_the_service_manager_is_told_of_errors(void **state)
{
	(void)state;
	static const struct {
		const char *set, *said;
		int status;
	} starts[] = {
		{"ddr.siz=1GiB", "--set: unknown key 'siz' in section [ddr]", CONFIG},
		{"hbmd.state_dir=/proc/nothing", "hbmd.state_dir: cannot make /proc/nothing",
		 UNMET},
	};
	struct sockaddr_un address;
	char notify[160], journal[64], line[256];
	int fd = bind_socket("notify", SOCK_DGRAM, &address);
	snprintf(notify, sizeof(notify), "NOTIFY_SOCKET=%s", address.sun_path);

	for (size_t i = 0; i < sizeof(starts) / sizeof(starts[0]); i++) {
		struct stat log;

		spawn_forget_log(&daemon_);
		file_write(daemon_.log, "");
		assert_int_equal(stat(daemon_.log, &log), 0);
		snprintf(journal, sizeof(journal), "JOURNAL_STREAM=%ju:%ju", (uintmax_t)log.st_dev,
			 (uintmax_t)log.st_ino);
		spawn_launch(&daemon_, (const char *[]){starts[i].set, NULL},
			     (const char *[]){notify, journal, NULL});
		assert_int_equal(spawn_wait(&daemon_), starts[i].status);
		snprintf(line, sizeof(line), "STATUS=Not started: %s", starts[i].said);
		await_message(fd, line);
		assert_int_equal(spawn_log_lines(&daemon_, "<3>"), 1);
		snprintf(line, sizeof(line), "<3>%s", starts[i].said);
		assert_true(spawn_logged(&daemon_, line));
	}

	close(fd);
}

static void test_a_socket_from_the_service_manager(void **state)
{
	(void)state;
	struct sockaddr_un address;
	int fd = bind_socket("sock", SOCK_SEQPACKET, &address);
	assert_int_equal(listen(fd, 16), 0);
	assert_string_equal(address.sun_path, daemon_.socket);
	daemon_.listener = fd;
	spawn_start(&daemon_, (const char *[]){"hbmd.socket=/nonexistent/hbmd.sock", NULL}, NULL);
	assert_true(spawn_balanced(&daemon_));
	assert_int_equal(spawn_stop(&daemon_), 0);
	assert_true(file_exists(daemon_.socket)); /* not ours to remove */
	close(fd);
}

/* Nobody would know what it is for: the start fails and says its name. */
static void test_a_descriptor_that_nobody_knows(void **state)
{
	(void)state;
	struct sockaddr_un address;
	int fd = bind_socket("sock", SOCK_SEQPACKET, &address),
	    null = open("/dev/null", O_RDWR | O_CLOEXEC);

	assert_int_equal(listen(fd, 16), 0);
	assert_true(null >= 0);
	daemon_.listener = fd;
	daemon_.extra = null;
	spawn_launch(&daemon_, NULL, NULL);
	assert_int_equal(spawn_wait(&daemon_), CONFIG);
	assert_int_equal(spawn_log_lines(&daemon_, " error: "), 1);
	assert_true(spawn_logged(&daemon_, "a descriptor named 'extra'"));
	close(null);
	close(fd);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, stage_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_the_service_manager_is_told),
		TEST(test_the_service_manager_is_told_of_errors),
		TEST(test_a_socket_from_the_service_manager),
		TEST(test_a_descriptor_that_nobody_knows),
	};
	alarm(100);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
