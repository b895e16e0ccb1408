/* SPDX-License-Identifier: Apache-2.0 */
/*
 * KV caches of other shapes, and smaller ones, each by what its memory does, in miniature: rows
 * of the table in hbm(7). What a test asserts is what its system needs, which is at its head.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "kernels/device/number.h"
#include "tests/support/kv_numbers.h"
#include "tests/support/system_stage.h"

#include <hbm/saved.h>
#include <math.h>
#include <stdlib.h>

static struct pool_rig rig;

static void start(const char *const *sets, const char *layout)
{
	system_stage_start(sets);
	system_stage_pool(&rig, layout, 0, 0);
}

static void finish(void)
{
	pool_rig_close(&rig);
	system_stage_finish();
}

/* ---- Attention-free models: RNN, SSM ---- */

#define STATE_LAYERS 3u
#define STATE_BYTES (3072u << 10)

static void state_write(struct pool_rig *engine, struct hbm_sequence *sequence, uint64_t value)
{
	uint64_t offset, bytes;
	unsigned char *state = malloc(STATE_BYTES);

	assert_non_null(state);
	for (uint32_t layer = 0; layer < STATE_LAYERS; layer++) {
		assert_int_equal(hbm_layout_state(engine->layout, layer, &offset, &bytes), 0);
		assert_int_equal(bytes, STATE_BYTES);
		kv_fill(value * 10 + layer, state, STATE_BYTES);
		kv_write(&engine->kv, pool_rig_facts(sequence).address + offset, state,
			 STATE_BYTES);
	}
	free(state);
}

static void state_expect(struct pool_rig *engine, struct hbm_sequence *sequence, uint64_t value)
{
	uint64_t offset, bytes;
	unsigned char *wanted = malloc(STATE_BYTES), *seen = malloc(STATE_BYTES);

	assert_true(wanted && seen);
	for (uint32_t layer = 0; layer < STATE_LAYERS; layer++) {
		assert_int_equal(hbm_layout_state(engine->layout, layer, &offset, &bytes), 0);
		kv_fill(value * 10 + layer, wanted, STATE_BYTES);
		kv_read(&engine->kv, seen, pool_rig_facts(sequence).address + offset, STATE_BYTES);
		assert_memory_equal(seen, wanted, STATE_BYTES);
	}
	free(seen);
	free(wanted);
}

/* The time is over when some of the state has been stored: at that time it was asked twice. */
static bool state_stop(void *arg)
{
	unsigned *asked = arg;

	return ++*asked > 2;
}

/*
 * Recurrent and state space models keep a state of constant size for each sequence: it takes
 * no more memory however many tokens there were, a fork has a state of its own, and a state
 * that was saved is restored by its name, in another pool, to go on from there. A part of a
 * state is worth nothing: where the time is too short to save it, the one before stands.
 */
static void test_system_mamba(void **state)
{
	(void)state;
	static const char layout[] = "layers=3 state=3145728 order=token max=100001";
	const struct hbm_save_options options = {.space = {.model = "states"},
						 .tier = HBM_TIER_DDR};
	struct hbm_save_options hurry = options;
	struct hbm_sequence *fork, *again;
	struct pool_rig next;
	unsigned asked = 0;
	uint64_t saved;

	start(NULL, layout);
	struct hbm_sequence *one = pool_rig_sequence(&rig);
	const struct hbm_save save = {one, "dialogue", 5};

	assert_int_equal(pool_rig_step(&rig, one, 1), 0);
	const uint64_t constant = system_stage_used(rig.hbm, 0);

	assert_true(constant >= STATE_LAYERS * STATE_BYTES);
	for (uint64_t tokens = 10; tokens <= 100000; tokens *= 10) {
		assert_int_equal(pool_rig_step(&rig, one, tokens), 0);
		state_write(&rig, one, tokens);
	}
	assert_int_equal(system_stage_used(rig.hbm, 0), constant);

	assert_int_equal(hbm_sequences_save(rig.pool, &save, 1, &options, &saved), 0);
	assert_int_equal(saved, 100000);
	assert_int_equal(hbm_sequence_fork(one, 1, &fork), 0);
	assert_int_equal(system_stage_used(rig.hbm, 0), 2 * constant);
	state_write(&rig, one, 7);
	state_expect(&rig, fork, 100000);
	state_write(&rig, fork, 8);
	state_expect(&rig, one, 7);
	hurry.stop = state_stop;
	hurry.stop_arg = &asked;
	assert_int_equal(hbm_sequences_save(rig.pool, &save, 1, &hurry, &saved), 0);
	assert_int_equal(saved, 0);
	pool_rig_close(&rig);

	system_stage_pool(&next, layout, 0, 0);
	assert_int_equal(hbm_sequence_restore(next.pool, &options.space, "dialogue", NULL, &again),
			 0);
	assert_int_equal(pool_rig_facts(again).tokens, 100000);
	assert_int_equal(system_stage_used(next.hbm, 0), constant);
	state_expect(&next, again, 100000);
	assert_int_equal(pool_rig_step(&next, again, 100001), 0);
	assert_int_equal(system_stage_used(next.hbm, 0), constant);
	pool_rig_close(&next);
	system_stage_finish();
}

