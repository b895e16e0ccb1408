/* SPDX-License-Identifier: Apache-2.0 */
/* Encodings of the library, on a stream of the test: their sizes, the errors that hbm.h
 * promises, and every byte beside what they write. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/device/number.h"
#include "tests/support/client_rig.h"
#include "tests/support/fake_stage.h"
#include "tests/support/kv_numbers.h"

#include <hbm/hbm.h>

#define ENCODED (SLAB / 2 + 16)
#define LAYERS 700u

static const struct hbm_kv_shape shapes[] = {
	{.layers = 3, .tokens = 64, .heads = 4, .head_dim = 64},
	{.layers = 2, .tokens = 17, .heads = 5, .head_dim = 33, .number = HBM_NUMBER_FP16},
	{.layers = 1, .tokens = 1, .heads = 1, .head_dim = 1},
	{.layers = 2, .tokens = 256, .heads = 1, .head_dim = 128, .group = 128},
	{.layers = 5, .tokens = 33, .heads = 1, .head_dim = 57, .keys_only = true},
	{.layers = 700, .tokens = 3, .heads = 2, .head_dim = 8, .number = HBM_NUMBER_FP16},
};
static const enum hbm_encoding encodings[] = {HBM_ENCODING_RAW, HBM_ENCODING_LOSSLESS,
					      HBM_ENCODING_FP8, HBM_ENCODING_INT8,
					      HBM_ENCODING_INT4};

#define LENGTH(list) (sizeof(list) / sizeof((list)[0]))

/* A block in the rig's memory: planes apart by some bytes, keys first. */
struct block {
	const struct hbm_kv_shape *shape;
	enum hbm_encoding encoding;
	uint32_t parts;
	uint64_t count; /* numbers in a plane */
	struct hbm_kv_layer layers[LAYERS];
};

static uint64_t plane_at(const struct block *block, uint64_t layer, uint32_t part)
{
	return 128 + (layer * 2 + part) * (block->count * 2 + 6);
}

static struct block block_of(const struct client_rig *rig, const struct hbm_kv_shape *shape,
			     enum hbm_encoding encoding)
{
	struct block block = {.shape = shape,
			      .encoding = encoding,
			      .parts = shape->keys_only ? 1 : 2,
			      .count = (uint64_t)shape->tokens * shape->heads * shape->head_dim};

	for (uint32_t i = 0; i < shape->layers; i++)
		block.layers[i] = (struct hbm_kv_layer){rig->memory + plane_at(&block, i, 0),
							rig->memory + plane_at(&block, i, 1)};
	assert_in_range(plane_at(&block, shape->layers, 0), 0, SLAB / 2);

	return block;
}

static uint16_t *plane_of(const struct client_rig *rig, const struct block *block, uint64_t layer,
			  uint32_t part)
{
	return (uint16_t *)(void *)(rig->image + plane_at(block, layer, part));
}

static void fill(struct client_rig *rig, const struct block *block, bool wild)
{
	for (uint32_t i = 0; i < block->shape->layers; i++)
		for (uint32_t part = 0; part < block->parts; part++)
			kv_numbers_fill(&rig->seed, plane_of(rig, block, i, part),
					block->shape->tokens,
					(uint64_t)block->shape->heads * block->shape->head_dim,
					block->shape->number, wild);
	client_rig_put(rig);
}

static int encode(const struct client_rig *rig, const struct block *block)
{
	return hbm_encode(hbm, 0, block->encoding, block->shape, block->layers,
			  rig->memory + ENCODED, rig->stream);
}

static int decode(const struct client_rig *rig, const struct block *block)
{
	return hbm_decode(hbm, 0, block->encoding, block->shape, block->layers,
			  rig->memory + ENCODED, rig->stream);
}

/* ---- What is promised ---- */

static float number_of(const struct block *block, uint16_t code)
{
	return number_decode(code, block->shape->number);
}

