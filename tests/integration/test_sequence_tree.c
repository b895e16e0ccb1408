/* SPDX-License-Identifier: Apache-2.0 */
/* Drafts of a sequence, end to end: trees, the path that is accepted, and what is pruned. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/pool_rig.h"
#include "tests/support/soft_calls.h"
#include "tests/support/stage.h"

#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static struct pool_rig rig;
static unsigned fds;
static struct hbm_sequence *sequence;

static void start(const char *layout, const char *const *env)
{
	const struct hbm_pool_options options = {.max_sequences = 4};

	if (daemon_.pid == 0) {
		spawn_start(&daemon_, NULL, env);
		fds = spawn_fds(&daemon_);
	}
	pool_rig_open(&rig, &daemon_, layout, &options);
	sequence = pool_rig_sequence(&rig);
}

static void next_layout(void)
{
	pool_rig_close(&rig);
	spawn_settle(&daemon_);
	assert_true(spawn_balanced(&daemon_));
}

/* A number for each draft, and for each token of the prefix. */
static uint64_t draft_value(uint64_t draft)
{
	return 1000 + draft;
}

static void fill(uint64_t tokens)
{
	assert_int_equal(pool_rig_step(&rig, sequence, tokens), 0);
	for (uint64_t i = 0; i < tokens; i++)
		pool_rig_write(&rig, sequence, i, i);
}

static void draft(const int32_t *parents, size_t count)
{
	const struct hbm_sequence_facts facts = pool_rig_facts(sequence);
	uint64_t tokens[RIG_MAX];

	if (hbm_sequence_draft(sequence, parents, count, tokens) != 0)
		fail_msg("%s", hbm_pool_error(rig.pool));
	for (size_t i = 0; i < count; i++) {
		assert_int_equal(tokens[i], facts.tokens + facts.drafts + i);
		pool_rig_write(&rig, sequence, tokens[i], draft_value(facts.drafts + i));
	}
}

static void expect_prefix(uint64_t tokens)
{
	for (uint64_t i = 0; i < tokens; i++)
		pool_rig_expect(&rig, sequence, i, i);
}

static void accept_path(uint64_t prefix, const int32_t *path, size_t count)
{
	if (hbm_sequence_accept(sequence, path, count) != 0)
		fail_msg("%s", hbm_pool_error(rig.pool));

	assert_int_equal(pool_rig_facts(sequence).tokens, prefix + count);
	assert_int_equal(pool_rig_facts(sequence).drafts, 0);
	expect_prefix(prefix);
	for (size_t i = 0; i < count; i++)
		pool_rig_expect(&rig, sequence, prefix + i, draft_value((uint64_t)path[i]));
}

/* ---- Paths ---- */

/* A tree of 12 drafts in two calls; every path from its root to any draft. */
static const int32_t tree[] = {-1, -1, 0, 0, 1, 2, 4, 5, 6, 8, 9, 10};

static size_t path_to(int32_t last, int32_t *path)
{
	size_t count = 0;

	for (int32_t i = last; i >= 0; i = tree[i])
		count++;
	for (size_t n = count; n > 0; last = tree[last])
		path[--n] = last;

	return count;
}

static void every_path(const char *layout)
{
	start(layout, NULL);
	fill(13);
	for (int32_t last = -1; last < (int32_t)COUNT(tree); last++) {
		int32_t path[COUNT(tree)];
		const size_t count = path_to(last, path);

		draft(tree, 5);
		draft(tree + 5, COUNT(tree) - 5);
		accept_path(13, path, count);
		assert_int_equal(hbm_sequence_truncate(sequence, 13), 0);
	}
	next_layout();
}

static void test_every_path_of_every_layout(void **state)
{
	(void)state;
	for (const char *const *layout = pool_rig_layouts; *layout; layout++)
		every_path(*layout);
	for (const char *const *layout = pool_rig_mixed_layouts; *layout; layout++)
		every_path(*layout);
	stage_finish(fds);
}

