/* SPDX-License-Identifier: Apache-2.0 */
/* The backlog: requests that were read and wait for memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <unistd.h>

#include "daemon/base/list.h"
#include "daemon/ledger/ledger.h"
#include "daemon/session/request.h"
#include "tests/support/session_rig.h"

/* Lets n more requests arrive, and no more than these. */
static void expect_arrivals(struct session_rig *rig, uint64_t n)
{
	rig->wanted = rig->arrived_count + n;
	pool_run(&rig->pool, session_rig_has_arrived, rig);
	session_rig_idle(rig);
	assert_int_equal(rig->arrived_count, rig->wanted);
}

static void answer_oldest(struct session_rig *rig, uint64_t id)
{
	struct hbm_wire_header reply;
	struct request *request = container_of(list_pop_front(&rig->parked), struct request, link);

	assert_int_equal(request->message->id, id);
	request_reply(request, HBM_OK, NULL, 0);
	session_rig_hear(rig, &reply, sizeof(reply), HBM_WIRE_PING, id, HBM_OK);
}

/* Handlers get as many requests as there is memory for; the others are read, and wait in
 * order. A CANCEL does not wait. */
static void requests_wait_for_memory(void **state)
{
	struct session_rig *rig = *state;
	struct hbm_wire_cancel cancel = {
		.header = {.size = sizeof(cancel), .opcode = HBM_WIRE_CANCEL, .id = 100}};

	session_rig_greet(rig, NULL);
	rig->park = true;
	rig->cost = MIB;
	ledger_set_limit(&rig->session->payer, LEDGER_REQUEST_BYTES, 3 * MIB);
	for (uint64_t id = 0; id < 8; id++)
		session_rig_ping(rig, id);

	expect_arrivals(rig, 3);
	assert_int_equal(ledger_used(&rig->session->payer, LEDGER_REQUESTS), 8);
	assert_in_range(ledger_used(&rig->session->payer, LEDGER_REQUEST_BYTES), 3 * MIB,
			3 * MIB + 8 * 1024);

	session_rig_say(rig, &cancel, sizeof(cancel));
	expect_arrivals(rig, 1);
	struct request *last = container_of(rig->parked.prev, struct request, link);
	assert_int_equal(last->message->id, 100);
	list_remove(&last->link);
	request_reply(last, HBM_OK, NULL, 0);
	struct hbm_wire_header reply;
	session_rig_hear(rig, &reply, sizeof(reply), HBM_WIRE_CANCEL, 100, HBM_OK);

	for (uint64_t id = 0; id < 8; id++) {
		answer_oldest(rig, id);
		session_rig_idle(rig);
	}

	assert_int_equal(ledger_used(&rig->session->payer, LEDGER_REQUEST_BYTES), 0);
}

/* However little memory there may be, one request at a time is served. */
static void one_request_needs_no_room(void **state)
{
	struct session_rig *rig = *state;

	session_rig_greet(rig, NULL);
	rig->park = true;
	rig->cost = MIB;
	ledger_set_limit(&rig->session->payer, LEDGER_REQUEST_BYTES, 1);
	for (uint64_t id = 0; id < 4; id++)
		session_rig_ping(rig, id);

	expect_arrivals(rig, 1);
	for (uint64_t id = 0; id < 4; id++) {
		rig->wanted = rig->arrived_count + (id < 3);
		answer_oldest(rig, id);
		pool_run(&rig->pool, session_rig_has_arrived, rig);
	}
}

/* Other sessions have all the memory there is for requests: this one has one at a time,
 * and is not read any further until there is room again. */
static void the_memory_of_all_sessions_is_used(void **state)
{
	struct session_rig *rig = *state;
	struct payer other;
	struct charge charge = {0};

	payer_open(&other, &rig->ledger, PAYER_SESSION);
	session_rig_greet(rig, NULL);
	/* Its share is some bytes: less than a request takes. */
	ledger_set_limit(&rig->ledger.host, LEDGER_REQUEST_BYTES, 100);
	ledger_charge_always(&charge, &other, LEDGER_REQUEST_BYTES, 100);
	rig->park = true;
	for (uint64_t id = 0; id < 4; id++)
		session_rig_ping(rig, id);

	expect_arrivals(rig, 1);
	assert_int_equal(ledger_used(&rig->session->payer, LEDGER_REQUESTS), 1);
	rig->wanted++;
	answer_oldest(rig, 0);
	pool_run(&rig->pool, session_rig_has_arrived, rig);
	session_rig_idle(rig);
	assert_int_equal(ledger_used(&rig->session->payer, LEDGER_REQUESTS), 1);

	/* A larger share is room for another request. */
	ledger_release(&charge);
	ledger_set_limit(&rig->ledger.host, LEDGER_REQUEST_BYTES, MIB);
	ledger_charge_always(&charge, &other, LEDGER_REQUEST_BYTES, MIB);
	rig->wanted += 2;
	answer_oldest(rig, 1);
	pool_run(&rig->pool, session_rig_has_arrived, rig);
	answer_oldest(rig, 2);
	answer_oldest(rig, 3);
	ledger_release(&charge);
	payer_close(&other);
}

