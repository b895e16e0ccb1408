/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sequences on prefixes that the cache has: what is lent is one physical slab, what is written is a
 * copy, what cannot be lent is loaded; and what is refused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/cached_stage.h"

#include <string.h>

#define BLOCK CACHED_BLOCK

/* ---- One process ---- */

static void test_what_is_borrowed_is_copied_before_it_is_written(void **state)
{
	(void)state;
	cached_stage_start(cached_rig_layouts[0]);
	struct hbm_sequence *lender = cached_rig_fill(&cached_rig, 3 * BLOCK);

	cached_rig_chain(&cached_rig, 1, 3);
	cached_rig_store(&cached_rig, lender, 0);
	struct hbm_sequence *borrower = cached_rig_reopen(&cached_rig, 3 * BLOCK, 6);

	assert_int_equal(hbm_sequence_truncate(borrower, BLOCK + 1), 0);
	assert_int_equal(pool_rig_facts(borrower).lent_bytes, 4 * RIG_SLAB);
	cached_rig_grow(&cached_rig, borrower, 3 * BLOCK, 50);
	assert_int_equal(pool_rig_facts(borrower).lent_bytes, 2 * RIG_SLAB);
	cached_rig_expect(&cached_rig, borrower, BLOCK + 1, 3 * BLOCK, 50);
	cached_rig_expect(&cached_rig, lender, 3 * BLOCK, 3 * BLOCK, 0);

	/* The first block is slid away, and given back with that. */
	assert_int_equal(hbm_sequence_slide(borrower, BLOCK), 0);
	assert_int_equal(pool_rig_facts(borrower).lent_bytes, 0);
	assert_true(spawn_balanced(&daemon_));
	cached_stage_finish();
}

static void test_forks_of_a_borrowed_prefix(void **state)
{
	(void)state;
	struct hbm_sequence *forks[2];

	cached_stage_start(cached_rig_layouts[0]);
	struct hbm_sequence *lender = cached_rig_fill(&cached_rig, 3 * BLOCK);

	cached_rig_chain(&cached_rig, 1, 3);
	cached_rig_store(&cached_rig, lender, 0);
	cached_stage_close(lender);
	cached_rig_wait_for_leased(&cached_rig, 6);

	struct hbm_sequence *parent = cached_rig_reopen(&cached_rig, 3 * BLOCK, 6);

	assert_int_equal(hbm_sequence_fork(parent, 2, forks), 0);
	cached_rig_grow(&cached_rig, forks[0], 4 * BLOCK, 10);
	cached_rig_grow(&cached_rig, forks[1], 4 * BLOCK, 20);
	assert_int_equal(pool_rig_facts(forks[0]).lent_bytes, 6 * RIG_SLAB);
	cached_stage_close(parent);
	assert_true(spawn_balanced(&daemon_));

	/* Beams: all of the first one is taken over, what is borrowed stays so. */
	const uint32_t from[] = {0, 0};
	if (hbm_sequences_reorder(cached_rig.pool.pool, forks, from, 2) != 0)
		fail_msg("%s", hbm_pool_error(cached_rig.pool.pool));
	cached_rig_expect(&cached_rig, forks[1], 3 * BLOCK, 4 * BLOCK, 10);

	/* One of them goes its own way from the middle of what all have. */
	assert_int_equal(hbm_sequence_truncate(forks[0], BLOCK + 1), 0);
	cached_rig_grow(&cached_rig, forks[0], 2 * BLOCK, 30);
	cached_rig_expect(&cached_rig, forks[0], BLOCK + 1, 2 * BLOCK, 30);
	cached_rig_expect(&cached_rig, forks[1], 3 * BLOCK, 4 * BLOCK, 10);
	assert_int_equal(pool_rig_facts(forks[0]).lent_bytes, 2 * RIG_SLAB);

	/* A sequence that has none of the prefix takes it over from one that has. */
	struct hbm_sequence *pair[] = {forks[1], pool_rig_sequence(&cached_rig.pool)};
	assert_int_equal(hbm_sequences_reorder(cached_rig.pool.pool, pair, from, 2), 0);
	cached_rig_expect(&cached_rig, pair[1], 3 * BLOCK, 4 * BLOCK, 10);
	assert_int_equal(pool_rig_facts(pair[1]).lent_bytes, 6 * RIG_SLAB);
	assert_true(spawn_balanced(&daemon_));
	cached_stage_finish();
}

