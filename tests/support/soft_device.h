/* SPDX-License-Identifier: Apache-2.0 */
/*
 * soft_device: what the tests of the soft driver share: an open driver with a current
 * context, and a device range with memory in it. Closing checks that nothing of the soft
 * driver's is left, and nothing of the process's.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "kernels/driver/driver.h"
#include "kernels/soft/soft.h"
#include "tests/support/leaks.h"

#define MIB (1ull << 20)
#define GRANULE (2 * MIB)

struct soft_device {
	struct leaks leaks;
	struct driver *driver;
	CUcontext context; /* of device 0, current */
	int (*fail_nth)(const char *, unsigned, CUresult);
	int (*faults)(const char *);
	uint64_t (*calls)(const char *);
	uint64_t (*live)(const char *);
	int (*kernel)(const struct hbm_soft_kernel *);
};

static inline void *soft_symbol(const struct driver *driver, const char *name)
{
	void *symbol = dlsym(driver->library, name);

	assert_non_null(symbol);
	return symbol;
}

/* Opens the driver and finds its own functions; no context. */
static inline void soft_open(struct soft_device *soft, const struct driver_soft_options *options)
{
	char error[512] = "";

	memset(soft, 0, sizeof(*soft));
	leaks_begin(&soft->leaks);
	if (driver_open(&soft->driver, DRIVER_SOFT, options, error, sizeof(error)) != 0)
		fail_msg("%s", error);
	*(void **)&soft->fail_nth = soft_symbol(soft->driver, "hbm_soft_fail");
	*(void **)&soft->faults = soft_symbol(soft->driver, "hbm_soft_faults");
	*(void **)&soft->calls = soft_symbol(soft->driver, "hbm_soft_calls");
	*(void **)&soft->live = soft_symbol(soft->driver, "hbm_soft_live");
	*(void **)&soft->kernel = soft_symbol(soft->driver, "hbm_soft_kernel");
}

static inline void soft_close(struct soft_device *soft)
{
	soft->driver = driver_close(soft->driver);
	assert_int_equal(leaks_end(&soft->leaks), 0);
}

static inline void assert_nothing_lives_but_contexts(const struct soft_device *soft)
{
	static const char *const kinds[] = {"handles", "mappings", "reservations", "registrations",
					    "streams", "events",   "modules"};

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (soft->live(kinds[i]) != 0)
			print_error("%s are left\n", kinds[i]);
		assert_int_equal(soft->live(kinds[i]), 0);
	}
}

/* cmocka's setup and teardown: two devices of 64 MiB, the first one's context current. */
static inline int soft_setup(void **state)
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

static inline int soft_teardown(void **state)
{
	struct soft_device *soft = *state;

	assert_int_equal(soft->driver->cuDevicePrimaryCtxRelease(0), CUDA_SUCCESS);
	assert_nothing_lives_but_contexts(soft);
	assert_int_equal(soft->live("contexts"), 0);
	soft_close(soft);
	free(soft);
	return 0;
}

static inline CUmemAllocationProp soft_prop(int device)
{
	return (CUmemAllocationProp){.type = CU_MEM_ALLOCATION_TYPE_PINNED,
				     .requestedHandleTypes =
					     CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
				     .location = {CU_MEM_LOCATION_TYPE_DEVICE, device}};
}

static inline CUresult soft_access(const struct driver *driver, CUdeviceptr address, size_t bytes,
				   int device, CUmemAccess_flags flags)
{
	CUmemAccessDesc access = {{CU_MEM_LOCATION_TYPE_DEVICE, device}, flags};

	return driver->cuMemSetAccess(address, bytes, &access, 1);
}

/* A reservation with memory of a device throughout, accessible by it; to be given back
 * with soft_memory_free(). */
static inline CUdeviceptr soft_memory(const struct driver *driver, int device, size_t bytes)
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

static inline void soft_memory_free(const struct driver *driver, CUdeviceptr address, size_t bytes)
{
	assert_int_equal(driver->cuMemUnmap(address, bytes), CUDA_SUCCESS);
	assert_int_equal(driver->cuMemAddressFree(address, bytes), CUDA_SUCCESS);
}

/* Registered host memory, of whole pages and shared with children; to be given back with
 * soft_host_free(). */
static inline void *soft_host(const struct driver *driver, size_t bytes, unsigned flags)
{
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(memory, MAP_FAILED);
	assert_int_equal(driver->cuMemHostRegister(memory, bytes, flags), CUDA_SUCCESS);
	return memory;
}

/* Where a device sees registered host memory, given its start. */
static inline CUdeviceptr soft_alias(const struct driver *driver, void *memory)
{
	CUdeviceptr alias;

	assert_int_equal(driver->cuMemHostGetDevicePointer(&alias, memory, 0), CUDA_SUCCESS);
	return alias;
}

static inline void soft_host_free(const struct driver *driver, void *memory, size_t bytes)
{
	assert_int_equal(driver->cuMemHostUnregister(memory), CUDA_SUCCESS);
	assert_int_equal(munmap(memory, bytes), 0);
}

static inline CUstream soft_stream(const struct driver *driver)
{
	CUstream stream;

	assert_int_equal(driver->cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING), CUDA_SUCCESS);
	return stream;
}
