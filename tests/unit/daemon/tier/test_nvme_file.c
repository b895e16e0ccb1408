/* SPDX-License-Identifier: Apache-2.0 */
/* The file behind the NVMe tier: made, used again, refused. Whatever is refused must be
 * left as it was. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/loop.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "daemon/base/log.h"
#include "daemon/cache/cache.h"
#include "daemon/config/config.h"
#include "daemon/tier/nvme_file.h"
#include "tests/support/leaks.h"

#define MIB (1ull << 20)
#define PATIENCE 20000000000ull

struct setting {
	struct leaks leaks;
	struct config config;
	struct ledger ledger;
	struct loop *loop;
	struct cache *cache;
	struct nvme_file *nvme;
	struct timer watchdog;
	char folder[32], path[64], error[512];
	int device; /* a loop device on `path`, while a test has one; 0: none */
	unsigned steps;
};

static void progress(void *arg)
{
	struct setting *setting = arg;
	setting->steps++;
	if (nvme_file_settled(setting->nvme))
		loop_stop(setting->loop);
}

static void too_long(struct timer *timer)
{
	struct setting *setting = container_of(timer, struct setting, watchdog);
	fail_msg("formatting is at %u%%", nvme_file_percent(setting->nvme));
}

static int setup(void **state)
{
	struct setting *setting = calloc(1, sizeof(*setting));

	assert_non_null(setting);
	leaks_begin(&setting->leaks);
	log_open(LOG_CRIT);
	strcpy(setting->folder, "/var/tmp/hbmd-nvme-XXXXXX");
	assert_non_null(mkdtemp(setting->folder));
	snprintf(setting->path, sizeof(setting->path), "%s/tier", setting->folder);
	assert_int_equal(config_defaults(&setting->config), 0);
	free(setting->config.nvme_path);
	setting->config.nvme_path = strdup(setting->path);
	setting->config.nvme_size = 3 * MIB;
	setting->config.limit_blocks = 1024;
	setting->watchdog.fire = too_long;
	*state = setting;

	return 0;
}

/* The tier may leave its last completion with the loop: the loop goes with it. */
static void close_tier(struct setting *setting)
{
	setting->nvme = nvme_file_close(setting->nvme);
	setting->loop = loop_free(setting->loop);
}

static int teardown(void **state)
{
	struct setting *setting = *state;

	close_tier(setting);
	setting->cache = cache_close(setting->cache);
	config_clear(&setting->config);

	if (setting->device > 0) {
		ioctl(setting->device, LOOP_CLR_FD, 0);
		close(setting->device);
	}

	umount(setting->folder); /* a test that failed may have left it */
	unlink(setting->path);
	assert_int_equal(rmdir(setting->folder), 0);
	assert_int_equal(leaks_end(&setting->leaks), 0);
	free(setting);

	return 0;
}

static int open_tier(struct setting *setting)
{
	setting->cache = cache_close(setting->cache);
	if (!setting->loop)
		assert_int_equal(loop_new(&setting->loop, &(struct loop_options){.io_depth = 1}),
				 0);

	ledger_open(&setting->ledger, &setting->config);
	assert_int_equal(cache_open(&setting->cache, &setting->config, &setting->ledger, 1), 0);
	setting->error[0] = '\0';

	return nvme_file_open(&setting->nvme, &setting->config, setting->cache->nvme, setting->loop,
			      progress, setting, setting->error, sizeof(setting->error));
}

static void assert_refused(struct setting *setting, int error, const char *words)
{
	assert_int_equal(open_tier(setting), error);
	assert_null(setting->nvme);
	if (!strstr(setting->error, words))
		fail_msg("\"%s\" does not say \"%s\"", setting->error, words);
	assert_null(strchr(setting->error, '\n'));
}

/* Waits for the whole tier to be in service. */
static void await_format(struct setting *setting)
{
	if (!nvme_file_settled(setting->nvme)) {
		assert_int_equal(
			loop_timer_set(setting->loop, &setting->watchdog, clock_now() + PATIENCE),
			0);
		assert_int_equal(loop_run(setting->loop), 0);
		loop_timer_stop(setting->loop, &setting->watchdog);
	}

	assert_int_equal(setting->cache->nvme->usable, setting->config.nvme_size);
	assert_int_equal(setting->cache->nvme->capacity, setting->config.nvme_size);
}

static void open_and_close(struct setting *setting)
{
	if (open_tier(setting) != 0)
		fail_msg("%s", setting->error);
	await_format(setting);
	close_tier(setting);
}

