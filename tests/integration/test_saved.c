/* SPDX-License-Identifier: Apache-2.0 */
/* Sequences that are saved by name and restored, end to end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/saved_stage.h"
#include "tests/support/stage.h"

#include <signal.h>
#include <unistd.h>

/* ---- Tests ---- */

static void test_what_is_saved_is_restored(void **state)
{
	(void)state;
	struct hbm_saved found;

	for (const char *const *layout = pool_rig_layouts; *layout; layout++) {
		saved_stage_start(*layout);
		saved_stage_save(saved_stage_sequence(31, 7), "a", 77);
		saved_stage_again(*layout);

		assert_int_equal(hbm_saved_find(saved_rig.pool, &saved_space, "a", &found), 0);
		assert_int_equal(found.tokens, 31);
		assert_int_equal(found.present, 31);
		assert_int_equal(found.committed, 77);
		assert_int_equal(found.layers, 2);
		struct hbm_sequence *sequence = saved_stage_restore("a");

		saved_stage_expect(sequence, 0, 31, 7);
		assert_int_equal(pool_rig_step(&saved_rig, sequence, 40), 0);
		saved_stage_expect(saved_stage_restore("a"), 0, 31, 7);
		saved_stage_finish();
	}
}

static void test_a_name_that_is_saved_again_stands_for_that(void **state)
{
	(void)state;
	saved_stage_start(pool_rig_layouts[0]);
	for (uint64_t i = 1; i < 9; i++) {
		struct hbm_sequence *sequence = saved_stage_sequence(3 * i, i);

		saved_stage_save(sequence, "a", i);
		assert_int_equal(hbm_sequence_close(sequence), 0);
		sequence = saved_stage_restore("a");
		saved_stage_expect(sequence, 0, 3 * i, i);
		assert_int_equal(hbm_sequence_close(sequence), 0);
	}
	saved_stage_finish();
}

static bool stop_after(void *arg);

/* So also where a time box leaves fewer tokens than there were; the next save has all. */
static void test_a_shorter_save_takes_the_place_of_a_longer_one(void **state)
{
	(void)state;
	struct hbm_save_options options = saved_plain;
	unsigned left = 2;
	uint64_t saved, blocks;

	options.stop = stop_after;
	options.stop_arg = &left;
	saved_stage_start(pool_rig_layouts[0]);
	saved_stage_save(saved_stage_sequence(31, 1), "a", 0);
	blocks = saved_stage_blocks();

	const struct hbm_save other = {saved_stage_sequence(31, 2), "a", 0};

	assert_int_equal(hbm_sequences_save(saved_rig.pool, &other, 1, &options, &saved), 0);
	assert_int_equal(saved, 16);
	assert_int_equal(saved_stage_blocks(), blocks - 4);
	saved_stage_again(pool_rig_layouts[0]);

	struct hbm_sequence *sequence = saved_stage_restore("a");

	saved_stage_expect(sequence, 0, 16, 2);
	assert_int_equal(pool_rig_step(&saved_rig, sequence, 31), 0);
	const struct contents contents = {.kv = &saved_rig.kv, .tag = 2};

	contents_write(&contents, sequence, 16, 31);
	saved_stage_save(sequence, "a", 0);
	assert_int_equal(saved_stage_blocks(), blocks);
	saved_stage_expect(saved_stage_restore("a"), 0, 31, 2);
	saved_stage_finish();
}

static void test_a_fork_is_saved_with_its_prefix(void **state)
{
	(void)state;
	const struct contents branch = {.kv = &saved_rig.kv, .tag = 2};
	struct hbm_sequence *fork;

	saved_stage_start(pool_rig_layouts[0]);
	struct hbm_sequence *trunk = saved_stage_sequence(30, 1);

	assert_int_equal(hbm_sequence_fork(trunk, 1, &fork), 0);
	saved_stage_save(fork, "fork", 0);
	assert_int_equal(pool_rig_step(&saved_rig, fork, 33), 0);
	contents_write(&branch, fork, 30, 33);
	saved_stage_save(fork, "longer", 0);
	assert_int_equal(hbm_sequence_close(trunk), 0);
	assert_int_equal(hbm_sequence_close(fork), 0);

	saved_stage_expect(saved_stage_restore("fork"), 0, 30, 1);
	const struct contents prefix = {.kv = &saved_rig.kv, .tag = 1};
	struct hbm_sequence *longer = saved_stage_restore("longer");

	assert_true(contents_are(&prefix, longer, 0, 30));
	assert_true(contents_are(&branch, longer, 30, 33));
	saved_stage_finish();
}

