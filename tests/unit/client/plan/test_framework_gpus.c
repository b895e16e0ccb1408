/* SPDX-License-Identifier: Apache-2.0 */
/* The four metrics of caches on several GPUs: divided, replicated, or one user's on one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client/plan/cost.h"
#include "client/plan/framework.h"
#include "tests/support/plan_example.h"

/* 61 layers with a latent vector of 576, bf16: 70,272 bytes for each token. */
static struct plan_model latent_model(void)
{
	struct plan_model model = plan_example;
	model.layers = 61;
	model.kv_heads = model.head_dim = 0;
	model.latent_dim = 576;
	return model;
}

static void test_a_latent_vector_is_on_every_gpu(void **state)
{
	(void)state;
	const struct plan_model model = latent_model();
	const struct plan_hardware hardware = plan_example_a100(PLAN_EXAMPLE_HBM, 8);
	const struct plan_load load = plan_load_default();
	const double kv = 70272.0 * 4000;

	struct plan_point point = plan_example_compute(&model, &hardware, &load, 4000);
	assert_int_equal(plan_kv_parts(&model, &hardware), 1);
	assert_int_equal(point.kv_bytes, 70272ull * 4000);
	plan_example_near(point.kv_copies, 8);
	assert_int_equal(point.concurrency,
			 (8 * PLAN_EXAMPLE_HBM - 68000000000) / (8 * 70272ull * 4000));
	plan_example_near(point.decode_s, 250 * (68e9 + 8 * kv) / (8 * 2.039e12));

	/* One copy goes out over all links, and each GPU loads its own. */
	plan_example_near(point.switch_s, kv / (8 * 20e9) + kv / 20e9);
	plan_example_near(point.switch_duplex_s, kv / 20e9);
	plan_example_printed(point.switch_wall.used[PLAN_LINK], "%.2f", "0.50");
}

static void test_kv_heads_are_replicated(void **state)
{
	(void)state;
	static const struct {
		uint32_t gpus, parts;
		const char *copies;
	} cases[] = {
		{1, 1, "1.00"}, {3, 3, "1.00"}, {8, 8, "1.00"}, {12, 8, "1.50"}, {16, 8, "2.00"}};
	const struct plan_load load = plan_load_default();

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct plan_hardware hardware = plan_example_a100(PLAN_EXAMPLE_HBM, cases[i].gpus);
		struct plan_point point =
			plan_example_compute(&plan_example, &hardware, &load, 50000);
		uint64_t slot = 12288000000 / cases[i].parts * cases[i].gpus;

		assert_int_equal(plan_kv_parts(&plan_example, &hardware), cases[i].parts);
		plan_example_printed(point.kv_copies, "%.2f", cases[i].copies);
		assert_int_equal(point.kv_slot_bytes, slot);
		assert_int_equal(point.concurrency,
				 (cases[i].gpus * PLAN_EXAMPLE_HBM - 68000000000) / slot);
	}
}

