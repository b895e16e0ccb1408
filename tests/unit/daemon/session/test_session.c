/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A session: what it drops, refuses and lets through, and what each event makes of each
 * of its states.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "daemon/base/fdpass.h"
#include "daemon/ledger/ledger.h"
#include "daemon/session/connection.h"
#include "daemon/session/session.h"
#include "tests/support/session_rig.h"

static void a_ping_is_answered(void **state)
{
	struct session_rig *rig = *state;
	struct hbm_wire_header reply;

	session_rig_greet(rig, NULL);

	for (uint64_t id = 10; id < 20; id++) {
		session_rig_ping(rig, id);
		assert_int_equal(
			session_rig_hear(rig, &reply, sizeof(reply), HBM_WIRE_PING, id, HBM_OK),
			sizeof(reply));
	}

	assert_int_equal(rig->counters.requests, 11);
	assert_int_equal(ledger_used(&rig->session->payer, LEDGER_REQUESTS), 0);
	assert_int_equal(rig->session->id, 1);
	assert_int_equal(rig->session->pid, getpid());
	assert_int_equal(rig->session->uid, getuid());
	assert_int_equal(session_is_operator(rig->session), true);
}

static void malformed_requests_are_refused_and_the_session_goes_on(void **state)
{
	struct session_rig *rig = *state;
	struct hbm_wire_header bad = {
		.size = sizeof(bad), .opcode = HBM_WIRE_PING, .id = 3, .zero = 1};
	struct hbm_wire_refusal reply;

	session_rig_greet(rig, NULL);
	session_rig_say(rig, &bad, sizeof(bad));
	session_rig_hear(rig, &reply, sizeof(reply), HBM_WIRE_PING, 3, HBM_INVALID);
	assert_string_equal(reply.reason, "header.zero is 1, expected 0");
	bad = (struct hbm_wire_header){.size = sizeof(bad), .opcode = 999, .id = 4};
	session_rig_say(rig, &bad, sizeof(bad));
	session_rig_hear(rig, &reply, sizeof(reply), 999, 4, HBM_UNSUPPORTED);
	assert_non_null(strstr(reply.reason, "header.opcode is 999, expected "));
	session_rig_hello(rig);
	session_rig_hear(rig, &reply, sizeof(reply), HBM_WIRE_HELLO, 1, HBM_INVALID);
	assert_string_equal(reply.reason, "a second HELLO");
	session_rig_ping(rig, 5);
	session_rig_hear(rig, &reply, sizeof(reply), HBM_WIRE_PING, 5, HBM_OK);
	assert_int_equal(rig->counters.refused, 3);
	assert_int_equal(rig->arrived_count, 2);
}

/* Sessions that the ledger knows. */
static uint64_t payers(struct session_rig *rig)
{
	struct ledger_account accounts[LEDGER_LIMITS];
	unsigned i = 0;

	ledger_audit(&rig->ledger, accounts);
	ledger_end_recount(&rig->ledger);
	while (ledger_limits[i].resource != LEDGER_REGIONS)
		i++;

	return accounts[i].payers;
}

/* Whatever descriptor it is that cannot be had, nothing is left of the session, and the
 * socket is still the caller's. */
static void a_session_short_of_descriptors_is_not_opened(void **state)
{
	struct session_rig *rig = *state;
	struct rlimit limit;
	int ends[2], r = -EMFILE;
	unsigned refused = 0;

	assert_int_equal(
		socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
	rig->client = ends[1];
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	pool_run(&rig->pool, pool_is_full, &rig->pool);

	for (rlim_t room = 0; r == -EMFILE; room++) {
		struct session *session = NULL;
		int next = dup(0);
		close(next);
		const struct rlimit few = {(rlim_t)next + room, limit.rlim_max};

		assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
		r = session_open(&session, &rig->owner, ends[0], 1);
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);

		assert_int_equal(payers(rig), r == 0);
		refused += r != 0;
		rig->session = session;
	}

	assert_int_equal(r, 0);
	assert_in_range(refused, 3, 5); /* the process, the fences, the doorbell */
}

static void assert_dropped(struct session_rig *rig)
{
	char byte;
	pool_run(&rig->pool, session_rig_is_freed, rig);
	assert_int_equal(rig->counters.sessions_dropped, 1);
	ssize_t n = recv(rig->client, &byte, 1, MSG_DONTWAIT);
	assert_int_equal(n < 0 ? errno : n, n < 0 ? ECONNRESET : 0);
}

static void a_request_before_hello_ends_the_session(void **state)
{
	struct session_rig *rig = *state;
	session_rig_connect(rig);
	session_rig_ping(rig, 1);
	assert_dropped(rig);
	assert_int_equal(rig->arrived_count, 0);
}

static void a_wrong_size_ends_the_session(void **state)
{
	struct session_rig *rig = *state;
	struct hbm_wire_header bad = {.size = sizeof(bad) + 1, .opcode = HBM_WIRE_PING};
	session_rig_greet(rig, NULL);
	session_rig_say(rig, &bad, sizeof(bad));
	assert_dropped(rig);
}

static void too_long_a_message_ends_the_session(void **state)
{
	struct session_rig *rig = *state;
	static char bytes[HBM_WIRE_MESSAGE_MAX + 1];
	struct hbm_wire_header header = {.size = sizeof(bytes), .opcode = HBM_WIRE_PING};

	memcpy(bytes, &header, sizeof(header));
	session_rig_greet(rig, NULL);
	session_rig_say(rig, bytes, sizeof(bytes));
	assert_dropped(rig);
}

