/* SPDX-License-Identifier: Apache-2.0 */
/* The NVMe tier on a block device: a blank one is used, a foreign one is refused and left as
 * it is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "daemon/tier/nvme_file.h"
#include "tests/support/nvme_file_rig.h"

#define MIB (1ull << 20)

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
static void become_device(struct nvme_file_rig *rig, off_t bytes)
{
	char path[32];
	int file = open(rig->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

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

	rig->device = device;
	rig->config.nvme_size = 0;
	free(rig->config.nvme_path);
	rig->config.nvme_path = strdup(path);
}

static void write_device(struct nvme_file_rig *rig, const char *text, off_t at)
{
	assert_int_equal(pwrite(rig->device, text, strlen(text), at), strlen(text));
	assert_int_equal(fsync(rig->device), 0);
}

static void assert_on_device(struct nvme_file_rig *rig, const char *text, off_t at)
{
	char seen[64];
	assert_in_range(strlen(text), 1, sizeof(seen));
	assert_int_equal(pread(rig->device, seen, strlen(text), at), strlen(text));
	assert_memory_equal(seen, text, strlen(text));
}

static void test_a_blank_device_is_in_service_at_once(void **state)
{
	struct nvme_file_rig *rig = *state;

	become_device(rig, 16 * (off_t)MIB);

	for (int i = 0; i < 2; i++) { /* the second time by its label */
		assert_int_equal(nvme_file_rig_open(rig), 0);
		assert_int_equal(nvme_file_percent(rig->nvme), 100);
		assert_int_equal(rig->cache->nvme->usable, 16 * MIB - NVME_HEAD);
		assert_int_equal(rig->steps, 0);
		nvme_file_rig_close(rig);
	}

	write_device(rig, "a block", 5 * (off_t)MIB); /* data, and so no longer blank */
	rig->config.nvme_size = 7 * MIB;
	assert_int_equal(nvme_file_rig_open(rig), 0);
	assert_int_equal(rig->cache->nvme->usable, 7 * MIB);
}

/* Where file systems, partition tables, volume managers and the tables' copies at the end
 * write. */
static void test_a_foreign_device_is_refused_and_untouched(void **state)
{
	struct nvme_file_rig *rig = *state;
	const off_t places[] = {
		0, 510, 1080, 4086, 65600, (off_t)NVME_HEAD - 8, 16 * (off_t)MIB - 512};

	become_device(rig, 16 * (off_t)MIB);
	rig->config.nvme_size = 8 * MIB;
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		write_device(rig, "precious", places[i]);
		nvme_file_rig_assert_refused(rig, -EEXIST, "holds data that is not hbmd's");
		assert_on_device(rig, "precious", places[i]);
		assert_int_equal(pwrite(rig->device, (const char[8]){0}, 8, places[i]), 8);
	}

	assert_int_equal(nvme_file_rig_open(rig), 0);
}

static void test_a_device_that_was_given_to_somebody_else(void **state)
{
	struct nvme_file_rig *rig = *state;

	become_device(rig, 16 * (off_t)MIB);
	assert_int_equal(nvme_file_rig_open(rig), 0);
	nvme_file_rig_close(rig);
	write_device(rig, "a boot sector", 0);
	nvme_file_rig_assert_refused(rig, -EEXIST, "not hbmd's");
	assert_on_device(rig, "a boot sector", 0);
}

static void test_a_device_in_use(void **state)
{
	struct nvme_file_rig *rig = *state;

	become_device(rig, 16 * (off_t)MIB);
	int user = open(rig->config.nvme_path, O_RDWR | O_EXCL | O_CLOEXEC); /* as a mount would */
	assert_in_range(user, 0, INT32_MAX);
	nvme_file_rig_assert_refused(rig, -EBUSY, "mounted");
	close(user);
	assert_int_equal(nvme_file_rig_open(rig), 0);
	assert_int_equal(open(rig->config.nvme_path, O_RDWR | O_EXCL | O_CLOEXEC), -1);
	assert_int_equal(errno, EBUSY);
}

static void test_a_device_that_is_too_small(void **state)
{
	struct nvme_file_rig *rig = *state;

	become_device(rig, 4 * (off_t)MIB);
	rig->config.nvme_size = 4 * MIB - NVME_HEAD + 4096;
	nvme_file_rig_assert_refused(rig, -ENOSPC, "lower nvme.size");
	rig->config.nvme_size = UINT64_MAX / 4096 * 4096;
	nvme_file_rig_assert_refused(rig, -ENOSPC, "lower nvme.size");
}

#define TEST(name)                                                                                 \
	cmocka_unit_test_setup_teardown(name, nvme_file_rig_setup, nvme_file_rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_blank_device_is_in_service_at_once),
		TEST(test_a_foreign_device_is_refused_and_untouched),
		TEST(test_a_device_that_was_given_to_somebody_else),
		TEST(test_a_device_in_use),
		TEST(test_a_device_that_is_too_small),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