static void test_data_parallel_attention(void **state)
{
	(void)state;
	const struct plan_model model = latent_model();
	struct plan_hardware hardware = plan_example_a100(PLAN_EXAMPLE_HBM, 8);
	struct plan_load load = plan_load_default();
	const uint64_t kv = 70272ull * 4000;
	hardware.data_parallel = true;

	/* As many whole caches on each GPU as its memory holds beside its eighth of
	 * the weights. */
	struct plan_point point = plan_example_compute(&model, &hardware, &load, 4000);
	plan_example_near(point.kv_copies, 1);
	assert_int_equal(point.concurrency, 8 * ((PLAN_EXAMPLE_HBM - 68000000000 / 8) / kv));
	plan_example_near(point.switch_s, 2 * (double)kv / (8 * 20e9));

	/* A step takes as long as on the GPU with the most users. */
	load.batch = 8;
	plan_example_near(plan_example_compute(&model, &hardware, &load, 4000).decode_s,
			  250 * (68e9 + 8 * (double)kv) / (8 * 2.039e12));
	load.batch = 9;
	plan_example_near(plan_example_compute(&model, &hardware, &load, 4000).decode_s,
			  250 * (68e9 + 16 * (double)kv) / (8 * 2.039e12));

	/* KV heads do not divide a cache then. */
	load.batch = 1;
	point = plan_example_compute(&plan_example, &hardware, &load, 50000);
	assert_int_equal(point.kv_slot_bytes, 8 * 12288000000);
	assert_int_equal(point.concurrency,
			 8 * ((PLAN_EXAMPLE_HBM - 68000000000 / 8) / 12288000000));

	/* Nothing changes on one GPU. */
	hardware.gpus = 1;
	struct plan_point alone = plan_example_compute(&model, &hardware, &load, 4000);
	hardware.data_parallel = false;
	assert_int_equal(alone.concurrency,
			 plan_example_compute(&model, &hardware, &load, 4000).concurrency);
	plan_example_near(alone.decode_s,
			  plan_example_compute(&model, &hardware, &load, 4000).decode_s);
}

/* A cache that no GPU can hold beside its share of the weights does not fit any number
 * of them. */
static void test_replicated_caches_that_never_fit(void **state)
{
	(void)state;
	const struct plan_model model = latent_model();
	struct plan_hardware hardware = plan_example_a100(PLAN_EXAMPLE_HBM, 2);
	const struct plan_load load = plan_load_default();

	assert_int_equal(plan_example_compute(&model, &hardware, &load, 2000000).fit.gpus, 0);

	/* Beside 70.272e9 bytes of cache each GPU has room for 15.6e9 bytes of
	 * weights. */
	struct plan_fit fit = plan_example_compute(&model, &hardware, &load, 1000000).fit;
	assert_int_equal(fit.gpus, 5);
	assert_int_equal(fit.missing_bytes, 68000000000 + 2 * 70272000000 - 2 * PLAN_EXAMPLE_HBM);
	assert_int_equal(fit.context, (2 * PLAN_EXAMPLE_HBM - 68000000000) / (2 * 70272));
	plan_example_near(fit.keep, (double)(2 * PLAN_EXAMPLE_HBM - 68000000000) / (2 * 70272e6));
	hardware.gpus = 5;
	assert_int_equal(plan_example_compute(&model, &hardware, &load, 1000000).concurrency, 1);
	hardware.gpus = 4;
	assert_int_equal(plan_example_compute(&model, &hardware, &load, 1000000).concurrency, 0);
}

/* What models are published in decides whether they fit at all. */
static void test_published_widths_fit(void **state)
{
	(void)state;
	struct plan_hardware h200 = {.gpus = 8,
				     .hbm_bytes = 141ull << 30,
				     .flop_s = 989e12,
				     .hbm_bytes_s = 4.8e12,
				     .link = {63e9, 63e9}};
	const struct plan_load load = plan_load_default();
	const struct plan_model *deepseek = plan_model_find("DeepSeek-V3"),
				*oss = plan_model_find("gpt-oss-120b");
	assert_non_null(deepseek);
	assert_non_null(oss);

	assert_int_equal(plan_example_compute(deepseek, &h200, &load, 32000).concurrency, 30);
	h200.data_parallel = true;
	assert_int_equal(plan_example_compute(deepseek, &h200, &load, 32000).concurrency, 240);

	h200.gpus = 1;
	assert_int_equal(plan_example_compute(oss, &h200, &load, 32000).weight_bytes / 100000000,
			 652);
	assert_true(plan_example_compute(oss, &h200, &load, 32000).concurrency > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_latent_vector_is_on_every_gpu),
		cmocka_unit_test(test_kv_heads_are_replicated),
		cmocka_unit_test(test_data_parallel_attention),
		cmocka_unit_test(test_replicated_caches_that_never_fit),
		cmocka_unit_test(test_published_widths_fit),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
