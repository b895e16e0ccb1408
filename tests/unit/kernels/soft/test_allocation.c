/* SPDX-License-Identifier: Apache-2.0 */
/* Soft: memory of cuMemAlloc, and its handles for other processes: what they give, and what
 * is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/support/child.h"
#include "tests/support/soft_device.h"

#define LAZY CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS

static uint64_t free_bytes(const struct driver *driver)
{
	size_t left, total;

	assert_int_equal(driver->cuMemGetInfo(&left, &total), CUDA_SUCCESS);
	return left;
}

static CUdeviceptr allocate(const struct driver *driver, size_t bytes)
{
	CUdeviceptr address = 0;

	assert_int_equal(driver->cuMemAlloc(&address, bytes), CUDA_SUCCESS);
	assert_int_not_equal(address, 0);
	return address;
}

static void test_allocations_are_charged(void **state)
{
	const struct driver *driver = ((struct soft_device *)*state)->driver;
	CUdeviceptr address = allocate(driver, 3 * MIB), other = 0;
	uint64_t value = 4711, seen = 0;

	assert_int_equal(free_bytes(driver), 60 * MIB);
	assert_int_equal(driver->cuMemAlloc(&other, 61 * MIB), CUDA_ERROR_OUT_OF_MEMORY);
	assert_int_equal(driver->cuMemAlloc(&other, SIZE_MAX), CUDA_ERROR_OUT_OF_MEMORY);
	assert_int_equal(driver->cuMemAlloc(&other, 0), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(driver->cuMemcpyHtoD(address + 8, &value, sizeof(value)), CUDA_SUCCESS);
	assert_int_equal(driver->cuMemcpyDtoH(&seen, address + 8, sizeof(seen)), CUDA_SUCCESS);
	assert_int_equal(seen, value);
	assert_int_equal(driver->cuMemFree(address + GRANULE), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(driver->cuMemFree(address), CUDA_SUCCESS);
	assert_int_equal(driver->cuMemFree(address), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(free_bytes(driver), 64 * MIB);
}

static void test_ranges(void **state)
{
	const struct driver *driver = ((struct soft_device *)*state)->driver;
	CUdeviceptr address = allocate(driver, 3 * MIB), base,
		    mapped = soft_memory(driver, 0, GRANULE);
	size_t bytes;

	assert_int_equal(driver->cuMemGetAddressRange(&base, &bytes, address + MIB), CUDA_SUCCESS);
	assert_int_equal(base, address);
	assert_int_equal(bytes, 3 * MIB);
	assert_int_equal(driver->cuMemGetAddressRange(&base, NULL, mapped + 5), CUDA_SUCCESS);
	assert_int_equal(base, mapped);
	assert_int_equal(driver->cuMemFree(mapped), CUDA_ERROR_INVALID_VALUE);
	soft_memory_free(driver, mapped, GRANULE);
	assert_int_equal(driver->cuMemFree(address), CUDA_SUCCESS);
	assert_int_equal(driver->cuMemGetAddressRange(&base, &bytes, address),
			 CUDA_ERROR_NOT_FOUND);
}

static void test_calls_for_virtual_memory_are_refused(void **state)
{
	const struct driver *driver = ((struct soft_device *)*state)->driver;
	CUdeviceptr address = allocate(driver, GRANULE);
	CUmemGenericAllocationHandle handle;

	assert_int_equal(driver->cuMemUnmap(address, GRANULE), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(driver->cuMemAddressFree(address, GRANULE), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(soft_access(driver, address, GRANULE, 1, CU_MEM_ACCESS_FLAGS_PROT_READ),
			 CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(driver->cuMemRetainAllocationHandle(&handle, (void *)(uintptr_t)address),
			 CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(driver->cuDevicePrimaryCtxRelease(0), CUDA_ERROR_ILLEGAL_STATE);
	assert_int_equal(driver->cuMemFree(address), CUDA_SUCCESS);
}

/* ---- Handles ---- */

/* What two processes tell each other. */
struct board {
	CUipcMemHandle handle;
	CUdeviceptr address;
};

static struct board *board_at(int fd)
{
	struct board *board = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	assert_ptr_not_equal(board, MAP_FAILED);
	return board;
}

/* An engine: allocates, writes what the other one expects, and waits to be killed. */
static void lend(const struct spawn *spawn, uint64_t number)
{
	const struct driver_soft_options options = {.devices = 2, .memory = 64 * MIB};
	struct board *board = board_at((int)number);
	struct soft_device soft;
	uint64_t value = 0x600d;

	(void)spawn;
	soft_open(&soft, &options);
	assert_int_equal(soft.driver->cuDevicePrimaryCtxRetain(&soft.context, 0), CUDA_SUCCESS);
	assert_int_equal(soft.driver->cuCtxSetCurrent(soft.context), CUDA_SUCCESS);
	board->address = allocate(soft.driver, 3 * MIB);
	assert_int_equal(soft.driver->cuMemcpyHtoD(board->address + 8, &value, sizeof(value)),
			 CUDA_SUCCESS);
	assert_int_equal(soft.driver->cuIpcGetMemHandle(&board->handle, board->address + 8),
			 CUDA_SUCCESS);
	child_tell();
	for (;;)
		pause();
}

static struct board *lend_start(struct child *child, int *fd)
{
	const struct spawn nobody = {.dir = "/"};

	*fd = memfd_create("board", 0);
	assert_int_equal(ftruncate(*fd, sizeof(struct board)), 0);
	child_start(child, "lend", &nobody, (uint64_t)*fd);
	child_await(child);
	return board_at(*fd);
}

