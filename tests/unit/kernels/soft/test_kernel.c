/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Soft: modules, the text they are made of, launches, what a kernel may touch, and what
 * its errors do to the context.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/support/soft_bench.h"

#define HEAD ".version 6.0\n.target sm_70\n.address_size 64\n"

static CUresult nothing_run(struct hbm_soft_launch *launch, void *const *params)
{
	(void)launch;
	(void)params;
	return CUDA_SUCCESS;
}

/* ---- Texts ---- */

static void test_texts(void **state)
{
	static const struct {
		const char *text;
		CUresult result;
	} cases[] = {
		{HEAD, CUDA_SUCCESS},
		{"/* made */ // by hand\n" HEAD, CUDA_SUCCESS},
		{".version 8.0 .target sm_52, debug .address_size 64 .entry e {}", CUDA_SUCCESS},
		{HEAD ".func (.param .b32 r) f(.param .b32 a) { { } } .entry e() {\"}\" /* } */ { "
		      "} // }\n }",
		 CUDA_SUCCESS},
		{HEAD ".global .align 4 .b8 table[2] = {1, 2}; .extern .entry e();", CUDA_SUCCESS},
		{"", CUDA_ERROR_INVALID_IMAGE},
		{"int main(void) { return 0; }", CUDA_ERROR_INVALID_IMAGE},
		{".target sm_70 .version 6.0 .address_size 64", CUDA_ERROR_INVALID_IMAGE},
		{"\177ELF", CUDA_ERROR_NO_BINARY_FOR_GPU},
		{"\x50\xed\x55\xba", CUDA_ERROR_NO_BINARY_FOR_GPU},
		{".version 6", CUDA_ERROR_INVALID_PTX},
		{".version 6.0", CUDA_ERROR_INVALID_PTX},
		{".version 8.1 .target sm_70 .address_size 64", CUDA_ERROR_UNSUPPORTED_PTX_VERSION},
		{".version 5.0 .target sm_70 .address_size 64", CUDA_ERROR_UNSUPPORTED_PTX_VERSION},
		{".version 6.0 .target compute_70 .address_size 64", CUDA_ERROR_INVALID_PTX},
		{".version 7.0 .target sm_80 .address_size 64", CUDA_ERROR_NO_BINARY_FOR_GPU},
		{".version 8.0 .target sm_90a .address_size 64", CUDA_ERROR_NO_BINARY_FOR_GPU},
		{".version 6.0 .target sm_30 .address_size 64", CUDA_ERROR_NO_BINARY_FOR_GPU},
		{".version 6.0 .target sm_70 .entry e() {}",
		 CUDA_ERROR_INVALID_PTX}, /* 32 is the default */
		{".version 6.0 .target sm_70 .address_size 32", CUDA_ERROR_INVALID_PTX},
		{HEAD ".entry e() { ", CUDA_ERROR_INVALID_PTX},
		{HEAD ".entry e() { } }", CUDA_ERROR_INVALID_PTX},
		{HEAD ".entry e() { /* }", CUDA_ERROR_INVALID_PTX},
		{HEAD "/* more to come", CUDA_ERROR_INVALID_PTX},
		{HEAD ".file 1 \"a.cu", CUDA_ERROR_INVALID_PTX},
		{HEAD ".entry () { }", CUDA_ERROR_INVALID_PTX},
		{HEAD ".entry e()", CUDA_ERROR_INVALID_PTX},
		{HEAD ".entry e() { } .entry e() { }", CUDA_ERROR_INVALID_PTX},
		{HEAD ".entry e(.param .u64) { }", CUDA_ERROR_INVALID_PTX},
		{HEAD ".entry e(.param a) { }", CUDA_ERROR_INVALID_PTX},
		{HEAD ".entry e(.param .u64 a .param .u64 b) { }", CUDA_ERROR_INVALID_PTX},
		{HEAD ".entry e(.param .b8 a[4097]) { }", CUDA_ERROR_INVALID_PTX},
		{HEAD ".entry e(.param .b8 a[4096], .param .b8 b) { }", CUDA_ERROR_INVALID_PTX},
		{HEAD ".entry e() .maxntid , { }", CUDA_ERROR_INVALID_PTX},
	};
	const struct soft_device *soft = *state;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		CUmodule module = NULL;
		CUresult result = soft->driver->cuModuleLoadData(&module, cases[i].text);

		if (result != cases[i].result)
			print_error("%s\n", cases[i].text);

		assert_int_equal(result, cases[i].result);
		assert_int_equal(soft->call.live("modules"), result == CUDA_SUCCESS);
		if (result == CUDA_SUCCESS)
			assert_int_equal(soft->driver->cuModuleUnload(module), CUDA_SUCCESS);
		else
			assert_null(module);
	}

	assert_int_equal(soft->driver->cuModuleLoadData(NULL, HEAD), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(soft->driver->cuModuleLoadData(&(CUmodule){NULL}, NULL),
			 CUDA_ERROR_INVALID_VALUE);
}

