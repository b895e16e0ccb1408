/* SPDX-License-Identifier: Apache-2.0 */
/* hbmd --keeper: the daemon comes back with what was kept, however it ended, and ends with the
 * keeper, however that ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/base/fdpass.h"
#include "tests/support/file.h"
#include "tests/support/keeper_rig.h"
#include "tests/support/kv.h"
#include "tests/support/stage.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { KILLS = 50, WITHIN_US = 60000, BLOCK = 65536, BLOCKS = 8 };

static const char *const sets[] = {"nvme.path=", "nvme.size=0", "ddr.size=8MiB", NULL};
static const char taken_over[] = "took over the state of the daemon before";
static struct seed seed;

static void test_a_killed_daemon_comes_back(void **state)
{
	(void)state;
	keeper_start(&daemon_, sets, NULL);
	unsigned stored = keeper_stored(&daemon_);
	assert_true(stored > 0);
	assert_int_equal(spawn_logged(&daemon_, taken_over), false);

	keeper_kill(&daemon_);
	assert_int_equal(spawn_log_lines(&daemon_, taken_over), 1);
	assert_int_equal(keeper_stored(&daemon_), stored);
	assert_true(spawn_balanced(&daemon_));
	assert_int_equal(spawn_stop(&daemon_), 0);
	assert_int_equal(file_exists(daemon_.socket), false);
}

/* Wherever it is: starting, serving, or at its end. */
static void test_killed_at_any_moment(void **state)
{
	(void)state;
	keeper_start(&daemon_, sets, NULL);
	struct spawn view = keeper_view(&daemon_);
	unsigned stored = keeper_stored(&daemon_), fds = spawn_fds(&view);
	pid_t before = 0;

	for (int i = 0; i < KILLS; i++) {
		before = keeper_daemon(&daemon_);
		keeper_kill_within(&daemon_, &seed, WITHIN_US);
	}

	keeper_await_next(&daemon_, before);
	view = keeper_view(&daemon_);
	assert_int_equal(keeper_stored(&daemon_), stored);
	spawn_expect_fds(&view, fds);
	assert_int_equal(spawn_log_lines(&daemon_, "error"), 0);
	assert_true(spawn_balanced(&daemon_));
	assert_int_equal(spawn_stop(&daemon_), 0);
}

/* What the keeper has room for, as it says; -1: it does not. */
static long told_room(void)
{
	char path[64];
	static char environment[65536];

	snprintf(path, sizeof(path), "/proc/%d/environ", (int)keeper_daemon(&daemon_));
	FILE *file = fopen(path, "re");
	assert_non_null(file);
	size_t size = fread(environment, 1, sizeof(environment) - 1, file);
	fclose(file);
	environment[size] = '\0';
	for (const char *at = environment; at < environment + size; at += strlen(at) + 1)
		if (strncmp(at, "FDSTORE=", 8) == 0)
			return strtol(at + 8, NULL, 10);

	return -1;
}

