/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Systems that plan, multiplex and move what they serve, each by what its memory does, in
 * miniature: rows of the table in hbm(7). What a test asserts is what its system needs,
 * which is at its head.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/hbmctl.h"
#include "tests/support/system_stage.h"

#include <hbm/saved.h>
#include <math.h>
#include <stdio.h>

/* ---- SpotServe ---- */

#define SPOT_TOKENS 48u
#define SPOT_LAYOUT "layers=4 heads=4 dim=4500 bytes=4 order=token max=64"

static const struct hbm_saved_space spot_space = {.model = "spot"};

/* The grace period ends after so many pieces. */
struct spot_grace {
	unsigned pieces;
};

static bool spot_stop(void *arg)
{
	struct spot_grace *grace = arg;

	return grace->pieces-- == 0;
}

/* Token t of a layer and a head: a number for each. */
static uint64_t spot_word(uint64_t token, uint32_t layer, uint32_t head, uint32_t part)
{
	return ((token * 64 + layer) * 64 + head) * 2 + part + 1;
}

/* All heads of all layers of a sequence's tokens, as `rank` has them: written or expected. */
static void spot_visit(struct pool_rig *rank, struct hbm_sequence *sequence, uint64_t end,
		       uint32_t first_layer, uint32_t first_head, bool write)
{
	const struct hbm_layout_options *options = hbm_layout_options(rank->layout);
	const uint64_t address = pool_rig_facts(sequence).address;

	for (uint64_t token = 0; token < end; token++) {
		for (uint32_t i = 0; i < options->layer_count * options->layers[0].heads * 2; i++) {
			const uint32_t part = i % 2, head = i / 2 % options->layers[0].heads,
				       layer = i / 2 / options->layers[0].heads;
			const uint64_t word =
				spot_word(token, first_layer + layer, first_head + head, part);
			uint64_t offset, seen;

			assert_int_equal(
				hbm_layout_offset(rank->layout, layer, part, token, head, &offset),
				0);
			if (write)
				kv_write(&rank->kv, address + offset, &word, sizeof(word));
			else
				kv_read(&rank->kv, &seen, address + offset, sizeof(seen));
			if (!write)
				assert_int_equal(seen, word);
		}
	}
}

/* Saves what is worth most first; for sequence i it is saved[i]. */
static void spot_checkpoint(struct hbm_sequence *const *sequences, struct pool_rig *instance,
			    struct spot_grace *grace, uint64_t saved[2])
{
	const struct hbm_save saves[] = {{sequences[0], "cheap", 100}, {sequences[1], "dear", 200}};
	const struct hbm_save_options options = {
		.space = spot_space, .tier = HBM_TIER_DDR, .stop = spot_stop, .stop_arg = grace};

	assert_int_equal(hbm_sequences_save(instance->pool, saves, 2, &options, saved), 0);
}

/* A rank of another instance has its part of what was saved. */
static void spot_restore(struct pool_rig *rank, const char *name, const struct hbm_slice *slice,
			 uint64_t tokens)
{
	struct hbm_sequence *sequence;

	assert_int_equal(
		hbm_sequence_restore_slice(rank->pool, &spot_space, name, slice, NULL, &sequence),
		0);
	assert_int_equal(pool_rig_facts(sequence).tokens, tokens);
	spot_visit(rank, sequence, tokens, slice->first_layer, slice->first_head, false);
}

/*
 * SpotServe runs on instances that are taken away: in its time of grace it saves what is worth
 * most first, as far as it comes, and knows how far that was; another instance goes on from
 * there, with the committed token, under another division of layers and heads.
 */
static void test_system_spotserve(void **state)
{
	(void)state;
	static const char *const ranks[] = {"layers=2 heads=4 dim=4500 bytes=4 order=layer max=64",
					    "layers=4 heads=2 dim=4500 bytes=4 order=token max=64"};
	static const struct hbm_slice slices[] = {{.first_layer = 2, .layers = 2},
						  {.layers = 4, .first_head = 2, .heads = 2}};
	static const char *const sets[] = {"ddr.size=128MiB", NULL};
	const struct hbm_sequence_options priorities[] = {{.priority = 1}, {.priority = 2}};
	struct spot_grace grace = {.pieces = UINT32_MAX};
	struct pool_rig instance, rank;
	struct hbm_sequence *sequences[2];
	struct hbm_saved found;
	uint64_t saved[2];

	system_stage_start(sets);
	system_stage_pool(&instance, SPOT_LAYOUT, 0, 0);
	assert_int_equal(hbm_sequences_open(instance.pool, priorities, 2, 0, sequences), 0);
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(pool_rig_step(&instance, sequences[i], SPOT_TOKENS), 0);
		spot_visit(&instance, sequences[i], SPOT_TOKENS, 0, 0, true);
	}

	/* How many pieces it would be; then the time is over after three quarters of them. */
	spot_checkpoint(sequences, &instance, &grace, saved);
	assert_int_equal(saved[0], SPOT_TOKENS);
	assert_int_equal(saved[1], SPOT_TOKENS);
	const unsigned pieces = UINT32_MAX - grace.pieces;

	assert_true(pieces >= 4);
	assert_int_equal(hbm_saved_drop(instance.pool, &spot_space, "cheap"), 0);
	assert_int_equal(hbm_saved_drop(instance.pool, &spot_space, "dear"), 0);
	grace.pieces = pieces * 3 / 4;
	spot_checkpoint(sequences, &instance, &grace, saved);
	assert_int_equal(saved[1], SPOT_TOKENS);
	assert_true(saved[0] < SPOT_TOKENS);
	pool_rig_close(&instance);

	for (size_t i = 0; i < 2; i++) {
		system_stage_pool(&rank, ranks[i], 0, 0);
		assert_int_equal(hbm_saved_find(rank.pool, &spot_space, "dear", &found), 0);
		assert_int_equal(found.committed, 200);
		spot_restore(&rank, "dear", &slices[i], SPOT_TOKENS);
		if (saved[0] > 0)
			spot_restore(&rank, "cheap", &slices[i], saved[0]);
		pool_rig_close(&rank);
	}
	system_stage_finish();
}