/* A slot that is warm is used, too; and what is borrowed does not stay in it. */
static void test_a_borrowed_prefix_is_not_kept_warm(void **state)
{
	(void)state;
	const struct hbm_pool_options options = {.max_sequences = 1, .warm_bytes = 64 << 20};

	cached_stage_start_with(cached_stage_lends, cached_rig_layouts[0], BLOCK, &options);
	struct hbm_sequence *lender = cached_rig_fill(&cached_rig, 4 * BLOCK);

	cached_rig_chain(&cached_rig, 1, 2);
	cached_rig_store(&cached_rig, lender, 0);
	cached_stage_close(lender);

	/* Two blocks are lent, and gone from the slot; two are warm, and one more slab of each
	 * buffer was mapped ahead. */
	for (int i = 0; i < 2; i++) {
		struct hbm_sequence *borrower = cached_rig_reopen(&cached_rig, 2 * BLOCK, 4);

		cached_rig_expect(&cached_rig, borrower, 2 * BLOCK, 2 * BLOCK, 0);
		cached_rig_grow(&cached_rig, borrower, 4 * BLOCK, 5);
		cached_rig_expect(&cached_rig, borrower, 2 * BLOCK, 4 * BLOCK, 5);
		cached_stage_close(borrower);
	}

	struct hbm_sequence *next = cached_rig_fill(&cached_rig, 4 * BLOCK);

	assert_int_equal(pool_rig_facts(next).lent_bytes, 0);
	assert_int_equal(pool_rig_facts(next).shared_bytes, 0);
	cached_stage_close(next);
	cached_rig_chain(&cached_rig, 1, 2);
	cached_rig_expect(&cached_rig, cached_rig_reopen(&cached_rig, 2 * BLOCK, 4), 2 * BLOCK,
			  2 * BLOCK, 0);
	cached_stage_finish();
}

/* ---- What is copied ---- */

static void test_a_last_block_of_fewer_tokens_is_copied(void **state)
{
	(void)state;
	for (uint64_t i = 0; cached_rig_layouts[i]; i++) {
		cached_stage_start(cached_rig_layouts[i]);
		struct hbm_sequence *sequence = cached_rig_fill(&cached_rig, 2 * BLOCK + 3);

		cached_rig_chain(&cached_rig, 1, 3);
		cached_rig.blocks.tokens = 2 * BLOCK + 3;
		cached_rig_store(&cached_rig, sequence, 0);
		struct hbm_sequence *other = cached_rig_reopen(&cached_rig, 2 * BLOCK + 3, 4);

		cached_rig_expect(&cached_rig, other, 2 * BLOCK + 3, 2 * BLOCK + 3, 0);
		cached_rig_grow(&cached_rig, other, 3 * BLOCK, 9);
		cached_rig_grow(&cached_rig, sequence, 3 * BLOCK, 18);
		cached_rig_expect(&cached_rig, other, 2 * BLOCK + 3, 3 * BLOCK, 9);
		cached_rig_expect(&cached_rig, sequence, 2 * BLOCK + 3, 3 * BLOCK, 18);

		/* Only a part of a block is the same: that block is copied. */
		cached_rig.blocks.count = 2;
		cached_rig.blocks.tokens = BLOCK + 1;
		other = cached_rig_reopen(&cached_rig, BLOCK + 1, 2);
		cached_rig_grow(&cached_rig, other, 2 * BLOCK, 27);
		cached_rig_expect(&cached_rig, other, BLOCK + 1, 2 * BLOCK, 27);
		cached_stage_finish();
	}
}

static void expect_loaded(const char *const *sets, const char *layout, uint64_t block_tokens)
{
	cached_stage_start_with(sets, layout, block_tokens, &cached_stage_pool);
	struct hbm_sequence *sequence = cached_rig_fill(&cached_rig, 32);

	cached_rig_chain(&cached_rig, 1, 32 / block_tokens);
	cached_rig_store(&cached_rig, sequence, 0);
	struct hbm_sequence *other = cached_rig_reopen(&cached_rig, 32, 0);

	cached_rig_expect(&cached_rig, other, 32, 32, 0);
	cached_rig_grow(&cached_rig, other, 40, 9);
	cached_rig_expect(&cached_rig, other, 32, 40, 9);
	cached_stage_finish();
}