/* The largest magnitude of a number's head, or the range of its group. */
static float spread_of(const struct block *block, const uint16_t *plane, uint64_t index,
		       uint32_t part)
{
	const uint64_t head_dim = block->shape->head_dim;
	const uint64_t channels = block->shape->heads * head_dim;
	const uint64_t token = index / channels, channel = index % channels;
	const bool is_fp8 = block->encoding == HBM_ENCODING_FP8;
	const uint64_t group = block->shape->group                    ? block->shape->group
			       : block->encoding == HBM_ENCODING_INT8 ? 64
								      : 32;
	float low = is_fp8 ? 0 : INFINITY, high = is_fp8 ? 0 : -INFINITY;

	for (uint64_t i = 0; i < block->count; i++) {
		const uint64_t t = i / channels, c = i % channels;
		const float value = number_of(block, plane[i]);
		const bool same = is_fp8      ? c / head_dim == channel / head_dim
				  : part == 0 ? c == channel && t / group == token / group
					      : t == token && c / group == channel / group;

		if (!same || !isfinite(value))
			continue;
		low = fminf(low, is_fp8 ? -fabsf(value) : value);
		high = fmaxf(high, is_fp8 ? fabsf(value) : value);
	}

	return high < low ? 0 : is_fp8 ? high : high - low;
}

static float error_of(const struct block *block, float before, float spread)
{
	const bool is_fp16 = block->shape->number == HBM_NUMBER_FP16;
	const float up = is_fp16 ? 1 + 0x1p-10f : 1 + 0x1p-7f;

	switch (block->encoding) {
	case HBM_ENCODING_FP8:
		return fmaxf(fabsf(before) / 16, spread / 458752);
	case HBM_ENCODING_INT8:
		return spread / 510 * up + (is_fp16 ? 0x1p-25f : 0);
	case HBM_ENCODING_INT4:
		return spread / 30 * up + (is_fp16 ? 0x1p-25f : 0);
	default:
		return 0;
	}
}

/* Of some numbers of a plane, as to look at all would take long. */
static void check_errors(const struct block *block, const uint16_t *before, const uint16_t *after,
			 uint32_t part)
{
	const float rounding = block->shape->number == HBM_NUMBER_FP16 ? 0x1p-11f : 0x1p-8f;

	for (uint64_t i = 0; i < block->count; i += 1 + block->count / 199) {
		const float was = number_of(block, before[i]), is = number_of(block, after[i]);
		const float allowed = error_of(block, was, spread_of(block, before, i, part));

		if (isfinite(was) &&
		    fabsf(is - was) > allowed * 1.0001f + fabsf(is) * rounding + 1e-7f)
			fail_msg("%g is %g: off by more than %g", (double)was, (double)is,
				 (double)allowed);
	}
}

/* Keeps what the image has of the planes, and lets it have what the memory has. */
static unsigned char *swap_planes(struct client_rig *rig, const struct block *block)
{
	unsigned char *kept = malloc(SLAB / 2);

	assert_non_null(kept);
	memcpy(kept, rig->image, SLAB / 2);
	for (uint32_t i = 0; i < block->shape->layers; i++)
		for (uint32_t part = 0; part < block->parts; part++)
			client_rig_get(rig, plane_at(block, i, part), block->count * 2);

	return kept;
}

static void go_round(struct client_rig *rig, const struct block *block)
{
	const uint64_t bytes = hbm_encoded_bytes(block->encoding, block->shape);
	unsigned char *before;

	assert_in_range(bytes, 4096, SLAB / 2 - 4096);
	assert_int_equal(encode(rig, block), 0);
	client_rig_get(rig, ENCODED, bytes);
	client_rig_check(rig);

	/* What is decoded comes from there, and not from where it lies already. */
	for (uint32_t i = 0; i < block->shape->layers; i++)
		for (uint32_t part = 0; part < block->parts; part++)
			assert_int_equal(soft.poke(0, rig->memory + plane_at(block, i, part),
						   rig->image + ENCODED, block->count * 2),
					 0);
	assert_int_equal(decode(rig, block), 0);
	before = swap_planes(rig, block);
	client_rig_check(rig);

	for (uint32_t i = 0; i < block->shape->layers; i += 1 + block->shape->layers / 8)
		for (uint32_t part = 0; part < block->parts; part++)
			check_errors(block, (uint16_t *)(void *)(before + plane_at(block, i, part)),
				     plane_of(rig, block, i, part), part);
	free(before);
}

