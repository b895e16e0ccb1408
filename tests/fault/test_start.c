/* SPDX-License-Identifier: Apache-2.0 */
/* Starting and ending: what cannot be used is refused with one line that says why, a
 * status, and nothing left behind; what a killed daemon left is taken over; the service
 * manager is told what it wants to know. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/file.h"
#include "tests/support/kv.h"
#include "tests/support/stage.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

/* How a start ends that nothing but a change can mend, or that another try may. */
enum { CONFIG = 78, UNMET = 69 };

/* ---- Configuration ---- */

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

static void test_the_check_finds_what_a_start_refuses(void **state)
{
	(void)state;
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
		{"[hbmd]\ndriver = soft\n[device]\nmemory = 50%\ncache = 600MiB\n",
		 "device.cache: "},
	};
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

/* ---- NVMe ---- */

static void test_nvme_files_that_cannot_be_used(void **state)
{
	(void)state;
	char missing[160], foreign[160], folder[160], set[192];
	snprintf(missing, sizeof(missing), "nvme.path=%s/missing/file", daemon_.dir);
	snprintf(foreign, sizeof(foreign), "%s/foreign", daemon_.dir);
	snprintf(folder, sizeof(folder), "nvme.path=%s", daemon_.dir);
	stage_refused((const char *[]){missing, NULL}, NULL, UNMET, "create its folder first");
	stage_refused((const char *[]){folder, NULL}, NULL, CONFIG, "nvme");
	file_write(foreign, "the only copy of something\n");
	snprintf(set, sizeof(set), "nvme.path=%s", foreign);
	stage_refused((const char *[]){set, NULL}, NULL, CONFIG, foreign);
	char line[64] = "";
	FILE *in = fopen(foreign, "r");
	assert_non_null(fgets(line, sizeof(line), in));
	fclose(in);
	assert_string_equal(line, "the only copy of something\n"); /* and it is as it was */
}

static int count_nvme(const void *record, size_t bytes, void *arg)
{
	const struct hbm_wire_tier *tier = record;
	(void)bytes;
	*(unsigned *)arg += tier->tier == HBM_TIER_NVME;
	return 0;
}

/* Unless the configuration does without it. */
static void test_an_nvme_tier_that_is_not_required(void **state)
{
	(void)state;
	char path[160];
	unsigned tiers = 0;
	struct hbm_wire_status status;
	snprintf(path, sizeof(path), "nvme.path=%s", daemon_.dir);
	spawn_start(&daemon_, (const char *[]){path, "nvme.required=no", NULL}, NULL);
	assert_true(spawn_logged(&daemon_, "starting without the NVMe tier"));
	spawn_status(&daemon_, &status);
	assert_int_equal(status.nvme_missing, 1);
	assert_string_equal(status.state, "running, without NVMe");
	struct hbm *hbm = spawn_connect(&daemon_);
	assert_int_equal(hbm_query(hbm, HBM_QUERY_TIERS, count_nvme, &tiers), 0);
	assert_int_equal(tiers, 0);
	hbm_close(hbm);
	assert_true(spawn_balanced(&daemon_));
	assert_int_equal(spawn_stop(&daemon_), 0);
}

