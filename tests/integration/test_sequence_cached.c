/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sequences on prefixes that the cache has: one physical slab for all processes of a user,
 * whoever leaves first; what is written is a copy; what cannot be lent is loaded.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/cached_rig.h"
#include "tests/support/child.h"
#include "tests/support/stage.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK CACHED_BLOCK

static const struct hbm_pool_options eight = {.max_sequences = 8};
static const char *const lends[] = {"device.lend=64MiB", "ddr.staging=32MiB", NULL};
static struct cached_rig rig;
static unsigned fds;

static void start_with(const char *const *sets, const char *layout, uint64_t block_tokens,
		       const struct hbm_pool_options *options)
{
	if (daemon_.pid == 0) {
		spawn_start(&daemon_, sets, NULL);
		fds = spawn_fds(&daemon_);
	}
	cached_rig_open(&rig, &daemon_, layout, block_tokens, options);
}

static void start(const char *layout)
{
	start_with(lends, layout, BLOCK, &eight);
}

static void finish(void)
{
	cached_rig_close(&rig);
	stage_finish(fds);
}

static uint64_t leased(void)
{
	return cached_rig_device(&rig).leased / RIG_SLAB;
}

/* What has been given back is on its way to the pool for a moment. */
static void wait_for_leased(uint64_t slabs)
{
	for (int i = 0; i < 20000 && leased() != slabs; i++)
		poll(NULL, 0, 1);
	assert_int_equal(leased(), slabs);
}

static void close_sequence(struct hbm_sequence *sequence)
{
	if (hbm_sequence_close(sequence) != 0)
		fail_msg("%s", hbm_pool_error(rig.pool.pool));
}

/* Decimal digits of `number` for child parts: which layout. */
static const char *layout_of(uint64_t number)
{
	return cached_rig_layouts[number];
}

/* ---- Two processes ---- */

/* Opens a sequence on blocks 1 to 3, compares it, tells, goes on when it has been told to by a
 * signal, and compares again. */
static volatile sig_atomic_t told;

static void hear(int signal)
{
	(void)signal;
	told = 1;
}

static void read_on(const struct spawn *spawn, uint64_t number)
{
	signal(SIGUSR1, hear);
	cached_rig_open(&rig, spawn, layout_of(number), BLOCK, &eight);
	cached_rig_chain(&rig, 1, 3);
	struct hbm_sequence *sequence = cached_rig_reopen(&rig, 3 * BLOCK, 3 * CACHED_SLABS);

	cached_rig_expect(&rig, sequence, 3 * BLOCK, 3 * BLOCK, 0);
	child_tell();
	while (!told)
		poll(NULL, 0, 10);

	/* Whatever has become of the lender. */
	cached_rig_expect(&rig, sequence, 3 * BLOCK, 3 * BLOCK, 0);
	cached_rig_grow(&rig, sequence, 4 * BLOCK, 7);
	cached_rig_expect(&rig, sequence, 3 * BLOCK, 4 * BLOCK, 7);
	child_tell();
	for (;;)
		poll(NULL, 0, 1000);
}

static void two_processes(uint64_t number)
{
	struct child child;

	start(layout_of(number));
	struct hbm_sequence *sequence = cached_rig_fill(&rig, 3 * BLOCK + 1);
	const uint64_t slabs = leased();

	cached_rig_chain(&rig, 1, 3);
	cached_rig_store(&rig, sequence, 0);
	assert_int_equal(leased(), slabs);
	assert_int_equal(cached_rig_device(&rig).lent, 3 * CACHED_SLABS * RIG_SLAB);

	/* The other process has the same slabs, and none of its own. */
	child_start(&child, "read_on", &daemon_, number);
	child_await(&child);
	assert_int_equal(leased(), slabs);
	assert_int_equal(cached_rig_device(&rig).loans, 0);
	assert_true(spawn_balanced(&daemon_));

	/* The lender writes to its own: what it has lent is copied before. */
	assert_int_equal(hbm_sequence_truncate(sequence, BLOCK + 2), 0);
	cached_rig_grow(&rig, sequence, 4 * BLOCK, 1000);
	cached_rig_expect(&rig, sequence, BLOCK + 2, 4 * BLOCK, 1000);

	/* And leaves. */
	close_sequence(sequence);
	wait_for_leased(3 * CACHED_SLABS);
	kill(child.pid, SIGUSR1);
	child_await(&child);
	assert_true(spawn_balanced(&daemon_));
	assert_int_equal(child_kill(&child), 128 + SIGKILL);
	wait_for_leased(3 * CACHED_SLABS);
	assert_true(spawn_balanced(&daemon_));

	/* Nobody has it: it is there for the next, or for who needs the memory. */
	assert_int_equal(hbm_keys(rig.pool.hbm, HBM_WIRE_REMOVE, rig.ns, 0, rig.keys, 1, NULL), 0);
	wait_for_leased(0);
	finish();
}

