/* SPDX-License-Identifier: Apache-2.0 */
/* The four metrics: golden values of the running example (a 34 B model on an 80 GB card),
 * and hand-computed cases of what the example does not have. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client/plan/cost.h"
#include "client/plan/framework.h"
#include "tests/support/plan_example.h"

static struct plan_point example_at(uint64_t hbm_bytes, uint32_t gpus, uint64_t context)
{
	struct plan_hardware hardware = plan_example_a100(hbm_bytes, gpus);
	struct plan_load load = plan_load_default();
	load.attention_width = 6656;
	return plan_example_compute(&plan_example, &hardware, &load, context);
}

static void test_golden_kv(void **state)
{
	(void)state;
	static const struct {
		uint64_t context, bytes;
		const char *format, *gib;
	} cases[] = {
		{4000, 983040000, "%.4f", "0.9155"},
		{50000, 12288000000, "%.3f", "11.444"},
		{100000, 24576000000, "%.3f", "22.888"},
		{1, 245760, "%.6f", "0.000229"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct plan_point point = example_at(PLAN_EXAMPLE_HBM, 1, cases[i].context);
		assert_int_equal(point.kv_bytes, cases[i].bytes);
		plan_example_printed((double)point.kv_bytes / 0x1p30, cases[i].format,
				     cases[i].gib);
	}

	assert_int_equal(example_at(PLAN_EXAMPLE_HBM, 1, 1).weight_bytes, 68000000000);
}

static void test_golden_concurrency(void **state)
{
	(void)state;
	assert_int_equal(example_at(PLAN_EXAMPLE_HBM, 1, 4000).concurrency, 18);
	assert_int_equal(example_at(PLAN_EXAMPLE_HBM, 1, 50000).concurrency, 1);
	assert_int_equal(example_at(80000000000, 1, 4000).concurrency, 12);
	assert_int_equal(example_at(80000000000, 1, 50000).concurrency, 0);
	assert_int_equal(example_at(PLAN_EXAMPLE_HBM, 2, 100000).concurrency, 4);
}

static void test_golden_times(void **state)
{
	(void)state;
	struct plan_point short_one = example_at(PLAN_EXAMPLE_HBM, 1, 4000),
			  long_one = example_at(PLAN_EXAMPLE_HBM, 1, 50000);
	plan_example_printed(short_one.decode_s, "%.3f", "8.458");
	plan_example_printed(long_one.decode_s, "%.3f", "9.844");
	plan_example_printed(short_one.prefill_s, "%.3f", "0.892");
	plan_example_printed(long_one.prefill_s, "%.3f", "14.097");
	plan_example_printed(short_one.prefill_linear_s, "%.3f", "0.872");
	plan_example_printed(long_one.prefill_linear_s, "%.2f", "10.90");
	plan_example_printed(long_one.switch_s, "%.4f", "1.2288");
	plan_example_printed(short_one.switch_s, "%.4f", "0.0983");
	plan_example_printed(long_one.switch_duplex_s, "%.4f", "0.6144");
	plan_example_printed(long_one.break_even_bytes_s / 1e9, "%.2f", "0.87");
}

static void test_walls_of_the_example(void **state)
{
	(void)state;
	struct plan_point point = example_at(PLAN_EXAMPLE_HBM, 1, 50000);
	assert_int_equal(point.prefill_wall.resource, PLAN_FLOPS);
	assert_int_equal(point.decode_wall.resource, PLAN_HBM_BANDWIDTH);
	assert_int_equal(point.concurrency_wall.resource, PLAN_HBM_SIZE);
	assert_int_equal(point.switch_wall.resource, PLAN_LINK);
	plan_example_printed(point.concurrency_wall.used[PLAN_HBM_SIZE], "%.4f", "0.9347");
	plan_example_printed(point.switch_wall.used[PLAN_LINK], "%.2f", "0.50");
	plan_example_printed(point.decode_wall.used[PLAN_HBM_BANDWIDTH], "%.2f", "1.00");

	/* FLOPS / BW = 153 of the card: a shorter prompt is bound by reading the
	 * weights, a longer one by arithmetic. */
	assert_int_equal(example_at(PLAN_EXAMPLE_HBM, 1, 140).prefill_wall.resource,
			 PLAN_HBM_BANDWIDTH);
	assert_int_equal(example_at(PLAN_EXAMPLE_HBM, 1, 170).prefill_wall.resource, PLAN_FLOPS);
}