/* The signal that comes with it would end the daemon without a word. */
static void test_a_file_that_may_not_grow(void **state)
{
	(void)state;
	struct rlimit limit, small;
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
	small = (struct rlimit){.rlim_cur = 8 << 20, .rlim_max = limit.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	spawn_launch(&daemon_,
		     (const char *[]){"nvme.size=32MiB", "ddr.size=0", "ddr.headroom=1MiB",
				      "ddr.staging=1MiB", "soft.memory=16MiB",
				      "device.memory=12MiB", "device.cache=2MiB",
				      "device.headroom=2MiB", NULL},
		     NULL);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	assert_int_equal(spawn_wait(&daemon_), CONFIG);
	assert_int_equal(spawn_log_lines(&daemon_, " error: "), 1);
	assert_true(spawn_logged(&daemon_, "; RLIMIT_FSIZE is 8388608 bytes: raise LimitFSIZE="));
	assert_int_equal(file_exists(daemon_.nvme), false);
	assert_int_equal(file_exists(daemon_.socket), false);
}

/* ---- Two daemons ---- */

static void test_one_of_everything(void **state)
{
	(void)state;
	struct spawn second = daemon_;
	char state_dir[128], socket[128], nvme[160];
	spawn_start(&daemon_, NULL, NULL);
	snprintf(second.log, sizeof(second.log), "%s/log2", daemon_.dir);
	snprintf(state_dir, sizeof(state_dir), "hbmd.state_dir=%s/state2", daemon_.dir);
	snprintf(socket, sizeof(socket), "hbmd.socket=%s/sock2", daemon_.dir);
	snprintf(nvme, sizeof(nvme), "nvme.path=%s/nvme2", daemon_.dir);
	const struct {
		const char *sets[3];
		const char *expected;
	} tries[] = {
		{{state_dir, nvme, NULL}, "sock"},   /* the same socket */
		{{socket, nvme, NULL}, "state"},     /* the same folder */
		{{socket, state_dir, NULL}, "nvme"}, /* the same file */
	};
	for (size_t i = 0; i < 3; i++) {
		spawn_forget_log(&second);
		spawn_launch(&second, tries[i].sets, NULL);
		assert_int_equal(spawn_wait(&second), UNMET);

		if (spawn_log_lines(&second, " error: ") != 1 ||
		    !spawn_logged(&second, tries[i].expected)) {
			spawn_show_log(&second);
			fail_msg("try %zu", i);
		}
	}

	assert_true(spawn_balanced(&daemon_));
	assert_int_equal(spawn_stop(&daemon_), 0);
}

/* ---- The socket ---- */

static void test_the_socket_file(void **state)
{
	(void)state;
	struct stat status;
	spawn_start(&daemon_, (const char *[]){"hbmd.socket_mode=0600", NULL}, NULL);
	assert_int_equal(stat(daemon_.socket, &status), 0);
	assert_int_equal(status.st_mode & 07777, 0600);
	assert_int_equal(spawn_stop(&daemon_), 0);
	assert_int_equal(file_exists(daemon_.socket), false);
	file_write(daemon_.socket, "no socket\n");
	spawn_forget_log(&daemon_);
	spawn_launch(&daemon_, NULL, NULL);
	assert_int_equal(spawn_wait(&daemon_), CONFIG);
	assert_true(spawn_logged(&daemon_, daemon_.socket));
	assert_true(file_exists(daemon_.socket));
}

static void test_killed_and_started_again(void **state)
{
	(void)state;
	spawn_start(&daemon_, NULL, NULL);
	assert_true(spawn_logged(&daemon_, "formatting"));
	spawn_kill(&daemon_);
	assert_true(file_exists(daemon_.socket)); /* stale now */
	spawn_forget_log(&daemon_);
	spawn_start(&daemon_, NULL, NULL);
	assert_false(spawn_logged(&daemon_, "formatting"));
	assert_true(spawn_balanced(&daemon_));
	assert_int_equal(spawn_stop(&daemon_), 0);
}

/* Whether a daemon that is still warming up lets us in. */
static struct hbm *connect_early(void)
{
	const struct hbm_options options = {.socket = daemon_.socket, .name = "early"};
	struct hbm *hbm = NULL;

	for (int tries = 0; tries < 1000 && hbm_connect(&hbm, &options) != 0; tries++)
		usleep(5000);
	assert_non_null(hbm);

	return hbm;
}

/* Some of the staging area is in service, blocks are copied into it, slowly, and then the
 * rest cannot be had. */
static void test_a_start_that_fails_while_blocks_move(void **state)
{
	enum { BLOCKS = 8, BLOCK = 65536 };

	(void)state;
	static const char *const sets[] = {"device.cache=0",
					   "ddr.size=0",
					   "ddr.staging=300MiB",
					   "soft.d2h_gib_s=0.0001",
					   "soft.fail=cuMemHostRegister:2+",
					   NULL};
	spawn_start(&daemon_, NULL, NULL); /* which formats the NVMe tier */
	assert_int_equal(spawn_stop(&daemon_), 0);
	spawn_forget_log(&daemon_);
	spawn_launch(&daemon_, sets,
		     (const char *[]){"HBM_SOFT=slow=cuMemHostRegister:400000", NULL});
	const struct hbm_namespace_options options = {.model = "early", .block_bytes = BLOCK};
	const struct hbm_region_options region_options = {.address_space = 2ull << 20,
							  .slab = 2ull << 20};
	struct hbm *hbm = connect_early();
	struct hbm_region *region;
	struct hbm_block blocks[BLOCKS];
	struct hbm_segment segments[BLOCKS];
	hbm_result results[BLOCKS];
	uint32_t ns;
	assert_int_equal(hbm_namespace_open(hbm, &options, &ns), 0);
	assert_int_equal(hbm_region_create(hbm, &region_options, &region), 0);
	assert_int_equal(hbm_commit(hbm, &(struct hbm_range){region, 0, 2ull << 20}, 1), 0);

	for (uint64_t i = 0; i < BLOCKS; i++) {
		segments[i] = (struct hbm_segment){region, i * BLOCK, BLOCK};
		blocks[i] = (struct hbm_block){
			.key = kv_key(1 + i), .segments = &segments[i], .segment_count = 1};
	}

	assert_int_not_equal(hbm_store(hbm, ns, blocks, BLOCKS, results), 0); /* the daemon goes */
	hbm_close(hbm);
	assert_int_equal(spawn_wait(&daemon_), 1);
	assert_true(spawn_logged(&daemon_, "cannot allocate the staging buffers"));
	assert_false(file_exists(daemon_.socket));
}

/* ---- The driver ---- */

static void copy_file(const char *from, const char *to)
{
	int in = open(from, O_RDONLY | O_CLOEXEC),
	    out = open(to, O_WRONLY | O_CREAT | O_CLOEXEC, 0700);

	assert_true(in >= 0 && out >= 0);
	for (ssize_t n; (n = sendfile(out, in, NULL, 1 << 20)) != 0;)
		assert_in_range(n, 1, 1 << 20);
	assert_int_equal(close(in), 0);
	assert_int_equal(close(out), 0);
}

/* In `variable`: what makes the daemon find another copy of the soft driver where it
 * looks for libcuda.so.1. */
static void disguise_as_cuda(char *variable, size_t size)
{
	char folder[96], library[128];

	snprintf(folder, sizeof(folder), "%s/lib", daemon_.dir);
	assert_int_equal(mkdir(folder, 0700), 0);
	snprintf(library, sizeof(library), "%s/libcuda.so.1", folder);
	copy_file(spawn_path("libhbmsoft.so"), library);
	snprintf(variable, size, "LD_LIBRARY_PATH=%s", folder);
}

/*
 * A device whose driver does not start is not replaced by host memory; where there is
 * none, it is, and the log says so.
 */
static void test_auto_takes_what_there_is(void **state)
{
	(void)state;
	static char path[160];
	const char *const any[] = {"hbmd.driver=auto", "soft.fail=cuInit:2",
				   NULL}; /* for one of the two copies */
	const char *const cuda[] = {"hbmd.driver=cuda", NULL};
	disguise_as_cuda(path, sizeof(path));
	stage_refused(any, (const char *[]){path, "HBM_SOFT_FAIL=cuInit:1:802", NULL}, UNMET,
		      "cuInit failed with CUDA_ERROR_SYSTEM_NOT_READY");
	stage_refused(any, (const char *[]){path, "HBM_SOFT_FAIL=cuDeviceGetCount:1:999", NULL},
		      UNMET, "does not count");
	stage_refused(cuda, (const char *[]){path, "HBM_SOFT_FAIL=cuInit:1:100", NULL}, UNMET,
		      "CUDA_ERROR_NO_DEVICE");

	spawn_forget_log(&daemon_);
	spawn_start(&daemon_, any, (const char *[]){path, "HBM_SOFT_FAIL=cuInit:1:100", NULL});
	assert_true(spawn_logged(&daemon_, "driver: soft"));
	assert_true(spawn_logged(&daemon_, "cuInit failed with CUDA_ERROR_NO_DEVICE"));
	assert_int_equal(spawn_stop(&daemon_), 0);

	spawn_forget_log(&daemon_);
	spawn_start(&daemon_, any, (const char *[]){path, "HBM_SOFT=memory=256MiB", NULL});
	assert_true(spawn_logged(&daemon_, "driver: cuda, auto: a CUDA device answers"));
	assert_int_equal(spawn_stop(&daemon_), 0);
}

/* A root that file modes hold for, in somebody else's folder: it still reads its programs
 * and libraries wherever they lie, as somebody else might not. */
static void test_without_permission(void **state)
{
	(void)state;
	if (geteuid() != 0) {
		print_message("SKIP: only root can give a folder away\n");
		skip();
	}

	int status;
	char set[192];
	snprintf(set, sizeof(set), "hbmd.state_dir=%s/state", daemon_.dir);
	assert_int_equal(chown(daemon_.dir, 65534, (gid_t)-1), 0);
	assert_int_equal(chmod(daemon_.dir, 0755), 0);
	int log = open(daemon_.log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	assert_true(log >= 0);
	pid_t pid = fork();
	if (pid == 0) {
		if (dup2(log, STDERR_FILENO) < 0 || prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE) != 0)
			_exit(99);
		execl(spawn_path("hbmd"), "hbmd", "--config", "/dev/null", "--set",
		      "hbmd.driver=soft", "--set", set, NULL);
		_exit(127);
	}

	close(log);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 99) {
		print_message("SKIP: this root may not give up a capability\n");
		skip();
	}

	assert_int_equal(WEXITSTATUS(status), CONFIG);
	assert_true(spawn_logged(&daemon_, "hbmd.state_dir: cannot make"));
	assert_true(spawn_logged(&daemon_, "Permission denied"));
}

