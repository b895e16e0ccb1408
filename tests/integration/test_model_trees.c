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

#include "tests/model/model_decoder.h"
#include "tests/support/stage.h"

enum {
	TOKENS = 512, /* of a sequence, at most */
	PROMPT = 100,
	MORE = 60,
};
#define SEED 1 /* of the weights */

static struct model *model;
static struct model_server server;
static struct model_decoder line, tree;
static struct seed seed;

static void start(struct model_decoder *decoder)
{
	model_decoder_open(decoder, &server);
	model_run_prompt(&decoder->run, 17, PROMPT);
}

static void test_trees_generate_what_a_line_does(void **state)
{
	(void)state;
	spawn_needs_soft();
	seed_open(&seed, "trees");
	spawn_start(&daemon_, NULL, NULL);
	const unsigned fds = spawn_fds(&daemon_);

	model = model_new(SEED);
	for (enum hbm_layout_order order = 0; order < HBM_LAYOUT_ORDERS; order++) {
		bool moved = false;
		uint32_t steps = 0;

		model_server_open(&server, &daemon_, order,
				  (enum model_number)(order % MODEL_NUMBERS), TOKENS, 2);
		start(&line);
		start(&tree);
		model_decoder_go(&line, model, MORE);
		model_decoder_go(&tree, model, 1);
		for (; tree.run.count + MODEL_DRAFTS < line.run.count; steps++)
			model_decoder_speculate(&tree, model, &line.run, &seed, &moved);

		/* Several at a time, and some of them from other places. */
		assert_true(moved);
		assert_true(tree.run.count > PROMPT + 1 + steps);
		assert_true(model_kv_same(&line.kv, &tree.kv, 0, tree.run.cached));
		model_decoder_go(&tree, model, line.run.count - tree.run.count);
		assert_memory_equal(line.run.tokens, tree.run.tokens,
				    line.run.count * sizeof(line.run.tokens[0]));
		assert_int_equal(line.run.digest, tree.run.digest);
		assert_true(model_kv_same(&line.kv, &tree.kv, 0, tree.run.cached));
		model_server_close(&server);
	}
	model = model_free(model);
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
