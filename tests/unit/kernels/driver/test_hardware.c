/* SPDX-License-Identifier: Apache-2.0 */
/* hardware: what the host's files say of scrubbing and of MPS. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernels/driver/hardware.h"

static char root[64];

static const char *const folders[] = {"/proc", "/proc/driver", "/proc/driver/nvidia", "/tmp",
				      "/tmp/nvidia-mps"};
#define FOLDERS (sizeof(folders) / sizeof(folders[0]))
#define MPS (FOLDERS - 1)

static char *path_of(const char *name)
{
	static char path[128];

	snprintf(path, sizeof(path), "%s%s", root, name);

	return path;
}

static int setup(void **state)
{
	(void)state;
	snprintf(root, sizeof(root), "/tmp/hardware-XXXXXX");
	assert_non_null(mkdtemp(root));
	for (size_t i = 0; i < MPS; i++)
		assert_int_equal(mkdir(path_of(folders[i]), 0700), 0);
	setenv("HBM_HARDWARE_ROOT", root, 1);
	unsetenv("CUDA_MPS_PIPE_DIRECTORY");

	return 0;
}

static int teardown(void **state)
{
	(void)state;
	unlink(path_of("/proc/driver/nvidia/params"));
	for (size_t i = FOLDERS; i-- > 0;)
		rmdir(path_of(folders[i]));
	rmdir(root);
	unsetenv("HBM_HARDWARE_ROOT");
	unsetenv("CUDA_MPS_PIPE_DIRECTORY");

	return 0;
}

static bool leaves_memory(const char *params)
{
	FILE *file = fopen(path_of("/proc/driver/nvidia/params"), "we");

	assert_non_null(file);
	fputs(params, file);
	fclose(file);

	return hardware_leaves_memory();
}

static void test_scrubbing(void **state)
{
	(void)state;
	assert_false(hardware_leaves_memory());
	assert_false(leaves_memory("Mobile: 4294967295\nRegistryDwords: \"\"\n"));
	assert_false(leaves_memory("RegistryDwords: \"RMDisableScrubOnFree=0\"\n"));
	assert_false(leaves_memory("RegistryDwords: \"RMDisableScrubOnFreeX1=0\"\n"));
	assert_true(leaves_memory("RegistryDwords: \"A=2;RMDisableScrubOnFree=1\"\n"));
	assert_true(leaves_memory("RegistryDwords: \"rmdisablescrubonfree=0x1\"\n"));
	assert_true(leaves_memory("RegistryDwords: \"\"\nRegistryDwordsPerDevice: "
				  "\"pci=0000:01:00.0;RMDisableScrubOnFree=1\"\n"));
}

static void test_mps(void **state)
{
	char folder[64] = "";

	(void)state;
	assert_false(hardware_has_mps(folder, sizeof(folder)));
	assert_int_equal(mkdir(path_of(folders[MPS]), 0700), 0);
	assert_true(hardware_has_mps(folder, sizeof(folder)));
	assert_string_equal(folder, "/tmp/nvidia-mps");

	setenv("CUDA_MPS_PIPE_DIRECTORY", "/run/mps", 1);
	assert_true(hardware_has_mps(folder, sizeof(folder)));
	assert_string_equal(folder, "/run/mps");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_scrubbing, setup, teardown),
		cmocka_unit_test_setup_teardown(test_mps, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