/* ---- Memory ---- */

/* It is not tried how far one comes: other processes would pay. */
static void test_more_memory_than_there_is(void **state)
{
	(void)state;
	stage_refused((const char *[]){"ddr.size=16TiB", NULL}, NULL, CONFIG,
		      "ddr.size: with ddr.headroom and ddr.staging");
	stage_refused((const char *[]){"ddr.size=100%", NULL}, NULL, CONFIG, "lower ddr.size");
}

/* A cgroup below our own that may have so many bytes, of the kind that this host has;
 * skips the test without one. */
static void make_cgroup(char *path, size_t size, const char *bytes)
{
	static const char *const kinds[][2] = {{"/sys/fs/cgroup/memory", "memory.limit_in_bytes"},
					       {"/sys/fs/cgroup", "memory.max"}};
	char name[160];

	for (size_t i = 0; i < 2; i++) {
		snprintf(path, size, "%s/hbmd-test-%d", kinds[i][0], (int)getpid());
		if (mkdir(path, 0755) < 0)
			continue;

		snprintf(name, sizeof(name), "%s/%s", path, kinds[i][1]);
		FILE *out = file_exists(name) ? fopen(name, "we") : NULL;
		if (out && fputs(bytes, out) >= 0 && fclose(out) == 0)
			return;
		if (out)
			fclose(out);

		rmdir(path);
	}

	print_message("SKIP: no memory cgroup can be made here\n");
	skip();
}

