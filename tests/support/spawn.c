/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/leaks.h"
#include "tests/support/spawn.h"
#include "tests/support/thread.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ARGUMENTS 128
#define WAIT_MS 30000
#define SETTLE_MS 20000
#define STEP_MS 2
#define SLAB_MIN (2u << 20)

static void sleep_ms(long ms)
{
	const struct timespec time = {ms / 1000, ms % 1000 * 1000000};
	nanosleep(&time, NULL);
}

const char *spawn_path(const char *name)
{
	static char path[4096];
	const char *build = getenv("HBM_BUILD");
	if (name[0] == '/')
		return name;
	snprintf(path, sizeof(path), "%s/%s", build ? build : "build", name);
	return path;
}

static const char *driver(void)
{
	const char *chosen = getenv("HBM_TEST_DRIVER");
	return chosen ? chosen : "soft";
}

/* The tests are about one device: of several real ones the first, for daemon and clients
 * alike. */
static void use_one_device(void)
{
	const char *visible = getenv("CUDA_VISIBLE_DEVICES");
	char first[128];
	snprintf(first, sizeof(first), "%s", visible ? visible : "0");
	first[strcspn(first, ",")] = '\0';
	setenv("CUDA_VISIBLE_DEVICES", first, 1);
}

void spawn_init(struct spawn *spawn)
{
	const char *folder = getenv("TMPDIR");
	char dir[sizeof(spawn->dir)];

	if (strcmp(driver(), "cuda") == 0)
		use_one_device();

	int length = snprintf(dir, sizeof(dir), "%s/hbmd-test.XXXXXX", folder ? folder : "/tmp");
	if (length >= (int)sizeof(dir)) /* a socket's path must be short */
		snprintf(dir, sizeof(dir), "/tmp/hbmd-test.XXXXXX");

	assert_non_null(mkdtemp(dir));
	spawn_of(spawn, dir);
}

void spawn_of(struct spawn *spawn, const char *dir)
{
	*spawn = (struct spawn){.pid = 0};
	snprintf(spawn->dir, sizeof(spawn->dir), "%s", dir);
	snprintf(spawn->socket, sizeof(spawn->socket), "%s/sock", spawn->dir);
	snprintf(spawn->nvme, sizeof(spawn->nvme), "%s/nvme", spawn->dir);
	snprintf(spawn->log, sizeof(spawn->log), "%s/log", spawn->dir);
}

/* Whether a test wants a device that is slowed down, told to fail, or one of several. */
static bool is_soft_only(const char *const *sets, const char *const *env)
{
	for (; sets && *sets; sets++) {
		if (strncmp(*sets, "soft.", 5) == 0 && strncmp(*sets, "soft.memory=", 12) != 0)
			return true;
	}

	for (; env && *env; env++) {
		if (strncmp(*env, "HBM_SOFT", 8) == 0)
			return true;
	}

	return false;
}

void spawn_needs_soft(void)
{
	if (strcmp(driver(), "soft") == 0)
		return;
	print_message(
		"SKIP: takes a soft device that can be slowed, made to fail, or made several of\n");
	skip();
}

/* In the child: passes what is to be handed over from 3 on, as sd_listen_fds(3) says. How
 * many there are. */
static int pass_descriptors(const struct spawn *spawn)
{
	static char listen_pid[32];

	if (spawn->listener <= 0)
		return 0;

	int extra = spawn->extra > 0 ? fcntl(spawn->extra, F_DUPFD, 1000) : -1; /* it may be 3 */
	dup2(spawn->listener, 3);
	fcntl(3, F_SETFD, 0); /* it may have been 3 before */
	if (extra >= 0)
		dup2(extra, 4);

	snprintf(listen_pid, sizeof(listen_pid), "LISTEN_PID=%d", (int)getpid());
	putenv(listen_pid);
	putenv((char *)(uintptr_t)(extra >= 0 ? "LISTEN_FDS=2" : "LISTEN_FDS=1"));
	if (extra >= 0)
		putenv((char *)(uintptr_t) "LISTEN_FDNAMES=hbmd:extra");

	return extra >= 0 ? 2 : 1;
}

static void limit_self(const struct spawn_limit *limit)
{
	if (limit)
		setrlimit((__rlimit_resource_t)limit->resource,
			  &(struct rlimit){limit->value, limit->value});
}