/* A second session, which has taken half of the memory for requests; a fourth is a share. */
struct neighbour {
	struct session *session;
	int client;
	struct payer payer;
	struct charge sessions;
	struct request *request;
};

static void neighbour_come(struct neighbour *neighbour, struct session_rig *rig)
{
	session_rig_greet(rig, NULL);
	rig->park = true;
	rig->cost = MIB;
	ledger_set_limit(&rig->ledger.host, LEDGER_REQUEST_BYTES, 2 * MIB);
	payer_open_below(&neighbour->payer, &rig->session->user->payer, PAYER_SESSION);
	ledger_charge_always(&neighbour->sessions, &neighbour->payer, LEDGER_SESSIONS, 4);
	session_rig_ping(rig, 100);
	expect_arrivals(rig, 1);
	neighbour->session = rig->session;
	neighbour->client = rig->client;
	neighbour->request = container_of(list_pop_front(&rig->parked), struct request, link);

	rig->park = false;
	session_rig_greet(rig, NULL);
	rig->park = true;
}

static void neighbour_make_room(struct neighbour *neighbour)
{
	request_reply(neighbour->request, HBM_OK, NULL, 0);
}

static void neighbour_go(struct neighbour *neighbour, struct session_rig *rig)
{
	close(neighbour->client);
	pool_run(&rig->pool, session_rig_is_freed, rig);
	rig->died = rig->freed = 0;
	ledger_release(&neighbour->sessions);
	payer_close(&neighbour->payer);
}

/* A session that others leave no room is not polled for reading, and is read when they have
 * made room, though its own request has not ended. */
static void others_make_room_to_read(void **state)
{
	struct session_rig *rig = *state;
	struct neighbour neighbour = {0};

	neighbour_come(&neighbour, rig);
	session_rig_ping(rig, 1);
	session_rig_ping(rig, 2);
	expect_arrivals(rig, 1);
	assert_int_equal(ledger_used(&rig->session->payer, LEDGER_REQUESTS), 1);
	assert_false(rig->session->connection.receiving);

	neighbour_make_room(&neighbour);
	expect_arrivals(rig, 1);
	neighbour_go(&neighbour, rig);
}

/* The same for what has been read and waits. */
static void others_make_room_for_the_backlog(void **state)
{
	struct session_rig *rig = *state;
	struct neighbour neighbour = {0};

	neighbour_come(&neighbour, rig);
	rig->cost = MIB / 4;
	ledger_set_limit(&rig->session->payer, LEDGER_REQUEST_BYTES, MIB / 4);
	session_rig_ping(rig, 1);
	session_rig_ping(rig, 2);
	expect_arrivals(rig, 1);
	assert_int_equal(ledger_used(&rig->session->payer, LEDGER_REQUESTS), 2);

	ledger_set_limit(&rig->session->payer, LEDGER_REQUEST_BYTES, MIB);
	ledger_set_limit(&rig->ledger.host, LEDGER_REQUEST_BYTES, MIB);
	session_rig_ping(rig, 3);
	expect_arrivals(rig, 0);

	neighbour_make_room(&neighbour);
	expect_arrivals(rig, 2);
	neighbour_go(&neighbour, rig);
}

/* Whether a second HELLO is one is known only when the first has been handled. */
static void a_hello_does_not_wait(void **state)
{
	struct session_rig *rig = *state;

	session_rig_connect(rig);
	rig->park = true;
	ledger_set_limit(&rig->session->payer, LEDGER_REQUEST_BYTES, 1);
	session_rig_hello(rig);
	session_rig_hello(rig);
	expect_arrivals(rig, 2);
}

/* A store of one block and one segment. */
static void say_part(struct session_rig *rig, uint64_t id, uint32_t flags)
{
	static _Alignas(8) unsigned char bytes[sizeof(struct hbm_wire_blocks) +
					       sizeof(struct hbm_wire_block) +
					       sizeof(struct hbm_wire_range)];
	struct hbm_wire_blocks *store = (void *)bytes;
	struct hbm_wire_range *segment = (void *)&store->blocks[1];

	*store = (struct hbm_wire_blocks){.header = {.size = sizeof(bytes),
						     .opcode = HBM_WIRE_STORE,
						     .flags = (uint16_t)flags,
						     .id = id},
					  .ns = 1,
					  .count = 1,
					  .segments = 1,
					  .ready_value = 1,
					  .fence_slot = HBM_WIRE_NO_FENCE};
	store->blocks[0] =
		(struct hbm_wire_block){.key = {{1}}, .segments = 1, .tier = HBM_TIER_NONE};
	*segment = (struct hbm_wire_range){.region = 1, .bytes = 4096};
	session_rig_say(rig, bytes, sizeof(bytes));
}