static void test_two_processes_have_one_prefix(void **state)
{
	(void)state;
	for (uint64_t i = 0; cached_rig_layouts[i]; i++)
		two_processes(i);
}

/* Opens a sequence on blocks 1 to 3, and leaves in an orderly way. */
static void visit(const struct spawn *spawn, uint64_t number)
{
	signal(SIGUSR1, hear);
	cached_rig_open(&rig, spawn, layout_of(number), BLOCK, &eight);
	cached_rig_chain(&rig, 1, 3);
	cached_rig_expect(&rig, cached_rig_reopen(&rig, 3 * BLOCK, 3 * CACHED_SLABS), 3 * BLOCK,
			  3 * BLOCK, 0);
	child_tell();
	while (!told)
		poll(NULL, 0, 10);
	cached_rig_close(&rig);
}

/* Who leaves takes nothing from the lender: the next one has the same slabs, and no copy. */
static void test_borrowers_come_and_go(void **state)
{
	(void)state;
	start(layout_of(0));
	struct hbm_sequence *sequence = cached_rig_fill(&rig, 3 * BLOCK);
	const uint64_t slabs = leased();

	cached_rig_chain(&rig, 1, 3);
	cached_rig_store(&rig, sequence, 0);
	for (unsigned i = 0; i < 3; i++) {
		struct child child;

		child_start(&child, "visit", &daemon_, 0);
		child_await(&child);
		assert_int_equal(leased(), slabs);
		kill(child.pid, SIGUSR1);
		assert_int_equal(child_wait(&child), 0);
		assert_int_equal(cached_rig_device(&rig).lent, 3 * CACHED_SLABS * RIG_SLAB);
		assert_true(spawn_balanced(&daemon_));
	}
	assert_int_equal(hbm_keys(rig.pool.hbm, HBM_WIRE_REMOVE, rig.ns, 0, rig.keys, 1, NULL), 0);
	finish();
}

/* ---- One process ---- */

static void test_what_is_borrowed_is_copied_before_it_is_written(void **state)
{
	(void)state;
	start(layout_of(0));
	struct hbm_sequence *lender = cached_rig_fill(&rig, 3 * BLOCK);

	cached_rig_chain(&rig, 1, 3);
	cached_rig_store(&rig, lender, 0);
	struct hbm_sequence *borrower = cached_rig_reopen(&rig, 3 * BLOCK, 6);

	assert_int_equal(hbm_sequence_truncate(borrower, BLOCK + 1), 0);
	assert_int_equal(pool_rig_facts(borrower).lent_bytes, 4 * RIG_SLAB);
	cached_rig_grow(&rig, borrower, 3 * BLOCK, 50);
	assert_int_equal(pool_rig_facts(borrower).lent_bytes, 2 * RIG_SLAB);
	cached_rig_expect(&rig, borrower, BLOCK + 1, 3 * BLOCK, 50);
	cached_rig_expect(&rig, lender, 3 * BLOCK, 3 * BLOCK, 0);

	/* The first block is slid away, and given back with that. */
	assert_int_equal(hbm_sequence_slide(borrower, BLOCK), 0);
	assert_int_equal(pool_rig_facts(borrower).lent_bytes, 0);
	assert_true(spawn_balanced(&daemon_));
	finish();
}

