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

/* Where each is, in memory and image; what is between must stay. */
#define NUMBERS 64
#define CODES (512u << 10)
#define STEPS ((1u << 20) + 4)

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

static float number_of(const struct device_rig *rig, uint64_t index, uint32_t form)
{
	return number_decode(((const uint16_t *)(void *)(rig->image + NUMBERS))[index], form);
}

/* The lowest number and step of every group, into the image. */
static void expect_steps(struct device_rig *rig, const struct int_encode_job *job)
{
	const uint64_t groups = int_step_bytes(job) / 8;
	float *steps = (float *)(void *)(rig->image + STEPS);

	for (uint64_t i = 0; i < 2 * groups; i++)
		steps[i] = NAN;
	for (uint64_t i = 0; i < job->tokens * job->channels; i++) {
		const uint64_t group = group_of(job, i / job->channels, i % job->channels);
		const float value = number_of(rig, i, job->form);

		if (!isfinite(value))
			continue;
		steps[2 * group] = fminf(steps[2 * group], value);
		steps[2 * group + 1] = fmaxf(steps[2 * group + 1], value);
	}

	for (uint64_t i = 0; i < groups; i++) {
		if (isnan(steps[2 * i]))
			steps[2 * i] = steps[2 * i + 1] = 0;
		steps[2 * i + 1] = (steps[2 * i + 1] - steps[2 * i]) / (job->bits == 8 ? 255 : 15);
	}
}

static unsigned expect_code(const struct device_rig *rig, const struct int_encode_job *job,
			    uint64_t index)
{
	const float *steps = (const float *)(void *)(rig->image + STEPS);
	const uint64_t group = group_of(job, index / job->channels, index % job->channels);
	const float value = number_of(rig, index, job->form), low = steps[2 * group],
		    step = steps[2 * group + 1], top = job->bits == 8 ? 255 : 15;

	if (isnan(value) || value <= low || step == 0)
		return 0;

	return (unsigned)fminf(nearbyintf((value - low) / step), top);
}

/* Codes by the layout that integer.h describes, into the image. */
static void expect_codes(struct device_rig *rig, const struct int_encode_job *job)
{
	unsigned char *codes = rig->image + CODES;

	for (uint64_t i = 0; job->bits == 4 && i < int_code_bytes(job); i++)
		codes[i] = 0;
	for (uint64_t i = 0; i < job->tokens * job->channels; i++) {
		const uint64_t token = i / job->channels, channel = i % job->channels;
		const unsigned code = expect_code(rig, job, i);

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
static void expect_numbers(struct device_rig *rig, const struct int_encode_job *job)
{
	const float *steps = (const float *)(void *)(rig->image + STEPS);
	uint16_t *numbers = (uint16_t *)(void *)(rig->image + NUMBERS);
	const float rounding = job->form == NUMBER_FP16 ? 0x1p-11f : 0x1p-8f;

	for (uint64_t i = 0; i < job->tokens * job->channels; i++) {
		const uint64_t group = group_of(job, i / job->channels, i % job->channels);
		const float before = number_of(rig, i, job->form), step = steps[2 * group + 1];
		const float after = steps[2 * group] + (float)expect_code(rig, job, i) * step;

		numbers[i] = number_encode(after, job->form);
		if (isfinite(before))
			assert_true(fabsf(number_of(rig, i, job->form) - before) <=
				    step * 0.50001f + fabsf(after) * rounding + 1e-7f);
	}
}

static void go_round(struct device_rig *rig, struct int_encode_job job, bool wild)
{
	job.numbers = rig->memory + NUMBERS;
	job.codes = rig->memory + CODES;
	job.steps = rig->memory + STEPS;
	kv_numbers_fill(&rig->seed, (uint16_t *)(void *)(rig->image + NUMBERS), job.tokens,
			job.channels, job.form, wild);
	device_rig_put(rig);

	expect_steps(rig, &job);
	expect_codes(rig, &job);
	assert_int_equal(int_encode_launch(&rig->kernels, rig->driver, rig->stream, &job),
			 CUDA_SUCCESS);
	device_rig_check(rig);

	expect_numbers(rig, &job);
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
		go_round(&rig, job, i & 8);
	}

	device_rig_close(&rig);
}

static void test_refused(void **state)
{
	static const uint32_t wrong[][2] = {{8, 0}, {8, 3}, {5, 32}, {0, 32}};
	struct device_rig rig;

	device_rig_open(&rig, *state);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		const struct int_encode_job job = {
			.tokens = 2, .channels = 2, .bits = wrong[i][0], .group = wrong[i][1]};

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
		TEST(test_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
