/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fp8 with a scale for each head of a block: see fp8.h. The largest magnitude is found by a
 * launch before the encoding one: of a head's numbers each thread of a row of the grid
 * takes some. As bits, magnitudes compare as integers do.
 */
#include "kernels/device/jobs.h"
#include "kernels/device/number.h"
#include "kernels/device/thread.h"

/* A head of a plane: row i of the grid has head i, counted through all planes. */
struct head {
	uint64_t numbers, codes, amax; /* of the plane, of the plane, of the head */
	uint64_t number;               /* in the plane */
};

static DEVICE struct head head_at(const struct fp8_encode_job *job, uint64_t row)
{
	const uint64_t plane = row / job->heads;
	struct head head;

	head.numbers = job->numbers[plane];
	head.codes = job->codes + plane * job->code_stride;
	head.amax = job->amax + row * 4;
	head.number = row % job->heads;

	return head;
}

/* The index in its plane of number i of a head, counted through all tokens. */
static DEVICE uint64_t number_index(const struct fp8_encode_job *job, const struct head *head,
				    uint64_t i)
{
	return (i / job->head * job->heads + head->number) * job->head + i % job->head;
}

/* Where all finite numbers are 0, so are infinities. */
static DEVICE float scaled(float value, float scale)
{
	return scale > 0 ? value / scale : value == value ? 0 : value;
}

KERNEL(fp8_amax)
{
	for (uint64_t row = thread_row(); row < job->planes * job->heads; row += thread_rows()) {
		const struct head head = head_at(job, row);
		uint32_t most = 0;

		for (uint64_t i = thread_at(); i < job->tokens * job->head; i += thread_count()) {
			const uint64_t index = number_index(job, &head, i);
			const float value =
				number_decode(load_u16(head.numbers + index * 2), job->form);
			const uint32_t magnitude = number_bits(value) & 0x7fffffff;

			if (number_is_finite(value) && magnitude > most)
				most = magnitude;
		}

		if (most != 0)
			max_u32(head.amax, most);
	}
}

KERNEL(fp8_encode)
{
	for (uint64_t row = thread_row(); row < job->planes * job->heads; row += thread_rows()) {
		const struct head head = head_at(job, row);
		const float scale = load_f32(head.amax) / FP8_MAX;

		for (uint64_t i = thread_at(); i < job->tokens * job->head; i += thread_count()) {
			const uint64_t index = number_index(job, &head, i);
			const float value =
				number_decode(load_u16(head.numbers + index * 2), job->form);

			store_u8(head.codes + index, number_to_fp8(scaled(value, scale)));
		}
	}
}

KERNEL(fp8_decode)
{
	for (uint64_t row = thread_row(); row < job->planes * job->heads; row += thread_rows()) {
		const struct head head = head_at(job, row);
		const float scale = load_f32(head.amax) / FP8_MAX;

		for (uint64_t i = thread_at(); i < job->tokens * job->head; i += thread_count()) {
			const uint64_t index = number_index(job, &head, i);
			const float value = number_of_fp8(load_u8(head.codes + index)) * scale;

			store_u16(head.numbers + index * 2, number_encode(value, job->form));
		}
	}
}