/* ---- TensorRT-LLM ---- */

#define TENSORRT_WINDOW 12u

/* A slab has four tokens of a buffer. */
#define TENSORRT_LAYOUT "layers=2 heads=4 dim=16384 bytes=4 order=token max=64"
#define TENSORRT_BLOCK 4u
#define TENSORRT_COMMON 34u /* of 64 tokens: within a block */
#define TENSORRT_BLOCKS ((TENSORRT_COMMON + TENSORRT_BLOCK - 1) / TENSORRT_BLOCK)

/* Of another engine, whose prompt begins as one that is cached: whole blocks are the very slabs
 * of that one, and the last one is a copy. */
static void tensorrt_continue(struct pool_rig *engine, const struct hbm_token_blocks *blocks,
			      uint64_t value)
{
	const uint64_t whole = TENSORRT_COMMON / TENSORRT_BLOCK * 2 * RIG_SLAB;
	const uint64_t before = system_stage_used(engine->hbm, 0);
	struct hbm_sequence *sequence;
	uint64_t tokens;

	assert_int_equal(hbm_sequence_open_cached(engine->pool, NULL, blocks, &sequence, &tokens),
			 0);
	assert_int_equal(tokens, TENSORRT_COMMON);
	assert_int_equal(pool_rig_facts(sequence).lent_bytes, whole);
	system_stage_grow(engine, sequence, 50, value);
	system_stage_expect(engine, sequence, 0, TENSORRT_COMMON, 0);
	system_stage_expect(engine, sequence, TENSORRT_COMMON, 50, value);
	assert_int_equal(system_stage_used(engine->hbm, 0) - before,
			 pool_rig_facts(sequence).mapped_bytes - whole);
}

static void tensorrt_reuse(void)
{
	const struct hbm_namespace_options options = {.model = "reuse"};
	struct pool_rig engines[2];
	hbm_key keys[TENSORRT_BLOCKS];
	struct hbm_token_blocks blocks = {.block_tokens = TENSORRT_BLOCK,
					  .tokens = TENSORRT_COMMON,
					  .keys = keys,
					  .count = TENSORRT_BLOCKS};

	for (uint64_t i = 0; i < TENSORRT_BLOCKS; i++)
		keys[i] = kv_key(1 + i);
	for (size_t i = 0; i < 2; i++) {
		system_stage_pool(&engines[i], TENSORRT_LAYOUT, 0, 0);
		assert_int_equal(
			hbm_pool_namespace(engines[i].pool, &options, TENSORRT_BLOCK, &blocks.ns),
			0);
	}
	struct hbm_sequence *first = system_stage_prompt(&engines[0], RIG_MAX, 0);

	assert_int_equal(hbm_sequence_store(first, &blocks, 0, NULL), 0);
	tensorrt_continue(&engines[1], &blocks, 9000);
	tensorrt_continue(&engines[1], &blocks, 5000);
	system_stage_expect(&engines[0], first, 0, RIG_MAX, 0);
	for (size_t i = 0; i < 2; i++)
		pool_rig_close(&engines[i]);
}

/* What the engine hears of the blocks of its prompts: where each of 1 to 24 is. */
struct tensorrt_index {
	uint64_t position;
	unsigned places[25];
};

