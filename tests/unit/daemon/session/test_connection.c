/* SPDX-License-Identifier: Apache-2.0 */
/* The connection of a session: how far it reads, replies that wait in order for a client that
 * does not read, descriptors that go with them, and clients that hang up. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/base/fdpass.h"
#include "daemon/base/list.h"
#include "daemon/ledger/ledger.h"
#include "daemon/session/outbox.h"
#include "daemon/session/request.h"
#include "tests/support/session_rig.h"

/* Greets, sends so many PINGs, numbered from `first` on, and keeps them unanswered. */
static void keep_pings(struct session_rig *rig, uint64_t first, uint64_t count)
{
	session_rig_greet(rig, NULL);
	rig->park = true;
	for (uint64_t i = 0; i < count; i++)
		session_rig_ping(rig, first + i);
	rig->wanted = 1 + count;
	pool_run(&rig->pool, session_rig_has_arrived, rig);
}

static void answer_oldest(struct session_rig *rig, const void *body, size_t size)
{
	request_reply(container_of(list_pop_front(&rig->parked), struct request, link), HBM_OK,
		      body, size);
}

static void no_more_is_read_than_may_be_in_flight(void **state)
{
	struct session_rig *rig = *state;
	struct hbm_wire_header reply;

	session_rig_greet(rig, NULL);
	rig->park = true;
	for (uint64_t id = 0; id < 3 * SESSION_RIG_REQUESTS; id++)
		session_rig_ping(rig, id);

	for (int round = 1; round <= 3; round++) {
		rig->wanted = 1 + (uint64_t)round * SESSION_RIG_REQUESTS;
		pool_run(&rig->pool, session_rig_has_arrived, rig);
		session_rig_idle(rig);
		assert_false(rig->session->connection.receiving); /* nothing wakes the loop */
		assert_int_equal(rig->arrived_count, rig->wanted);
		assert_int_equal(ledger_used(&rig->session->payer, LEDGER_REQUESTS),
				 SESSION_RIG_REQUESTS);
		session_rig_answer(rig);
	}

	for (uint64_t id = 0; id < 3 * SESSION_RIG_REQUESTS; id++)
		session_rig_hear(rig, &reply, sizeof(reply), HBM_WIRE_PING, id, HBM_OK);
	assert_int_equal(ledger_used(&rig->session->payer, LEDGER_REQUESTS), 0);
}

/* Requests whose replies are large, from a client that does not read them: they wait,
 * bounded, and come in order. */
static void a_client_that_does_not_read_is_waited_for(void **state)
{
	struct session_rig *rig = *state;
	static unsigned char body[100000], reply[sizeof(body) + sizeof(struct hbm_wire_header)];

	keep_pings(rig, 0, SESSION_RIG_REQUESTS);

	for (uint64_t id = 0; id < SESSION_RIG_REQUESTS; id++) {
		memset(body, (int)id, sizeof(body));
		answer_oldest(rig, body, id % 3 ? sizeof(body) : 200);
	}

	assert_in_range(ledger_used(&rig->session->payer, LEDGER_REQUESTS), 1,
			SESSION_RIG_REQUESTS);

	for (uint64_t id = 0; id < SESSION_RIG_REQUESTS; id++) {
		size_t size =
			session_rig_hear(rig, reply, sizeof(reply), HBM_WIRE_PING, id, HBM_OK);
		assert_int_equal(size,
				 sizeof(struct hbm_wire_header) + (id % 3 ? sizeof(body) : 200));
		assert_int_equal(reply[sizeof(struct hbm_wire_header)], id);
		assert_int_equal(reply[size - 1], id);
	}

	assert_int_equal(ledger_used(&rig->session->payer, LEDGER_REQUESTS), 0);
	assert_int_equal(rig->session->state, SESSION_LIVE);
}

