/* SPDX-License-Identifier: Apache-2.0 */
/* Soft: device address space: reserving, mapping, access, and everything it refuses; then
 * at random beside a dumb model. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/seed.h"
#include "tests/support/soft_device.h"

static CUmemGenericAllocationHandle create(const struct driver *driver, size_t bytes)
{
	CUmemAllocationProp prop = soft_prop(0);
	CUmemGenericAllocationHandle handle;

	assert_int_equal(driver->cuMemCreate(&handle, bytes, &prop, 0), CUDA_SUCCESS);
	return handle;
}

static CUdeviceptr reserve(const struct driver *driver, size_t bytes)
{
	CUdeviceptr address;

	assert_int_equal(driver->cuMemAddressReserve(&address, bytes, 0, 0, 0), CUDA_SUCCESS);
	assert_int_equal(address % GRANULE, 0);
	return address;
}

static void test_reserve_refuses(void **state)
{
	const struct driver *driver = ((struct soft_device *)*state)->driver;
	CUdeviceptr address = 77;

	assert_int_equal(driver->cuMemAddressReserve(&address, 0, 0, 0, 0),
			 CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(driver->cuMemAddressReserve(&address, MIB, 0, 0, 0),
			 CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(driver->cuMemAddressReserve(&address, GRANULE, 3 * GRANULE, 0, 0),
			 CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(driver->cuMemAddressReserve(&address, GRANULE, 0, MIB, 0),
			 CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(driver->cuMemAddressReserve(&address, GRANULE, 0, 0, 1),
			 CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(driver->cuMemAddressReserve(NULL, GRANULE, 0, 0, 0),
			 CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(driver->cuMemAddressReserve(&address, 1ull << 47, 0, 0, 0),
			 CUDA_ERROR_OUT_OF_MEMORY);
	assert_int_equal(address, 77);
}

static void test_reserve_aligns_and_takes_hints(void **state)
{
	const struct driver *driver = ((struct soft_device *)*state)->driver;
	CUdeviceptr aligned, again, elsewhere;

	assert_int_equal(driver->cuMemAddressReserve(&aligned, GRANULE, 1ull << 30, 0, 0),
			 CUDA_SUCCESS);
	assert_int_equal(aligned % (1ull << 30), 0);

	/* A hint that is taken is ignored, one that is free is followed. */
	assert_int_equal(driver->cuMemAddressReserve(&elsewhere, GRANULE, 0, aligned, 0),
			 CUDA_SUCCESS);
	assert_int_not_equal(elsewhere, aligned);
	assert_int_equal(driver->cuMemAddressFree(aligned, GRANULE), CUDA_SUCCESS);
	assert_int_equal(driver->cuMemAddressReserve(&again, GRANULE, 0, aligned, 0), CUDA_SUCCESS);
	assert_int_equal(again, aligned);
	assert_int_equal(driver->cuMemAddressFree(again, GRANULE), CUDA_SUCCESS);
	assert_int_equal(driver->cuMemAddressFree(elsewhere, GRANULE), CUDA_SUCCESS);
}

static void test_large_reservations_cost_nothing(void **state)
{
	const struct driver *driver = ((struct soft_device *)*state)->driver;
	CUdeviceptr address = reserve(driver, 1ull << 40);

	assert_int_equal(driver->cuMemAddressFree(address, 1ull << 40), CUDA_SUCCESS);
}