static void test_a_pool_with_a_thread_saves_and_restores(void **state)
{
	(void)state;
	const struct hbm_pool_options options = {.max_sequences = 8, .map_ahead_thread = true};

	spawn_start(&daemon_, NULL, NULL);
	pool_rig_open(&saved_rig, &daemon_, pool_rig_layouts[1], &options);
	saved_stage_save(saved_stage_sequence(20, 5), "a", 0);
	saved_stage_expect(saved_stage_restore("a"), 0, 20, 5);
	saved_stage_finish();
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

	saved_stage_start(pool_rig_layouts[0]);
	struct hbm_save saves[3] = {{.name = "low"}, {.name = "high"}, {.name = "lowest"}};
	const int32_t priorities[] = {1, 2, -1};

	for (unsigned i = 0; i < 3; i++) {
		const struct hbm_sequence_options options = {.priority = priorities[i]};
		const struct contents contents = {.kv = &saved_rig.kv, .tag = i};

		assert_int_equal(hbm_sequence_open(saved_rig.pool, &options, &saves[i].sequence),
				 0);
		assert_int_equal(pool_rig_step(&saved_rig, saves[i].sequence, 31), 0);
		contents_write(&contents, saves[i].sequence, 0, 31);
	}

	for (unsigned c = 0; c < sizeof(cases) / sizeof(*cases); c++) {
		unsigned left = cases[c].requests;
		struct hbm_save_options options = saved_plain;
		uint64_t saved[3] = {9, 9, 9};

		options.stop = stop_after;
		options.stop_arg = &left;
		saved_stage_expect_done(
			hbm_sequences_save(saved_rig.pool, saves, 3, &options, saved));
		for (unsigned i = 0; i < 3; i++) {
			if (saved[i] != cases[c].saved[i])
				fail_msg("case %u: %u: %llu tokens", c, i,
					 (unsigned long long)saved[i]);
			if (saved[i] == 0)
				continue;
			struct hbm_sequence *sequence = saved_stage_restore(saves[i].name);

			saved_stage_expect(sequence, 0, saved[i], i);
			assert_int_equal(hbm_sequence_close(sequence), 0);
		}
	}
	saved_stage_finish();
}

/* The daemon stands still between the first request and the second. */
static bool stop_the_daemon(void *arg)
{
	static const int stops[] = {SIGCONT, SIGSTOP, SIGCONT};
	unsigned *asked = arg;

	assert_int_equal(kill(daemon_.pid, stops[(*asked)++]), 0);

	return false;
}

/* The next pieces are gathered, and sent, while those before them are stored. */
static void test_a_request_does_not_wait_for_the_one_before(void **state)
{
	(void)state;
	struct hbm_save_options options = saved_plain;
	unsigned asked = 0;
	uint64_t saved;

	saved_stage_start(pool_rig_layouts[0]);
	const struct hbm_save one = {saved_stage_sequence(31, 1), "a", 0};

	options.stop = stop_the_daemon;
	options.stop_arg = &asked;
	alarm(300); /* if it does */
	saved_stage_expect_done(hbm_sequences_save(saved_rig.pool, &one, 1, &options, &saved));
	alarm(0);
	assert_int_equal(asked, 3); /* before the first sequence, too */
	saved_stage_expect(saved_stage_restore("a"), 0, 31, 1);
	saved_stage_finish();
}

static void test_a_deadline_that_has_passed_changes_nothing(void **state)
{
	(void)state;
	struct hbm_save_options options = saved_plain;
	uint64_t saved = 9;
	unsigned none = 0;

	saved_stage_start(pool_rig_layouts[0]);
	struct hbm_sequence *sequence = saved_stage_sequence(31, 1);

	saved_stage_save(sequence, "a", 0);
	const struct contents contents = {.kv = &saved_rig.kv, .tag = 2};
	const struct hbm_save again_ = {sequence, "a", 0};

	contents_write(&contents, sequence, 0, 31);
	options.stop = stop_after;
	options.stop_arg = &none;
	assert_int_equal(hbm_sequences_save(saved_rig.pool, &again_, 1, &options, &saved), 0);
	assert_int_equal(saved, 0);
	saved_stage_expect(saved_stage_restore("a"), 0, 31, 1);
	saved_stage_finish();
}

