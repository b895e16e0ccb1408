/* SPDX-License-Identifier: Apache-2.0 */
/* checksum: see checksum.h. On the host one multiplication of 64 bits a unit, independent of
 * the others, is as fast as memory can be read. */
#include "kernels/device/checksum.h"

#include "kernels/device/ptx.h"

#include <assert.h>
#include <endian.h>
#include <string.h>

DEVICE_CODE(checksum_ptx);

#define UNIT 16u
#define THREAD_UNITS 8u /* a thread takes at least so many, and no more blocks take a piece */
#define PIECE_BLOCKS 64u

uint64_t checksum_of(const void *bytes, uint64_t size, uint64_t at)
{
	const unsigned char *next = bytes;
	uint64_t first = 0x9e3779b97f4a7c15u * (at / UNIT + 1);
	uint64_t second = 0xbf58476d1ce4e5b9u + 0xd1b54a32d192ed03u * (at / UNIT);
	uint64_t sum = 0;

	assert(size % UNIT == 0 && at % UNIT == 0);
	for (const unsigned char *end = next + size; next != end; next += UNIT) {
		uint64_t words[2];
		unsigned __int128 product;

		memcpy(words, next, UNIT);
		product = (unsigned __int128)(le64toh(words[0]) ^ first) *
			  (le64toh(words[1]) ^ second);
		sum += (uint64_t)product ^ (uint64_t)(product >> 64);
		first += 0x9e3779b97f4a7c15u;
		second += 0xd1b54a32d192ed03u;
	}

	return sum;
}

static CUresult checksum_some(struct kernels *kernels, const struct driver *driver, CUstream stream,
			      struct checksum_pieces_job *job)
{
	uint64_t largest = 0;

	for (size_t i = 0; i < job->count; i++)
		if (job->pieces[i].bytes > largest)
			largest = job->pieces[i].bytes;

	return kernels_launch(
		kernels, driver, stream, KERNEL_checksum_pieces,
		(struct kernel_grid){kernel_blocks(largest / UNIT / THREAD_UNITS, PIECE_BLOCKS),
				     (uint32_t)job->count},
		job);
}

CUresult checksum_launch(struct kernels *kernels, const struct driver *driver, CUstream stream,
			 uint64_t sums, size_t blocks, const struct checksum_piece *pieces,
			 size_t count)
{
	struct checksum_pieces_job job = {.sums = sums};
	CUresult result = kernels_load(kernels, driver, KERNEL_checksum_pieces);

	if (result == CUDA_SUCCESS && blocks != 0)
		result = driver->cuMemsetD8Async(sums, 0, blocks * sizeof(uint64_t), stream);

	for (size_t i = 0; i < count && result == CUDA_SUCCESS; i += job.count) {
		job.count = count - i < CHECKSUM_PIECES ? count - i : CHECKSUM_PIECES;
		memcpy(job.pieces, &pieces[i], job.count * sizeof(*pieces));
		result = checksum_some(kernels, driver, stream, &job);
	}

	return result;
}
