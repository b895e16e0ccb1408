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
#include <linux/seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "daemon/tier/nvme_file.h"
#include "daemon/tier/tier_resize.h"
#include "tests/support/nvme_file_rig.h"

#define MIB (1ull << 20)
#define PATIENCE 20000000000ull

/* Waits for the whole tier to be in service. */
static void await_format(struct nvme_file_rig *rig)
{
	if (!nvme_file_settled(rig->nvme)) {
		loop_timer_set(rig->loop, &rig->watchdog, clock_now() + PATIENCE);
		assert_int_equal(loop_run(rig->loop), 0);
		loop_timer_stop(rig->loop, &rig->watchdog);
	}

	assert_int_equal(rig->cache->nvme->usable, rig->config.nvme_size);
	assert_int_equal(rig->cache->nvme->capacity, rig->config.nvme_size);
}

static void open_and_close(struct nvme_file_rig *rig)
{
	if (nvme_file_rig_open(rig) != 0)
		fail_msg("%s", rig->error);
	await_format(rig);
	nvme_file_rig_close(rig);
}

static struct stat stat_of(struct nvme_file_rig *rig)
{
	struct stat st;
	assert_int_equal(stat(rig->path, &st), 0);
	return st;
}

static void write_file(struct nvme_file_rig *rig, const char *text, off_t at, off_t length)
{
	int fd = open(rig->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	assert_in_range(fd, 0, INT32_MAX);
	if (length > 0)
		assert_int_equal(ftruncate(fd, length), 0);

	assert_int_equal(pwrite(fd, text, strlen(text), at), strlen(text));
	close(fd);
}

/* ---- room for copies ---- */

/* On top of the tier, if the disk has it; the next start finds it formatted. */
static void test_room_for_copies(void **state)
{
	struct nvme_file_rig *rig = *state;
	uint64_t size = rig->config.nvme_size;

	rig->copies = MIB;
	for (int start = 0; start < 2; start++) {
		open_and_close(rig);
		assert_int_equal(stat_of(rig).st_size, NVME_HEAD + size + MIB);
		assert_int_equal(rig->cache->nvme->copies_max, MIB);
		assert_int_equal(extent_capacity(rig->cache->nvme->extents), size + MIB);
	}

	rig->copies = EXTENT_END / 2; /* no disk has it */
	open_and_close(rig);
	assert_int_equal(stat_of(rig).st_size, NVME_HEAD + size);
	assert_int_equal(rig->cache->nvme->copies_max, 0);
}

static void test_copies_that_take_of_the_tier(void **state)
{
	struct nvme_file_rig *rig = *state;
	uint64_t size = rig->config.nvme_size;

	rig->config.nvme_copies_inside = true;
	rig->copies = EXTENT_END / 2;
	assert_int_equal(nvme_file_rig_open(rig), 0);
	assert_int_equal(stat_of(rig).st_size, NVME_HEAD + size);
	assert_int_equal(rig->cache->nvme->capacity, size / 2);
	assert_int_equal(rig->cache->nvme->copies_max, size / 2);
	nvme_file_rig_close(rig);
}

/* ---- new and used again ---- */

static void test_a_new_file(void **state)
{
	struct nvme_file_rig *rig = *state;

	rig->config.nvme_size = 150 * MIB; /* three steps of formatting */
	assert_int_equal(nvme_file_rig_open(rig), 0);
	assert_int_equal(rig->cache->nvme->usable, 0);
	assert_false(nvme_file_read_rate(rig->nvme) > 0);
	await_format(rig);
	assert_int_equal(rig->steps, 3);
	assert_true(nvme_file_read_rate(rig->nvme) > 0);
	struct stat st = stat_of(rig);
	assert_int_equal(st.st_size, rig->config.nvme_size + NVME_HEAD);
	assert_in_range(st.st_blocks * 512, rig->config.nvme_size, UINT64_MAX);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_in_range(nvme_file_fd(rig->nvme), 0, INT32_MAX);
}

static void test_a_formatted_file_is_in_service_at_once(void **state)
{
	struct nvme_file_rig *rig = *state;

	open_and_close(rig);
	rig->steps = 0;
	assert_int_equal(nvme_file_rig_open(rig), 0);
	assert_int_equal(nvme_file_percent(rig->nvme), 100);
	assert_int_equal(rig->cache->nvme->usable, 3 * MIB);
	assert_int_equal(rig->steps, 0);
	assert_true(nvme_file_read_rate(rig->nvme) > 0);
}

/* What has been formatted is in service at once, be it shorter now or longer. */
static void test_a_file_of_another_size(void **state)
{
	struct nvme_file_rig *rig = *state;
	static const uint64_t sizes[] = {5 * MIB, 2 * MIB, 2 * MIB + 4096, 3 * MIB};
	uint64_t before = rig->config.nvme_size;
	open_and_close(rig);

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		rig->config.nvme_size = sizes[i];
		rig->steps = 0;
		assert_int_equal(nvme_file_rig_open(rig), 0);
		assert_int_equal(rig->cache->nvme->usable, before < sizes[i] ? before : sizes[i]);
		assert_true(nvme_file_read_rate(rig->nvme) > 0);
		if (before < sizes[i])
			await_format(rig);
		assert_int_equal(nvme_file_percent(rig->nvme), 100);
		assert_int_equal(rig->cache->nvme->usable, sizes[i]);
		nvme_file_rig_close(rig);
		assert_int_equal(stat_of(rig).st_size, sizes[i] + NVME_HEAD);
		before = sizes[i];
	}

	rig->steps = 0;
	assert_int_equal(nvme_file_rig_open(rig), 0);
	assert_int_equal(rig->steps, 0); /* the label says so too */
}