static void test_forks_of_a_borrowed_prefix(void **state)
{
	(void)state;
	struct hbm_sequence *forks[2];

	start(layout_of(0));
	struct hbm_sequence *lender = cached_rig_fill(&rig, 3 * BLOCK);

	cached_rig_chain(&rig, 1, 3);
	cached_rig_store(&rig, lender, 0);
	close_sequence(lender);
	wait_for_leased(6);

	struct hbm_sequence *parent = cached_rig_reopen(&rig, 3 * BLOCK, 6);

	assert_int_equal(hbm_sequence_fork(parent, 2, forks), 0);
	cached_rig_grow(&rig, forks[0], 4 * BLOCK, 10);
	cached_rig_grow(&rig, forks[1], 4 * BLOCK, 20);
	assert_int_equal(pool_rig_facts(forks[0]).lent_bytes, 6 * RIG_SLAB);
	close_sequence(parent);
	assert_true(spawn_balanced(&daemon_));

	/* Beams: all of the first one is taken over, what is borrowed stays so. */
	const uint32_t from[] = {0, 0};
	if (hbm_sequences_reorder(rig.pool.pool, forks, from, 2) != 0)
		fail_msg("%s", hbm_pool_error(rig.pool.pool));
	cached_rig_expect(&rig, forks[1], 3 * BLOCK, 4 * BLOCK, 10);

	/* One of them goes its own way from the middle of what all have. */
	assert_int_equal(hbm_sequence_truncate(forks[0], BLOCK + 1), 0);
	cached_rig_grow(&rig, forks[0], 2 * BLOCK, 30);
	cached_rig_expect(&rig, forks[0], BLOCK + 1, 2 * BLOCK, 30);
	cached_rig_expect(&rig, forks[1], 3 * BLOCK, 4 * BLOCK, 10);
	assert_int_equal(pool_rig_facts(forks[0]).lent_bytes, 2 * RIG_SLAB);

	/* A sequence that has none of the prefix takes it over from one that has. */
	struct hbm_sequence *pair[] = {forks[1], pool_rig_sequence(&rig.pool)};
	assert_int_equal(hbm_sequences_reorder(rig.pool.pool, pair, from, 2), 0);
	cached_rig_expect(&rig, pair[1], 3 * BLOCK, 4 * BLOCK, 10);
	assert_int_equal(pool_rig_facts(pair[1]).lent_bytes, 6 * RIG_SLAB);
	assert_true(spawn_balanced(&daemon_));
	finish();
}

/* A slot that is warm is used, too; and what is borrowed does not stay in it. */
static void test_a_borrowed_prefix_is_not_kept_warm(void **state)
{
	(void)state;
	const struct hbm_pool_options options = {.max_sequences = 1, .warm_bytes = 64 << 20};

	start_with(lends, layout_of(0), BLOCK, &options);
	struct hbm_sequence *lender = cached_rig_fill(&rig, 4 * BLOCK);

	cached_rig_chain(&rig, 1, 2);
	cached_rig_store(&rig, lender, 0);
	close_sequence(lender);

	/* Two blocks are lent, and gone from the slot; two are warm, and one more slab of each
	 * buffer was mapped ahead. */
	for (int i = 0; i < 2; i++) {
		struct hbm_sequence *borrower = cached_rig_reopen(&rig, 2 * BLOCK, 4);

		cached_rig_expect(&rig, borrower, 2 * BLOCK, 2 * BLOCK, 0);
		cached_rig_grow(&rig, borrower, 4 * BLOCK, 5);
		cached_rig_expect(&rig, borrower, 2 * BLOCK, 4 * BLOCK, 5);
		close_sequence(borrower);
	}

	struct hbm_sequence *next = cached_rig_fill(&rig, 4 * BLOCK);

	assert_int_equal(pool_rig_facts(next).lent_bytes, 0);
	assert_int_equal(pool_rig_facts(next).shared_bytes, 0);
	close_sequence(next);
	cached_rig_chain(&rig, 1, 2);
	cached_rig_expect(&rig, cached_rig_reopen(&rig, 2 * BLOCK, 4), 2 * BLOCK, 2 * BLOCK, 0);
	finish();
}