static void enter_cgroup(const char *path)
{
	char name[160];

	snprintf(name, sizeof(name), "%s/cgroup.procs", path);
	FILE *out = fopen(name, "we");
	assert_non_null(out);
	assert_true(fprintf(out, "%d", (int)getpid()) > 0);
	assert_int_equal(fclose(out), 0);
}

/* The folder of the cgroup that the test is in, to go back to. */
static void own_cgroup(const char *made, char *path, size_t size)
{
	char line[512];
	bool is_v1 = strncmp(made, "/sys/fs/cgroup/memory/", 22) == 0;
	FILE *in = fopen("/proc/self/cgroup", "re");

	assert_non_null(in);
	path[0] = '\0';
	while (fgets(line, sizeof(line), in)) {
		const char *at = strstr(line, is_v1 ? ":memory:" : "0::");
		line[strcspn(line, "\n")] = '\0';
		if (at)
			snprintf(path, size, "/sys/fs/cgroup%s%s", is_v1 ? "/memory" : "",
				 at + (is_v1 ? strlen(":memory:") : strlen("0::")));
	}

	fclose(in);
}

/* Without the check the kernel would end the daemon while it touches the memory, and no
 * log would say why. */
static void test_a_memory_cgroup_that_is_too_small(void **state)
{
	(void)state;
	char made[128], own[512];

	make_cgroup(made, sizeof(made), "314572800"); /* 300 MiB */
	own_cgroup(made, own, sizeof(own));
	enter_cgroup(made);
	stage_refused((const char *[]){"ddr.size=600MiB", NULL}, NULL, CONFIG,
		      "allows 314572800: lower ddr.size");
	assert_true(
		spawn_logged(&daemon_, "679477248 bytes are needed")); /* 600 + 8 + 8 + 32 MiB */
	stage_refused((const char *[]){"ddr.size=90%", NULL}, NULL, CONFIG,
		      "allows 314572800: lower ddr.size");

	spawn_forget_log(&daemon_);
	spawn_start(&daemon_, (const char *[]){"ddr.size=50%", NULL},
		    NULL); /* 150 MiB: all of it is touched */
	assert_true(spawn_balanced(&daemon_));
	assert_int_equal(spawn_stop(&daemon_), 0);

	enter_cgroup(own);
	assert_int_equal(rmdir(made), 0);
}

