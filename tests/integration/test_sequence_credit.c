/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that is promised to sequences for what is expected of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/pool_rig.h"
#include "tests/support/soft_calls.h"
#include "tests/support/stage.h"
#include "tests/support/system_calls.h"

#include <pthread.h>
#include <string.h>
#include <unistd.h>

#define MEMORY (168ull << 20) /* of regions: 192 MiB less cache and reserve */

static struct pool_rig rig, other;
static unsigned fds;

static void start(bool thread)
{
	const struct hbm_pool_options options = {
		.max_sequences = 16, .map_ahead_thread = thread, .warm_bytes = MEMORY};

	static const char *const sets[] = {"ddr.size=160MiB", NULL};

	spawn_start(&daemon_, sets, NULL);
	fds = spawn_fds(&daemon_);
	pool_rig_open(&rig, &daemon_, pool_rig_layouts[0], &options);
	pool_rig_open(&other, &daemon_, pool_rig_layouts[0], &options);
}

static void finish(void)
{
	pool_rig_close(&other);
	pool_rig_close(&rig);
	stage_finish(fds);
}

static size_t most(void)
{
	struct hbm_layout_use use;

	hbm_layout_use(rig.layout, RIG_MAX, &use);

	return MEMORY / use.mapped_bytes;
}

/* As many as memory is there for. */
static void open_most(struct hbm_sequence **sequences)
{
	struct hbm_sequence_options options[16];

	for (size_t i = 0; i < 16; i++)
		options[i] = (struct hbm_sequence_options){.expected = RIG_MAX};
	assert_int_equal(hbm_sequences_open(rig.pool, options, most() + 1, 0, sequences),
			 HBM_NO_SPACE);
	assert_non_null(strstr(hbm_pool_error(rig.pool), "memory for the expected tokens"));
	assert_int_equal(hbm_sequences_open(rig.pool, options, most(), 0, sequences), 0);
}

static void test_what_is_expected_is_there(void **state)
{
	(void)state;
	start(false);
	struct hbm_sequence *sequences[16], *taker = pool_rig_sequence(&other);
	struct hbm_pool_facts facts;

	open_most(sequences);
	hbm_pool_facts(rig.pool, &facts);
	assert_int_equal(facts.open, most());
	assert_true(facts.free_slabs < 14);

	/* Another takes what is left, and no more. */
	for (uint64_t n = 1; pool_rig_step(&other, taker, n) == 0 && n < RIG_MAX; n++)
		;
	for (size_t i = 0; i < most(); i++)
		assert_int_equal(pool_rig_step(&rig, sequences[i], RIG_MAX), 0);

	/* Closed ones leave promises for others. */
	for (size_t i = 0; i < most(); i++)
		assert_int_equal(hbm_sequence_close(sequences[i]), 0);
	open_most(sequences);
	finish();
}

static void test_more_than_expected_may_be_refused(void **state)
{
	(void)state;
	start(false);
	const struct hbm_sequence_options some = {.expected = 20};
	struct hbm_sequence *sequences[16], *late;
	struct hbm_event event;

	assert_int_equal(hbm_sequence_open(other.pool, &some, &late), 0);
	for (size_t i = 0; i < 16; i++) {
		const struct hbm_sequence_options all = {.expected = RIG_MAX};

		if (hbm_sequence_open(rig.pool, &all, &sequences[i]) != 0)
			break;
	}
	assert_int_equal(hbm_sequence_open(rig.pool, &some, &sequences[15]), 0);
	assert_int_equal(pool_rig_step(&other, late, 20), 0);
	assert_int_equal(pool_rig_step(&other, late, RIG_MAX), HBM_NO_SPACE);
	assert_int_equal(pool_rig_facts(late).tokens, 20);
	assert_int_equal(hbm_pool_event(other.pool, &event), HBM_NOT_FOUND);

	assert_int_equal(hbm_sequence_close(sequences[0]), 0);
	assert_int_equal(pool_rig_step(&other, late, RIG_MAX), 0);
	assert_int_equal(hbm_pool_event(other.pool, &event), 0);
	assert_int_equal(event.expected, 20);
	finish();
}

/* ---- It is the sequence's own ---- */

