/* SPDX-License-Identifier: Apache-2.0 */
/* Soft: calls told to fail: by options, environment and function, by count; what is
 * counted; and that a failed call changed nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "tests/support/soft_device.h"

static CUresult count_devices(const struct driver *driver)
{
	int count;

	return driver->cuDeviceGetCount(&count);
}

static void test_options_and_environment(void **state)
{
	const struct driver_soft_options options = {.fail = "cuDeviceGetCount:2"};
	struct soft_device soft;

	(void)state;
	assert_int_equal(setenv("HBM_SOFT_FAIL", "cuDeviceGetCount:1:3", 1), 0);
	soft_open(&soft, &options);
	assert_int_equal(count_devices(soft.driver), CUDA_SUCCESS);
	assert_int_equal(count_devices(soft.driver), CUDA_ERROR_OPERATING_SYSTEM);
	assert_int_equal(count_devices(soft.driver), CUDA_SUCCESS);
	soft_close(&soft);
	soft_open(&soft, NULL);
	unsetenv("HBM_SOFT_FAIL");
	assert_int_equal(count_devices(soft.driver), CUDA_ERROR_NOT_INITIALIZED);
	assert_int_equal(count_devices(soft.driver), CUDA_SUCCESS);
	soft_close(&soft);
}

static void test_default_codes(void **state)
{
	struct soft_device *soft = *state;
	CUmemAllocationProp prop = soft_prop(0);
	CUmemGenericAllocationHandle handle = 77;
	CUdeviceptr address = 77;
	char byte;

	assert_int_equal(
		soft->call.faults(
			"cuMemCreate:1,cuMemAddressReserve:1,cuMemHostRegister:1,cuMemRelease:1"),
		0);
	assert_int_equal(soft->driver->cuMemCreate(&handle, GRANULE, &prop, 0),
			 CUDA_ERROR_OUT_OF_MEMORY);
	assert_int_equal(soft->driver->cuMemAddressReserve(&address, GRANULE, 0, 0, 0),
			 CUDA_ERROR_OUT_OF_MEMORY);
	assert_int_equal(soft->driver->cuMemHostRegister(&byte, 1, 0), CUDA_ERROR_OUT_OF_MEMORY);
	assert_int_equal(handle, 77);
	assert_int_equal(address, 77);
	assert_int_equal(soft->driver->cuMemCreate(&handle, GRANULE, &prop, 0), CUDA_SUCCESS);
	assert_int_equal(soft->driver->cuMemRelease(handle), CUDA_ERROR_OPERATING_SYSTEM);
	assert_int_equal(soft->call.live("handles"), 1);
	assert_int_equal(soft->driver->cuMemRelease(handle), CUDA_SUCCESS);
}

static void test_onward_and_codes(void **state)
{
	struct soft_device *soft = *state;

	assert_int_equal(soft->call.faults("cuDeviceGetCount:2+:CUDA_ERROR_ECC_UNCORRECTABLE"), 0);
	assert_int_equal(count_devices(soft->driver), CUDA_SUCCESS);
	for (int i = 0; i < 3; i++)
		assert_int_equal(count_devices(soft->driver), CUDA_ERROR_ECC_UNCORRECTABLE);
	assert_int_equal(soft->call.fail_nth(NULL, 0, CUDA_SUCCESS), 0);
	assert_int_equal(count_devices(soft->driver), CUDA_SUCCESS);
}

static void test_function_counts_from_now(void **state)
{
	struct soft_device *soft = *state;

	assert_int_equal(count_devices(soft->driver), CUDA_SUCCESS);
	assert_int_equal(soft->call.fail_nth("cuDeviceGetCount", 2, CUDA_ERROR_LAUNCH_FAILED), 0);
	assert_int_equal(count_devices(soft->driver), CUDA_SUCCESS);
	assert_int_equal(count_devices(soft->driver), CUDA_ERROR_LAUNCH_FAILED);
	assert_int_equal(count_devices(soft->driver), CUDA_SUCCESS);
}

static void test_any_call(void **state)
{
	struct soft_device *soft = *state;
	const char *name;
	int version;

	assert_int_equal(soft->call.fail_nth("*", 3, CUDA_ERROR_LAUNCH_FAILED), 0);
	assert_int_equal(count_devices(soft->driver), CUDA_SUCCESS);
	assert_int_equal(soft->driver->cuDriverGetVersion(&version), CUDA_SUCCESS);

	/* These do not count. */
	assert_int_equal(soft->driver->cuGetErrorName(CUDA_SUCCESS, &name), CUDA_SUCCESS);
	assert_int_equal(soft->driver->cuInit(0), CUDA_SUCCESS);
	assert_int_equal(soft->driver->cuCtxSynchronize(), CUDA_ERROR_LAUNCH_FAILED);
	assert_int_equal(soft->driver->cuCtxSynchronize(), CUDA_SUCCESS);
}

static void test_counts(void **state)
{
	struct soft_device *soft = *state;
	uint64_t before = soft->call.calls("cuDeviceGetCount"), all = soft->call.calls("*");

	assert_int_equal(count_devices(soft->driver), CUDA_SUCCESS);
	assert_int_equal(soft->call.calls("cuDeviceGetCount"), before + 1);
	assert_int_equal(soft->call.calls("*"), all + 1);
	assert_int_equal(soft->call.calls("cuNothing"), UINT64_MAX);
	assert_int_equal(soft->call.live("nothing"), UINT64_MAX);
}

