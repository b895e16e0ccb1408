/* SPDX-License-Identifier: Apache-2.0 */
/* hbmd --check-config: it finds what a start would refuse, says where, and changes nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/file.h"
#include "tests/support/stage.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* How a start ends, and its check, that nothing but a change can mend. */
enum { CONFIG = 78 };

/* As a user; NULL: nothing is said of one. */
static int check_config_as(const char *user, const char *path, char *out, size_t size)
{
	int pipes[2], status;
	size_t filled = 0;

	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		const char *program = spawn_path("hbmd");
		dup2(pipes[1], STDERR_FILENO);
		dup2(pipes[1], STDOUT_FILENO);
		execl(program, program, "--config", path, "--check-config", user ? "--user" : NULL,
		      user, (char *)NULL);
		_exit(127);
	}

	close(pipes[1]);

	for (ssize_t n;
	     filled < size - 1 && (n = read(pipes[0], out + filled, size - 1 - filled)) > 0;)
		filled += (size_t)n;

	out[filled] = '\0';
	close(pipes[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);

	return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

static int check_config(const char *path, char *out, size_t size)
{
	return check_config_as(NULL, path, out, size);
}

/* The check of a configuration: its status and the number of lines it prints, one of which
 * holds `expected`. */
static void checked(const char *text, int status, unsigned lines, const char *expected)
{
	char path[128], out[8192];
	unsigned count = 0;

	snprintf(path, sizeof(path), "%s/conf", daemon_.dir);
	file_write(path, text);
	int got = check_config(path, out, sizeof(out));
	for (const char *at = out; (at = strchr(at, '\n')); at++)
		count++;
	if (got != status || count != lines || !strstr(out, expected))
		fail_msg("%s: expected %d and %u lines with \"%s\", got %d: %s", text, status,
			 lines, expected, got, out);
}

/* The text with the test's folder for each @. */
static void fill(char *out, size_t size, const char *text)
{
	size_t used = 0;
	for (; *text && used < size; text++)
		used += (size_t)snprintf(out + used, size - used, "%.*s",
					 *text == '@' ? (int)strlen(daemon_.dir) : 1,
					 *text == '@' ? daemon_.dir : text);
	assert_true(used < size);
}

static const struct {
	const char *text; /* @: the test's folder */
	const char *expected;
} refused_too[] = {
	{"[nvme]\npath = @/new\n", "nvme.size: 0 bytes are too small"},
	{"[nvme]\npath = @/new\nsize = 15TiB\n", "lower nvme.size"},
	{"[nvme]\npath = @/missing/new\nsize = 2MiB\n", "create it first"},
	{"[nvme]\npath = @/foreign\nsize = 2MiB\n", "holds data that is not hbmd's"},
	{"[nvme]\npath = @/foreign/new\nsize = 2MiB\n", "Not a directory"},
	{"[nvme]\npath = @\nsize = 2MiB\n", "Is a directory"},
	{"[nvme]\npath = @/new\nsize = 2MiB\nfail = read:0:EIO\n", "nvme.fail: got "},
	{"[hbmd]\ndriver = soft\n[soft]\nfail = cuMemCreate\n", "HBM_SOFT_FAIL"},
	{"[hbmd]\nstate_dir = @/missing/state\n", "create it first"},
	{"[hbmd]\nstate_dir = @/foreign\n", "not a folder"},
	{"[ddr]\nsize = 15TiB\n", "ddr.size: "},
	{"[hbmd]\nsocket_group = no-such-group\n", "no such group: no-such-group"},
	{"[ddr]\nhugepages = yes\nsize = 100GiB\n", "ddr."},
	{"[hbmd]\ndriver = soft\n[device]\nmemory = 2GiB\n", "device 0 has 1073741824"},
	{"[hbmd]\ndriver = soft\n[device]\nmemory = 50%\ncache = 600MiB\n", "device.cache: "},
};

static void test_the_check_finds_what_a_start_refuses(void **state)
{
	(void)state;
	char folder[200], text[512], file[160];
	snprintf(file, sizeof(file), "%s/foreign", daemon_.dir);
	file_write(file, "the only copy of something\n");
	snprintf(folder, sizeof(folder), "[hbmd]\nstate_dir = %s\n", daemon_.dir);

	for (size_t i = 0; i < sizeof(refused_too) / sizeof(refused_too[0]); i++) {
		bool has_state_dir = strstr(refused_too[i].text, "state_dir");
		int length = snprintf(text, sizeof(text), "%s", has_state_dir ? "" : folder);
		fill(text + length, sizeof(text) - (size_t)length, refused_too[i].text);
		checked(text, CONFIG, 1, refused_too[i].expected);
	}

	if (!dlopen("libcuda.so.1", RTLD_LAZY)) {
		snprintf(text, sizeof(text), "%sdriver = cuda\n", folder);
		checked(text, CONFIG, 1, "hbmd.driver: libcuda.so.1");
	}

	snprintf(text, sizeof(text),
		 "[hbmd]\nstate_dir = %s/foreign\n[nvme]\npath = %s/missing/new\n[ddr]\nsize = "
		 "15TiB\n",
		 daemon_.dir, daemon_.dir);
	checked(text, CONFIG, 4, "nvme.size: 0 bytes");
	checked("[ddr]\nsize = x\nsiz = 1\n[nvme]\nmerge = x\n", CONFIG, 3, "nvme.merge");

	/* small enough for the tests' own files */
	struct rlimit before, limit;
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	limit = (struct rlimit){.rlim_cur = 2 << 20, .rlim_max = before.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	snprintf(text, sizeof(text), "%s[nvme]\npath = %s/new\nsize = 2MiB\n", folder, daemon_.dir);
	checked(text, CONFIG, 1, "LimitFSIZE=");
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);

	snprintf(file, sizeof(file), "%s/new", daemon_.dir);
	snprintf(text, sizeof(text), "%s[nvme]\npath = %s\nsize = 2MiB\n", folder, file);
	checked(text, 0, 1, "ok: ");
	assert_int_equal(file_exists(file), false);
}

static void test_the_check_of_an_nvme_tier_that_is_not_required(void **state)
{
	(void)state;
	char text[512];
	snprintf(text, sizeof(text),
		 "[hbmd]\nstate_dir = %s\n[nvme]\npath = %s/missing/new\nsize = 2MiB\n"
		 "required = no\n",
		 daemon_.dir, daemon_.dir);
	checked(text, 0, 2, "NVMe tier none");
	checked(text, 0, 2, "without NVMe: nvme.path: ");
}

static void test_a_check_beside_a_daemon_that_runs(void **state)
{
	(void)state;
	char text[512];
	spawn_start(&daemon_, NULL, NULL);
	snprintf(text, sizeof(text),
		 "[hbmd]\nstate_dir = %s\n[nvme]\npath = %s/nvme\nsize = 16MiB\n", daemon_.dir,
		 daemon_.dir);
	checked(text, 0, 1, "ok: ");
	assert_int_equal(spawn_stop(&daemon_), 0);
}

static void test_a_check_as_another_user(void **state)
{
	(void)state;
	char path[128], out[4096];
	if (geteuid() != 0)
		skip();

	snprintf(path, sizeof(path), "%s/conf", daemon_.dir);
	file_write(path, "[hbmd]\nlog_level = debug\n");
	assert_int_equal(check_config_as("nobody", path, out, sizeof(out)), CONFIG);
	assert_non_null(strstr(out, "Permission denied"));
	assert_int_equal(check_config_as("no-such-user", path, out, sizeof(out)), CONFIG);
	assert_non_null(strstr(out, "no such user"));
	assert_int_equal(check_config_as("root", path, out, sizeof(out)), 0);
}

static void test_configurations_that_are_wrong(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		unsigned line; /* 0: none can be named */
		const char *expected;
	} wrong[] = {
		{"[hbmd]\nsokcet = /x\n", 2, "sokcet"},
		{"[hbmd]\n\n[devcie]\nslab = 2MiB\n", 3, "devcie"},
		{"[device]\nslab = 3MiB\n", 2, "expected"},
		{"[device]\nslab = many\n", 2, "expected"},
		{"[device]\nmemory = 101%\n", 2, "expected"},
		{"[device]\nmemory = -1\n", 2, "expected"},
		{"[ddr]\nsize = 99999999999999999999GiB\n", 2, "expected"},
		{"[ddr]\nhugepages = perhaps\n", 2, "expected"},
		{"[ddr]\nsize = 1GiB\nsize = 2GiB\n", 3, "size"},
		{"[hbmd]\nsocket_mode = 999\n", 2, "expected"},
		{"[hbmd]\ndriver = rocm\n", 2, "expected"},
		{"[limits]\nsessions = 0\n", 2, "expected"},
		{"[nvme]\nsize = 1000\n", 2, "expected"},
		{"[nvme]\nsize = 1MiB\n", 0, "nvme.path"},
	};
	char path[128], where[160], out[4096];
	snprintf(path, sizeof(path), "%s/conf", daemon_.dir);
	file_write(path, "[hbmd]\nlog_level = debug\n");
	assert_int_equal(check_config(path, out, sizeof(out)), 0);

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		file_write(path, wrong[i].text);
		assert_int_equal(check_config(path, out, sizeof(out)), CONFIG);
		snprintf(where, sizeof(where), "%s:%u:", path, wrong[i].line);
		if ((wrong[i].line && !strstr(out, where)) || !strstr(out, wrong[i].expected))
			fail_msg("%s gives: %s", wrong[i].text, out);

		assert_ptr_equal(strchr(out, '\n'), out + strlen(out) - 1); /* one line */
	}

	assert_int_equal(check_config("/nonexistent/conf", out, sizeof(out)), CONFIG);
	stage_refused((const char *[]){"nvme.size", NULL}, NULL, CONFIG, "nvme.size");
	stage_refused((const char *[]){"device.slab=5", NULL}, NULL, CONFIG, "expected");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, stage_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_configurations_that_are_wrong),
		TEST(test_the_check_finds_what_a_start_refuses),
		TEST(test_the_check_of_an_nvme_tier_that_is_not_required),
		TEST(test_a_check_beside_a_daemon_that_runs),
		TEST(test_a_check_as_another_user),
	};
	alarm(100);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