static void an_empty_message_ends_the_session(void **state)
{
	struct session_rig *rig = *state;
	session_rig_greet(rig, NULL);
	session_rig_say(rig, "", 0);
	pool_run(&rig->pool, session_rig_is_freed, rig);
	assert_int_equal(rig->counters.sessions_dropped, 0); /* it looks like a hang-up */
}

static void descriptors_end_the_session(void **state)
{
	struct session_rig *rig = *state;
	struct hbm_wire_header ping = {.size = sizeof(ping), .opcode = HBM_WIRE_PING};
	struct iovec iov = {&ping, sizeof(ping)};

	session_rig_greet(rig, NULL);
	assert_int_equal(fdpass_send(rig->client, &iov, 1, &(int){0}, 1), 0);
	assert_dropped(rig);
}

static void silence_before_hello_ends_the_session(void **state)
{
	struct session_rig *rig = *state;
	ledger_set_limit(&rig->ledger.host, LEDGER_HELLO_MS, 1);
	session_rig_connect(rig);
	assert_dropped(rig);
}

static void a_drained_session_ends_after_its_last_reply(void **state)
{
	struct session_rig *rig = *state;
	struct hbm_wire_header reply;

	session_rig_greet(rig, NULL);
	rig->park = true;
	session_rig_ping(rig, 1);
	rig->wanted = 2;
	pool_run(&rig->pool, session_rig_has_arrived, rig);
	session_drain(rig->session);
	session_rig_ping(rig, 2);
	session_rig_idle(rig);
	assert_int_equal(rig->arrived_count, 2);
	assert_int_equal(rig->died, 0);
	session_rig_answer(rig);
	session_rig_hear(rig, &reply, sizeof(reply), HBM_WIRE_PING, 1, HBM_OK);
	pool_run(&rig->pool, session_rig_is_freed, rig);
}

static void session_event_break(struct session *session)
{
	session_break(session, NULL);
}

enum { STATES = SESSION_DEAD + 1, EVENTS = 4 };

static void (*const events[EVENTS])(struct session *session) = {
	session_greeted,
	session_drain,
	session_event_break,
	session_end,
};

/* The drawing in session.h: what each event makes of each state. Where it is the same,
 * the transition is refused. */
static const enum session_state expected[STATES][EVENTS] = {
	[SESSION_GREETING] = {SESSION_LIVE, SESSION_DRAINING, SESSION_CLOSING, SESSION_DEAD},
	[SESSION_LIVE] = {SESSION_LIVE, SESSION_DRAINING, SESSION_CLOSING, SESSION_DEAD},
	[SESSION_DRAINING] = {SESSION_DRAINING, SESSION_DRAINING, SESSION_CLOSING, SESSION_DEAD},
	[SESSION_CLOSING] = {SESSION_CLOSING, SESSION_CLOSING, SESSION_CLOSING, SESSION_DEAD},
	[SESSION_DEAD] = {SESSION_DEAD, SESSION_DEAD, SESSION_DEAD, SESSION_DEAD},
};

/* A session in that state, with its HELLO in flight, which keeps it. */
static void reach(struct session_rig *rig, enum session_state state)
{
	rig->arrived_count = rig->died = rig->freed = 0;
	rig->park = true;
	rig->wanted = 1;
	session_rig_connect(rig);
	session_rig_hello(rig);
	pool_run(&rig->pool, session_rig_has_arrived, rig);
	assert_int_equal(rig->session->state, SESSION_GREETING);

	if (state != SESSION_GREETING)
		events[state - 1](rig->session);

	assert_int_equal(rig->session->state, state);
}

static void every_event_in_every_state(void **state)
{
	struct session_rig *rig = *state;

	for (unsigned from = 0; from < STATES; from++) {
		for (unsigned event = 0; event < EVENTS; event++) {
			reach(rig, from);
			events[event](rig->session);
			enum session_state to = expected[from][event];
			assert_int_equal(rig->session->state, to);
			assert_int_equal(ledger_used(&rig->session->payer, LEDGER_REQUESTS), 1);
			assert_int_equal(rig->died, to == SESSION_DEAD);
			assert_int_equal(connection_is_open(&rig->session->connection),
					 to < SESSION_CLOSING);

			/* However it got there, it ends once. */
			close(rig->client);
			rig->client = -1;
			pool_run(&rig->pool, session_rig_is_dead, rig);
			assert_int_equal(rig->freed, 0);
			session_rig_answer(rig);
			session_rig_idle(rig);
			assert_int_equal(rig->died, 1);
			assert_int_equal(rig->freed, 1);
		}
	}
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, session_rig_setup, session_rig_teardown)
	const struct CMUnitTest tests[] = {
		TEST(a_ping_is_answered),
		TEST(malformed_requests_are_refused_and_the_session_goes_on),
		TEST(a_session_short_of_descriptors_is_not_opened),
		TEST(a_request_before_hello_ends_the_session),
		TEST(a_wrong_size_ends_the_session),
		TEST(too_long_a_message_ends_the_session),
		TEST(an_empty_message_ends_the_session),
		TEST(descriptors_end_the_session),
		TEST(silence_before_hello_ends_the_session),
		TEST(a_drained_session_ends_after_its_last_reply),
		TEST(every_event_in_every_state),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
