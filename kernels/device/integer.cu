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

static DEVICE float number_at(const struct int_encode_job *job, uint64_t index)
{
	return number_decode(load_u16(job->numbers + index * 2), job->form);
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

static DEVICE void group_encode(const struct int_encode_job *job, const struct group *group,
				float low, float step)
{
	const uint32_t top = (1u << job->bits) - 1;

	for (uint64_t i = 0; i < group->count; i += 2) {
		const uint64_t index = group->first + i * group->step;
		const uint64_t token = group->token + (job->by_channel ? i : 0);
		const uint64_t channel = group->channel + (job->by_channel ? 0 : i);
		const int both = i + 1 < group->count;
		const uint32_t first = code_of(number_at(job, index), low, step, top);
		const uint32_t second =
			both ? code_of(number_at(job, index + group->step), low, step, top) : 0;

		if (job->bits == 4) {
			store_u8(job->codes + nibble_at(job, token, channel),
				 (uint8_t)(first | second << 4));
			continue;
		}

		store_u8(job->codes + index, (uint8_t)first);
		if (both)
			store_u8(job->codes + index + group->step, (uint8_t)second);
	}
}

KERNEL(int_encode)
{
	const uint64_t groups = job->by_channel
					? job->channels * groups_of(job->tokens, job->group)
					: job->tokens * groups_of(job->channels, job->group);

	for (uint64_t i = thread_at(); i < groups; i += thread_count()) {
		const struct group group = group_at(job, i);
		float low = 0, high = 0, step;
		int any = 0;

		for (uint64_t k = 0; k < group.count; k++) {
			const float value = number_at(job, group.first + k * group.step);

			if (!number_is_finite(value))
				continue;
			low = !any || value < low ? value : low;
			high = !any || value > high ? value : high;
			any = 1;
		}

		step = (high - low) / (float)((1u << job->bits) - 1);
		store_f32(job->steps + i * 8, low);
		store_f32(job->steps + i * 8 + 4, step);
		group_encode(job, &group, low, step);
	}
}

KERNEL(int_decode)
{
	for (uint64_t i = thread_at(); i < job->tokens * job->channels; i += thread_count()) {
		const uint64_t token = i / job->channels, channel = i % job->channels;
		const uint64_t group = job->by_channel
					       ? token / job->group * job->channels + channel
					       : token * groups_of(job->channels, job->group) +
							 channel / job->group;
		const uint64_t odd = (job->by_channel ? token : channel) % 2;
		const float low = load_f32(job->steps + group * 8);
		const float step = load_f32(job->steps + group * 8 + 4);
		const uint32_t code =
			job->bits == 8
				? load_u8(job->codes + i)
				: (uint32_t)load_u8(job->codes + nibble_at(job, token, channel)) >>
						  (4 * odd) &
					  15;

		store_u16(job->numbers + i * 2, number_encode(low + (float)code * step, job->form));
	}
}