/* In the child: becomes the daemon. */
static void become(const struct spawn *spawn, const char *const *sets, const char *const *env)
{
	char defaults[16][160];
	size_t n = 0, argc = 0;
	const char *argv[ARGUMENTS];

	snprintf(defaults[n++], sizeof(defaults[0]), "hbmd.socket=%s", spawn->socket);
	snprintf(defaults[n++], sizeof(defaults[0]), "hbmd.state_dir=%s/state", spawn->dir);
	snprintf(defaults[n++], sizeof(defaults[0]), "nvme.path=%s", spawn->nvme);
	snprintf(defaults[n++], sizeof(defaults[0]), "hbmd.driver=%s", driver());
	static const char *const fixed[] = {
		"hbmd.log_level=debug", "soft.memory=256MiB", "device.memory=192MiB",
		"device.cache=16MiB", "device.headroom=8MiB", "device.slab=2MiB", "ddr.size=32MiB",
		"ddr.headroom=8MiB", "ddr.staging=8MiB", "nvme.size=64MiB",
		/* a slow machine changes no result */
		"nvme.behind_ms=0",
		/* every block is looked at wherever it comes from */
		"hbmd.checksum=always"};
	argv[argc++] = spawn_path(spawn->program ? spawn->program : "hbmd");
	if (spawn->keeper_options)
		argv[argc++] = "--keeper";
	for (const char *const *option = spawn->keeper_options; option && *option; option++)
		argv[argc++] = *option;
	if (spawn->keeper_options)
		argv[argc++] = "--";
	argv[argc++] = "--config";
	argv[argc++] = "/dev/null";
	for (size_t i = 0; i < n; i++) {
		argv[argc++] = "--set";
		argv[argc++] = defaults[i];
	}

	for (size_t i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++) {
		argv[argc++] = "--set";
		argv[argc++] = fixed[i];
	}

	for (; sets && *sets && argc < ARGUMENTS - 3; sets++) {
		argv[argc++] = "--set";
		argv[argc++] = *sets;
	}

	argv[argc] = NULL;
	for (; env && *env; env++)
		putenv((char *)(uintptr_t)*env);
	int log = open(spawn->log, O_WRONLY | O_CREAT | O_APPEND, 0600);
	dup2(log, STDERR_FILENO);
	dup2(log, STDOUT_FILENO);
	for (int fd = 3 + pass_descriptors(spawn); fd < 1024; fd++)
		close(fd);
	limit_self(spawn->limit);
	prctl(PR_SET_PDEATHSIG, SIGKILL); /* it does not outlive a test that failed */
	execv(argv[0], (char *const *)(uintptr_t)argv);
	_exit(127);
}

void spawn_launch(struct spawn *spawn, const char *const *sets, const char *const *env)
{
	assert_int_equal(spawn->pid, 0);
	if (is_soft_only(sets, env))
		spawn_needs_soft();

	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		become(spawn, sets, env);

	spawn->pid = pid;
}