/* ---- Alpa, AlpaServe, Galvatron, FlexFlow ---- */

#define ALPA_LINE                                                                                  \
	"plan --model Yi-34B-200K --params 34B --gpu A100-80GB-SXM --link 20GB/s --d-eff 6656 "    \
	"--layout token --context "

static const json_t *alpa_point(const json_t *plan)
{
	return json_array_get(hbmctl_array(plan, "points"), 0);
}

/* What the oracle says a context costs is what a pool of that layout maps. */
static void alpa_compare(const char *context, uint64_t tokens)
{
	char line[256];
	struct hbm_layout *layout;
	struct hbm_layout_use use;

	snprintf(line, sizeof(line), "%s%s", ALPA_LINE, context);
	json_t *plan = hbmctl_json(line);
	const json_t *facts = hbmctl_member(plan, "layout");
	const json_t *one = json_array_get(hbmctl_array(facts, "contexts"), 0);

	assert_int_equal(hbm_layout_parse(&layout, hbmctl_text(facts, "text"), NULL, 0), 0);
	assert_int_equal(hbm_layout_use(layout, tokens, &use), 0);
	assert_int_equal(hbmctl_count(alpa_point(plan), "kv_bytes"), use.kv_bytes);
	assert_int_equal(hbmctl_count(one, "mapped_bytes"), use.mapped_bytes);
	assert_int_equal(hbmctl_count(one, "slabs"), use.slabs);
	hbm_layout_free(layout);
	json_decref(plan);
}

/*
 * Alpa, Galvatron and FlexFlow search for plans and need costs to search by, as a document, that
 * agree with what the memory then does. AlpaServe multiplexes models: an idle one lends its
 * device memory to one under load, and finds its contexts again when its turn comes.
 */
static void test_system_alpaserve(void **state)
{
	(void)state;
	static const char *const sets[] = {"ddr.size=160MiB", NULL};
	struct hbm_sequence *contexts[2];
	struct pool_rig idle, busy;

	system_stage_start(sets);
	alpa_compare("4K", 4000);
	alpa_compare("50K", 50000);

	system_stage_pool(&idle, pool_rig_layouts[0], 0, 0);
	for (size_t i = 0; i < 2; i++)
		contexts[i] = system_stage_prompt(&idle, RIG_MAX, 1000 * i);
	assert_int_equal(hbm_sequences_suspend(idle.pool, contexts, 2, HBM_TIER_DDR), 0);

	/* The device is the other's, as a whole. */
	system_stage_pool(&busy, pool_rig_layouts[0], 0, 0);
	const size_t count = SYSTEM_MEMORY / system_stage_bytes(&busy, RIG_MAX);

	for (size_t i = 0; i < count; i++)
		system_stage_prompt(&busy, RIG_MAX, 7000 + 100 * i);
	assert_int_equal(hbm_sequences_resume(idle.pool, contexts, 2), HBM_NO_SPACE);
	pool_rig_close(&busy);
	system_stage_memory(idle.hbm, 0);

	assert_int_equal(hbm_sequences_resume(idle.pool, contexts, 2), 0);
	for (size_t i = 0; i < 2; i++)
		system_stage_expect(&idle, contexts[i], 0, RIG_MAX, 1000 * i);
	pool_rig_close(&idle);
	system_stage_finish();
}

/* ---- Narayanan et al. ---- */

static void cost_is(const json_t *point, const char *name, double expected)
{
	const double seen = hbmctl_real(point, name);

	if (fabs(seen - expected) > 1e-6 * fabs(expected))
		fail_msg("%s is %.9g, expected %.9g", name, seen, expected);
}

/*
 * Cost metrics as of Narayanan et al. are formulas of a model and its hardware, which a script
 * reads as one document. Here they are computed once more, for Yi-34B-200K on an A100.
 */
static void test_system_cost_metrics(void **state)
{
	(void)state;
	const double weights = 68e9, flops = 312e12, hbm = 2.039e12, link = 20e9, reply = 250;
	const double lengths[] = {4000, 50000};
	static const char *const contexts[] = {"4K", "50K"};

	system_stage_start(NULL);
	for (size_t i = 0; i < 2; i++) {
		const double tokens = lengths[i], kv = tokens * 60 * 8 * 128 * 2 * 2;
		char line[256];

		snprintf(line, sizeof(line), "%s%s", ALPA_LINE, contexts[i]);
		json_t *plan = hbmctl_json(line);
		const json_t *point = alpa_point(plan);

		assert_int_equal(hbmctl_count(point, "kv_bytes"), (uint64_t)kv);
		assert_int_equal(hbmctl_count(point, "concurrency_users"),
				 (uint64_t)((80.0 * (1 << 30) - weights) / kv));
		cost_is(point, "prefill_linear_seconds", tokens * 2 * 34e9 / flops);
		cost_is(point, "prefill_seconds", tokens * (2 * 34e9 + 60 * tokens * 6656) / flops);
		cost_is(point, "decode_seconds", reply * (weights + kv) / hbm);
		cost_is(point, "switch_serial_seconds", 2 * kv / link);
		json_decref(plan);
	}
	system_stage_finish();
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, stage_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_system_spotserve),
		TEST(test_system_alpaserve),
		TEST(test_system_cost_metrics),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