/* ---- What is copied ---- */

static void test_a_last_block_of_fewer_tokens_is_copied(void **state)
{
	(void)state;
	for (uint64_t i = 0; cached_rig_layouts[i]; i++) {
		start(layout_of(i));
		struct hbm_sequence *sequence = cached_rig_fill(&rig, 2 * BLOCK + 3);

		cached_rig_chain(&rig, 1, 3);
		rig.blocks.tokens = 2 * BLOCK + 3;
		cached_rig_store(&rig, sequence, 0);
		struct hbm_sequence *other = cached_rig_reopen(&rig, 2 * BLOCK + 3, 4);

		cached_rig_expect(&rig, other, 2 * BLOCK + 3, 2 * BLOCK + 3, 0);
		cached_rig_grow(&rig, other, 3 * BLOCK, 9);
		cached_rig_grow(&rig, sequence, 3 * BLOCK, 18);
		cached_rig_expect(&rig, other, 2 * BLOCK + 3, 3 * BLOCK, 9);
		cached_rig_expect(&rig, sequence, 2 * BLOCK + 3, 3 * BLOCK, 18);

		/* Only a part of a block is the same: that block is copied. */
		rig.blocks.count = 2;
		rig.blocks.tokens = BLOCK + 1;
		other = cached_rig_reopen(&rig, BLOCK + 1, 2);
		cached_rig_grow(&rig, other, 2 * BLOCK, 27);
		cached_rig_expect(&rig, other, BLOCK + 1, 2 * BLOCK, 27);
		finish();
	}
}

static void expect_loaded(const char *const *sets, const char *layout, uint64_t block_tokens)
{
	start_with(sets, layout, block_tokens, &eight);
	struct hbm_sequence *sequence = cached_rig_fill(&rig, 32);

	cached_rig_chain(&rig, 1, 32 / block_tokens);
	cached_rig_store(&rig, sequence, 0);
	struct hbm_sequence *other = cached_rig_reopen(&rig, 32, 0);

	cached_rig_expect(&rig, other, 32, 32, 0);
	cached_rig_grow(&rig, other, 40, 9);
	cached_rig_expect(&rig, other, 32, 40, 9);
	finish();
}

static void test_what_cannot_be_lent_is_loaded(void **state)
{
	(void)state;
	static const char *const none[] = {"device.lend=0", NULL};

	expect_loaded(none, layout_of(0), BLOCK);
	expect_loaded(lends, layout_of(0), 2);
	for (size_t i = 0; pool_rig_layouts[i]; i++)
		expect_loaded(lends, pool_rig_layouts[i], 32);
}

/* Room for one block: the others are loaded, or lent when it is not on loan. */
static void test_there_is_room_for_one_loan(void **state)
{
	(void)state;
	static const char *const one[] = {"device.lend=4MiB", NULL};

	start_with(one, layout_of(0), BLOCK, &eight);
	struct hbm_sequence *lender = cached_rig_fill(&rig, 3 * BLOCK);

	cached_rig_chain(&rig, 1, 3);
	cached_rig_store(&rig, lender, 0);
	struct hbm_sequence *borrower = cached_rig_reopen(&rig, 3 * BLOCK, 2);

	cached_rig_expect(&rig, borrower, 3 * BLOCK, 3 * BLOCK, 0);
	cached_rig_expect(&rig, cached_rig_reopen(&rig, 3 * BLOCK, 2), 3 * BLOCK, 3 * BLOCK, 0);
	assert_true(spawn_balanced(&daemon_));
	finish();
}

