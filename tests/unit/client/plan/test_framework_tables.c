/* SPDX-License-Identifier: Apache-2.0 */
/* Properties of the four metrics that hold over every row of the built-in tables. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "client/plan/cost.h"
#include "client/plan/framework.h"
#include "client/plan/gpu.h"
#include "tests/support/plan_example.h"

static const uint64_t contexts[] = {1, 100, 127, 4000, 50000, 1000000, 10000000};
#define CONTEXTS (sizeof(contexts) / sizeof(contexts[0]))

static struct plan_hardware hardware_of(const struct plan_gpu *gpu, uint32_t gpus)
{
	return (struct plan_hardware){.gpus = gpus,
				      .hbm_bytes = gpu->hbm_bytes,
				      .flop_s = gpu->flop_s,
				      .hbm_bytes_s = gpu->hbm_bytes_s,
				      .link = {gpu->link_bytes_s, gpu->link_bytes_s},
				      .ddr_bytes = 1ull << 40,
				      .nvme_bytes = 1ull << 42,
				      .nvme = {6e9, 6e9}};
}

/* GLM-5's parameters are not known: a stand-in lets its other facts take part. */
static struct plan_model model_at(size_t index)
{
	struct plan_model model = plan_models[index];
	if (model.params == 0)
		model.params = model.active_params = 1000000000;
	return model;
}

typedef void pair_test(const struct plan_model *model, const struct plan_gpu *gpu);

static void for_all_pairs(pair_test *test)
{
	for (size_t m = 0; m < plan_model_count; m++) {
		struct plan_model model = model_at(m);
		for (size_t g = 0; g < plan_gpu_count; g++)
			test(&model, &plan_gpus[g]);
	}
}

static void monotone(const struct plan_model *model, const struct plan_gpu *gpu)
{
	struct plan_hardware hardware = hardware_of(gpu, 16);
	struct plan_load load = plan_load_default();
	struct plan_point before = plan_example_compute(model, &hardware, &load, contexts[0]);
	for (size_t i = 1; i < CONTEXTS; i++) {
		struct plan_point point =
			plan_example_compute(model, &hardware, &load, contexts[i]);

		assert_true(point.kv_bytes >= before.kv_bytes);
		assert_true(point.concurrency <= before.concurrency);
		assert_true(point.prefill_s >= before.prefill_s);
		assert_true(point.decode_s >= before.decode_s);
		assert_true(point.switch_s >= before.switch_s);
		assert_true(point.ddr.users <= before.ddr.users);
		before = point;
	}
}

static void test_monotone_in_context(void **state)
{
	(void)state;
	for_all_pairs(monotone);
}

static void halves(const struct plan_model *model, const struct plan_gpu *gpu)
{
	struct plan_load load = plan_load_default();
	struct plan_hardware one = hardware_of(gpu, 2), two = hardware_of(gpu, 4);

	one.hbm_bytes = two.hbm_bytes = 16 * gpu->hbm_bytes;
	if (plan_kv_parts_max(model, &two) < two.gpus)
		return;

	for (size_t i = 0; i < CONTEXTS; i++) {
		struct plan_point whole = plan_example_compute(model, &one, &load, contexts[i]);
		struct plan_point half = plan_example_compute(model, &two, &load, contexts[i]);

		plan_example_near(half.prefill_s, whole.prefill_s / 2);
		plan_example_near(half.decode_s, whole.decode_s / 2);
		plan_example_near(half.switch_s, whole.switch_s / 2);
		assert_true(half.concurrency >= 2 * whole.concurrency);
	}
}

static void test_tensor_parallel_halves(void **state)
{
	(void)state;
	for_all_pairs(halves);
}

/* Without windows KV(nT) = n·KV(T); with them only beyond the window, and by the full
 * layers alone. */
static void test_kv_is_linear(void **state)
{
	(void)state;
	struct plan_load load = plan_load_default();
	for (size_t m = 0; m < plan_model_count; m++) {
		struct plan_model model = model_at(m);
		uint64_t one, thousand, more;

		assert_int_equal(plan_kv_bytes(&model, &load, 1, &one), 0);
		assert_int_equal(plan_kv_bytes(&model, &load, 100000, &thousand), 0);
		assert_int_equal(plan_kv_bytes(&model, &load, 200000, &more), 0);
		uint64_t per_layer = plan_model_elements(&model) * 2;
		assert_int_equal(one, model.layers * per_layer);
		assert_int_equal(more - thousand,
				 100000 * (model.layers - model.windowed_layers) * per_layer);
		if (model.windowed_layers == 0)
			assert_int_equal(thousand, 100000 * one);
	}
}