static void tensorrt_hear(struct kv *kv, struct tensorrt_index *index)
{
	struct hbm_wire_cache_event events[HBM_WIRE_WATCH_MAX];
	uint64_t missed;
	size_t count;

	do {
		assert_int_equal(hbm_watch(kv->hbm, kv->ns, &index->position, events,
					   HBM_WIRE_WATCH_MAX, &count, &missed),
				 0);
		assert_int_equal(missed, 0);
		for (size_t i = 0; i < count; i++)
			for (uint64_t block = 1; block <= 24; block++) {
				const hbm_key key = kv_key(block);

				if (memcmp(&events[i].key, &key, sizeof(key)) == 0)
					index->places[block] = events[i].to;
			}
	} while (count > 0);
}

/* Chains of 4 blocks, of a quarter of what all tiers hold at a time. */
static void tensorrt_press(struct kv *kv, struct tensorrt_index *index, uint64_t first)
{
	hbm_result results[4];

	for (uint64_t i = 0; i < 256; i += 4) {
		assert_int_equal(kv_store(kv, 0, first + i, 4, 0, results), 0);
		for (uint64_t k = 0; k < 4; k++)
			assert_int_equal(results[k].status, HBM_OK);
		tensorrt_hear(kv, index);
	}
}

static void tensorrt_expect(struct kv *kv, uint64_t first, bool there)
{
	for (uint64_t i = 0; i < 4; i++)
		assert_int_equal(kv_tier(kv, first + i) != HBM_TIER_NONE, there);
}

/* Three prompts of one request each, of which one is retained, one for a moment, and one not: by
 * priority and time, not by use. */
static void tensorrt_retain(struct kv *kv)
{
	const hbm_key tails[] = {kv_key(4), kv_key(14)};
	struct tensorrt_index index = {0};
	hbm_result results[4];

	tensorrt_hear(kv, &index);

	for (uint64_t first = 1; first <= 21; first += 10)
		assert_int_equal(kv_store(kv, 0, first, 4, 0, results), 0);
	assert_int_equal(hbm_retain(kv->hbm, kv->ns, 3, 0, &tails[0], 1, results), 0);
	assert_int_equal(results[0].status, HBM_OK);
	assert_int_equal(hbm_retain(kv->hbm, kv->ns, 3, 1, &tails[1], 1, results), 0);
	assert_int_equal(results[0].status, HBM_OK);
	for (uint64_t round = 1; round <= 2; round++)
		tensorrt_press(kv, &index, 1000 * round);
	kv_await_moves(kv);
	tensorrt_hear(kv, &index);
	for (uint64_t block = 1; block <= 24; block++)
		assert_int_equal(index.places[block], kv_tier(kv, block));
	tensorrt_expect(kv, 1, true);
	tensorrt_expect(kv, 11, false);
	tensorrt_expect(kv, 21, false);
	assert_int_equal(kv_load(kv, 0, 1, 4, results), 0);
	for (uint64_t i = 0; i < 4; i++)
		assert_int_equal(results[i].status, HBM_OK);
}

static void tensorrt_cache(void)
{
	static const char *const sets[] = {"device.cache=2MiB", "ddr.size=2MiB", "nvme.size=4MiB",
					   NULL};
	struct kv kv;

	system_stage_start(sets);
	kv_open(&kv, &daemon_, 0, 65536, 8);
	tensorrt_retain(&kv);
	kv_close(&kv);
	system_stage_finish();
}

/*
 * TensorRT-LLM keeps a pool for each window and number of heads; a window slides by freeing from
 * the front, so that it takes no more memory however long the sequence becomes; and a request
 * whose prompt ends within a block reuses what is cached of it, of that block by a copy. Ranges
 * of tokens have a retention priority for a time: the prefix of a system prompt outlives what
 * was used after it, with all that leads to it, and not for longer. The engine hears which blocks
 * come, move and go, and so knows where each is without asking for it.
 */