static void a_body_inside_the_request_survives_queueing(void **state)
{
	struct session_rig *rig = *state;
	static unsigned char filler[100000], reply[sizeof(filler) + sizeof(struct hbm_wire_header)];

	session_rig_greet(rig, NULL);
	rig->park = true;
	struct hbm_wire_keys *keys = (void *)filler;
	*keys = (struct hbm_wire_keys){
		.header = {.size = sizeof(*keys) + 16 * 1000, .opcode = HBM_WIRE_LOOKUP, .id = 1},
		.count = 1000,
	};
	for (uint32_t i = 0; i < 1000; i++)
		keys->keys[i].bytes[i % 16] = (uint8_t)(1 + i % 251);
	session_rig_ping(rig, 0);
	session_rig_ping(rig, 0);
	session_rig_ping(rig, 0);
	session_rig_ping(rig, 0);
	session_rig_say(rig, keys, keys->header.size);
	rig->wanted = 6;
	pool_run(&rig->pool, session_rig_has_arrived, rig);
	static unsigned char body[100000];
	for (int i = 0; i < 4; i++)
		answer_oldest(rig, body, sizeof(body));

	struct request *last = container_of(list_pop_front(&rig->parked), struct request, link);
	const struct hbm_wire_keys *own = (const void *)last->message;
	request_reply(last, HBM_OK, own->keys, 1000 * sizeof(own->keys[0]));
	for (int i = 0; i < 4; i++)
		session_rig_hear(rig, reply, sizeof(reply), HBM_WIRE_PING, 0, HBM_OK);
	session_rig_hear(rig, reply, sizeof(reply), HBM_WIRE_LOOKUP, 1, HBM_OK);
	assert_memory_equal(reply + sizeof(struct hbm_wire_header), keys->keys, 16 * 1000);
}

enum { PART_FDS = 200 };

struct part {
	struct hbm_wire_header header;
	uint64_t number;
};

/* Greets, and answers request 77 with so many parts, of PART_FDS descriptors each. */
static void answer_in_parts(struct session_rig *rig, uint64_t count)
{
	keep_pings(rig, 77, 1);
	struct list parts;
	list_init(&parts);

	for (uint64_t i = 0; i < count; i++) {
		struct out_message *message = out_message_new(sizeof(struct part), PART_FDS);
		memcpy(message->bytes + offsetof(struct part, number), &i, sizeof(i));
		for (size_t k = 0; k < PART_FDS; k++)
			message->fds[k] = fcntl(0, F_DUPFD_CLOEXEC, 0);
		list_push_back(&parts, &message->link);
	}

	request_reply_messages(container_of(list_pop_front(&rig->parked), struct request, link),
			       &parts);
}

/* Takes the next part, which is to be that one of so many. */
static void take_part(struct session_rig *rig, uint64_t number, uint64_t count)
{
	struct part part;
	struct fdpass_fds fds;

	pool_run(&rig->pool, session_rig_can_read, rig);
	assert_int_equal(fdpass_receive(rig->client, &part, sizeof(part), &fds, 0), sizeof(part));
	assert_int_equal(fds.count, PART_FDS);
	assert_int_equal(part.number, number);
	assert_int_equal(part.header.id, 77);
	assert_int_equal(part.header.flags,
			 HBM_WIRE_REPLY | (number + 1 < count ? HBM_WIRE_MORE : 0));
	fdpass_close(&fds);
}

static void parts_carry_their_descriptors(void **state)
{
	struct session_rig *rig = *state;

	answer_in_parts(rig, 5);
	for (uint64_t i = 0; i < 5; i++)
		take_part(rig, i, 5);

	assert_int_equal(ledger_used(&rig->session->payer, LEDGER_REQUESTS), 0);
}

/* Five parts have less than 1,024 descriptors; the sixth waits until the client has read
 * them all, and the request is in flight until then. The two of HELLO count no longer: the
 * client read them before it sent its request. */