/* A prefix ends where the cache has no more of it. */
static void test_the_longest_prefix(void **state)
{
	(void)state;
	start(layout_of(0));
	struct hbm_sequence *sequence = cached_rig_fill(&rig, 4 * BLOCK);

	cached_rig_chain(&rig, 1, 2);
	assert_int_equal(pool_rig_facts(cached_rig_reopen(&rig, 0, 0)).mapped_bytes, 0);
	cached_rig_store(&rig, sequence, 0);
	cached_rig_chain(&rig, 1, 4);
	struct hbm_sequence *other = cached_rig_reopen(&rig, 2 * BLOCK, 4);

	cached_rig_expect(&rig, other, 2 * BLOCK, 2 * BLOCK, 0);

	/* The chain goes on. */
	cached_rig_store(&rig, sequence, 2);
	cached_rig_expect(&rig, cached_rig_reopen(&rig, 4 * BLOCK, 8), 4 * BLOCK, 4 * BLOCK, 0);
	finish();
}

/* Tenants that a salt keeps apart share nothing: the same tokens are the other's own. */
static void test_another_salt_is_another_cache(void **state)
{
	(void)state;
	const struct hbm_namespace_options salted = {.model = "cached", .salt = "another tenant"};

	start(layout_of(0));
	struct hbm_sequence *sequence = cached_rig_fill(&rig, 3 * BLOCK);

	cached_rig_chain(&rig, 1, 3);
	cached_rig_store(&rig, sequence, 0);
	assert_int_equal(hbm_pool_namespace(rig.pool.pool, &salted, BLOCK, &rig.blocks.ns), 0);
	assert_int_not_equal(rig.blocks.ns, rig.ns);
	cached_rig_reopen(&rig, 0, 0);

	struct hbm_sequence *other = cached_rig_fill(&rig, 2 * BLOCK);
	const uint64_t slabs = leased();

	cached_rig_chain(&rig, 1, 2);
	cached_rig_store(&rig, other, 0);
	cached_rig_reopen(&rig, 2 * BLOCK, 4);
	assert_int_equal(leased(), slabs);
	assert_int_equal(cached_rig_device(&rig).lent, 10 * RIG_SLAB);
	assert_true(spawn_balanced(&daemon_));
	finish();
}

/* ---- What the daemon does with borrowed slabs ---- */

static void test_borrowed_slabs_are_stored_and_not_loaded_into(void **state)
{
	(void)state;
	start(layout_of(0));
	struct hbm_sequence *lender = cached_rig_fill(&rig, BLOCK);

	cached_rig_chain(&rig, 1, 1);
	cached_rig_store(&rig, lender, 0);
	close_sequence(lender);
	struct hbm_sequence *borrower = cached_rig_reopen(&rig, BLOCK, 2);
	const struct hbm_sequence_facts facts = pool_rig_facts(borrower);
	struct hbm_region *region = hbm_pool_region(rig.pool.pool);
	const uint64_t half = facts.address - hbm_region_address(region);
	const uint64_t values = half + hbm_region_bytes(region) / 8 / 2;
	struct hbm_segment segments[] = {{region, half, RIG_SLAB}, {region, values, RIG_SLAB}};
	struct hbm_block block = {.key = kv_key(77), .segments = segments, .segment_count = 2};
	hbm_result result;

	assert_int_equal(hbm_store(rig.pool.hbm, rig.ns, &block, 1, &result), 0);
	assert_int_equal(result.status, HBM_OK);
	const int r = hbm_load(rig.pool.hbm, rig.ns, &block, 1, &result);
	assert_int_equal(r ? r : result.status, HBM_DENIED);
	assert_true(spawn_balanced(&daemon_));

	cached_rig_chain(&rig, 77, 1);
	cached_rig_expect(&rig, cached_rig_reopen(&rig, BLOCK, 2), BLOCK, BLOCK, 0);
	finish();
}

/* ---- Bad input ---- */

static int open_on(struct hbm_token_blocks blocks, const struct hbm_sequence_options *options)
{
	struct hbm_sequence *sequence = NULL;
	uint64_t tokens = 99;
	int r = hbm_sequence_open_cached(rig.pool.pool, options, &blocks, &sequence, &tokens);

	if (r) {
		assert_null(sequence);
		assert_int_equal(tokens, 99);
		assert_true(strlen(hbm_pool_error(rig.pool.pool)) > 0);
	}

	return r;
}

