/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A model (tests/model/model.h) decodes by trees of drafts in a sequence: what it accepts is
 * compacted, the rest is dropped, and it generates what it would have token by token.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/model/model_layout.h"
#include "tests/model/model_run.h"
#include "tests/support/seed.h"
#include "tests/support/stage.h"

#include <hbm/sequence.h>

enum {
	PAGE = 16,
	TOKENS = 512, /* of a sequence, at most */
	PROMPT = 100,
	MORE = 60,
	DRAFTS = 12, /* of a tree, at most */
};
#define SEED 1 /* of the weights */

static struct hbm *hbm;
static struct model *model;
static struct hbm_layout *layout;
static struct hbm_pool *pool;
static struct seed seed;
static int32_t pages[TOKENS / PAGE];
static enum model_number number;

/* A generation in a sequence. */
struct decoder {
	struct hbm_sequence *sequence;
	struct model_kv kv;
	struct model_run run;
};

static struct decoder line, tree;

static void start(enum hbm_layout_order order)
{
	const bool paged = order == HBM_ORDER_BLOCK;

	number = (enum model_number)(order % MODEL_NUMBERS);
	layout = model_layout_new(order, number, TOKENS, paged ? PAGE : 0);
	const struct hbm_pool_options options = {.layout = layout, .max_sequences = 2};

	if (hbm_pool_open(hbm, &options, &pool) != 0)
		fail_msg("%s", hbm_error(hbm));
}

static void decoder_open(struct decoder *decoder)
{
	struct hbm_sequence_facts facts;
	const bool paged = hbm_layout_options(layout)->order == HBM_ORDER_BLOCK;

	assert_int_equal(hbm_sequence_open(pool, NULL, &decoder->sequence), 0);
	assert_int_equal(hbm_sequence_facts(decoder->sequence, &facts), 0);
	for (int32_t i = 0; i < TOKENS / PAGE; i++)
		pages[i] = i;
	decoder->kv = model_layout_kv(layout, number, model_kv_memory(facts.address),
				      paged ? pages : NULL);
	model_run_prompt(&decoder->run, 17, PROMPT);
}

/* Token by token. */
static void decoder_go(struct decoder *decoder, uint32_t more)
{
	for (uint32_t i = 0; i < more; i++) {
		const uint64_t length = decoder->run.count;

		assert_int_equal(hbm_step(pool, &decoder->sequence, &length, 1), 0);
		model_run_go(&decoder->run, model, &decoder->kv, 1);
	}
}

/* A tree below the last token: what follows in the line is drafted now and then. */
static uint32_t trees_grow(const uint32_t *ahead, uint32_t left, int32_t *parents, uint32_t *tokens)
{
	uint32_t right[DRAFTS] = {1}; /* so many tokens of the line lead to a draft, or 0 */
	const uint32_t count = 2 + (uint32_t)seed_below(&seed, DRAFTS - 1);

	parents[0] = -1;
	tokens[0] = ahead[0];
	for (uint32_t i = 1; i < count; i++) {
		const uint32_t parent = (uint32_t)seed_below(&seed, i);

		parents[i] = (int32_t)parent;
		tokens[i] = (uint32_t)seed_below(&seed, MODEL_VOCABULARY);
		if (right[parent] == 0 || right[parent] >= left)
			continue;
		if (seed_below(&seed, 3) > 0)
			tokens[i] = ahead[right[parent]];
		if (tokens[i] == ahead[right[parent]])
			right[i] = right[parent] + 1;
	}

	return count;
}

/* How many of a tree's drafts were accepted, and whether they had to move. */
static uint32_t trees_step(bool *moved)
{
	struct model_answer answers[DRAFTS];
	int32_t parents[DRAFTS], path[DRAFTS];
	uint64_t indices[DRAFTS], accepted[DRAFTS];
	uint32_t tokens[DRAFTS];
	const uint32_t cached = tree.run.cached;
	const uint32_t count =
		trees_grow(line.run.tokens + cached, line.run.count - cached, parents, tokens);
	const uint32_t first = 1 + (uint32_t)seed_below(&seed, count - 1);

	/* In two calls: the second is below drafts of the first. */
	if (hbm_sequence_draft(tree.sequence, parents, first, indices) != 0 ||
	    hbm_sequence_draft(tree.sequence, parents + first, count - first, indices + first) != 0)
		fail_msg("%s", hbm_pool_error(pool));

	const struct model_batch batch = {.tokens = tokens,
					  .count = count,
					  .first = cached,
					  .parents = parents,
					  .indices = indices};

	model_compute(model, &tree.kv, &batch, answers);
	const uint32_t length = model_run_accept(&tree.run, &batch, answers, accepted);

	for (uint32_t i = 0; i < length; i++) {
		path[i] = (int32_t)(accepted[i] - cached);
		*moved |= path[i] != (int32_t)i;
	}
	if (hbm_sequence_accept(tree.sequence, path, length) != 0)
		fail_msg("%s", hbm_pool_error(pool));
	tree.run.cached += length;

	return length;
}

static void test_trees_generate_what_a_line_does(void **state)
{
	(void)state;
	spawn_needs_soft();
	seed_open(&seed, "trees");
	spawn_start(&daemon_, NULL, NULL);
	const unsigned fds = spawn_fds(&daemon_);

	hbm = spawn_connect(&daemon_);
	model = model_new(SEED);
	for (enum hbm_layout_order order = 0; order < HBM_LAYOUT_ORDERS; order++) {
		bool moved = false;
		uint32_t steps = 0;

		start(order);
		decoder_open(&line);
		decoder_open(&tree);
		decoder_go(&line, MORE);
		decoder_go(&tree, 1);
		for (; tree.run.count + DRAFTS < line.run.count; steps++)
			trees_step(&moved);

		/* Several at a time, and some of them from other places. */
		assert_true(moved);
		assert_true(tree.run.count > PROMPT + 1 + steps);
		assert_true(model_kv_same(&line.kv, &tree.kv, 0, tree.run.cached));
		decoder_go(&tree, line.run.count - tree.run.count);
		assert_memory_equal(line.run.tokens, tree.run.tokens,
				    line.run.count * sizeof(line.run.tokens[0]));
		assert_int_equal(line.run.digest, tree.run.digest);
		assert_true(model_kv_same(&line.kv, &tree.kv, 0, tree.run.cached));
		hbm_pool_close(pool);
		hbm_layout_free(layout);
	}
	model = model_free(model);
	hbm = hbm_close(hbm);
	stage_finish(fds);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_trees_generate_what_a_line_does, stage_setup,
						stage_teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
