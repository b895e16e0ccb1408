/* SPDX-License-Identifier: Apache-2.0 */
/* fp8: see fp8.h. */
#include "kernels/device/fp8.h"

#include "kernels/device/ptx.h"

DEVICE_CODE(fp8_ptx);

#define THREAD_NUMBERS 8u /* a thread takes at least so many */
#define HEAD_BLOCKS 64u

static CUresult fp8_launch(struct kernels *kernels, const struct driver *driver, CUstream stream,
			   enum kernel kernel, const struct fp8_encode_job *job)
{
	struct fp8_encode_job copy = *job;
	const uint64_t rows = job->planes * job->heads;
	const struct kernel_grid grid = {
		kernel_blocks(job->tokens * job->head / THREAD_NUMBERS, HEAD_BLOCKS),
		rows < KERNEL_ROWS_MAX ? (uint32_t)rows : KERNEL_ROWS_MAX};

	if (job->planes > ENCODE_PLANES)
		return CUDA_ERROR_INVALID_VALUE;
	if (job->tokens == 0 || rows == 0 || job->head == 0)
		return CUDA_SUCCESS;

	return kernels_launch(kernels, driver, stream, kernel, grid, &copy);
}

CUresult fp8_encode_launch(struct kernels *kernels, const struct driver *driver, CUstream stream,
			   const struct fp8_encode_job *job)
{
	const uint64_t rows = job->planes * job->heads;
	CUresult result = kernels_load(kernels, driver, KERNEL_fp8_amax);

	if (result == CUDA_SUCCESS && rows != 0)
		result = driver->cuMemsetD8Async(job->amax, 0, rows * sizeof(float), stream);
	if (result == CUDA_SUCCESS)
		result = fp8_launch(kernels, driver, stream, KERNEL_fp8_amax, job);

	return result == CUDA_SUCCESS ? fp8_launch(kernels, driver, stream, KERNEL_fp8_encode, job)
				      : result;
}

CUresult fp8_decode_launch(struct kernels *kernels, const struct driver *driver, CUstream stream,
			   const struct fp8_encode_job *job)
{
	return fp8_launch(kernels, driver, stream, KERNEL_fp8_decode, job);
}