static void test_bad_input(void **state)
{
	(void)state;
	const struct hbm_sequence_options six = {.max = 6};
	struct hbm_pool_facts before, after;
	uint32_t ns;

	start(layout_of(2));
	struct hbm_sequence *sequence = cached_rig_fill(&rig, 2 * BLOCK);

	cached_rig_chain(&rig, 1, 2);
	cached_rig_store(&rig, sequence, 0);
	hbm_pool_facts(rig.pool.pool, &before);

	const struct hbm_token_blocks good = rig.blocks;
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
	assert_int_equal(
		hbm_pool_namespace(rig.pool.pool, &(struct hbm_namespace_options){0}, 6, &ns),
		HBM_INVALID);

	hbm_pool_facts(rig.pool.pool, &after);
	assert_memory_equal(&before, &after, sizeof(before));

	close_sequence(sequence);
	assert_int_equal(hbm_sequence_store(sequence, &good, 0, NULL), HBM_INVALID);
	finish();
}

static void test_a_layout_with_states_has_no_blocks(void **state)
{
	(void)state;
	struct pool_rig states;
	uint32_t ns;

	spawn_start(&daemon_, lends, NULL);
	fds = spawn_fds(&daemon_);
	pool_rig_open(&states, &daemon_,
		      "layers=2 order=token max=64 layer=0 heads=4 dim=16384 bytes=4 "
		      "layer=1 state=4096",
		      &eight);
	assert_int_equal(hbm_layout_block_tokens(states.layout), 0);
	assert_int_equal(
		hbm_pool_namespace(states.pool, &(struct hbm_namespace_options){0}, 4, &ns),
		HBM_UNSUPPORTED);
	pool_rig_close(&states);
	stage_finish(fds);
}

/* ---- With a thread ---- */

/* What is in front of a window may be given up, or not yet: it is refused. */
static void test_what_a_window_has_given_up_is_not_stored(void **state)
{
	(void)state;
	start("layers=2 order=token max=64 layer=0 heads=4 dim=16384 bytes=4 window=8 "
	      "layer=1 heads=4 dim=16384 bytes=4");
	cached_rig_chain(&rig, 1, 16);
	struct hbm_sequence *sequence = cached_rig_fill(&rig, 8);

	for (uint64_t end = 12; end <= 64; end += 4)
		cached_rig_grow(&rig, sequence, end, 0);

	for (size_t first = 0; first < 10; first++) {
		assert_int_equal(hbm_sequence_store(sequence, &rig.blocks, first, NULL),
				 HBM_INVALID);
		assert_non_null(strstr(hbm_pool_error(rig.pool.pool), "with tokens 40 to 64"));
	}
	assert_int_equal(hbm_sequence_store(sequence, &rig.blocks, 10, NULL), 0);
	finish();
}

static void test_a_pool_with_a_thread(void **state)
{
	(void)state;
	const struct hbm_pool_options options = {.max_sequences = 8, .map_ahead_thread = true};

	start_with(lends, layout_of(0), BLOCK, &options);
	struct hbm_sequence *lender = cached_rig_fill(&rig, 3 * BLOCK);

	cached_rig_chain(&rig, 1, 3);
	cached_rig_store(&rig, lender, 0);
	for (int i = 0; i < 4; i++) {
		struct hbm_sequence *borrower = cached_rig_reopen(&rig, 3 * BLOCK, 6);

		cached_rig_grow(&rig, borrower, 5 * BLOCK, 5);
		cached_rig_expect(&rig, borrower, 3 * BLOCK, 5 * BLOCK, 5);
	}
	finish();
}

/* ---- Clients that are killed ---- */

#define STEPS 7u

