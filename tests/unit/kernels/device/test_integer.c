/* SPDX-License-Identifier: Apache-2.0 */
/* Device code, integers of 8 and 4 bits: against plain C, and the error that is promised. */
#include "kernels/device/integer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>

#include "kernels/device/number.h"
#include "tests/support/device_rig.h"
#include "tests/support/kv_numbers.h"

/* Where each is of the first plane, in memory and image; what is between must stay. */
#define NUMBERS 64
#define NUMBERS_APART ((128u << 10) + 2)
#define CODES (512u << 10)
#define STEPS ((1u << 20) + 2)

static const struct int_encode_job shapes[] = {
	{.tokens = 16, .channels = 128, .group = 64},  {.tokens = 64, .channels = 256, .group = 32},
	{.tokens = 17, .channels = 65, .group = 16},   {.tokens = 1, .channels = 1, .group = 2},
	{.tokens = 33, .channels = 7, .group = 1000},  {.tokens = 0, .channels = 128, .group = 32},
	{.tokens = 256, .channels = 128, .group = 64},
};

static uint64_t group_of(const struct int_encode_job *job, uint64_t token, uint64_t channel)
{
	const uint64_t in_token = (job->channels + job->group - 1) / job->group;

	return job->by_channel ? token / job->group * job->channels + channel
			       : token * in_token + channel / job->group;
}

static uint16_t *numbers_of(const struct device_rig *rig, uint64_t plane)
{
	return (uint16_t *)(void *)(rig->image + NUMBERS + plane * NUMBERS_APART);
}

static float number_of(const struct device_rig *rig, const struct int_encode_job *job,
		       uint64_t plane, uint64_t index)
{
	return number_decode(numbers_of(rig, plane)[index], job->form);
}

/* Its lowest number and step. */
static uint16_t *steps_of(const struct device_rig *rig, const struct int_encode_job *job,
			  uint64_t plane, uint64_t group)
{
	return (uint16_t *)(void *)(rig->image + STEPS + plane * job->step_stride) + 2 * group;
}

/* The least number of the form that is not less. */
static uint16_t rounded_up(float value, uint32_t form)
{
	uint16_t code = 0;

	while (number_decode(code, form) < value)
		code++;
	return code;
}

/* The lowest number and step of every group, into the image. */
static void expect_steps(struct device_rig *rig, const struct int_encode_job *job, uint64_t plane)
{
	static float ranges[1 << 15][2];
	const uint64_t groups = int_step_bytes(job) / 4;

	assert_in_range(groups, 0, 1 << 15);
	for (uint64_t i = 0; i < groups; i++)
		ranges[i][0] = ranges[i][1] = NAN;
	for (uint64_t i = 0; i < job->tokens * job->channels; i++) {
		float *range = ranges[group_of(job, i / job->channels, i % job->channels)];
		const float value = number_of(rig, job, plane, i);

		if (!isfinite(value))
			continue;
		range[0] = fminf(range[0], value);
		range[1] = fmaxf(range[1], value);
	}

	for (uint64_t i = 0; i < groups; i++) {
		const float low = isnan(ranges[i][0]) ? 0 : ranges[i][0];
		const float high = isnan(ranges[i][1]) ? 0 : ranges[i][1];

		steps_of(rig, job, plane, i)[0] = number_encode(low, job->form);
		steps_of(rig, job, plane, i)[1] =
			rounded_up((high - low) / (job->bits == 8 ? 255 : 15), job->form);
	}
}

/* Of the number's group. */
static void low_and_step(const struct device_rig *rig, const struct int_encode_job *job,
			 uint64_t plane, uint64_t index, float *low, float *step)
{
	const uint16_t *steps = steps_of(
		rig, job, plane, group_of(job, index / job->channels, index % job->channels));

	*low = number_decode(steps[0], job->form);
	*step = number_decode(steps[1], job->form);
}

static unsigned expect_code(const struct device_rig *rig, const struct int_encode_job *job,
			    uint64_t plane, uint64_t index)
{
	const float value = number_of(rig, job, plane, index), top = job->bits == 8 ? 255 : 15;
	float low, step;

	low_and_step(rig, job, plane, index, &low, &step);
	if (isnan(value) || value <= low || step == 0)
		return 0;

	return isinf(value) ? (unsigned)top
			    : (unsigned)fminf(nearbyintf((value - low) / step), top);
}

/* Codes by the layout that integer.h describes, into the image. */
static void expect_codes(struct device_rig *rig, const struct int_encode_job *job, uint64_t plane)
{
	unsigned char *codes = rig->image + CODES + plane * job->code_stride;

	for (uint64_t i = 0; job->bits == 4 && i < int_code_bytes(job); i++)
		codes[i] = 0;
	for (uint64_t i = 0; i < job->tokens * job->channels; i++) {
		const uint64_t token = i / job->channels, channel = i % job->channels;
		const unsigned code = expect_code(rig, job, plane, i);

		if (job->bits == 8)
			codes[i] = (unsigned char)code;
		else if (job->by_channel)
			codes[token / 2 * job->channels + channel] |=
				(unsigned char)(code << 4 * (token % 2));
		else
			codes[token * ((job->channels + 1) / 2) + channel / 2] |=
				(unsigned char)(code << 4 * (channel % 2));
	}
}

