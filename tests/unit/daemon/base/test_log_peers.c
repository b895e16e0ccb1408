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

static unsigned lines_of(struct log_peers *peers, enum log_cause cause, uid_t uid, uint64_t now)
{
	unsigned lines = 0;

	for (int i = 0; i < 10 * LOG_PEERS_LINES; i++)
		lines += log_peers_may(peers, cause, uid, now);

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

	for (uid_t uid = 0; uid < LOG_PEERS_MAX; uid++)
		assert_int_equal(lines_of(&peers, LOG_CAUSE_DROPPED, uid, NOW), LOG_PEERS_LINES);

	assert_int_equal(lines_of(&peers, LOG_CAUSE_DROPPED, 1000, NOW), LOG_PEERS_LINES);
	assert_int_equal(lines_of(&peers, LOG_CAUSE_DROPPED, 1001, NOW), 0);
	assert_int_equal(lines_of(&peers, LOG_CAUSE_CLOSED, 1001, NOW), LOG_PEERS_LINES);

	/* Those of the second before have left. */
	assert_int_equal(lines_of(&peers, LOG_CAUSE_DROPPED, 1000, NOW + SECOND), LOG_PEERS_LINES);
	assert_int_equal(lines_of(&peers, LOG_CAUSE_DROPPED, 1001, NOW + SECOND), LOG_PEERS_LINES);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_does_not_use_up_what_others_have),
		cmocka_unit_test(each_second_has_its_lines),
		cmocka_unit_test(users_beyond_the_table_share_a_quota),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
