/* SPDX-License-Identifier: Apache-2.0 */
/* Guesses: a burst, then one a second, for each user of a table that is bounded. */
#include "daemon/base/guesses.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define SECOND UINT64_C(1000000000)
#define NOW (5 * SECOND)

/* How many wrong guesses the user gets in. */
static unsigned guess_until_refused(struct guesses *guesses, uint64_t who, uint64_t now)
{
	unsigned count = 0;

	for (; count < 2 * GUESSES_BURST && guesses_may(guesses, who, GUESSES_BURST, now); count++)
		guesses_count(guesses, who, now);

	return count;
}

static void test_a_burst_and_then_one_a_second(void **state)
{
	(void)state;
	struct guesses guesses = {0};

	assert_int_equal(guess_until_refused(&guesses, 1, NOW), GUESSES_BURST);
	assert_int_equal(guess_until_refused(&guesses, 1, NOW + SECOND - 1), 0);
	assert_int_equal(guess_until_refused(&guesses, 1, NOW + SECOND), 1);
	assert_int_equal(guess_until_refused(&guesses, 1, NOW + 2 * SECOND - 1), 0);
	assert_int_equal(guess_until_refused(&guesses, 1, NOW + 11 * SECOND), 10);
	assert_int_equal(guess_until_refused(&guesses, 1, NOW + 9999 * SECOND), GUESSES_BURST);
}

static void test_each_user_has_their_own(void **state)
{
	(void)state;
	struct guesses guesses = {0};

	assert_int_equal(guess_until_refused(&guesses, 1, NOW), GUESSES_BURST);
	assert_int_equal(guess_until_refused(&guesses, 0, NOW), GUESSES_BURST);
	assert_int_equal(guess_until_refused(&guesses, 1, NOW), 0);
}

static void test_users_beyond_the_table_share(void **state)
{
	(void)state;
	struct guesses guesses = {0};

	for (uint64_t who = 1; who <= GUESSES_USERS; who++)
		assert_int_equal(guess_until_refused(&guesses, who, NOW), GUESSES_BURST);

	assert_int_equal(guess_until_refused(&guesses, 1000, NOW), GUESSES_BURST);
	assert_int_equal(guess_until_refused(&guesses, 1001, NOW), 0);
	assert_int_equal(guess_until_refused(&guesses, 1, NOW), 0);

	/* Those who have stopped have left. */
	assert_int_equal(guess_until_refused(&guesses, 1001, NOW + GUESSES_BURST * SECOND),
			 GUESSES_BURST);
	assert_int_equal(guess_until_refused(&guesses, 1000, NOW + GUESSES_BURST * SECOND),
			 GUESSES_BURST);
}

/* A tenant may have fewer, or more, but where it shares the last entry. */
static void test_another_number(void **state)
{
	(void)state;
	struct guesses guesses = {0};

	guesses_count(&guesses, 1, NOW);
	guesses_count(&guesses, 1, NOW);
	assert_false(guesses_may(&guesses, 1, 2, NOW));
	assert_true(guesses_may(&guesses, 1, 3, NOW));
	assert_int_equal(guess_until_refused(&guesses, 2, NOW), GUESSES_BURST);
	assert_true(guesses_may(&guesses, 2, GUESSES_BURST + 1, NOW));
	for (uint64_t who = 3; who <= GUESSES_USERS; who++)
		guesses_count(&guesses, who, NOW);
	assert_int_equal(guess_until_refused(&guesses, 1000, NOW), GUESSES_BURST);
	assert_false(guesses_may(&guesses, 1000, GUESSES_BURST + 1, NOW));
}

/* A right guess costs nothing. */
static void test_what_is_not_counted(void **state)
{
	(void)state;
	struct guesses guesses = {0};

	for (unsigned i = 0; i < 2 * GUESSES_BURST; i++)
		assert_true(guesses_may(&guesses, 1, GUESSES_BURST, NOW));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_burst_and_then_one_a_second),
		cmocka_unit_test(test_each_user_has_their_own),
		cmocka_unit_test(test_users_beyond_the_table_share),
		cmocka_unit_test(test_another_number),
		cmocka_unit_test(test_what_is_not_counted),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
