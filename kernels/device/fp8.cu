/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fp8 with a scale for each head of a block: see fp8.h. The largest magnitude is found by a
 * launch before the encoding one: of a head's numbers each thread of a row of the grid
 * takes some. As bits, magnitudes compare as integers do.
 */
#include "kernels/device/jobs.h"
#include "kernels/device/number.h"
#include "kernels/device/thread.h"

/* The index of number i of a head, counted through all tokens. */
static DEVICE uint64_t number_index(const struct fp8_encode_job *job, uint64_t head, uint64_t i)
{
	return (i / job->head * job->heads + head) * job->head + i % job->head;
}

static DEVICE float number_at(const struct fp8_encode_job *job, uint64_t index)
{
	return number_decode(load_u16(job->numbers + index * 2), job->form);
}

KERNEL(fp8_amax)
{
	for (uint64_t head = thread_row(); head < job->heads; head += thread_rows()) {
		uint32_t most = 0;

		for (uint64_t i = thread_at(); i < job->tokens * job->head; i += thread_count()) {
			const float value = number_at(job, number_index(job, head, i));
			const uint32_t magnitude = number_bits(value) & 0x7fffffff;

			if (number_is_finite(value) && magnitude > most)
				most = magnitude;
		}

		if (most != 0)
			max_u32(job->amax + head * 4, most);
	}
}

KERNEL(fp8_encode)
{
	for (uint64_t head = thread_row(); head < job->heads; head += thread_rows()) {
		const float scale = load_f32(job->amax + head * 4) / FP8_MAX;

		for (uint64_t i = thread_at(); i < job->tokens * job->head; i += thread_count()) {
			const uint64_t index = number_index(job, head, i);
			const float value = number_at(job, index);

			store_u8(job->codes + index,
				 number_to_fp8(scale > 0 ? value / scale : value));
		}
	}
}

KERNEL(fp8_decode)
{
	for (uint64_t head = thread_row(); head < job->heads; head += thread_rows()) {
		const float scale = load_f32(job->amax + head * 4) / FP8_MAX;

		for (uint64_t i = thread_at(); i < job->tokens * job->head; i += thread_count()) {
			const uint64_t index = number_index(job, head, i);
			const float value = number_of_fp8(load_u8(job->codes + index));

			store_u16(job->numbers + index * 2,
				  number_encode(scale > 0 ? value * scale : value, job->form));
		}
	}
}