static void test_free_refuses(void **state)
{
	const struct driver *driver = ((struct soft_device *)*state)->driver;
	CUdeviceptr address = soft_memory(driver, 0, 2 * GRANULE);

	assert_int_equal(driver->cuMemAddressFree(address, 2 * GRANULE),
			 CUDA_ERROR_INVALID_VALUE); /* mapped */
	assert_int_equal(driver->cuMemUnmap(address, 2 * GRANULE), CUDA_SUCCESS);
	assert_int_equal(driver->cuMemAddressFree(address, GRANULE), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(driver->cuMemAddressFree(address + GRANULE, GRANULE),
			 CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(driver->cuMemAddressFree(address, 2 * GRANULE), CUDA_SUCCESS);
	assert_int_equal(driver->cuMemAddressFree(address, 2 * GRANULE), CUDA_ERROR_INVALID_VALUE);
}

static void test_map_refuses(void **state)
{
	const struct driver *driver = ((struct soft_device *)*state)->driver;
	CUmemGenericAllocationHandle handle = create(driver, 2 * GRANULE),
				     small = create(driver, GRANULE);
	CUdeviceptr address = reserve(driver, 4 * GRANULE);

	assert_int_equal(driver->cuMemMap(address, GRANULE, GRANULE, handle, 0),
			 CUDA_ERROR_INVALID_VALUE); /* offset */
	assert_int_equal(driver->cuMemMap(address, GRANULE, 0, handle, 0),
			 CUDA_ERROR_INVALID_VALUE); /* a part */
	assert_int_equal(driver->cuMemMap(address, 4 * GRANULE, 0, handle, 0),
			 CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(driver->cuMemMap(address, 0, 0, handle, 0), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(driver->cuMemMap(address + 4096, 2 * GRANULE, 0, handle, 0),
			 CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(driver->cuMemMap(address, 2 * GRANULE, 0, handle, 1),
			 CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(driver->cuMemMap(address + 3 * GRANULE, 2 * GRANULE, 0, handle, 0),
			 CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(driver->cuMemMap(GRANULE, 2 * GRANULE, 0, handle, 0),
			 CUDA_ERROR_INVALID_VALUE); /* unreserved */
	assert_int_equal(driver->cuMemMap(address, 2 * GRANULE, 0, 4711, 0),
			 CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(driver->cuMemMap(address, 2 * GRANULE, 0, handle, 0), CUDA_SUCCESS);
	assert_int_equal(driver->cuMemMap(address, 2 * GRANULE, 0, handle, 0),
			 CUDA_ERROR_ALREADY_MAPPED);
	assert_int_equal(driver->cuMemMap(address + GRANULE, 2 * GRANULE, 0, handle, 0),
			 CUDA_ERROR_ALREADY_MAPPED);
	assert_int_equal(driver->cuMemMap(address + GRANULE, GRANULE, 0, small, 0),
			 CUDA_ERROR_ALREADY_MAPPED);

	/* The same handle twice is well. */
	assert_int_equal(driver->cuMemMap(address + 2 * GRANULE, 2 * GRANULE, 0, handle, 0),
			 CUDA_SUCCESS);
	assert_int_equal(driver->cuMemUnmap(address, 4 * GRANULE), CUDA_SUCCESS);
	assert_int_equal(driver->cuMemRelease(handle), CUDA_SUCCESS);
	assert_int_equal(driver->cuMemRelease(small), CUDA_SUCCESS);
	assert_int_equal(driver->cuMemAddressFree(address, 4 * GRANULE), CUDA_SUCCESS);
}

static void test_unmap_takes_whole_mappings(void **state)
{
	const struct driver *driver = ((struct soft_device *)*state)->driver;
	CUmemGenericAllocationHandle handle = create(driver, 2 * GRANULE);
	CUdeviceptr address = reserve(driver, 8 * GRANULE);

	assert_int_equal(driver->cuMemMap(address, 2 * GRANULE, 0, handle, 0), CUDA_SUCCESS);
	assert_int_equal(driver->cuMemMap(address + 2 * GRANULE, 2 * GRANULE, 0, handle, 0),
			 CUDA_SUCCESS);
	assert_int_equal(driver->cuMemMap(address + 6 * GRANULE, 2 * GRANULE, 0, handle, 0),
			 CUDA_SUCCESS);
	assert_int_equal(driver->cuMemUnmap(address, GRANULE), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(driver->cuMemUnmap(address + GRANULE, GRANULE), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(driver->cuMemUnmap(address, 3 * GRANULE), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(driver->cuMemUnmap(address, 8 * GRANULE),
			 CUDA_ERROR_INVALID_VALUE); /* a hole */
	assert_int_equal(driver->cuMemUnmap(address, 0), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(driver->cuMemUnmap(address, UINT64_MAX), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(driver->cuMemUnmap(address + 4 * GRANULE, GRANULE),
			 CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(driver->cuMemUnmap(address, 4 * GRANULE), CUDA_SUCCESS);
	assert_int_equal(driver->cuMemUnmap(address, 4 * GRANULE), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(driver->cuMemUnmap(address + 6 * GRANULE, 2 * GRANULE), CUDA_SUCCESS);
	assert_int_equal(driver->cuMemRelease(handle), CUDA_SUCCESS);
	assert_int_equal(driver->cuMemAddressFree(address, 8 * GRANULE), CUDA_SUCCESS);
}

static void test_access_refuses(void **state)
{
	const struct driver *driver = ((struct soft_device *)*state)->driver;
	CUmemGenericAllocationHandle handle = create(driver, 2 * GRANULE);
	CUdeviceptr address = reserve(driver, 4 * GRANULE);
	CUmemAccessDesc host = {{CU_MEM_LOCATION_TYPE_HOST, 0}, CU_MEM_ACCESS_FLAGS_PROT_READ};
	const CUmemAccess_flags both = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
	const CUmemAccessDesc twice[] = {
		{{CU_MEM_LOCATION_TYPE_DEVICE, 1}, both},
		{{CU_MEM_LOCATION_TYPE_DEVICE, 0}, both},
		{{CU_MEM_LOCATION_TYPE_DEVICE, 1}, CU_MEM_ACCESS_FLAGS_PROT_NONE}};

	assert_int_equal(soft_access(driver, address, 2 * GRANULE, 0, both),
			 CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(driver->cuMemMap(address, 2 * GRANULE, 0, handle, 0), CUDA_SUCCESS);
	assert_int_equal(soft_access(driver, address, GRANULE, 0, both), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(soft_access(driver, address + GRANULE, GRANULE, 0, both),
			 CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(soft_access(driver, address, 4 * GRANULE, 0, both),
			 CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(soft_access(driver, address, 2 * GRANULE, 2, both),
			 CUDA_ERROR_INVALID_DEVICE);
	assert_int_equal(soft_access(driver, address, 2 * GRANULE, 0, (CUmemAccess_flags)2),
			 CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(driver->cuMemSetAccess(address, 2 * GRANULE, &host, 1),
			 CUDA_ERROR_NOT_SUPPORTED);
	assert_int_equal(driver->cuMemSetAccess(address, 2 * GRANULE, NULL, 0),
			 CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(driver->cuMemSetAccess(address, 2 * GRANULE, twice, 3),
			 CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(driver->cuMemSetAccess(address, 2 * GRANULE, twice, 2), CUDA_SUCCESS);
	assert_int_equal(driver->cuMemUnmap(address, 2 * GRANULE), CUDA_SUCCESS);
	assert_int_equal(driver->cuMemRelease(handle), CUDA_SUCCESS);
	assert_int_equal(driver->cuMemAddressFree(address, 4 * GRANULE), CUDA_SUCCESS);
}

static void assert_access(const struct driver *driver, CUdeviceptr address, int device,
			  unsigned long long wanted)
{
	CUmemLocation location = {CU_MEM_LOCATION_TYPE_DEVICE, device};
	unsigned long long flags = 99;

	assert_int_equal(driver->cuMemGetAccess(&flags, &location, address), CUDA_SUCCESS);
	assert_int_equal(flags, wanted);
}

static void test_access_is_of_each_device(void **state)
{
	const struct driver *driver = ((struct soft_device *)*state)->driver;
	CUdeviceptr address = soft_memory(driver, 0, GRANULE);
	CUmemLocation location = {CU_MEM_LOCATION_TYPE_DEVICE, 0};
	unsigned long long flags;

	assert_access(driver, address + 5, 0, CU_MEM_ACCESS_FLAGS_PROT_READWRITE);
	assert_access(driver, address, 1, CU_MEM_ACCESS_FLAGS_PROT_NONE);
	assert_int_equal(soft_access(driver, address, GRANULE, 1, CU_MEM_ACCESS_FLAGS_PROT_READ),
			 CUDA_SUCCESS);
	assert_int_equal(soft_access(driver, address, GRANULE, 0, CU_MEM_ACCESS_FLAGS_PROT_NONE),
			 CUDA_SUCCESS);
	assert_access(driver, address, 0, CU_MEM_ACCESS_FLAGS_PROT_NONE);
	assert_access(driver, address, 1, CU_MEM_ACCESS_FLAGS_PROT_READ);
	assert_int_equal(driver->cuMemUnmap(address, GRANULE), CUDA_SUCCESS);
	assert_int_equal(driver->cuMemGetAccess(&flags, &location, address),
			 CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(driver->cuMemAddressFree(address, GRANULE), CUDA_SUCCESS);
}

static void test_access_does_not_outlive_a_mapping(void **state)
{
	const struct driver *driver = ((struct soft_device *)*state)->driver;
	CUdeviceptr address = soft_memory(driver, 0, GRANULE);
	CUmemGenericAllocationHandle handle = create(driver, GRANULE);
	char byte = 1;

	assert_int_equal(driver->cuMemUnmap(address, GRANULE), CUDA_SUCCESS);
	assert_int_equal(driver->cuMemMap(address, GRANULE, 0, handle, 0), CUDA_SUCCESS);
	assert_access(driver, address, 0, CU_MEM_ACCESS_FLAGS_PROT_NONE);
	assert_int_equal(driver->cuMemcpyHtoD(address, &byte, 1), CUDA_ERROR_ILLEGAL_ADDRESS);
	assert_int_equal(driver->cuMemRelease(handle), CUDA_SUCCESS);
	soft_memory_free(driver, address, GRANULE);
}

/* Two reservations side by side are not one. */
static void test_ranges_stay_within_one_reservation(void **state)
{
	const struct driver *driver = ((struct soft_device *)*state)->driver;
	CUdeviceptr whole = reserve(driver, 2 * GRANULE), halves[2];
	char bytes[2] = "";

	assert_int_equal(driver->cuMemAddressFree(whole, 2 * GRANULE), CUDA_SUCCESS);

	for (size_t i = 0; i < 2; i++) {
		const CUdeviceptr hint = whole + i * GRANULE;
		CUmemGenericAllocationHandle handle = create(driver, GRANULE);

		assert_int_equal(driver->cuMemAddressReserve(&halves[i], GRANULE, 0, hint, 0),
				 CUDA_SUCCESS);
		assert_int_equal(halves[i], hint);
		assert_int_equal(driver->cuMemMap(hint, GRANULE, 0, handle, 0), CUDA_SUCCESS);
		assert_int_equal(driver->cuMemRelease(handle), CUDA_SUCCESS);
		assert_int_equal(
			soft_access(driver, hint, GRANULE, 0, CU_MEM_ACCESS_FLAGS_PROT_READWRITE),
			CUDA_SUCCESS);
	}

	assert_int_equal(driver->cuMemcpyHtoD(halves[1] - 1, bytes, 2), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(soft_access(driver, whole, 2 * GRANULE, 0, CU_MEM_ACCESS_FLAGS_PROT_READ),
			 CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(driver->cuMemUnmap(whole, 2 * GRANULE), CUDA_ERROR_INVALID_VALUE);
	for (size_t i = 0; i < 2; i++)
		soft_memory_free(driver, halves[i], GRANULE);
}

/* Whether a process that touches the memory itself dies of it. */
static bool touching_kills(CUdeviceptr address)
{
	int status;
	pid_t child = fork();

	assert_int_not_equal(child, -1);

	if (child == 0) {
		signal(SIGSEGV, SIG_DFL);
		signal(SIGBUS,
		       /* what an address is that no process can have depends on the
		        * machine */
		       SIG_DFL);
		*(volatile char *)(uintptr_t)address = 1;
		_exit(0);
	}

	assert_int_equal(waitpid(child, &status, 0), child);

	return WIFSIGNALED(status);
}

static void test_host_cannot_reach_memory(void **state)
{
	const struct driver *driver = ((struct soft_device *)*state)->driver;
	CUdeviceptr address = soft_memory(driver, 0, GRANULE),
		    other = soft_memory(driver, 0, GRANULE);
	void *const pointer = (void *)(uintptr_t)address;
	char byte;
	int pipes[2];

	assert_true(touching_kills(address));
	assert_int_equal(pipe(pipes), 0);
	assert_int_equal(write(pipes[1], pointer, 1), -1);
	assert_int_equal(errno, EFAULT);
	assert_int_equal(write(pipes[1], "x", 1), 1);
	assert_int_equal(read(pipes[0], pointer, 1), -1);
	assert_int_equal(errno, EFAULT);
	close(pipes[0]);
	close(pipes[1]);
	assert_int_equal(driver->cuMemHostRegister(pointer, 4096, 0), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(driver->cuMemcpyHtoD(other, pointer, 1), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(driver->cuMemcpyDtoH(pointer, other, 1), CUDA_ERROR_INVALID_VALUE);

	/* The driver can. */
	assert_int_equal(driver->cuMemcpyHtoD(address, "y", 1), CUDA_SUCCESS);
	assert_int_equal(driver->cuMemcpyDtoH(&byte, address, 1), CUDA_SUCCESS);
	assert_int_equal(byte, 'y');
	soft_memory_free(driver, other, GRANULE);
	soft_memory_free(driver, address, GRANULE);
}

static void test_peek_and_poke(void **state)
{
	const struct soft_device *soft = *state;
	const struct driver *driver = soft->driver;
	CUdeviceptr address = soft_memory(driver, 0, GRANULE);
	uint64_t calls = soft->call.calls("*");
	char word[4] = "";

	assert_int_equal(soft->call.poke(0, address + 2, "abc", 4), 0);
	assert_int_equal(soft->call.peek(word, 0, address + 2, 4), 0);
	assert_string_equal(word, "abc");
	assert_int_equal(soft->call.calls("*"), calls);
	assert_int_equal(soft->call.peek(word, 1, address, 4),
			 -EFAULT); /* of another device, beyond the end, of no device */
	assert_int_equal(soft->call.poke(1, address, "abc", 4), -EFAULT);
	assert_int_equal(soft->call.peek(word, 0, address + GRANULE - 3, 4), -EFAULT);
	assert_int_equal(soft->call.peek(word, 2, address, 4), -EFAULT);
	assert_int_equal(soft_access(driver, address, GRANULE, 0, CU_MEM_ACCESS_FLAGS_PROT_READ),
			 CUDA_SUCCESS);
	assert_int_equal(soft->call.poke(0, address, "abc", 4), -EFAULT);
	assert_int_equal(soft->call.peek(word, 0, address, 4), 0);
	soft_memory_free(driver, address, GRANULE);
}

#define PLACES 24 /* granules of the model's reservation */

/* What is mapped at each granule: the first granule of its mapping, and what was last
 * written to that granule. */
struct model {
	int start[PLACES]; /* -1: nothing */
	int length[PLACES];
	uint64_t written[PLACES];
};

static int model_is_free(const struct model *model, int at, int length)
{
	for (int i = at; i < at + length; i++)
		if (i >= PLACES || model->start[i] >= 0)
			return 0;
	return 1;
}

static void model_map(const struct driver *driver, struct model *model, CUdeviceptr base, int at,
		      int length)
{
	CUmemGenericAllocationHandle handle = create(driver, (size_t)length * GRANULE);
	CUdeviceptr address = base + (uint64_t)at * GRANULE;
	size_t bytes = (size_t)length * GRANULE;
	CUresult result = driver->cuMemMap(address, bytes, 0, handle, 0);

	assert_int_equal(driver->cuMemRelease(handle), CUDA_SUCCESS);

	if (!model_is_free(model, at, length)) {
		assert_int_not_equal(result, CUDA_SUCCESS);
		return;
	}

	assert_int_equal(result, CUDA_SUCCESS);
	assert_int_equal(soft_access(driver, address, bytes, 0, CU_MEM_ACCESS_FLAGS_PROT_READWRITE),
			 CUDA_SUCCESS);

	for (int i = at; i < at + length; i++) {
		model->start[i] = at;
		model->length[i] = length;
		model->written[i] = 0;
	}
}

static int model_is_whole(const struct model *model, int at, int length)
{
	for (int i = at; i < at + length; i++)
		if (i >= PLACES || model->start[i] < at ||
		    model->start[i] + model->length[i] > at + length)
			return 0;
	return 1;
}

static void model_unmap(const struct driver *driver, struct model *model, CUdeviceptr base, int at,
			int length)
{
	CUresult result =
		driver->cuMemUnmap(base + (uint64_t)at * GRANULE, (size_t)length * GRANULE);

	if (!model_is_whole(model, at, length)) {
		assert_int_equal(result, CUDA_ERROR_INVALID_VALUE);
		return;
	}

	assert_int_equal(result, CUDA_SUCCESS);
	for (int i = at; i < at + length; i++)
		model->start[i] = -1;
}

static void model_write(const struct driver *driver, struct model *model, CUdeviceptr base, int at,
			uint64_t value)
{
	CUresult result =
		driver->cuMemcpyHtoD(base + (uint64_t)at * GRANULE, &value, sizeof(value));

	assert_int_equal(result, model->start[at] < 0 ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS);
	model->written[at] = value;
}

static void model_check(const struct driver *driver, const struct model *model, CUdeviceptr base)
{
	for (int i = 0; i < PLACES; i++) {
		uint64_t seen = 0;
		CUresult result =
			driver->cuMemcpyDtoH(&seen, base + (uint64_t)i * GRANULE, sizeof(seen));

		assert_int_equal(result,
				 model->start[i] < 0 ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS);
		if (model->start[i] >= 0)
			assert_int_equal(seen, model->written[i]);
	}
}

static void test_random_beside_a_model(void **state)
{
	const struct driver *driver = ((struct soft_device *)*state)->driver;
	CUdeviceptr base = reserve(driver, PLACES * GRANULE);
	struct model model;
	struct seed seed;

	seed_open(&seed, "soft mapping");
	for (int i = 0; i < PLACES; i++)
		model.start[i] = -1;
	for (int step = 0; step < 2000; step++) {
		int at = (int)seed_below(&seed, PLACES), length = 1 + (int)seed_below(&seed, 4);

		switch (seed_below(&seed, 3)) {
		case 0:
			model_map(driver, &model, base, at, length);
			break;
		case 1:
			model_unmap(driver, &model, base, at, length);
			break;
		default:
			model_write(driver, &model, base, at, seed_next(&seed));
		}

		if (step % 50 == 0)
			model_check(driver, &model, base);
	}

	for (int i = 0; i < PLACES; i++)
		if (model.start[i] == i)
			model_unmap(driver, &model, base, i, model.length[i]);

	assert_int_equal(driver->cuMemAddressFree(base, PLACES * GRANULE), CUDA_SUCCESS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_reserve_refuses, soft_setup, soft_teardown),
		cmocka_unit_test_setup_teardown(test_reserve_aligns_and_takes_hints, soft_setup,
						soft_teardown),
		cmocka_unit_test_setup_teardown(test_large_reservations_cost_nothing, soft_setup,
						soft_teardown),
		cmocka_unit_test_setup_teardown(test_free_refuses, soft_setup, soft_teardown),
		cmocka_unit_test_setup_teardown(test_map_refuses, soft_setup, soft_teardown),
		cmocka_unit_test_setup_teardown(test_unmap_takes_whole_mappings, soft_setup,
						soft_teardown),
		cmocka_unit_test_setup_teardown(test_access_refuses, soft_setup, soft_teardown),
		cmocka_unit_test_setup_teardown(test_access_is_of_each_device, soft_setup,
						soft_teardown),
		cmocka_unit_test_setup_teardown(test_access_does_not_outlive_a_mapping, soft_setup,
						soft_teardown),
		cmocka_unit_test_setup_teardown(test_ranges_stay_within_one_reservation, soft_setup,
						soft_teardown),
		cmocka_unit_test_setup_teardown(test_host_cannot_reach_memory, soft_setup,
						soft_teardown),
		cmocka_unit_test_setup_teardown(test_peek_and_poke, soft_setup, soft_teardown),
		cmocka_unit_test_setup_teardown(test_random_beside_a_model, soft_setup,
						soft_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