/* Closed while it was formatting: the next start formats it from the beginning. */
static void test_an_interrupted_format(void **state)
{
	struct nvme_file_rig *rig = *state;

	rig->config.nvme_size = 200 * MIB;
	assert_int_equal(nvme_file_rig_open(rig), 0);
	nvme_file_rig_close(rig);
	assert_int_equal(nvme_file_rig_open(rig), 0);
	assert_int_equal(nvme_file_percent(rig->nvme), 0);
	await_format(rig);
}

/* What was in service while it was formatting may have blocks that are durable: it is in service again
 * at once, and has their bytes. */
static void test_what_has_been_formatted_stays(void **state)
{
	struct nvme_file_rig *rig = *state;
	char text[8] = "";

	rig->config.nvme_size = 200 * MIB; /* four steps */
	assert_int_equal(nvme_file_rig_open(rig), 0);
	while (rig->cache->nvme->usable == 0)
		loop_flush(rig->loop);
	uint64_t usable = rig->cache->nvme->usable;
	nvme_file_rig_close(rig);
	write_file(rig, "durable", (off_t)(NVME_HEAD + usable) - 8, 0);
	assert_int_equal(nvme_file_rig_open(rig), 0);
	assert_in_range(rig->cache->nvme->usable, usable, rig->config.nvme_size);
	await_format(rig);

	int fd = open(rig->path, O_RDONLY | O_CLOEXEC);
	assert_int_equal(pread(fd, text, sizeof(text) - 1, (off_t)(NVME_HEAD + usable) - 8), 7);
	assert_string_equal(text, "durable");
	close(fd);
}

/* Cut off before there was a label: the file is as long as it was made and has nothing in
 * it. */
static void test_a_file_cut_off_before_its_label(void **state)
{
	struct nvme_file_rig *rig = *state;
	write_file(rig, "", 0, 7 * (off_t)MIB);
	open_and_close(rig);
	assert_int_equal(stat_of(rig).st_size, 3 * MIB + NVME_HEAD);
}

/* ---- another size while it is open ---- */

static bool was_cut;

static void cut(void *arg)
{
	struct nvme_file_rig *rig = arg;

	was_cut = true;
	loop_stop(rig->loop);
}

/* The tier and its file. */
static void set_size(struct nvme_file_rig *rig, uint64_t bytes)
{
	struct tier *tier = rig->cache->nvme;
	uint64_t lacking = tier_retire_to(tier, bytes);

	tier->capacity = bytes;
	while (tier_sort_some(tier, 1))
		;
	if (lacking > 0) {
		rig->config.nvme_size = bytes;
		nvme_file_grow(rig->nvme, lacking);
		await_format(rig);
		return;
	}

	was_cut = false;
	nvme_file_shrink(rig->nvme, bytes, cut, rig);
	loop_timer_set(rig->loop, &rig->watchdog, clock_now() + PATIENCE);
	assert_int_equal(loop_run(rig->loop), 0);
	loop_timer_stop(rig->loop, &rig->watchdog);
	assert_true(was_cut);
}