static void test_session(void **state)
{
	(void)state;
	struct plan_hardware hardware = plan_example_a100(PLAN_EXAMPLE_HBM, 1);
	struct plan_load load = plan_load_default();
	load.attention_width = 6656;
	load.rounds = 5;
	load.think_s = 60;
	struct plan_point fits = plan_example_compute(&plan_example, &hardware, &load, 4000);
	double session = fits.prefill_s + 5 * fits.decode_s / 18;
	plan_example_near(fits.session_s, session);
	plan_example_near(fits.sessions_per_hour, 3600 / session);
	plan_example_near(fits.sustainable_users, (session + 300) / session);
	load.users = 19;
	struct plan_point crowded = plan_example_compute(&plan_example, &hardware, &load, 4000);
	plan_example_near(crowded.session_s, session + 5 * crowded.switch_s);
	load.users = 18;
	plan_example_near(plan_example_compute(&plan_example, &hardware, &load, 4000).session_s,
			  session);
}

static void test_parking(void **state)
{
	(void)state;
	struct plan_hardware hardware = plan_example_a100(PLAN_EXAMPLE_HBM, 1);
	hardware.ddr_bytes = 30ull * 983040000 + 5;
	hardware.nvme_bytes = 7ull * 983040000;
	hardware.nvme = (struct plan_link){5e9, 4e9};
	struct plan_load load = plan_load_default();
	load.users = 18 + 30 + 7 + 2;
	struct plan_point point = plan_example_compute(&plan_example, &hardware, &load, 4000);
	assert_int_equal(point.ddr.users, 30);
	assert_int_equal(point.nvme.users, 7);
	assert_int_equal(point.users_in_ddr, 30);
	assert_int_equal(point.users_in_nvme, 7);
	assert_int_equal(point.users_without_place, 2);
	plan_example_near(point.ddr.serial_s, point.switch_s);
	plan_example_near(point.nvme.serial_s, 983040000 / 5e9 + 983040000 / 4e9);
	plan_example_near(point.nvme.duplex_s, point.nvme.serial_s);
	assert_int_equal(point.nvme.wall.resource, PLAN_NVME);
	double mean =
		(30 * point.ddr.serial_s + 7 * point.nvme.serial_s + 2 * point.prefill_s) / 39;
	plan_example_near(point.session_s, point.prefill_s + point.decode_s / 18 + mean);

	/* A drive faster than the link is hidden behind it. */
	hardware.nvme = (struct plan_link){100e9, 100e9};
	plan_example_near(plan_example_compute(&plan_example, &hardware, &load, 4000).nvme.serial_s,
			  point.switch_s);
}

/* Loading wins from the first context at which KV / bandwidth is no longer than
 * prefill. */
static void test_break_even(void **state)
{
	(void)state;
	struct plan_hardware hardware = plan_example_a100(PLAN_EXAMPLE_HBM, 1);
	struct plan_load load = plan_load_default();
	hardware.nvme_bytes = 1;
	hardware.nvme = (struct plan_link){1e9, 1e9};
	uint64_t at = plan_example_compute(&plan_example, &hardware, &load, 1000).nvme.break_even;
	assert_in_range(at, 2, PLAN_CONTEXT_MAX);
	struct plan_point before = plan_example_compute(&plan_example, &hardware, &load, at - 1);
	struct plan_point after = plan_example_compute(&plan_example, &hardware, &load, at);
	assert_true(before.nvme.in_s > before.prefill_s);
	assert_true(after.nvme.in_s <= after.prefill_s);
	hardware.nvme = (struct plan_link){1, 1};
	struct plan_model linear = plan_example;
	linear.windowed_layers = linear.layers;
	linear.window = 1000;
	assert_int_equal(plan_example_compute(&linear, &hardware, &load, 1000).nvme.break_even, 0);
}

