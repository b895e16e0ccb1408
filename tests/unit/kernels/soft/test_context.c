/* SPDX-License-Identifier: Apache-2.0 */
/* Soft: starting, devices, primary contexts, the current context of a thread. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>

#include "tests/support/soft_device.h"

static void test_calls_before_init(void **state)
{
	const struct driver_soft_options options = {.devices = 1};
	int (*configure)(const struct driver_soft_options *);
	struct soft_device soft;
	CUcontext context;
	int count;

	(void)state;
	soft_open(&soft, &options);

	/* The table was started by driver_open; forget that, as the last user does, but
	 * keep the library. */
	void (*release)(void);
	*(void **)&release = soft_symbol(soft.driver, "hbm_soft_release");
	*(void **)&configure = soft_symbol(soft.driver, "hbm_soft_configure");
	release();
	assert_int_equal(configure(&options), 0);
	assert_int_equal(soft.driver->cuDeviceGetCount(&count), CUDA_ERROR_NOT_INITIALIZED);
	assert_int_equal(soft.driver->cuDevicePrimaryCtxRetain(&context, 0),
			 CUDA_ERROR_NOT_INITIALIZED);
	assert_int_equal(soft.driver->cuMemRelease(1), CUDA_ERROR_NOT_INITIALIZED);
	assert_int_equal(soft.driver->cuStreamSynchronize(NULL), CUDA_ERROR_NOT_INITIALIZED);
	assert_int_equal(soft.driver->cuInit(1), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(soft.driver->cuInit(0), CUDA_SUCCESS);
	assert_int_equal(soft.driver->cuDeviceGetCount(&count), CUDA_SUCCESS);
	soft_close(&soft);
}

/* A process that takes the library for libcuda.so.1 knows of no configuration. */
static void test_init_configures(void **state)
{
	struct soft_device soft;
	void (*release)(void);
	int count;

	(void)state;
	soft_open(&soft, NULL);
	*(void **)&release = soft_symbol(soft.driver, "hbm_soft_release");
	release();
	assert_int_equal(soft.driver->cuInit(0), CUDA_SUCCESS);
	assert_int_equal(soft.driver->cuDeviceGetCount(&count), CUDA_SUCCESS);
	assert_int_equal(count, 1);
	soft_close(&soft);
}

static void test_devices(void **state)
{
	const struct soft_device *soft = *state;
	const struct driver *driver = soft->driver;
	CUuuid first, second;
	CUdevice device;
	char id[13];
	int value;

	assert_int_equal(driver->cuDeviceGet(&device, 1), CUDA_SUCCESS);
	assert_int_equal(device, 1);
	assert_int_equal(driver->cuDeviceGet(&device, 2), CUDA_ERROR_INVALID_DEVICE);
	assert_int_equal(driver->cuDeviceGet(&device, -1), CUDA_ERROR_INVALID_DEVICE);
	assert_int_equal(driver->cuDeviceGetUuid(&first, 0), CUDA_SUCCESS);
	assert_int_equal(driver->cuDeviceGetUuid(&second, 1), CUDA_SUCCESS);
	assert_memory_not_equal(&first, &second, sizeof(first));
	assert_int_equal(driver->cuDeviceGetPCIBusId(id, sizeof(id), 1), CUDA_SUCCESS);
	assert_string_equal(id, "ffff:ff:01.0");
	assert_int_equal(driver->cuDeviceGetPCIBusId(id, 12, 1), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(
		driver->cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT, 0),
		CUDA_SUCCESS);
	assert_int_equal(value, 2);
	assert_int_equal(driver->cuDeviceGetAttribute(&value, (CUdevice_attribute)4711, 0),
			 CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(driver->cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_COMPUTE_MODE, 2),
			 CUDA_ERROR_INVALID_DEVICE);
}

static void test_every_listed_attribute_is_answered(void **state)
{
	const struct soft_device *soft = *state;
	int value;

#define ATTRIBUTE(name, number)                                                                    \
	assert_int_equal(soft->driver->cuDeviceGetAttribute(&value, name, 0), CUDA_SUCCESS);

	CUDA_DEVICE_ATTRIBUTES(ATTRIBUTE)
#undef ATTRIBUTE
}

static void test_no_current_context(void **state)
{
	const struct soft_device *soft = *state;
	const struct driver *driver = soft->driver;
	CUcontext current = soft->context;
	size_t free_bytes, total;
	char memory[4096];
	CUstream stream;
	CUevent event;
	int least, greatest;

	assert_int_equal(driver->cuCtxSetCurrent(NULL), CUDA_SUCCESS);
	assert_int_equal(driver->cuCtxGetCurrent(&current), CUDA_SUCCESS);
	assert_null(current);
	assert_int_equal(driver->cuStreamCreate(&stream, 0), CUDA_ERROR_INVALID_CONTEXT);
	assert_int_equal(driver->cuEventCreate(&event, 0), CUDA_ERROR_INVALID_CONTEXT);
	assert_int_equal(driver->cuMemHostRegister(memory, sizeof(memory), 0),
			 CUDA_ERROR_INVALID_CONTEXT);
	assert_int_equal(driver->cuMemGetInfo(&free_bytes, &total), CUDA_ERROR_INVALID_CONTEXT);
	assert_int_equal(driver->cuCtxSynchronize(), CUDA_ERROR_INVALID_CONTEXT);
	assert_int_equal(driver->cuCtxGetStreamPriorityRange(&least, &greatest),
			 CUDA_ERROR_INVALID_CONTEXT);
	assert_int_equal(driver->cuMemcpyHtoD(0x1000, memory, 1), CUDA_ERROR_INVALID_CONTEXT);
	assert_int_equal(driver->cuMemcpyHtoDAsync(0x1000, memory, 1, NULL),
			 CUDA_ERROR_INVALID_CONTEXT);
	assert_int_equal(driver->cuCtxSetCurrent(soft->context), CUDA_SUCCESS);
}