/* A socket that it passes on takes a place of those that it has. */
static void test_what_is_passed_on_has_a_place(void **state)
{
	(void)state;
	keeper_start(&daemon_, sets, NULL);
	long room = told_room();
	unsigned stored = keeper_stored(&daemon_);
	assert_int_equal(spawn_stop(&daemon_), 0);

	struct sockaddr_un address = {.sun_family = AF_UNIX};
	daemon_.listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", daemon_.socket);
	assert_int_equal(bind(daemon_.listener, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(daemon_.listener, 16), 0);
	keeper_start(&daemon_, sets, NULL);
	assert_int_equal(told_room(), room - 1);
	assert_int_equal(keeper_stored(&daemon_), stored + 1);
	assert_int_equal(spawn_stop(&daemon_), 0);
	close(daemon_.listener);
}

/* ---- how it ends ---- */

static bool is_gone(pid_t pid)
{
	char path[64], line[256] = "";

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	FILE *file = fopen(path, "re");
	if (!file)
		return true;
	bool is_dead =
		!fgets(line, sizeof(line), file) || strstr(line, ") Z ") || strstr(line, ") X ");
	fclose(file);

	return is_dead;
}

static void await_gone(pid_t pid)
{
	for (int i = 0; i < 20000 && !is_gone(pid); i++)
		usleep(1000);
	assert_true(is_gone(pid));
}

static void test_without_the_keeper_there_is_no_daemon(void **state)
{
	(void)state;
	keeper_start(&daemon_, sets, NULL);
	pid_t pid = keeper_daemon(&daemon_);
	spawn_kill(&daemon_);
	await_gone(pid);
	assert_int_equal(spawn_log_lines(&daemon_, taken_over), 0);
}

static void test_signals_are_passed_on(void **state)
{
	(void)state;
	keeper_start(&daemon_, sets, NULL);
	kill(daemon_.pid, SIGHUP);
	while (!spawn_logged(&daemon_, "SIGHUP"))
		usleep(1000);
	kill(daemon_.pid, SIGINT);
	assert_int_equal(spawn_wait(&daemon_), 0);
	assert_true(spawn_logged(&daemon_, "SIGINT: draining"));
}

/* What another try cannot mend ends the keeper; what it may mend is tried so often. */
static void test_starts_that_fail(void **state)
{
	static const char *const wrong[] = {"ddr.siz=1MiB", NULL},
				 *const unmet[] = {"hbmd.state_dir=/proc/nothing", NULL},
				 *const options[] = {"--starts", "3", NULL};
	(void)state;

	daemon_.keeper_options = options;
	keeper_launch(&daemon_, wrong, NULL);
	assert_int_equal(spawn_wait(&daemon_), 78);
	assert_int_equal(spawn_log_lines(&daemon_, "unknown key 'siz'"), 1);

	keeper_launch(&daemon_, unmet, NULL);
	assert_int_equal(spawn_wait(&daemon_), 69);
	assert_int_equal(spawn_log_lines(&daemon_, "cannot make /proc/nothing"), 3);
	assert_int_equal(spawn_log_lines(&daemon_, "3 starts in ten minutes"), 1);
}

static void test_a_daemon_that_hangs_is_aborted(void **state)
{
	static const char *const options[] = {"--watchdog", "1", NULL};
	(void)state;

	daemon_.keeper_options = options;
	keeper_start(&daemon_, sets, NULL);
	pid_t pid = keeper_daemon(&daemon_);
	kill(pid, SIGSTOP);
	keeper_await_next(&daemon_, pid);
	assert_true(spawn_logged(&daemon_, "aborting it"));
	assert_true(spawn_logged(&daemon_, taken_over));
	assert_int_equal(spawn_stop(&daemon_), 0);
}

/* ---- a device ---- */

static void store_some(uint64_t key)
{
	struct kv kv;
	kv_open(&kv, &daemon_, 0, BLOCK, BLOCKS);
	(void)kv_store(&kv, 0, key, BLOCKS, 0, NULL);
	kv_close(&kv);
}

/* Another process can use the device again; for one that fails at once the daemon ends once. */
static void test_a_device_with_a_sticky_error(void **state)
{
	static const char *const failing[] = {"nvme.path=", "nvme.size=0", "ddr.size=4MiB",
					      "soft.fail=cuMemcpyBatchAsync:1:214", NULL};
	(void)state;

	keeper_start(&daemon_, failing, NULL);
	pid_t pid = keeper_daemon(&daemon_);
	store_some(100);
	keeper_await_next(&daemon_, pid);
	assert_int_equal(spawn_log_lines(&daemon_, "ending, so that the next daemon"), 1);
	assert_true(spawn_logged(&daemon_, "hbmd ended with status 1"));
	assert_true(spawn_logged(&daemon_, taken_over));

	pid = keeper_daemon(&daemon_);
	store_some(200);
	while (!spawn_logged(&daemon_, "not restarting for it"))
		usleep(1000);
	assert_int_equal(keeper_daemon(&daemon_), pid);
	assert_int_equal(spawn_log_lines(&daemon_, "sticky error, the device is lost"), 2);
	assert_int_equal(spawn_stop(&daemon_), 0);
}

static void test_a_device_that_is_done_without(void **state)
{
	static const char *const failing[] = {
		"nvme.path=",        "nvme.size=0",
		"ddr.size=4MiB",     "soft.fail=cuMemcpyBatchAsync:1:214",
		"device.restart=no", NULL};
	(void)state;

	keeper_start(&daemon_, failing, NULL);
	pid_t pid = keeper_daemon(&daemon_);
	store_some(100);
	while (!spawn_logged(&daemon_, "sticky error, the device is lost"))
		usleep(1000);
	sleep(2); /* as long as it would take it */
	assert_int_equal(keeper_daemon(&daemon_), pid);
	assert_int_equal(spawn_stop(&daemon_), 0);
}

/* ---- a new version ---- */

static void copy_program(const char *to)
{
	char command[512];
	snprintf(command, sizeof(command), "cp %s %s", spawn_path("hbmd"), to);
	assert_int_equal(system(command), 0);
}

static void test_a_new_version_takes_over(void **state)
{
	char program[128], other[128], exe[64], soft[4096];
	struct stat installed, running;
	(void)state;

	snprintf(program, sizeof(program), "%s/hbmd", daemon_.dir);
	snprintf(other, sizeof(other), "%s/hbmd.new", daemon_.dir);
	snprintf(soft, sizeof(soft), "HBM_SOFT_DRIVER=%s", spawn_path("libhbmsoft.so"));
	copy_program(program);
	daemon_.program = program;
	keeper_start(&daemon_, sets, (const char *[]){soft, NULL});

	copy_program(other);
	assert_int_equal(rename(other, program), 0);
	keeper_renew(&daemon_);
	assert_true(spawn_logged(&daemon_, taken_over));
	snprintf(exe, sizeof(exe), "/proc/%d/exe", (int)keeper_daemon(&daemon_));
	assert_int_equal(stat(exe, &running), 0);
	assert_int_equal(stat(program, &installed), 0);
	assert_int_equal(running.st_ino, installed.st_ino);
	assert_int_equal(spawn_stop(&daemon_), 0);
}

/* A program that says so of its configuration, and ends so when it is started. */
static void write_program(const char *to, int check, int start)
{
	char new[160];

	snprintf(new, sizeof(new), "%s.new", to);
	FILE *file = fopen(new, "we");
	assert_non_null(file);
	fprintf(file, "#!/bin/sh\ncase \"$*\" in *--check-config*) exit %d;; esac\nexit %d\n",
		check, start);
	assert_int_equal(fclose(file), 0);
	assert_int_equal(chmod(new, 0755), 0);
	assert_int_equal(rename(new, to), 0);
}

static void await_log(const char *text, unsigned lines)
{
	while (spawn_log_lines(&daemon_, text) < lines)
		usleep(1000);
}

/* One whose configuration is wrong for the new version does not begin; and where it is wrong
 * nevertheless, what is kept waits until it is mended. */
static void test_a_new_version_that_does_not_start(void **state)
{
	char program[128], good[128], soft[4096];
	(void)state;

	snprintf(program, sizeof(program), "%s/hbmd", daemon_.dir);
	snprintf(good, sizeof(good), "%s/good", daemon_.dir);
	snprintf(soft, sizeof(soft), "HBM_SOFT_DRIVER=%s", spawn_path("libhbmsoft.so"));
	copy_program(program);
	daemon_.program = program;
	keeper_start(&daemon_, sets, (const char *[]){soft, NULL});
	pid_t pid = keeper_daemon(&daemon_);
	unsigned stored = keeper_stored(&daemon_);
	struct hbm *hbm = spawn_connect(&daemon_);

	copy_program(good);
	write_program(program, 78, 78);
	kill(daemon_.pid, SIGUSR2);
	await_log("--check-config of the new version ended with status 78", 1);
	assert_int_equal(hbm_ping(hbm), 0);
	assert_int_equal(keeper_daemon(&daemon_), pid);

	write_program(program, 0, 78);
	kill(daemon_.pid, SIGUSR2);
	await_log("hbmd ended with status 78: starting it again soon", 1);
	write_program(program, 0, 2);
	kill(daemon_.pid, SIGUSR2);
	await_log("hbmd ended with status 2: starting it again soon", 1);
	assert_int_equal(rename(good, program), 0);
	kill(daemon_.pid, SIGUSR2);
	assert_int_equal(hbm_ping(hbm), 0);
	hbm_close(hbm);
	keeper_await_next(&daemon_, pid);
	assert_true(spawn_logged(&daemon_, taken_over));
	assert_int_equal(keeper_stored(&daemon_), stored);
	assert_int_equal(spawn_stop(&daemon_), 0);
}

/* The old one is told to end, as by systemctl restart. */
static void test_clients_go_on_over_a_restart(void **state)
{
	(void)state;

	/* The device is one for all daemons. */
	char card[128], word[160];
	snprintf(card, sizeof(card), "%s/card", daemon_.dir);
	snprintf(word, sizeof(word), "HBM_SOFT=card=%s", card);
	assert_int_equal(mkdir(card, 0755), 0);
	keeper_start(&daemon_, sets, (const char *[]){word, NULL});
	struct kv kv;
	kv_open(&kv, &daemon_, 0, BLOCK, 2 * BLOCKS);
	uint64_t session = hbm_info(kv.hbm)->session;
	kv_put(&kv, BLOCKS, 4711); /* in memory that no request touches */

	for (uint64_t i = 0; i < 3; i++) {
		keeper_renew(&daemon_);
		assert_int_equal(kv_store(&kv, 0, 100 * i + 100, BLOCKS, 0, NULL), 0);
		assert_int_equal(kv_load(&kv, 0, 100 * i + 100, BLOCKS, NULL), 0);
		assert_int_equal(kv_holds(&kv, BLOCKS, 4711), 1);
		assert_int_equal(hbm_info(kv.hbm)->session, session);
	}

	kv_close(&kv);
	spawn_settle(&daemon_);
	assert_true(spawn_balanced(&daemon_));
	assert_int_equal(spawn_stop(&daemon_), 0);
}

/* ---- others ---- */

/* Where the keeper listens. */
static void find_address(char *address, size_t size)
{
	char path[64], text[65536];

	snprintf(path, sizeof(path), "/proc/%d/environ", (int)keeper_daemon(&daemon_));
	FILE *file = fopen(path, "re");
	assert_non_null(file);
	size_t n = fread(text, 1, sizeof(text) - 1, file);
	fclose(file);
	text[n] = '\0';

	for (char *line = text; line < text + n; line += strlen(line) + 1)
		if (strncmp(line, "NOTIFY_SOCKET=", 14) == 0)
			snprintf(address, size, "%s", line + 14);
}

static void test_what_others_tell_it_changes_nothing(void **state)
{
	static const char *const texts[] = {"FDSTOREREMOVE=1\nFDNAME=kept-state-a",
					    "FDSTORE=1\nFDNAME=kept-state-b",
					    "FDSTORE=1\nFDNAME=unknown",
					    "STOPPING=1",
					    "READY=1",
					    ""};
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	char name[sizeof(address.sun_path)] = "";
	(void)state;

	keeper_start(&daemon_, sets, NULL);
	unsigned stored = keeper_stored(&daemon_);
	find_address(name, sizeof(name));
	assert_int_equal(name[0], '@');
	memcpy(address.sun_path + 1, name + 1, strlen(name) - 1);
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0);
	socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name));
	assert_int_equal(connect(fd, (struct sockaddr *)&address, size), 0);

	for (size_t i = 0; i < 600; i++) {
		const char *text = texts[i % (sizeof(texts) / sizeof(texts[0]))];
		const struct iovec iov = {(void *)(uintptr_t)text, strlen(text)};
		while (fdpass_send(fd, &iov, 1, &fd, i % 2) == -EAGAIN)
			usleep(100);
	}

	close(fd);
	keeper_kill(&daemon_);
	assert_int_equal(keeper_stored(&daemon_), stored);
	assert_true(spawn_logged(&daemon_, taken_over));
	assert_int_equal(spawn_stop(&daemon_), 0);
}

int main(void)
{
	seed_open(&seed, "keeper");
#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, stage_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_a_killed_daemon_comes_back),
		TEST(test_killed_at_any_moment),
		TEST(test_what_is_passed_on_has_a_place),
		TEST(test_without_the_keeper_there_is_no_daemon),
		TEST(test_signals_are_passed_on),
		TEST(test_starts_that_fail),
		TEST(test_a_daemon_that_hangs_is_aborted),
		TEST(test_a_device_with_a_sticky_error),
		TEST(test_a_device_that_is_done_without),
		TEST(test_a_new_version_takes_over),
		TEST(test_a_new_version_that_does_not_start),
		TEST(test_clients_go_on_over_a_restart),
		TEST(test_what_others_tell_it_changes_nothing),
	};
	alarm(100);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
