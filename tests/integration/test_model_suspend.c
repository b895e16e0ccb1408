/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A model (tests/model/model.h) decodes with its KV in a sequence that is suspended and resumed
 * in the middle of every few tokens: it generates what it does when it is left alone. In
 * layer order it computes each layer as soon as its fence says that it has come back.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/model/model_layout.h"
#include "tests/model/model_run.h"
#include "tests/support/stage.h"

#include <stdlib.h>
#include <string.h>

enum { TOKENS = 512, PROMPT = 90, MORE = 40, EVERY = 5, PAGE = 16, FENCE = 50 };
#define NUMBER MODEL_BF16
#define SEED 1 /* of the weights */

static unsigned fds;
static struct model *model;
static struct hbm *hbm;
static struct hbm_layout *layout;
static struct hbm_pool *pool;
static struct hbm_sequence *sequence;
static struct model_kv kv;
static struct model_run expected, run;
static uint64_t expected_kv;
static int32_t pages[TOKENS / PAGE];

static int expect(void **state)
{
	(void)state;
	struct hbm_layout_facts facts;

	model = model_new(SEED);
	layout = model_layout_new(HBM_ORDER_TOKEN, NUMBER, TOKENS, 0);
	hbm_layout_facts(layout, &facts);
	unsigned char *memory = calloc(1, facts.slot_bytes);

	assert_true(model && memory);
	kv = model_layout_kv(layout, NUMBER, memory, NULL);
	model_run_prompt(&expected, 3, PROMPT);
	model_run_go(&expected, model, &kv, MORE);
	expected_kv = model_kv_digest(&kv, 0, expected.cached);
	free(memory);
	layout = hbm_layout_free(layout);

	return 0;
}

static int forget(void **state)
{
	(void)state;
	model = model_free(model);

	return 0;
}

static void engine_open(enum hbm_layout_order order)
{
	const bool is_paged = order == HBM_ORDER_BLOCK;
	struct hbm_sequence_facts facts;

	hbm = spawn_connect(&daemon_);
	layout = model_layout_new(order, NUMBER, TOKENS, is_paged ? PAGE : 0);
	const struct hbm_pool_options options = {.layout = layout, .max_sequences = 4};

	assert_int_equal(hbm_pool_open(hbm, &options, &pool), 0);
	assert_int_equal(hbm_sequence_open(pool, NULL, &sequence), 0);
	assert_int_equal(hbm_sequence_facts(sequence, &facts), 0);
	for (int32_t i = 0; i < TOKENS / PAGE; i++)
		pages[i] = i;
	kv = model_layout_kv(layout, NUMBER, model_kv_memory(facts.address),
			     is_paged ? pages : NULL);
}

static void engine_close(void)
{
	assert_int_equal(hbm_pool_close(pool), 0);
	layout = hbm_layout_free(layout);
	hbm = hbm_close(hbm);
}

static void suspend(enum hbm_tier tier)
{
	if (hbm_sequences_suspend(pool, &sequence, 1, tier) != 0)
		fail_msg("%s", hbm_pool_error(pool));
}

/* Another sequence has the memory meanwhile, and leaves other bytes in it. */
static void use_memory(void)
{
	const uint64_t length = TOKENS;
	struct hbm_sequence *other;
	struct hbm_sequence_facts facts;

	assert_int_equal(hbm_sequence_open(pool, NULL, &other), 0);
	assert_int_equal(hbm_step(pool, &other, &length, 1), 0);
	assert_int_equal(hbm_sequence_facts(other, &facts), 0);
	for (uint32_t i = 0; i < 2; i++) {
		uint64_t offset, bytes;

		hbm_layout_range(layout, i, 0, TOKENS, &offset, &bytes);
		memset(model_kv_memory(facts.address + offset), 0x5a, bytes);
	}
	assert_int_equal(hbm_sequence_close(other), 0);
}

static void step(void)
{
	const uint64_t length = run.count;

	assert_int_equal(hbm_step(pool, &sequence, &length, 1), 0);
}

static void expect_the_same(void)
{
	assert_int_equal(run.count, expected.count);
	assert_memory_equal(run.tokens, expected.tokens, run.count * sizeof(*run.tokens));
	assert_int_equal(run.digest, expected.digest);
	assert_int_equal(model_kv_digest(&kv, 0, run.cached), expected_kv);
}

/* ---- Whole ---- */

static void generate(enum hbm_tier tier)
{
	model_run_prompt(&run, 3, PROMPT);
	for (unsigned i = 0; i < MORE; i++) {
		step(); /* its memory is there: the token is begun */
		if (i % EVERY == EVERY / 2) {
			suspend(tier);
			use_memory();
			assert_int_equal(hbm_sequences_resume(pool, &sequence, 1), 0);
		}
		model_run_go(&run, model, &kv, 1);
	}
	expect_the_same();
}

static void test_suspended_every_few_tokens(void **state)
{
	(void)state;
	spawn_needs_soft(); /* the model reads device memory as a CPU */
	spawn_start(&daemon_, NULL, NULL);
	fds = spawn_fds(&daemon_);
	for (enum hbm_layout_order order = 0; order < HBM_LAYOUT_ORDERS; order++)
		for (int tier = HBM_TIER_DDR; tier <= HBM_TIER_NVME; tier++) {
			engine_open(order);
			generate((enum hbm_tier)tier);
			engine_close();
			spawn_settle(&daemon_);
			assert_true(spawn_balanced(&daemon_));
		}
	stage_finish(fds);
}

/* ---- Layer by layer ---- */

static uint64_t awaited;
static unsigned reached;

static void await_layer(void *arg, uint32_t layer)
{
	(void)arg;
	while (*hbm_fence(hbm, FENCE + layer) < awaited)
		;
	reached |= 1u << layer;
}

static void test_layers_are_computed_as_they_arrive(void **state)
{
	(void)state;
	spawn_needs_soft();
	spawn_start(&daemon_, NULL, NULL);
	fds = spawn_fds(&daemon_);
	engine_open(HBM_ORDER_LAYER);
	model_run_prompt(&run, 3, PROMPT);
	kv.reach = await_layer;

	for (unsigned i = 0; i < MORE; i++) {
		struct hbm_switch *change = NULL;

		step();
		if (i % EVERY == EVERY / 2) {
			const struct hbm_switch_options options = {.in = &sequence,
								   .in_count = 1,
								   .has_fences = true,
								   .fence_slot = FENCE,
								   .fence_value = ++awaited};

			suspend(HBM_TIER_NVME);
			use_memory();
			reached = 0;
			assert_int_equal(hbm_submit_switch(pool, &options, &change), 0);
		}
		model_run_go(&run, model, &kv, 1);
		if (change) {
			assert_int_equal(hbm_switch_wait(change, -1), 0);
			assert_int_equal(reached, (1u << MODEL_LAYERS) - 1);
		}
	}
	kv.reach = NULL;
	expect_the_same();
	engine_close();
	stage_finish(fds);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, stage_teardown)
		TEST(test_suspended_every_few_tokens),
		TEST(test_layers_are_computed_as_they_arrive),
	};
	return cmocka_run_group_tests(tests, expect, forget);
}