static void test_round(void **state)
{
	struct client_rig rig;

	(void)state;
	client_rig_open(&rig);
	for (size_t i = 0; i < LENGTH(shapes); i++)
		for (size_t k = 0; k < LENGTH(encodings); k++)
			for (int wild = 0; wild < 2; wild++) {
				const struct block block = block_of(&rig, &shapes[i], encodings[k]);

				fill(&rig, &block, wild);
				go_round(&rig, &block);
			}

	client_rig_close(&rig);
}

/* ---- Sizes ---- */

static void test_sizes(void **state)
{
	/* Yi-34B: 60 layers, 8 heads of 128; a block of 64 tokens has 245,760 bytes a token. */
	const struct hbm_kv_shape yi = {.layers = 60, .tokens = 64, .heads = 8, .head_dim = 128};
	struct hbm_kv_shape odd = {
		.layers = 1, .tokens = 5, .heads = 1, .head_dim = 4096, .keys_only = true};

	(void)state;
	assert_int_equal(hbm_encoded_bytes(HBM_ENCODING_RAW, &yi), 64 * 245760);
	assert_int_equal(hbm_encoded_bytes(HBM_ENCODING_LOSSLESS, &yi), 64 * 245760);
	/* A scale of 4 bytes for each head; of 4 for 64 numbers; of 4 for 32. */
	assert_int_equal(hbm_encoded_bytes(HBM_ENCODING_FP8, &yi), 32 * 245760 + 4096);
	assert_int_equal(hbm_encoded_bytes(HBM_ENCODING_INT8, &yi), 64 * 245760 * 17 / 32);
	assert_int_equal(hbm_encoded_bytes(HBM_ENCODING_INT4, &yi), 64 * 245760 * 5 / 16);

	/* Keys of a channel: half a byte for each of 6 tokens, and one group. */
	assert_int_equal(hbm_encoded_bytes(HBM_ENCODING_INT4, &odd), 4096 * 7);
	odd.group = 4;
	assert_int_equal(hbm_encoded_bytes(HBM_ENCODING_INT4, &odd), 4096 * (3 + 8));
}

static void test_no_size(void **state)
{
	static const struct hbm_kv_shape none[] = {
		{.layers = 0, .tokens = 1, .heads = 1, .head_dim = 1},
		{.layers = 1, .tokens = 0, .heads = 1, .head_dim = 1},
		{.layers = 1, .tokens = 1, .heads = 0, .head_dim = 1},
		{.layers = 1, .tokens = 1, .heads = 1, .head_dim = 0},
		{.layers = 1, .tokens = 1, .heads = 1, .head_dim = 1, .group = 3},
		{.layers = 1, .tokens = 1, .heads = 1, .head_dim = 1, .number = 2},
		{UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX, .group = 2},
		{1, 1u << 31, 1u << 31, 4, .group = 2},
	};

	(void)state;
	for (size_t i = 0; i < LENGTH(none); i++)
		for (size_t k = 0; k < LENGTH(encodings); k++)
			assert_int_equal(hbm_encoded_bytes(encodings[k], &none[i]), 0);
	assert_int_equal(hbm_encoded_bytes(HBM_ENCODINGS, &shapes[0]), 0);
}

/* ---- What bytes an encoded block has ---- */

/* Whatever was there before: a block tells nothing of it. */
static void test_same_bytes(void **state)
{
	struct client_rig rig;

	(void)state;
	client_rig_open(&rig);
	for (size_t i = 0; i < LENGTH(shapes); i++)
		for (size_t k = 0; k < LENGTH(encodings); k++) {
			const struct block block = block_of(&rig, &shapes[i], encodings[k]);
			const uint64_t bytes = hbm_encoded_bytes(encodings[k], &shapes[i]);

			fill(&rig, &block, true);
			assert_int_equal(encode(&rig, &block), 0);
			client_rig_get(&rig, ENCODED, bytes);
			for (uint64_t at = 0; at < bytes; at++)
				rig.image[ENCODED + at] ^= 0xff;
			client_rig_put(&rig);
			for (uint64_t at = 0; at < bytes; at++)
				rig.image[ENCODED + at] ^= 0xff;
			assert_int_equal(encode(&rig, &block), 0);
			client_rig_check(&rig);
		}

	client_rig_close(&rig);
}