static void test_fewer_kv_heads_divide_exactly(void **state)
{
	(void)state;
	struct plan_load load = plan_load_default();
	for (size_t m = 0; m < plan_model_count; m++) {
		struct plan_model model = model_at(m);
		if (model.kv_heads == 0)
			continue;

		struct plan_model all_heads = model;
		all_heads.kv_heads = model.q_heads;
		uint64_t grouped, whole;
		assert_int_equal(plan_kv_bytes(&model, &load, 123456, &grouped), 0);
		assert_int_equal(plan_kv_bytes(&all_heads, &load, 123456, &whole), 0);
		assert_int_equal(whole, grouped * (model.q_heads / model.kv_heads));
	}
}

static void assert_finite(double value)
{
	assert_true(value >= 0 && value < 1e15);
}

static void huge(const struct plan_model *model, const struct plan_gpu *gpu)
{
	struct plan_hardware hardware = hardware_of(gpu, 1024);
	struct plan_load load = plan_load_default();

	load.users = 1000000;
	load.think_s = 3600;
	struct plan_point point = plan_example_compute(model, &hardware, &load, 10000000);
	assert_int_equal(point.hbm_bytes, 1024 * gpu->hbm_bytes);
	assert_true(point.concurrency == 0 || point.concurrency * point.kv_bytes < point.hbm_bytes);
	assert_finite(point.prefill_s);
	assert_finite(point.decode_s);
	assert_finite(point.switch_s);
	assert_finite(point.session_s);
	assert_finite(point.sustainable_users);
	assert_finite(point.nvme.serial_s);
	load.batch = 0;
	assert_finite(plan_example_compute(model, &hardware, &load, 10000000).decode_s);
}

static void test_no_overflow_at_ten_million_tokens(void **state)
{
	(void)state;
	for_all_pairs(huge);
}

static void test_beyond_64_bits_is_refused(void **state)
{
	(void)state;
	struct plan_hardware hardware = plan_example_a100(1ull << 50, 1000000);
	struct plan_load load = plan_load_default();
	struct plan_point point;
	memset(&point, 0x5a, sizeof(point));
	load.context = 1000;
	assert_int_equal(plan_compute(&plan_example, &hardware, &load, &point), -ERANGE);
	assert_int_equal(point.concurrency, 0x5a5a5a5a5a5a5a5a);
	struct plan_model absurd = plan_example;
	absurd.layers = UINT32_MAX;
	absurd.kv_heads = 65536;
	absurd.head_dim = 16384;
	hardware = plan_example_a100(PLAN_EXAMPLE_HBM, 1);
	assert_int_equal(plan_compute(&absurd, &hardware, &load, &point), -ERANGE);
}

/* One user more than concurrency never fits, and concurrency always does. */
static void fits_on(const struct plan_model *model, struct plan_hardware hardware)
{
	struct plan_load load = plan_load_default();
	struct plan_point point = plan_example_compute(model, &hardware, &load, 32000);
	uint64_t slots = point.concurrency / (hardware.data_parallel ? hardware.gpus : 1);
	double used = (double)point.weight_bytes + (double)slots * (double)point.kv_slot_bytes;

	assert_true(point.concurrency == 0 || used <= (double)point.hbm_bytes);
	assert_true(used + (double)point.kv_slot_bytes > (double)point.hbm_bytes);
	assert_true((point.fit.missing_bytes == 0) == (point.concurrency > 0));

	if (point.fit.gpus == 0) {
		assert_true(point.kv_bytes / plan_kv_parts_max(model, &hardware) >=
			    hardware.hbm_bytes);
		return;
	}

	hardware.gpus = (uint32_t)point.fit.gpus;
	assert_true(plan_example_compute(model, &hardware, &load, 32000).concurrency > 0);
	hardware.gpus--;
	if (hardware.gpus > 0)
		assert_int_equal(plan_example_compute(model, &hardware, &load, 32000).concurrency,
				 0);
}

static void fits(const struct plan_model *model, const struct plan_gpu *gpu)
{
	for (uint32_t gpus = 1; gpus <= 64; gpus *= 4) {
		struct plan_hardware hardware = hardware_of(gpu, gpus);

		fits_on(model, hardware);
		hardware.data_parallel = true;
		fits_on(model, hardware);
	}
}

static void test_concurrency_is_what_fits(void **state)
{
	(void)state;
	for_all_pairs(fits);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_monotone_in_context),
		cmocka_unit_test(test_tensor_parallel_halves),
		cmocka_unit_test(test_kv_is_linear),
		cmocka_unit_test(test_fewer_kv_heads_divide_exactly),
		cmocka_unit_test(test_no_overflow_at_ten_million_tokens),
		cmocka_unit_test(test_beyond_64_bits_is_refused),
		cmocka_unit_test(test_concurrency_is_what_fits),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