/* What is in it stays, and so does its id; a start with either size finds it. */
static void test_resized(void **state)
{
	struct nvme_file_rig *rig = *state;
	static const uint64_t sizes[] = {70 * MIB, 2 * MIB, MIB + 4096, 5 * MIB, 3 * MIB};
	uint8_t id[NVME_ID_BYTES];
	char found[8];

	assert_int_equal(nvme_file_rig_open(rig), 0);
	await_format(rig);
	memcpy(id, nvme_file_id(rig->nvme), sizeof(id));
	write_file(rig, "content", NVME_HEAD + 4096, 0);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		set_size(rig, sizes[i]);
		assert_int_equal(stat_of(rig).st_size, NVME_HEAD + sizes[i]);
		assert_in_range(stat_of(rig).st_blocks * 512, sizes[i], NVME_HEAD + sizes[i] + MIB);
		assert_int_equal(extent_capacity(rig->cache->nvme->extents), sizes[i]);
		assert_int_equal(nvme_file_bytes(rig->nvme), sizes[i]);
		nvme_file_rig_close(rig);
		rig->config.nvme_size = i % 2 ? sizes[i] : 3 * MIB;
		assert_int_equal(nvme_file_rig_open(rig), 0);
		await_format(rig);
		assert_memory_equal(nvme_file_id(rig->nvme), id, sizeof(id));
	}

	int fd = open(rig->path, O_RDONLY | O_CLOEXEC);
	assert_int_equal(pread(fd, found, sizeof(found) - 1, NVME_HEAD + 4096), 7);
	close(fd);
	assert_memory_equal(found, "content", 7);
}

/* Killed while it grew, or before it was cut: the label says what is right of it. */
static void test_longer_than_its_label(void **state)
{
	struct nvme_file_rig *rig = *state;
	uint8_t id[NVME_ID_BYTES];

	assert_int_equal(nvme_file_rig_open(rig), 0);
	await_format(rig);
	memcpy(id, nvme_file_id(rig->nvme), sizeof(id));
	nvme_file_rig_close(rig);
	for (unsigned larger = 0; larger < 2; larger++) {
		rig->config.nvme_size = (3 + larger) * MIB;
		write_file(rig, "rest", NVME_HEAD + 6 * MIB, NVME_HEAD + 7 * (off_t)MIB);
		assert_int_equal(nvme_file_rig_open(rig), 0);
		assert_in_range(rig->cache->nvme->usable, 3 * MIB, rig->config.nvme_size);
		await_format(rig);
		assert_memory_equal(nvme_file_id(rig->nvme), id, sizeof(id));
		assert_int_equal(stat_of(rig).st_size, NVME_HEAD + rig->config.nvme_size);
		nvme_file_rig_close(rig);
	}
}

/* The file may not be so long: it has its old length again, and its label was never another. */
static void test_growth_that_fails(void **state)
{
	struct nvme_file_rig *rig = *state;
	const struct rlimit tight = {NVME_HEAD + 4 * MIB, RLIM_INFINITY};
	struct rlimit before;
	char text[256];
	const struct reason why = {text, sizeof(text)};

	assert_int_equal(nvme_file_rig_open(rig), 0);
	await_format(rig);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
	assert_int_equal(nvme_file_may_have(rig->nvme, 4 * MIB, &why), HBM_OK);
	assert_int_equal(nvme_file_may_have(rig->nvme, 4 * MIB + 4096, &why), HBM_NO_SPACE);
	assert_non_null(strstr(text, "there are 4194304"));
	assert_int_equal(nvme_file_may_have(rig->nvme, MIB - 1, &why), HBM_NO_SPACE);

	nvme_file_grow(rig->nvme, 5 * MIB);
	await_format(rig);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	assert_int_equal(extent_capacity(rig->cache->nvme->extents), 3 * MIB);
	set_size(rig, 3 * MIB);
	assert_int_equal(stat_of(rig).st_size, NVME_HEAD + 3 * MIB);
	set_size(rig, 8 * MIB);
	assert_int_equal(stat_of(rig).st_size, NVME_HEAD + 8 * MIB);
	nvme_file_rig_close(rig);
	assert_int_equal(nvme_file_rig_open(rig), 0);
	assert_int_equal(nvme_file_percent(rig->nvme), 100);
}

/* ---- refused ---- */

static void test_a_foreign_file_is_refused_and_untouched(void **state)
{
	struct nvme_file_rig *rig = *state;
	static const off_t lengths[] = {0,
					100,
					4096,
					4 * (off_t)MIB,
					3 * (off_t)MIB + (off_t)NVME_HEAD,
					3 * (off_t)MIB + 1};
	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		write_file(rig, "precious", 0, lengths[i]);
		struct stat before = stat_of(rig), now;
		nvme_file_rig_assert_refused(rig, -EEXIST, "holds data that is not hbmd's");
		now = stat_of(rig);
		assert_int_equal(now.st_size, before.st_size);
		assert_int_equal(now.st_mtim.tv_nsec, before.st_mtim.tv_nsec);
		char text[8];
		int fd = open(rig->path, O_RDONLY | O_CLOEXEC);
		assert_int_equal(read(fd, text, sizeof(text)), sizeof(text));
		close(fd);
		assert_memory_equal(text, "precious", sizeof(text));
		unlink(rig->path);
	}
}