/* Raw: the planes one after the other. */
static void test_raw(void **state)
{
	const struct hbm_kv_shape shape = {.layers = 99, .tokens = 1, .heads = 1, .head_dim = 99};
	struct client_rig rig;
	struct block block;
	uint64_t at = ENCODED;

	(void)state;
	client_rig_open(&rig);
	block = block_of(&rig, &shape, HBM_ENCODING_RAW);
	for (uint32_t i = 0; i < 2 * shape.layers; i++, at += 198)
		memcpy(rig.image + at, plane_of(&rig, &block, i / 2, i % 2), 198);
	memset(rig.image + at, 0, ENCODED + hbm_encoded_bytes(HBM_ENCODING_RAW, &shape) - at);
	assert_int_equal(encode(&rig, &block), 0);
	client_rig_check(&rig);
	client_rig_close(&rig);
}

/* ---- Keys and values ---- */

/* The mean of the squared errors of what was `before`, without the outliers, encoded as keys
 * or as values. */
static double mean_error(struct client_rig *rig, enum hbm_encoding encoding, const uint16_t *before,
			 uint32_t part)
{
	static const struct hbm_kv_shape shape = {
		.layers = 1, .tokens = 64, .heads = 4, .head_dim = 64};
	const struct block block = block_of(rig, &shape, encoding);
	uint64_t count = 0;
	double sum = 0;

	for (uint32_t k = 0; k < 2; k++)
		memcpy(plane_of(rig, &block, 0, k), before, block.count * 2);
	client_rig_put(rig);
	assert_int_equal(encode(rig, &block), 0);
	assert_int_equal(decode(rig, &block), 0);
	client_rig_get(rig, plane_at(&block, 0, part), block.count * 2);

	for (uint64_t i = 0; i < block.count; i++) {
		const float was = number_of(&block, before[i]);
		const double error = number_of(&block, plane_of(rig, &block, 0, part)[i]) - was;

		if (fabsf(was) > 1)
			continue;
		sum += error * error;
		count++;
	}

	return sum / (double)count;
}

/* Keys have channels, and values tokens, far larger than the rest: grouped along these, they
 * leave the others alone. */
static void test_keys_and_values(void **state)
{
	enum { COUNT = 64 * 256 };
	static uint16_t keys[COUNT], values[COUNT], turned[COUNT];
	struct client_rig rig;

	(void)state;
	client_rig_open(&rig);
	kv_numbers_fill(&rig.seed, keys, 64, 256, NUMBER_BF16, false);
	kv_numbers_fill(&rig.seed, turned, 256, 64, NUMBER_BF16, false);
	for (uint64_t i = 0; i < COUNT; i++)
		values[i] = turned[i % 256 * 64 + i / 256];

	for (unsigned i = 0; i < 2; i++) {
		const enum hbm_encoding encoding = i ? HBM_ENCODING_INT4 : HBM_ENCODING_INT8;
		const double keys_by_channel = mean_error(&rig, encoding, keys, 0);
		const double keys_by_token = mean_error(&rig, encoding, keys, 1);
		const double values_by_channel = mean_error(&rig, encoding, values, 0);
		const double values_by_token = mean_error(&rig, encoding, values, 1);

		print_message("int%d: mean squared error of keys %.2e by channel, %.2e by token; "
			      "of values %.2e and %.2e\n",
			      i ? 4 : 8, keys_by_channel, keys_by_token, values_by_channel,
			      values_by_token);
		assert_true(keys_by_channel < keys_by_token / 4);
		assert_true(values_by_token < values_by_channel / 4);
	}

	client_rig_close(&rig);
}

/* ---- Refusals ---- */