/* An entry and a kernel belong together if they agree about every parameter. */
static void test_parameters_must_agree(void **state)
{
	static const struct {
		const char *params;
		CUresult result;
	} cases[] = {
		{"(.param .align 8 .b8 a[16], .param .f32 b, .param .s16 c, .param .u8 d)",
		 CUDA_SUCCESS},
		{"(.param .b64 a[2], .param .u32 .ptr .global .align 4 b, .param .b16 c, .param "
		 ".s8 d)",
		 CUDA_SUCCESS},
		{"(.param .b8 a[15], .param .f32 b, .param .s16 c, .param .u8 d)",
		 CUDA_ERROR_NO_BINARY_FOR_GPU},
		{"(.param .b8 a[16], .param .f64 b, .param .s16 c, .param .u8 d)",
		 CUDA_ERROR_NO_BINARY_FOR_GPU},
		{"(.param .b8 a[16], .param .f32 b, .param .s16 c)", CUDA_ERROR_NO_BINARY_FOR_GPU},
		{"()", CUDA_ERROR_NO_BINARY_FOR_GPU},
		{"", CUDA_ERROR_NO_BINARY_FOR_GPU},
	};
	static const uint32_t bytes[] = {16, 4, 2, 1};
	const struct soft_device *soft = *state;
	CUfunction function;
	CUmodule module;

	assert_int_equal(soft->call.kernel(&(struct hbm_soft_kernel){"e", bytes, 4, nothing_run}),
			 0);

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char source[256];

		snprintf(source, sizeof(source), HEAD ".visible .entry e%s { ret; }",
			 cases[i].params);
		assert_int_equal(soft->driver->cuModuleLoadData(&module, source), CUDA_SUCCESS);
		assert_int_equal(soft->driver->cuModuleGetFunction(&function, module, "e"),
				 cases[i].result);
		assert_int_equal(soft->driver->cuModuleUnload(module), CUDA_SUCCESS);
	}
}

/* ---- Modules and functions ---- */

static CUresult another_run(struct hbm_soft_launch *launch, void *const *params)
{
	return nothing_run(launch, params);
}

static void test_kernels_are_registered(void **state)
{
	static const uint32_t none[] = {8, 0}, huge[] = {4096, 1}, pointer[] = {8}, word[] = {4};
	const struct soft_device *soft = *state;

	assert_int_equal(soft->call.kernel(NULL), -EINVAL);
	assert_int_equal(soft->call.kernel(&(struct hbm_soft_kernel){NULL, NULL, 0, nothing_run}),
			 -EINVAL);
	assert_int_equal(soft->call.kernel(&(struct hbm_soft_kernel){"e", NULL, 0, NULL}), -EINVAL);
	assert_int_equal(soft->call.kernel(&(struct hbm_soft_kernel){"e", NULL, 1, nothing_run}),
			 -EINVAL);
	assert_int_equal(soft->call.kernel(&(struct hbm_soft_kernel){"e", none, 2, nothing_run}),
			 -EINVAL);
	assert_int_equal(soft->call.kernel(&(struct hbm_soft_kernel){"e", huge, 2, nothing_run}),
			 -EINVAL);
	assert_int_equal(soft->call.kernel(&(struct hbm_soft_kernel){
				 "e", huge, HBM_SOFT_PARAMS_MAX + 1, nothing_run}),
			 -EINVAL);
	assert_int_equal(soft->call.kernel(&(struct hbm_soft_kernel){"e", word, 1, nothing_run}),
			 0);
	assert_int_equal(soft->call.kernel(&(struct hbm_soft_kernel){"e", word, 1, nothing_run}),
			 0);
	assert_int_equal(soft->call.kernel(&(struct hbm_soft_kernel){"e", pointer, 1, nothing_run}),
			 -EEXIST);
	assert_int_equal(soft->call.kernel(&(struct hbm_soft_kernel){"e", word, 1, another_run}),
			 -EEXIST);
}

