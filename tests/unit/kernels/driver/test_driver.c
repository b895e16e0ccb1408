/* SPDX-License-Identifier: Apache-2.0 */
/* driver_open: which library it takes, what it says when it cannot, and several users of
 * one soft driver. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dlfcn.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "tests/support/soft_device.h"

static char error[512];

static void assert_mentions(const char *text, const char *part)
{
	if (strstr(text, part) == NULL)
		fail_msg("\"%s\" does not say \"%s\"", text, part);
	assert_null(strchr(text, '\n'));
}

static bool there_is_cuda(void)
{
	void *library = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);

	if (library == NULL)
		return false;
	dlclose(library);
	return true;
}

static void test_soft_opens(void **state)
{
	const struct driver_soft_options options = {.devices = 3, .memory = 8 * MIB};
	struct soft_device soft;
	int count, version;
	size_t bytes;
	char name[64];

	(void)state;
	soft_open(&soft, &options);
	assert_int_equal(soft.driver->kind, HBM_DRIVER_SOFT);
	assert_int_equal(soft.driver->cuDriverGetVersion(&version), CUDA_SUCCESS);
	assert_int_equal(soft.driver->cuDeviceGetCount(&count), CUDA_SUCCESS);
	assert_int_equal(count, 3);
	assert_int_equal(soft.driver->cuDeviceTotalMem(&bytes, 2), CUDA_SUCCESS);
	assert_int_equal(bytes, 8 * MIB);
	assert_int_equal(soft.driver->cuDeviceGetName(name, sizeof(name), 2), CUDA_SUCCESS);
	assert_string_equal(name, "soft device 2");
	soft_close(&soft);
}

static void test_soft_has_defaults(void **state)
{
	struct soft_device soft;
	size_t bytes;
	int count;

	(void)state;
	soft_open(&soft, NULL);
	assert_int_equal(soft.driver->cuDeviceGetCount(&count), CUDA_SUCCESS);
	assert_int_equal(count, 1);
	assert_int_equal(soft.driver->cuDeviceTotalMem(&bytes, 0), CUDA_SUCCESS);
	assert_int_equal(bytes, 1024 * MIB);
	soft_close(&soft);
}

static void test_environment_configures(void **state)
{
	struct soft_device soft;
	size_t bytes;
	int count;

	(void)state;
	assert_int_equal(
		setenv("HBM_SOFT", "devices=2,memory=6MiB,d2h=100,h2d=100.5,latency_us=0.5", 1), 0);
	soft_open(&soft, NULL);
	unsetenv("HBM_SOFT");
	assert_int_equal(soft.driver->cuDeviceGetCount(&count), CUDA_SUCCESS);
	assert_int_equal(count, 2);
	assert_int_equal(soft.driver->cuDeviceTotalMem(&bytes, 1), CUDA_SUCCESS);
	assert_int_equal(bytes, 6 * MIB);
	soft_close(&soft);
}

static void test_bad_environment_is_refused(void **state)
{
	static const char *const bad[] = {"devices=0",  "devices=17",    "devices",
					  "memory=1",   "memory=x",      "memory=-1GiB",
					  "memory=1XB", "d2h=-1",        "d2h=nan",
					  "h2d=1 GiB",  "latency_us=ab", "devices=2,,x=1",
					  "memory=1e3", "dirt=5ec7",     "dirt=0x5ec7e75ec7e75e"};
	struct driver *driver = NULL;

	(void)state;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(setenv("HBM_SOFT", bad[i], 1), 0);
		assert_int_equal(driver_open(&driver, DRIVER_SOFT, NULL, error, sizeof(error)),
				 -EINVAL);
		assert_mentions(error, "HBM_SOFT");
		assert_null(driver);
	}

	unsetenv("HBM_SOFT");
}

static void test_bad_options_are_refused(void **state)
{
	const struct driver_soft_options bad[] = {
		{.devices = 17},           {.memory = 4096},       {.memory = UINT64_MAX},
		{.d2h_gib_s = -1},         {.latency_us = 1e300},  {.fail = "cuNothing:1"},
		{.fail = "cuMemCreate:0"}, {.fail = "cuMemCreate"}};
	struct driver *driver = NULL;

	(void)state;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(driver_open(&driver, DRIVER_SOFT, &bad[i], error, sizeof(error)),
				 -EINVAL);

	assert_null(driver);
}

static void test_missing_library_is_named(void **state)
{
	struct driver *driver = NULL;

	(void)state;
	assert_int_equal(setenv("HBM_SOFT_DRIVER", "/nonexistent/libhbmsoft.so", 1), 0);
	assert_int_equal(driver_open(&driver, DRIVER_SOFT, NULL, error, sizeof(error)), -ENOENT);
	unsetenv("HBM_SOFT_DRIVER");
	assert_mentions(error, "/nonexistent/libhbmsoft.so");
	assert_null(driver);
}

static void test_missing_symbol_is_named(void **state)
{
	struct driver *driver = NULL;

	(void)state;
	assert_int_equal(setenv("HBM_SOFT_DRIVER", "libc.so.6", 1), 0);
	assert_int_equal(driver_open(&driver, DRIVER_SOFT, NULL, error, sizeof(error)), -ENOSYS);
	unsetenv("HBM_SOFT_DRIVER");
	assert_mentions(error, "cuInit");
	assert_null(driver);
}

static void test_small_error_buffers_do(void **state)
{
	struct driver *driver = NULL;
	char small[4] = "xxx";

	(void)state;
	assert_int_equal(setenv("HBM_SOFT_DRIVER", "/nonexistent/libhbmsoft.so", 1), 0);
	assert_int_equal(driver_open(&driver, DRIVER_SOFT, NULL, NULL, 0), -ENOENT);
	assert_int_equal(driver_open(&driver, DRIVER_SOFT, NULL, small, sizeof(small)), -ENOENT);
	unsetenv("HBM_SOFT_DRIVER");
	assert_int_equal(small[3], '\0');
}

static void test_missing_cuda_is_reported(void **state)
{
	struct driver *driver = NULL;

	(void)state;

	if (there_is_cuda()) {
		print_message("SKIP this machine has libcuda.so.1\n");
		skip();
	}

	assert_int_equal(driver_open(&driver, DRIVER_CUDA, NULL, error, sizeof(error)), -ENOENT);
	assert_mentions(error, "libcuda.so.1");
	assert_null(driver);
}

static void test_auto_falls_back_to_soft(void **state)
{
	struct driver *driver = NULL;

	(void)state;

	if (there_is_cuda()) {
		print_message("SKIP this machine has libcuda.so.1\n");
		skip();
	}

	assert_int_equal(driver_open(&driver, DRIVER_AUTO, NULL, error, sizeof(error)), 0);
	assert_int_equal(driver->kind, HBM_DRIVER_SOFT);
	assert_null(driver_close(driver));
}

static void test_failing_init_is_reported(void **state)
{
	const struct driver_soft_options options = {
		.fail = "cuInit:1:CUDA_ERROR_SYSTEM_DRIVER_MISMATCH"};
	struct driver *driver = NULL;

	(void)state;
	assert_int_equal(driver_open(&driver, DRIVER_SOFT, &options, error, sizeof(error)), -EIO);
	assert_mentions(error, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH");
	assert_null(driver);

	/* Nothing of it stays. */
	assert_int_equal(driver_open(&driver, DRIVER_SOFT, NULL, error, sizeof(error)), 0);
	assert_null(driver_close(driver));
}

