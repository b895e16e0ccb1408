/* SPDX-License-Identifier: Apache-2.0 */
/* Quotas of log lines: one for each cause and user, in a table that is bounded. */
#include "daemon/base/log_peers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define SECOND UINT64_C(1000000000)
#define NOW (5 * SECOND)

static unsigned lines_of(struct log_peers *peers, enum log_cause cause, uint64_t number,
			 uint64_t now)
{
	const struct log_who who = {.number = number, .lines = LOG_PEERS_LINES};
	unsigned lines = 0;

	for (int i = 0; i < 10 * LOG_PEERS_LINES; i++)
		lines += log_peers_may(peers, cause, &who, now);

	return lines;
}

static void one_does_not_use_up_what_others_have(void **state)
{
	(void)state;
	struct log_peers peers = {0};

	assert_int_equal(lines_of(&peers, LOG_CAUSE_DROPPED, 1, NOW), LOG_PEERS_LINES);
	assert_int_equal(lines_of(&peers, LOG_CAUSE_DROPPED, 1, NOW), 0);
	assert_int_equal(lines_of(&peers, LOG_CAUSE_DROPPED, 2, NOW), LOG_PEERS_LINES);
	assert_int_equal(lines_of(&peers, LOG_CAUSE_CLOSED, 1, NOW), LOG_PEERS_LINES);
}

static void each_second_has_its_lines(void **state)
{
	(void)state;
	struct log_peers peers = {0};

	assert_int_equal(lines_of(&peers, LOG_CAUSE_DROPPED, 1, NOW), LOG_PEERS_LINES);
	assert_int_equal(lines_of(&peers, LOG_CAUSE_DROPPED, 1, NOW + SECOND - 1), 0);
	assert_int_equal(lines_of(&peers, LOG_CAUSE_DROPPED, 1, NOW + SECOND), LOG_PEERS_LINES);
	assert_int_equal(lines_of(&peers, LOG_CAUSE_DROPPED, 1, NOW + 9 * SECOND), LOG_PEERS_LINES);
}

static void users_beyond_the_table_share_a_quota(void **state)
{
	(void)state;
	struct log_peers peers = {0};

	for (uint64_t who = 0; who < LOG_PEERS_MAX; who++)
		assert_int_equal(lines_of(&peers, LOG_CAUSE_DROPPED, who, NOW), LOG_PEERS_LINES);

	assert_int_equal(lines_of(&peers, LOG_CAUSE_DROPPED, 1000, NOW), LOG_PEERS_LINES);
	assert_int_equal(lines_of(&peers, LOG_CAUSE_DROPPED, 1001, NOW), 0);
	assert_int_equal(lines_of(&peers, LOG_CAUSE_CLOSED, 1001, NOW), LOG_PEERS_LINES);

	/* Those of the second before have left. */
	assert_int_equal(lines_of(&peers, LOG_CAUSE_DROPPED, 1000, NOW + SECOND), LOG_PEERS_LINES);
	assert_int_equal(lines_of(&peers, LOG_CAUSE_DROPPED, 1001, NOW + SECOND), LOG_PEERS_LINES);
}

/* A tenant may have fewer, or none, or more, but where it shares the last quota. */
static void another_number_of_lines(void **state)
{
	(void)state;
	struct log_peers peers = {0};
	struct log_who none = {.number = 1, .lines = 0}, many = {.number = 2, .lines = 50};
	unsigned lines = 0;

	assert_false(log_peers_may(&peers, LOG_CAUSE_DROPPED, &none, NOW));
	for (int i = 0; i < 100; i++)
		lines += log_peers_may(&peers, LOG_CAUSE_DROPPED, &many, NOW);
	assert_int_equal(lines, 50);

	for (uint64_t who = 3; who <= LOG_PEERS_MAX; who++)
		(void)lines_of(&peers, LOG_CAUSE_DROPPED, who, NOW);
	many.number = 1000;
	for (int i = 0; i < 100; i++)
		lines += log_peers_may(&peers, LOG_CAUSE_DROPPED, &many, NOW);
	assert_int_equal(lines, 50 + LOG_PEERS_LINES);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_does_not_use_up_what_others_have),
		cmocka_unit_test(each_second_has_its_lines),
		cmocka_unit_test(another_number_of_lines),
		cmocka_unit_test(users_beyond_the_table_share_a_quota),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