static void go_on(struct resumption *resumption, int status)
{
	(void)resumption;
	assert_int_equal(status, HBM_OK);
}

/* Three parts, of which the first has arrived and the others wait for memory. */
static struct request *say_parts(struct session_rig *rig)
{
	session_rig_greet(rig, NULL);
	rig->park = true;
	rig->cost = MIB;
	ledger_set_limit(&rig->session->payer, LEDGER_REQUEST_BYTES, 1);
	say_part(rig, 1, HBM_WIRE_MORE);
	say_part(rig, 2, HBM_WIRE_MORE);
	say_part(rig, 3, 0);
	expect_arrivals(rig, 1);
	assert_int_equal(ledger_used(&rig->session->payer, LEDGER_REQUESTS), 3);

	return container_of(list_pop_front(&rig->parked), struct request, link);
}

static void end_part(struct session_rig *rig, struct request *request, uint64_t id)
{
	struct hbm_wire_header reply;

	assert_int_equal(request->message->id, id);
	request_reply(request, HBM_OK, NULL, 0);
	session_rig_hear(rig, &reply, sizeof(reply), HBM_WIRE_STORE, id, HBM_OK);
}

/* Those that have not arrived are cancelled together, while none has begun; */
static void parts_are_cancelled_together(void **state)
{
	struct session_rig *rig = *state;
	struct request *first = say_parts(rig);
	char reply[512]; /* with the reason */

	assert_int_equal(session_cancel(rig->session, &(uint64_t){3}), true);
	for (uint64_t id = 2; id <= 3; id++)
		session_rig_hear(rig, reply, sizeof(reply), HBM_WIRE_STORE, id, HBM_CANCELLED);
	end_part(rig, first, 1);
}

static struct ready_wait waiting;

static void fire(struct ready_wait *wait, int status)
{
	(void)wait;
	(void)status;
	fail();
}

/* and none is when one has, whichever is named, or all. */
static void parts_that_have_begun_are_not(void **state)
{
	struct session_rig *rig = *state;
	struct request *first = say_parts(rig);
	struct resumption resumption = {.go_on = go_on};

	session_resume(first, &resumption);
	for (uint64_t id = 1; id <= 3; id++)
		assert_int_equal(session_cancel(rig->session, &id), false);
	assert_int_equal(session_cancel(rig->session, NULL), false);

	/* nor one that waits for another fence */
	waiting = (struct ready_wait){.id = 4, .parts = first->parts, .slot = 2, .fire = fire};
	list_push_back(&rig->session->fences.waiting, &waiting.link);
	assert_int_equal(session_cancel(rig->session, &(uint64_t){4}), false);
	list_remove(&waiting.link);
	session_rig_idle(rig);
	end_part(rig, first, 1);
	for (uint64_t id = 2; id <= 3; id++) {
		session_rig_idle(rig);
		assert_int_equal(session_cancel(rig->session, &(uint64_t){3}), false);
		end_part(rig, container_of(list_pop_front(&rig->parked), struct request, link), id);
	}
}

/* What waits for memory when the client hangs up is answered, to nobody. */
static void a_session_ends_with_a_backlog(void **state)
{
	struct session_rig *rig = *state;

	session_rig_greet(rig, NULL);
	rig->park = true;
	ledger_set_limit(&rig->session->payer, LEDGER_REQUEST_BYTES, 1);
	for (uint64_t id = 0; id < 4; id++)
		session_rig_ping(rig, id);

	expect_arrivals(rig, 1);
	close(rig->client);
	rig->client = -1;
	pool_run(&rig->pool, session_rig_is_dead, rig);
	assert_int_equal(rig->arrived_count, 2); /* HELLO, and the one */
	assert_int_equal(ledger_used(&rig->session->payer, LEDGER_REQUESTS), 1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, session_rig_setup, session_rig_teardown)
	const struct CMUnitTest tests[] = {
		TEST(requests_wait_for_memory),           TEST(one_request_needs_no_room),
		TEST(the_memory_of_all_sessions_is_used), TEST(others_make_room_to_read),
		TEST(others_make_room_for_the_backlog),   TEST(a_hello_does_not_wait),
		TEST(parts_are_cancelled_together),       TEST(parts_that_have_begun_are_not),
		TEST(a_session_ends_with_a_backlog),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
