/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Integers of 8 and 4 bits in groups: see integer.h. Encoding takes a thread a group:
 * groups of a channel lie beside each other, so that a warp reads rows; those of a token
 * are at most a few cache lines. Decoding takes a thread a number.
 */
#include "kernels/device/jobs.h"
#include "kernels/device/number.h"
#include "kernels/device/thread.h"

/* The numbers of a group: the first and how far the next one is, in numbers. */
struct group {
	uint64_t first, step, count;
	uint64_t token, channel; /* of the first */
};

static DEVICE uint64_t groups_of(uint64_t count, uint64_t group)
{
	return (count + group - 1) / group;
}

static DEVICE uint64_t lesser(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static DEVICE struct group group_at(const struct int_encode_job *job, uint64_t number)
{
	const uint64_t in_row =
		job->by_channel ? job->channels : groups_of(job->channels, job->group);
	const uint64_t row = number / in_row, column = number % in_row;
	struct group group;

	group.token = job->by_channel ? row * job->group : row;
	group.channel = job->by_channel ? column : column * job->group;
	group.first = group.token * job->channels + group.channel;
	group.step = job->by_channel ? job->channels : 1;
	group.count = lesser(job->group, job->by_channel ? job->tokens - group.token
							 : job->channels - group.channel);

	return group;
}

/* Where the code of 4 bits is: two of a group share a byte. */
static DEVICE uint64_t nibble_at(const struct int_encode_job *job, uint64_t token, uint64_t channel)
{
	return job->by_channel ? token / 2 * job->channels + channel
			       : token * ((job->channels + 1) / 2) + channel / 2;
}

static DEVICE float number_at(const struct int_encode_job *job, uint64_t plane, uint64_t index)
{
	return number_decode(load_u16(job->numbers[plane] + index * 2), job->form);
}

/* The step as its 16 bits, rounded up: the highest code reaches the highest number. */
static DEVICE uint16_t step_code(float step, uint32_t form)
{
	const uint16_t code = number_encode(step, form);

	return (uint16_t)(number_decode(code, form) < step ? code + 1 : code);
}

/* NaN becomes the lowest number, infinities the nearest one there is. */
static DEVICE uint32_t code_of(float value, float low, float step, uint32_t top)
{
	uint32_t code;

	if (!(value > low) || !(step > 0))
		return 0;
	if (!number_is_finite(value))
		return top;

	code = number_round((value - low) / step);

	return code < top ? code : top;
}

static DEVICE void group_encode(const struct int_encode_job *job, uint64_t plane,
				const struct group *group, float low, float step)
{
	const uint64_t codes = job->codes + plane * job->code_stride;
	const uint32_t top = (1u << job->bits) - 1;

	for (uint64_t i = 0; i < group->count; i += 2) {
		const uint64_t index = group->first + i * group->step;
		const uint64_t token = group->token + (job->by_channel ? i : 0);
		const uint64_t channel = group->channel + (job->by_channel ? 0 : i);
		const int both = i + 1 < group->count;
		const uint32_t first = code_of(number_at(job, plane, index), low, step, top);
		const uint32_t second =
			both ? code_of(number_at(job, plane, index + group->step), low, step, top)
			     : 0;

		if (job->bits == 4) {
			store_u8(codes + nibble_at(job, token, channel),
				 (uint8_t)(first | second << 4));
			continue;
		}

		store_u8(codes + index, (uint8_t)first);
		if (both)
			store_u8(codes + index + group->step, (uint8_t)second);
	}
}

/* Finds the lowest number and the step of a group, keeps them, and encodes the group. */
static DEVICE void group_take(const struct int_encode_job *job, uint64_t plane, uint64_t number)
{
	const struct group group = group_at(job, number);
	const uint64_t steps = job->steps + plane * job->step_stride + number * 4;
	float low = 0, high = 0;
	uint16_t step;
	int any = 0;

	for (uint64_t k = 0; k < group.count; k++) {
		const float value = number_at(job, plane, group.first + k * group.step);

		if (!number_is_finite(value))
			continue;
		low = !any || value < low ? value : low;
		high = !any || value > high ? value : high;
		any = 1;
	}

	step = step_code((high - low) / (float)((1u << job->bits) - 1), job->form);
	store_u16(steps, number_encode(low, job->form));
	store_u16(steps + 2, step);
	group_encode(job, plane, &group, low, number_decode(step, job->form));
}

KERNEL(int_encode)
{
	const uint64_t groups = job->by_channel
					? job->channels * groups_of(job->tokens, job->group)
					: job->tokens * groups_of(job->channels, job->group);

	for (uint64_t plane = thread_row(); plane < job->planes; plane += thread_rows())
		for (uint64_t i = thread_at(); i < groups; i += thread_count())
			group_take(job, plane, i);
}

static DEVICE uint64_t group_of(const struct int_encode_job *job, uint64_t token, uint64_t channel)
{
	return job->by_channel
		       ? token / job->group * job->channels + channel
		       : token * groups_of(job->channels, job->group) + channel / job->group;
}

/* What rounds to infinity is the largest number there is. */
static DEVICE uint16_t number_of_code(float low, float step, uint32_t code, uint32_t form)
{
	const uint16_t number = number_encode(low + (float)code * step, form);
	const uint16_t infinity = form == NUMBER_FP16 ? 0x7c00 : 0x7f80;

	return (uint16_t)((number & 0x7fff) == infinity ? number - 1 : number);
}

static DEVICE void number_restore(const struct int_encode_job *job, uint64_t plane, uint64_t index)
{
	const uint64_t codes = job->codes + plane * job->code_stride;
	const uint64_t token = index / job->channels, channel = index % job->channels;
	const uint64_t steps =
		job->steps + plane * job->step_stride + group_of(job, token, channel) * 4;
	const uint64_t odd = (job->by_channel ? token : channel) % 2;
	const float low = number_decode(load_u16(steps), job->form);
	const float step = number_decode(load_u16(steps + 2), job->form);
	uint32_t code;

	if (job->bits == 8)
		code = load_u8(codes + index);
	else
		code = (uint32_t)load_u8(codes + nibble_at(job, token, channel)) >> (4 * odd) & 15;

	store_u16(job->numbers[plane] + index * 2, number_of_code(low, step, code, job->form));
}

KERNEL(int_decode)
{
	for (uint64_t plane = thread_row(); plane < job->planes; plane += thread_rows())
		for (uint64_t i = thread_at(); i < job->tokens * job->channels; i += thread_count())
			number_restore(job, plane, i);
}
