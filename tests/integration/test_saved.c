/* SPDX-License-Identifier: Apache-2.0 */
/* Sequences that are saved by name and restored, end to end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/contents.h"
#include "tests/support/pool_rig.h"
#include "tests/support/stage.h"

#include <hbm/saved.h>
#include <string.h>

static struct pool_rig rig;
static const struct hbm_pool_options usual = {.max_sequences = 8};
static const struct hbm_saved_space space = {.model = "small", .salt = "salt", .weights = 3};
static const struct hbm_save_options plain = {
	.space = {.model = "small", .salt = "salt", .weights = 3}};

static void start(const char *layout)
{
	if (daemon_.pid == 0)
		spawn_start(&daemon_, NULL, NULL);
	pool_rig_open(&rig, &daemon_, layout, &usual);
}

static void again(const char *layout)
{
	pool_rig_close(&rig);
	start(layout);
}

static void finish(void)
{
	pool_rig_close(&rig);
	spawn_settle(&daemon_);
	assert_true(spawn_balanced(&daemon_));
}

static void expect_done(int r)
{
	if (r)
		fail_msg("%d, %s", r, hbm_pool_error(rig.pool));
}

static void expect_line(const char *text)
{
	if (!strstr(hbm_pool_error(rig.pool), text))
		fail_msg("\"%s\" says nothing of \"%s\"", hbm_pool_error(rig.pool), text);
}

/* ---- Calls that succeed ---- */

static struct hbm_sequence *sequence_of(uint64_t tokens, uint64_t tag)
{
	struct hbm_sequence *sequence = pool_rig_sequence(&rig);
	const struct contents contents = {.kv = &rig.kv, .tag = tag};

	assert_int_equal(pool_rig_step(&rig, sequence, tokens), 0);
	contents_write(&contents, rig.pool, sequence, 0, tokens);

	return sequence;
}

static void save(struct hbm_sequence *sequence, const char *name, uint64_t committed)
{
	const struct hbm_save one = {sequence, name, committed};
	uint64_t saved = 0;
	int r = hbm_sequences_save(rig.pool, &one, 1, &plain, &saved);

	if (r)
		fail_msg("hbm_sequences_save(): %d, %s", r, hbm_pool_error(rig.pool));
	assert_int_equal(saved, pool_rig_facts(sequence).tokens);
}

static struct hbm_sequence *restore(const char *name)
{
	struct hbm_sequence *sequence = NULL;
	int r = hbm_sequence_restore(rig.pool, &space, name, NULL, &sequence);

	if (r)
		fail_msg("hbm_sequence_restore(): %d, %s", r, hbm_pool_error(rig.pool));

	return sequence;
}

static void expect_contents(struct hbm_sequence *sequence, uint64_t first, uint64_t tokens,
			    uint64_t tag)
{
	const struct contents contents = {.kv = &rig.kv, .tag = tag};

	assert_int_equal(pool_rig_facts(sequence).first, first);
	assert_int_equal(pool_rig_facts(sequence).tokens, tokens);
	assert_true(contents_are(&contents, rig.pool, sequence, first, tokens));
}

static int blocks_count(const void *record, size_t bytes, void *arg)
{
	(void)record;
	(void)bytes;
	++*(uint64_t *)arg;

	return 0;
}

/* In the whole cache. */
static uint64_t blocks(void)
{
	uint64_t count = 0;

	assert_int_equal(hbm_query(rig.hbm, HBM_QUERY_BLOCKS, blocks_count, &count), 0);

	return count;
}

/* ---- Tests ---- */

static void test_what_is_saved_is_restored(void **state)
{
	(void)state;
	struct hbm_saved found;

	for (const char *const *layout = pool_rig_layouts; *layout; layout++) {
		start(*layout);
		save(sequence_of(31, 7), "a", 77);
		again(*layout);

		assert_int_equal(hbm_saved_find(rig.pool, &space, "a", &found), 0);
		assert_int_equal(found.tokens, 31);
		assert_int_equal(found.present, 31);
		assert_int_equal(found.committed, 77);
		assert_int_equal(found.layers, 2);
		struct hbm_sequence *sequence = restore("a");

		expect_contents(sequence, 0, 31, 7);
		assert_int_equal(pool_rig_step(&rig, sequence, 40), 0);
		expect_contents(restore("a"), 0, 31, 7);
		finish();
	}
}