static void test_functions(void **state)
{
	const struct driver *driver;
	CUfunction function, again;
	struct soft_bench bench;
	CUmodule other;

	soft_bench_open(&bench, *state);
	driver = bench.driver;
	function = soft_bench_function(&bench, "fill");
	assert_ptr_equal(soft_bench_function(&bench, "fill"), function);
	assert_ptr_not_equal(soft_bench_function(&bench, "look"), function);
	assert_int_equal(driver->cuModuleGetFunction(&again, bench.module, "nobodys"),
			 CUDA_ERROR_NO_BINARY_FOR_GPU);
	assert_int_equal(driver->cuModuleGetFunction(&again, bench.module, "fil"),
			 CUDA_ERROR_NOT_FOUND);
	assert_int_equal(driver->cuModuleGetFunction(&again, bench.module, ""),
			 CUDA_ERROR_NOT_FOUND);
	assert_int_equal(driver->cuModuleGetFunction(NULL, bench.module, "fill"),
			 CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(driver->cuModuleGetFunction(&again, bench.module, NULL),
			 CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(driver->cuModuleGetFunction(&again, NULL, "fill"),
			 CUDA_ERROR_INVALID_HANDLE);

	/* The same text again is another module, with functions of its own. */
	assert_int_equal(driver->cuModuleLoadData(&other, soft_bench_text), CUDA_SUCCESS);
	assert_int_equal(bench.soft->call.live("modules"), 2);
	assert_int_equal(driver->cuModuleGetFunction(&again, other, "fill"), CUDA_SUCCESS);
	assert_ptr_not_equal(again, function);
	assert_int_equal(driver->cuModuleUnload(other), CUDA_SUCCESS);
	assert_int_equal(driver->cuModuleUnload(other), CUDA_ERROR_INVALID_HANDLE);
	assert_int_equal(
		driver->cuLaunchKernel(again, 1, 1, 1, 1, 1, 1, 0, bench.stream, NULL, NULL),
		CUDA_ERROR_INVALID_HANDLE);
	assert_int_equal(driver->cuModuleUnload((CUmodule)(void *)bench.stream),
			 CUDA_ERROR_INVALID_HANDLE);
	soft_bench_close(&bench);
}

static void test_other_contexts(void **state)
{
	const struct soft_device *soft = *state;
	const struct driver *driver = soft->driver;
	CUfunction function;
	struct soft_bench bench;
	CUstream stream;
	CUcontext other;
	CUmodule module;

	soft_bench_open(&bench, soft);
	function = soft_bench_function(&bench, "bounded");
	assert_int_equal(driver->cuDevicePrimaryCtxRetain(&other, 1), CUDA_SUCCESS);
	assert_int_equal(driver->cuCtxSetCurrent(other), CUDA_SUCCESS);
	stream = soft_stream(driver);
	assert_int_equal(driver->cuModuleUnload(bench.module), CUDA_ERROR_INVALID_HANDLE);
	assert_int_equal(driver->cuModuleGetFunction(&function, bench.module, "fill"),
			 CUDA_ERROR_INVALID_HANDLE);
	assert_int_equal(driver->cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, stream, NULL, NULL),
			 CUDA_ERROR_INVALID_HANDLE);
	assert_int_equal(driver->cuCtxSetCurrent(soft->context), CUDA_SUCCESS);
	assert_int_equal(driver->cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, stream, NULL, NULL),
			 CUDA_ERROR_INVALID_HANDLE);
	assert_int_equal(driver->cuCtxSetCurrent(other), CUDA_SUCCESS);
	assert_int_equal(driver->cuStreamDestroy(stream), CUDA_SUCCESS);
	assert_int_equal(driver->cuDevicePrimaryCtxRelease(1), CUDA_SUCCESS);
	assert_int_equal(driver->cuModuleLoadData(&module, soft_bench_text),
			 CUDA_ERROR_CONTEXT_IS_DESTROYED);
	assert_int_equal(driver->cuCtxSetCurrent(NULL), CUDA_SUCCESS);
	assert_int_equal(driver->cuModuleLoadData(&module, soft_bench_text),
			 CUDA_ERROR_INVALID_CONTEXT);
	assert_int_equal(
		driver->cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, bench.stream, NULL, NULL),
		CUDA_ERROR_INVALID_CONTEXT);
	assert_int_equal(driver->cuCtxSetCurrent(soft->context), CUDA_SUCCESS);
	soft_bench_close(&bench);
	assert_int_equal(driver->cuModuleLoadData(&module, soft_bench_text), CUDA_SUCCESS);
	assert_int_equal(driver->cuDevicePrimaryCtxRelease(0), CUDA_ERROR_ILLEGAL_STATE);
	assert_int_equal(driver->cuModuleUnload(module), CUDA_SUCCESS);
}

