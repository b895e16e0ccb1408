/* SPDX-License-Identifier: Apache-2.0 */
/* Soft: copies and fills: the bytes, what may not be touched, what may not go away
 * meanwhile, and the copy engines. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <time.h>

#include "tests/support/soft_device.h"

#define BYTES (4 * GRANULE)

/* A device range, registered host memory and a stream. */
struct bench {
	const struct driver *driver;
	CUdeviceptr device;
	unsigned char *host;
	CUstream stream;
};

static void bench_open(struct bench *bench, void **state)
{
	bench->driver = ((struct soft_device *)*state)->driver;
	bench->device = soft_memory(bench->driver, 0, BYTES);
	bench->host = soft_host(bench->driver, 2 * BYTES, CU_MEMHOSTREGISTER_DEVICEMAP);
	bench->stream = soft_stream(bench->driver);
}

static void bench_close(struct bench *bench)
{
	assert_int_equal(bench->driver->cuStreamDestroy(bench->stream), CUDA_SUCCESS);
	soft_host_free(bench->driver, bench->host, 2 * BYTES);
	soft_memory_free(bench->driver, bench->device, BYTES);
}

static void fill(unsigned char *bytes, size_t count, unsigned seed)
{
	for (size_t i = 0; i < count; i++)
		bytes[i] = (unsigned char)((i * 31 + i / 4096 + seed) & 0xff);
}

static void wait_for(const struct bench *bench)
{
	assert_int_equal(bench->driver->cuStreamSynchronize(bench->stream), CUDA_SUCCESS);
}

/* Holds the stream until *gate, which lies in the registered memory, is 1. */
static uint64_t *close_gate(const struct bench *bench)
{
	uint64_t *gate = (uint64_t *)(void *)(bench->host + 2 * BYTES - sizeof(uint64_t));

	*gate = 0;
	assert_int_equal(bench->driver->cuStreamWaitValue64(bench->stream,
							    soft_alias(bench->driver, bench->host) +
								    2 * BYTES - sizeof(uint64_t),
							    1, CU_STREAM_WAIT_VALUE_EQ),
			 CUDA_SUCCESS);
	return gate;
}

static void open_gate(uint64_t *gate)
{
	__atomic_store_n(gate, 1, __ATOMIC_SEQ_CST);
}

static void test_round_trip(void **state)
{
	struct bench bench;

	bench_open(&bench, state);
	fill(bench.host, BYTES, 7);
	assert_int_equal(
		bench.driver->cuMemcpyHtoDAsync(bench.device, bench.host, BYTES / 2, bench.stream),
		CUDA_SUCCESS);
	assert_int_equal(bench.driver->cuMemcpyDtoDAsync(bench.device + BYTES / 2, bench.device,
							 BYTES / 2, bench.stream),
			 CUDA_SUCCESS);
	assert_int_equal(bench.driver->cuMemcpyDtoHAsync(bench.host + BYTES,
							 bench.device + BYTES / 2, BYTES / 2,
							 bench.stream),
			 CUDA_SUCCESS);
	wait_for(&bench);
	assert_memory_equal(bench.host, bench.host + BYTES, BYTES / 2);
	assert_int_equal(bench.driver->cuMemsetD8Async(bench.device + 3, 0x5a, 100, bench.stream),
			 CUDA_SUCCESS);
	assert_int_equal(
		bench.driver->cuMemcpyDtoHAsync(bench.host, bench.device, 4096, bench.stream),
		CUDA_SUCCESS);
	wait_for(&bench);
	assert_int_equal(bench.host[2], bench.host[BYTES + 2]);
	assert_int_equal(bench.host[3], 0x5a);
	assert_int_equal(bench.host[102], 0x5a);
	assert_int_equal(bench.host[103], bench.host[BYTES + 103]);
	bench_close(&bench);
}

