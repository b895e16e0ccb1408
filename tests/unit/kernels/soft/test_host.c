/* SPDX-License-Identifier: Apache-2.0 */
/* Soft: registered host memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sys/mman.h>
#include <unistd.h>

#include "tests/support/soft_device.h"

static void *host_pages(size_t pages)
{
	void *memory = mmap(NULL, pages * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			    -1, 0);

	assert_ptr_not_equal(memory, MAP_FAILED);
	return memory;
}

static void test_refuses(void **state)
{
	const struct driver *driver = ((struct soft_device *)*state)->driver;
	char *memory = host_pages(4);

	assert_int_equal(driver->cuMemHostRegister(NULL, 4096, 0), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(driver->cuMemHostRegister(memory, 0, 0), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(driver->cuMemHostRegister(memory, SIZE_MAX, 0), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(driver->cuMemHostRegister(memory, 4096, 16), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(driver->cuMemHostRegister(memory, 4096, CU_MEMHOSTREGISTER_IOMEMORY),
			 CUDA_ERROR_NOT_SUPPORTED);
	assert_int_equal(munmap(memory + 4096, 4096), 0);
	assert_int_equal(driver->cuMemHostRegister(memory, 3 * 4096, 0),
			 CUDA_ERROR_INVALID_VALUE); /* a hole */
	assert_int_equal(driver->cuMemHostUnregister(memory),
			 CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED);
	munmap(memory, 4 * 4096);
}

/* A page a device could not write cannot be pinned for writing; nor can what is not
 * there. */