/* Numbers as decoded, into the image, each within the promised error of the one before. */
static void expect_numbers(struct device_rig *rig, const struct int_encode_job *job, uint64_t plane)
{
	const float rounding = job->form == NUMBER_FP16 ? 0x1p-11f : 0x1p-8f;
	const float most = number_decode(job->form == NUMBER_FP16 ? 0x7bff : 0x7f7f, job->form);

	for (uint64_t i = 0; i < job->tokens * job->channels; i++) {
		const float before = number_of(rig, job, plane, i);
		float low, step, after;

		low_and_step(rig, job, plane, i, &low, &step);
		after = fminf(low + (float)expect_code(rig, job, plane, i) * step, most);
		numbers_of(rig, plane)[i] = number_encode(after, job->form);
		assert_true(isfinite(number_of(rig, job, plane, i)));
		if (isfinite(before))
			assert_true(fabsf(number_of(rig, job, plane, i) - before) <=
				    step * 0.50001f + fabsf(after) * rounding + 1e-7f);
	}
}

static struct int_encode_job placed(const struct device_rig *rig, struct int_encode_job job)
{
	job.codes = rig->memory + CODES;
	job.code_stride = int_code_bytes(&job) + 5;
	job.steps = rig->memory + STEPS;
	job.step_stride = int_step_bytes(&job) + 6;
	for (uint64_t plane = 0; plane < job.planes; plane++)
		job.numbers[plane] = rig->memory + NUMBERS + plane * NUMBERS_APART;

	return job;
}

static void go_round(struct device_rig *rig, struct int_encode_job job)
{
	device_rig_put(rig);
	job = placed(rig, job);

	for (uint64_t plane = 0; plane < job.planes; plane++) {
		expect_steps(rig, &job, plane);
		expect_codes(rig, &job, plane);
	}

	assert_int_equal(int_encode_launch(&rig->kernels, rig->driver, rig->stream, &job),
			 CUDA_SUCCESS);
	device_rig_check(rig);

	for (uint64_t plane = 0; plane < job.planes; plane++)
		expect_numbers(rig, &job, plane);
	assert_int_equal(int_decode_launch(&rig->kernels, rig->driver, rig->stream, &job),
			 CUDA_SUCCESS);
	device_rig_check(rig);
}

static void test_round(void **state)
{
	struct device_rig rig;

	device_rig_open(&rig, *state);
	for (size_t i = 0; i < 16 * sizeof(shapes) / sizeof(shapes[0]); i++) {
		struct int_encode_job job = shapes[i / 16];

		job.bits = i & 1 ? 4 : 8;
		job.by_channel = (uint32_t)i >> 1 & 1;
		job.form = i & 4 ? NUMBER_FP16 : NUMBER_BF16;
		job.planes = (uint32_t)i % 4;
		for (uint64_t plane = 0; plane < job.planes; plane++)
			kv_numbers_fill(&rig.seed, numbers_of(&rig, plane), job.tokens,
					job.channels, job.form, i & 8);
		go_round(&rig, job);
	}

	device_rig_close(&rig);
}

/* The largest numbers there are, among which a step that was rounded up would end beyond. */
static void test_largest(void **state)
{
	struct device_rig rig;

	device_rig_open(&rig, *state);
	for (unsigned i = 0; i < 4; i++) {
		const struct int_encode_job job = {.tokens = 2,
						   .channels = 64,
						   .group = 64,
						   .planes = 1,
						   .bits = i & 1 ? 4 : 8,
						   .form = i & 2 ? NUMBER_FP16 : NUMBER_BF16};

		for (unsigned k = 0; k < 128; k++)
			numbers_of(&rig, 0)[k] =
				(uint16_t)((i & 2 ? 0x7bff : 0x7f7f) - seed_below(&rig.seed, 99));
		for (unsigned k = 0; k < 128; k += 64) {
			numbers_of(&rig, 0)[k] = i & 2 ? 0xfbff : 0x7f00;
			numbers_of(&rig, 0)[k + 1] = i & 2 ? 0x7bff : 0x7f7f;
		}

		go_round(&rig, job);
	}

	device_rig_close(&rig);
}

static void test_refused(void **state)
{
	static const uint32_t wrong[][3] = {
		{8, 0, 1}, {8, 3, 1}, {5, 32, 1}, {0, 32, 1}, {8, 32, ENCODE_PLANES + 1}};
	struct device_rig rig;

	device_rig_open(&rig, *state);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		const struct int_encode_job job = {.tokens = 2,
						   .channels = 2,
						   .bits = wrong[i][0],
						   .group = wrong[i][1],
						   .planes = wrong[i][2]};

		assert_int_equal(int_encode_launch(&rig.kernels, rig.driver, rig.stream, &job),
				 CUDA_ERROR_INVALID_VALUE);
		assert_int_equal(int_decode_launch(&rig.kernels, rig.driver, rig.stream, &job),
				 CUDA_ERROR_INVALID_VALUE);
	}

	device_rig_close(&rig);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, soft_setup, soft_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_round),
		TEST(test_largest),
		TEST(test_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
