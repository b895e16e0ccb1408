/* SPDX-License-Identifier: Apache-2.0 */
/* What a session is sent unasked: only where it has a board, in order, and dropped where it does
 * not read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/ledger/ledger.h"
#include "daemon/session/session.h"
#include "tests/support/session_rig.h"

#define NOTICES 8 /* limits.notices */

static struct board *open_board(struct session_rig *rig)
{
	struct board *board;
	int fd;

	assert_int_equal(board_open(&rig->session->boards, 1, &board, &fd), HBM_OK);
	close(fd);

	return board;
}

static int ask(struct session_rig *rig, uint64_t sequence)
{
	return session_ask(
		rig->session,
		&(struct hbm_wire_ask){.header = {.id = 9, .status = 3, .opcode = HBM_WIRE_ASK},
				       .session = 1,
				       .sequence = sequence,
				       .ask = HBM_ASK_SUSPEND,
				       .tier = HBM_TIER_DDR});
}

/* Receives one, which is that. */
static void hear(struct session_rig *rig, uint64_t sequence)
{
	struct hbm_wire_ask heard;
	const struct hbm_wire_ask expected = {.header = {.size = sizeof(heard),
							 .opcode = HBM_WIRE_ASK,
							 .flags = HBM_WIRE_UNASKED},
					      .session = 1,
					      .sequence = sequence,
					      .ask = HBM_ASK_SUSPEND,
					      .tier = HBM_TIER_DDR};

	pool_run(&rig->pool, session_rig_can_read, rig);
	assert_int_equal(recv(rig->client, &heard, sizeof(heard), MSG_TRUNC), sizeof(heard));
	assert_memory_equal(&heard, &expected, sizeof(expected));
}

static void set_limit(struct session_rig *rig)
{
	ledger_set_limit(&rig->session->payer, LEDGER_NOTICES, NOTICES);
	ledger_set_limit(&rig->session->payer, LEDGER_SEQUENCES, 1024);
	ledger_set_limit(rig->session->payer.parent, LEDGER_SEQUENCES, 1024);
	ledger_set_limit(&rig->ledger.host, LEDGER_SEQUENCES, 1024);
}

static void only_with_a_board(void **state)
{
	struct session_rig *rig = *state;

	session_rig_greet(rig, NULL);
	set_limit(rig);
	assert_int_equal(ask(rig, 1), HBM_NOT_FOUND);
	session_rig_idle(rig);
	assert_int_equal(session_rig_can_read(rig), false);

	struct board *one = open_board(rig);
	assert_int_equal(ask(rig, 2), HBM_OK);
	hear(rig, 2);
	assert_int_equal(one->head->notices, 1);

	board_close(&rig->session->boards, one);
	assert_int_equal(ask(rig, 3), HBM_NOT_FOUND);
	assert_int_equal(rig->counters.notices, 1);
	assert_int_equal(rig->counters.notices_dropped, 0);
}

/* As many as the socket takes, and as many as the limit allows; then they are dropped. */
static void dropped_where_nobody_reads(void **state)
{
	struct session_rig *rig = *state;
	uint64_t sent = 0;

	session_rig_greet(rig, NULL);
	set_limit(rig);
	struct board *one = open_board(rig);
	while (ask(rig, sent + 1) == HBM_OK)
		sent++;

	assert_true(sent > NOTICES);
	assert_int_equal(ledger_used(&rig->session->payer, LEDGER_NOTICES), NOTICES);
	assert_int_equal(ask(rig, 0), HBM_LIMIT);
	assert_int_equal(rig->counters.notices, sent);
	assert_int_equal(rig->counters.notices_dropped, 2);
	assert_int_equal(one->head->notices, sent);
	assert_int_equal(rig->session->state, SESSION_LIVE);

	for (uint64_t i = 1; i <= sent; i++)
		hear(rig, i);
	assert_int_equal(ledger_used(&rig->session->payer, LEDGER_NOTICES), 0);
	assert_int_equal(ask(rig, 77), HBM_OK);
	hear(rig, 77);
}

/* A reply waits behind them, and is not lost. */
static void replies_come_in_turn(void **state)
{
	struct session_rig *rig = *state;
	struct hbm_wire_header pong;
	uint64_t sent = 0;

	session_rig_greet(rig, NULL);
	set_limit(rig);
	(void)open_board(rig);
	while (ask(rig, sent + 1) == HBM_OK)
		sent++;

	session_rig_ping(rig, 5);
	session_rig_idle(rig);
	for (uint64_t i = 1; i <= sent; i++)
		hear(rig, i);
	assert_int_equal(session_rig_hear(rig, &pong, sizeof(pong), HBM_WIRE_PING, 5, HBM_OK),
			 sizeof(pong));
}

/* Its end takes the board, and those that wait. */
static void ends_with_the_session(void **state)
{
	struct session_rig *rig = *state;

	session_rig_greet(rig, NULL);
	set_limit(rig);
	(void)open_board(rig);
	while (ask(rig, 1) == HBM_OK)
		;

	session_ref(rig->session);
	close(rig->client);
	rig->client = -1;
	pool_run(&rig->pool, session_rig_is_dead, rig);
	assert_int_equal(boards_is_empty(&rig->session->boards), true);
	assert_int_equal(ledger_used(&rig->session->payer, LEDGER_NOTICES), 0);
	assert_int_equal(ledger_used(&rig->ledger.host, LEDGER_SEQUENCES), 0);
	assert_int_equal(ask(rig, 1), HBM_NOT_FOUND);
	session_unref(rig->session);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, session_rig_setup, session_rig_teardown)
	const struct CMUnitTest tests[] = {
		TEST(only_with_a_board),
		TEST(dropped_where_nobody_reads),
		TEST(replies_come_in_turn),
		TEST(ends_with_the_session),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