static void test_a_label_of_which_a_byte_is_wrong(void **state)
{
	struct nvme_file_rig *rig = *state;
	open_and_close(rig);
	write_file(rig, "?", 20, 0);
	nvme_file_rig_assert_refused(rig, -EEXIST, "not hbmd's");
}

static void test_sizes_that_are_too_small(void **state)
{
	struct nvme_file_rig *rig = *state;
	static const uint64_t sizes[] = {0, 4096, MIB - 1};
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		rig->config.nvme_size = sizes[i];
		nvme_file_rig_assert_refused(rig, -EINVAL, "too small");
		assert_int_equal(access(rig->path, F_OK), -1);
	}
}

static void test_a_file_that_is_locked(void **state)
{
	struct nvme_file_rig *rig = *state;

	open_and_close(rig);
	int fd = open(rig->path, O_RDONLY | O_CLOEXEC);
	assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), 0);
	nvme_file_rig_assert_refused(rig, -EWOULDBLOCK, "in use");
	assert_int_equal(stat_of(rig).st_size, 3 * MIB + NVME_HEAD);
	close(fd);
	assert_int_equal(nvme_file_rig_open(rig), 0);
	fd = open(rig->path, O_RDONLY | O_CLOEXEC); /* and it is locked by the tier now */
	assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), -1);
	close(fd);
}

static void test_paths_that_cannot_be(void **state)
{
	struct nvme_file_rig *rig = *state;

	free(rig->config.nvme_path);
	rig->config.nvme_path = strdup("/var/tmp/no such folder/tier");
	nvme_file_rig_assert_refused(rig, -ENOENT, "create its folder first");
	free(rig->config.nvme_path);
	rig->config.nvme_path = strdup(rig->folder);
	nvme_file_rig_assert_refused(rig, -EISDIR, "cannot open");
	free(rig->config.nvme_path);
	rig->config.nvme_path = strdup("/dev/null");
	assert_int_not_equal(nvme_file_rig_open(rig), 0);
	assert_null(rig->nvme);
}

/* ---- no room ---- */

/* A limit on the size of files, as a full disk where none can be had: what was made is
 * removed. */
static void test_a_file_that_may_not_grow(void **state)
{
	struct nvme_file_rig *rig = *state;
	struct rlimit before, limit;
	void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);

	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	limit = before;
	limit.rlim_cur = MIB;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	int r = nvme_file_rig_open(rig);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	signal(SIGXFSZ, handler);
	assert_int_equal(r, -EFBIG);
	assert_non_null(strstr(rig->error, "cannot allocate"));
	assert_int_equal(access(rig->path, F_OK), -1);
}

/* A disk that fails while it is filled: the tier stays as large as it is by then, and
 * nobody waits for the rest. */
static void test_a_disk_that_fails_while_it_is_formatted(void **state)
{
	struct nvme_file_rig *rig = *state;

	rig->config.nvme_size = 512 * MIB;
	assert_int_equal(nvme_file_rig_open(rig), 0);
	int unwritable = open("/dev/null", O_RDONLY | O_CLOEXEC);
	assert_true(unwritable >= 0);
	assert_true(dup3(unwritable, nvme_file_fd(rig->nvme), O_CLOEXEC) >= 0);
	close(unwritable);
	loop_timer_set(rig->loop, &rig->watchdog, clock_now() + PATIENCE);
	assert_int_equal(loop_run(rig->loop), 0);
	loop_timer_stop(rig->loop, &rig->watchdog);
	assert_int_equal(nvme_file_settled(rig->nvme), true);
	assert_in_range(nvme_file_percent(rig->nvme), 0, 99);
	assert_in_range(rig->cache->nvme->usable, 0, rig->config.nvme_size - 1);
}

/* A file system of its own, of `type`; skips the test where that is not permitted. */
static void mount_over(struct nvme_file_rig *rig, const char *type, const char *options)
{
	if (mount("none", rig->folder, type, 0, options) < 0) {
		print_message("SKIP: mounting %s: %s\n", type, strerror(errno));
		skip();
	}
}

