/* SPDX-License-Identifier: Apache-2.0 */
/* soft_bench: see soft_bench.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/soft_bench.h"

#include <string.h>
#include <unistd.h>

#define HEAD ".version 6.0\n.target sm_70\n.address_size 64\n"
#define FILL_PARAMS "(.param .u64 target, .param .u32 value, .param .u32 count)"
#define BODY "{ ret; }\n"

const char soft_bench_text[] =
	HEAD ".visible .entry fill" FILL_PARAMS BODY ".visible .entry look(.param .u64 seen)" BODY
	     ".visible .entry spin(.param .u64 gate, .param .u64 target)" BODY
	     ".visible .entry fail(.param .u32 result)" BODY ".visible .entry call()" BODY
	     ".visible .entry nobodys()" BODY
	     ".visible .entry bounded() .maxntid 64, 2, 1 .minnctapersm 1" BODY
	     ".visible .entry exact() .reqntid 32" BODY;

/* ---- Kernels ---- */

static CUresult fill_run(struct hbm_soft_launch *launch, void *const *params)
{
	const CUdeviceptr target = *(const CUdeviceptr *)params[0];
	const uint32_t value = *(const uint32_t *)params[1], count = *(const uint32_t *)params[2];
	uint32_t *words = hbm_soft_memory(launch, target, count * sizeof(uint32_t), true);

	if (words == NULL)
		return CUDA_SUCCESS; /* it will not be believed */

	for (uint32_t i = 0; i < count; i++)
		words[i] = value;

	return CUDA_SUCCESS;
}

/* Says in host memory, named by its host address, what it was launched with. */
static CUresult look_run(struct hbm_soft_launch *launch, void *const *params)
{
	memcpy(*(void **)params[0], launch, sizeof(*launch));
	return CUDA_SUCCESS;
}

/* Takes hold of a word of device memory to read it, says so by setting gate[1], and is
 * over when gate[0] is set. */
static CUresult spin_run(struct hbm_soft_launch *launch, void *const *params)
{
	uint64_t *gate = *(uint64_t **)params[0];
	const CUdeviceptr target = *(const CUdeviceptr *)params[1];

	if (target != 0 && hbm_soft_memory(launch, target, 1, false) == NULL)
		return CUDA_ERROR_ILLEGAL_ADDRESS;

	__atomic_store_n(&gate[1], 1, __ATOMIC_SEQ_CST);
	while (__atomic_load_n(&gate[0], __ATOMIC_SEQ_CST) == 0)
		usleep(100);

	return CUDA_SUCCESS;
}

static CUresult fail_run(struct hbm_soft_launch *launch, void *const *params)
{
	(void)launch;
	return *(const CUresult *)params[0];
}

const struct driver *soft_bench_called;
CUresult soft_bench_result;

static CUresult call_run(struct hbm_soft_launch *launch, void *const *params)
{
	int count;

	(void)launch;
	(void)params;
	soft_bench_result = soft_bench_called->cuDeviceGetCount(&count);

	return CUDA_SUCCESS;
}

static CUresult nothing_run(struct hbm_soft_launch *launch, void *const *params)
{
	(void)launch;
	(void)params;
	return CUDA_SUCCESS;
}

static const uint32_t fill_bytes[] = {8, 4, 4}, one_pointer[] = {8}, two_pointers[] = {8, 8},
		      one_word[] = {4};
static const struct hbm_soft_kernel kernels[] = {
	{"fill", fill_bytes, 3, fill_run},   {"look", one_pointer, 1, look_run},
	{"spin", two_pointers, 2, spin_run}, {"fail", one_word, 1, fail_run},
	{"call", NULL, 0, call_run},         {"bounded", NULL, 0, nothing_run},
	{"exact", NULL, 0, nothing_run},
};

void soft_bench_open(struct soft_bench *bench, const struct soft_device *soft)
{
	bench->soft = soft;
	bench->driver = soft->driver;
	for (size_t i = 0; i < sizeof(kernels) / sizeof(kernels[0]); i++)
		assert_int_equal(soft->call.kernel(&kernels[i]), 0);
	assert_int_equal(bench->driver->cuModuleLoadData(&bench->module, soft_bench_text),
			 CUDA_SUCCESS);
	bench->memory = soft_memory(bench->driver, 0, GRANULE);
	bench->stream = soft_stream(bench->driver);
}

void soft_bench_close(struct soft_bench *bench)
{
	assert_int_equal(bench->driver->cuStreamDestroy(bench->stream), CUDA_SUCCESS);
	soft_memory_free(bench->driver, bench->memory, GRANULE);
	assert_int_equal(bench->driver->cuModuleUnload(bench->module), CUDA_SUCCESS);
}

CUfunction soft_bench_function(const struct soft_bench *bench, const char *name)
{
	CUfunction function;

	assert_int_equal(bench->driver->cuModuleGetFunction(&function, bench->module, name),
			 CUDA_SUCCESS);
	return function;
}

CUresult soft_bench_launch(const struct soft_bench *bench, const char *name, CUstream stream,
			   void **params)
{
	return bench->driver->cuLaunchKernel(soft_bench_function(bench, name), 1, 1, 1, 32, 1, 1, 0,
					     stream, params, NULL);
}

CUresult soft_bench_fill(const struct soft_bench *bench, CUdeviceptr target, uint32_t value,
			 uint32_t count)
{
	void *params[] = {&target, &value, &count};

	return soft_bench_launch(bench, "fill", bench->stream, params);
}

void soft_bench_fail(const struct soft_bench *bench, CUresult result)
{
	void *params[] = {&result};

	assert_int_equal(soft_bench_launch(bench, "fail", bench->stream, params), CUDA_SUCCESS);
}

void soft_bench_spin(const struct soft_bench *bench, uint64_t gate[2], CUdeviceptr target)
{
	void *params[] = {&gate, &target};

	gate[0] = gate[1] = 0;
	assert_int_equal(soft_bench_launch(bench, "spin", bench->stream, params), CUDA_SUCCESS);
	while (__atomic_load_n(&gate[1], __ATOMIC_SEQ_CST) == 0)
		usleep(100);
}

void soft_bench_open_gate(uint64_t *gate)
{
	__atomic_store_n(gate, 1, __ATOMIC_SEQ_CST);
}

CUresult soft_bench_wait(const struct soft_bench *bench)
{
	return bench->driver->cuStreamSynchronize(bench->stream);
}

uint32_t soft_bench_word(const struct soft_bench *bench, CUdeviceptr address)
{
	uint32_t word;

	assert_int_equal(bench->driver->cuMemcpyDtoH(&word, address, sizeof(word)), CUDA_SUCCESS);
	return word;
}
