/* SPDX-License-Identifier: Apache-2.0 */
/* soft_device: see soft_device.h. */
#include "tests/support/soft_device.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "tests/support/leaks.h"

void soft_open(struct soft_device *soft, const struct driver_soft_options *options)
{
	char error[512] = "";

	memset(soft, 0, sizeof(*soft));
	leaks_begin(&soft->leaks);
	if (driver_open(&soft->driver, DRIVER_SOFT, options, error, sizeof(error)) != 0)
		fail_msg("%s", error);
	soft->call = soft_calls_of(soft->driver);
}

void soft_close(struct soft_device *soft)
{
	soft->driver = driver_close(soft->driver);
	assert_int_equal(leaks_end(&soft->leaks), 0);
}

void soft_assert_only_contexts(const struct soft_device *soft)
{
	static const char *const kinds[] = {"handles",     "mappings",      "reservations",
					    "allocations", "registrations", "streams",
					    "events",      "modules"};

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (soft->call.live(kinds[i]) != 0)
			print_error("%s are left\n", kinds[i]);
		assert_int_equal(soft->call.live(kinds[i]), 0);
	}
}

int soft_setup(void **state)
{
	const struct driver_soft_options options = {.devices = 2, .memory = 64 * MIB};
	struct soft_device *soft = malloc(sizeof(*soft));

	assert_non_null(soft);
	soft_open(soft, &options);
	assert_int_equal(soft->driver->cuDevicePrimaryCtxRetain(&soft->context, 0), CUDA_SUCCESS);
	assert_int_equal(soft->driver->cuCtxSetCurrent(soft->context), CUDA_SUCCESS);
	*state = soft;
	return 0;
}

int soft_teardown(void **state)
{
	struct soft_device *soft = *state;

	assert_int_equal(soft->driver->cuDevicePrimaryCtxRelease(0), CUDA_SUCCESS);
	soft_assert_only_contexts(soft);
	assert_int_equal(soft->call.live("contexts"), 0);
	soft_close(soft);
	free(soft);
	return 0;
}

CUmemAllocationProp soft_prop(int device)
{
	return (CUmemAllocationProp){.type = CU_MEM_ALLOCATION_TYPE_PINNED,
				     .requestedHandleTypes =
					     CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
				     .location = {CU_MEM_LOCATION_TYPE_DEVICE, device}};
}

CUresult soft_access(const struct driver *driver, CUdeviceptr address, size_t bytes, int device,
		     CUmemAccess_flags flags)
{
	CUmemAccessDesc access = {{CU_MEM_LOCATION_TYPE_DEVICE, device}, flags};

	return driver->cuMemSetAccess(address, bytes, &access, 1);
}

CUdeviceptr soft_memory(const struct driver *driver, int device, size_t bytes)
{
	CUmemAllocationProp prop = soft_prop(device);
	CUmemGenericAllocationHandle handle;
	CUdeviceptr address;

	assert_int_equal(driver->cuMemCreate(&handle, bytes, &prop, 0), CUDA_SUCCESS);
	assert_int_equal(driver->cuMemAddressReserve(&address, bytes, 0, 0, 0), CUDA_SUCCESS);
	assert_int_equal(driver->cuMemMap(address, bytes, 0, handle, 0), CUDA_SUCCESS);
	assert_int_equal(driver->cuMemRelease(handle), CUDA_SUCCESS);
	assert_int_equal(
		soft_access(driver, address, bytes, device, CU_MEM_ACCESS_FLAGS_PROT_READWRITE),
		CUDA_SUCCESS);
	return address;
}

void soft_memory_free(const struct driver *driver, CUdeviceptr address, size_t bytes)
{
	assert_int_equal(driver->cuMemUnmap(address, bytes), CUDA_SUCCESS);
	assert_int_equal(driver->cuMemAddressFree(address, bytes), CUDA_SUCCESS);
}

void *soft_host(const struct driver *driver, size_t bytes, unsigned flags)
{
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(memory, MAP_FAILED);
	assert_int_equal(driver->cuMemHostRegister(memory, bytes, flags), CUDA_SUCCESS);
	return memory;
}

CUdeviceptr soft_alias(const struct driver *driver, void *memory)
{
	CUdeviceptr alias;

	assert_int_equal(driver->cuMemHostGetDevicePointer(&alias, memory, 0), CUDA_SUCCESS);
	return alias;
}

void soft_host_free(const struct driver *driver, void *memory, size_t bytes)
{
	assert_int_equal(driver->cuMemHostUnregister(memory), CUDA_SUCCESS);
	assert_int_equal(munmap(memory, bytes), 0);
}

CUstream soft_stream(const struct driver *driver)
{
	CUstream stream;

	assert_int_equal(driver->cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING), CUDA_SUCCESS);
	return stream;
}