static void test_system_tensorrt_llm(void **state)
{
	(void)state;
	static const char *const sets[] = {"device.lend=64MiB", NULL};
	struct pool_rig window;

	start(sets, pool_rig_layouts[0]);
	system_stage_pool(&window, "layers=2 heads=1 dim=27000 bytes=4 order=token max=64", 0, 0);
	struct hbm_sequence *full = pool_rig_sequence(&rig), *local = pool_rig_sequence(&window);

	for (uint64_t n = 1; n <= RIG_MAX; n++) {
		system_stage_grow(&rig, full, n, 0);
		system_stage_grow(&window, local, n, 500);
		if (n > TENSORRT_WINDOW)
			assert_int_equal(hbm_sequence_slide(local, n - TENSORRT_WINDOW), 0);
		assert_true(pool_rig_facts(local).mapped_bytes <=
			    system_stage_bytes(&window, TENSORRT_WINDOW) + 2 * 2 * RIG_SLAB);
	}
	system_stage_expect(&rig, full, 0, RIG_MAX, 0);
	system_stage_expect(&window, local, RIG_MAX - TENSORRT_WINDOW, RIG_MAX, 500);
	assert_int_equal(system_stage_used(rig.hbm, 0),
			 pool_rig_facts(full).mapped_bytes + pool_rig_facts(local).mapped_bytes);
	pool_rig_close(&window);
	assert_int_equal(hbm_sequence_close(full), 0);
	tensorrt_reuse();
	finish();

	stage_teardown(NULL);
	stage_setup(NULL);
	tensorrt_cache();
}

/* ---- Compression ---- */

#define SMALL_TOKENS 32u
#define SMALL_CHANNELS 256u
#define SMALL_NUMBERS (SMALL_TOKENS * SMALL_CHANNELS)

/* Encodes to fp8, stores on NVMe, loads and decodes; how large the largest error is, relative to
 * what the encoding allows. */
static void compression_hidden(struct kv *kv)
{
	const struct hbm_kv_shape shape = {
		.layers = 1, .tokens = SMALL_TOKENS, .heads = 4, .head_dim = SMALL_CHANNELS / 4};
	const uint64_t plain = hbm_encoded_bytes(HBM_ENCODING_RAW, &shape),
		       small = hbm_encoded_bytes(HBM_ENCODING_FP8, &shape);
	const struct hbm_namespace_options options = {.model = "small",
						      .block_bytes = small,
						      .encoding = HBM_ENCODING_FP8,
						      .logical_bytes = plain};
	struct hbm_region *region = kv_region(kv, 3 * RIG_SLAB);
	const uint64_t at = hbm_region_address(region);
	const struct hbm_kv_layer from = {at, at + SMALL_NUMBERS * 2},
				  to = {at + 2 * RIG_SLAB, at + 2 * RIG_SLAB + SMALL_NUMBERS * 2};
	const struct hbm_segment segment = {region, RIG_SLAB, small};
	const struct hbm_block block = {
		.key = kv_key(1), .segments = &segment, .segment_count = 1, .tier = HBM_TIER_NVME};
	static uint16_t numbers[SMALL_NUMBERS], decoded[SMALL_NUMBERS];
	static const char zeros[RIG_SLAB];
	struct seed seed = {.state = 11};
	hbm_result result;
	CUstream stream;
	uint32_t ns;

	assert_true(small * 2 <= plain + 2 * 4096);
	kv_numbers_fill(&seed, numbers, SMALL_TOKENS, SMALL_CHANNELS, NUMBER_BF16, false);
	kv_write(kv, from.keys, numbers, sizeof(numbers));
	kv_write(kv, from.values, numbers, sizeof(numbers));
	assert_int_equal(hbm_namespace_open(kv->hbm, &options, &ns), 0);
	assert_int_equal(kv->driver->cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING), 0);
	assert_int_equal(
		hbm_encode(kv->hbm, 0, HBM_ENCODING_FP8, &shape, &from, at + RIG_SLAB, stream), 0);
	assert_int_equal(kv->driver->cuStreamSynchronize(stream), 0);
	assert_int_equal(hbm_store(kv->hbm, ns, &block, 1, &result), 0);
	assert_int_equal(result.status, HBM_OK);
	kv_write(kv, at + RIG_SLAB, zeros, RIG_SLAB);
	assert_int_equal(hbm_load(kv->hbm, ns, &block, 1, &result), 0);
	assert_int_equal(result.status, HBM_OK);
	assert_int_equal(
		hbm_decode(kv->hbm, 0, HBM_ENCODING_FP8, &shape, &to, at + RIG_SLAB, stream), 0);
	assert_int_equal(kv->driver->cuStreamSynchronize(stream), 0);
	assert_int_equal(kv->driver->cuStreamDestroy(stream), 0);
	kv_read(kv, decoded, to.values, sizeof(decoded));
	for (uint32_t i = 0; i < SMALL_NUMBERS; i++) {
		const float was = number_decode(numbers[i], NUMBER_BF16),
			    is = number_decode(decoded[i], NUMBER_BF16);

		assert_true(fabsf(is - was) <= fabsf(was) / 15 + 0.001f);
	}
}

