/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The facts of cuda_facts.h against NVIDIA's own <cuda.h>, where there is one: constants,
 * sizes, offsets, the types of the entry points, and the symbols that header means by
 * their names. cuda_abi.h asserts the same facts of our declarations when it is compiled,
 * so both sides are compared with one list. And every symbol against a libcuda.so, the
 * toolkit's stub if there is no other.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dlfcn.h>
#include <glob.h>
#include <string.h>

#include "kernels/driver/cuda_facts.h"

#if __has_include(<cuda.h>)
#include <cuda.h>
#elif __has_include("/usr/local/cuda/include/cuda.h")
#include "/usr/local/cuda/include/cuda.h"
#endif

/* Older ones lack some of the constants. */
#if defined(CUDA_VERSION)
#define HEADER (CUDA_VERSION >= 12000)
#else
#define HEADER 0
#endif

/* What an older header lacks: copies in batches. */
#if HEADER && CUDA_VERSION >= 12080
#define OF_12_8(list, X) list(X)
#else
#define OF_12_8(list, X)
#endif
#if HEADER && CUDA_VERSION >= 13000
#define BATCH_CALLS(X) DRIVER_CALLS_13_0(X)
#elif HEADER && CUDA_VERSION >= 12080
#define cuMemcpyBatchAsync_v1 cuMemcpyBatchAsync
#define BATCH_CALLS(X) DRIVER_CALLS_12_8(X)
#else
#define BATCH_CALLS(X)
#endif

#if HEADER

static void test_constants(void **state)
{
	(void)state;
#define CONSTANT(name, value) assert_int_equal((int)(name), value);
	CUDA_RESULTS(CONSTANT)
	CUDA_DEVICE_ATTRIBUTES(CONSTANT)
	CUDA_ALLOCATION_TYPES(CONSTANT)
	CUDA_HANDLE_TYPES(CONSTANT)
	CUDA_LOCATION_TYPES(CONSTANT)
	CUDA_ACCESS_FLAGS(CONSTANT)
	CUDA_GRANULARITIES(CONSTANT)
	CUDA_FLAGS(CONSTANT)
	OF_12_8(CUDA_ACCESS_ORDERS, CONSTANT)
	OF_12_8(CUDA_BATCH_FLAGS, CONSTANT)
#undef CONSTANT
}

static void test_layouts(void **state)
{
	(void)state;
#define SIZE(type, size) assert_int_equal(sizeof(type), size);
	CUDA_SIZES(SIZE)
	OF_12_8(CUDA_BATCH_SIZES, SIZE)
#undef SIZE
#define MEMBER(type, member, offset, size)                                                         \
	assert_int_equal(offsetof(type, member), offset);                                          \
	assert_int_equal(sizeof(((type *)NULL)->member), size);
	CUDA_MEMBERS(MEMBER)
	OF_12_8(CUDA_BATCH_MEMBERS, MEMBER)
#undef MEMBER
}

static void test_signatures(void **state)
{
	(void)state;
#define CALL(name, symbol, arguments)                                                              \
	if (!__builtin_types_compatible_p(__typeof__(&name), CUresult(*) arguments))               \
		fail_msg("%s has another type in <cuda.h>", symbol);
	DRIVER_CALLS(CALL)
	DRIVER_OPTIONAL_CALLS(CALL)
	BATCH_CALLS(CALL)
#undef CALL
}

#define EXPANDED(name) #name

/* <cuda.h> renames calls to their versions; ours is the same one, but for a first version
 * it has since replaced. */
static void test_versions(void **state)
{
	(void)state;
#define CALL(name, symbol, arguments)                                                              \
	if (strcmp(symbol, "cuEventElapsedTime") != 0)                                             \
		assert_string_equal(EXPANDED(name), symbol);
	DRIVER_CALLS(CALL)
	DRIVER_OPTIONAL_CALLS(CALL)
	BATCH_CALLS(CALL)
#undef CALL
}

#else

static void skip_for_want_of_header(void)
{
	print_message("SKIP there is no <cuda.h> of 12.0 or later to compare with\n");
	skip();
}

static void test_constants(void **state)
{
	(void)state;
	skip_for_want_of_header();
}

static void test_layouts(void **state)
{
	(void)state;
	skip_for_want_of_header();
}

static void test_signatures(void **state)
{
	(void)state;
	skip_for_want_of_header();
}

static void test_versions(void **state)
{
	(void)state;
	skip_for_want_of_header();
}

#endif

/* Not started, only asked for symbols; NULL: there is none. */
static void *open_some_libcuda(void)
{
	void *library = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);
	glob_t stubs;

	if (library != NULL)
		return library;

	if (glob("/usr/local/cuda*/lib64/stubs/libcuda.so", 0, NULL, &stubs) == 0) {
		for (size_t i = 0; i < stubs.gl_pathc && library == NULL; i++)
			library = dlopen(stubs.gl_pathv[i], RTLD_LAZY | RTLD_LOCAL);
		globfree(&stubs);
	}

	return library;
}

static void test_symbols_exist(void **state)
{
	void *library = open_some_libcuda();

	(void)state;

	if (library == NULL) {
		print_message("SKIP there is no libcuda.so to look in\n");
		skip();
	}
#define CALL(name, symbol, arguments)                                                              \
	if (dlsym(library, symbol) == NULL)                                                        \
		fail_msg("libcuda.so has no %s", symbol);

	DRIVER_CALLS(CALL)
	DRIVER_OPTIONAL_CALLS(CALL)
#undef CALL

	dlclose(library);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_constants),     cmocka_unit_test(test_layouts),
		cmocka_unit_test(test_signatures),    cmocka_unit_test(test_versions),
		cmocka_unit_test(test_symbols_exist),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