static struct stat stat_of(struct setting *setting)
{
	struct stat st;
	assert_int_equal(stat(setting->path, &st), 0);
	return st;
}

static void write_file(struct setting *setting, const char *text, off_t at, off_t length)
{
	int fd = open(setting->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	assert_in_range(fd, 0, INT32_MAX);
	if (length > 0)
		assert_int_equal(ftruncate(fd, length), 0);

	assert_int_equal(pwrite(fd, text, strlen(text), at), strlen(text));
	close(fd);
}

/* ---- new and used again ---- */

static void test_a_new_file(void **state)
{
	struct setting *setting = *state;

	setting->config.nvme_size = 150 * MIB; /* three steps of formatting */
	assert_int_equal(open_tier(setting), 0);
	assert_int_equal(setting->cache->nvme->usable, 0);
	assert_false(nvme_file_read_rate(setting->nvme) > 0);
	await_format(setting);
	assert_int_equal(setting->steps, 3);
	assert_true(nvme_file_read_rate(setting->nvme) > 0);
	struct stat st = stat_of(setting);
	assert_int_equal(st.st_size, setting->config.nvme_size + NVME_HEAD);
	assert_in_range(st.st_blocks * 512, setting->config.nvme_size, UINT64_MAX);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_in_range(nvme_file_fd(setting->nvme), 0, INT32_MAX);
}

static void test_a_formatted_file_is_in_service_at_once(void **state)
{
	struct setting *setting = *state;

	open_and_close(setting);
	setting->steps = 0;
	assert_int_equal(open_tier(setting), 0);
	assert_int_equal(nvme_file_percent(setting->nvme), 100);
	assert_int_equal(setting->cache->nvme->usable, 3 * MIB);
	assert_int_equal(setting->steps, 0);
	assert_true(nvme_file_read_rate(setting->nvme) > 0);
}

static void test_a_file_of_another_size_is_formatted_again(void **state)
{
	struct setting *setting = *state;
	static const uint64_t sizes[] = {5 * MIB, 2 * MIB, 2 * MIB + 4096, 3 * MIB};
	open_and_close(setting);

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		setting->config.nvme_size = sizes[i];
		assert_int_equal(open_tier(setting), 0);
		assert_int_equal(nvme_file_percent(setting->nvme), 0);
		await_format(setting);
		close_tier(setting);
		assert_int_equal(stat_of(setting).st_size, sizes[i] + NVME_HEAD);
	}
}

/* Closed while it was formatting: the next start formats it from the beginning. */
static void test_an_interrupted_format(void **state)
{
	struct setting *setting = *state;

	setting->config.nvme_size = 200 * MIB;
	assert_int_equal(open_tier(setting), 0);
	close_tier(setting);
	assert_int_equal(open_tier(setting), 0);
	assert_int_equal(nvme_file_percent(setting->nvme), 0);
	await_format(setting);
}

/* Cut off before there was a label: the file is as long as it was made and has nothing in
 * it. */
static void test_a_file_cut_off_before_its_label(void **state)
{
	struct setting *setting = *state;
	write_file(setting, "", 0, 7 * (off_t)MIB);
	open_and_close(setting);
	assert_int_equal(stat_of(setting).st_size, 3 * MIB + NVME_HEAD);
}

/* ---- refused ---- */

static void test_a_foreign_file_is_refused_and_untouched(void **state)
{
	struct setting *setting = *state;
	static const off_t lengths[] = {0,
					100,
					4096,
					4 * (off_t)MIB,
					3 * (off_t)MIB + (off_t)NVME_HEAD,
					3 * (off_t)MIB + 1};
	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		write_file(setting, "precious", 0, lengths[i]);
		struct stat before = stat_of(setting), now;
		assert_refused(setting, -EEXIST, "holds data that is not hbmd's");
		now = stat_of(setting);
		assert_int_equal(now.st_size, before.st_size);
		assert_int_equal(now.st_mtim.tv_nsec, before.st_mtim.tv_nsec);
		char text[8];
		int fd = open(setting->path, O_RDONLY | O_CLOEXEC);
		assert_int_equal(read(fd, text, sizeof(text)), sizeof(text));
		close(fd);
		assert_memory_equal(text, "precious", sizeof(text));
		unlink(setting->path);
	}
}

static void test_a_label_of_which_a_byte_is_wrong(void **state)
{
	struct setting *setting = *state;
	open_and_close(setting);
	write_file(setting, "?", 20, 0);
	assert_refused(setting, -EEXIST, "not hbmd's");
}