static struct hbm_sequence *open_expecting(struct hbm_pool *pool, uint64_t expected)
{
	const struct hbm_sequence_options options = {.expected = expected};
	struct hbm_sequence *sequence;

	if (hbm_sequence_open(pool, &options, &sequence) != 0)
		fail_msg("%s", hbm_pool_error(pool));

	return sequence;
}

/* Another client takes all that is not promised. */
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

/* Until it is refused: how many tokens it has then. */
static uint64_t overrun(struct hbm_sequence *sequence)
{
	uint64_t tokens = pool_rig_facts(sequence).tokens;

	while (tokens < RIG_MAX && pool_rig_step(&rig, sequence, tokens + 1) == 0)
		tokens++;
	pool_rig_check_books(&rig);

	return tokens;
}

static void expect_grows(struct hbm_sequence *sequence, uint64_t expected)
{
	for (uint64_t n = pool_rig_facts(sequence).tokens + 1; n <= expected; n++)
		if (pool_rig_step(&rig, sequence, n) != 0)
			fail_msg("token %d: %s", (int)n, hbm_pool_error(rig.pool));
	assert_int_equal(pool_rig_facts(sequence).tokens, expected);
	pool_rig_check_books(&rig);
}

static void overrun_beside(uint64_t expected)
{
	start(false);
	struct hbm_sequence *wrong = open_expecting(rig.pool, expected);
	struct hbm_sequence *right = open_expecting(rig.pool, 40);

	take_the_rest();
	assert_in_range(overrun(wrong), expected, RIG_MAX - 1);
	assert_non_null(strstr(hbm_pool_error(rig.pool), "sequence 0 of the step"));
	assert_in_range(pool_rig_facts(right).promised_bytes, 1, UINT64_MAX);
	expect_grows(right, 40);
	assert_int_equal(pool_rig_facts(right).promised_bytes, 0);
	assert_int_equal(pool_rig_step(&rig, right, RIG_MAX), HBM_NO_SPACE);
	finish();
}

static void test_one_overruns_and_another_has_what_it_was_promised(void **state)
{
	(void)state;
	overrun_beside(20);
}

static void test_of_one_nothing_was_expected(void **state)
{
	(void)state;
	overrun_beside(0);
}

/* What it has already is no part of what the next one is promised. */
static void test_one_was_there_before(void **state)
{
	(void)state;
	start(false);
	struct hbm_sequence *before = pool_rig_sequence(&rig);

	assert_int_equal(pool_rig_step(&rig, before, 40), 0);
	struct hbm_sequence *right = open_expecting(rig.pool, 40);

	take_the_rest();
	expect_grows(right, 40);
	finish();
}

/* Of two pools on a connection, one expects nothing; then it is closed. */
static void test_pools_share_a_connection(void **state)
{
	(void)state;
	start(false);
	const struct hbm_pool_options options = {.layout = rig.layout, .max_sequences = 4};
	struct hbm_sequence *right, *wrong;
	struct hbm_pool *pool;
	uint64_t length = 1;

	assert_int_equal(hbm_pool_open(rig.hbm, &options, &pool), 0);
	right = open_expecting(rig.pool, 40);
	assert_int_equal(hbm_sequence_open(pool, NULL, &wrong), 0);
	take_the_rest();
	while (hbm_step(pool, &wrong, &length, 1) == 0)
		length++;
	assert_in_range(length, 1, RIG_MAX);
	pool_rig_check_books(&rig);
	assert_int_equal(hbm_pool_close(pool), 0);
	take_the_rest();
	expect_grows(right, 40);
	finish();
}

/* Forks have no part in it, until their parent writes what they have, too. */
static void test_forks_are_promised_nothing(void **state)
{
	(void)state;
	start(false);
	struct hbm_sequence *parent = open_expecting(rig.pool, 40), *forks[3];
	uint64_t tokens = 0;

	assert_int_equal(pool_rig_step(&rig, parent, 30), 0);
	for (uint64_t i = 0; i < 30; i++)
		pool_rig_write(&rig, parent, i, i);
	assert_int_equal(hbm_sequence_fork(parent, 3, forks), 0);
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(pool_rig_step(&rig, forks[i], 30), 0);
	take_the_rest();
	for (size_t i = 0; i < 3; i++)
		tokens += overrun(forks[i]);
	assert_in_range(tokens, 3 * 30, 3 * RIG_MAX - 1);
	expect_grows(parent, 40);

	/* It pays for a copy with what it has left, which is nothing. */
	assert_int_equal(hbm_sequence_truncate(parent, 12), 0);
	pool_rig_check_books(&rig);
	assert_in_range(overrun(parent), 12, 39);
	for (uint64_t i = 0; i < 30; i++)
		pool_rig_expect(&rig, forks[i % 3], i, i);
	finish();
}