/* A path that is longer than the way it goes: targets are sources of others. */
static void test_a_long_path_goes_a_short_way(void **state)
{
	(void)state;
	int32_t parents[30] = {-1, -1, 0}, path[28];

	for (int32_t i = 0; i < 27; i++)
		parents[i + 3] = i ? i + 2 : 1;
	path[0] = 1;
	for (int32_t i = 1; i < 28; i++)
		path[i] = i + 2;

	for (const char *const *layout = pool_rig_mixed_layouts; *layout; layout++) {
		start(*layout, NULL);
		fill(9);
		draft(parents, COUNT(parents));
		accept_path(9, path, COUNT(path));
		assert_int_equal(pool_rig_step(&rig, sequence, 40), 0);
		next_layout();
	}
	stage_finish(fds);
}

static void test_what_is_in_place_is_not_copied(void **state)
{
	(void)state;
	static const int32_t parents[] = {-1, 0, 1, 0}, path[] = {0, 1, 2};

	spawn_needs_soft();
	start(pool_rig_layouts[0], NULL);
	fill(20);
	draft(parents, COUNT(parents));
	const struct soft_calls soft = soft_calls_of(rig.kv.driver);
	const uint64_t copies = soft.calls("cuMemcpyDtoDAsync");

	accept_path(20, path, COUNT(path));
	assert_int_equal(soft.calls("cuMemcpyDtoDAsync"), copies);
	next_layout();
	stage_finish(fds);
}

/* ---- Pruning and memory ---- */

static void test_pruned_drafts_leave_the_others(void **state)
{
	(void)state;
	static const int32_t parents[] = {-1, 0, 0, 1, 2, 4}, path[] = {0, 2, 4, 5};

	start(pool_rig_layouts[2], NULL);
	fill(10);
	draft(parents, COUNT(parents));
	assert_int_equal(hbm_sequence_prune(sequence, 1), 0);
	assert_int_equal(pool_rig_facts(sequence).drafts, 6);
	assert_int_equal(hbm_sequence_prune(sequence, 3), HBM_INVALID);
	for (uint64_t i = 2; i < 6; i++)
		pool_rig_expect(&rig, sequence, 10 + i, draft_value(i));
	accept_path(10, path, COUNT(path));

	/* From the end on, places are free again. */
	draft(parents, COUNT(parents));
	assert_int_equal(hbm_sequence_prune(sequence, 3), 0);
	assert_int_equal(hbm_sequence_prune(sequence, 2), 0);
	assert_int_equal(pool_rig_facts(sequence).drafts, 2);
	assert_int_equal(hbm_sequence_prune(sequence, -1), 0);
	assert_int_equal(pool_rig_facts(sequence).drafts, 0);
	assert_int_equal(pool_rig_facts(sequence).tokens, 14);
	next_layout();
	stage_finish(fds);
}

static void test_memory_of_drafts_comes_and_goes(void **state)
{
	(void)state;
	int32_t parents[40];

	memset(parents, 0xff, sizeof(parents));
	start(pool_rig_layouts[0], NULL);
	fill(12);
	const uint64_t before = pool_rig_leased(&rig);

	draft(parents, COUNT(parents));
	assert_true(pool_rig_leased(&rig) > before + 4 * RIG_SLAB);
	assert_true(pool_rig_facts(sequence).ready >= 52);
	accept_path(12, (const int32_t[]){39}, 1);
	assert_true(pool_rig_leased(&rig) <= before + 4 * RIG_SLAB);
	next_layout();
	stage_finish(fds);
}

/* A fork has the tokens and not the drafts; what it shares is copied before drafts are
 * written. */