/* Token `token` in the layout that a sequence has of its own: what was written as `value` to
 * the layers that it has kept, and to their first and last head. */
static void compression_expect(struct hbm_sequence *sequence, uint64_t token, uint64_t value,
			       const uint64_t *layers, uint32_t count)
{
	const struct hbm_layout *layout = hbm_sequence_layout(sequence);
	const struct hbm_layout_options *options = hbm_layout_options(layout);

	assert_int_equal(options->layer_count, count);
	for (uint32_t i = 0; i < 4 * count; i++) {
		const struct hbm_layer *layer = &options->layers[i / 4];
		const uint64_t bytes = (uint64_t)layer->head_dim * layer->element_bytes;
		const bool last = i & 2;
		uint64_t offset, seen;

		assert_int_equal(hbm_layout_offset(layout, i / 4, i & 1, token,
						   last ? layer->heads - 1 : 0, &offset),
				 0);
		offset += last ? bytes - sizeof(seen) : 0;
		kv_read(&rig.kv, &seen, pool_rig_facts(sequence).address + offset, sizeof(seen));
		assert_int_equal(seen, pool_rig_word(value, (uint32_t)layers[i / 4], i & 1, last));
	}
}

/* After prefill, tokens, then heads, then a layer go: the memory is free at once. */
static void compression_keep(struct pool_rig *whole)
{
	static const uint64_t heads[] = {0, 2}, layers[] = {1, 3}, all[] = {0, 1, 2, 3};
	struct hbm_sequence *sequence = system_stage_prompt(whole, RIG_MAX, 0);
	uint64_t tokens[RIG_MAX / 2], used = system_stage_used(whole->hbm, 0), before;

	for (uint64_t i = 0; i < RIG_MAX / 2; i++)
		tokens[i] = 2 * i;
	assert_int_equal(hbm_sequence_keep(sequence, HBM_AXIS_TOKENS, tokens, RIG_MAX / 2), 0);
	before = used;
	used = system_stage_used(whole->hbm, 0);
	assert_true(used <= before - system_stage_bytes(whole, RIG_MAX / 4));
	for (uint64_t i = 0; i < RIG_MAX / 2; i++)
		compression_expect(sequence, i, tokens[i], all, 4);

	assert_int_equal(hbm_sequence_keep(sequence, HBM_AXIS_HEADS, heads, 2), 0);
	before = used;
	used = system_stage_used(whole->hbm, 0);
	assert_true(used < before);
	assert_int_equal(hbm_sequence_keep(sequence, HBM_AXIS_LAYERS, layers, 2), 0);
	before = used;
	used = system_stage_used(whole->hbm, 0);
	assert_true(used < before);
	for (uint64_t i = 0; i < RIG_MAX / 2; i++)
		compression_expect(sequence, i, tokens[i], layers, 2);
	assert_int_equal(hbm_sequence_close(sequence), 0);
}

/*
 * Works on compression make KV smaller on four axes: hidden, by encodings of fewer bits; layers
 * and heads, which differ then from layer to layer; and tokens. What is saved is not charged,
 * and the bytes that are left are exact.
 */
static void test_system_compression(void **state)
{
	(void)state;
	struct pool_rig whole;

	start(NULL, "layers=4 order=token max=64 layer=0 heads=3 dim=9000 bytes=4 "
		    "layer=1-2 heads=1 dim=9000 bytes=2 layer=3 heads=2 dim=9000 bytes=1");
	system_stage_pool(&whole, "layers=4 heads=3 dim=9000 bytes=4 order=token max=64", 0, 0);
	struct hbm_sequence *small = system_stage_prompt(&rig, RIG_MAX, 0);
	const uint64_t used = system_stage_used(rig.hbm, 0);

	assert_int_equal(used, system_stage_bytes(&rig, RIG_MAX));
	assert_true(3 * used < 2 * system_stage_bytes(&whole, RIG_MAX));
	system_stage_expect(&rig, small, 0, RIG_MAX, 0);
	assert_int_equal(hbm_sequence_close(small), 0);
	compression_keep(&whole);
	pool_rig_close(&whole);
	compression_hidden(&rig.kv);
	finish();
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, stage_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_system_mamba),
		TEST(test_system_tensorrt_llm),
		TEST(test_system_compression),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