static void test_unloading_waits_for_launches(void **state)
{
	struct soft_bench bench;
	uint64_t gate[2];

	soft_bench_open(&bench, *state);
	soft_bench_spin(&bench, gate, 0);
	assert_int_equal(bench.driver->cuModuleUnload(bench.module), CUDA_ERROR_ILLEGAL_STATE);
	assert_int_equal(soft_bench_fill(&bench, bench.memory, 1, 1),
			 CUDA_SUCCESS); /* queued behind it */
	soft_bench_open_gate(gate);
	assert_int_equal(soft_bench_wait(&bench), CUDA_SUCCESS);
	soft_bench_close(&bench);
}

/* ---- Launches ---- */

static void test_fill(void **state)
{
	struct soft_bench bench;

	soft_bench_open(&bench, *state);
	assert_int_equal(soft_bench_fill(&bench, bench.memory + 4, 0xabcdef01, 1000), CUDA_SUCCESS);
	assert_int_equal(soft_bench_fill(&bench, bench.memory + 8, 7, 1), CUDA_SUCCESS);
	assert_int_equal(soft_bench_wait(&bench), CUDA_SUCCESS);
	assert_int_equal(soft_bench_word(&bench, bench.memory), 0);
	assert_int_equal(soft_bench_word(&bench, bench.memory + 4), 0xabcdef01);
	assert_int_equal(soft_bench_word(&bench, bench.memory + 8), 7);
	assert_int_equal(soft_bench_word(&bench, bench.memory + 4000), 0xabcdef01);
	assert_int_equal(soft_bench_word(&bench, bench.memory + 4004), 0);
	soft_bench_close(&bench);
}

static void test_parameters_are_copied(void **state)
{
	CUdeviceptr target;
	uint32_t value = 5, count = 1;
	void *params[] = {&target, &value, &count};
	struct soft_bench bench;
	uint64_t gate[2];

	soft_bench_open(&bench, *state);
	soft_bench_spin(&bench, gate, 0);
	target = bench.memory;
	assert_int_equal(soft_bench_launch(&bench, "fill", bench.stream, params), CUDA_SUCCESS);
	target = 0;
	value = 6;
	params[0] = params[1] = params[2] = NULL;
	soft_bench_open_gate(gate);
	assert_int_equal(soft_bench_wait(&bench), CUDA_SUCCESS);
	assert_int_equal(soft_bench_word(&bench, bench.memory), 5);
	soft_bench_close(&bench);
}

static void test_kernel_sees_sizes(void **state)
{
	struct hbm_soft_launch seen, *at = &seen;
	void *params[] = {&at};
	struct soft_bench bench;

	soft_bench_open(&bench, *state);
	assert_int_equal(bench.driver->cuLaunchKernel(soft_bench_function(&bench, "look"),
						      0x7fffffff, 65535, 2, 8, 2, 64, 49152,
						      bench.stream, params, NULL),
			 CUDA_SUCCESS);
	assert_int_equal(soft_bench_wait(&bench), CUDA_SUCCESS);
	assert_memory_equal(seen.grid, ((uint32_t[]){0x7fffffff, 65535, 2}), sizeof(seen.grid));
	assert_memory_equal(seen.block, ((uint32_t[]){8, 2, 64}), sizeof(seen.block));
	assert_int_equal(seen.shared_bytes, 49152);
	soft_bench_close(&bench);
}