static void test_what_cannot_be_lent_is_loaded(void **state)
{
	(void)state;
	static const char *const none[] = {"device.lend=0", NULL};

	expect_loaded(none, cached_rig_layouts[0], BLOCK);
	expect_loaded(cached_stage_lends, cached_rig_layouts[0], 2);
	for (size_t i = 0; pool_rig_layouts[i]; i++)
		expect_loaded(cached_stage_lends, pool_rig_layouts[i], 32);
}

/* Room for one block: the others are loaded, or lent when it is not on loan. */
static void test_there_is_room_for_one_loan(void **state)
{
	(void)state;
	static const char *const one[] = {"device.lend=4MiB", NULL};

	cached_stage_start_with(one, cached_rig_layouts[0], BLOCK, &cached_stage_pool);
	struct hbm_sequence *lender = cached_rig_fill(&cached_rig, 3 * BLOCK);

	cached_rig_chain(&cached_rig, 1, 3);
	cached_rig_store(&cached_rig, lender, 0);
	struct hbm_sequence *borrower = cached_rig_reopen(&cached_rig, 3 * BLOCK, 2);

	cached_rig_expect(&cached_rig, borrower, 3 * BLOCK, 3 * BLOCK, 0);
	cached_rig_expect(&cached_rig, cached_rig_reopen(&cached_rig, 3 * BLOCK, 2), 3 * BLOCK,
			  3 * BLOCK, 0);
	assert_true(spawn_balanced(&daemon_));
	cached_stage_finish();
}

/* A prefix ends where the cache has no more of it. */
static void test_the_longest_prefix(void **state)
{
	(void)state;
	cached_stage_start(cached_rig_layouts[0]);
	struct hbm_sequence *sequence = cached_rig_fill(&cached_rig, 4 * BLOCK);

	cached_rig_chain(&cached_rig, 1, 2);
	assert_int_equal(pool_rig_facts(cached_rig_reopen(&cached_rig, 0, 0)).mapped_bytes, 0);
	cached_rig_store(&cached_rig, sequence, 0);
	cached_rig_chain(&cached_rig, 1, 4);
	struct hbm_sequence *other = cached_rig_reopen(&cached_rig, 2 * BLOCK, 4);

	cached_rig_expect(&cached_rig, other, 2 * BLOCK, 2 * BLOCK, 0);

	/* The chain goes on. */
	cached_rig_store(&cached_rig, sequence, 2);
	cached_rig_expect(&cached_rig, cached_rig_reopen(&cached_rig, 4 * BLOCK, 8), 4 * BLOCK,
			  4 * BLOCK, 0);
	cached_stage_finish();
}

/* Tenants that a salt keeps apart share nothing: the same tokens are the other's own. */
static void test_another_salt_is_another_cache(void **state)
{
	(void)state;
	const struct hbm_namespace_options salted = {.model = "cached", .salt = "another tenant"};

	cached_stage_start(cached_rig_layouts[0]);
	struct hbm_sequence *sequence = cached_rig_fill(&cached_rig, 3 * BLOCK);

	cached_rig_chain(&cached_rig, 1, 3);
	cached_rig_store(&cached_rig, sequence, 0);
	assert_int_equal(
		hbm_pool_namespace(cached_rig.pool.pool, &salted, BLOCK, &cached_rig.blocks.ns), 0);
	assert_int_not_equal(cached_rig.blocks.ns, cached_rig.ns);
	cached_rig_reopen(&cached_rig, 0, 0);

	struct hbm_sequence *other = cached_rig_fill(&cached_rig, 2 * BLOCK);
	const uint64_t slabs = cached_rig_leased(&cached_rig);

	cached_rig_chain(&cached_rig, 1, 2);
	cached_rig_store(&cached_rig, other, 0);
	cached_rig_reopen(&cached_rig, 2 * BLOCK, 4);
	assert_int_equal(cached_rig_leased(&cached_rig), slabs);
	assert_int_equal(cached_rig_device(&cached_rig).lent, 10 * RIG_SLAB);
	assert_true(spawn_balanced(&daemon_));
	cached_stage_finish();
}

/* ---- What the daemon does with borrowed slabs ---- */