static int ended(struct spawn *spawn, int flags)
{
	int status;
	pid_t r = waitpid(spawn->pid, &status, flags);
	if (r == 0)
		return -1;

	spawn->pid = 0;

	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static int keep_status(const void *record, size_t bytes, void *arg)
{
	if (bytes == sizeof(struct hbm_wire_status))
		memcpy(arg, record, bytes);
	return 0;
}

static bool ask_status(const struct spawn *spawn, struct hbm_wire_status *status)
{
	const struct hbm_options options = {
		.socket = spawn->socket, .name = "test", .inspect_only = true};
	struct hbm *hbm;
	if (hbm_connect(&hbm, &options) != 0)
		return false;

	int r = hbm_query(hbm, HBM_QUERY_STATUS, keep_status, status);
	hbm_close(hbm);

	return r == 0;
}

int spawn_try_warm(struct spawn *spawn)
{
	for (int waited = 0; waited < WAIT_MS; waited += STEP_MS) {
		struct hbm_wire_status status = {.state = ""};
		if (ask_status(spawn, &status) && strncmp(status.state, "running", 7) == 0)
			return -1;

		int exit_status = ended(spawn, WNOHANG);
		if (exit_status >= 0)
			return exit_status;

		sleep_ms(STEP_MS);
	}

	spawn_show_log(spawn);
	fail_msg("hbmd was not ready after %d ms", WAIT_MS);
	return 0;
}

void spawn_wait_warm(struct spawn *spawn)
{
	int exit_status = spawn_try_warm(spawn);
	if (exit_status < 0)
		return;
	spawn_show_log(spawn);
	fail_msg("hbmd ended with %d", exit_status);
}

void spawn_start(struct spawn *spawn, const char *const *sets, const char *const *env)
{
	spawn_launch(spawn, sets, env);
	spawn_wait_warm(spawn);
}

int spawn_wait(struct spawn *spawn)
{
	for (int waited = 0; waited < WAIT_MS; waited += STEP_MS) {
		int status = ended(spawn, WNOHANG);
		if (status >= 0)
			return status;
		sleep_ms(STEP_MS);
	}

	spawn_show_log(spawn);
	spawn_kill(spawn);
	fail_msg("hbmd did not end");

	return -1;
}

int spawn_stop(struct spawn *spawn)
{
	kill(spawn->pid, SIGTERM);
	return spawn_wait(spawn);
}

void spawn_kill(struct spawn *spawn)
{
	kill(spawn->pid, SIGKILL);
	ended(spawn, 0);
}

static void remove_tree(const char *path)
{
	DIR *dir = opendir(path);
	for (struct dirent *entry; dir && (entry = readdir(dir)) != NULL;) {
		char name[512];
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		snprintf(name, sizeof(name), "%s/%s", path, entry->d_name);
		if (unlink(name) < 0 && (errno == EISDIR || errno == EPERM))
			remove_tree(name);
	}

	if (dir)
		closedir(dir);
	rmdir(path);
}

void spawn_free(struct spawn *spawn)
{
	if (spawn->pid > 0)
		spawn_kill(spawn);
	remove_tree(spawn->dir);
}

struct hbm *spawn_connect(const struct spawn *spawn)
{
	const struct hbm_options options = {.socket = spawn->socket, .name = "test"};
	struct hbm *hbm;
	int r = hbm_connect(&hbm, &options);
	if (r != 0) {
		spawn_show_log(spawn);
		fail_msg("no connection to hbmd: %s", hbm_strerror(r));
	}

	return hbm;
}

static int check_account(const void *record, size_t bytes, void *arg)
{
	const struct hbm_wire_account *account = record;
	bool *balanced = arg;

	assert_int_equal(bytes, sizeof(*account));
	if (account->balanced)
		return 0;

	*balanced = false;
	print_error("%s does not balance: %s\n", account->pool, account->problem);

	return 0;
}

static int check_limit(const void *record, size_t bytes, void *arg)
{
	const struct hbm_wire_limit *limit = record;

	assert_int_equal(bytes, sizeof(*limit));
	if (!limit->balanced) {
		print_message("%s: %s\n", limit->name, limit->problem);
		*(bool *)arg = false;
	}

	return 0;
}

bool spawn_balanced(const struct spawn *spawn)
{
	struct hbm *hbm = spawn_connect(spawn);
	bool balanced = true;
	int r = hbm_query(hbm, HBM_QUERY_VERIFY, check_account, &balanced);
	if (r == 0)
		r = hbm_query(hbm, HBM_QUERY_LIMITS, check_limit, &balanced);
	hbm_close(hbm);
	return r == 0 && balanced;
}

static int is_busy(const void *record, size_t bytes, void *arg)
{
	const struct hbm_wire_account *account = record;
	bool *busy = arg;

	assert_int_equal(bytes, sizeof(*account));
	bool regions = strstr(account->pool, "regions") != NULL;
	if (account->moving > 0 || account->quarantined > 0 || account->held > 0 ||
	    (regions && account->placed > 0))
		*busy = true;

	return 0;
}

void spawn_settle(const struct spawn *spawn)
{
	struct hbm *hbm = spawn_connect(spawn);
	bool busy = true;

	for (int waited = 0; busy && waited < SETTLE_MS; waited += STEP_MS) {
		busy = false;
		if (hbm_query(hbm, HBM_QUERY_VERIFY, is_busy, &busy) != 0)
			break;
		if (busy)
			sleep_ms(STEP_MS);
	}

	hbm_close(hbm);
	if (!busy)
		return;

	spawn_show_log(spawn);
	fail_msg("hbmd is still busy after %d ms", SETTLE_MS);
}

void spawn_status(const struct spawn *spawn, struct hbm_wire_status *status)
{
	assert_true(ask_status(spawn, status));
}

/* How many descriptors one counts as. Device memory counts by its size: what was made for
 * a COMMIT that then failed stays ready, in slabs of the size that was asked for, and is
 * as much memory in fewer or more of them. */
static unsigned weigh_fd(const char *name, const char *target)
{
	struct stat file;

	if (strncmp(target, "/memfd:hbm-soft-device-", 23) != 0 || stat(name, &file) < 0)
		return 1;

	return (unsigned)((uint64_t)file.st_size / SLAB_MIN);
}

/* How many descriptors of its own the daemon has; in *sessions how many of them watch a
 * client's process. Shows them where that is asked. */
static unsigned count_fds(const struct spawn *spawn, unsigned *sessions, bool show)
{
	char path[64], name[320], target[256];
	unsigned count = 0;

	*sessions = 0;
	snprintf(path, sizeof(path), "/proc/%d/fd", (int)spawn->pid);
	DIR *dir = opendir(path);
	for (struct dirent *entry; dir && (entry = readdir(dir)) != NULL;) {
		if (entry->d_name[0] == '.')
			continue;

		snprintf(name, sizeof(name), "%s/%s", path, entry->d_name);
		ssize_t n = readlink(name, target, sizeof(target) - 1);
		target[n > 0 ? n : 0] = '\0';
		*sessions += n < 0 || strstr(target, "pidfd") !=
					      NULL; /* one that has just gone was somebody's */
		if (n >= 0 && !leaks_counts_fd(spawn->pid, target))
			continue;
		count += weigh_fd(name, target);
		if (show)
			print_message("descriptor %s: %s\n", entry->d_name, target);
	}

	if (dir)
		closedir(dir);

	return count;
}

/* Whether the daemon does nothing at this moment: its loop and its workers, but not
 * threads of a driver. */
static bool all_asleep(const struct spawn *spawn)
{
	char path[64];
	bool asleep = true;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)spawn->pid);
	DIR *dir = opendir(path);
	for (struct dirent *entry; asleep && dir && (entry = readdir(dir)) != NULL;) {
		if (entry->d_name[0] == '.')
			continue;
		bool loop = atoi(entry->d_name) == spawn->pid;
		if (loop || leaks_counts_thread(spawn->pid, entry->d_name))
			asleep = thread_is_asleep(spawn->pid, entry->d_name);
	}

	if (dir)
		closedir(dir);

	return asleep;
}

