/* SPDX-License-Identifier: Apache-2.0 */
/* Soft: physical memory: creating, the charge, handles after their release, exporting and
 * importing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/soft_device.h"

static CUmemGenericAllocationHandle create(const struct driver *driver, int device, size_t bytes)
{
	CUmemAllocationProp prop = soft_prop(device);
	CUmemGenericAllocationHandle handle;

	assert_int_equal(driver->cuMemCreate(&handle, bytes, &prop, 0), CUDA_SUCCESS);
	return handle;
}

static int export(const struct driver *driver, CUmemGenericAllocationHandle handle)
{
	int fd = -1;

	assert_int_equal(driver->cuMemExportToShareableHandle(
				 &fd, handle, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0),
			 CUDA_SUCCESS);
	assert_int_not_equal(fd, -1);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);

	return fd;
}

static CUresult import(const struct driver *driver, CUmemGenericAllocationHandle *handle, int fd)
{
	return driver->cuMemImportFromShareableHandle(handle, (void *)(intptr_t)fd,
						      CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
}

static uint64_t free_bytes(const struct driver *driver)
{
	size_t left, total;

	assert_int_equal(driver->cuMemGetInfo(&left, &total), CUDA_SUCCESS);
	assert_int_equal(total, 64 * MIB);
	return left;
}

static void test_granularity(void **state)
{
	const struct driver *driver = ((struct soft_device *)*state)->driver;
	CUmemAllocationProp prop = soft_prop(0), elsewhere = soft_prop(2), host = soft_prop(0);
	size_t granularity;

	host.location.type = CU_MEM_LOCATION_TYPE_HOST;
	assert_int_equal(driver->cuMemGetAllocationGranularity(&granularity, &prop,
							       CU_MEM_ALLOC_GRANULARITY_MINIMUM),
			 CUDA_SUCCESS);
	assert_int_equal(granularity, GRANULE);
	assert_int_equal(driver->cuMemGetAllocationGranularity(&granularity, &elsewhere, 0),
			 CUDA_ERROR_INVALID_DEVICE);
	assert_int_equal(driver->cuMemGetAllocationGranularity(&granularity, &host, 0),
			 CUDA_ERROR_NOT_SUPPORTED);
	assert_int_equal(driver->cuMemGetAllocationGranularity(NULL, &prop, 0),
			 CUDA_ERROR_INVALID_VALUE);
}

static void test_create_refuses(void **state)
{
	const struct driver *driver = ((struct soft_device *)*state)->driver;
	CUmemAllocationProp prop = soft_prop(0), other = soft_prop(0), nowhere = soft_prop(2);
	CUmemGenericAllocationHandle handle = 77;

	assert_int_equal(driver->cuMemCreate(&handle, 0, &prop, 0), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(driver->cuMemCreate(&handle, MIB, &prop, 0), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(driver->cuMemCreate(&handle, GRANULE + 4096, &prop, 0),
			 CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(driver->cuMemCreate(&handle, GRANULE, &prop, 1), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(driver->cuMemCreate(&handle, GRANULE, NULL, 0), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(driver->cuMemCreate(&handle, GRANULE, &nowhere, 0),
			 CUDA_ERROR_INVALID_DEVICE);
	other.type = CU_MEM_ALLOCATION_TYPE_INVALID;
	assert_int_equal(driver->cuMemCreate(&handle, GRANULE, &other, 0),
			 CUDA_ERROR_INVALID_VALUE);
	other = prop;
	other.requestedHandleTypes = (CUmemAllocationHandleType)8;
	assert_int_equal(driver->cuMemCreate(&handle, GRANULE, &other, 0),
			 CUDA_ERROR_NOT_SUPPORTED);
	other = prop;
	other.allocFlags.gpuDirectRDMACapable = 2;
	assert_int_equal(driver->cuMemCreate(&handle, GRANULE, &other, 0),
			 CUDA_ERROR_NOT_SUPPORTED);
	other = prop;
	other.allocFlags.reserved[3] = 1;
	assert_int_equal(driver->cuMemCreate(&handle, GRANULE, &other, 0),
			 CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(handle, 77);
}

static void test_memory_is_limited(void **state)
{
	const struct driver *driver = ((struct soft_device *)*state)->driver;
	CUmemAllocationProp prop = soft_prop(0);
	CUmemGenericAllocationHandle half = create(driver, 0, 32 * MIB), rest, more, other;

	assert_int_equal(driver->cuMemCreate(&more, 34 * MIB, &prop, 0), CUDA_ERROR_OUT_OF_MEMORY);
	assert_int_equal(driver->cuMemCreate(&more, SIZE_MAX - GRANULE + 1, &prop, 0),
			 CUDA_ERROR_OUT_OF_MEMORY);
	rest = create(driver, 0, 32 * MIB);
	assert_int_equal(free_bytes(driver), 0);
	assert_int_equal(driver->cuMemCreate(&more, GRANULE, &prop, 0), CUDA_ERROR_OUT_OF_MEMORY);
	other = create(driver, 1, 64 * MIB); /* each device has its own */
	assert_int_equal(driver->cuMemRelease(half), CUDA_SUCCESS);
	assert_int_equal(free_bytes(driver), 32 * MIB);
	more = create(driver, 0, 32 * MIB);
	assert_int_equal(driver->cuMemRelease(more), CUDA_SUCCESS);
	assert_int_equal(driver->cuMemRelease(rest), CUDA_SUCCESS);
	assert_int_equal(driver->cuMemRelease(other), CUDA_SUCCESS);
	assert_int_equal(free_bytes(driver), 64 * MIB);
}