static void test_retain_and_release(void **state)
{
	const struct soft_device *soft = *state;
	const struct driver *driver = soft->driver;
	CUcontext context, again, current;

	assert_int_equal(driver->cuDevicePrimaryCtxRelease(1), CUDA_ERROR_INVALID_CONTEXT);
	assert_int_equal(driver->cuDevicePrimaryCtxRetain(&context, 2), CUDA_ERROR_INVALID_DEVICE);
	assert_int_equal(driver->cuDevicePrimaryCtxRetain(&context, 1), CUDA_SUCCESS);
	assert_int_equal(driver->cuDevicePrimaryCtxRetain(&again, 1), CUDA_SUCCESS);
	assert_ptr_equal(context, again);
	assert_ptr_not_equal(context, soft->context);
	assert_int_equal(soft->call.live("contexts"), 2);
	assert_int_equal(driver->cuDevicePrimaryCtxRelease(1), CUDA_SUCCESS);
	assert_int_equal(driver->cuCtxSetCurrent(context), CUDA_SUCCESS);
	assert_int_equal(driver->cuCtxGetCurrent(&current), CUDA_SUCCESS);
	assert_ptr_equal(current, context);
	assert_int_equal(driver->cuDevicePrimaryCtxRelease(1), CUDA_SUCCESS);

	/* Still current here, but gone. */
	assert_int_equal(driver->cuCtxSynchronize(), CUDA_ERROR_CONTEXT_IS_DESTROYED);
	assert_int_equal(driver->cuCtxSetCurrent(context), CUDA_ERROR_INVALID_CONTEXT);
	assert_int_equal(driver->cuCtxSetCurrent((CUcontext)(uintptr_t)0x1234),
			 CUDA_ERROR_INVALID_CONTEXT);

	/* It does not come back with the device's next one. */
	assert_int_equal(driver->cuDevicePrimaryCtxRetain(&again, 1), CUDA_SUCCESS);
	assert_ptr_not_equal(again, context);
	assert_int_equal(driver->cuCtxSynchronize(), CUDA_ERROR_CONTEXT_IS_DESTROYED);
	assert_int_equal(driver->cuCtxSetCurrent(context), CUDA_ERROR_INVALID_CONTEXT);
	assert_int_equal(driver->cuDevicePrimaryCtxRelease(1), CUDA_SUCCESS);
	assert_int_equal(driver->cuCtxSetCurrent(soft->context), CUDA_SUCCESS);
}

static void test_release_with_children(void **state)
{
	const struct soft_device *soft = *state;
	const struct driver *driver = soft->driver;
	CUstream stream = soft_stream(driver);
	void *memory;
	CUevent event;

	assert_int_equal(driver->cuDevicePrimaryCtxRelease(0), CUDA_ERROR_ILLEGAL_STATE);
	assert_int_equal(driver->cuStreamDestroy(stream), CUDA_SUCCESS);
	assert_int_equal(driver->cuEventCreate(&event, 0), CUDA_SUCCESS);
	assert_int_equal(driver->cuDevicePrimaryCtxRelease(0), CUDA_ERROR_ILLEGAL_STATE);
	assert_int_equal(driver->cuEventDestroy(event), CUDA_SUCCESS);
	memory = soft_host(driver, 4096, 0);
	assert_int_equal(driver->cuDevicePrimaryCtxRelease(0), CUDA_ERROR_ILLEGAL_STATE);
	soft_host_free(driver, memory, 4096);
}

static void *current_of_thread(void *argument)
{
	const struct driver *driver = argument;
	CUcontext current;

	return driver->cuCtxGetCurrent(&current) == CUDA_SUCCESS ? (void *)current : argument;
}

static void test_current_is_of_the_thread(void **state)
{
	const struct soft_device *soft = *state;
	pthread_t thread;
	void *seen = soft->driver;

	assert_int_equal(pthread_create(&thread, NULL, current_of_thread, soft->driver), 0);
	assert_int_equal(pthread_join(thread, &seen), 0);
	assert_null(seen);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_calls_before_init),
		cmocka_unit_test(test_init_configures),
		cmocka_unit_test_setup_teardown(test_devices, soft_setup, soft_teardown),
		cmocka_unit_test_setup_teardown(test_every_listed_attribute_is_answered, soft_setup,
						soft_teardown),
		cmocka_unit_test_setup_teardown(test_no_current_context, soft_setup, soft_teardown),
		cmocka_unit_test_setup_teardown(test_retain_and_release, soft_setup, soft_teardown),
		cmocka_unit_test_setup_teardown(test_release_with_children, soft_setup,
						soft_teardown),
		cmocka_unit_test_setup_teardown(test_current_is_of_the_thread, soft_setup,
						soft_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
