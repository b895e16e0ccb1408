/* SPDX-License-Identifier: Apache-2.0 */
/* Soft: launches, and what a kernel may touch. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "tests/support/soft_bench.h"

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

int main(void)
{
	const struct CMUnitTest tests[] = {
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
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