/* In one reordering a sequence gets fewer tokens, and another those that it had. What that one
 * shares with it is given up at once: later that would free nothing, and be promised again. */
static void test_what_another_takes_over_is_given_up(void **state)
{
	(void)state;
	start(false);
	struct hbm_sequence *all[] = {open_expecting(rig.pool, 40), pool_rig_sequence(&rig),
				      pool_rig_sequence(&rig)};
	const uint32_t from[] = {2, 0, 2};

	assert_int_equal(pool_rig_step(&rig, all[0], 30), 0);
	for (uint64_t i = 0; i < 30; i++)
		pool_rig_write(&rig, all[0], i, i);
	assert_int_equal(pool_rig_step(&rig, all[2], 2), 0);
	assert_int_equal(hbm_sequences_reorder(rig.pool, all, from, 3), 0);
	assert_int_equal(pool_rig_facts(all[0]).tokens, 2);
	assert_int_equal(pool_rig_facts(all[0]).shared_bytes, 0);
	pool_rig_check_books(&rig);

	take_the_rest();
	assert_in_range(overrun(all[1]), 30, RIG_MAX - 1);
	expect_grows(all[0], 40);
	for (uint64_t i = 0; i < 30; i++)
		pool_rig_expect(&rig, all[1], i, i);
	finish();
}

/* A truncated sequence still has slabs beyond its tokens that the device refuses to unmap, and
 * others have them, too. They stay when memory is short: to give them up frees nothing, and would
 * be promised to it again. */
static void test_what_is_shared_beyond_its_tokens_is_kept(void **state)
{
	(void)state;
	spawn_needs_soft();
	start(false);
	const struct soft_calls soft = soft_calls_of(rig.kv.driver);
	struct hbm_sequence *right = open_expecting(rig.pool, 40), *fork;

	assert_int_equal(pool_rig_step(&rig, right, 30), 0);
	assert_int_equal(hbm_sequence_fork(right, 1, &fork), 0);
	assert_int_equal(pool_rig_step(&rig, fork, 30), 0);
	const uint64_t shared = pool_rig_facts(right).shared_bytes;

	soft.fail_nth("cuMemUnmap", 1, CUDA_ERROR_OUT_OF_MEMORY);
	assert_int_equal(hbm_sequence_truncate(right, 2), 0);
	soft.fail_nth(NULL, 0, CUDA_SUCCESS);
	assert_int_equal(pool_rig_facts(right).shared_bytes, shared);

	take_the_rest();
	assert_in_range(overrun(fork), 30, RIG_MAX - 1);
	assert_int_equal(pool_rig_facts(right).shared_bytes, shared);
	finish();
}

/* What is mapped ahead of the one is refused, and of the other it is there. */
static void test_map_ahead_goes_on_beside_an_overrun(void **state)
{
	(void)state;
	start(false);
	struct hbm_sequence *both[2] = {open_expecting(rig.pool, 1), open_expecting(rig.pool, 60)};

	take_the_rest();
	uint64_t lengths[2] = {overrun(both[0]), 1};
	int r = 0;

	for (; lengths[1] <= 50 && hbm_pool_map_ahead(rig.pool) >= 0; lengths[1]++) {
		assert_int_equal(hbm_step(rig.pool, both, lengths, 2), 0);
		r |= hbm_pool_map_ahead(rig.pool);
		assert_in_range(pool_rig_facts(both[1]).ready, lengths[1] + RIG_AHEAD, RIG_MAX);
	}
	assert_int_equal(r, HBM_NO_SPACE);
	lengths[0] = RIG_MAX;
	assert_int_equal(hbm_step(rig.pool, both, lengths, 2), HBM_NO_SPACE);
	assert_non_null(strstr(hbm_pool_error(rig.pool), "sequence 0 of the step"));
	finish();
}

