/* SPDX-License-Identifier: Apache-2.0 */
/* gather: see gather.h. */
#include "kernels/device/gather.h"

#include "kernels/device/ptx.h"

#include <string.h>

DEVICE_CODE(gather_ptx);

/* A thread moves at least this much, and no more blocks than these copy a piece: many
 * pieces fill the device by themselves. */
#define THREAD_BYTES 64u
#define PIECE_BLOCKS 16u

static CUresult gather_some(struct kernels *kernels, const struct driver *driver, CUstream stream,
			    struct gather_pieces_job *job)
{
	uint64_t largest = 0;

	for (uint32_t i = 0; i < job->count; i++)
		if (job->pieces[i].bytes > largest)
			largest = job->pieces[i].bytes;

	return kernels_launch(
		kernels, driver, stream, KERNEL_gather_pieces,
		(struct kernel_grid){kernel_blocks(largest / THREAD_BYTES, PIECE_BLOCKS),
				     job->count},
		job);
}

CUresult gather_pieces_launch(struct kernels *kernels, const struct driver *driver, CUstream stream,
			      uint64_t flat, const struct gather_piece *pieces, size_t count,
			      bool scatter)
{
	struct gather_pieces_job job = {.flat = flat, .scatter = scatter};
	CUresult result = CUDA_SUCCESS;

	for (size_t i = 0; i < count && result == CUDA_SUCCESS; i += job.count) {
		job.count = count - i < GATHER_PIECES ? (uint32_t)(count - i) : GATHER_PIECES;
		memcpy(job.pieces, &pieces[i], job.count * sizeof(*pieces));
		result = gather_some(kernels, driver, stream, &job);
	}

	return result;
}

/* A row of the grid for each row of memory, and what copies one. */
static struct kernel_grid gather_grid(uint64_t rows, uint64_t row_bytes)
{
	return (struct kernel_grid){kernel_blocks(row_bytes / THREAD_BYTES, PIECE_BLOCKS),
				    rows < KERNEL_ROWS_MAX ? (uint32_t)rows : KERNEL_ROWS_MAX};
}

CUresult gather_rows_launch(struct kernels *kernels, const struct driver *driver, CUstream stream,
			    const struct gather_rows_job *job)
{
	struct gather_rows_job copy = *job;

	if (job->count == 0 || job->row_bytes == 0)
		return CUDA_SUCCESS;

	return kernels_launch(kernels, driver, stream, KERNEL_gather_rows,
			      gather_grid(job->count, job->row_bytes), &copy);
}

CUresult compact_rows_launch(struct kernels *kernels, const struct driver *driver, CUstream stream,
			     const struct compact_rows_job *job)
{
	struct compact_rows_job copy = *job;
	const uint64_t rows = job->planes * job->outer * job->kept;

	if (rows == 0 || job->row_bytes == 0)
		return CUDA_SUCCESS;

	return kernels_launch(kernels, driver, stream, KERNEL_compact_rows,
			      gather_grid(rows, job->row_bytes), &copy);
}
