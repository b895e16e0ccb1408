/* SPDX-License-Identifier: Apache-2.0 */
/* Host memory by the calls of a driver: what is mapped, exported and imported is the same memory; its
 * size stays; and it is free when it is released and no other file description of it is open. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/device/host_driver.h"
#include "tests/support/leaks.h"

#define SLAB (2ull << 20)
#define TOTAL (16 * SLAB)

static const struct driver *host;
static struct leaks leaks;

static int setup(void **state)
{
	(void)state;
	leaks_begin(&leaks);
	host = host_driver_open(TOTAL);

	return 0;
}

static int teardown(void **state)
{
	(void)state;
	host_driver_close();
	assert_int_equal(leaks_end(&leaks), 0);

	return 0;
}

static CUmemGenericAllocationHandle create(void)
{
	CUmemGenericAllocationHandle handle;

	assert_int_equal(host->cuMemCreate(&handle, SLAB, NULL, 0), CUDA_SUCCESS);

	return handle;
}

static int export(CUmemGenericAllocationHandle handle)
{
	int fd = -1;

	assert_int_equal(host->cuMemExportToShareableHandle(
				 &fd, handle, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0),
			 CUDA_SUCCESS);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);

	return fd;
}

static CUdeviceptr reserve(uint64_t bytes)
{
	CUdeviceptr address;

	assert_int_equal(host->cuMemAddressReserve(&address, bytes, 0, 0, 0), CUDA_SUCCESS);
	assert_int_equal(address % SLAB, 0);

	return address;
}

static char *map(CUdeviceptr address, CUmemGenericAllocationHandle handle)
{
	assert_int_equal(host->cuMemMap(address, SLAB, 0, handle, 0), CUDA_SUCCESS);
	assert_int_equal(host->cuMemSetAccess(address, SLAB, NULL, 0), CUDA_SUCCESS);

	return (char *)(uintptr_t)address;
}

static void unmap(CUdeviceptr address, uint64_t bytes)
{
	assert_int_equal(host->cuMemUnmap(address, bytes), CUDA_SUCCESS);
	assert_int_equal(host->cuMemAddressFree(address, bytes), CUDA_SUCCESS);
}

static char *map_fd(int fd)
{
	char *at = mmap(NULL, SLAB, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	assert_ptr_not_equal(at, MAP_FAILED);

	return at;
}

static uint64_t used(void)
{
	size_t left, total;

	assert_int_equal(host->cuMemGetInfo(&left, &total), CUDA_SUCCESS);
	assert_int_equal(total, TOTAL);

	return total - left;
}

static void release(CUmemGenericAllocationHandle handle)
{
	assert_int_equal(host->cuMemRelease(handle), CUDA_SUCCESS);
}

static void test_memory_is_the_same_everywhere(void **state)
{
	(void)state;
	CUmemGenericAllocationHandle handle = create();
	CUdeviceptr address = reserve(2 * SLAB);
	char *first = map(address, handle), *second = map(address + SLAB, handle);
	int fd = export(handle);
	char *client = map_fd(fd);

	for (uint64_t at = 0; at < SLAB; at += 4096)
		assert_int_equal(first[at], 0);
	client[77] = 'c';
	assert_int_equal(first[77], 'c');
	assert_int_equal(second[77], 'c');

	char bytes[16] = "copied";
	assert_int_equal(host->cuMemcpyHtoDAsync(address + 100, bytes, 16, NULL), CUDA_SUCCESS);
	assert_string_equal(client + 100, "copied");
	memcpy(client + 100, "again!", 7);
	assert_int_equal(host->cuMemcpyDtoHAsync(bytes, address + 100, 16, NULL), CUDA_SUCCESS);
	assert_string_equal(bytes, "again!");

	unmap(address, 2 * SLAB);
	release(handle);
	assert_int_equal(client[77], 'c');
	munmap(client, SLAB);
	close(fd);
	assert_int_equal(used(), 0);
}

static void test_the_size_stays(void **state)
{
	(void)state;
	CUmemGenericAllocationHandle handle = create();
	int fd = export(handle);
	struct stat stat;

	assert_int_equal(ftruncate(fd, 0), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(ftruncate(fd, 2 * SLAB), -1);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
	assert_int_equal(fstat(fd, &stat), 0);
	assert_int_equal(stat.st_size, SLAB);
	assert_int_equal(stat.st_blocks * 512, SLAB); /* all pages are there */
	assert_int_equal(stat.st_mode & 0777, 0600);
	close(fd);
	release(handle);
}

