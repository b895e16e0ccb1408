/* SPDX-License-Identifier: Apache-2.0 */
/* Starting on devices: which driver is taken, and what of a host and its devices cannot be used, is
 * refused with one line that says why, a status, and nothing left behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/kv.h"
#include "tests/support/stage.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* How a start ends that nothing but a change can mend, or that another try may. */
enum { CONFIG = 78, UNMET = 69 };

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

static void write_text(const char *folder, const char *name, const char *text)
{
	char command[512];

	snprintf(command, sizeof(command), "mkdir -p %s && printf '%s\\n' >%s/%s", folder, text,
		 folder, name);
	assert_int_equal(system(command), 0);
}

/* One line each: the driver's word for it, and what may help. The library lacks what a driver
 * may lack, and is taken all the same. */
static void test_a_driver_that_does_not_start(void **state)
{
	(void)state;
	static char path[256];
	char root[160];
	const char *const cuda[] = {"hbmd.driver=cuda", NULL};
	const char *const any[] = {"hbmd.driver=auto", NULL};
	static const struct {
		const char *says, *text;
	} tries[] = {
		{"HBM_STUB_CUINIT=100", "cuInit failed with CUDA_ERROR_NO_DEVICE"},
		{"HBM_STUB_CUINIT=802", "cuInit failed with CUDA_ERROR_SYSTEM_NOT_READY"},
		{"HBM_STUB_CUINIT=999", "cuInit failed with CUDA_ERROR_UNKNOWN"},
		{"HBM_STUB_CUINIT=0", "answers, but there is no device"},
	};
	snprintf(path, sizeof(path), "LD_LIBRARY_PATH=%s", spawn_path("tests/stub"));
	snprintf(root, sizeof(root), "HBM_HARDWARE_ROOT=%s/root", daemon_.dir);
	if (access(spawn_path("tests/stub/libcuda.so.1"), R_OK) != 0) {
		print_message("SKIP: a pack has no stub of a driver\n");
		skip();
	}

	for (size_t i = 0; i < sizeof(tries) / sizeof(tries[0]); i++)
		stage_refused(cuda, (const char *[]){path, root, tries[i].says, NULL}, UNMET,
			      tries[i].text);

	/* not for want of a device: there is one that does not start */
	for (size_t i = 1; i <= 2; i++)
		stage_refused(any, (const char *[]){path, root, tries[i].says, NULL}, UNMET,
			      tries[i].text);
}

/* Where there is hardware, host memory does not take its place: not without a library, and
 * not where the library sees no device. */
static void test_auto_with_hardware(void **state)
{
	(void)state;
	static char path[160], root[160], folder[224];
	const char *const any[] = {"hbmd.driver=auto", "soft.fail=cuInit:2", NULL};
	disguise_as_cuda(path, sizeof(path));
	snprintf(root, sizeof(root), "HBM_HARDWARE_ROOT=%s/root", daemon_.dir);

	snprintf(folder, sizeof(folder), "%s/root/sys/bus/pci/devices/0000:17:00.0", daemon_.dir);
	write_text(folder, "vendor", "0x10de");
	write_text(folder, "class", "0x030200");
	const char *const no_device[] = {path, root, "HBM_SOFT_FAIL=cuInit:1:100", NULL};
	stage_refused(any, no_device, UNMET,
		      "CUDA_ERROR_NO_DEVICE; this machine has NVIDIA hardware (PCI device "
		      "0000:17:00.0)");
	write_text(folder, "class", "0x020000"); /* a network card */
	spawn_forget_log(&daemon_);
	spawn_start(&daemon_, any, no_device);
	assert_true(spawn_logged(&daemon_, "driver: soft"));
	assert_int_equal(spawn_stop(&daemon_), 0);

	snprintf(folder, sizeof(folder), "%s/root/proc/driver/nvidia", daemon_.dir);
	write_text(folder, "version", "NVRM version");
	stage_refused(any, no_device, UNMET, "NVIDIA hardware (/proc/driver/nvidia): install");
	stage_refused(any, (const char *[]){root, NULL}, UNMET, "libcuda.so.1");
}

/* Nodes that are missing, or may not be opened, are GPUs that the library does not know. */
static void test_fewer_devices_than_gpus(void **state)
{
	(void)state;
	static char path[160], root[160], folder[224];
	const char *const cuda[] = {"hbmd.driver=cuda", NULL};
	disguise_as_cuda(path, sizeof(path));
	snprintf(root, sizeof(root), "HBM_HARDWARE_ROOT=%s/root", daemon_.dir);

	for (unsigned gpus = 1; gpus <= 2; gpus++) {
		snprintf(folder, sizeof(folder), "%s/root/proc/driver/nvidia/gpus/0000:%02x:00.0",
			 daemon_.dir, gpus);
		write_text(folder, "information", "Device Minor: 0");
		spawn_forget_log(&daemon_);
		spawn_start(&daemon_, cuda,
			    (const char *[]){path, root, "HBM_SOFT=memory=256MiB", NULL});
		assert_int_equal(spawn_logged(&daemon_, "error: the driver shows 1 of 2 GPUs"),
				 gpus == 2);
		assert_int_equal(spawn_stop(&daemon_), 0);
	}
}

/* MPS and a driver that does not clear memory are set up outside of hbmd, so a start with them
 * is warned of, and of nothing else. */