/* Two tables in one process share devices; the second must agree about them. */
static void test_two_users(void **state)
{
	const struct driver_soft_options small = {.devices = 2, .memory = 8 * MIB};
	const struct driver_soft_options other = {.devices = 2, .memory = 16 * MIB};
	struct driver *first, *second = NULL;
	CUcontext context;
	int count;

	(void)state;
	assert_int_equal(driver_open(&first, DRIVER_SOFT, &small, error, sizeof(error)), 0);
	assert_int_equal(driver_open(&second, DRIVER_SOFT, &other, error, sizeof(error)), -EBUSY);
	assert_null(second);
	assert_int_equal(driver_open(&second, DRIVER_SOFT, &small, error, sizeof(error)), 0);
	assert_int_equal(second->cuDevicePrimaryCtxRetain(&context, 1), CUDA_SUCCESS);
	assert_null(driver_close(second));
	assert_int_equal(first->cuDeviceGetCount(&count), CUDA_SUCCESS);
	assert_int_equal(count, 2);
	assert_int_equal(first->cuDevicePrimaryCtxRelease(1), CUDA_SUCCESS);
	assert_null(driver_close(first));

	/* All forgotten. */
	assert_int_equal(driver_open(&second, DRIVER_SOFT, &other, error, sizeof(error)), 0);
	assert_null(driver_close(second));
}