static void test_launches_refused(void **state)
{
	static const struct {
		const char *name;
		unsigned grid[3], block[3], shared;
		CUresult result;
	} cases[] = {
		{"bounded", {0, 1, 1}, {1, 1, 1}, 0, CUDA_ERROR_INVALID_VALUE},
		{"bounded", {1, 0, 1}, {1, 1, 1}, 0, CUDA_ERROR_INVALID_VALUE},
		{"bounded", {1, 1, 0}, {1, 1, 1}, 0, CUDA_ERROR_INVALID_VALUE},
		{"bounded", {1u << 31, 1, 1}, {1, 1, 1}, 0, CUDA_ERROR_INVALID_VALUE},
		{"bounded", {1, 65536, 1}, {1, 1, 1}, 0, CUDA_ERROR_INVALID_VALUE},
		{"bounded", {1, 1, 65536}, {1, 1, 1}, 0, CUDA_ERROR_INVALID_VALUE},
		{"bounded", {1, 1, 1}, {0, 1, 1}, 0, CUDA_ERROR_INVALID_VALUE},
		{"bounded", {1, 1, 1}, {1, 0, 1}, 0, CUDA_ERROR_INVALID_VALUE},
		{"bounded", {1, 1, 1}, {1, 1, 0}, 0, CUDA_ERROR_INVALID_VALUE},
		{"bounded", {1, 1, 1}, {1, 1, 65}, 0, CUDA_ERROR_INVALID_VALUE},
		{"bounded", {1, 1, 1}, {1025, 1, 1}, 0, CUDA_ERROR_INVALID_VALUE},
		{"bounded", {1, 1, 1}, {33, 32, 1}, 0, CUDA_ERROR_INVALID_VALUE},
		{"bounded", {1, 1, 1}, {1u << 31, 1u << 31, 4}, 0, CUDA_ERROR_INVALID_VALUE},
		{"bounded", {1, 1, 1}, {1, 1, 1}, 49153, CUDA_ERROR_INVALID_VALUE},
		{"bounded", {1, 1, 1}, {129, 1, 1}, 0, CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES},
		{"bounded", {1, 1, 1}, {1, 128, 1}, 0, CUDA_SUCCESS},
		{"exact", {1, 1, 1}, {31, 1, 1}, 0, CUDA_ERROR_INVALID_VALUE},
		{"exact", {1, 1, 1}, {32, 1, 1}, 0, CUDA_SUCCESS},
	};
	struct soft_bench bench;

	soft_bench_open(&bench, *state);

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const unsigned *grid = cases[i].grid, *block = cases[i].block;

		assert_int_equal(bench.driver->cuLaunchKernel(
					 soft_bench_function(&bench, cases[i].name), grid[0],
					 grid[1], grid[2], block[0], block[1], block[2],
					 cases[i].shared, bench.stream, NULL, NULL),
				 cases[i].result);
	}

	assert_int_equal(soft_bench_wait(&bench), CUDA_SUCCESS);
	soft_bench_close(&bench); /* what was refused holds nothing */
}

static void test_parameters_refused(void **state)
{
	uint32_t value = 1, count = 1;
	void *params[] = {NULL, &value, &count}, *extra[] = {NULL};
	CUfunction function;
	struct soft_bench bench;
	CUstream gone;

	soft_bench_open(&bench, *state);
	function = soft_bench_function(&bench, "fill");
	gone = soft_stream(bench.driver);
	assert_int_equal(bench.driver->cuStreamDestroy(gone), CUDA_SUCCESS);
	assert_int_equal(soft_bench_launch(&bench, "fill", bench.stream, params),
			 CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(soft_bench_launch(&bench, "fill", bench.stream, NULL),
			 CUDA_ERROR_INVALID_VALUE);
	params[0] = &bench.memory;
	assert_int_equal(soft_bench_launch(&bench, "fill", NULL, params),
			 CUDA_ERROR_INVALID_HANDLE);
	assert_int_equal(soft_bench_launch(&bench, "fill", gone, params),
			 CUDA_ERROR_INVALID_HANDLE);
	assert_int_equal(bench.driver->cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, bench.stream,
						      params, extra),
			 CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(bench.driver->cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, bench.stream,
						      NULL, extra),
			 CUDA_ERROR_NOT_SUPPORTED);
	assert_int_equal(
		bench.driver->cuLaunchKernel(NULL, 1, 1, 1, 1, 1, 1, 0, bench.stream, params, NULL),
		CUDA_ERROR_INVALID_HANDLE);
	soft_bench_close(&bench);
}

static void test_kernels_call_nothing(void **state)
{
	struct soft_bench bench;

	soft_bench_open(&bench, *state);
	soft_bench_called = bench.driver;
	soft_bench_result = CUDA_SUCCESS;
	assert_int_equal(soft_bench_launch(&bench, "call", bench.stream, NULL), CUDA_SUCCESS);
	assert_int_equal(soft_bench_wait(&bench), CUDA_SUCCESS);
	assert_int_equal(soft_bench_result, CUDA_ERROR_NOT_PERMITTED);
	soft_bench_close(&bench);
}

