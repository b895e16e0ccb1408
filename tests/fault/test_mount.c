/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The NVMe tier on a disk of its own, a loop device, which is too small, full, read-only,
 * or taken away while the daemon runs. It says so, or loses what was there; a client gets
 * the right bytes or a miss. As root, else skipped.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/stage.h"
#include "tests/support/work.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The disk of a test. */
static struct {
	char device[64]; /* "": none */
	char folder[96]; /* where it is mounted; "": it is not */
} disk;

/* Runs a shell command in the test's folder; $D is the device. Whether it ended with 0. */
static bool run(const char *command)
{
	char line[512];

	snprintf(line, sizeof(line),
		 "exec 2>/dev/null >/dev/null; PATH=$PATH:/usr/sbin:/sbin; cd %s && D=%s && %s",
		 daemon_.dir, disk.device, command);

	return system(line) == 0;
}

/* A loop device of an image of so many MiB; skips the test where there is none. */
static void attach(unsigned mib)
{
	char command[256];

	spawn_needs_soft();
	snprintf(command, sizeof(command),
		 "PATH=$PATH:/usr/sbin:/sbin; cd %s && truncate -s %uM image && losetup -f --show "
		 "image 2>/dev/null",
		 daemon_.dir, mib);
	FILE *out = geteuid() == 0 ? popen(command, "re") : NULL;
	if (!out || !fgets(disk.device, sizeof(disk.device), out))
		disk.device[0] = '\0';
	if (out)
		pclose(out);

	disk.device[strcspn(disk.device, "\n")] = '\0';
	if (disk.device[0] == '\0') {
		print_message("SKIP: no loop device can be made here\n");
		skip();
	}
}

static void mount_as(const char *make, const char *options)
{
	char command[256];

	snprintf(command, sizeof(command), "%s $D && mkdir mnt && mount %s $D mnt", make, options);
	if (!run(command)) {
		print_message("SKIP: no file system can be mounted here\n");
		skip();
	}

	snprintf(disk.folder, sizeof(disk.folder), "%s/mnt", daemon_.dir);
}

static int setup(void **state)
{
	memset(&disk, 0, sizeof(disk));
	return stage_setup(state);
}

static int teardown(void **state)
{
	if (daemon_.pid > 0)
		spawn_kill(&daemon_);
	if (disk.folder[0])
		run("umount mnt");
	if (disk.device[0])
		run("blockdev --setrw $D; losetup -d $D"); /* it would stay as it is */
	return stage_teardown(state);
}

static void launch(const char *size)
{
	char path[160], bytes[64];
	const char *const sets[] = {WORK_SETS, path, bytes, "hbmd.log_level=notice", NULL};

	snprintf(path, sizeof(path), "nvme.path=%s%s", disk.folder[0] ? disk.folder : disk.device,
		 disk.folder[0] ? "/nvme" : "");
	snprintf(bytes, sizeof(bytes), "nvme.size=%s", size);
	spawn_launch(&daemon_, sets, NULL);
}

/* The start says what is wrong with the disk, once. */
static void is_refused(const char *size, const char *text)
{
	launch(size);
	int status = spawn_wait(&daemon_);
	if (status == 0 || status > 100 || spawn_log_lines(&daemon_, " error: ") != 1 ||
	    !spawn_logged(&daemon_, text)) {
		spawn_show_log(&daemon_);
		fail_msg("it ended with %d and did not say \"%s\"", status, text);
	}
}

/* The disk has become useless. That is not noticed before something is written to it,
 * which a client may be too quick for. */
static void goes_on(void)
{
	struct hbm_wire_status status = {.io_errors = 0};

	while (status.io_errors == 0) {
		assert_in_range(work_client(&daemon_), WORK_CLEAN, WORK_REFUSED);
		spawn_settle(&daemon_);
		spawn_status(&daemon_, &status);
	}

	assert_in_range(work_client(&daemon_), WORK_CLEAN, WORK_REFUSED);
	spawn_settle(&daemon_);
	assert_true(spawn_balanced(&daemon_));
	assert_int_equal(spawn_stop(&daemon_), 0);
}

static void serves(void)
{
	assert_int_equal(work_client(&daemon_), WORK_CLEAN);
	spawn_settle(&daemon_);
	assert_true(spawn_balanced(&daemon_));
}

static void test_a_disk_that_is_too_small(void **state)
{
	(void)state;
	attach(24);
	mount_as("mkfs.ext4 -q -m 0", "-o rw");
	is_refused("64MiB", "nvme");
}

static void test_a_file_system_that_is_read_only(void **state)
{
	(void)state;
	attach(24);
	mount_as("mkfs.ext4 -q -m 0", "-o ro");
	is_refused("4MiB", "Read-only file system");
}

static void test_a_device_that_is_read_only(void **state)
{
	(void)state;
	attach(24);
	assert_true(run("blockdev --setro $D"));
	is_refused("4MiB", disk.device);
}

/* What the tier needs was written when the daemon started. */
static void test_a_disk_that_fills_up(void **state)
{
	static const char *const makes[] = {"mkfs.ext4 -q -m 0", "mkfs.ext2 -q -m 0"};

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		attach(24);
		mount_as(makes[i], "-o rw");
		launch("4MiB");
		spawn_wait_warm(&daemon_);
		run("dd if=/dev/zero of=mnt/rest bs=1M");
		assert_false(run("dd if=/dev/zero of=mnt/more bs=1M count=1"));
		serves();
		assert_int_equal(spawn_stop(&daemon_), 0);
		assert_true(run("umount mnt && losetup -d $D && rmdir mnt && rm image"));
		memset(&disk, 0, sizeof(disk));
	}
}

static void test_a_device_that_becomes_read_only(void **state)
{
	(void)state;
	attach(24);
	launch("8MiB");
	spawn_wait_warm(&daemon_);
	serves();
	assert_true(run("blockdev --setro $D"));
	goes_on();
}

static void test_a_device_that_is_taken_away(void **state)
{
	(void)state;
	attach(24);
	launch("8MiB");
	spawn_wait_warm(&daemon_);
	serves();
	assert_true(run("truncate -s 0 image && losetup -c $D"));
	goes_on();
}

static void test_a_file_system_whose_device_is_taken_away(void **state)
{
	(void)state;
	attach(24);
	mount_as("mkfs.ext4 -q -m 0", "-o rw,errors=continue");
	launch("4MiB");
	spawn_wait_warm(&daemon_);
	serves();
	assert_true(run("truncate -s 0 image && losetup -c $D"));
	goes_on();
}

int main(int argc, char **argv)
{
	child_main(argc, argv, work_parts);
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_a_disk_that_is_too_small),
		TEST(test_a_file_system_that_is_read_only),
		TEST(test_a_device_that_is_read_only),
		TEST(test_a_disk_that_fills_up),
		TEST(test_a_device_that_becomes_read_only),
		TEST(test_a_device_that_is_taken_away),
		TEST(test_a_file_system_whose_device_is_taken_away),
	};
	alarm(200); /* a hang is a failure */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
