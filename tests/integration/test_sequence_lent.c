/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Slabs that a sequence has lent to the cache and given up, where all other memory is promised
 * or used: the cache drops them before a sequence is refused what it was promised, unless
 * somebody has them on loan.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/cached_rig.h"
#include "tests/support/stage.h"

#include <string.h>

#define PREFIX (3 * CACHED_BLOCK)
#define LENT (3 * CACHED_SLABS * RIG_SLAB)
#define EXPECTED 40

static struct cached_rig rig;    /* lends */
static struct cached_rig second; /* borrows */
static struct pool_rig other;    /* takes all memory that there is */
static struct hbm_sequence *lender;
static unsigned fds;

static void start(void)
{
	static const char *const sets[] = {"device.lend=64MiB", "ddr.staging=32MiB",
					   "ddr.size=160MiB", NULL};
	static const struct hbm_pool_options options = {.max_sequences = 16};
	const struct hbm_sequence_options expects = {.expected = EXPECTED};

	spawn_start(&daemon_, sets, NULL);
	fds = spawn_fds(&daemon_);
	cached_rig_open(&rig, &daemon_, cached_rig_layouts[0], CACHED_BLOCK, &options);
	cached_rig_open(&second, &daemon_, cached_rig_layouts[0], CACHED_BLOCK, &options);
	pool_rig_open(&other, &daemon_, cached_rig_layouts[0], &options);

	assert_int_equal(hbm_sequence_open(rig.pool.pool, &expects, &lender), 0);
	cached_rig_grow(&rig, lender, PREFIX, 0);
	cached_rig_chain(&rig, 1, 3);
	cached_rig_chain(&second, 1, 3);
	cached_rig_store(&rig, lender, 0);
	assert_int_equal(cached_rig_device(&rig).lent, LENT);
}

/* What is idle stays for the next process, while its blocks are there. */
static void finish(void)
{
	pool_rig_close(&other);
	assert_int_equal(hbm_keys(rig.pool.hbm, HBM_WIRE_REMOVE, rig.ns, 0, rig.keys, 3, NULL), 0);
	cached_rig_close(&second);
	cached_rig_close(&rig);
	stage_finish(fds);
}

static void take_the_rest(void)
{
	for (int i = 0; i < 16; i++) {
		struct hbm_sequence *taker = pool_rig_sequence(&other);

		for (uint64_t n = 1; n <= RIG_MAX && pool_rig_step(&other, taker, n) == 0; n++)
			;
		if (pool_rig_facts(taker).tokens < RIG_MAX)
			return;
	}
	fail_msg("there is memory left");
}

/* The lender writes all its tokens anew. */
static void give_up(void)
{
	const uint64_t promised = pool_rig_facts(lender).promised_bytes;

	assert_int_equal(hbm_sequence_truncate(lender, 0), 0);
	assert_int_equal(pool_rig_facts(lender).promised_bytes, promised + LENT);
	assert_int_equal(pool_rig_session(&rig.pool).lent_left, LENT);
	pool_rig_check_books(&rig.pool);
}

/* The tokens that it gets to. */
static uint64_t grow(void)
{
	uint64_t n = pool_rig_facts(lender).tokens;

	for (; n < EXPECTED && pool_rig_step(&rig.pool, lender, n + 1) == 0; n++)
		pool_rig_write(&rig.pool, lender, n, 1000 + n);
	for (uint64_t i = 0; i < n; i++)
		pool_rig_expect(&rig.pool, lender, i, 1000 + i);
	pool_rig_check_books(&rig.pool);

	return n;
}

/* The memory that it is promised is the cache's until it grows. */
static void test_what_is_idle_makes_way(void **state)
{
	(void)state;
	start();
	take_the_rest();
	give_up();
	assert_int_equal(cached_rig_device(&rig).lent, LENT);
	assert_int_equal(grow(), EXPECTED);
	assert_int_equal(cached_rig_device(&rig).lent, 0);
	assert_int_equal(pool_rig_session(&rig.pool).lent_left, 0);
	finish();
}

/* A loan cannot be called back. When it is returned, there is what was promised. */
static void test_what_is_on_loan_is_so_much_less(void **state)
{
	(void)state;
	start();
	struct hbm_sequence *borrower = cached_rig_reopen(&second, PREFIX, 3 * CACHED_SLABS);

	take_the_rest();
	give_up();
	assert_int_equal(grow(), EXPECTED - PREFIX);
	assert_int_equal(pool_rig_step(&rig.pool, lender, EXPECTED), HBM_NO_SPACE);
	assert_int_equal(pool_rig_session(&rig.pool).lent_left, LENT);
	assert_int_equal(pool_rig_session(&rig.pool).promised, 0);
	cached_rig_expect(&second, borrower, PREFIX, PREFIX, 0);

	assert_int_equal(hbm_sequence_close(borrower), 0);
	assert_int_equal(grow(), EXPECTED);
	finish();
}

