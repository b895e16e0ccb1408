/* SPDX-License-Identifier: Apache-2.0 */
/* Rounds: turns come in the order of their rounds, and of joining; they are paid for, and leave
 * from any place. What is served in them is test_fair_queue's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/base/fair_rounds.h"

#define SHARE 100u

static struct fair_rounds rounds;
static struct fair_turn turns[6];

static int setup(void **state)
{
	(void)state;
	fair_rounds_open(&rounds);

	return 0;
}

/* Which comes first. */
static size_t first(void)
{
	return (size_t)(fair_rounds_first(&rounds) - turns);
}

static void join(size_t which, uint64_t cost)
{
	fair_rounds_join(&rounds, &turns[which], SHARE, cost);
}

static void test_in_order(void **state)
{
	(void)state;
	static const size_t order[] = {1, 4, 0, 3, 2};

	assert_true(fair_rounds_empty(&rounds));
	join(0, 2 * SHARE);
	join(1, SHARE);
	join(2, 5 * SHARE);
	join(3, 2 * SHARE - 1);
	join(4, 0);
	for (size_t i = 0; i < 5; i++) {
		assert_int_equal(first(), order[i]);
		fair_rounds_begin_first(&rounds);
		fair_rounds_leave(&turns[order[i]]);
	}

	assert_true(fair_rounds_empty(&rounds));
	assert_int_equal(rounds.now, 5);
}

/* One that leads its round, one in the middle of it, and the last. */
static void test_leaving(void **state)
{
	(void)state;

	for (size_t i = 0; i < 5; i++)
		join(i, 0);
	fair_rounds_leave(&turns[2]);
	assert_int_equal(first(), 0);
	fair_rounds_leave(&turns[0]);
	assert_int_equal(first(), 1);
	fair_rounds_leave(&turns[4]);
	fair_rounds_leave(&turns[1]);
	assert_int_equal(first(), 3);
	fair_rounds_leave(&turns[3]);
	assert_true(fair_rounds_empty(&rounds));
}

/* It keeps its place while it can pay, and then waits for as many rounds as it takes. */
static void test_paying(void **state)
{
	(void)state;

	join(0, SHARE / 2);
	join(1, SHARE);
	fair_rounds_begin_first(&rounds);
	fair_rounds_pay(&rounds, &turns[0], SHARE / 2);
	fair_rounds_rejoin(&rounds, &turns[0], SHARE / 2);
	assert_int_equal(first(), 0);
	fair_rounds_pay(&rounds, &turns[0], SHARE / 2);
	fair_rounds_rejoin(&rounds, &turns[0], 3 * SHARE);
	assert_int_equal(first(), 1);
	assert_int_equal(turns[0].round, rounds.now + 3);

	/* something cheaper comes sooner, and something huge in FAIR_ROUNDS */
	fair_rounds_rejoin(&rounds, &turns[0], SHARE);
	assert_int_equal(turns[0].round, rounds.now + 1);
	fair_rounds_rejoin(&rounds, &turns[0], UINT64_MAX);
	assert_int_equal(turns[0].round, rounds.now + FAIR_ROUNDS);
}

static void test_another_share(void **state)
{
	(void)state;

	join(0, 6 * SHARE);
	assert_int_equal(turns[0].round, 6);
	fair_rounds_set_share(&rounds, &turns[0], 3 * SHARE, 6 * SHARE);
	assert_int_equal(turns[0].round, 2);
	fair_rounds_begin_first(&rounds);
	fair_rounds_set_share(&rounds, &turns[0], SHARE, 6 * SHARE);
	assert_int_equal(turns[0].round, rounds.now);
	fair_rounds_pay(&rounds, &turns[0], 6 * SHARE);
	assert_int_equal(turns[0].credit, 0);
}

/* Of a round of several, its leader and another one. */
static void test_handing_over(void **state)
{
	(void)state;

	for (size_t i = 0; i < 3; i++)
		join(i, 0);
	fair_rounds_hand_over(&turns[0], &turns[4]);
	fair_rounds_hand_over(&turns[2], &turns[5]);
	assert_int_equal(first(), 4);
	fair_rounds_leave(&turns[4]);
	assert_int_equal(first(), 1);
	fair_rounds_leave(&turns[1]);
	assert_int_equal(first(), 5);
	assert_int_equal(turns[5].round, 1);
	fair_rounds_leave(&turns[5]);
	assert_true(fair_rounds_empty(&rounds));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, setup)
	const struct CMUnitTest tests[] = {
		TEST(test_in_order),      TEST(test_leaving),      TEST(test_paying),
		TEST(test_another_share), TEST(test_handing_over),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
