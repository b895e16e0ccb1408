/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The NVMe tier on a disk of its own, a loop device, which is too small, full, read-only,
 * or taken away or frozen while the daemon runs. It says so, or loses what was there; a
 * client gets the right bytes or a miss. As root, else skipped.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/kv.h"
#include "tests/support/stage.h"
#include "tests/support/work.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BLOCK 65536u
#define SLOTS 64u
#define ON_DISK 32u /* blocks [1, ON_DISK] are written before the file system is frozen */

/* The disk of a test. */
static struct {
	char device[64]; /* "": none */
	char folder[96]; /* where it is mounted; "": it is not */
	bool frozen;
} disk;

static struct kv kv;
static hbm_result results[SLOTS];

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
	if (disk.frozen)
		run("fsfreeze -u mnt"); /* a process that writes to it could not be ended */
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

/* ---- frozen ---- */

static void freeze(void)
{
	disk.frozen = run("fsfreeze -f mnt");
	if (!disk.frozen) {
		print_message("SKIP: no file system can be frozen here\n");
		skip();
	}
}

static void thaw(void)
{
	assert_true(run("fsfreeze -u mnt"));
	disk.frozen = false;
}

static void launch_frozen(const char *engine, const char *required)
{
	char path[160], io[32], needed[32];
	const char *const sets[] = {"device.cache=4MiB",
				    "device.headroom=2MiB",
				    "ddr.size=2MiB",
				    "ddr.headroom=1MiB",
				    "ddr.staging=1MiB",
				    "nvme.size=16MiB",
				    "nvme.timeout_ms=1500",
				    path,
				    io,
				    needed,
				    NULL};

	snprintf(path, sizeof(path), "nvme.path=%s/nvme", disk.folder);
	snprintf(io, sizeof(io), "hbmd.io=%s", engine);
	snprintf(needed, sizeof(needed), "nvme.required=%s", required);
	spawn_launch(&daemon_, sets, NULL);
}

static struct hbm_wire_status status_now(void)
{
	struct hbm_wire_status status;
	spawn_status(&daemon_, &status);
	return status;
}

static bool is_silent(void)
{
	return strstr(status_now().state, "no answer from NVMe");
}

static int store_root(uint64_t block)
{
	assert_int_equal(kv_store(&kv, block % SLOTS, block, 1, 0, results), 0);
	return results[0].status;
}

static int load_one(uint64_t block)
{
	assert_int_equal(kv_load(&kv, block % SLOTS, block, 1, results), 0);
	return results[0].status;
}

/* Everybody goes on in HBM and DDR: more than both is stored, the last of it is there, and
 * memory is committed and given back. */
static void all_go_on(uint64_t first)
{
	for (uint64_t block = first; block < first + 200; block++)
		assert_int_equal(store_root(block), HBM_OK);
	for (uint64_t block = first + 168; block < first + 200; block++)
		assert_int_equal(load_one(block), HBM_OK);

	struct hbm_region *region = kv_region(&kv, 4 << 20);
	assert_int_equal(hbm_decommit(kv.hbm, &(struct hbm_range){region, 0, 4 << 20}, 1), 0);
	assert_int_equal(hbm_region_destroy(kv.hbm, region), 0);
	assert_true(spawn_balanced(&daemon_));
}

static void store_on_disk(void)
{
	for (uint64_t block = 1; block <= ON_DISK; block++)
		assert_int_equal(store_root(block), HBM_OK);
	kv_push_to_nvme(&kv);
	for (uint64_t block = 1; block <= ON_DISK; block++)
		assert_int_equal(kv_tier(&kv, block), HBM_TIER_NVME);
}

static void check_frozen(const char *engine)
{
	launch_frozen(engine, "yes");
	spawn_wait_warm(&daemon_);
	kv_open(&kv, &daemon_, 0, BLOCK, SLOTS);
	store_on_disk();

	freeze();
	all_go_on(1000);
	while (!is_silent())
		;
	assert_int_equal(status_now().nvme_hangs, 1);
	assert_int_equal(spawn_log_lines(&daemon_, "has had no answer"), 1);
	for (uint64_t block = 1; block <= ON_DISK; block++)
		assert_int_equal(load_one(block), HBM_MISS);
	all_go_on(2000);

	thaw();
	while (is_silent())
		;
	assert_int_equal(spawn_log_lines(&daemon_, "answers again"), 1);
	for (uint64_t block = 1; block <= ON_DISK; block++)
		assert_int_equal(load_one(block), HBM_OK);
	kv_push_to_nvme(&kv);
	assert_int_equal(status_now().io_errors, 0);
	assert_int_equal(status_now().checksum_failures, 0);

	kv_close(&kv);
	spawn_settle(&daemon_);
	assert_true(spawn_balanced(&daemon_));
	assert_int_equal(spawn_stop(&daemon_), 0);
}

static void test_a_file_system_that_is_frozen(void **state)
{
	(void)state;
	attach(40);
	mount_as("mkfs.ext4 -q -m 0", "-o rw");
	check_frozen("auto");
	assert_true(run("rm mnt/nvme")); /* the next begins with an empty tier */
	spawn_forget_log(&daemon_);
	check_frozen("threads");
}

/* What the start would create, cannot be before the file system is thawed. */
static void test_a_start_on_a_frozen_file_system(void **state)
{
	(void)state;
	attach(40);
	mount_as("mkfs.ext4 -q -m 0", "-o rw");
	freeze();
	launch_frozen("auto", "no");
	spawn_wait_warm(&daemon_);
	assert_string_equal(status_now().state, "running, without NVMe");
	assert_int_equal(spawn_log_lines(&daemon_, "has had no answer"), 1);
	kv_open(&kv, &daemon_, 0, BLOCK, SLOTS);
	all_go_on(1);
	kv_close(&kv);

	thaw();
	while (!spawn_logged(&daemon_, "has answered now"))
		;
	assert_string_equal(status_now().state, "running, without NVMe");
	assert_int_equal(spawn_stop(&daemon_), 0);
	assert_false(run("test -e mnt/nvme"));
}

/* The process cannot end before the file system is thawed, but says why. The file that it was
 * about to create may be left, if it ends as soon as it can: it hinders no later start. */
static void test_a_start_that_needs_a_frozen_file_system(void **state)
{
	(void)state;
	attach(40);
	mount_as("mkfs.ext4 -q -m 0", "-o rw");
	freeze();
	launch_frozen("auto", "yes");
	while (!spawn_logged(&daemon_, "has had no answer"))
		;
	thaw();
	assert_int_equal(spawn_wait(&daemon_), 69);
	assert_int_equal(spawn_log_lines(&daemon_, " error: "), 1);
	launch_frozen("auto", "yes");
	spawn_wait_warm(&daemon_);
	assert_int_equal(spawn_stop(&daemon_), 0);
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
		TEST(test_a_file_system_that_is_frozen),
		TEST(test_a_start_on_a_frozen_file_system),
		TEST(test_a_start_that_needs_a_frozen_file_system),
	};
	alarm(200); /* a hang is a failure */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