static void test_forks_and_drafts(void **state)
{
	(void)state;
	static const int32_t parents[] = {-1, -1, 1};
	struct hbm_sequence *fork;

	for (const char *const *layout = pool_rig_layouts; *layout; layout++) {
		start(*layout, NULL);
		fill(41);
		assert_int_equal(hbm_sequence_fork(sequence, 1, &fork), 0);
		assert_int_equal(pool_rig_step(&rig, fork, 41), 0);

		/* Both have the slabs of tokens 20 to 22. */
		assert_int_equal(hbm_sequence_truncate(sequence, 20), 0);
		draft(parents, COUNT(parents));
		accept_path(20, (const int32_t[]){1, 2}, 2);
		for (uint64_t i = 0; i < 41; i++)
			pool_rig_expect(&rig, fork, i, i);
		assert_int_equal(hbm_sequence_close(fork), 0);

		draft(parents, COUNT(parents));
		assert_int_equal(hbm_sequence_fork(sequence, 1, &fork), 0);
		assert_int_equal(pool_rig_facts(fork).drafts, 0);
		assert_int_equal(pool_rig_step(&rig, fork, 30), 0);
		for (uint64_t i = 22; i < 30; i++)
			pool_rig_write(&rig, fork, i, 7);
		for (uint64_t i = 0; i < COUNT(parents); i++)
			pool_rig_expect(&rig, sequence, 22 + i, draft_value(i));
		next_layout();
	}
	stage_finish(fds);
}

static void test_an_accepted_path_may_be_an_overrun(void **state)
{
	(void)state;
	static const struct hbm_sequence_options options = {.expected = 11};
	static const int32_t parents[] = {-1, -1, 1}, path[] = {1, 2};
	struct hbm_event event;

	start(pool_rig_layouts[0], NULL);
	assert_int_equal(hbm_sequence_close(sequence), 0);
	assert_int_equal(hbm_sequence_open(rig.pool, &options, &sequence), 0);
	fill(10);
	draft(parents, COUNT(parents));
	assert_int_equal(hbm_pool_event(rig.pool, &event), HBM_NOT_FOUND);
	accept_path(10, path, COUNT(path));
	assert_int_equal(hbm_pool_event(rig.pool, &event), 0);
	assert_int_equal(event.tokens, 12);
	next_layout();
	stage_finish(fds);
}

/* ---- What is wrong ---- */

static void refused(int r, const char *line)
{
	const struct hbm_sequence_facts facts = pool_rig_facts(sequence);

	assert_int_equal(r, HBM_INVALID);
	if (!strstr(hbm_pool_error(rig.pool), line))
		fail_msg("%s", hbm_pool_error(rig.pool));
	assert_int_equal(facts.tokens, 50);
	assert_int_equal(facts.drafts, 4);
	expect_prefix(50);
	for (uint64_t i = 0; i < 4; i++)
		pool_rig_expect(&rig, sequence, 50 + i, draft_value(i));
}

static void refused_path(const int32_t *path, size_t count, const char *line)
{
	refused(hbm_sequence_accept(sequence, path, count), line);
}

