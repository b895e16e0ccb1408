/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ways to prefill and to decode: in chunks, by beams, by speculation, each by what its memory
 * does, in miniature: rows of the table in hbm(7). What a test asserts is what its system needs,
 * which is at its head.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/seed.h"
#include "tests/support/system_stage.h"

#include <poll.h>
#include <pthread.h>
#include <string.h>

static struct pool_rig rig;
static struct kv other; /* another engine, which takes what it can have */

static void start(uint64_t warm_bytes)
{
	system_stage_start(NULL);
	system_stage_pool(&rig, pool_rig_layouts[0], 0, warm_bytes);
	other = (struct kv){.hbm = spawn_connect(&daemon_)};
}

static void finish(void)
{
	pool_rig_close(&rig);
	hbm_close(other.hbm);
	system_stage_finish();
}

/* ---- SARATHI, DeepSpeed-FastGen ---- */

#define SARATHI_CHUNK 16u
#define SARATHI_PROMPT 60u
#define SARATHI_KEPT 30u

/*
 * SARATHI and DeepSpeed-FastGen prefill in chunks, in one step with decodes: a partial prompt
 * is extended by many tokens while others grow by one. A part of a sequence can leave the
 * device, its memory serve others, and come back behind the part that stayed.
 */
static void test_system_sarathi(void **state)
{
	(void)state;
	start(0);
	const struct hbm_namespace_options options = {
		.model = "sarathi", .block_bytes = RIG_SLAB, .ephemeral = true};
	static struct system_blocks part;
	struct hbm_sequence *batch[] = {pool_rig_sequence(&rig), pool_rig_sequence(&rig)};
	uint64_t lengths[] = {0, 1}, before;
	uint32_t ns;

	while (lengths[0] < SARATHI_PROMPT) {
		const uint64_t end = lengths[0] + SARATHI_CHUNK;

		before = lengths[0];
		lengths[0] = end < SARATHI_PROMPT ? end : SARATHI_PROMPT;
		assert_int_equal(hbm_step(rig.pool, batch, lengths, 2), 0);
		system_stage_write(&rig, batch[0], before, lengths[0], 0);
		pool_rig_write(&rig, batch[1], lengths[1] - 1, 1000 + lengths[1] - 1);
		lengths[1]++;
	}

	/* The part behind SARATHI_KEPT tokens leaves. */
	assert_int_equal(hbm_namespace_open(rig.hbm, &options, &ns), 0);
	system_stage_blocks(&rig, batch[0], SARATHI_KEPT, SARATHI_PROMPT, 1, &part);
	for (size_t i = 0; i < part.count; i++) {
		part.blocks[i].tier = HBM_TIER_DDR;
		part.blocks[i].pin = true;
	}
	assert_int_equal(hbm_store(rig.hbm, ns, part.blocks, part.count, part.results), 0);
	system_stage_expect_results(&part, HBM_OK);
	before = system_stage_used(rig.hbm, 0);
	assert_int_equal(hbm_sequence_truncate(batch[0], SARATHI_KEPT), 0);
	const uint64_t less = before - system_stage_used(rig.hbm, 0);

	assert_true(less >= 4 * RIG_SLAB);
	system_stage_take_all(&other); /* others write to it */
	assert_int_equal(pool_rig_step(&rig, batch[0], SARATHI_PROMPT), HBM_NO_SPACE);
	system_stage_expect(&rig, batch[0], 0, SARATHI_KEPT, 0);

	/* And comes back, to memory that is not the same. */
	other.hbm = hbm_close(other.hbm);
	while (system_stage_memory(rig.hbm, 0).free < less)
		poll(NULL, 0, 1);
	assert_int_equal(pool_rig_step(&rig, batch[0], SARATHI_PROMPT), 0);
	assert_int_equal(hbm_load(rig.hbm, ns, part.blocks, part.count, part.results), 0);
	system_stage_expect_results(&part, HBM_OK);
	system_stage_expect(&rig, batch[0], 0, SARATHI_PROMPT, 0);
	system_stage_expect(&rig, batch[1], 0, lengths[1] - 1, 1000);
	finish();
}