static void test_handle_after_release(void **state)
{
	const struct driver *driver = ((struct soft_device *)*state)->driver;
	CUmemGenericAllocationHandle handle = create(driver, 0, GRANULE), next;
	CUmemAllocationProp prop;
	CUdeviceptr address;
	int fd = -1;

	assert_int_equal(driver->cuMemRelease(handle), CUDA_SUCCESS);
	next = create(driver, 0, GRANULE); /* in the same slot */
	assert_int_not_equal(handle, next);
	assert_int_equal(driver->cuMemRelease(handle), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(driver->cuMemRelease(0), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(driver->cuMemRelease(UINT64_MAX), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(driver->cuMemExportToShareableHandle(
				 &fd, handle, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0),
			 CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(driver->cuMemGetAllocationPropertiesFromHandle(&prop, handle),
			 CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(driver->cuMemAddressReserve(&address, GRANULE, 0, 0, 0), CUDA_SUCCESS);
	assert_int_equal(driver->cuMemMap(address, GRANULE, 0, handle, 0),
			 CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(driver->cuMemAddressFree(address, GRANULE), CUDA_SUCCESS);
	assert_int_equal(driver->cuMemRelease(next), CUDA_SUCCESS);
	assert_int_equal(fd, -1);
}

static void test_properties(void **state)
{
	const struct driver *driver = ((struct soft_device *)*state)->driver;
	CUmemGenericAllocationHandle handle = create(driver, 1, GRANULE);
	CUmemAllocationProp prop, wanted = soft_prop(1);

	assert_int_equal(driver->cuMemGetAllocationPropertiesFromHandle(&prop, handle),
			 CUDA_SUCCESS);
	assert_memory_equal(&prop, &wanted, sizeof(prop));
	assert_int_equal(driver->cuMemRelease(handle), CUDA_SUCCESS);
}

static void test_unshareable_is_not_exported(void **state)
{
	const struct driver *driver = ((struct soft_device *)*state)->driver;
	CUmemAllocationProp prop = soft_prop(0);
	CUmemGenericAllocationHandle handle;
	int fd;

	prop.requestedHandleTypes = CU_MEM_HANDLE_TYPE_NONE;
	assert_int_equal(driver->cuMemCreate(&handle, GRANULE, &prop, 0), CUDA_SUCCESS);
	assert_int_equal(driver->cuMemExportToShareableHandle(
				 &fd, handle, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0),
			 CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(driver->cuMemRelease(handle), CUDA_SUCCESS);
}

static void test_mapping_keeps_memory(void **state)
{
	const struct driver *driver = ((struct soft_device *)*state)->driver;
	CUdeviceptr address = soft_memory(driver, 0, GRANULE); /* released already */
	CUmemGenericAllocationHandle handle;
	uint64_t value = 4711, seen = 0;

	assert_int_equal(free_bytes(driver), 62 * MIB);
	assert_int_equal(driver->cuMemcpyHtoD(address + 8, &value, sizeof(value)), CUDA_SUCCESS);
	assert_int_equal(driver->cuMemcpyDtoH(&seen, address + 8, sizeof(seen)), CUDA_SUCCESS);
	assert_int_equal(seen, value);

	/* The handle comes back to life from the address. */
	assert_int_equal(
		driver->cuMemRetainAllocationHandle(&handle, (void *)(uintptr_t)(address + 12345)),
		CUDA_SUCCESS);
	soft_memory_free(driver, address, GRANULE);
	assert_int_equal(free_bytes(driver), 62 * MIB);
	assert_int_equal(driver->cuMemRelease(handle), CUDA_SUCCESS);
	assert_int_equal(free_bytes(driver), 64 * MIB);
	assert_int_equal(driver->cuMemRetainAllocationHandle(&handle, (void *)(uintptr_t)address),
			 CUDA_ERROR_INVALID_VALUE);
}

static void test_fresh_memory_is_zero(void **state)
{
	const struct driver *driver = ((struct soft_device *)*state)->driver;
	static const char zeros[4096];
	char seen[4096];

	for (int round = 0; round < 2; round++) {
		CUdeviceptr address = soft_memory(driver, 0, GRANULE);

		assert_int_equal(driver->cuMemcpyDtoH(seen, address + MIB, sizeof(seen)),
				 CUDA_SUCCESS);
		assert_memory_equal(seen, zeros, sizeof(seen));
		memset(seen, 0xaa, sizeof(seen));
		assert_int_equal(driver->cuMemcpyHtoD(address + MIB, seen, sizeof(seen)),
				 CUDA_SUCCESS);
		soft_memory_free(driver, address, GRANULE);
	}
}

static CUdeviceptr map_handle(const struct driver *driver, CUmemGenericAllocationHandle handle,
			      size_t bytes, int device)
{
	CUdeviceptr address;

	assert_int_equal(driver->cuMemAddressReserve(&address, bytes, 0, 0, 0), CUDA_SUCCESS);
	assert_int_equal(driver->cuMemMap(address, bytes, 0, handle, 0), CUDA_SUCCESS);
	assert_int_equal(
		soft_access(driver, address, bytes, device, CU_MEM_ACCESS_FLAGS_PROT_READWRITE),
		CUDA_SUCCESS);

	return address;
}

static void test_import_shares_bytes(void **state)
{
	const struct driver *driver = ((struct soft_device *)*state)->driver;
	CUmemGenericAllocationHandle handle = create(driver, 1, GRANULE), imported;
	CUmemAllocationProp prop, wanted = soft_prop(1);
	CUdeviceptr there, here;
	uint64_t value = 99, seen = 0;
	int fd = export(driver, handle);

	assert_int_equal(import(driver, &imported, fd), CUDA_SUCCESS);
	close(fd);
	assert_int_equal(driver->cuMemGetAllocationPropertiesFromHandle(&prop, imported),
			 CUDA_SUCCESS);
	assert_memory_equal(&prop, &wanted, sizeof(prop)); /* the device is that of its maker */
	there = map_handle(driver, handle, GRANULE, 0);
	here = map_handle(driver, imported, GRANULE, 0);
	assert_int_equal(driver->cuMemcpyHtoD(there, &value, sizeof(value)), CUDA_SUCCESS);
	assert_int_equal(driver->cuMemcpyDtoH(&seen, here, sizeof(seen)), CUDA_SUCCESS);
	assert_int_equal(seen, value);
	soft_memory_free(driver, there, GRANULE);
	soft_memory_free(driver, here, GRANULE);
	assert_int_equal(driver->cuMemRelease(handle), CUDA_SUCCESS);
	assert_int_equal(driver->cuMemRelease(imported), CUDA_SUCCESS);
}

static void test_import_refuses_foreign_fds(void **state)
{
	const struct driver *driver = ((struct soft_device *)*state)->driver;
	CUmemGenericAllocationHandle handle = create(driver, 0, GRANULE), imported;
	int unsealed = memfd_create("hbm-soft-device-0", MFD_CLOEXEC),
	    null = open("/dev/null", O_RDWR | O_CLOEXEC);
	int elsewhere = memfd_create("hbm-soft-device-2", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int fd = export(driver, handle), readable;
	char path[64];

	assert_int_equal(ftruncate(unsealed, GRANULE), 0);
	assert_int_equal(ftruncate(elsewhere, GRANULE), 0);
	assert_int_equal(fcntl(elsewhere, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL),
			 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	readable = open(path, O_RDONLY | O_CLOEXEC);
	assert_int_equal(import(driver, &imported, -1), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(import(driver, &imported, null), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(import(driver, &imported, unsealed), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(import(driver, &imported, readable), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(import(driver, &imported, elsewhere), CUDA_ERROR_INVALID_DEVICE);
	assert_int_equal(driver->cuMemImportFromShareableHandle(&imported, (void *)(intptr_t)fd,
								CU_MEM_HANDLE_TYPE_NONE),
			 CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(driver->cuMemRelease(handle), CUDA_SUCCESS);
	close(unsealed);
	close(null);
	close(elsewhere);
	close(readable);
	close(fd);
}

/* One who has the fd cannot cut the memory short under the others. */
static void test_size_is_sealed(void **state)
{
	const struct driver *driver = ((struct soft_device *)*state)->driver;
	CUmemGenericAllocationHandle handle = create(driver, 0, GRANULE);
	int fd = export(driver, handle);

	assert_int_equal(ftruncate(fd, 0), -1);
	assert_int_equal(errno, EPERM);
	close(fd);
	assert_int_equal(driver->cuMemRelease(handle), CUDA_SUCCESS);
}

static void test_fd_keeps_memory_charged(void **state)
{
	const struct driver *driver = ((struct soft_device *)*state)->driver;
	CUmemGenericAllocationHandle handle = create(driver, 0, 64 * MIB), next;
	CUmemAllocationProp prop = soft_prop(0);
	int fd = export(driver, handle), copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);

	assert_int_equal(driver->cuMemRelease(handle), CUDA_SUCCESS);
	assert_int_equal(free_bytes(driver), 0);
	close(fd);
	assert_int_equal(driver->cuMemCreate(&next, GRANULE, &prop, 0), CUDA_ERROR_OUT_OF_MEMORY);
	close(copy);
	next = create(driver, 0, 64 * MIB);
	assert_int_equal(driver->cuMemRelease(next), CUDA_SUCCESS);
	assert_int_equal(free_bytes(driver), 64 * MIB);
}

/* The other process maps what it was given, closes the fd, says so, and waits to be
 * killed. */
static void hold_in_child(int fd, int told)
{
	void *memory = mmap(NULL, GRANULE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	close(fd);
	if (memory == MAP_FAILED || write(told, "x", 1) != 1)
		_exit(1);
	for (;;)
		pause();
}

static void test_foreign_mapping_keeps_memory_charged(void **state)
{
	const struct driver *driver = ((struct soft_device *)*state)->driver;
	CUmemGenericAllocationHandle handle = create(driver, 0, GRANULE);
	int fd = export(driver, handle), pipe_fds[2], status;
	char said;
	pid_t child;

	/* Its own reference must not be what keeps the memory. */
	assert_int_equal(driver->cuMemRelease(handle), CUDA_SUCCESS);
	assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
	child = fork();
	assert_int_not_equal(child, -1);
	if (child == 0)
		hold_in_child(fd, pipe_fds[1]);

	close(fd);
	assert_int_equal(read(pipe_fds[0], &said, 1), 1);
	assert_int_equal(free_bytes(driver), 62 * MIB);
	assert_int_equal(kill(child, SIGKILL), 0);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(free_bytes(driver), 64 * MIB);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
}

/* What a client does with an fd it was sent; the number of the step that failed. */
static int import_and_answer(const struct driver *driver, int fd)
{
	CUmemAccessDesc access = {{CU_MEM_LOCATION_TYPE_DEVICE, 1},
				  CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
	CUmemGenericAllocationHandle handle;
	CUcontext context;
	CUdeviceptr address;
	uint64_t value = 0;

	if (driver->cuDevicePrimaryCtxRetain(&context, 1) != CUDA_SUCCESS ||
	    driver->cuCtxSetCurrent(context) != CUDA_SUCCESS)
		return 2;

	if (import(driver, &handle, fd) != CUDA_SUCCESS ||
	    driver->cuMemAddressReserve(&address, GRANULE, 0, 0, 0) != CUDA_SUCCESS ||
	    driver->cuMemMap(address, GRANULE, 0, handle, 0) != CUDA_SUCCESS ||
	    driver->cuMemSetAccess(address, GRANULE, &access, 1) != CUDA_SUCCESS)
		return 3;

	if (driver->cuMemcpyDtoH(&value, address, sizeof(value)) != CUDA_SUCCESS || value != 0x600d)
		return 4;

	value = 0xbeef;

	return driver->cuMemcpyHtoD(address + 8, &value, sizeof(value)) == CUDA_SUCCESS ? 0 : 5;
}

/* The main() of a second process: it imports after the exporter has released the handle. */
static int import_in_child(int fd)
{
	const struct driver_soft_options options = {.devices = 2, .memory = 64 * MIB};
	struct driver *driver;
	int status;

	if (driver_open(&driver, DRIVER_SOFT, &options, NULL, 0) != 0)
		return 1;

	status = import_and_answer(driver, fd);
	driver_close(driver);

	return status;
}

static void test_import_in_another_process(void **state)
{
	const struct driver *driver = ((struct soft_device *)*state)->driver;
	CUmemGenericAllocationHandle handle = create(driver, 1, GRANULE);
	CUdeviceptr address = map_handle(driver, handle, GRANULE, 0);
	int fd = export(driver, handle), status;
	uint64_t value = 0x600d, seen = 0;
	char number[16];
	pid_t child;

	assert_int_equal(driver->cuMemcpyHtoD(address, &value, sizeof(value)), CUDA_SUCCESS);
	assert_int_equal(driver->cuMemRelease(handle), CUDA_SUCCESS);
	assert_int_equal(fcntl(fd, F_SETFD, 0), 0);
	snprintf(number, sizeof(number), "%d", fd);
	child = fork();
	assert_int_not_equal(child, -1);

	if (child == 0) {
		execl("/proc/self/exe", "import", number, NULL);
		_exit(126);
	}

	close(fd);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_int_equal(driver->cuMemcpyDtoH(&seen, address + 8, sizeof(seen)), CUDA_SUCCESS);
	assert_int_equal(seen, 0xbeef);
	soft_memory_free(driver, address, GRANULE);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_granularity, soft_setup, soft_teardown),
		cmocka_unit_test_setup_teardown(test_create_refuses, soft_setup, soft_teardown),
		cmocka_unit_test_setup_teardown(test_memory_is_limited, soft_setup, soft_teardown),
		cmocka_unit_test_setup_teardown(test_handle_after_release, soft_setup,
						soft_teardown),
		cmocka_unit_test_setup_teardown(test_properties, soft_setup, soft_teardown),
		cmocka_unit_test_setup_teardown(test_unshareable_is_not_exported, soft_setup,
						soft_teardown),
		cmocka_unit_test_setup_teardown(test_mapping_keeps_memory, soft_setup,
						soft_teardown),
		cmocka_unit_test_setup_teardown(test_fresh_memory_is_zero, soft_setup,
						soft_teardown),
		cmocka_unit_test_setup_teardown(test_import_shares_bytes, soft_setup,
						soft_teardown),
		cmocka_unit_test_setup_teardown(test_import_refuses_foreign_fds, soft_setup,
						soft_teardown),
		cmocka_unit_test_setup_teardown(test_size_is_sealed, soft_setup, soft_teardown),
		cmocka_unit_test_setup_teardown(test_fd_keeps_memory_charged, soft_setup,
						soft_teardown),
		cmocka_unit_test_setup_teardown(test_foreign_mapping_keeps_memory_charged,
						soft_setup, soft_teardown),
		cmocka_unit_test_setup_teardown(test_import_in_another_process, soft_setup,
						soft_teardown),
	};

	if (argc == 2 && strcmp(argv[0], "import") == 0)
		return import_in_child(atoi(argv[1]));
	return cmocka_run_group_tests(tests, NULL, NULL);
}
