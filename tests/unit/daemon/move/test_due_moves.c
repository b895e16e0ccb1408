/* SPDX-License-Identifier: Apache-2.0 */
/* Moves with deadlines: the order in which they begin, on a clock of the test's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "daemon/config/config.h"
#include "daemon/move/due_moves.h"
#include "tests/support/seed.h"

#define BLOCK (1ull << 20)
#define RATE 1e9 /* bytes a second: about 1 ms a block */
#define MS 1000000ull
#define FAR (1000000 * MS)

static struct config config;
static struct ledger ledger;
static struct payer sessions[3];
static struct due_moves due;

static int setup(void **state)
{
	(void)state;
	assert_int_equal(config_defaults(&config), 0);
	ledger_open(&ledger, &config);
	for (size_t i = 0; i < 3; i++)
		payer_open(&sessions[i], &ledger, PAYER_SESSION);
	due_moves_open(&due);

	return 0;
}

static int teardown(void **state)
{
	(void)state;
	due_moves_close(&due);
	config_clear(&config);
	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(sessions[i].charges, 0);
		payer_close(&sessions[i]);
	}

	return 0;
}

/* Blocks first, first + 1, ... of payer 1, 2 or 3. */
static struct due_move *add(uint64_t payer, uint64_t deadline_ns, uint32_t first, uint32_t count)
{
	struct due_move *move =
		due_move_new(&due, &sessions[payer - 1], (struct fair_payer){.id = payer},
			     deadline_ns, BLOCK, count);

	if (!move)
		return NULL;
	for (uint32_t i = 0; i < count; i++)
		due_move_add(move, first + i);
	due_moves_push(&due, move);

	return move;
}

static uint32_t take(uint64_t now_ns)
{
	uint32_t number = due_moves_next(&due, now_ns, RATE);

	assert_int_equal(due_moves_next(&due, now_ns, RATE), number);
	if (number)
		due_moves_take(&due);

	return number;
}

static void expect(uint64_t now_ns, uint32_t first, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		assert_int_equal(take(now_ns), first + i);
}

static void test_the_earliest_goes_first(void **state)
{
	(void)state;
	assert_int_equal(take(0), 0);
	assert_non_null(add(1, FAR + 3 * MS, 30, 2));
	assert_non_null(add(1, FAR + 1 * MS, 10, 2));
	expect(0, 10, 1);
	/* One that comes later goes before what has begun. */
	assert_non_null(add(1, FAR, 5, 1));
	assert_non_null(add(1, FAR + 2 * MS, 20, 2));
	assert_non_null(add(1, FAR + 1 * MS, 15, 1)); /* equal: behind */
	expect(0, 5, 1);
	expect(0, 11, 1);
	expect(0, 15, 1);
	expect(0, 20, 2);
	expect(0, 30, 2);
	assert_int_equal(take(0), 0);
}

/* What cannot be met goes behind what can, although its deadline is earlier. */
static void test_what_is_late_delays_nothing(void **state)
{
	(void)state;
	assert_non_null(add(1, 5 * MS, 10, 20)); /* takes 20 ms */
	assert_non_null(add(1, 90 * MS, 50, 3));
	assert_non_null(add(1, 80 * MS, 40, 3));
	expect(0, 40, 3);
	expect(70 * MS, 50, 2);
	/* The last of it could be there in time until now. */
	expect(90 * MS, 10, 20);
	expect(90 * MS, 52, 1);
	assert_int_equal(take(0), 0);

	/* At a bandwidth that is not known, what has not passed can be met. */
	assert_non_null(add(1, 5 * MS, 10, 20));
	assert_non_null(add(1, 4 * MS, 60, 1));
	assert_int_equal(due_moves_next(&due, 4 * MS, 0), 60);
	due_moves_take(&due);
	assert_int_equal(due_moves_next(&due, 5 * MS, 0), 10);
}

/* A deadline is nothing to other payers. */
static void test_payers_take_turns(void **state)
{
	(void)state;
	uint32_t taken[4] = {0};

	assert_non_null(add(1, FAR, 100, 60));
	assert_non_null(add(2, FAR + MS, 200, 60));
	assert_non_null(add(3, 1, 300, 60)); /* late, and of its own payer the first */
	for (unsigned i = 0; i < 90; i++)
		taken[take(MS) / 100]++;
	for (unsigned i = 1; i <= 3; i++)
		assert_in_range(taken[i], 29, 31);
}

static uint32_t left[200];
static size_t left_count;

static void leave(void *arg, uint32_t number)
{
	assert_ptr_equal(arg, &due);
	left[left_count++] = number;
}

static void test_a_payer_that_goes(void **state)
{
	(void)state;
	left_count = 0;
	assert_non_null(add(1, FAR, 10, 3));
	assert_non_null(add(1, 1, 20, 2));
	assert_non_null(add(2, FAR, 30, 1));
	expect(MS, 10, 1);
	while (due_moves_forget(&due, 1, leave, &due))
		;
	assert_int_equal(left_count, 4);
	assert_int_equal(sessions[0].charges, 0);
	expect(MS, 30, 1);
	assert_int_equal(take(MS), 0);
	assert_false(due_moves_forget(&due, 2, leave, &due));
}

/* Bounded by the payer's memory, and by their number. */
static void test_limits(void **state)
{
	(void)state;
	unsigned count = 0;

	while (add(1, FAR, 1, 1))
		count++;
	assert_int_equal(count, DUE_MOVES_MAX);
	assert_non_null(add(2, FAR, 1, 1));
	ledger_set_limit(&sessions[2], LEDGER_REQUEST_BYTES, sizeof(struct due_move));
	assert_null(add(3, FAR, 1, 1));
	assert_non_null(add(3, FAR, 1, 0)); /* freed at once */
	assert_int_equal(sessions[2].charges, 0);
}

/* Against a list that is searched from end to end. */
static void test_random(void **state)
{
	(void)state;
	struct {
		uint64_t deadline;
		uint32_t number;
	} model[DUE_MOVES_MAX];
	struct seed seed;
	uint32_t last = 0;
	size_t count = 0;

	seed_open(&seed, "due moves");
	for (unsigned i = 0; i < 20000; i++) {
		if (count < DUE_MOVES_MAX && seed_below(&seed, 2)) {
			const uint64_t deadline = FAR + seed_below(&seed, 50);

			assert_non_null(add(1, deadline, ++last, 1));
			model[count].deadline = deadline;
			model[count++].number = last;
			continue;
		}
		size_t best = 0;

		for (size_t k = 1; k < count; k++)
			if (model[k].deadline < model[best].deadline)
				best = k;
		assert_int_equal(take(0), count ? model[best].number : 0);
		for (size_t k = best; k + 1 < count; k++)
			model[k] = model[k + 1];
		count -= count > 0;
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		TEST(test_the_earliest_goes_first),
		TEST(test_what_is_late_delays_nothing),
		TEST(test_payers_take_turns),
		TEST(test_a_payer_that_goes),
		TEST(test_limits),
		TEST(test_random),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
