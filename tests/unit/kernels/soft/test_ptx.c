/* SPDX-License-Identifier: Apache-2.0 */
/* Soft: the text that modules are made of, and its entries' parameters. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>

#include "tests/support/soft_device.h"

#define HEAD ".version 6.0\n.target sm_70\n.address_size 64\n"

static CUresult nothing_run(struct hbm_soft_launch *launch, void *const *params)
{
	(void)launch;
	(void)params;
	return CUDA_SUCCESS;
}

static const struct {
	const char *text;
	CUresult result;
} texts[] = {
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

static void test_texts(void **state)
{
	const struct soft_device *soft = *state;

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		CUmodule module = NULL;
		CUresult result = soft->driver->cuModuleLoadData(&module, texts[i].text);

		if (result != texts[i].result)
			print_error("%s\n", texts[i].text);

		assert_int_equal(result, texts[i].result);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_texts, soft_setup, soft_teardown),
		cmocka_unit_test_setup_teardown(test_parameters_must_agree, soft_setup,
						soft_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