static void no_more_descriptors_are_sent_than_may_be_unread(void **state)
{
	struct session_rig *rig = *state;

	rig->pool.config.limit_ready_ms = 60000;
	ledger_open(&rig->ledger, &rig->pool.config);
	answer_in_parts(rig, 12);
	for (uint64_t i = 0; i < 12; i++) {
		session_rig_idle(rig);
		if (i % 5 == 0)
			assert_int_equal(ledger_used(&rig->session->payer, LEDGER_UNREAD_FDS),
					 (i < 10 ? 5 : 2) * PART_FDS);
		assert_int_equal(ledger_used(&rig->session->payer, LEDGER_REQUESTS), i < 10);
		take_part(rig, i, 12);
	}
}

static void a_client_that_leaves_descriptors_unread_is_disconnected(void **state)
{
	struct session_rig *rig = *state;

	answer_in_parts(rig, 6);
	pool_run(&rig->pool, session_rig_is_dead, rig);
	for (uint64_t i = 0; i < 5; i++)
		take_part(rig, i, 6);
}

/* It has broken the protocol, and its descriptors are in its socket still. */
static void a_session_that_has_ended_is_charged_until_all_is_read(void **state)
{
	struct session_rig *rig = *state;

	answer_in_parts(rig, 2);
	session_rig_idle(rig);
	session_rig_say(rig, "x", 1);
	pool_run(&rig->pool, session_rig_is_dead, rig);
	for (uint64_t i = 0; i < 2; i++) {
		session_rig_idle(rig);
		assert_int_equal(rig->freed, 0);
		assert_in_range(ledger_used(&rig->ledger.host, LEDGER_UNREAD_FDS), 2 * PART_FDS,
				2 * PART_FDS + 2);
		take_part(rig, i, 2);
	}

	pool_run(&rig->pool, session_rig_is_freed, rig);
	assert_int_equal(ledger_used(&rig->ledger.host, LEDGER_UNREAD_FDS), 0);
}

/* Else an end of the service would wait for the client. */
static void a_drained_session_does_not_wait_for_what_is_unread(void **state)
{
	struct session_rig *rig = *state;

	answer_in_parts(rig, 2);
	session_rig_idle(rig);
	session_rig_say(rig, "x", 1);
	pool_run(&rig->pool, session_rig_is_dead, rig);
	assert_int_equal(rig->freed, 0);
	session_drain(rig->session);
	assert_int_equal(rig->freed, 1);
}

/* Each descriptor of a reply that has to wait is a copy: the server may close its own. */
static void a_queued_reply_keeps_its_descriptors(void **state)
{
	struct session_rig *rig = *state;
	static unsigned char body[100000], reply[sizeof(body) + sizeof(struct hbm_wire_header)];
	struct hbm_wire_header header;
	struct fdpass_fds got;
	int pipes[2];
	char byte = 'x';

	keep_pings(rig, 0, SESSION_RIG_REQUESTS);
	for (uint64_t id = 0; id < SESSION_RIG_REQUESTS - 1; id++)
		answer_oldest(rig, body, sizeof(body));

	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	request_reply_fds(container_of(list_pop_front(&rig->parked), struct request, link), HBM_OK,
			  NULL, 0, pipes, 2);
	close(pipes[0]);
	close(pipes[1]);

	for (uint64_t id = 0; id < SESSION_RIG_REQUESTS - 1; id++)
		session_rig_hear(rig, reply, sizeof(reply), HBM_WIRE_PING, id, HBM_OK);
	pool_run(&rig->pool, session_rig_can_read, rig);
	assert_int_equal(fdpass_receive(rig->client, &header, sizeof(header), &got, 0),
			 sizeof(header));
	assert_int_equal(got.count, 2);
	assert_int_equal(write(got.list[1], &byte, 1), 1);
	byte = 0;
	assert_int_equal(read(got.list[0], &byte, 1), 1);
	assert_int_equal(byte, 'x');
	fdpass_close(&got);
}