static void test_only_what_can_be_pinned(void **state)
{
	const struct driver *driver = ((struct soft_device *)*state)->driver;
	char *memory = host_pages(2);
	void *beyond;
	int file;

	assert_int_equal(mprotect(memory + 4096, 4096, PROT_READ), 0);
	assert_int_equal(driver->cuMemHostRegister(memory, 2 * 4096, 0), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(driver->cuMemHostRegister(memory, 2 * 4096, CU_MEMHOSTREGISTER_READ_ONLY),
			 CUDA_SUCCESS);
	assert_int_equal(driver->cuMemHostUnregister(memory), CUDA_SUCCESS);
	assert_int_equal(mprotect(memory + 4096, 4096, PROT_NONE), 0);
	assert_int_equal(driver->cuMemHostRegister(memory, 2 * 4096, CU_MEMHOSTREGISTER_READ_ONLY),
			 CUDA_ERROR_INVALID_VALUE);
	munmap(memory, 2 * 4096);
	file = memfd_create("short", MFD_CLOEXEC);
	assert_int_not_equal(file, -1);
	assert_int_equal(ftruncate(file, 4096), 0);
	beyond = mmap(NULL, 2 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	assert_ptr_not_equal(beyond, MAP_FAILED);
	assert_int_equal(driver->cuMemHostRegister(beyond, 2 * 4096, 0), CUDA_ERROR_INVALID_VALUE);
	munmap(beyond, 2 * 4096);
	close(file);
}

static void test_overlap(void **state)
{
	const struct soft_device *soft = *state;
	const struct driver *driver = soft->driver;
	char *memory = host_pages(4);

	assert_int_equal(driver->cuMemHostRegister(memory + 4096, 4096, 0), CUDA_SUCCESS);
	assert_int_equal(driver->cuMemHostRegister(memory, 4 * 4096, 0),
			 CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED);
	assert_int_equal(driver->cuMemHostRegister(memory + 4096, 4096, 0),
			 CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED);
	assert_int_equal(driver->cuMemHostRegister(memory, 4097, 0),
			 CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED);
	assert_int_equal(driver->cuMemHostRegister(memory + 8191, 1, 0),
			 CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED);

	/* Neighbours are none; but two registrations do not share a page. */
	assert_int_equal(driver->cuMemHostRegister(memory, 4096, 0), CUDA_SUCCESS);
	assert_int_equal(driver->cuMemHostRegister(memory + 2 * 4096, 100, 0), CUDA_SUCCESS);
	assert_int_equal(driver->cuMemHostRegister(memory + 2 * 4096 + 200, 100, 0),
			 CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED);
	assert_int_equal(soft->call.live("registrations"), 3);
	assert_int_equal(driver->cuMemHostUnregister(memory + 1),
			 CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED);
	assert_int_equal(driver->cuMemHostUnregister(memory + 4096), CUDA_SUCCESS);
	assert_int_equal(driver->cuMemHostUnregister(memory + 4096),
			 CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED);
	assert_int_equal(driver->cuMemHostUnregister(memory), CUDA_SUCCESS);
	assert_int_equal(driver->cuMemHostUnregister(memory + 2 * 4096), CUDA_SUCCESS);
	munmap(memory, 4 * 4096);
}

static void test_copies_stay_within_one_registration(void **state)
{
	const struct driver *driver = ((struct soft_device *)*state)->driver;
	CUdeviceptr device = soft_memory(driver, 0, GRANULE);
	CUstream stream = soft_stream(driver);
	char *memory = host_pages(2);

	assert_int_equal(driver->cuMemHostRegister(memory, 4096, 0), CUDA_SUCCESS);
	assert_int_equal(driver->cuMemHostRegister(memory + 4096, 4096, 0), CUDA_SUCCESS);
	assert_int_equal(driver->cuMemcpyHtoDAsync(device, memory, 4096, stream), CUDA_SUCCESS);
	assert_int_equal(driver->cuMemcpyHtoDAsync(device, memory + 4096, 4096, stream),
			 CUDA_SUCCESS);
	assert_int_equal(driver->cuMemcpyHtoDAsync(device, memory, 4097, stream),
			 CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED);
	assert_int_equal(driver->cuStreamSynchronize(stream), CUDA_SUCCESS);
	assert_int_equal(driver->cuMemHostUnregister(memory), CUDA_SUCCESS);
	assert_int_equal(driver->cuMemcpyHtoDAsync(device, memory, 1, stream),
			 CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED);
	assert_int_equal(driver->cuMemHostUnregister(memory + 4096), CUDA_SUCCESS);
	assert_int_equal(driver->cuStreamDestroy(stream), CUDA_SUCCESS);
	soft_memory_free(driver, device, GRANULE);
	munmap(memory, 2 * 4096);
}

static void test_read_only_memory_is_no_target(void **state)
{
	const struct driver *driver = ((struct soft_device *)*state)->driver;
	CUdeviceptr device = soft_memory(driver, 0, GRANULE);
	CUstream stream = soft_stream(driver);
	char *memory = soft_host(driver, 4096, CU_MEMHOSTREGISTER_READ_ONLY);

	assert_int_equal(driver->cuMemcpyHtoDAsync(device, memory, 4096, stream), CUDA_SUCCESS);
	assert_int_equal(driver->cuMemcpyDtoHAsync(memory, device, 4096, stream),
			 CUDA_ERROR_ILLEGAL_ADDRESS);
	assert_int_equal(driver->cuStreamSynchronize(stream), CUDA_SUCCESS);
	assert_int_equal(driver->cuStreamDestroy(stream), CUDA_SUCCESS);
	soft_host_free(driver, memory, 4096);
	soft_memory_free(driver, device, GRANULE);
}

static void test_device_pointer(void **state)
{
	const struct soft_device *soft = *state;
	const struct driver *driver = soft->driver;
	char *plain = soft_host(driver, 4096, 0),
	     *mapped = soft_host(driver, 4096, CU_MEMHOSTREGISTER_DEVICEMAP);
	CUstream stream = soft_stream(driver);
	CUdeviceptr address;

	assert_int_equal(driver->cuMemHostGetDevicePointer(&address, plain, 0),
			 CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(driver->cuMemHostGetDevicePointer(&address, mapped, 1),
			 CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(driver->cuMemHostGetDevicePointer(&address, mapped + 8, 0),
			 CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(driver->cuMemHostGetDevicePointer(NULL, mapped, 0),
			 CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(driver->cuMemHostGetDevicePointer(&address, mapped, 0), CUDA_SUCCESS);
	assert_int_equal(driver->cuStreamWriteValue64(stream, address + 8, 42, 0), CUDA_SUCCESS);

	/* A device does not see it at the host's address, and not at all if it is not
	 * mapped. */
	assert_int_equal(
		driver->cuStreamWriteValue64(stream, (CUdeviceptr)(uintptr_t)mapped, 42, 0),
		CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(driver->cuStreamWriteValue64(
				 stream,
				 address + (CUdeviceptr)((uintptr_t)plain - (uintptr_t)mapped), 42,
				 0),
			 CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(driver->cuStreamSynchronize(stream), CUDA_SUCCESS);
	assert_int_equal(*(uint64_t *)(void *)(mapped + 8), 42);
	assert_int_equal(driver->cuStreamDestroy(stream), CUDA_SUCCESS);
	soft_host_free(driver, plain, 4096);
	soft_host_free(driver, mapped, 4096);
}

static void test_portable_memory_is_for_all_contexts(void **state)
{
	const struct soft_device *soft = *state;
	const struct driver *driver = soft->driver;
	const unsigned mapped = CU_MEMHOSTREGISTER_DEVICEMAP,
		       both = mapped | CU_MEMHOSTREGISTER_PORTABLE;
	char *own = soft_host(driver, 4096, mapped), *portable = soft_host(driver, 4096, both);
	CUcontext second;
	CUdeviceptr address;

	assert_int_equal(driver->cuDevicePrimaryCtxRetain(&second, 1), CUDA_SUCCESS);
	assert_int_equal(driver->cuCtxSetCurrent(second), CUDA_SUCCESS);
	assert_int_equal(driver->cuMemHostGetDevicePointer(&address, own, 0),
			 CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(driver->cuMemHostGetDevicePointer(&address, portable, 0), CUDA_SUCCESS);
	assert_int_equal(driver->cuMemHostUnregister(own), CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED);
	assert_int_equal(driver->cuCtxSetCurrent(soft->context), CUDA_SUCCESS);
	assert_int_equal(driver->cuDevicePrimaryCtxRelease(1), CUDA_SUCCESS);
	soft_host_free(driver, own, 4096);
	soft_host_free(driver, portable, 4096);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_refuses, soft_setup, soft_teardown),
		cmocka_unit_test_setup_teardown(test_only_what_can_be_pinned, soft_setup,
						soft_teardown),
		cmocka_unit_test_setup_teardown(test_overlap, soft_setup, soft_teardown),
		cmocka_unit_test_setup_teardown(test_copies_stay_within_one_registration,
						soft_setup, soft_teardown),
		cmocka_unit_test_setup_teardown(test_read_only_memory_is_no_target, soft_setup,
						soft_teardown),
		cmocka_unit_test_setup_teardown(test_device_pointer, soft_setup, soft_teardown),
		cmocka_unit_test_setup_teardown(test_portable_memory_is_for_all_contexts,
						soft_setup, soft_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