static void test_latent_and_windows_by_hand(void **state)
{
	(void)state;
	struct plan_load load = plan_load_default();
	uint64_t bytes;
	const struct plan_model *deepseek = plan_model_find("DeepSeek-V3/R1");
	assert_non_null(deepseek);
	assert_int_equal(plan_kv_bytes(deepseek, &load, 4000, &bytes), 0);
	assert_int_equal(bytes, 4000ull * 61 * (512 + 64) * 2);
	const struct plan_model *gemma = plan_model_find("gemma-3-27b");
	assert_non_null(gemma);
	assert_int_equal(plan_kv_bytes(gemma, &load, 100000, &bytes), 0);
	assert_int_equal(bytes, (10ull * 100000 + 52ull * 1024) * 2 * 16 * 128 * 2);
	assert_int_equal(plan_kv_bytes(gemma, &load, 1000, &bytes), 0);
	assert_int_equal(bytes, 62ull * 1000 * 2 * 16 * 128 * 2);

	/* Prompt tokens of a layer with a window of 3 meet 1, 2, 3, 3, 3, ... tokens:
	 * the mean, counted as the area under that line. */
	struct plan_model windowed = {.layers = 1,
				      .windowed_layers = 1,
				      .window = 300,
				      .kv_heads = 1,
				      .head_dim = 1,
				      .element_bits = 16,
				      .attention_width = 1000000,
				      .weight_bits = 16,
				      .params = 1,
				      .active_params = 1};
	struct plan_hardware hardware = plan_example_a100(PLAN_EXAMPLE_HBM, 1);
	double pairs = 0;
	for (int t = 1; t <= 10000; t++)
		pairs += t < 300 ? t : 300;
	double seconds = plan_example_compute(&windowed, &hardware, &load, 10000).prefill_s;
	double by_hand = pairs * 2 * 1000000 / 312e12;
	assert_true(seconds > by_hand * 0.999 && seconds < by_hand * 1.001);
}

static void test_experts(void **state)
{
	(void)state;
	struct plan_model sparse = plan_example;
	sparse.active_params = sparse.params / 4;
	struct plan_hardware hardware = plan_example_a100(PLAN_EXAMPLE_HBM, 1);
	struct plan_load load = plan_load_default();
	struct plan_point dense_point = plan_example_compute(&plan_example, &hardware, &load, 4000);
	struct plan_point point = plan_example_compute(&sparse, &hardware, &load, 4000);
	assert_int_equal(point.concurrency, dense_point.concurrency);
	plan_example_near(point.switch_s, dense_point.switch_s);
	plan_example_near(point.prefill_linear_s, dense_point.prefill_linear_s / 4);
	plan_example_near(point.decode_s, 250 * (17e9 + 983040000) / 2.039e12);

	/* Four tokens may choose four different sets of experts: all weights are read. */
	load.batch = 4;
	plan_example_near(plan_example_compute(&sparse, &hardware, &load, 4000).decode_s,
			  250 * (68e9 + 4 * 983040000.0) / 2.039e12);
}

static void test_batch(void **state)
{
	(void)state;
	struct plan_hardware hardware = plan_example_a100(PLAN_EXAMPLE_HBM, 1);
	struct plan_load load = plan_load_default();
	load.batch = 0;
	struct plan_point most = plan_example_compute(&plan_example, &hardware, &load, 4000);
	assert_int_equal(most.batch, 18);
	plan_example_near(most.decode_s, 250 * (68e9 + 18 * 983040000.0) / 2.039e12);
	load.batch = 1000;
	assert_int_equal(plan_example_compute(&plan_example, &hardware, &load, 4000).batch, 18);

	/* Larger than the intensity: bound by arithmetic. */
	hardware.gpus = 8;
	struct plan_point large = plan_example_compute(&plan_example, &hardware, &load, 400);
	assert_int_equal(large.batch, 1000);
	assert_int_equal(large.decode_wall.resource, PLAN_FLOPS);
}

