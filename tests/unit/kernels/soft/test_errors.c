/* SPDX-License-Identifier: Apache-2.0 */
/* Soft: what the errors of kernels do to the context. Each on a driver of its own, as the
 * context is of no use after them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/support/soft_bench.h"

static void ruin_open(struct soft_device *soft, struct soft_bench *bench)
{
	const struct driver_soft_options options = {.devices = 2, .memory = 64 * MIB};

	soft_open(soft, &options);
	assert_int_equal(soft->driver->cuDevicePrimaryCtxRetain(&soft->context, 0), CUDA_SUCCESS);
	assert_int_equal(soft->driver->cuCtxSetCurrent(soft->context), CUDA_SUCCESS);
	soft_bench_open(bench, soft);
}

static void test_kernels_error_stays(void **state)
{
	struct soft_device soft;
	struct soft_bench bench;
	CUstream other;
	CUevent event;
	uint32_t word;

	(void)state;
	ruin_open(&soft, &bench);
	other = soft_stream(soft.driver);
	assert_int_equal(soft.driver->cuEventCreate(&event, 0), CUDA_SUCCESS);
	soft_bench_fail(&bench, CUDA_SUCCESS);
	assert_int_equal(soft_bench_wait(&bench), CUDA_SUCCESS);
	soft_bench_fail(&bench, CUDA_ERROR_ILLEGAL_INSTRUCTION);
	assert_int_equal(soft_bench_wait(&bench), CUDA_ERROR_ILLEGAL_INSTRUCTION);
	assert_int_equal(soft_bench_wait(&bench), CUDA_ERROR_ILLEGAL_INSTRUCTION);
	assert_int_equal(soft.driver->cuStreamSynchronize(other), CUDA_ERROR_ILLEGAL_INSTRUCTION);
	assert_int_equal(soft.driver->cuStreamQuery(other), CUDA_ERROR_ILLEGAL_INSTRUCTION);
	assert_int_equal(soft.driver->cuCtxSynchronize(), CUDA_ERROR_ILLEGAL_INSTRUCTION);
	assert_int_equal(soft.driver->cuEventQuery(event), CUDA_ERROR_ILLEGAL_INSTRUCTION);
	assert_int_equal(soft.driver->cuEventRecord(event, other), CUDA_ERROR_ILLEGAL_INSTRUCTION);
	assert_int_equal(soft.driver->cuMemcpyDtoH(&word, bench.memory, 4),
			 CUDA_ERROR_ILLEGAL_INSTRUCTION);
	assert_int_equal(soft.driver->cuMemsetD8Async(bench.memory, 1, 1, other),
			 CUDA_ERROR_ILLEGAL_INSTRUCTION);
	assert_int_equal(soft.driver->cuStreamDestroy(other), CUDA_ERROR_ILLEGAL_INSTRUCTION);
	assert_int_equal(soft.driver->cuModuleUnload(bench.module), CUDA_ERROR_ILLEGAL_INSTRUCTION);
	assert_int_equal(soft.driver->cuDevicePrimaryCtxRetain(&soft.context, 0),
			 CUDA_ERROR_ILLEGAL_INSTRUCTION);

	/* Memory needs no context; the context goes with what it has; another device has
	 * nothing to do with it. */
	soft_memory_free(soft.driver, bench.memory, GRANULE);
	assert_int_equal(soft.driver->cuDevicePrimaryCtxRelease(0), CUDA_SUCCESS);
	assert_int_equal(soft.driver->cuDevicePrimaryCtxRetain(&soft.context, 0),
			 CUDA_ERROR_ILLEGAL_INSTRUCTION);
	assert_int_equal(soft.driver->cuDevicePrimaryCtxRetain(&soft.context, 1), CUDA_SUCCESS);
	assert_int_equal(soft.driver->cuCtxSetCurrent(soft.context), CUDA_SUCCESS);
	assert_int_equal(soft.driver->cuCtxSynchronize(), CUDA_SUCCESS);
	soft_close(&soft);
}

/* What the context's streams still had is dropped, and who waits for it hears of the
 * error. */
static void test_error_drops_what_is_queued(void **state)
{
	struct soft_device soft;
	uint64_t gate[2], *word;
	struct soft_bench bench;
	CUstream other;
	CUevent event;

	(void)state;
	ruin_open(&soft, &bench);
	other = soft_stream(soft.driver);
	word = soft_host(soft.driver, 4096, CU_MEMHOSTREGISTER_DEVICEMAP);
	assert_int_equal(soft.driver->cuEventCreate(&event, CU_EVENT_DISABLE_TIMING), CUDA_SUCCESS);

	/* Another stream waits for what never comes. */
	assert_int_equal(
		soft.driver->cuStreamWaitValue64(other, soft_alias(soft.driver, word), 1, 0),
		CUDA_SUCCESS);
	soft_bench_spin(&bench, gate, bench.memory);
	soft_bench_fail(&bench, CUDA_ERROR_LAUNCH_FAILED);
	assert_int_equal(soft.driver->cuStreamWriteValue64(bench.stream,
							   soft_alias(soft.driver, word) + 8, 1, 0),
			 CUDA_SUCCESS);
	assert_int_equal(soft.driver->cuEventRecord(event, bench.stream), CUDA_SUCCESS);
	assert_int_equal(soft.driver->cuEventQuery(event), CUDA_ERROR_NOT_READY);
	soft_bench_open_gate(gate);
	assert_int_equal(soft.driver->cuEventSynchronize(event), CUDA_ERROR_LAUNCH_FAILED);
	assert_int_equal(soft.driver->cuCtxSynchronize(), CUDA_ERROR_LAUNCH_FAILED);
	assert_int_equal(word[1], 0);

	/* Nothing holds the memory any more, once it is over on both streams; that is all
	 * one can wait for now. */
	while (soft.driver->cuMemUnmap(bench.memory, GRANULE) == CUDA_ERROR_ILLEGAL_STATE)
		usleep(100);
	assert_int_equal(soft.driver->cuMemAddressFree(bench.memory, GRANULE), CUDA_SUCCESS);
	soft_close(&soft);
	munmap(word, 4096);
}

