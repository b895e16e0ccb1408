/* SPDX-License-Identifier: Apache-2.0 */
/* Soft: modules, their functions, and whose they are. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "tests/support/soft_bench.h"

static CUresult nothing_run(struct hbm_soft_launch *launch, void *const *params)
{
	(void)launch;
	(void)params;
	return CUDA_SUCCESS;
}

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_kernels_are_registered, soft_setup,
						soft_teardown),
		cmocka_unit_test_setup_teardown(test_functions, soft_setup, soft_teardown),
		cmocka_unit_test_setup_teardown(test_other_contexts, soft_setup, soft_teardown),
		cmocka_unit_test_setup_teardown(test_unloading_waits_for_launches, soft_setup,
						soft_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