static void step(uint64_t at, struct hbm_sequence **lender, struct hbm_sequence **borrower)
{
	switch (at) {
	case 0:
		*lender = cached_rig_fill(&rig, 3 * BLOCK);
		break;
	case 1:
		cached_rig_store(&rig, *lender, 0);
		break;
	case 2:
		*borrower = cached_rig_reopen(&rig, 3 * BLOCK, 6);
		break;
	case 3:
		close_sequence(*lender);
		break;
	case 4:
		assert_int_equal(hbm_sequence_fork(*borrower, 1, lender), 0);
		cached_rig_grow(&rig, *lender, 4 * BLOCK, 3);
		break;
	case 5:
		assert_int_equal(hbm_sequence_truncate(*lender, BLOCK + 1), 0);
		cached_rig_grow(&rig, *lender, 2 * BLOCK, 4);
		break;
	default:
		close_sequence(*borrower);
	}
}

static void live_and_die(const struct spawn *spawn, uint64_t steps)
{
	struct hbm_sequence *lender = NULL, *borrower = NULL;

	cached_rig_open(&rig, spawn, layout_of(0), BLOCK, &eight);
	cached_rig_chain(&rig, 1, 3);
	for (uint64_t i = 0; i < steps; i++)
		step(i, &lender, &borrower);
	kill(getpid(), SIGKILL);
}

/* Borrows what another has stored. */
static void borrow_and_die(const struct spawn *spawn, uint64_t steps)
{
	struct hbm_sequence *fork = NULL, *borrower = NULL;

	cached_rig_open(&rig, spawn, layout_of(0), BLOCK, &eight);
	cached_rig_chain(&rig, 1, 3);
	for (uint64_t i = 2; i < steps; i++)
		if (i != 3)
			step(i, &fork, &borrower);
	kill(getpid(), SIGKILL);
}

static void die(const char *part, uint64_t steps)
{
	struct child child;

	child_start(&child, part, &daemon_, steps);
	assert_int_equal(child_wait(&child), 128 + SIGKILL);
}

/* What it has lent stays for the next, as long as its blocks do. */
static void drop_what_is_left(void)
{
	cached_rig_open(&rig, &daemon_, layout_of(0), BLOCK, &eight);
	assert_true(spawn_balanced(&daemon_));
	cached_rig_chain(&rig, 1, 3);
	hbm_keys(rig.pool.hbm, HBM_WIRE_REMOVE, rig.ns, 0, rig.keys, 3, NULL);
	wait_for_leased(0);
	assert_true(spawn_balanced(&daemon_));
	cached_rig_close(&rig);
}

static void test_killed_at_every_step(void **state)
{
	(void)state;
	for (uint64_t steps = 0; steps <= STEPS; steps++) {
		spawn_start(&daemon_, lends, NULL);
		fds = spawn_fds(&daemon_);
		die("live_and_die", steps);
		drop_what_is_left();
		stage_finish(fds);
	}
}

static void test_borrowers_are_killed_at_every_step(void **state)
{
	(void)state;
	start(layout_of(0));
	struct hbm_sequence *lender = cached_rig_fill(&rig, 3 * BLOCK);
	const uint64_t slabs = leased();

	cached_rig_chain(&rig, 1, 3);
	cached_rig_store(&rig, lender, 0);
	for (uint64_t steps = 2; steps <= STEPS; steps++) {
		die("borrow_and_die", steps);
		wait_for_leased(slabs);
		assert_true(spawn_balanced(&daemon_));
		cached_rig_expect(&rig, lender, 3 * BLOCK, 3 * BLOCK, 0);
	}
	cached_rig_close(&rig);
	drop_what_is_left();
	stage_finish(fds);
}

static const struct child_part parts[] = {{"read_on", read_on},
					  {"visit", visit},
					  {"live_and_die", live_and_die},
					  {"borrow_and_die", borrow_and_die},
					  {NULL, NULL}};

#define STAGED(test) cmocka_unit_test_setup_teardown(test, stage_setup, stage_teardown)

int main(int argc, char **argv)
{
	child_main(argc, argv, parts);
	const struct CMUnitTest tests[] = {
		STAGED(test_two_processes_have_one_prefix),
		STAGED(test_borrowers_come_and_go),
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
		STAGED(test_killed_at_every_step),
		STAGED(test_borrowers_are_killed_at_every_step),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