/* Memory is not there for all that is due, but for some: the most urgent have it. */
static void test_as_many_are_mapped_ahead_as_fit(void **state)
{
	(void)state;
	/* Of tokens that fit into the first slabs, 9 do; of each that is mapped ahead, two slabs. */
	static const uint64_t lengths[] = {9, 6, 9, 7, 8, 6, 7, 9};
	struct hbm_sequence *sequences[8], *spare;
	size_t mapped = 0;

	start(false);
	spare = pool_rig_sequence(&other);
	assert_int_equal(pool_rig_step(&other, spare, 40), 0);
	for (size_t i = 0; i < 8; i++) {
		sequences[i] = pool_rig_sequence(&rig);
		assert_int_equal(pool_rig_step(&rig, sequences[i], 1), 0);
		assert_int_equal(pool_rig_facts(sequences[i]).ready, 9);
	}
	take_the_rest();
	assert_int_equal(hbm_pool_map_ahead(rig.pool), 0);
	assert_int_equal(hbm_sequence_truncate(spare, 1), 0); /* four times two slabs */

	assert_int_equal(hbm_step(rig.pool, sequences, lengths, 8), 0);
	assert_int_equal(hbm_pool_map_ahead(rig.pool), HBM_NO_SPACE);
	assert_non_null(strstr(hbm_pool_error(rig.pool), "not all was mapped ahead: "));
	for (size_t i = 0; i < 8; i++) {
		const bool urgent = lengths[i] >= 8;

		assert_int_equal(pool_rig_facts(sequences[i]).ready > 9, urgent);
		mapped += urgent;
	}
	assert_int_equal(mapped, 4);
	finish();
}

static uint64_t reserved(void)
{
	return pool_rig_session(&rig).reserved;
}

/* What is over goes back when sequences are closed, cut, suspended or keep less. */
static void test_what_is_over_is_returned(void **state)
{
	(void)state;
	start(false);
	struct hbm_sequence *wrong = open_expecting(rig.pool, 10);
	struct hbm_sequence *right = open_expecting(rig.pool, 40);
	const uint64_t layer = 1, promised = reserved();
	struct hbm_pool_facts facts;

	expect_grows(wrong, 40);
	assert_in_range(reserved(), promised + 1, UINT64_MAX);
	assert_int_equal(hbm_sequence_truncate(wrong, 1), 0);
	assert_int_equal(reserved(), promised);
	expect_grows(wrong, 40);
	assert_int_equal(hbm_sequences_suspend(rig.pool, &wrong, 1, HBM_TIER_DDR), 0);
	const uint64_t alone = reserved();

	assert_in_range(alone, 1, promised - 1);
	assert_int_equal(hbm_sequences_resume(rig.pool, &wrong, 1), 0);
	pool_rig_check_books(&rig);
	assert_int_equal(hbm_sequence_close(wrong), 0);
	hbm_pool_facts(rig.pool, &facts);
	assert_int_equal(reserved(), alone + facts.warm_bytes);
	assert_int_equal(hbm_sequence_keep(right, HBM_AXIS_LAYERS, &layer, 1), 0);
	assert_in_range(reserved(), 1, alone + facts.warm_bytes - 1);
	pool_rig_check_books(&rig);
	assert_int_equal(hbm_sequence_close(right), 0);
	assert_int_equal(reserved(), 0);
	finish();
}

static uint64_t requests(void)
{
	return pool_rig_session(&rig).requests;
}

/* A commit for each growth, and seldom a reservation; the first has its own. */
static void test_an_overrun_reserves_ahead(void **state)
{
	(void)state;
	start(false);
	struct hbm_sequence *wrong = open_expecting(rig.pool, 1);
	struct hbm_sequence *right = open_expecting(rig.pool, 40);
	uint64_t grown = 0, before, ready;

	assert_int_equal(pool_rig_step(&rig, wrong, 1), 0);
	before = requests();
	for (uint64_t n = 2; n <= 60; n++) {
		ready = pool_rig_facts(wrong).ready;
		assert_int_equal(pool_rig_step(&rig, wrong, n), 0);
		grown += pool_rig_facts(wrong).ready > ready;
	}
	assert_in_range(grown, 6, 60);
	assert_in_range(requests() - before - grown, 1, 3);
	expect_grows(right, 40);
	finish();
}