static int is_making(const void *record, size_t bytes, void *arg)
{
	const struct hbm_wire_device *device = record;
	bool *making = arg;
	assert_int_equal(bytes, sizeof(*device));
	*making = *making || device->uncreated >= device->slab || device->retiring > 0;
	return 0;
}

/* Whether slabs are still being made ahead, or will be of what is being given back. */
static bool makes_slabs(const struct spawn *spawn)
{
	struct hbm *hbm = spawn_connect(spawn);
	bool making = false;
	int r = hbm_query(hbm, HBM_QUERY_DEVICES, is_making, &making);
	hbm_close(hbm);
	return r != 0 || making;
}

unsigned spawn_fds(const struct spawn *spawn)
{
	unsigned sessions = 1;
	bool making = true, asleep = false;

	for (int waited = 0; waited < SETTLE_MS; waited += STEP_MS) {
		if (making) {
			making = makes_slabs(spawn);
			sessions = 1; /* that very question */
		}

		bool rested = !making && sessions == 0 && asleep;
		unsigned count = count_fds(spawn, &sessions, false);
		asleep = all_asleep(spawn);
		if (rested && asleep && sessions == 0)
			return count;

		sleep_ms(STEP_MS);
	}

	spawn_show_log(spawn);
	fail_msg("hbmd still watches %u clients%s%s", sessions, making ? ", makes slabs" : "",
		 asleep ? "" : ", is at work");

	return 0;
}

void spawn_expect_fds(const struct spawn *spawn, unsigned fds)
{
	unsigned sessions, count = spawn_fds(spawn);

	/* Descriptors that clients have sent are closed by threads that may not have begun: where a
	 * driver has threads, too, they are not told from its. */
	for (int waited = 0; count != fds && waited < SETTLE_MS; waited += STEP_MS) {
		sleep_ms(STEP_MS);
		count = spawn_fds(spawn);
	}
	if (count == fds)
		return;

	count_fds(spawn, &sessions, true);
	fail_msg("hbmd has %u descriptors, not %u", count, fds);
}