/* Where there is memory that is neither used nor promised, it takes the place of what was lent. */
static void test_what_is_free_is_promised_instead(void **state)
{
	(void)state;
	start();
	struct hbm_sequence *borrower = cached_rig_reopen(&second, PREFIX, 3 * CACHED_SLABS);

	assert_int_equal(hbm_sequence_truncate(lender, 0), 0);
	assert_int_equal(pool_rig_session(&rig.pool).lent_left, 0);
	pool_rig_check_books(&rig.pool);
	take_the_rest();
	assert_int_equal(grow(), EXPECTED);
	cached_rig_expect(&second, borrower, PREFIX, PREFIX, 0);
	finish();
}

static uint64_t waiting(void)
{
	struct hbm_device_memory memory;

	assert_int_equal(hbm_device_memory(other.hbm, 0, &memory), 0);

	return memory.waiting;
}

/* Whose reservation waits for memory has what is not on loan any more. */
static void test_what_is_returned_is_what_one_waits_for(void **state)
{
	(void)state;
	start();
	struct hbm_sequence *borrower = cached_rig_reopen(&second, PREFIX, 3 * CACHED_SLABS);
	const struct hbm_reserve_change more = {.bytes = LENT}, less = {.bytes = -(int64_t)LENT};
	hbm_ticket ticket;

	assert_int_equal(hbm_sequence_close(lender), 0);
	take_the_rest();
	assert_int_equal(hbm_reserve(rig.pool.hbm, &more, 1, 0), HBM_NO_SPACE);
	assert_int_equal(hbm_submit_reserve(rig.pool.hbm, &more, 1, 60000, &ticket), 0);
	while (waiting() == 0)
		;
	assert_int_equal(hbm_sequence_close(borrower), 0);
	assert_int_equal(hbm_wait(rig.pool.hbm, ticket, -1), 0);
	assert_int_equal(cached_rig_device(&rig).lent, 0);
	assert_int_equal(hbm_reserve(rig.pool.hbm, &less, 1, 0), 0);
	finish();
}

/* What is copied of a prefix needs memory. */
static void test_an_open_that_is_refused_counts_nowhere(void **state)
{
	(void)state;
	start();
	struct hbm_sequence *sequence;
	struct hbm_pool_facts facts;
	uint64_t tokens;

	take_the_rest();
	second.blocks.tokens = PREFIX - 1;
	assert_int_equal(hbm_sequence_open_cached(second.pool.pool, NULL, &second.blocks, &sequence,
						  &tokens),
			 HBM_NO_SPACE);
	assert_non_null(strstr(hbm_pool_error(second.pool.pool), "memory for a cached prefix: "));
	assert_string_equal(hbm_error(second.pool.hbm), hbm_pool_error(second.pool.pool));
	hbm_pool_facts(second.pool.pool, &facts);
	assert_int_equal(facts.open, 0);
	assert_int_equal(facts.totals.closed, 0);
	assert_int_equal(facts.totals.expected_tokens, 0);
	assert_int_equal(pool_rig_session(&second.pool).loans, 0);
	assert_true(spawn_balanced(&daemon_));
	finish();
}

/* Slabs that the pool has, each once, are what the daemon says; of what is borrowed, none. */
static void expect_committed(void)
{
	struct hbm_pool_facts facts;

	hbm_pool_facts(second.pool.pool, &facts);
	assert_int_equal(facts.committed_bytes, pool_rig_session(&second.pool).leased);
	pool_rig_check_books(&second.pool);
}

static void test_a_borrowed_page_is_none_of_the_books(void **state)
{
	(void)state;
	const struct hbm_sequence_options expects = {.expected = EXPECTED};
	struct hbm_sequence *parent, *forks[2];
	uint64_t tokens;

	start();
	assert_int_equal(hbm_sequence_open_cached(second.pool.pool, &expects, &second.blocks,
						  &parent, &tokens),
			 0);
	assert_int_equal(tokens, PREFIX);
	expect_committed();
	assert_int_equal(hbm_sequence_fork(parent, 2, forks), 0);
	for (int i = 0; i < 2; i++)
		assert_int_equal(pool_rig_step(&second.pool, forks[i], PREFIX), 0);
	assert_int_equal(pool_rig_facts(forks[0]).lent_bytes, LENT);
	expect_committed();
	cached_rig_grow(&second, forks[0], PREFIX + 2, 100);
	expect_committed();

	/* The parent goes, a fork writes to a copy, and the last one has it alone. */
	assert_int_equal(hbm_sequence_close(parent), 0);
	expect_committed();
	assert_int_equal(hbm_sequence_truncate(forks[0], 2), 0);
	cached_rig_grow(&second, forks[0], PREFIX, 200);
	cached_rig_expect(&second, forks[0], 2, PREFIX, 200);
	expect_committed();
	assert_int_equal(hbm_sequence_close(forks[0]), 0);
	expect_committed();
	cached_rig_expect(&second, forks[1], PREFIX, PREFIX, 0);
	assert_int_equal(hbm_sequence_close(forks[1]), 0);
	expect_committed();
	finish();
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, stage_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_what_is_idle_makes_way),
		TEST(test_what_is_on_loan_is_so_much_less),
		TEST(test_what_is_free_is_promised_instead),
		TEST(test_what_is_returned_is_what_one_waits_for),
		TEST(test_an_open_that_is_refused_counts_nowhere),
		TEST(test_a_borrowed_page_is_none_of_the_books),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