static void test_what_a_client_has_is_used(void **state)
{
	(void)state;
	CUmemGenericAllocationHandle given = create(), kept = create(), unseen = create();
	int fd = export(given), other = export(kept);
	char *client = map_fd(fd);

	assert_int_equal(used(), 3 * SLAB);
	close(other);
	release(kept);
	release(unseen);
	release(given);
	assert_int_equal(used(), SLAB);
	close(fd); /* its mapping keeps it */
	assert_int_equal(used(), SLAB);
	client[0] = 1;
	munmap(client, SLAB);
	assert_int_equal(used(), 0);
}

static void test_a_file_that_is_referred_to_has_no_pages(void **state)
{
	(void)state;
	CUmemGenericAllocationHandle handle = create();
	int fd = export(handle);
	char path[64];
	struct stat stat;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	int reference = open(path, O_PATH | O_CLOEXEC);
	assert_true(reference >= 0);
	release(handle);
	assert_int_equal(used(), SLAB);
	assert_int_equal(fstat(fd, &stat), 0);
	assert_int_equal(stat.st_blocks * 512, SLAB);
	close(fd);
	assert_int_equal(used(), 0);
	assert_int_equal(fstat(reference, &stat), 0);
	assert_int_equal(stat.st_blocks, 0);
	close(reference);
}

/* As after a restart: the descriptor that was kept is a client's, too. */
static void test_the_next_daemon_has_it(void **state)
{
	(void)state;
	CUmemGenericAllocationHandle handle = create();
	int fd = export(handle);
	char *client = map_fd(fd);

	client[5] = 'k';
	release(handle);
	host_driver_close();
	host = host_driver_open(TOTAL);
	assert_int_equal(used(), 0);
	assert_int_equal(
		host->cuMemImportFromShareableHandle(&handle, (void *)(intptr_t)fd,
						     CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR),
		CUDA_SUCCESS);
	close(fd);
	assert_int_equal(used(), SLAB);

	CUdeviceptr address = reserve(SLAB);
	assert_int_equal(map(address, handle)[5], 'k');
	unmap(address, SLAB);
	release(handle);
	assert_int_equal(used(), SLAB); /* the client has it still */
	munmap(client, SLAB);
	assert_int_equal(used(), 0);
}

static void test_without_descriptors(void **state)
{
	(void)state;
	CUmemGenericAllocationHandle handle = create(), none = 0;
	struct rlimit limit, low = {3, 3};
	int fd = -1;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	low.rlim_max = limit.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
	assert_int_equal(host->cuMemCreate(&none, SLAB, NULL, 0), CUDA_ERROR_OPERATING_SYSTEM);
	assert_int_equal(host->cuMemExportToShareableHandle(
				 &fd, handle, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0),
			 CUDA_ERROR_OPERATING_SYSTEM);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_int_equal(none, 0);
	assert_int_equal(fd, -1);
	assert_int_equal(used(), SLAB);
	release(handle);
	assert_int_equal(host->cuMemAddressReserve(&none, UINT64_MAX - 4096, 0, 0, 0),
			 CUDA_ERROR_OUT_OF_MEMORY);
	assert_int_equal(host->cuMemAddressReserve(&none, 1ull << 60, 0, 0, 0),
			 CUDA_ERROR_OUT_OF_MEMORY);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_memory_is_the_same_everywhere),
		TEST(test_the_size_stays),
		TEST(test_what_a_client_has_is_used),
		TEST(test_a_file_that_is_referred_to_has_no_pages),
		TEST(test_the_next_daemon_has_it),
		TEST(test_without_descriptors),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
