/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The model's numbers are those of mathematics and of their formats, its KV is where the
 * strides, the pages and the layouts of the library say, and nothing else is touched.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/model/model_layout.h"
#include "tests/model/model_rig.h"
#include "tests/model/quad.h"

#include <math.h>

#define UNTOUCHED 0x5a

static struct model_run run, other;

/* ---- Numbers ---- */

static double deviation(double is, double should)
{
	return fabs(is - should) / fabs(should);
}

static void test_functions_are_those_of_mathematics(void **state)
{
	(void)state;
	float sine, cosine;

	for (float x = -86; x < 88; x += 0.0371f)
		assert_true(deviation((double)quad_exp(quad_of(x))[2], exp((double)x)) < 3e-7);
	assert_true(quad_exp(quad_of(-1000))[0] <= 0);
	for (double x = -20; x <= 0; x += 0.0371)
		assert_true(deviation(quad_exp_of_double(x), exp(x)) < 1e-12);
	for (double x = 0; x < 70000; x += 1.371) {
		quad_sin_cos(x, &sine, &cosine);
		assert_true(fabs((double)sine - sin(x)) < 1e-7);
		assert_true(fabs((double)cosine - cos(x)) < 1e-7);
	}
}

/* Every finite number of 16 bits comes back; what is between two becomes the nearer one, and
 * the even one from the middle. */
static void test_numbers_are_rounded_to_nearest(void **state)
{
	(void)state;
	float numbers[MODEL_KV_WIDTH] = {0}, next[MODEL_HEAD_DIM];

	for (enum model_number number = MODEL_BF16; number <= MODEL_FP16; number++) {
		const struct model_kv kv = model_rig_plain(number, room[0]);
		const uint16_t end = number == MODEL_BF16 ? 0x7f7f : 0x7bff; /* the largest */
		uint16_t bits[2], back;

		for (uint16_t n = 0; n < end; n++) {
			bits[0] = n;
			bits[1] = n + 1;
			memcpy(model_kv_head(&kv, 0, MODEL_KEYS, 0, 0), bits, sizeof(bits));
			model_kv_read(&kv, 0, MODEL_KEYS, 0, 0, next);
			const float middle = next[0] / 2 + next[1] / 2;
			const float tries[] = {next[0], nextafterf(middle, 0), middle,
					       nextafterf(middle, next[1] * 2), -middle};
			const uint16_t even = n % 2 ? n + 1 : n;
			const uint16_t want[] = {n, n, even, n + 1, even | 0x8000};

			for (size_t i = 0; i < sizeof(tries) / sizeof(tries[0]); i++) {
				/* fp32 has no number between two of the smallest */
				if (number == MODEL_BF16 && n < 0x80)
					break;
				numbers[0] = tries[i];
				model_kv_write(&kv, 0, MODEL_KEYS, 1, numbers);
				memcpy(&back, model_kv_head(&kv, 0, MODEL_KEYS, 1, 0), 2);
				assert_int_equal(back, want[i]);
			}
		}
	}
}

/* ---- Strides ---- */

/* Generates with a cache of other strides what a plain one gives, and touches nothing that is
 * not the cache's. */
static void strides_are_followed(const struct model_kv *kv, unsigned char *base)
{
	const struct model_kv reference = model_rig_plain(kv->number, room[0]);
	const unsigned char zeros[4 * MODEL_HEAD_DIM] = {0};

	memset(base, UNTOUCHED, MODEL_RIG_ROOM);
	model_run_prompt(&run, 9, 70);
	other = run;
	model_run_go(&run, model, &reference, 20);
	model_run_go(&other, model, kv, 20);
	model_rig_same(&run, &other);
	assert_true(model_kv_same(&reference, kv, 0, run.cached));

	/* Where its bytes were, paint over them: the whole room is as it was. */
	for (uint64_t token = 0; token < run.cached; token++)
		for (uint32_t i = 0; i < MODEL_LAYERS * 2 * MODEL_KV_HEADS; i++) {
			unsigned char *head = model_kv_head(kv, i / 2 % MODEL_LAYERS, i % 2, token,
							    i / 2 / MODEL_LAYERS);
			const size_t bytes =
				(size_t)MODEL_HEAD_DIM * model_number_bytes(kv->number);
			assert_memory_not_equal(head, zeros, bytes);
			memset(head, UNTOUCHED, bytes);
		}
	for (size_t i = 0; i < MODEL_RIG_ROOM; i += sizeof(uint64_t)) {
		uint64_t word;
		memcpy(&word, base + i, sizeof(word));
		if (word != 0x0101010101010101u * UNTOUCHED)
			fail_msg("byte %zu of the room was touched", i);
	}
}