static void test_borrowed_slabs_are_stored_and_not_loaded_into(void **state)
{
	(void)state;
	cached_stage_start(cached_rig_layouts[0]);
	struct hbm_sequence *lender = cached_rig_fill(&cached_rig, BLOCK);

	cached_rig_chain(&cached_rig, 1, 1);
	cached_rig_store(&cached_rig, lender, 0);
	cached_stage_close(lender);
	struct hbm_sequence *borrower = cached_rig_reopen(&cached_rig, BLOCK, 2);
	const struct hbm_sequence_facts facts = pool_rig_facts(borrower);
	struct hbm_region *region = hbm_pool_region(cached_rig.pool.pool);
	const uint64_t half = facts.address - hbm_region_address(region);
	const uint64_t values = half + hbm_region_bytes(region) / 8 / 2;
	struct hbm_segment segments[] = {{region, half, RIG_SLAB}, {region, values, RIG_SLAB}};
	struct hbm_block block = {.key = kv_key(77), .segments = segments, .segment_count = 2};
	hbm_result result;

	assert_int_equal(hbm_store(cached_rig.pool.hbm, cached_rig.ns, &block, 1, &result), 0);
	assert_int_equal(result.status, HBM_OK);
	const int r = hbm_load(cached_rig.pool.hbm, cached_rig.ns, &block, 1, &result);
	assert_int_equal(r ? r : result.status, HBM_DENIED);
	assert_true(spawn_balanced(&daemon_));

	cached_rig_chain(&cached_rig, 77, 1);
	cached_rig_expect(&cached_rig, cached_rig_reopen(&cached_rig, BLOCK, 2), BLOCK, BLOCK, 0);
	cached_stage_finish();
}

/* ---- Bad input ---- */

static int open_on(struct hbm_token_blocks blocks, const struct hbm_sequence_options *options)
{
	struct hbm_sequence *sequence = NULL;
	uint64_t tokens = 99;
	int r = hbm_sequence_open_cached(cached_rig.pool.pool, options, &blocks, &sequence,
					 &tokens);

	if (r) {
		assert_null(sequence);
		assert_int_equal(tokens, 99);
		assert_true(strlen(hbm_pool_error(cached_rig.pool.pool)) > 0);
	}

	return r;
}

static void test_bad_input(void **state)
{
	(void)state;
	const struct hbm_sequence_options six = {.max = 6};
	struct hbm_pool_facts before, after;
	uint32_t ns;

	cached_stage_start(cached_rig_layouts[2]);
	struct hbm_sequence *sequence = cached_rig_fill(&cached_rig, 2 * BLOCK);

	cached_rig_chain(&cached_rig, 1, 2);
	cached_rig_store(&cached_rig, sequence, 0);
	hbm_pool_facts(cached_rig.pool.pool, &before);

	const struct hbm_token_blocks good = cached_rig.blocks;
	struct hbm_token_blocks bad = good;

	assert_int_equal(open_on(good, &six), HBM_INVALID); /* 8 tokens */
	bad.block_tokens = 0;
	assert_int_equal(open_on(bad, NULL), HBM_INVALID);
	bad.block_tokens = 6; /* no whole number of pages */
	assert_int_equal(open_on(bad, NULL), HBM_INVALID);
	bad = good;
	bad.count = 17; /* more than a slot has */
	assert_int_equal(open_on(bad, NULL), HBM_INVALID);
	bad.count = SIZE_MAX / 2;
	assert_int_equal(open_on(bad, NULL), HBM_INVALID);
	bad = good;
	bad.tokens = BLOCK; /* that is one block, and there are two */
	assert_int_equal(open_on(bad, NULL), HBM_INVALID);
	bad.tokens = 2 * BLOCK + 1;
	assert_int_equal(open_on(bad, NULL), HBM_INVALID);
	bad = good;
	bad.keys = NULL;
	assert_int_equal(open_on(bad, NULL), HBM_INVALID);
	bad = good;
	bad.ns = 999;
	assert_int_equal(open_on(bad, NULL), HBM_NOT_FOUND);

	assert_int_equal(hbm_sequence_store(NULL, &good, 0, NULL), HBM_INVALID);
	assert_int_equal(hbm_sequence_store(sequence, &good, 3, NULL), HBM_INVALID);
	bad = good;
	bad.count = 3;
	assert_int_equal(hbm_sequence_store(sequence, &bad, 0, NULL), HBM_INVALID);
	assert_int_equal(hbm_pool_namespace(cached_rig.pool.pool,
					    &(struct hbm_namespace_options){0}, 6, &ns),
			 HBM_INVALID);

	hbm_pool_facts(cached_rig.pool.pool, &after);
	assert_memory_equal(&before, &after, sizeof(before));

	cached_stage_close(sequence);
	assert_int_equal(hbm_sequence_store(sequence, &good, 0, NULL), HBM_INVALID);
	cached_stage_finish();
}

