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
#define NUMBERS_APART ((64u << 10) + 2)
#define CODES ((512u << 10) + 1)
#define AMAX ((1u << 20) + 4)
#define PLANES 3

static const struct fp8_encode_job shapes[] = {
	{.tokens = 16, .heads = 8, .head = 128}, {.tokens = 64, .heads = 1, .head = 64},
	{.tokens = 17, .heads = 5, .head = 33},  {.tokens = 1, .heads = 1, .head = 1},
	{.tokens = 0, .heads = 3, .head = 8},
};

static uint16_t *numbers_of(const struct device_rig *rig, uint64_t plane)
{
	return (uint16_t *)(void *)(rig->image + NUMBERS + plane * NUMBERS_APART);
}

static float *amax_of(const struct device_rig *rig, const struct fp8_encode_job *job,
		      uint64_t plane, uint64_t index)
{
	return (float *)(void *)(rig->image + AMAX) + plane * job->heads +
	       index / job->head % job->heads;
}

static uint64_t count_of(const struct fp8_encode_job *job)
{
	return job->tokens * job->heads * job->head;
}

static void expect_codes(struct device_rig *rig, const struct fp8_encode_job *job, uint64_t plane)
{
	unsigned char *codes = rig->image + CODES + plane * job->code_stride;

	for (uint64_t head = 0; head < job->heads; head++)
		*amax_of(rig, job, plane, head * job->head) = 0;
	for (uint64_t i = 0; i < count_of(job); i++) {
		const float value = fabsf(number_decode(numbers_of(rig, plane)[i], job->form));
		float *amax = amax_of(rig, job, plane, i);

		if (isfinite(value))
			*amax = fmaxf(*amax, value);
	}

	for (uint64_t i = 0; i < count_of(job); i++) {
		const float scale = *amax_of(rig, job, plane, i) / 448;
		const float value = number_decode(numbers_of(rig, plane)[i], job->form);

		codes[i] = number_to_fp8(scale > 0 || isnan(value) ? value / scale : 0);
	}
}

static void expect_numbers(struct device_rig *rig, const struct fp8_encode_job *job, uint64_t plane)
{
	const float rounding = job->form == NUMBER_FP16 ? 0x1p-11f : 0x1p-8f;
	const unsigned char *codes = rig->image + CODES + plane * job->code_stride;

	for (uint64_t i = 0; i < count_of(job); i++) {
		const float amax = *amax_of(rig, job, plane, i);
		const float before = number_decode(numbers_of(rig, plane)[i], job->form);
		const float after = number_of_fp8(codes[i]) * (amax / 448);
		const uint16_t number = number_encode(after, job->form);

		numbers_of(rig, plane)[i] = number;
		if (isnan(before))
			assert_true(isnan(after));
		else if (isinf(before))
			assert_true(fabsf(fabsf(after) - amax) <= amax * 1e-6f);
		else
			assert_true(fabsf(number_decode(number, job->form) - before) <=
				    fmaxf(fabsf(before) * 0.0625f, amax / 458752) * 1.00001f +
					    fabsf(after) * rounding + 1e-7f);
	}
}

static struct fp8_encode_job placed(const struct device_rig *rig, struct fp8_encode_job job)
{
	job.codes = rig->memory + CODES;
	job.code_stride = count_of(&job) + 3;
	job.amax = rig->memory + AMAX;
	job.planes = PLANES;
	for (uint64_t plane = 0; plane < PLANES; plane++)
		job.numbers[plane] = rig->memory + NUMBERS + plane * NUMBERS_APART;

	return job;
}

/* A head of zeros and infinities alone. */
static void only_infinities(struct device_rig *rig, const struct fp8_encode_job *job)
{
	for (uint64_t i = 0; i < count_of(job); i++)
		if (i / job->head % job->heads == 0)
			numbers_of(rig, 1)[i] = number_encode(i % 3   ? 0
							      : i % 2 ? INFINITY
								      : -INFINITY,
							      job->form);
}

static void test_round(void **state)
{
	struct device_rig rig;

	device_rig_open(&rig, *state);
	for (size_t i = 0; i < 4 * sizeof(shapes) / sizeof(shapes[0]); i++) {
		struct fp8_encode_job job = placed(&rig, shapes[i / 4]);

		job.form = i & 1 ? NUMBER_FP16 : NUMBER_BF16;
		for (uint64_t plane = 0; plane < PLANES; plane++)
			kv_numbers_fill(&rig.seed, numbers_of(&rig, plane), job.tokens,
					job.heads * job.head, job.form, i & 2);
		if (i & 2)
			only_infinities(&rig, &job);
		device_rig_put(&rig);

		for (uint64_t plane = 0; plane < PLANES; plane++)
			expect_codes(&rig, &job, plane);
		assert_int_equal(fp8_encode_launch(&rig.kernels, rig.driver, rig.stream, &job),
				 CUDA_SUCCESS);
		device_rig_check(&rig);

		for (uint64_t plane = 0; plane < PLANES; plane++)
			expect_numbers(&rig, &job, plane);
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