/* ---- Memory ---- */

static void test_memory_is_held(void **state)
{
	const struct driver *driver;
	struct soft_bench bench;
	uint64_t gate[2], *host;

	soft_bench_open(&bench, *state);
	driver = bench.driver;
	host = soft_host(driver, 4096, CU_MEMHOSTREGISTER_DEVICEMAP);
	soft_bench_spin(&bench, gate, bench.memory);
	assert_int_equal(driver->cuMemUnmap(bench.memory, GRANULE), CUDA_ERROR_ILLEGAL_STATE);
	assert_int_equal(
		soft_access(driver, bench.memory, GRANULE, 0, CU_MEM_ACCESS_FLAGS_PROT_NONE),
		CUDA_ERROR_ILLEGAL_STATE);
	assert_int_equal(driver->cuMemHostUnregister(host), CUDA_SUCCESS);
	assert_int_equal(driver->cuMemHostRegister(host, 4096, CU_MEMHOSTREGISTER_DEVICEMAP),
			 CUDA_SUCCESS);
	soft_bench_open_gate(gate);
	assert_int_equal(soft_bench_wait(&bench), CUDA_SUCCESS);
	soft_bench_spin(&bench, gate, soft_alias(driver, host));
	assert_int_equal(driver->cuMemHostUnregister(host), CUDA_ERROR_ILLEGAL_STATE);
	soft_bench_open_gate(gate);
	assert_int_equal(soft_bench_wait(&bench), CUDA_SUCCESS);
	soft_host_free(driver, host, 4096);
	soft_bench_close(&bench);
}

static void test_host_memory_is_reached(void **state)
{
	CUdeviceptr alias;
	struct soft_bench bench;
	uint32_t *host;

	soft_bench_open(&bench, *state);
	host = soft_host(bench.driver, 4096, CU_MEMHOSTREGISTER_DEVICEMAP);
	assert_int_equal(bench.driver->cuMemHostGetDevicePointer(&alias, host, 0), CUDA_SUCCESS);
	assert_int_equal(soft_bench_fill(&bench, alias, 9, 1024), CUDA_SUCCESS);
	assert_int_equal(soft_bench_fill(&bench, 0, 9, 0),
			 CUDA_SUCCESS); /* no bytes are at any address */
	assert_int_equal(soft_bench_wait(&bench), CUDA_SUCCESS);
	assert_int_equal(host[1023], 9);
	soft_host_free(bench.driver, host, 4096);
	soft_bench_close(&bench);
}

/* ---- Errors: each on a driver of its own, as the context is of no use after them ---- */

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
		cmocka_unit_test_setup_teardown(test_texts, soft_setup, soft_teardown),
		cmocka_unit_test_setup_teardown(test_parameters_must_agree, soft_setup,
						soft_teardown),
		cmocka_unit_test_setup_teardown(test_kernels_are_registered, soft_setup,
						soft_teardown),
		cmocka_unit_test_setup_teardown(test_functions, soft_setup, soft_teardown),
		cmocka_unit_test_setup_teardown(test_other_contexts, soft_setup, soft_teardown),
		cmocka_unit_test_setup_teardown(test_unloading_waits_for_launches, soft_setup,
						soft_teardown),
		cmocka_unit_test_setup_teardown(test_fill, soft_setup, soft_teardown),
		cmocka_unit_test_setup_teardown(test_parameters_are_copied, soft_setup,
						soft_teardown),
		cmocka_unit_test_setup_teardown(test_kernel_sees_sizes, soft_setup, soft_teardown),
		cmocka_unit_test_setup_teardown(test_launches_refused, soft_setup, soft_teardown),
		cmocka_unit_test_setup_teardown(test_parameters_refused, soft_setup, soft_teardown),
		cmocka_unit_test_setup_teardown(test_kernels_call_nothing, soft_setup,
						soft_teardown),
		cmocka_unit_test_setup_teardown(test_memory_is_held, soft_setup, soft_teardown),
		cmocka_unit_test_setup_teardown(test_host_memory_is_reached, soft_setup,
						soft_teardown),
		cmocka_unit_test(test_kernels_error_stays),
		cmocka_unit_test(test_error_drops_what_is_queued),
		cmocka_unit_test(test_illegal_addresses),
		cmocka_unit_test(test_closing_closes_everything),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