static void test_what_the_host_is_set_up_for(void **state)
{
	(void)state;
	static char path[160], root[160], folder[224];
	const char *const cuda[] = {"hbmd.driver=cuda", NULL};
	disguise_as_cuda(path, sizeof(path));
	snprintf(root, sizeof(root), "HBM_HARDWARE_ROOT=%s/root", daemon_.dir);
	snprintf(folder, sizeof(folder), "%s/root/proc/driver/nvidia", daemon_.dir);
	const struct {
		const char *params, *variable;
		bool has_folder, leaves;
		const char *pipes;
	} hosts[] = {
		{"RmMsg: \"\"", "HBM_SOFT=memory=256MiB", false, false, NULL},
		{"RegistryDwords: \"RMDisableScrubOnFree=0\"", "HBM_SOFT=memory=256MiB", false,
		 false, NULL},
		{"RegistryDwords: \"RMDisableScrubOnFree=1\"", "HBM_SOFT=memory=256MiB", false,
		 true, NULL},
		{"RmMsg: \"\"", "CUDA_MPS_PIPE_DIRECTORY=/elsewhere", false, false,
		 "MPS pipes in /elsewhere: "},
		{"RmMsg: \"\"", "HBM_SOFT=memory=256MiB", true, false,
		 "MPS pipes in /tmp/nvidia-mps: "},
	};

	for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++) {
		write_text(folder, "params", hosts[i].params);
		if (hosts[i].has_folder) {
			char pipes[224];
			snprintf(pipes, sizeof(pipes), "%s/root/tmp/nvidia-mps", daemon_.dir);
			write_text(pipes, "control", "");
		}

		spawn_forget_log(&daemon_);
		spawn_start(&daemon_, cuda, (const char *[]){path, root, hosts[i].variable, NULL});
		assert_int_equal(spawn_log_lines(&daemon_, "does not clear memory"),
				 hosts[i].leaves);
		assert_int_equal(spawn_log_lines(&daemon_, "hbmd does, which takes time"),
				 hosts[i].leaves);
		assert_int_equal(spawn_log_lines(&daemon_, "MPS pipes"), hosts[i].pipes != NULL);
		if (hosts[i].pipes)
			assert_true(spawn_logged(&daemon_, hosts[i].pipes));
		assert_int_equal(spawn_stop(&daemon_), 0);
	}
}

/* The memory of an HBM tier is made while the daemon serves: what the device does not have
 * makes the tier smaller, with one line that says so. */
static void test_less_memory_than_configured(void **state)
{
	(void)state;
	struct kv kv;
	static const char *const sets[] = {"device.cache=16MiB", "device.headroom=2MiB",
					   "device.slab=2MiB", "soft.fail=cuMemSetAccess:2", NULL};

	spawn_start(&daemon_, sets, NULL);
	assert_int_equal(spawn_log_lines(&daemon_, "cannot allocate more than 2 of 18 MiB"), 1);
	kv_open(&kv, &daemon_, 0, 2 << 20, 1);
	kv_close(&kv);
	assert_true(spawn_balanced(&daemon_));
	assert_int_equal(spawn_stop(&daemon_), 0);
}

/* Who asks for more of a device than others have left of it is told so at the start, once a
 * device, and served. */
static void test_less_memory_free_than_configured(void **state)
{
	(void)state;
	struct hbm_wire_status status;
	static const struct {
		const char *memory;
		unsigned warnings;
	} asks[] = {{"device.memory=40MiB", 0}, {"device.memory=42MiB", 2}};

	for (size_t i = 0; i < 2; i++) {
		const char *const sets[] = {"soft.devices=2", "soft.memory=64MiB", "device.cache=0",
					    asks[i].memory, NULL};

		spawn_forget_log(&daemon_);
		spawn_start(&daemon_, sets, (const char *[]){"HBM_SOFT=context_mib=24", NULL});
		assert_int_equal(spawn_log_lines(&daemon_, "MiB are free"), asks[i].warnings);
		if (asks[i].warnings > 0)
			assert_true(spawn_logged(&daemon_, "warning: device.memory: 42 MiB on "
							   "device 1, of which 40 MiB are free"));

		spawn_status(&daemon_, &status);
		assert_string_equal(status.state, "running");
		assert_int_equal(spawn_stop(&daemon_), 0);
	}
}

/* A process that has memory of a GPU does not undo all that before it ends. */
static void test_a_gpus_memory_is_left(void **state)
{
	(void)state;
	static char path[160];
	static const char *const drivers[] = {"hbmd.driver=cuda", "hbmd.driver=soft"};
	disguise_as_cuda(path, sizeof(path));

	for (unsigned soft = 0; soft < 2; soft++) {
		const char *const sets[] = {drivers[soft], "device.cache=4MiB", NULL};
		spawn_forget_log(&daemon_);
		spawn_start(&daemon_, sets,
			    (const char *[]){path, "HBM_SOFT=memory=256MiB",
					     "HBM_SOFT_FAIL=cuMemUnmap:1:1,cuMemUnmap:2:1", NULL});
		assert_int_equal(spawn_stop(&daemon_), 0);
		assert_int_equal(spawn_log_lines(&daemon_, "cuMemUnmap failed"), soft);
	}
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

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, stage_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_auto_takes_what_there_is),
		TEST(test_a_driver_that_does_not_start),
		TEST(test_auto_with_hardware),
		TEST(test_fewer_devices_than_gpus),
		TEST(test_what_the_host_is_set_up_for),
		TEST(test_less_memory_than_configured),
		TEST(test_less_memory_free_than_configured),
		TEST(test_a_gpus_memory_is_left),
		TEST(test_without_permission),
	};
	alarm(100);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
