/* SPDX-License-Identifier: Apache-2.0 */
/* integer: see integer.h. */
#include "kernels/device/integer.h"

#include "kernels/device/ptx.h"

DEVICE_CODE(integer_ptx);

#define BLOCKS 1024u /* more than any device runs at once */

static uint64_t integer_groups(const struct int_encode_job *job)
{
	const uint64_t along = job->by_channel ? job->tokens : job->channels;
	const uint64_t across = job->by_channel ? job->channels : job->tokens;

	return across * ((along + job->group - 1) / job->group);
}

uint64_t int_code_bytes(const struct int_encode_job *job)
{
	if (job->bits == 8)
		return job->tokens * job->channels;

	return job->by_channel ? (job->tokens + 1) / 2 * job->channels
			       : job->tokens * ((job->channels + 1) / 2);
}

uint64_t int_step_bytes(const struct int_encode_job *job)
{
	return integer_groups(job) * 2 * sizeof(uint16_t);
}

static CUresult integer_launch(struct kernels *kernels, const struct driver *driver,
			       CUstream stream, enum kernel kernel,
			       const struct int_encode_job *job)
{
	struct int_encode_job copy = *job;
	uint64_t threads;

	if ((job->bits != 8 && job->bits != 4) || job->group == 0 || job->group % 2 != 0 ||
	    job->planes > ENCODE_PLANES)
		return CUDA_ERROR_INVALID_VALUE;

	threads = kernel == KERNEL_int_encode ? integer_groups(job) : job->tokens * job->channels;
	if (threads == 0 || job->planes == 0)
		return CUDA_SUCCESS;

	return kernels_launch(kernels, driver, stream, kernel,
			      (struct kernel_grid){kernel_blocks(threads, BLOCKS), job->planes},
			      &copy);
}

CUresult int_encode_launch(struct kernels *kernels, const struct driver *driver, CUstream stream,
			   const struct int_encode_job *job)
{
	return integer_launch(kernels, driver, stream, KERNEL_int_encode, job);
}

CUresult int_decode_launch(struct kernels *kernels, const struct driver *driver, CUstream stream,
			   const struct int_encode_job *job)
{
	return integer_launch(kernels, driver, stream, KERNEL_int_decode, job);
}