/* What a user leaves behind when it closes does not outlive the driver. */
static void test_closing_closes_everything(void **state)
{
	struct soft_device soft;
	CUcontext context;
	CUdeviceptr address;
	CUstream stream;
	CUevent event;
	uint64_t *value;

	(void)state;
	value = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(value, MAP_FAILED);
	soft_open(&soft, NULL);
	assert_int_equal(soft.driver->cuDevicePrimaryCtxRetain(&context, 0), CUDA_SUCCESS);
	assert_int_equal(soft.driver->cuCtxSetCurrent(context), CUDA_SUCCESS);
	address = soft_memory(soft.driver, 0, GRANULE);
	stream = soft_stream(soft.driver);
	assert_int_equal(soft.driver->cuMemHostRegister(value, 4096, CU_MEMHOSTREGISTER_DEVICEMAP),
			 CUDA_SUCCESS);
	assert_int_equal(soft.driver->cuEventCreate(&event, 0), CUDA_SUCCESS);

	/* A stream that waits for what never comes, with work and a recorded event behind
	 * it. */
	assert_int_equal(
		soft.driver->cuStreamWaitValue64(stream, soft_alias(soft.driver, value), 1, 0),
		CUDA_SUCCESS);
	assert_int_equal(soft.driver->cuMemsetD8Async(address, 7, GRANULE, stream), CUDA_SUCCESS);
	assert_int_equal(soft.driver->cuEventRecord(event, stream), CUDA_SUCCESS);
	soft_close(&soft);
	munmap(value, 4096);
}

static void test_kind_names(void **state)
{
	(void)state;
	assert_string_equal(driver_kind_name(HBM_DRIVER_CUDA), "cuda");
	assert_string_equal(driver_kind_name(HBM_DRIVER_SOFT), "soft");
}

static void test_error_names(void **state)
{
	struct soft_device soft;
	const char *name;

	(void)state;
	soft_open(&soft, NULL);
	assert_string_equal(driver_error_name(soft.driver, CUDA_ERROR_OUT_OF_MEMORY),
			    "CUDA_ERROR_OUT_OF_MEMORY");
	assert_string_equal(driver_error_name(soft.driver, (CUresult)12345), "CUDA_ERROR_12345");
	assert_string_equal(driver_error_name(NULL, CUDA_SUCCESS), "CUDA_SUCCESS");
	assert_string_equal(driver_error_name(NULL, (CUresult)12345), "CUDA_ERROR_12345");
	assert_int_equal(soft.driver->cuGetErrorName(CUDA_ERROR_NOT_READY, &name), CUDA_SUCCESS);
	assert_string_equal(name, "CUDA_ERROR_NOT_READY");
	assert_int_equal(soft.driver->cuGetErrorString((CUresult)12345, &name),
			 CUDA_ERROR_INVALID_VALUE);
	soft_close(&soft);
}

static void test_sticky_errors(void **state)
{
	(void)state;
	assert_true(driver_error_is_sticky(CUDA_ERROR_ILLEGAL_ADDRESS));
	assert_true(driver_error_is_sticky(CUDA_ERROR_ASSERT));
	assert_false(driver_error_is_sticky(CUDA_SUCCESS));
	assert_false(driver_error_is_sticky(CUDA_ERROR_OUT_OF_MEMORY));
	assert_false(driver_error_is_sticky(CUDA_ERROR_UNKNOWN));
}

static void test_close_takes_null(void **state)
{
	(void)state;
	assert_null(driver_close(NULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_soft_opens),
		cmocka_unit_test(test_soft_has_defaults),
		cmocka_unit_test(test_environment_configures),
		cmocka_unit_test(test_bad_environment_is_refused),
		cmocka_unit_test(test_bad_options_are_refused),
		cmocka_unit_test(test_missing_library_is_named),
		cmocka_unit_test(test_missing_symbol_is_named),
		cmocka_unit_test(test_small_error_buffers_do),
		cmocka_unit_test(test_missing_cuda_is_reported),
		cmocka_unit_test(test_auto_falls_back_to_soft),
		cmocka_unit_test(test_failing_init_is_reported),
		cmocka_unit_test(test_two_users),
		cmocka_unit_test(test_closing_closes_everything),
		cmocka_unit_test(test_kind_names),
		cmocka_unit_test(test_error_names),
		cmocka_unit_test(test_sticky_errors),
		cmocka_unit_test(test_close_takes_null),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