static void test_refused(void **state)
{
	struct client_rig rig;

	(void)state;
	client_rig_open(&rig);
	/* Memory may come back: that is no refusal. The modules of fp8 and gather are loaded, that of
	 * int8 is not. */
	assert_int_equal(soft.fail_nth("cuModuleLoadData", 1, CUDA_ERROR_OUT_OF_MEMORY), 0);
	{
		const struct block block = block_of(&rig, &shapes[0], HBM_ENCODING_FP8);

		assert_int_equal(encode(&rig, &block), HBM_DEVICE);
		assert_non_null(strstr(hbm_error(hbm), "cuModuleLoadData"));
		client_rig_check(&rig);
		assert_int_equal(soft.fail_nth("cuModuleLoadData", 3, CUDA_ERROR_INVALID_PTX), 0);
		assert_int_equal(decode(&rig, &block), 0);
		client_rig_wait(&rig);
	}

	for (size_t i = 0; i < LENGTH(encodings); i++) {
		const struct block block = block_of(&rig, &shapes[0], encodings[i]);
		const bool is_int = encodings[i] >= HBM_ENCODING_INT8;
		const uint64_t launches = soft.calls("cuLaunchKernel");

		assert_int_equal(encode(&rig, &block), is_int ? HBM_UNSUPPORTED : 0);
		assert_int_equal(decode(&rig, &block), is_int ? HBM_UNSUPPORTED : 0);
		client_rig_wait(&rig);
		if (!is_int)
			continue;
		assert_non_null(strstr(hbm_error(hbm), "refuses the device code of int8"));
		assert_int_equal(soft.calls("cuLaunchKernel"), launches);
	}

	client_rig_close(&rig);
}

static void test_failures(void **state)
{
	static const char *const names[] = {"cuLaunchKernel", "cuMemsetD8Async", "cuCtxSetCurrent"};
	struct client_rig rig;

	(void)state;
	client_rig_open(&rig);
	for (size_t i = 0; i < LENGTH(names); i++)
		for (size_t k = 0; k < LENGTH(encodings); k++) {
			const struct block block = block_of(&rig, &shapes[1], encodings[k]);

			assert_int_equal(soft.fail_nth(names[i], 1, CUDA_ERROR_UNKNOWN), 0);
			assert_int_equal(encode(&rig, &block), HBM_DEVICE);
		}

	client_rig_close(&rig);
}

static void test_nonsense(void **state)
{
	const struct hbm_kv_layer planes[] = {{2, 2}, {2, 3}, {UINT64_MAX - 3, 2}};
	const struct hbm_kv_layer latents = {2, 3};
	struct hbm_kv_shape shape = {.layers = 1, .tokens = 2, .heads = 1, .head_dim = 4};

	(void)state;
	for (size_t i = 0; i < LENGTH(encodings); i++) {
		const enum hbm_encoding encoding = encodings[i];

		assert_int_equal(hbm_encode(hbm, 0, encoding, &shape, &planes[0], 8, NULL),
				 HBM_INVALID);
		assert_int_equal(
			hbm_decode(hbm, 0, encoding, &shape, &planes[0], UINT64_MAX - 15, NULL),
			HBM_INVALID);
		assert_int_equal(hbm_encode(hbm, 0, encoding, &shape, &planes[1], 16, NULL),
				 HBM_INVALID);
		assert_int_equal(hbm_encode(hbm, 0, encoding, &shape, &planes[2], 16, NULL),
				 HBM_INVALID);
		assert_int_equal(
			hbm_encode(hbm, FAKE_DEVICES, encoding, &shape, &planes[0], 16, NULL),
			HBM_INVALID);
	}

	shape.keys_only = true; /* then values are not looked at */
	assert_int_equal(
		hbm_encode(hbm, FAKE_DEVICES, HBM_ENCODING_INT8, &shape, &latents, 16, NULL),
		HBM_INVALID);
	assert_non_null(strstr(hbm_error(hbm), "the daemon has"));
	shape.layers = 0;
	assert_int_equal(hbm_decode(hbm, 0, HBM_ENCODING_INT8, &shape, &planes[0], 16, NULL),
			 HBM_INVALID);
	assert_int_equal(soft.calls("cuModuleLoadData"), 0);
}

int main(void)
{
#define TEST(name)                                                                                 \
	cmocka_unit_test_setup_teardown(name, client_region_setup, client_region_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_round),      TEST(test_sizes),    TEST(test_no_size),
		TEST(test_same_bytes), TEST(test_raw),      TEST(test_keys_and_values),
		TEST(test_refused),    TEST(test_failures), TEST(test_nonsense),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