static void test_sizes_that_are_too_small(void **state)
{
	struct setting *setting = *state;
	static const uint64_t sizes[] = {0, 4096, MIB - 1};
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		setting->config.nvme_size = sizes[i];
		assert_refused(setting, -EINVAL, "too small");
		assert_int_equal(access(setting->path, F_OK), -1);
	}
}

static void test_a_file_that_is_locked(void **state)
{
	struct setting *setting = *state;

	open_and_close(setting);
	int fd = open(setting->path, O_RDONLY | O_CLOEXEC);
	assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), 0);
	assert_refused(setting, -EWOULDBLOCK, "in use");
	assert_int_equal(stat_of(setting).st_size, 3 * MIB + NVME_HEAD);
	close(fd);
	assert_int_equal(open_tier(setting), 0);
	fd = open(setting->path, O_RDONLY | O_CLOEXEC); /* and it is locked by the tier now */
	assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), -1);
	close(fd);
}

static void test_paths_that_cannot_be(void **state)
{
	struct setting *setting = *state;

	free(setting->config.nvme_path);
	setting->config.nvme_path = strdup("/var/tmp/no such folder/tier");
	assert_refused(setting, -ENOENT, "create its folder first");
	free(setting->config.nvme_path);
	setting->config.nvme_path = strdup(setting->folder);
	assert_refused(setting, -EISDIR, "cannot open");
	free(setting->config.nvme_path);
	setting->config.nvme_path = strdup("/dev/null");
	assert_int_not_equal(open_tier(setting), 0);
	assert_null(setting->nvme);
}

/* ---- no room ---- */

/* A limit on the size of files, as a full disk where none can be had: what was made is
 * removed. */
static void test_a_file_that_may_not_grow(void **state)
{
	struct setting *setting = *state;
	struct rlimit before, limit;
	void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);

	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	limit = before;
	limit.rlim_cur = MIB;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	int r = open_tier(setting);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	signal(SIGXFSZ, handler);
	assert_int_equal(r, -EFBIG);
	assert_non_null(strstr(setting->error, "cannot allocate"));
	assert_int_equal(access(setting->path, F_OK), -1);
}

/* A disk that fails while it is filled: the tier stays as large as it is by then, and
 * nobody waits for the rest. */
static void test_a_disk_that_fails_while_it_is_formatted(void **state)
{
	struct setting *setting = *state;

	setting->config.nvme_size = 512 * MIB;
	assert_int_equal(open_tier(setting), 0);
	int unwritable = open("/dev/null", O_RDONLY | O_CLOEXEC);
	assert_true(unwritable >= 0);
	assert_true(dup3(unwritable, nvme_file_fd(setting->nvme), O_CLOEXEC) >= 0);
	close(unwritable);
	assert_int_equal(loop_timer_set(setting->loop, &setting->watchdog, clock_now() + PATIENCE),
			 0);
	assert_int_equal(loop_run(setting->loop), 0);
	loop_timer_stop(setting->loop, &setting->watchdog);
	assert_int_equal(nvme_file_settled(setting->nvme), true);
	assert_in_range(nvme_file_percent(setting->nvme), 0, 99);
	assert_in_range(setting->cache->nvme->usable, 0, setting->config.nvme_size - 1);
}

/* A file system of its own, of `type`; skips the test where that is not permitted. */
static void mount_over(struct setting *setting, const char *type, const char *options)
{
	if (mount("none", setting->folder, type, 0, options) < 0) {
		print_message("SKIP: mounting %s: %s\n", type, strerror(errno));
		skip();
	}
}

static void test_a_full_disk(void **state)
{
	struct setting *setting = *state;

	mount_over(setting, "tmpfs", "size=2m");
	int r = open_tier(setting);
	int left = access(setting->path, F_OK);
	assert_int_equal(umount(setting->folder), 0);
	assert_int_equal(r, -ENOSPC);
	assert_non_null(strstr(setting->error, "4194304 bytes are needed"));
	assert_non_null(strstr(setting->error, "there are 2097152: lower nvme.size"));
	assert_int_equal(left, -1);
}

/* The page cache will do, and what was made is still removed on failure. */
static void test_a_file_system_without_direct_io(void **state)
{
	struct setting *setting = *state;

	mount_over(setting, "ramfs", "");
	int r = open_tier(setting);
	if (r == 0)
		await_format(setting);

	close_tier(setting);
	unlink(setting->path);
	setting->config.nvme_size = 4096;
	int refused = open_tier(setting);
	int left = access(setting->path, F_OK);
	unlink(setting->path);
	assert_int_equal(umount(setting->folder), 0);
	assert_int_equal(r, 0);
	assert_int_equal(refused, -EINVAL);
	assert_int_equal(left, -1);
}

