/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The checksum of checksum.h. Terms are summed in any order: threads take units of 16
 * bytes in turn, so that a warp reads 512 bytes at once, and a warp adds its sum to the
 * block's with one atomic operation.
 */
#include "kernels/device/jobs.h"
#include "kernels/device/thread.h"

#define FIRST 0x9e3779b97f4a7c15u
#define SECOND 0xbf58476d1ce4e5b9u
#define SECOND_STEP 0xd1b54a32d192ed03u

static DEVICE uint64_t term(uint64_t number, u64x2 unit)
{
	const uint64_t first = unit[0] ^ (FIRST + number * FIRST);
	const uint64_t second = unit[1] ^ (SECOND + number * SECOND_STEP);
	const unsigned __int128 product = (unsigned __int128)first * second;

	return (uint64_t)product ^ (uint64_t)(product >> 64);
}

KERNEL(checksum_pieces)
{
	for (uint64_t i = thread_row(); i < job->count; i += thread_rows()) {
		const struct checksum_piece *piece = &job->pieces[i];
		const uint64_t units = piece->bytes / 16;
		uint64_t sum = 0;

		for (uint64_t k = thread_at(); k < units; k += thread_count())
			sum += term(piece->at / 16 + k, load_u64x2(piece->address + k * 16));

		add_u64(job->sums + piece->sum * 8, sum);
	}
}