static void test_a_full_disk(void **state)
{
	struct nvme_file_rig *rig = *state;

	mount_over(rig, "tmpfs", "size=2m");
	int r = nvme_file_rig_open(rig);
	int left = access(rig->path, F_OK);
	assert_int_equal(umount(rig->folder), 0);
	assert_int_equal(r, -ENOSPC);
	assert_non_null(strstr(rig->error, "4194304 bytes are needed"));
	assert_non_null(strstr(rig->error, "there are 2097152: lower nvme.size"));
	assert_int_equal(left, -1);
}

/* The page cache will do, and what was made is still removed on failure. */
static void test_a_file_system_without_direct_io(void **state)
{
	struct nvme_file_rig *rig = *state;

	mount_over(rig, "ramfs", "");
	int r = nvme_file_rig_open(rig);
	if (r == 0)
		await_format(rig);

	nvme_file_rig_close(rig);
	unlink(rig->path);
	rig->config.nvme_size = 4096;
	int refused = nvme_file_rig_open(rig);
	int left = access(rig->path, F_OK);
	unlink(rig->path);
	assert_int_equal(umount(rig->folder), 0);
	assert_int_equal(r, 0);
	assert_int_equal(refused, -EINVAL);
	assert_int_equal(left, -1);
}

/* A file system of its own of the kind that cannot allocate; skips the test where that is
 * not permitted. */
static void mount_ext2(struct nvme_file_rig *rig, unsigned mib)
{
	char command[256];

	snprintf(command, sizeof(command),
		 "truncate -s %uM %s.img && mkfs.ext2 -q -F %s.img && mount -o loop %s.img %s", mib,
		 rig->folder, rig->folder, rig->folder, rig->folder);
	int status = system(command);
	char image[64];
	snprintf(image, sizeof(image), "%s.img", rig->folder);
	unlink(image); /* a mount keeps it */

	if (status != 0) {
		print_message("SKIP: no ext2 file system can be made and mounted here\n");
		skip();
	}
}

static void test_a_file_system_without_fallocate(void **state)
{
	struct nvme_file_rig *rig = *state;

	rig->config.nvme_size = 20 * MIB;
	mount_ext2(rig, 40);
	int r = nvme_file_rig_open(rig);
	if (r == 0)
		await_format(rig);

	struct stat st = {0};
	int seen = stat(rig->path, &st);
	nvme_file_rig_close(rig);
	int again = nvme_file_rig_open(rig);
	unsigned percent = again == 0 ? nvme_file_percent(rig->nvme) : 0;
	nvme_file_rig_close(rig);

	rig->config.nvme_size = 60 * MIB;
	int refused = nvme_file_rig_open(rig);
	unlink(rig->path);
	assert_int_equal(umount(rig->folder), 0);
	assert_int_equal(r, 0);
	assert_int_equal(seen, 0);
	assert_in_range(st.st_blocks * 512, rig->config.nvme_size / 3,
			UINT64_MAX); /* written out */
	assert_int_equal(again, 0);
	assert_int_equal(percent, 100);
	assert_int_equal(refused, -ENOSPC);
	assert_non_null(strstr(rig->error, "lower nvme.size"));
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
	struct nvme_file_rig *rig = *state;

	forget_fallocate();
	rig->config.nvme_size = 70 * MIB;
	assert_int_equal(nvme_file_rig_open(rig), 0);
	assert_int_equal(nvme_file_percent(rig->nvme), 0);
	await_format(rig);
	assert_in_range(stat_of(rig).st_blocks * 512, rig->config.nvme_size, UINT64_MAX);
	nvme_file_rig_close(rig);
	struct statvfs fs;
	assert_int_equal(statvfs(rig->folder, &fs), 0);
	rig->config.nvme_size = (uint64_t)fs.f_bfree * fs.f_frsize / 4096 * 4096 + 1024 * MIB;
	nvme_file_rig_assert_refused(rig, -ENOSPC, "lower nvme.size");
}

#define TEST(name)                                                                                 \
	cmocka_unit_test_setup_teardown(name, nvme_file_rig_setup, nvme_file_rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_room_for_copies),
		TEST(test_copies_that_take_of_the_tier),
		TEST(test_a_new_file),
		TEST(test_a_formatted_file_is_in_service_at_once),
		TEST(test_a_file_of_another_size),
		TEST(test_resized),
		TEST(test_longer_than_its_label),
		TEST(test_growth_that_fails),
		TEST(test_an_interrupted_format),
		TEST(test_what_has_been_formatted_stays),
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
		TEST(test_without_fallocate),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
