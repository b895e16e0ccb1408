/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A libcuda.so.1 for tests of the start: cuInit returns the number in HBM_STUB_CUINIT,
 * cuDeviceGetCount succeeds and leaves its caller's count alone, everything else fails. It
 * has none of the entry points that a driver may lack.
 */
#include "kernels/driver/cuda_abi.h"

#include <stdlib.h>
#include <string.h>

static CUresult stub_answer(const char *name)
{
	const char *number = getenv("HBM_STUB_CUINIT");

	if (strcmp(name, "cuInit") == 0 && number != NULL)
		return (CUresult)atoi(number);
	return strcmp(name, "cuDeviceGetCount") == 0 || strcmp(name, "cuInit") == 0
		       ? CUDA_SUCCESS
		       : CUDA_ERROR_UNKNOWN;
}

#pragma GCC diagnostic ignored "-Wunused-parameter"
#define DRIVER_CALL(name, symbol, arguments)                                                       \
	__attribute__((visibility("default"))) CUresult name arguments __asm__(symbol);            \
	CUresult name arguments                                                                    \
	{                                                                                          \
		return stub_answer(#name);                                                         \
	}
DRIVER_CALLS(DRIVER_CALL)
#undef DRIVER_CALL