/* A file system of its own of the kind that cannot allocate; skips the test where that is
 * not permitted. */
static void mount_ext2(struct setting *setting, unsigned mib)
{
	char command[256];

	snprintf(command, sizeof(command),
		 "truncate -s %uM %s.img && mkfs.ext2 -q -F %s.img && mount -o loop %s.img %s", mib,
		 setting->folder, setting->folder, setting->folder, setting->folder);
	int status = system(command);
	char image[64];
	snprintf(image, sizeof(image), "%s.img", setting->folder);
	unlink(image); /* a mount keeps it */

	if (status != 0) {
		print_message("SKIP: no ext2 file system can be made and mounted here\n");
		skip();
	}
}

static void test_a_file_system_without_fallocate(void **state)
{
	struct setting *setting = *state;

	setting->config.nvme_size = 20 * MIB;
	mount_ext2(setting, 40);
	int r = open_tier(setting);
	if (r == 0)
		await_format(setting);

	struct stat st = {0};
	int seen = stat(setting->path, &st);
	close_tier(setting);
	int again = open_tier(setting);
	unsigned percent = again == 0 ? nvme_file_percent(setting->nvme) : 0;
	close_tier(setting);

	setting->config.nvme_size = 60 * MIB;
	int refused = open_tier(setting);
	unlink(setting->path);
	assert_int_equal(umount(setting->folder), 0);
	assert_int_equal(r, 0);
	assert_int_equal(seen, 0);
	assert_in_range(st.st_blocks * 512, setting->config.nvme_size / 3,
			UINT64_MAX); /* written out */
	assert_int_equal(again, 0);
	assert_int_equal(percent, 100);
	assert_int_equal(refused, -ENOSPC);
	assert_non_null(strstr(setting->error, "lower nvme.size"));
}

