/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Several processes save, restore and drop by one name at the same time, at random. What is
 * restored is all of one save, and when all have ended and the name is dropped, nothing is
 * left in the cache.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/child.h"
#include "tests/support/saved_stage.h"
#include "tests/support/seed.h"
#include "tests/support/stage.h"

#define PROCESSES 3u
#define ROUNDS 25u
#define NAME "a"
#define TOKENS 20 /* and fewer: the tag's */

static struct seed seed;

/* ---- One process ---- */

static struct hbm_save_options options_at_random(void)
{
	struct hbm_save_options options = saved_plain;

	options.keep = seed_below(&seed, 4) == 0;
	options.pin = seed_below(&seed, 4) == 0;

	return options;
}

/* The tag is the number of tokens. */
static void save(struct hbm_sequence *sequence)
{
	const struct hbm_save_options options = options_at_random();
	const uint64_t tag = 1 + seed_below(&seed, TOKENS);
	const struct contents contents = {.kv = &saved_rig.kv, .tag = tag};
	const struct hbm_save one = {sequence, NAME, tag};
	uint64_t saved;

	saved_stage_expect_done(hbm_sequence_truncate(sequence, 0));
	saved_stage_expect_done(pool_rig_step(&saved_rig, sequence, tag));
	contents_write(&contents, sequence, 0, tag);

	int r = hbm_sequences_save(saved_rig.pool, &one, 1, &options, &saved);
	/* What others have pinned takes all places, or as much as may be pinned. */
	if (r == HBM_DENIED || ((options.pin || options.keep) && r == HBM_LIMIT))
		return;
	saved_stage_expect_done(r);
	assert_int_equal(saved, tag);
}

static void restore(void)
{
	struct hbm_sequence *sequence;
	int r = hbm_sequence_restore(saved_rig.pool, &saved_space, NAME, NULL, &sequence);

	if (r == HBM_NOT_FOUND)
		return;
	saved_stage_expect_done(r);
	saved_stage_expect(sequence, 0, pool_rig_facts(sequence).tokens,
			   pool_rig_facts(sequence).tokens);
	assert_int_equal(hbm_sequence_close(sequence), 0);
}

static void drop(void)
{
	int r = hbm_saved_drop(saved_rig.pool, &saved_space, NAME);

	assert_true(r == 0 || r == HBM_NOT_FOUND || r == HBM_DENIED);
}

static void work(const struct spawn *spawn, uint64_t number)
{
	const struct hbm_pool_options options = {.max_sequences = 4};

	seed.state = number;
	pool_rig_open(&saved_rig, spawn, pool_rig_layouts[0], &options);
	struct hbm_sequence *sequence = pool_rig_sequence(&saved_rig);

	for (unsigned i = 0; i < ROUNDS; i++) {
		const uint64_t what = seed_below(&seed, 20);

		if (what < 10)
			save(sequence);
		else if (what < 19)
			restore();
		else
			drop();
	}
	pool_rig_close(&saved_rig);
}

/* ---- All of them ---- */

static void test_a_name_is_of_one_save_at_any_moment(void **state)
{
	(void)state;
	struct child children[PROCESSES];
	int r;

	seed_open(&seed, "test_saved_together");
	saved_stage_start(pool_rig_layouts[0]);
	for (unsigned i = 0; i < PROCESSES; i++)
		child_start(&children[i], "work", &daemon_, seed_below(&seed, UINT32_MAX));
	for (unsigned i = 0; i < PROCESSES; i++)
		assert_int_equal(child_wait(&children[i]), 0);
	spawn_settle(&daemon_);

	r = hbm_saved_drop(saved_rig.pool, &saved_space, NAME);
	assert_true(r == 0 || r == HBM_NOT_FOUND);
	assert_int_equal(saved_stage_blocks(), 0);
	saved_stage_finish();
}

static const struct child_part parts[] = {{"work", work}, {NULL, NULL}};

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_a_name_is_of_one_save_at_any_moment,
						stage_setup, stage_teardown),
	};

	child_main(argc, argv, parts);

	return cmocka_run_group_tests(tests, NULL, NULL);
}