/* One that is later than the clock goes. */
static void test_a_deadline_that_never_passes(void **state)
{
	(void)state;
	struct hbm_save_options options = saved_plain;
	uint64_t saved;

	saved_stage_start(pool_rig_layouts[0]);
	const struct hbm_save one = {saved_stage_sequence(31, 1), "a", 0};

	options.deadline_us = UINT64_MAX;
	assert_int_equal(hbm_sequences_save(saved_rig.pool, &one, 1, &options, &saved), 0);
	assert_int_equal(saved, 31);
	options.deadline_us = UINT64_MAX / 1000;
	assert_int_equal(hbm_sequences_save(saved_rig.pool, &one, 1, &options, &saved), 0);
	assert_int_equal(saved, 31);
	saved_stage_finish();
}

/* ---- Windows and states ---- */

static void test_windows_that_have_slid(void **state)
{
	(void)state;
	const char *const layout = pool_rig_layouts[3];
	const struct contents contents = {.kv = &saved_rig.kv, .tag = 8};
	unsigned left = 4;
	struct hbm_save_options options = saved_plain;
	uint64_t saved;

	saved_stage_start(layout);
	struct hbm_sequence *sequence = pool_rig_sequence(&saved_rig);

	for (uint64_t n = 1; n <= 50; n++) {
		assert_int_equal(pool_rig_step(&saved_rig, sequence, n), 0);
		contents_write(&contents, sequence, n - 1, n);
	}
	const struct hbm_save one = {sequence, "a", 0};
	const uint64_t mapped = pool_rig_facts(sequence).mapped_bytes;

	/* A beginning without the window in front of its end is of no use. */
	options.stop = stop_after;
	options.stop_arg = &left;
	assert_int_equal(hbm_sequences_save(saved_rig.pool, &one, 1, &options, &saved), 0);
	assert_int_equal(saved, 0);
	assert_int_equal(saved_stage_blocks(), 0);

	saved_stage_save(sequence, "a", 0);
	saved_stage_again(layout);
	sequence = saved_stage_restore("a");
	saved_stage_expect(sequence, 0, 50, 8);
	assert_true(pool_rig_facts(sequence).mapped_bytes <= mapped);
	assert_int_equal(hbm_sequence_truncate(sequence, 20), HBM_INVALID);
	assert_int_equal(pool_rig_step(&saved_rig, sequence, 60), 0);
	contents_write(&contents, sequence, 50, 60);
	saved_stage_expect(sequence, 0, 60, 8);
	saved_stage_finish();
}

/* Of the last token: all is saved, or nothing. */
static void test_states_are_saved_with_all_tokens(void **state)
{
	(void)state;
	unsigned left = 2;
	struct hbm_save_options options = saved_plain;
	uint64_t saved;

	saved_stage_start(pool_rig_mixed_layouts[0]);
	const struct hbm_save one = {saved_stage_sequence(40, 6), "a", 0};

	options.stop = stop_after;
	options.stop_arg = &left;
	assert_int_equal(hbm_sequences_save(saved_rig.pool, &one, 1, &options, &saved), 0);
	assert_int_equal(saved, 0);
	assert_int_equal(saved_stage_blocks(), 0);
	saved_stage_save(one.sequence, "a", 0);
	saved_stage_again(pool_rig_mixed_layouts[0]);
	saved_stage_expect(saved_stage_restore("a"), 0, 40, 6);
	saved_stage_finish();
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, stage_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_what_is_saved_is_restored),
		TEST(test_a_name_that_is_saved_again_stands_for_that),
		TEST(test_a_shorter_save_takes_the_place_of_a_longer_one),
		TEST(test_a_fork_is_saved_with_its_prefix),
		TEST(test_a_pool_with_a_thread_saves_and_restores),
		TEST(test_the_most_valuable_goes_first),
		TEST(test_a_request_does_not_wait_for_the_one_before),
		TEST(test_a_deadline_that_has_passed_changes_nothing),
		TEST(test_a_deadline_that_never_passes),
		TEST(test_windows_that_have_slid),
		TEST(test_states_are_saved_with_all_tokens),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