/* ---- The service manager ---- */

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

static void test_sigterm_while_warming(void **state)
{
	(void)state;
	spawn_launch(&daemon_, (const char *[]){"nvme.size=1GiB", "ddr.size=512MiB", NULL}, NULL);
	for (int i = 0; i < 20000 && !spawn_logged(&daemon_, "serving on"); i++)
		poll(NULL, 0, 1);
	assert_int_equal(spawn_stop(&daemon_), 0);
	assert_int_equal(file_exists(daemon_.socket), false);
}

/*
 * A session that is drained gives its memory back while its process still has it mapped,
 * so the device is full and nobody will want what is free by the books: nothing is made
 * ahead of need, and nothing fails. A second client keeps the daemon draining for a
 * while, with a store from a slow device.
 */
static void test_draining_makes_nothing_ahead(void **state)
{
	(void)state;
	static const char *const sets[] = {"soft.memory=192MiB", "soft.latency_us=500000", NULL};
	struct kv waiting, holder;
	struct hbm_block block;
	struct hbm_segment segment;
	hbm_ticket ticket;

	spawn_start(&daemon_, sets, NULL);
	kv_open(&waiting, &daemon_, 0, 2 << 20, 1);
	kv_open(&holder, &daemon_, 0, 2 << 20, 83); /* with the other's all of the pool */
	kv_blocks(&waiting, 0, 1, 1, 0, &block, &segment);
	assert_int_equal(hbm_submit_store(waiting.hbm, waiting.ns, &block, 1, NULL, NULL, &ticket),
			 0);
	assert_int_equal(hbm_ping(waiting.hbm), 0); /* so the store has arrived */

	assert_int_equal(spawn_stop(&daemon_), 0);

	if (spawn_log_lines(&daemon_, " error: ") > 0) {
		spawn_show_log(&daemon_);
		fail_msg("a clean stop logs errors");
	}

	kv_close(&holder);
	kv_close(&waiting);
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
		TEST(test_nvme_files_that_cannot_be_used),
		TEST(test_an_nvme_tier_that_is_not_required),
		TEST(test_a_file_that_may_not_grow),
		TEST(test_one_of_everything),
		TEST(test_the_socket_file),
		TEST(test_killed_and_started_again),
		TEST(test_a_start_that_fails_while_blocks_move),
		TEST(test_auto_takes_what_there_is),
		TEST(test_without_permission),
		TEST(test_more_memory_than_there_is),
		TEST(test_a_memory_cgroup_that_is_too_small),
		TEST(test_the_service_manager_is_told),
		TEST(test_the_service_manager_is_told_of_errors),
		TEST(test_a_socket_from_the_service_manager),
		TEST(test_a_descriptor_that_nobody_knows),
		TEST(test_sigterm_while_warming),
		TEST(test_draining_makes_nothing_ahead),
	};
	alarm(100);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