/* Each axis divides the cache and so helps concurrency, decode and the switch; only
 * layers help prefill. */
static void test_compression(void **state)
{
	(void)state;
	struct plan_hardware hardware = plan_example_a100(PLAN_EXAMPLE_HBM, 1);
	struct plan_load plain = plan_load_default();
	struct plan_point whole = plan_example_compute(&plan_example, &hardware, &plain, 50000);
	struct plan_load changes[4] = {plain, plain, plain, plain};
	changes[0].keep_layers = 0.5;
	changes[1].keep_heads = 0.5;
	changes[2].keep_tokens = 0.5;
	changes[3].encoding_bits = 8;
	for (size_t i = 0; i < 4; i++) {
		struct plan_point half =
			plan_example_compute(&plan_example, &hardware, &changes[i], 50000);

		assert_int_equal(half.kv_bytes, whole.kv_bytes / 2);
		assert_int_equal(half.kv_computed_bytes, whole.kv_bytes);
		assert_int_equal(half.concurrency, 2);
		plan_example_near(half.switch_s, whole.switch_s / 2);
		assert_true(half.decode_s < whole.decode_s);
		plan_example_near(half.prefill_s, i == 0 ? whole.prefill_s / 2 : whole.prefill_s);
	}

	struct plan_load all = {.output_tokens = 250,
				.batch = 1,
				.rounds = 1,
				.keep_layers = 1.0 / 60,
				.keep_heads = 0.5,
				.keep_tokens = 0.5,
				.encoding_bits = 4};
	assert_int_equal(plan_example_compute(&plan_example, &hardware, &all, 50000).kv_bytes,
			 12288000000 / 60 / 2 / 2 / 4);
	all.keep_layers = 1e-6;
	assert_int_equal(plan_example_compute(&plan_example, &hardware, &all, 1).kv_bytes, 1);
}

static void test_what_would_fit(void **state)
{
	(void)state;
	struct plan_hardware hardware = plan_example_a100(80000000000, 1);
	struct plan_load load = plan_load_default();
	struct plan_fit fit = plan_example_compute(&plan_example, &hardware, &load, 50000).fit;
	assert_int_equal(fit.missing_bytes, 68000000000 + 12288000000 - 80000000000);
	assert_int_equal(fit.gpus, 2);
	assert_int_equal(fit.context, 12000000000 / 245760);
	plan_example_printed(fit.keep, "%.4f", "0.9766");
	plan_example_printed(fit.weight_bits, "%.3f", "15.932");
	load.keep_heads = fit.keep * 0.999;
	assert_int_equal(plan_example_compute(&plan_example, &hardware, &load, 50000).concurrency,
			 1);
	load.keep_heads = 1;
	assert_int_equal(
		plan_example_compute(&plan_example, &hardware, &load, fit.context).concurrency, 1);
	assert_int_equal(
		plan_example_compute(&plan_example, &hardware, &load, fit.context + 1).concurrency,
		0);
	hardware.hbm_bytes = 24000000000;
	fit = plan_example_compute(&plan_example, &hardware, &load, 50000).fit;
	assert_int_equal(fit.context, 0);
	assert_int_equal(fit.gpus, 4);
	plan_example_printed(fit.keep, "%.1f", "0.0");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_golden_kv),
		cmocka_unit_test(test_golden_concurrency),
		cmocka_unit_test(test_golden_times),
		cmocka_unit_test(test_walls_of_the_example),
		cmocka_unit_test(test_session),
		cmocka_unit_test(test_parking),
		cmocka_unit_test(test_break_even),
		cmocka_unit_test(test_latent_and_windows_by_hand),
		cmocka_unit_test(test_experts),
		cmocka_unit_test(test_batch),
		cmocka_unit_test(test_compression),
		cmocka_unit_test(test_what_would_fit),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