/* Each case: a target the kernel may not write. */
static void ruin_by_writing(CUdeviceptr (*target)(const struct driver *, CUdeviceptr memory))
{
	struct soft_device soft;
	struct soft_bench bench;

	ruin_open(&soft, &bench);
	assert_int_equal(soft_bench_fill(&bench, target(soft.driver, bench.memory), 1, 2),
			 CUDA_SUCCESS);
	assert_int_equal(soft_bench_wait(&bench), CUDA_ERROR_ILLEGAL_ADDRESS);
	soft_close(&soft);
}

static CUdeviceptr nowhere(const struct driver *driver, CUdeviceptr memory)
{
	(void)driver;
	(void)memory;
	return 4096;
}

static CUdeviceptr past_the_end(const struct driver *driver, CUdeviceptr memory)
{
	(void)driver;
	return memory + GRANULE - 4;
}

static CUdeviceptr read_only(const struct driver *driver, CUdeviceptr memory)
{
	assert_int_equal(soft_access(driver, memory, GRANULE, 0, CU_MEM_ACCESS_FLAGS_PROT_READ),
			 CUDA_SUCCESS);
	return memory;
}

static CUdeviceptr of_the_other_device(const struct driver *driver, CUdeviceptr memory)
{
	assert_int_equal(
		soft_access(driver, memory, GRANULE, 1, CU_MEM_ACCESS_FLAGS_PROT_READWRITE),
		CUDA_SUCCESS);
	assert_int_equal(soft_access(driver, memory, GRANULE, 0, CU_MEM_ACCESS_FLAGS_PROT_NONE),
			 CUDA_SUCCESS);
	return memory;
}

static _Alignas(4096) unsigned char registered[8192];

/* The alias of memory registered so. */
static CUdeviceptr alias_of(const struct driver *driver, unsigned flags)
{
	assert_int_equal(driver->cuMemHostRegister(registered, sizeof(registered),
						   CU_MEMHOSTREGISTER_DEVICEMAP | flags),
			 CUDA_SUCCESS);
	return soft_alias(driver, registered);
}

static CUdeviceptr host_not_mapped(const struct driver *driver, CUdeviceptr memory)
{
	const CUdeviceptr alias = alias_of(driver, 0);

	(void)memory;
	assert_int_equal(driver->cuMemHostUnregister(registered), CUDA_SUCCESS);
	assert_int_equal(driver->cuMemHostRegister(registered, sizeof(registered), 0),
			 CUDA_SUCCESS);

	return alias;
}

static CUdeviceptr host_read_only(const struct driver *driver, CUdeviceptr memory)
{
	(void)memory;
	return alias_of(driver, CU_MEMHOSTREGISTER_READ_ONLY);
}

static CUdeviceptr host_unregistered(const struct driver *driver, CUdeviceptr memory)
{
	const CUdeviceptr alias = alias_of(driver, 0);

	(void)memory;
	assert_int_equal(driver->cuMemHostUnregister(registered), CUDA_SUCCESS);
	return alias;
}

static CUdeviceptr host_by_its_own_address(const struct driver *driver, CUdeviceptr memory)
{
	(void)memory;
	alias_of(driver, 0);
	return (CUdeviceptr)(uintptr_t)registered;
}

static void test_illegal_addresses(void **state)
{
	(void)state;
	ruin_by_writing(nowhere);
	ruin_by_writing(past_the_end);
	ruin_by_writing(read_only);
	ruin_by_writing(of_the_other_device);
	ruin_by_writing(host_not_mapped);
	ruin_by_writing(host_read_only);
	ruin_by_writing(host_unregistered);
	ruin_by_writing(host_by_its_own_address);
}

/* A driver that is closed with all of this under way leaves nothing, and forgets kernels. */
static void test_closing_closes_everything(void **state)
{
	struct soft_device soft;
	struct soft_bench bench;
	CUfunction function;
	CUmodule module;
	uint64_t *word;

	(void)state;
	ruin_open(&soft, &bench);
	word = soft_host(soft.driver, 4096, CU_MEMHOSTREGISTER_DEVICEMAP);
	assert_int_equal(
		soft.driver->cuStreamWaitValue64(bench.stream, soft_alias(soft.driver, word), 1, 0),
		CUDA_SUCCESS);
	assert_int_equal(soft_bench_fill(&bench, bench.memory, 1, 1), CUDA_SUCCESS);
	soft_close(&soft);
	munmap(word, 4096);
	soft_open(&soft, NULL);
	assert_int_equal(soft.driver->cuDevicePrimaryCtxRetain(&soft.context, 0), CUDA_SUCCESS);
	assert_int_equal(soft.driver->cuCtxSetCurrent(soft.context), CUDA_SUCCESS);
	assert_int_equal(soft.driver->cuModuleLoadData(&module, soft_bench_text), CUDA_SUCCESS);
	assert_int_equal(soft.driver->cuModuleGetFunction(&function, module, "fill"),
			 CUDA_ERROR_NO_BINARY_FOR_GPU);
	soft_close(&soft);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kernels_error_stays),
		cmocka_unit_test(test_error_drops_what_is_queued),
		cmocka_unit_test(test_illegal_addresses),
		cmocka_unit_test(test_closing_closes_everything),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