static int waited;

static void *wait_for_all(void *arg)
{
	struct hbm_sequence_options options[16];

	(void)arg;
	for (size_t i = 0; i < 16; i++)
		options[i] = (struct hbm_sequence_options){.expected = RIG_MAX};
	struct hbm_sequence *sequences[16];
	waited = hbm_sequences_open(other.pool, options, 2, 60000, sequences);

	return NULL;
}

static uint64_t waiting(void)
{
	struct hbm_device_memory memory;

	assert_int_equal(hbm_device_memory(rig.hbm, 0, &memory), 0);

	return memory.waiting;
}

/* Warm slabs of another pool go when its next sequence is closed. */
static void wait_and_close(bool thread)
{
	start(thread);
	struct hbm_sequence *sequences[16];
	pthread_t waiter;

	open_most(sequences);
	for (size_t i = 0; i < most(); i++)
		assert_int_equal(pool_rig_step(&rig, sequences[i], RIG_MAX), 0);
	assert_int_equal(pthread_create(&waiter, NULL, wait_for_all, NULL), 0);
	while (waiting() == 0)
		;
	for (size_t i = 0; i < 2; i++)
		assert_int_equal(hbm_sequence_close(sequences[i]), 0);
	pthread_join(waiter, NULL);
	assert_int_equal(waited, 0);
	assert_int_equal(hbm_sequences_open(rig.pool,
					    &(struct hbm_sequence_options){.expected = RIG_MAX}, 1,
					    1, sequences),
			 HBM_TIMEOUT);
	finish();
}

/* Nobody else has it, and no other thread can give it up: waiting would never end. */
static void test_what_the_pool_has_is_not_waited_for(void **state)
{
	(void)state;
	const struct hbm_sequence_options options = {.expected = RIG_MAX};
	struct hbm_sequence *sequences[16], *more;

	start(false);
	open_most(sequences);
	alarm(60);
	assert_int_equal(hbm_sequences_open(rig.pool, &options, 1, 60000, &more), HBM_NO_SPACE);
	alarm(0);
	assert_int_equal(hbm_sequence_close(sequences[0]), 0);
	assert_int_equal(hbm_sequences_open(rig.pool, &options, 1, 60000, &more), 0);
	finish();
}

static void test_it_waits_for_memory(void **state)
{
	(void)state;
	wait_and_close(false);
}

static void test_it_waits_beside_the_thread(void **state)
{
	(void)state;
	wait_and_close(true);
}

static void test_what_is_free_is_read_without_a_system_call(void **state)
{
	(void)state;
	start(false);
	struct hbm_pool_facts facts;

	hbm_pool_facts(rig.pool, &facts);
	const uint64_t before = facts.free_tokens;

	assert_int_equal(pool_rig_step(&rig, pool_rig_sequence(&rig), 30), 0);
	if (system_calls_begin()) {
		hbm_pool_facts(rig.pool, &facts);
		assert_int_equal(system_calls_end(), 0);
	}
	hbm_pool_facts(rig.pool, &facts);
	assert_in_range(facts.free_tokens, before - 45, before - 30);
	finish();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, stage_teardown)
		TEST(test_what_is_expected_is_there),
		TEST(test_more_than_expected_may_be_refused),
		TEST(test_one_overruns_and_another_has_what_it_was_promised),
		TEST(test_of_one_nothing_was_expected),
		TEST(test_one_was_there_before),
		TEST(test_pools_share_a_connection),
		TEST(test_forks_are_promised_nothing),
		TEST(test_what_another_takes_over_is_given_up),
		TEST(test_what_is_shared_beyond_its_tokens_is_kept),
		TEST(test_map_ahead_goes_on_beside_an_overrun),
		TEST(test_as_many_are_mapped_ahead_as_fit),
		TEST(test_what_is_over_is_returned),
		TEST(test_an_overrun_reserves_ahead),
		TEST(test_what_the_pool_has_is_not_waited_for),
		TEST(test_it_waits_for_memory),
		TEST(test_it_waits_beside_the_thread),
		TEST(test_what_is_free_is_read_without_a_system_call),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