static void test_a_name_that_is_saved_again_stands_for_that(void **state)
{
	(void)state;
	start(pool_rig_layouts[0]);
	for (uint64_t i = 1; i < 9; i++) {
		struct hbm_sequence *sequence = sequence_of(3 * i, i);

		save(sequence, "a", i);
		assert_int_equal(hbm_sequence_close(sequence), 0);
		sequence = restore("a");
		expect_contents(sequence, 0, 3 * i, i);
		assert_int_equal(hbm_sequence_close(sequence), 0);
	}
	finish();
}

static void test_a_fork_is_saved_with_its_prefix(void **state)
{
	(void)state;
	const struct contents branch = {.kv = &rig.kv, .tag = 2};
	struct hbm_sequence *fork;

	start(pool_rig_layouts[0]);
	struct hbm_sequence *trunk = sequence_of(30, 1);

	assert_int_equal(hbm_sequence_fork(trunk, 1, &fork), 0);
	save(fork, "fork", 0);
	assert_int_equal(pool_rig_step(&rig, fork, 33), 0);
	contents_write(&branch, rig.pool, fork, 30, 33);
	save(fork, "longer", 0);
	assert_int_equal(hbm_sequence_close(trunk), 0);
	assert_int_equal(hbm_sequence_close(fork), 0);

	expect_contents(restore("fork"), 0, 30, 1);
	const struct contents prefix = {.kv = &rig.kv, .tag = 1};
	struct hbm_sequence *longer = restore("longer");

	assert_true(contents_are(&prefix, rig.pool, longer, 0, 30));
	assert_true(contents_are(&branch, rig.pool, longer, 30, 33));
	finish();
}

static void test_a_pool_with_a_thread_saves_and_restores(void **state)
{
	(void)state;
	const struct hbm_pool_options options = {.max_sequences = 8, .map_ahead_thread = true};

	spawn_start(&daemon_, NULL, NULL);
	pool_rig_open(&rig, &daemon_, pool_rig_layouts[1], &options);
	save(sequence_of(20, 5), "a", 0);
	expect_contents(restore("a"), 0, 20, 5);
	finish();
}

/* ---- A time box ---- */

/* True when it is asked once more than that. */
static bool stop_after(void *arg)
{
	unsigned *left = arg;

	return (*left)-- == 0;
}

/* Sequences of 31 tokens are 8 pieces: two requests. */
static void test_the_most_valuable_goes_first(void **state)
{
	(void)state;
	const struct {
		unsigned requests;
		uint64_t saved[3];
	} cases[] = {
		{0, {0, 0, 0}},   {1, {0, 0, 0}},    {2, {0, 16, 0}},
		{3, {0, 31, 0}},  {4, {0, 31, 0}},   {5, {16, 31, 0}},
		{6, {31, 31, 0}}, {8, {31, 31, 16}}, {99, {31, 31, 31}},
	};

	start(pool_rig_layouts[0]);
	struct hbm_save saves[3] = {{.name = "low"}, {.name = "high"}, {.name = "lowest"}};
	const int32_t priorities[] = {1, 2, -1};

	for (unsigned i = 0; i < 3; i++) {
		const struct hbm_sequence_options options = {.priority = priorities[i]};
		const struct contents contents = {.kv = &rig.kv, .tag = i};

		assert_int_equal(hbm_sequence_open(rig.pool, &options, &saves[i].sequence), 0);
		assert_int_equal(pool_rig_step(&rig, saves[i].sequence, 31), 0);
		contents_write(&contents, rig.pool, saves[i].sequence, 0, 31);
	}

	for (unsigned c = 0; c < sizeof(cases) / sizeof(*cases); c++) {
		unsigned left = cases[c].requests;
		struct hbm_save_options options = plain;
		uint64_t saved[3] = {9, 9, 9};

		options.stop = stop_after;
		options.stop_arg = &left;
		expect_done(hbm_sequences_save(rig.pool, saves, 3, &options, saved));
		for (unsigned i = 0; i < 3; i++) {
			if (saved[i] != cases[c].saved[i])
				fail_msg("case %u: %u: %llu tokens", c, i,
					 (unsigned long long)saved[i]);
			if (saved[i] == 0)
				continue;
			struct hbm_sequence *sequence = restore(saves[i].name);

			expect_contents(sequence, 0, saved[i], i);
			assert_int_equal(hbm_sequence_close(sequence), 0);
		}
	}
	finish();
}