static void test_bad_lists(void **state)
{
	static const char *const bad[] = {
		"cuMemCreate",
		"cuMemCreate:",
		"cuMemCreate:0",
		"cuMemCreate:x",
		"cuMemCreate:-1",
		"cuMemCreate:1:",
		"cuMemCreate:1:0",
		"cuMemCreate:1++",
		"cuMemCreate_v2:1",
		":1",
		"cuMemCreate:1:CUDA_NOTHING",
		"cuDeviceGetCount:1,cuNothing:1",
	};
	struct soft_device *soft = *state;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(soft->call.faults(bad[i]), -EINVAL);
	assert_int_equal(count_devices(soft->driver), CUDA_SUCCESS); /* all or nothing */
	assert_int_equal(soft->call.faults(""), 0);
	assert_int_equal(soft->call.fail_nth("cuNothing", 1, CUDA_ERROR_UNKNOWN), -EINVAL);
	assert_int_equal(soft->call.fail_nth("cuInit", 0, CUDA_ERROR_UNKNOWN), -EINVAL);
	for (int i = 0; i < 64; i++)
		assert_int_equal(soft->call.fail_nth("cuInit", 1000, CUDA_ERROR_UNKNOWN), 0);
	assert_int_equal(soft->call.fail_nth("cuInit", 1000, CUDA_ERROR_UNKNOWN), -ENOSPC);
}

/* Everything a small life needs, giving up at the first failure and undoing what there
 * is. */
static CUresult small_life(const struct driver *driver, void *host)
{
	CUmemAccessDesc access = {{CU_MEM_LOCATION_TYPE_DEVICE, 0},
				  CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
	CUmemAllocationProp prop = soft_prop(0);
	CUmemGenericAllocationHandle handle;
	CUdeviceptr address;
	CUstream stream;
	CUresult result;

	result = driver->cuMemCreate(&handle, GRANULE, &prop, 0);
	if (result != CUDA_SUCCESS)
		return result;

	result = driver->cuMemAddressReserve(&address, GRANULE, 0, 0, 0);
	if (result != CUDA_SUCCESS)
		goto release;

	result = driver->cuMemMap(address, GRANULE, 0, handle, 0);
	if (result != CUDA_SUCCESS)
		goto free_address;

	result = driver->cuMemSetAccess(address, GRANULE, &access, 1);
	if (result != CUDA_SUCCESS)
		goto unmap;

	result = driver->cuMemHostRegister(host, 4096, 0);
	if (result != CUDA_SUCCESS)
		goto unmap;

	result = driver->cuStreamCreate(&stream, 0);
	if (result != CUDA_SUCCESS)
		goto unregister;

	result = driver->cuMemcpyHtoDAsync(address, host, 4096, stream);
	if (result == CUDA_SUCCESS)
		result = driver->cuStreamSynchronize(stream);

	assert_int_equal(driver->cuStreamSynchronize(stream), CUDA_SUCCESS);
	assert_int_equal(driver->cuStreamDestroy(stream), CUDA_SUCCESS);
unregister:
	assert_int_equal(driver->cuMemHostUnregister(host), CUDA_SUCCESS);
unmap:
	assert_int_equal(driver->cuMemUnmap(address, GRANULE), CUDA_SUCCESS);
free_address:
	assert_int_equal(driver->cuMemAddressFree(address, GRANULE), CUDA_SUCCESS);
release:
	assert_int_equal(driver->cuMemRelease(handle), CUDA_SUCCESS);

	return result;
}

static void test_every_call_in_turn(void **state)
{
	struct soft_device *soft = *state;
	void *host = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	const unsigned steps = 8; /* of small_life(), before it begins to undo them */

	assert_ptr_not_equal(host, MAP_FAILED);

	for (unsigned nth = 1; nth <= steps; nth++) {
		assert_int_equal(soft->call.fail_nth("*", nth, CUDA_ERROR_LAUNCH_FAILED), 0);
		assert_int_equal(small_life(soft->driver, host), CUDA_ERROR_LAUNCH_FAILED);
		soft_assert_only_contexts(soft);
		assert_int_equal(soft->call.fail_nth(NULL, 0, CUDA_SUCCESS), 0);
	}

	assert_int_equal(small_life(soft->driver, host), CUDA_SUCCESS);
	munmap(host, 4096);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_options_and_environment),
		cmocka_unit_test_setup_teardown(test_default_codes, soft_setup, soft_teardown),
		cmocka_unit_test_setup_teardown(test_onward_and_codes, soft_setup, soft_teardown),
		cmocka_unit_test_setup_teardown(test_function_counts_from_now, soft_setup,
						soft_teardown),
		cmocka_unit_test_setup_teardown(test_any_call, soft_setup, soft_teardown),
		cmocka_unit_test_setup_teardown(test_counts, soft_setup, soft_teardown),
		cmocka_unit_test_setup_teardown(test_bad_lists, soft_setup, soft_teardown),
		cmocka_unit_test_setup_teardown(test_every_call_in_turn, soft_setup, soft_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