/* More than a stream's ring has room for at first, and in order. */
static void test_many_in_order(void **state)
{
	struct bench bench;
	uint64_t *gate;

	bench_open(&bench, state);
	gate = close_gate(&bench);

	for (unsigned i = 0; i < 1000; i++) {
		bench.host[i] = (unsigned char)(i & 0xff);
		assert_int_equal(bench.driver->cuMemcpyHtoDAsync(bench.device + 5, bench.host + i,
								 1, bench.stream),
				 CUDA_SUCCESS);
		assert_int_equal(bench.driver->cuMemcpyDtoHAsync(bench.host + BYTES + i,
								 bench.device + 5, 1, bench.stream),
				 CUDA_SUCCESS);
	}

	assert_int_equal(bench.driver->cuStreamQuery(bench.stream), CUDA_ERROR_NOT_READY);
	open_gate(gate);
	wait_for(&bench);
	assert_int_equal(bench.driver->cuStreamQuery(bench.stream), CUDA_SUCCESS);
	assert_memory_equal(bench.host, bench.host + BYTES, 1000);
	bench_close(&bench);
}

static void test_spans_mappings(void **state)
{
	struct bench bench;
	CUmemAllocationProp prop = soft_prop(0);
	CUdeviceptr address;

	bench_open(&bench, state);
	assert_int_equal(bench.driver->cuMemAddressReserve(&address, 4 * GRANULE, 0, 0, 0),
			 CUDA_SUCCESS);

	for (unsigned i = 0; i < 3; i++) {
		CUmemGenericAllocationHandle handle;

		assert_int_equal(bench.driver->cuMemCreate(&handle, GRANULE, &prop, 0),
				 CUDA_SUCCESS);
		assert_int_equal(
			bench.driver->cuMemMap(address + i * GRANULE, GRANULE, 0, handle, 0),
			CUDA_SUCCESS);
		assert_int_equal(bench.driver->cuMemRelease(handle), CUDA_SUCCESS);
	}

	assert_int_equal(soft_access(bench.driver, address, 3 * GRANULE, 0,
				     CU_MEM_ACCESS_FLAGS_PROT_READWRITE),
			 CUDA_SUCCESS);
	fill(bench.host, 3 * GRANULE, 1);
	assert_int_equal(
		bench.driver->cuMemcpyHtoDAsync(address, bench.host, 3 * GRANULE, bench.stream),
		CUDA_SUCCESS);
	assert_int_equal(bench.driver->cuMemcpyDtoHAsync(bench.host + BYTES, address + 7,
							 3 * GRANULE - 7, bench.stream),
			 CUDA_SUCCESS);
	wait_for(&bench);
	assert_memory_equal(bench.host + 7, bench.host + BYTES, 3 * GRANULE - 7);

	/* One byte more is in the hole. */
	assert_int_equal(
		bench.driver->cuMemcpyHtoDAsync(address + 1, bench.host, 3 * GRANULE, bench.stream),
		CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(bench.driver->cuMemUnmap(address, 3 * GRANULE), CUDA_SUCCESS);
	assert_int_equal(bench.driver->cuMemAddressFree(address, 4 * GRANULE), CUDA_SUCCESS);
	bench_close(&bench);
}

static void test_unmapped_memory(void **state)
{
	struct bench bench;
	CUdeviceptr alias, reserved;

	bench_open(&bench, state);
	assert_int_equal(bench.driver->cuMemAddressReserve(&reserved, GRANULE, 0, 0, 0),
			 CUDA_SUCCESS);
	assert_int_equal(bench.driver->cuMemcpyHtoDAsync(reserved, bench.host, 1, bench.stream),
			 CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(bench.driver->cuMemcpyDtoHAsync(bench.host, reserved, 1, bench.stream),
			 CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(bench.driver->cuMemcpyDtoDAsync(bench.device, reserved, 1, bench.stream),
			 CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(bench.driver->cuMemcpyDtoDAsync(reserved, bench.device, 1, bench.stream),
			 CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(bench.driver->cuMemsetD8Async(reserved, 0, 1, bench.stream),
			 CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(bench.driver->cuMemcpyHtoD(reserved, bench.host, 1),
			 CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(bench.driver->cuMemcpyDtoH(bench.host, reserved, 1),
			 CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(bench.driver->cuMemcpyDtoH(bench.host, UINT64_MAX, 2),
			 CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(bench.driver->cuMemcpyHtoDAsync(bench.device + BYTES - 1, bench.host, 2,
							 bench.stream),
			 CUDA_ERROR_INVALID_VALUE);

	/* Host memory is no device memory, be it registered, at whichever address. */
	assert_int_equal(bench.driver->cuMemsetD8Async((CUdeviceptr)(uintptr_t)bench.host, 0, 1,
						       bench.stream),
			 CUDA_ERROR_INVALID_VALUE);
	alias = soft_alias(bench.driver, bench.host);
	assert_int_equal(bench.driver->cuMemsetD8Async(alias, 0, 1, bench.stream),
			 CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(bench.driver->cuMemcpyHtoD(bench.device, (void *)(uintptr_t)alias, 1),
			 CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(bench.driver->cuMemcpyHtoDAsync(bench.device, (void *)(uintptr_t)alias, 1,
							 bench.stream),
			 CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED);
	assert_int_equal(bench.driver->cuMemAddressFree(reserved, GRANULE), CUDA_SUCCESS);
	bench_close(&bench);
}

static void test_access_is_needed(void **state)
{
	struct bench bench;
	const CUmemAccess_flags none = CU_MEM_ACCESS_FLAGS_PROT_NONE,
				read = CU_MEM_ACCESS_FLAGS_PROT_READ;

	bench_open(&bench, state);
	assert_int_equal(soft_access(bench.driver, bench.device, BYTES, 0, none), CUDA_SUCCESS);
	assert_int_equal(bench.driver->cuMemcpyDtoHAsync(bench.host, bench.device, 1, bench.stream),
			 CUDA_ERROR_ILLEGAL_ADDRESS);
	assert_int_equal(bench.driver->cuMemcpyDtoH(bench.host, bench.device, 1),
			 CUDA_ERROR_ILLEGAL_ADDRESS);
	assert_int_equal(soft_access(bench.driver, bench.device, BYTES, 0, read), CUDA_SUCCESS);
	assert_int_equal(bench.driver->cuMemcpyDtoHAsync(bench.host, bench.device, 1, bench.stream),
			 CUDA_SUCCESS);
	assert_int_equal(bench.driver->cuMemcpyHtoDAsync(bench.device, bench.host, 1, bench.stream),
			 CUDA_ERROR_ILLEGAL_ADDRESS);
	assert_int_equal(
		bench.driver->cuMemcpyDtoDAsync(bench.device, bench.device + MIB, 1, bench.stream),
		CUDA_ERROR_ILLEGAL_ADDRESS);
	assert_int_equal(bench.driver->cuMemsetD8Async(bench.device, 0, 1, bench.stream),
			 CUDA_ERROR_ILLEGAL_ADDRESS);
	assert_int_equal(bench.driver->cuMemcpyHtoD(bench.device, bench.host, 1),
			 CUDA_ERROR_ILLEGAL_ADDRESS);
	assert_int_equal(bench.driver->cuStreamWriteValue64(bench.stream, bench.device, 1, 0),
			 CUDA_ERROR_ILLEGAL_ADDRESS);
	wait_for(&bench);
	bench_close(&bench);
}

/* Access of one device is not that of another: peers need a grant of their own. */
static void test_peer_needs_access(void **state)
{
	struct bench bench;
	CUcontext first, second;
	CUstream stream;

	bench_open(&bench, state);
	assert_int_equal(bench.driver->cuCtxGetCurrent(&first), CUDA_SUCCESS);
	assert_int_equal(bench.driver->cuDevicePrimaryCtxRetain(&second, 1), CUDA_SUCCESS);
	assert_int_equal(bench.driver->cuCtxSetCurrent(second), CUDA_SUCCESS);
	stream = soft_stream(bench.driver);
	assert_int_equal(bench.driver->cuMemsetD8Async(bench.device, 1, 1, stream),
			 CUDA_ERROR_ILLEGAL_ADDRESS);
	assert_int_equal(soft_access(bench.driver, bench.device, BYTES, 1,
				     CU_MEM_ACCESS_FLAGS_PROT_READWRITE),
			 CUDA_SUCCESS);
	assert_int_equal(bench.driver->cuMemsetD8Async(bench.device, 1, 1, stream), CUDA_SUCCESS);
	assert_int_equal(bench.driver->cuStreamSynchronize(stream), CUDA_SUCCESS);

	/* The registration was made in the other context and is not portable. */
	assert_int_equal(bench.driver->cuMemcpyDtoHAsync(bench.host, bench.device, 1, stream),
			 CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED);
	assert_int_equal(bench.driver->cuStreamDestroy(stream), CUDA_SUCCESS);
	assert_int_equal(bench.driver->cuCtxSetCurrent(first), CUDA_SUCCESS);
	assert_int_equal(bench.driver->cuDevicePrimaryCtxRelease(1), CUDA_SUCCESS);
	bench_close(&bench);
}

static void test_host_must_be_registered(void **state)
{
	struct bench bench;
	static unsigned char plain[64];

	bench_open(&bench, state);
	assert_int_equal(bench.driver->cuMemcpyHtoDAsync(bench.device, plain, 1, bench.stream),
			 CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED);
	assert_int_equal(bench.driver->cuMemcpyDtoHAsync(plain, bench.device, 1, bench.stream),
			 CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED);
	assert_int_equal(bench.driver->cuMemcpyDtoHAsync(bench.host + 2 * BYTES - 1, bench.device,
							 2, bench.stream),
			 CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED);

	/* Copies that wait take any memory. */
	plain[0] = 9;
	assert_int_equal(bench.driver->cuMemcpyHtoD(bench.device, plain, 1), CUDA_SUCCESS);
	assert_int_equal(bench.driver->cuMemcpyDtoH(plain + 1, bench.device, 1), CUDA_SUCCESS);
	assert_int_equal(plain[1], 9);
	assert_int_equal(bench.driver->cuMemcpyHtoD(bench.device, NULL, 1),
			 CUDA_ERROR_INVALID_VALUE);
	bench_close(&bench);
}

static void test_overlap_is_refused(void **state)
{
	struct bench bench;

	bench_open(&bench, state);
	assert_int_equal(bench.driver->cuMemcpyDtoDAsync(bench.device + 100, bench.device, 101,
							 bench.stream),
			 CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(bench.driver->cuMemcpyDtoDAsync(bench.device, bench.device + 100, 101,
							 bench.stream),
			 CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(bench.driver->cuMemcpyDtoDAsync(bench.device, bench.device + 100, 100,
							 bench.stream),
			 CUDA_SUCCESS);
	wait_for(&bench);
	bench_close(&bench);
}

static void test_nothing_is_copied(void **state)
{
	struct bench bench;

	bench_open(&bench, state);
	assert_int_equal(bench.driver->cuMemcpyHtoDAsync(0, NULL, 0, bench.stream), CUDA_SUCCESS);
	assert_int_equal(bench.driver->cuMemcpyDtoHAsync(NULL, 0, 0, bench.stream), CUDA_SUCCESS);
	assert_int_equal(bench.driver->cuMemcpyDtoDAsync(0, 0, 0, bench.stream), CUDA_SUCCESS);
	assert_int_equal(bench.driver->cuMemsetD8Async(0, 0, 0, bench.stream), CUDA_SUCCESS);
	assert_int_equal(bench.driver->cuMemcpyHtoD(0, NULL, 0), CUDA_SUCCESS);
	assert_int_equal(bench.driver->cuMemcpyDtoH(NULL, 0, 0), CUDA_SUCCESS);
	wait_for(&bench);
	bench_close(&bench);
}

/* What a queued copy uses cannot be taken away; the refusal changes nothing, and after
 * the copy it can. */
static void test_busy_memory_stays(void **state)
{
	struct bench bench;
	uint64_t *gate;

	bench_open(&bench, state);
	fill(bench.host, BYTES, 3);
	gate = close_gate(&bench);
	assert_int_equal(
		bench.driver->cuMemcpyHtoDAsync(bench.device + MIB, bench.host, 1000, bench.stream),
		CUDA_SUCCESS);
	assert_int_equal(bench.driver->cuMemUnmap(bench.device, BYTES), CUDA_ERROR_ILLEGAL_STATE);
	assert_int_equal(
		soft_access(bench.driver, bench.device, BYTES, 0, CU_MEM_ACCESS_FLAGS_PROT_READ),
		CUDA_ERROR_ILLEGAL_STATE);
	assert_int_equal(bench.driver->cuMemHostUnregister(bench.host), CUDA_ERROR_ILLEGAL_STATE);
	open_gate(gate);
	wait_for(&bench);
	assert_int_equal(
		soft_access(bench.driver, bench.device, BYTES, 0, CU_MEM_ACCESS_FLAGS_PROT_READ),
		CUDA_SUCCESS);
	assert_int_equal(bench.driver->cuMemcpyDtoH(bench.host + BYTES, bench.device + MIB, 1000),
			 CUDA_SUCCESS);
	assert_memory_equal(bench.host, bench.host + BYTES, 1000);
	bench_close(&bench);
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* A limited engine is never faster than it was told to be, for all streams of its
 * direction together. */
static void test_engine_is_shared_and_limited(void **state)
{
	const struct driver_soft_options options = {
		.memory = 64 * MIB, .d2h_gib_s = 0.5, .h2d_gib_s = 0.5, .latency_us = 100};
	const uint64_t copy_ns = 100000 + MIB * 1000000000u / (512 * MIB), slack = 1000;
	struct soft_device soft;
	CUdeviceptr device;
	CUcontext context;
	CUstream streams[2];
	void *host;
	uint64_t start;

	(void)state;
	soft_open(&soft, &options);
	assert_int_equal(soft.driver->cuDevicePrimaryCtxRetain(&context, 0), CUDA_SUCCESS);
	assert_int_equal(soft.driver->cuCtxSetCurrent(context), CUDA_SUCCESS);
	device = soft_memory(soft.driver, 0, GRANULE);
	host = soft_host(soft.driver, GRANULE, 0);
	streams[0] = soft_stream(soft.driver);
	streams[1] = soft_stream(soft.driver);
	start = now_ns();

	for (unsigned i = 0; i < 6; i++)
		assert_int_equal(soft.driver->cuMemcpyHtoDAsync(device + i % 2 * MIB, host, MIB,
								streams[i % 2]),
				 CUDA_SUCCESS);

	assert_int_equal(soft.driver->cuCtxSynchronize(), CUDA_SUCCESS);
	assert_in_range(now_ns() - start, 6 * copy_ns - slack, UINT64_MAX);
	start = now_ns();
	assert_int_equal(soft.driver->cuMemcpyDtoH(host, device, MIB), CUDA_SUCCESS);
	assert_in_range(now_ns() - start, copy_ns - slack, UINT64_MAX);
	assert_int_equal(soft.driver->cuStreamDestroy(streams[0]), CUDA_SUCCESS);
	assert_int_equal(soft.driver->cuStreamDestroy(streams[1]), CUDA_SUCCESS);
	soft_host_free(soft.driver, host, GRANULE);
	soft_memory_free(soft.driver, device, GRANULE);
	soft_close(&soft);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_round_trip, soft_setup, soft_teardown),
		cmocka_unit_test_setup_teardown(test_many_in_order, soft_setup, soft_teardown),
		cmocka_unit_test_setup_teardown(test_spans_mappings, soft_setup, soft_teardown),
		cmocka_unit_test_setup_teardown(test_unmapped_memory, soft_setup, soft_teardown),
		cmocka_unit_test_setup_teardown(test_access_is_needed, soft_setup, soft_teardown),
		cmocka_unit_test_setup_teardown(test_peer_needs_access, soft_setup, soft_teardown),
		cmocka_unit_test_setup_teardown(test_host_must_be_registered, soft_setup,
						soft_teardown),
		cmocka_unit_test_setup_teardown(test_overlap_is_refused, soft_setup, soft_teardown),
		cmocka_unit_test_setup_teardown(test_nothing_is_copied, soft_setup, soft_teardown),
		cmocka_unit_test_setup_teardown(test_busy_memory_stays, soft_setup, soft_teardown),
		cmocka_unit_test(test_engine_is_shared_and_limited),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
