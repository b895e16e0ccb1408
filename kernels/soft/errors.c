/* SPDX-License-Identifier: Apache-2.0 */
/* cuGetErrorName, cuGetErrorString: the constants that this project uses. The string of an
 * error is its name. */
#include "kernels/soft/call.h"

static const char *errors_name(CUresult result)
{
	switch (result) {
#define CUDA_CONSTANT(name, value)                                                                 \
	case name:                                                                                 \
		return #name;
		CUDA_RESULTS(CUDA_CONSTANT)
#undef CUDA_CONSTANT
	}
	return NULL;
}

static CUresult errors_text(CUresult result, const char **text)
{
	if (text == NULL)
		return CUDA_ERROR_INVALID_VALUE;
	*text = errors_name(result);
	return *text == NULL ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

CUresult cuGetErrorName(CUresult result, const char **name)
{
	CALL_ENTER(cuGetErrorName);
	return errors_text(result, name);
}

CUresult cuGetErrorString(CUresult result, const char **text)
{
	CALL_ENTER(cuGetErrorString);
	return errors_text(result, text);
}
