/* SPDX-License-Identifier: Apache-2.0 */
/* Device code, fp8 with a scale for each head: against plain C, and the error that is
 * promised. */
#include "kernels/device/fp8.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>

#include "kernels/device/number.h"
#include "tests/support/device_rig.h"
#include "tests/support/kv_numbers.h"

#define NUMBERS 64
#define CODES ((512u << 10) + 1)
#define AMAX ((1u << 20) + 4)

static const struct fp8_encode_job shapes[] = {
	{.tokens = 16, .heads = 8, .head = 128}, {.tokens = 64, .heads = 1, .head = 64},
	{.tokens = 17, .heads = 5, .head = 33},  {.tokens = 1, .heads = 1, .head = 1},
	{.tokens = 0, .heads = 3, .head = 8},
};

static uint16_t *numbers_of(struct device_rig *rig)
{
	return (uint16_t *)(void *)(rig->image + NUMBERS);
}

static float *amax_of(struct device_rig *rig)
{
	return (float *)(void *)(rig->image + AMAX);
}

static void expect_codes(struct device_rig *rig, const struct fp8_encode_job *job)
{
	const uint64_t count = job->tokens * job->heads * job->head;

	for (uint64_t head = 0; head < job->heads; head++)
		amax_of(rig)[head] = 0;
	for (uint64_t i = 0; i < count; i++) {
		const float value = fabsf(number_decode(numbers_of(rig)[i], job->form));
		float *amax = &amax_of(rig)[i / job->head % job->heads];

		if (isfinite(value))
			*amax = fmaxf(*amax, value);
	}

	for (uint64_t i = 0; i < count; i++) {
		const float scale = amax_of(rig)[i / job->head % job->heads] / 448;
		const float value = number_decode(numbers_of(rig)[i], job->form);

		rig->image[CODES + i] = number_to_fp8(scale > 0 ? value / scale : value);
	}
}

static void expect_numbers(struct device_rig *rig, const struct fp8_encode_job *job)
{
	const float rounding = job->form == NUMBER_FP16 ? 0x1p-11f : 0x1p-8f;

	for (uint64_t i = 0; i < job->tokens * job->heads * job->head; i++) {
		const float amax = amax_of(rig)[i / job->head % job->heads];
		const float before = number_decode(numbers_of(rig)[i], job->form);
		const float after =
			number_of_fp8(rig->image[CODES + i]) * (amax > 0 ? amax / 448 : 1);

		numbers_of(rig)[i] = number_encode(after, job->form);
		if (isnan(before))
			assert_true(isnan(after));
		else if (isinf(before))
			assert_true(fabsf(fabsf(after) - amax) <= amax * 1e-6f || amax == 0);
		else
			assert_true(fabsf(number_decode(numbers_of(rig)[i], job->form) - before) <=
				    fmaxf(fabsf(before) * 0.0625f, amax / 458752) * 1.00001f +
					    fabsf(after) * rounding + 1e-7f);
	}
}

static void test_round(void **state)
{
	struct device_rig rig;

	device_rig_open(&rig, *state);
	for (size_t i = 0; i < 4 * sizeof(shapes) / sizeof(shapes[0]); i++) {
		struct fp8_encode_job job = shapes[i / 4];

		job.numbers = rig.memory + NUMBERS;
		job.codes = rig.memory + CODES;
		job.amax = rig.memory + AMAX;
		job.form = i & 1 ? NUMBER_FP16 : NUMBER_BF16;
		kv_numbers_fill(&rig.seed, numbers_of(&rig), job.tokens, job.heads * job.head,
				job.form, i & 2);
		device_rig_put(&rig);

		expect_codes(&rig, &job);
		assert_int_equal(fp8_encode_launch(&rig.kernels, rig.driver, rig.stream, &job),
				 CUDA_SUCCESS);
		device_rig_check(&rig);

		expect_numbers(&rig, &job);
		assert_int_equal(fp8_decode_launch(&rig.kernels, rig.driver, rig.stream, &job),
				 CUDA_SUCCESS);
		device_rig_check(&rig);
	}

	device_rig_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_round, soft_setup, soft_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