static void lend_end(struct board *board, int fd)
{
	munmap(board, sizeof(*board));
	close(fd);
}

static void test_another_process_opens_it_once(void **state)
{
	const struct driver *driver = ((struct soft_device *)*state)->driver;
	struct child child;
	CUdeviceptr address = 0, again = 0;
	uint64_t seen = 0;
	size_t bytes = 0;
	int fd;
	struct board *board = lend_start(&child, &fd);

	assert_int_equal(driver->cuIpcOpenMemHandle(&address, board->handle, 0),
			 CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(driver->cuIpcOpenMemHandle(&address, board->handle, LAZY), CUDA_SUCCESS);
	assert_int_equal(driver->cuIpcOpenMemHandle(&again, board->handle, LAZY),
			 CUDA_ERROR_ALREADY_MAPPED);
	assert_int_equal(driver->cuMemGetAddressRange(NULL, &bytes, address + MIB), CUDA_SUCCESS);
	assert_int_equal(bytes, 3 * MIB);
	assert_int_equal(driver->cuMemcpyDtoH(&seen, address + 8, sizeof(seen)), CUDA_SUCCESS);
	assert_int_equal(seen, 0x600d);
	assert_int_equal(driver->cuMemFree(address), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(driver->cuIpcCloseMemHandle(address), CUDA_SUCCESS);
	assert_int_equal(driver->cuIpcCloseMemHandle(address), CUDA_ERROR_INVALID_VALUE);

	/* closed, it can be opened again */
	assert_int_equal(driver->cuIpcOpenMemHandle(&address, board->handle, LAZY), CUDA_SUCCESS);
	assert_int_equal(driver->cuIpcCloseMemHandle(address), CUDA_SUCCESS);
	child_kill(&child);
	lend_end(board, fd);
}

static void test_a_handle_ends_with_its_process(void **state)
{
	const struct driver *driver = ((struct soft_device *)*state)->driver;
	struct child child;
	CUdeviceptr address = 0, again = 0;
	uint64_t seen = 0;
	int fd;
	struct board *board = lend_start(&child, &fd);

	assert_int_equal(driver->cuIpcOpenMemHandle(&address, board->handle, LAZY), CUDA_SUCCESS);
	child_kill(&child);

	/* what is open lives on until it is closed */
	assert_int_equal(driver->cuMemcpyDtoH(&seen, address + 8, sizeof(seen)), CUDA_SUCCESS);
	assert_int_equal(seen, 0x600d);
	assert_int_equal(driver->cuIpcCloseMemHandle(address), CUDA_SUCCESS);
	assert_int_equal(driver->cuIpcOpenMemHandle(&again, board->handle, LAZY),
			 CUDA_ERROR_MAP_FAILED);
	lend_end(board, fd);
}

static void test_handles_refuse(void **state)
{
	const struct driver *driver = ((struct soft_device *)*state)->driver;
	CUdeviceptr address = allocate(driver, MIB), mapped = soft_memory(driver, 0, GRANULE),
		    opened = 0;
	CUipcMemHandle handle, wrong;

	assert_int_equal(driver->cuIpcGetMemHandle(&handle, mapped), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(driver->cuIpcGetMemHandle(&handle, 12345), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(driver->cuIpcGetMemHandle(NULL, address), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(driver->cuIpcGetMemHandle(&handle, address), CUDA_SUCCESS);
	assert_int_equal(driver->cuIpcOpenMemHandle(&opened, handle, LAZY),
			 CUDA_ERROR_INVALID_CONTEXT);
	memset(&wrong, 0x5a, sizeof(wrong));
	assert_int_equal(driver->cuIpcOpenMemHandle(&opened, wrong, LAZY),
			 CUDA_ERROR_INVALID_HANDLE);
	assert_int_equal(driver->cuIpcCloseMemHandle(address), CUDA_ERROR_INVALID_VALUE);
	soft_memory_free(driver, mapped, GRANULE);
	assert_int_equal(driver->cuMemFree(address), CUDA_SUCCESS);
}

static void test_another_device_cannot_open_it(void **state)
{
	const struct soft_device *soft = *state;
	const struct driver *driver = soft->driver;
	struct child child;
	CUdeviceptr address = 0;
	CUcontext other;
	int fd;
	struct board *board = lend_start(&child, &fd);

	assert_int_equal(driver->cuDevicePrimaryCtxRetain(&other, 1), CUDA_SUCCESS);
	assert_int_equal(driver->cuCtxSetCurrent(other), CUDA_SUCCESS);
	assert_int_equal(driver->cuIpcOpenMemHandle(&address, board->handle, LAZY),
			 CUDA_ERROR_MAP_FAILED);
	assert_int_equal(driver->cuCtxSetCurrent(soft->context), CUDA_SUCCESS);
	assert_int_equal(driver->cuDevicePrimaryCtxRelease(1), CUDA_SUCCESS);
	child_kill(&child);
	lend_end(board, fd);
}

int main(int argc, char **argv)
{
	static const struct child_part parts[] = {{"lend", lend}, {NULL, NULL}};
#define TEST(name) cmocka_unit_test_setup_teardown(name, soft_setup, soft_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_allocations_are_charged),
		TEST(test_ranges),
		TEST(test_calls_for_virtual_memory_are_refused),
		TEST(test_another_process_opens_it_once),
		TEST(test_a_handle_ends_with_its_process),
		TEST(test_handles_refuse),
		TEST(test_another_device_cannot_open_it),
	};
#undef TEST

	child_main(argc, argv, parts);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