static void test_wrong_drafts_and_paths(void **state)
{
	(void)state;
	static const int32_t parents[] = {-1, 0, 0, 1}, none[11] = {-1};
	struct hbm_sequence *both[2];
	uint64_t tokens[RIG_MAX], length = 51;

	start(pool_rig_layouts[0], NULL);
	fill(50);
	draft(parents, COUNT(parents));

	refused_path((const int32_t[]){0, 3}, 2, "draft 3 is below 1, not 0");
	refused_path((const int32_t[]){1}, 1, "draft 1 is below 0, not -1");
	refused_path((const int32_t[]){0, 0}, 2, "draft 0 is below -1, not 0");
	refused_path((const int32_t[]){0, 1, 3, 4}, 4, "draft 4 of the path is not in the tree");
	refused_path((const int32_t[]){-1, 0}, 2, "draft -1 of the path is not in the tree");
	refused(hbm_sequence_draft(sequence, (const int32_t[]){5}, 1, tokens),
		"draft 4 below draft 5, which is not in the tree");
	refused(hbm_sequence_draft(sequence, (const int32_t[]){4}, 1, tokens),
		"draft 4 below draft 4");
	refused(hbm_sequence_draft(sequence, (const int32_t[]){-2}, 1, tokens), "below draft -2");
	refused(hbm_sequence_draft(sequence, none, COUNT(none), tokens),
		"11 drafts behind 50 tokens and 4 drafts, of at most 64");
	refused(hbm_sequence_prune(sequence, 4), "draft 4 is not in the tree");
	refused(hbm_step(rig.pool, &sequence, &length, 1), "accepted or pruned before it grows");
	length = 50;
	assert_int_equal(hbm_step(rig.pool, &sequence, &length, 1), 0);

	both[0] = sequence;
	both[1] = pool_rig_sequence(&rig);
	refused(hbm_sequences_reorder(rig.pool, both, (const uint32_t[]){1, 1}, 2), "has drafts");
	assert_int_equal(hbm_sequences_reorder(rig.pool, both, (const uint32_t[]){0, 0}, 2), 0);
	assert_int_equal(pool_rig_facts(both[1]).drafts, 0);

	/* Others below a draft that was pruned; nothing of a sequence that was closed. */
	assert_int_equal(hbm_sequence_prune(sequence, 1), 0);
	assert_int_equal(hbm_sequence_draft(sequence, (const int32_t[]){1}, 1, tokens),
			 HBM_INVALID);
	assert_int_equal(hbm_sequence_close(sequence), 0);
	assert_int_equal(hbm_sequence_draft(sequence, parents, 1, tokens), HBM_INVALID);
	assert_int_equal(hbm_sequence_accept(sequence, parents, 0), HBM_INVALID);
	assert_int_equal(hbm_sequence_prune(sequence, -1), HBM_INVALID);
	assert_int_equal(hbm_sequence_draft(NULL, parents, 1, tokens), HBM_INVALID);
	assert_int_equal(hbm_sequence_accept(NULL, parents, 0), HBM_INVALID);
	assert_int_equal(hbm_sequence_prune(NULL, -1), HBM_INVALID);
	next_layout();
	stage_finish(fds);
}

/* A copy that is refused twice. The first of them: nothing has changed. Later ones have moved
 * some drafts: there are none then, and the tokens are as they were. */
static void test_copies_that_are_refused(void **state)
{
	(void)state;
	static const int32_t parents[] = {-1, -1, 1, 2}, path[] = {1, 2, 3};

	spawn_needs_soft();
	start(pool_rig_layouts[2], NULL);
	const struct soft_calls soft = soft_calls_of(rig.kv.driver);
	fill(10);
	for (unsigned nth = 1; nth < 4; nth++) {
		if (pool_rig_facts(sequence).drafts == 0)
			draft(parents, COUNT(parents));
		soft.fail_nth("cuMemcpyDtoDAsync", nth, CUDA_ERROR_OUT_OF_MEMORY);
		soft.fail_nth("cuMemcpyDtoDAsync", nth + 1, CUDA_ERROR_OUT_OF_MEMORY);
		assert_int_equal(hbm_sequence_accept(sequence, path, COUNT(path)), HBM_DEVICE);
		assert_non_null(strstr(hbm_pool_error(rig.pool), "cuMemcpyDtoDAsync"));
		soft.fail_nth(NULL, 0, CUDA_SUCCESS);
		assert_int_equal(pool_rig_facts(sequence).tokens, 10);
		assert_int_equal(pool_rig_facts(sequence).drafts, nth == 1 ? 4 : 0);
		expect_prefix(10);
	}

	/* Once: it is tried again. */
	draft(parents, COUNT(parents));
	soft.fail_nth("cuMemcpyDtoDAsync", 2, CUDA_ERROR_OUT_OF_MEMORY);
	accept_path(10, path, COUNT(path));
	soft.fail_nth(NULL, 0, CUDA_SUCCESS);
	next_layout();
	stage_finish(fds);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, stage_teardown)
		TEST(test_every_path_of_every_layout),
		TEST(test_a_long_path_goes_a_short_way),
		TEST(test_what_is_in_place_is_not_copied),
		TEST(test_pruned_drafts_leave_the_others),
		TEST(test_memory_of_drafts_comes_and_goes),
		TEST(test_forks_and_drafts),
		TEST(test_an_accepted_path_may_be_an_overrun),
		TEST(test_wrong_drafts_and_paths),
		TEST(test_copies_that_are_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