static void test_a_layout_with_states_has_no_blocks(void **state)
{
	(void)state;
	struct pool_rig states;
	uint32_t ns;

	spawn_start(&daemon_, cached_stage_lends, NULL);
	cached_stage_fds = spawn_fds(&daemon_);
	pool_rig_open(&states, &daemon_,
		      "layers=2 order=token max=64 layer=0 heads=4 dim=16384 bytes=4 "
		      "layer=1 state=4096",
		      &cached_stage_pool);
	assert_int_equal(hbm_layout_block_tokens(states.layout), 0);
	assert_int_equal(
		hbm_pool_namespace(states.pool, &(struct hbm_namespace_options){0}, 4, &ns),
		HBM_UNSUPPORTED);
	pool_rig_close(&states);
	stage_finish(cached_stage_fds);
}

/* ---- With a thread ---- */

/* What is in front of a window may be given up, or not yet: it is refused. */
static void test_what_a_window_has_given_up_is_not_stored(void **state)
{
	(void)state;
	cached_stage_start("layers=2 order=token max=64 layer=0 heads=4 dim=16384 bytes=4 window=8 "
			   "layer=1 heads=4 dim=16384 bytes=4");
	cached_rig_chain(&cached_rig, 1, 16);
	struct hbm_sequence *sequence = cached_rig_fill(&cached_rig, 8);

	for (uint64_t end = 12; end <= 64; end += 4)
		cached_rig_grow(&cached_rig, sequence, end, 0);

	for (size_t first = 0; first < 10; first++) {
		assert_int_equal(hbm_sequence_store(sequence, &cached_rig.blocks, first, NULL),
				 HBM_INVALID);
		assert_non_null(
			strstr(hbm_pool_error(cached_rig.pool.pool), "with tokens 40 to 64"));
	}
	assert_int_equal(hbm_sequence_store(sequence, &cached_rig.blocks, 10, NULL), 0);
	cached_stage_finish();
}

static void test_a_pool_with_a_thread(void **state)
{
	(void)state;
	const struct hbm_pool_options options = {.max_sequences = 8, .map_ahead_thread = true};

	cached_stage_start_with(cached_stage_lends, cached_rig_layouts[0], BLOCK, &options);
	struct hbm_sequence *lender = cached_rig_fill(&cached_rig, 3 * BLOCK);

	cached_rig_chain(&cached_rig, 1, 3);
	cached_rig_store(&cached_rig, lender, 0);
	for (int i = 0; i < 4; i++) {
		struct hbm_sequence *borrower = cached_rig_reopen(&cached_rig, 3 * BLOCK, 6);

		cached_rig_grow(&cached_rig, borrower, 5 * BLOCK, 5);
		cached_rig_expect(&cached_rig, borrower, 3 * BLOCK, 5 * BLOCK, 5);
	}
	cached_stage_finish();
}

#define STAGED(test) cmocka_unit_test_setup_teardown(test, stage_setup, stage_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		STAGED(test_what_is_borrowed_is_copied_before_it_is_written),
		STAGED(test_forks_of_a_borrowed_prefix),
		STAGED(test_a_borrowed_prefix_is_not_kept_warm),
		STAGED(test_a_last_block_of_fewer_tokens_is_copied),
		STAGED(test_what_cannot_be_lent_is_loaded),
		STAGED(test_there_is_room_for_one_loan),
		STAGED(test_the_longest_prefix),
		STAGED(test_another_salt_is_another_cache),
		STAGED(test_borrowed_slabs_are_stored_and_not_loaded_into),
		STAGED(test_bad_input),
		STAGED(test_a_layout_with_states_has_no_blocks),
		STAGED(test_what_a_window_has_given_up_is_not_stored),
		STAGED(test_a_pool_with_a_thread),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