static void test_a_deadline_that_has_passed_changes_nothing(void **state)
{
	(void)state;
	struct hbm_save_options options = plain;
	uint64_t saved = 9;
	unsigned none = 0;

	start(pool_rig_layouts[0]);
	struct hbm_sequence *sequence = sequence_of(31, 1);

	save(sequence, "a", 0);
	const struct contents contents = {.kv = &rig.kv, .tag = 2};
	const struct hbm_save again_ = {sequence, "a", 0};

	contents_write(&contents, rig.pool, sequence, 0, 31);
	options.stop = stop_after;
	options.stop_arg = &none;
	assert_int_equal(hbm_sequences_save(rig.pool, &again_, 1, &options, &saved), 0);
	assert_int_equal(saved, 0);
	expect_contents(restore("a"), 0, 31, 1);
	finish();
}

/* ---- What was evicted ---- */

static const char *const two_tiers[] = {"nvme.path=", "nvme.size=0", NULL};

static void test_what_is_evicted_is_missing_at_the_end(void **state)
{
	(void)state;
	const uint64_t piece = 4ull * 2 * 2 * 3 * 9000 * 4; /* of 4 tokens */
	struct hbm_saved found;

	spawn_start(&daemon_, two_tiers, NULL);
	start(pool_rig_layouts[0]);
	struct hbm_sequence *sequence = sequence_of(31, 4);

	for (uint64_t pieces = 1; pieces < 8; pieces++) {
		save(sequence, "a", 0);
		hbm_evict(rig.hbm, HBM_TIER_HBM, 0, 64 << 20, NULL);
		kv_await_moves(&rig.kv);
		assert_int_equal(hbm_evict(rig.hbm, HBM_TIER_DDR, 0, pieces * piece, NULL), 0);
		assert_int_equal(hbm_saved_find(rig.pool, &space, "a", &found), 0);
		assert_int_equal(found.tokens, 31);
		assert_int_equal(found.present, 32 - 4 * pieces);

		struct hbm_sequence *restored = restore("a");

		expect_contents(restored, 0, found.present, 4);
		assert_int_equal(hbm_sequence_close(restored), 0);
		assert_int_equal(hbm_saved_drop(rig.pool, &space, "a"), 0);
	}
	finish();
}

static void test_what_is_pinned_is_not_evicted(void **state)
{
	(void)state;
	const struct hbm_save_options both[] = {{.space = space, .pin = true},
						{.space = space, .keep = true}};
	uint64_t saved;

	spawn_start(&daemon_, two_tiers, NULL);
	start(pool_rig_layouts[0]);
	const struct hbm_save one = {sequence_of(9, 4), "a", 0};

	for (unsigned i = 0; i < 2; i++) {
		expect_done(hbm_sequences_save(rig.pool, &one, 1, &both[i], &saved));
		for (unsigned n = 0; n < 4; n++) {
			hbm_evict(rig.hbm, HBM_TIER_HBM, 0, 64 << 20, NULL);
			kv_await_moves(&rig.kv);
			hbm_evict(rig.hbm, HBM_TIER_DDR, 0, 64 << 20, NULL);
		}
		expect_contents(restore("a"), 0, 9, 4);
		assert_int_equal(hbm_saved_drop(rig.pool, &space, "a"), 0);
		assert_int_equal(blocks(), 0);
	}
	finish();
}

static void test_a_cache_that_is_too_small_has_the_beginning(void **state)
{
	(void)state;
	static const char *const small[] = {"device.cache=4MiB", "ddr.size=4MiB",
					    "nvme.path=", "nvme.size=0", NULL};
	struct hbm_sequence *sequence;
	struct hbm_saved found;
	uint64_t saved;

	spawn_start(&daemon_, small, NULL);
	start(pool_rig_layouts[0]);
	const struct hbm_save one = {sequence_of(31, 4), "a", 0};
	int r = hbm_sequences_save(rig.pool, &one, 1, &plain, &saved);

	assert_int_equal(r, HBM_NO_SPACE);
	expect_line("a piece of \"a\"");
	assert_in_range(saved, 1, 30);
	assert_int_equal(hbm_saved_find(rig.pool, &space, "a", &found), 0);
	assert_int_equal(found.tokens, saved);
	sequence = restore("a");
	expect_contents(sequence, 0, found.present, 4);
	finish();
}

/* ---- What is refused ---- */

static int save_as(struct hbm_sequence *sequence, const char *name)
{
	const struct hbm_save one = {sequence, name, 0};
	uint64_t saved;

	return hbm_sequences_save(rig.pool, &one, 1, &plain, &saved);
}