/* ---- Petals ---- */

#define PETALS_BEAMS 4u
#define PETALS_LONG_MS 60000u

struct petals_session {
	struct pool_rig rig;
	struct hbm_sequence *beams[PETALS_BEAMS];
	uint32_t timeout_ms;
	int status;
};

/* A client that asks a server for an inference session. */
static void *petals_open(void *arg)
{
	struct petals_session *session = arg;
	struct hbm_sequence_options options[PETALS_BEAMS];

	for (size_t i = 0; i < PETALS_BEAMS; i++)
		options[i] = (struct hbm_sequence_options){.expected = RIG_MAX};
	session->status = hbm_sequences_open(session->rig.pool, options, PETALS_BEAMS,
					     session->timeout_ms, session->beams);

	return NULL;
}

/*
 * Petals serves sessions of strangers: one waits for its memory with a timeout, and has it when
 * another has left; beams are reordered by index; a client that retries from an earlier position
 * drops the tokens behind it; and a session that is opened anew costs little.
 */
static void test_system_petals(void **state)
{
	(void)state;
	static const uint32_t from[PETALS_BEAMS] = {2, 0, 0, 3};
	struct petals_session session = {.timeout_ms = 1};
	pthread_t thread;

	start(0);
	struct hbm_sequence *first[] = {system_stage_open(&rig, RIG_MAX),
					system_stage_open(&rig, RIG_MAX),
					system_stage_open(&rig, RIG_MAX)};

	system_stage_pool(&session.rig, pool_rig_layouts[0], 0, SYSTEM_MEMORY);
	petals_open(&session);
	assert_int_equal(session.status, HBM_TIMEOUT);
	session.timeout_ms = PETALS_LONG_MS;
	assert_int_equal(pthread_create(&thread, NULL, petals_open, &session), 0);
	while (system_stage_memory(rig.hbm, 0).waiting == 0)
		poll(NULL, 0, 1);
	assert_int_equal(hbm_sequence_close(first[1]), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(session.status, 0);

	for (size_t i = 0; i < PETALS_BEAMS; i++)
		system_stage_grow(&session.rig, session.beams[i], 20, 1000 * i);
	assert_int_equal(hbm_sequences_reorder(session.rig.pool, session.beams, from, PETALS_BEAMS),
			 0);
	for (size_t i = 0; i < PETALS_BEAMS; i++)
		system_stage_grow(&session.rig, session.beams[i], 40, 5000 * (i + 1));
	for (size_t i = 0; i < PETALS_BEAMS; i++) {
		system_stage_expect(&session.rig, session.beams[i], 0, 20, 1000 * from[i]);
		system_stage_expect(&session.rig, session.beams[i], 20, 40, 5000 * (i + 1));
	}

	/* From position 25 again. */
	for (size_t i = 0; i < PETALS_BEAMS; i++) {
		assert_int_equal(hbm_sequence_truncate(session.beams[i], 25), 0);
		system_stage_grow(&session.rig, session.beams[i], 30, 7000);
		system_stage_expect(&session.rig, session.beams[i], 0, 20, 1000 * from[i]);
		system_stage_expect(&session.rig, session.beams[i], 20, 25, 5000 * (i + 1));
		system_stage_expect(&session.rig, session.beams[i], 25, 30, 7000);
	}

	/* A session that ends, and one that begins where it was: nothing is mapped. */
	assert_int_equal(hbm_sequence_close(session.beams[3]), 0);
	struct hbm_sequence *again = pool_rig_sequence(&session.rig);

	system_stage_silent_step(&session.rig, &again, &(uint64_t){20}, 1);
	pool_rig_close(&session.rig);
	finish();
}

/* ---- Beam search, parallel sampling ---- */

#define BEAMS 4u
#define BEAM_PROMPT 25u

/* What beams of so many tokens have mapped at most, with the prompt's full slabs once. */
static uint64_t beam_most(uint64_t tokens)
{
	const uint64_t ahead = tokens + 2 * RIG_AHEAD;
	const uint64_t one = system_stage_bytes(&rig, ahead < RIG_MAX ? ahead : RIG_MAX);

	return BEAMS * one - (BEAMS - 1) * (system_stage_bytes(&rig, BEAM_PROMPT) - 2 * RIG_SLAB);
}

struct beam_search {
	struct hbm_sequence *beams[BEAMS];
	uint64_t tokens[BEAMS][RIG_MAX]; /* what each has */
	struct seed seed;
};

/* Token n of each beam. */
static void beam_step(struct beam_search *search, uint64_t n)
{
	uint64_t lengths[BEAMS];

	for (size_t i = 0; i < BEAMS; i++)
		lengths[i] = n + 1;
	assert_int_equal(hbm_step(rig.pool, search->beams, lengths, BEAMS), 0);
	for (size_t i = 0; i < BEAMS; i++) {
		search->tokens[i][n] = 1000 * n + i;
		pool_rig_write(&rig, search->beams[i], n, search->tokens[i][n]);
	}
}

/* Some die, and others go on in their places. */
static void beam_select(struct beam_search *search)
{
	uint64_t next[BEAMS][RIG_MAX];
	uint32_t from[BEAMS];

	for (size_t i = 0; i < BEAMS; i++)
		from[i] = (uint32_t)seed_below(&search->seed, BEAMS);
	assert_int_equal(hbm_sequences_reorder(rig.pool, search->beams, from, BEAMS), 0);
	for (size_t i = 0; i < BEAMS; i++)
		memcpy(next[i], search->tokens[from[i]], sizeof(next[i]));
	memcpy(search->tokens, next, sizeof(next));
}

static void beam_expect(struct beam_search *search, size_t beam)
{
	for (uint64_t n = 0; n < RIG_MAX; n++)
		pool_rig_expect(&rig, search->beams[beam], n, search->tokens[beam][n]);
}

/*
 * Beam search and parallel sampling fork a prompt k ways, reorder the beams in one call each
 * time some die, and drop all but one: the prompt's memory is there once, and no beam ever sees
 * a token of another.
 */
static void test_system_beam_search(void **state)
{
	(void)state;
	struct beam_search search;

	start(0);
	seed_open(&search.seed, "beam search");
	search.beams[0] = system_stage_prompt(&rig, BEAM_PROMPT, 0);
	assert_int_equal(hbm_sequence_fork(search.beams[0], BEAMS - 1, &search.beams[1]), 0);
	for (size_t i = 0; i < BEAMS; i++)
		for (uint64_t n = 0; n < BEAM_PROMPT; n++)
			search.tokens[i][n] = n;

	for (uint64_t n = BEAM_PROMPT; n < RIG_MAX; n++) {
		beam_step(&search, n);
		if (n % 3)
			continue;
		beam_select(&search);
		assert_int_equal(hbm_pool_map_ahead(rig.pool), 0);
		assert_true(system_stage_used(rig.hbm, 0) <= beam_most(n + 1));
	}
	for (size_t i = 0; i < BEAMS; i++)
		beam_expect(&search, i);

	/* One is left, with what it shared. */
	for (size_t i = 1; i < BEAMS; i++)
		assert_int_equal(hbm_sequence_close(search.beams[i]), 0);
	beam_expect(&search, 0);
	assert_int_equal(system_stage_used(rig.hbm, 0), system_stage_bytes(&rig, RIG_MAX));
	finish();
}

/* ---- SpecInfer, FlexFlow-Serve ---- */

#define SPECULATED 6u
#define SPECULATED_PREFIX 21u

struct speculation {
	int32_t parents[SPECULATED], path[SPECULATED];
	uint64_t values[SPECULATED];
	size_t accepted; /* of the path */
};

/* A tree of drafts, each below the last token or an earlier draft, all written; and a path in
 * it from the last token on. */
static void speculate(struct hbm_sequence *sequence, struct seed *seed, struct speculation *tree)
{
	uint64_t tokens[SPECULATED];
	int32_t at = -1;

	for (uint32_t i = 0; i < SPECULATED; i++)
		tree->parents[i] = (int32_t)seed_below(seed, i + 1) - 1;
	assert_int_equal(hbm_sequence_draft(sequence, tree->parents, SPECULATED, tokens), 0);
	for (size_t i = 0; i < SPECULATED; i++) {
		tree->values[i] = seed_below(seed, 1 << 30);
		pool_rig_write(&rig, sequence, tokens[i], tree->values[i]);
	}

	tree->accepted = 0;
	for (int32_t i = 0; i < (int32_t)SPECULATED; i++)
		if (tree->parents[i] == at && seed_below(seed, 3) > 0)
			tree->path[tree->accepted++] = at = i;
}

/* What the verifier rejects first: all that is not below the first draft of the path. */
static void speculation_prune(struct hbm_sequence *sequence, const struct speculation *tree)
{
	for (int32_t i = 0; i < (int32_t)SPECULATED; i++)
		if (tree->parents[i] == -1 && (tree->accepted == 0 || i != tree->path[0]))
			assert_int_equal(hbm_sequence_prune(sequence, i), 0);
}

/* What a sequence may have mapped when a tree behind so many tokens is gone. */
static uint64_t speculation_most(uint64_t tokens)
{
	const uint64_t most = tokens + SPECULATED + 2 * RIG_AHEAD;

	return system_stage_bytes(&rig, most < RIG_MAX ? most : RIG_MAX);
}

/*
 * SpecInfer and FlexFlow-Serve let small models draft a tree of tokens behind one prefix. The
 * large one verifies all of it at once; the path that it accepts becomes part of the sequence,
 * in order and without gaps, and the rest is pruned and takes no memory.
 */
static void test_system_specinfer(void **state)
{
	(void)state;
	uint64_t tokens[RIG_MAX], count = SPECULATED_PREFIX, longest = 0;
	struct hbm_sequence *beside;
	struct speculation tree;
	struct seed seed;

	start(0);
	seed_open(&seed, "speculation");
	struct hbm_sequence *sequence = system_stage_prompt(&rig, SPECULATED_PREFIX, 0);

	for (uint64_t i = 0; i < SPECULATED_PREFIX; i++)
		tokens[i] = i;
	assert_int_equal(hbm_sequence_fork(sequence, 1, &beside), 0);
	system_stage_grow(&rig, beside, 30, 1000);
	while (count + SPECULATED <= RIG_MAX) {
		speculate(sequence, &seed, &tree);
		if (seed_below(&seed, 2))
			speculation_prune(sequence, &tree);
		assert_int_equal(hbm_sequence_accept(sequence, tree.path, tree.accepted), 0);
		longest = tree.accepted > longest ? tree.accepted : longest;
		for (size_t i = 0; i < tree.accepted; i++)
			tokens[count++] = tree.values[tree.path[i]];

		const struct hbm_sequence_facts facts = pool_rig_facts(sequence);

		assert_int_equal(facts.tokens, count);
		assert_int_equal(facts.drafts, 0);
		assert_true(facts.mapped_bytes <= speculation_most(count));
		for (uint64_t i = 0; i < count; i++)
			pool_rig_expect(&rig, sequence, i, tokens[i]);
	}
	assert_true(longest > 1);
	system_stage_expect(&rig, beside, 0, SPECULATED_PREFIX, 0);
	system_stage_expect(&rig, beside, SPECULATED_PREFIX, 30, 1000);
	finish();
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, stage_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_system_sarathi),
		TEST(test_system_petals),
		TEST(test_system_beam_search),
		TEST(test_system_specinfer),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