/* Keys and values are where the layout says. */
static void test_addresses_are_those_of_the_layout(void **state)
{
	(void)state;
	int32_t pages[MODEL_RIG_TOKENS / 8];
	for (int32_t i = 0; i < MODEL_RIG_TOKENS / 8; i++)
		pages[i] = i;

	for (enum hbm_layout_order order = 0; order < HBM_LAYOUT_ORDERS; order++) {
		const bool paged = order == HBM_ORDER_BLOCK;
		struct hbm_layout *layout =
			model_layout_new(order, MODEL_BF16, MODEL_RIG_TOKENS, paged ? 8 : 0);
		const struct model_kv kv =
			model_layout_kv(layout, MODEL_BF16, room[0], paged ? pages : NULL);

		for (uint64_t token = 0; token < MODEL_RIG_TOKENS; token++)
			for (uint32_t i = 0; i < MODEL_LAYERS * 2 * MODEL_KV_HEADS; i++) {
				const uint32_t layer = i / 2 % MODEL_LAYERS,
					       head = i / 2 / MODEL_LAYERS;
				uint64_t offset;
				assert_int_equal(hbm_layout_offset(layout, layer, i % 2, token,
								   head, &offset),
						 0);
				assert_ptr_equal(model_kv_head(&kv, layer, i % 2, token, head),
						 room[0] + offset);
			}
		hbm_layout_free(layout);
	}
}

static void test_strides(void **state)
{
	(void)state;
	int32_t pages[MODEL_RIG_TOKENS / 8];

	for (size_t i = 0; i < MODEL_RIG_TOKENS / 8; i++)
		pages[i] = (int32_t)(i * 29 % (MODEL_RIG_TOKENS / 8)); /* 29 is odd: each once */

	for (enum hbm_layout_order order = 0; order < HBM_LAYOUT_ORDERS; order++) {
		const bool paged = order == HBM_ORDER_BLOCK;
		const enum model_number number = order % MODEL_NUMBERS;
		struct hbm_layout *layout =
			model_layout_new(order, number, MODEL_RIG_TOKENS, paged ? 8 : 0);
		const struct model_kv kv =
			model_layout_kv(layout, number, room[1], paged ? pages : NULL);
		strides_are_followed(&kv, room[1]);
		hbm_layout_free(layout);
	}
}

static void test_gaps_between_heads_and_tokens(void **state)
{
	(void)state;
	struct model_kv kv = {.number = MODEL_BF16};

	/* A plane of each head, tokens of all layers within, values first. */
	for (uint32_t i = 0; i < MODEL_LAYERS; i++)
		kv.layers[i] =
			(struct model_kv_layer){.keys = room[1] + 1024 * i + 514,
						.values = room[1] + 1024 * i,
						.token_stride = 1024 * MODEL_LAYERS + 6,
						.head_stride = MODEL_RIG_ROOM / MODEL_KV_HEADS};
	assert_ptr_equal(model_kv_head(&kv, 2, MODEL_KEYS, 3, 1),
			 room[1] + 2 * 1024 + 514 + 3 * (1024 * MODEL_LAYERS + 6) +
				 MODEL_RIG_ROOM / MODEL_KV_HEADS);
	strides_are_followed(&kv, room[1]);
}

static void reach_brings(void *arg, uint32_t layer)
{
	const struct model_kv *away = arg;
	const struct model_kv here = model_rig_plain(away->number, room[1]);

	for (uint64_t token = 0; token < run.cached; token++)
		for (uint32_t i = 0; i < 2 * MODEL_KV_HEADS; i++)
			memcpy(model_kv_head(&here, layer, i % 2, token, i / 2),
			       model_kv_head(away, layer, i % 2, token, i / 2),
			       (size_t)MODEL_HEAD_DIM * model_number_bytes(away->number));
}

/* A layer is not touched before it is reached: it may arrive meanwhile. */
static void test_layers_may_arrive_one_by_one(void **state)
{
	(void)state;
	struct model_kv away = model_rig_plain(MODEL_FP16, room[0]),
			kv = model_rig_plain(MODEL_FP16, room[1]);

	model_run_prompt(&run, 10, 60);
	model_run_go(&run, model, &away, 1);
	other = run;
	memset(room[1], 0xff, MODEL_RIG_ROOM); /* NaN */
	kv.reach = reach_brings;
	kv.reach_arg = &away;
	model_run_go(&other, model, &kv, 1);
	model_run_go(&run, model, &away, 1);
	model_rig_same(&run, &other);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_functions_are_those_of_mathematics),
		cmocka_unit_test(test_numbers_are_rounded_to_nearest),
		cmocka_unit_test(test_addresses_are_those_of_the_layout),
		cmocka_unit_test(test_strides),
		cmocka_unit_test(test_gaps_between_heads_and_tokens),
		cmocka_unit_test(test_layers_may_arrive_one_by_one),
	};

	return cmocka_run_group_tests(tests, model_rig_setup, model_rig_teardown);
}