static void test_bad_input_is_refused(void **state)
{
	(void)state;
	char longest[HBM_SAVED_NAME_MAX + 2];
	struct hbm_sequence *other, *sequence;

	memset(longest, 'n', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	start(pool_rig_layouts[0]);
	sequence = sequence_of(9, 1);

	assert_int_equal(hbm_sequence_restore(rig.pool, &space, "a", NULL, &other), HBM_NOT_FOUND);
	expect_line("nothing is saved by the name \"a\"");
	assert_int_equal(hbm_saved_drop(rig.pool, &space, "a"), HBM_NOT_FOUND);
	assert_int_equal(save_as(sequence, NULL), HBM_INVALID);
	assert_int_equal(save_as(sequence, ""), HBM_INVALID);
	assert_int_equal(save_as(sequence, longest), HBM_INVALID);
	assert_int_equal(save_as(sequence, longest + 1), 0);
	assert_int_equal(save_as(NULL, "a"), HBM_INVALID);

	const struct hbm_save twice[] = {
		{sequence, "a", 0}, {sequence, "b", 0}, {sequence, "a", 0}};
	uint64_t saved[3] = {1, 1, 1};

	assert_int_equal(hbm_sequences_save(rig.pool, twice, 3, &plain, saved), HBM_INVALID);
	expect_line("two sequences by the name \"a\"");
	assert_int_equal(saved[0] + saved[1] + saved[2], 0);
	assert_int_equal(hbm_sequence_close(sequence), 0);
	assert_int_equal(save_as(sequence, "a"), HBM_INVALID);
	expect_line("closed");

	finish();
}

/* Another space is another name. */
static void test_a_name_is_of_a_space(void **state)
{
	(void)state;
	const struct hbm_saved_space others[] = {
		{"smaller", "salt", 3}, {"small", NULL, 3}, {"small", "salt", 4}};
	struct hbm_sequence *sequence;

	start(pool_rig_layouts[0]);
	save(sequence_of(9, 1), "a", 0);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(hbm_sequence_restore(rig.pool, &others[i], "a", NULL, &sequence),
				 HBM_NOT_FOUND);
	finish();
}

static void test_a_layout_that_does_not_fit_is_refused(void **state)
{
	(void)state;
	static const char *const others[] = {
		"layers=3 heads=3 dim=9000 bytes=4 order=token max=64",
		"layers=2 heads=2 dim=9000 bytes=4 order=token max=64",
		"layers=2 heads=3 dim=8000 bytes=4 order=layer max=64",
		"layers=2 heads=3 dim=9000 bytes=2 order=token max=64",
		"layers=2 heads=3 dim=9000 bytes=4 order=token max=64 keys=only",
		NULL,
	};
	struct hbm_sequence *sequence;

	start(pool_rig_layouts[0]);
	save(sequence_of(9, 1), "a", 0);
	for (unsigned i = 0; others[i]; i++) {
		again(others[i]);
		assert_int_equal(hbm_sequence_restore(rig.pool, &space, "a", NULL, &sequence),
				 HBM_INVALID);
		expect_line("layers=2 heads=3 dim=9000 bytes=4");
		expect_line("are not \"layers=");
	}
	again("layers=2 heads=3 dim=9000 bytes=4 order=token max=8");
	assert_int_equal(hbm_sequence_restore(rig.pool, &space, "a", NULL, &sequence), HBM_INVALID);
	expect_line("9 tokens are saved, where sequences have at most 8");
	assert_int_equal(pool_rig_leased(&rig), 0);
	finish();
}

static void test_what_is_dropped_is_gone(void **state)
{
	(void)state;
	struct hbm_saved found;

	start(pool_rig_layouts[0]);
	save(sequence_of(9, 1), "a", 0);
	save(sequence_of(9, 2), "b", 0);
	assert_int_equal(hbm_saved_drop(rig.pool, &space, "a"), 0);
	assert_int_equal(hbm_saved_find(rig.pool, &space, "a", &found), HBM_NOT_FOUND);
	expect_contents(restore("b"), 0, 9, 2);
	assert_int_equal(hbm_saved_drop(rig.pool, &space, "b"), 0);
	assert_int_equal(blocks(), 0);
	finish();
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, stage_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_fork_is_saved_with_its_prefix),
		TEST(test_a_pool_with_a_thread_saves_and_restores),
		TEST(test_the_most_valuable_goes_first),
		TEST(test_a_deadline_that_has_passed_changes_nothing),
		TEST(test_what_is_evicted_is_missing_at_the_end),
		TEST(test_what_is_pinned_is_not_evicted),
		TEST(test_a_cache_that_is_too_small_has_the_beginning),
		TEST(test_bad_input_is_refused),
		TEST(test_a_name_is_of_a_space),
		TEST(test_a_layout_that_does_not_fit_is_refused),
		TEST(test_what_is_dropped_is_gone),
		TEST(test_what_is_saved_is_restored),
		TEST(test_a_name_that_is_saved_again_stands_for_that),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