/* From now on, for this thread and those it makes, no file system can allocate. */
static void forget_fallocate(void)
{
	struct sock_filter refuse_it[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_fallocate, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EOPNOTSUPP),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {.len = 4, .filter = refuse_it};
	assert_int_equal(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	assert_int_equal(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
}

/* The last test: what it takes away does not come back. */
static void test_without_fallocate(void **state)
{
	struct setting *setting = *state;

	forget_fallocate();
	setting->config.nvme_size = 70 * MIB;
	assert_int_equal(open_tier(setting), 0);
	assert_int_equal(nvme_file_percent(setting->nvme), 0);
	await_format(setting);
	assert_in_range(stat_of(setting).st_blocks * 512, setting->config.nvme_size, UINT64_MAX);
	close_tier(setting);
	struct statvfs fs;
	assert_int_equal(statvfs(setting->folder, &fs), 0);
	setting->config.nvme_size = (uint64_t)fs.f_bfree * fs.f_frsize / 4096 * 4096 + 1024 * MIB;
	assert_refused(setting, -ENOSPC, "lower nvme.size");
}

/* ---- block devices ---- */

static int free_loop_device(char *path, size_t size)
{
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	int number = control < 0 ? -1 : ioctl(control, LOOP_CTL_GET_FREE);
	if (control >= 0)
		close(control);

	snprintf(path, size, "/dev/loop%d", number);

	return number < 0 ? -1 : open(path, O_RDWR | O_CLOEXEC);
}

/*
 * Makes `path` a block device of so many bytes, all zero, and the tier's; skips the test
 * where that is not permitted.
 */
static void become_device(struct setting *setting, off_t bytes)
{
	char path[32];
	int file = open(setting->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	assert_in_range(file, 0, INT32_MAX);
	assert_int_equal(ftruncate(file, bytes), 0);
	int device = free_loop_device(path, sizeof(path));
	int attached = device < 0 ? -1 : ioctl(device, LOOP_SET_FD, file);
	int error = errno;
	close(file);

	if (attached < 0) {
		if (device >= 0)
			close(device);
		print_message("SKIP: no loop device: %s\n", strerror(error));
		skip();
	}

	setting->device = device;
	setting->config.nvme_size = 0;
	free(setting->config.nvme_path);
	setting->config.nvme_path = strdup(path);
}

static void write_device(struct setting *setting, const char *text, off_t at)
{
	assert_int_equal(pwrite(setting->device, text, strlen(text), at), strlen(text));
	assert_int_equal(fsync(setting->device), 0);
}

static void assert_on_device(struct setting *setting, const char *text, off_t at)
{
	char seen[64];
	assert_in_range(strlen(text), 1, sizeof(seen));
	assert_int_equal(pread(setting->device, seen, strlen(text), at), strlen(text));
	assert_memory_equal(seen, text, strlen(text));
}

static void test_a_blank_device_is_in_service_at_once(void **state)
{
	struct setting *setting = *state;

	become_device(setting, 16 * (off_t)MIB);

	for (int i = 0; i < 2; i++) { /* the second time by its label */
		assert_int_equal(open_tier(setting), 0);
		assert_int_equal(nvme_file_percent(setting->nvme), 100);
		assert_int_equal(setting->cache->nvme->usable, 16 * MIB - NVME_HEAD);
		assert_int_equal(setting->steps, 0);
		close_tier(setting);
	}

	write_device(setting, "a block", 5 * (off_t)MIB); /* data, and so no longer blank */
	setting->config.nvme_size = 7 * MIB;
	assert_int_equal(open_tier(setting), 0);
	assert_int_equal(setting->cache->nvme->usable, 7 * MIB);
}

/* Where file systems, partition tables, volume managers and the tables' copies at the end
 * write. */
static void test_a_foreign_device_is_refused_and_untouched(void **state)
{
	struct setting *setting = *state;
	const off_t places[] = {
		0, 510, 1080, 4086, 65600, (off_t)NVME_HEAD - 8, 16 * (off_t)MIB - 512};

	become_device(setting, 16 * (off_t)MIB);
	setting->config.nvme_size = 8 * MIB;
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		write_device(setting, "precious", places[i]);
		assert_refused(setting, -EEXIST, "holds data that is not hbmd's");
		assert_on_device(setting, "precious", places[i]);
		assert_int_equal(pwrite(setting->device, (const char[8]){0}, 8, places[i]), 8);
	}

	assert_int_equal(open_tier(setting), 0);
}

static void test_a_device_that_was_given_to_somebody_else(void **state)
{
	struct setting *setting = *state;

	become_device(setting, 16 * (off_t)MIB);
	assert_int_equal(open_tier(setting), 0);
	close_tier(setting);
	write_device(setting, "a boot sector", 0);
	assert_refused(setting, -EEXIST, "not hbmd's");
	assert_on_device(setting, "a boot sector", 0);
}

static void test_a_device_in_use(void **state)
{
	struct setting *setting = *state;

	become_device(setting, 16 * (off_t)MIB);
	int user =
		open(setting->config.nvme_path, O_RDWR | O_EXCL | O_CLOEXEC); /* as a mount would */
	assert_in_range(user, 0, INT32_MAX);
	assert_refused(setting, -EBUSY, "mounted");
	close(user);
	assert_int_equal(open_tier(setting), 0);
	assert_int_equal(open(setting->config.nvme_path, O_RDWR | O_EXCL | O_CLOEXEC), -1);
	assert_int_equal(errno, EBUSY);
}

static void test_a_device_that_is_too_small(void **state)
{
	struct setting *setting = *state;

	become_device(setting, 4 * (off_t)MIB);
	setting->config.nvme_size = 4 * MIB - NVME_HEAD + 4096;
	assert_refused(setting, -ENOSPC, "lower nvme.size");
	setting->config.nvme_size = UINT64_MAX / 4096 * 4096;
	assert_refused(setting, -ENOSPC, "lower nvme.size");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_new_file),
		TEST(test_a_formatted_file_is_in_service_at_once),
		TEST(test_a_file_of_another_size_is_formatted_again),
		TEST(test_an_interrupted_format),
		TEST(test_a_file_cut_off_before_its_label),
		TEST(test_a_foreign_file_is_refused_and_untouched),
		TEST(test_a_label_of_which_a_byte_is_wrong),
		TEST(test_sizes_that_are_too_small),
		TEST(test_a_file_that_is_locked),
		TEST(test_paths_that_cannot_be),
		TEST(test_a_file_that_may_not_grow),
		TEST(test_a_disk_that_fails_while_it_is_formatted),
		TEST(test_a_full_disk),
		TEST(test_a_file_system_without_direct_io),
		TEST(test_a_file_system_without_fallocate),
		TEST(test_a_blank_device_is_in_service_at_once),
		TEST(test_a_foreign_device_is_refused_and_untouched),
		TEST(test_a_device_that_was_given_to_somebody_else),
		TEST(test_a_device_in_use),
		TEST(test_a_device_that_is_too_small),
		TEST(test_without_fallocate),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