/* The system may be set to smaller sockets than our largest message needs. */
static void a_reply_larger_than_the_socket_is_a_refusal(void **state)
{
	struct session_rig *rig = *state;
	static unsigned char body[100000];
	struct hbm_wire_header reply;

	keep_pings(rig, 1, 2);
	assert_int_equal(setsockopt(rig->session->connection.watch.fd, SOL_SOCKET, SO_SNDBUF,
				    &(int){1}, sizeof(int)),
			 0);

	answer_oldest(rig, body, sizeof(body));
	session_rig_hear(rig, &reply, sizeof(reply), HBM_WIRE_PING, 1, HBM_LIMIT);
	session_rig_answer(rig);
	session_rig_hear(rig, &reply, sizeof(reply), HBM_WIRE_PING, 2, HBM_OK);
	assert_int_equal(rig->session->state, SESSION_LIVE);
}

static void a_hang_up_leaves_requests_to_end_by_themselves(void **state)
{
	struct session_rig *rig = *state;

	keep_pings(rig, 0, 4);
	close(rig->client);
	rig->client = -1;
	pool_run(&rig->pool, session_rig_is_dead, rig);
	session_rig_idle(rig);
	assert_int_equal(rig->freed, 0);
	session_rig_answer(rig);
	assert_int_equal(rig->freed, 1);
	assert_int_equal(rig->counters.sessions_dropped, 0); /* it broke no rule */
}

static void a_hang_up_drops_queued_replies(void **state)
{
	struct session_rig *rig = *state;
	static unsigned char body[100000];

	keep_pings(rig, 0, SESSION_RIG_REQUESTS);

	for (uint64_t id = 0; id < SESSION_RIG_REQUESTS - 1; id++)
		answer_oldest(rig, body, sizeof(body));

	close(rig->client);
	rig->client = -1;
	pool_run(&rig->pool, session_rig_is_dead, rig);
	assert_int_equal(rig->freed, 0);
	assert_int_equal(rig->counters.sessions_dropped, 0);
}

/* The daemon may have many requests with a descriptor before it looks at the first. */
static void a_descriptor_is_charged_while_its_request_waits(void **state)
{
	const struct hbm_wire_region_import import = {
		.header = {.size = sizeof(import), .opcode = HBM_WIRE_REGION_IMPORT, .id = 1},
		.kind = HBM_WIRE_GUEST_FD,
		.bytes = 2 << 20};
	const struct iovec iov = {(void *)(uintptr_t)&import, sizeof(import)};
	struct session_rig *rig = *state;

	session_rig_greet(rig, NULL);
	rig->park = true;
	uint64_t before = ledger_used(&rig->session->payer, LEDGER_DESCRIPTORS);
	for (int i = 0; i < 2; i++)
		assert_int_equal(fdpass_send(rig->client, &iov, 1, &rig->client, 1), 0);
	rig->wanted = 3;
	pool_run(&rig->pool, session_rig_has_arrived, rig);
	assert_int_equal(ledger_used(&rig->session->payer, LEDGER_DESCRIPTORS), before + 2);
	session_rig_answer(rig);
	assert_int_equal(ledger_used(&rig->session->payer, LEDGER_DESCRIPTORS), before);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, session_rig_setup, session_rig_teardown)
	const struct CMUnitTest tests[] = {
		TEST(no_more_is_read_than_may_be_in_flight),
		TEST(a_client_that_does_not_read_is_waited_for),
		TEST(a_body_inside_the_request_survives_queueing),
		TEST(parts_carry_their_descriptors),
		TEST(no_more_descriptors_are_sent_than_may_be_unread),
		TEST(a_client_that_leaves_descriptors_unread_is_disconnected),
		TEST(a_session_that_has_ended_is_charged_until_all_is_read),
		TEST(a_drained_session_does_not_wait_for_what_is_unread),
		TEST(a_queued_reply_keeps_its_descriptors),
		TEST(a_reply_larger_than_the_socket_is_a_refusal),
		TEST(a_hang_up_leaves_requests_to_end_by_themselves),
		TEST(a_hang_up_drops_queued_replies),
		TEST(a_descriptor_is_charged_while_its_request_waits),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
