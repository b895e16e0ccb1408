/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A session, with the test as its client on the other end of a socket and as its server
 * behind the hooks: what is dropped, refused and let through; clients that do not read,
 * do not speak, hang up or die; fences.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/base/clock.h"
#include "daemon/base/fdpass.h"
#include "daemon/base/list.h"
#include "daemon/region/commit.h"
#include "daemon/region/slab.h"
#include "daemon/session/fences.h"
#include "daemon/session/outbox.h"
#include "daemon/session/session.h"
#include "tests/support/soft_pool.h"

#define LIMIT 16

struct fixture {
	struct soft_pool pool;
	struct ledger ledger;
	struct session_owner owner;
	struct session *session;
	int client;  /* the other end */
	bool park;   /* keep requests instead of answering them */
	size_t cost; /* bytes charged for each of them */
	struct list parked;
	uint64_t arrived_count, died, freed, requests, refused, dropped;
	uint64_t wanted;
};

static struct fixture *fixture_of(struct session_owner *owner)
{
	return container_of(owner, struct fixture, owner);
}

static void greet(struct request *request)
{
	struct session *session = request->session;
	struct hbm_wire_hello_reply reply = {.magic = HBM_WIRE_MAGIC, .session = session->id};
	int fds[] = {session_fence_fd(session), session_doorbell_fd(session)};

	request_reply_fds(request, HBM_OK, &reply.magic, sizeof(reply) - sizeof(reply.header), fds,
			  2);
	session_greeted(session);
}

static void arrived(struct session_owner *owner, struct request *request)
{
	struct fixture *fixture = fixture_of(owner);
	fixture->arrived_count++;

	if (fixture->park) {
		request_charge(request, fixture->cost);
		list_push_back(&fixture->parked, &request->link);
	} else if (request->message->opcode == HBM_WIRE_HELLO) {
		greet(request);
	} else {
		request_reply(request, HBM_OK, NULL, 0);
	}
}

static void died(struct session_owner *owner, struct session *session)
{
	assert_int_equal(session->state, SESSION_DEAD);
	fixture_of(owner)->died++;
}

static void freed(struct session_owner *owner, struct session *session)
{
	(void)session;
	fixture_of(owner)->freed++;
}

static int setup(void **state)
{
	static struct fixture fixture;

	memset(&fixture, 0, sizeof(fixture));
	pool_open(&fixture.pool, 32 * MIB);
	fixture.pool.config.limit_requests_in_flight = LIMIT;
	fixture.pool.config.limit_ready_ms = 50;
	fixture.pool.config.limit_hello_ms = 5000;
	ledger_open(&fixture.ledger, &fixture.pool.config);
	fixture.owner = (struct session_owner){
		.loop = fixture.pool.loop,
		.ledger = &fixture.ledger,
		.incoming = aligned_alloc(64, HBM_WIRE_MESSAGE_MAX),
		.requests = &fixture.requests,
		.refused = &fixture.refused,
		.dropped = &fixture.dropped,
		.arrived = arrived,
		.died = died,
		.freed = freed,
	};
	list_init(&fixture.parked);
	fixture.client = -1;
	*state = &fixture;

	return 0;
}

static bool is_freed(void *arg)
{
	return ((struct fixture *)arg)->freed == 1;
}

static void answer_parked(struct fixture *fixture)
{
	for (struct list *node; (node = list_pop_front(&fixture->parked));)
		request_reply(container_of(node, struct request, link), HBM_OK, NULL, 0);
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;
	if (fixture->client >= 0)
		close(fixture->client);

	answer_parked(fixture);
	pool_run(&fixture->pool, is_freed, fixture);
	assert_int_equal(fixture->died, 1);
	pool_run(&fixture->pool, pool_is_quiet, &fixture->pool);
	pool_close(&fixture->pool);
	free(fixture->owner.incoming);

	return 0;
}

/* ---- The client's side ---- */

static void connect_client(struct fixture *fixture)
{
	int ends[2];
	assert_int_equal(
		socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
	assert_int_equal(session_open(&fixture->session, &fixture->owner, ends[0], 1), 0);
	fixture->client = ends[1];
}

static void say(struct fixture *fixture, const void *message, size_t size)
{
	assert_int_equal(send(fixture->client, message, size, MSG_NOSIGNAL), size);
}

static bool can_read(void *arg)
{
	char byte;
	return recv(((struct fixture *)arg)->client, &byte, 1,
		    MSG_PEEK | MSG_DONTWAIT | MSG_TRUNC) > 0;
}

/* The next reply's size; its header is checked. */
static size_t hear(struct fixture *fixture, void *message, size_t room, unsigned opcode,
		   uint64_t id, int status)
{
	pool_run(&fixture->pool, can_read, fixture);
	ssize_t n = recv(fixture->client, message, room, MSG_DONTWAIT);
	struct hbm_wire_header header;
	assert_in_range(n, sizeof(header), room);
	memcpy(&header, message, sizeof(header));
	assert_int_equal(header.size, n);
	assert_int_equal(header.opcode, opcode);
	assert_int_equal(header.id, id);
	assert_int_equal(header.status, status);
	assert_int_equal(header.flags, HBM_WIRE_REPLY);

	return (size_t)n;
}

static void say_ping(struct fixture *fixture, uint64_t id)
{
	struct hbm_wire_header ping = {.size = sizeof(ping), .opcode = HBM_WIRE_PING, .id = id};
	say(fixture, &ping, sizeof(ping));
}

static void say_hello(struct fixture *fixture)
{
	struct hbm_wire_hello hello = {
		.header = {.size = sizeof(hello), .opcode = HBM_WIRE_HELLO, .id = 1},
		.magic = HBM_WIRE_MAGIC,
		.version_min = HBM_WIRE_VERSION,
		.version_max = HBM_WIRE_VERSION,
	};
	say(fixture, &hello, sizeof(hello));
}

/* Connects, says HELLO, and takes the fence page and the doorbell (closed; -1 if not
 * wanted). */
static void greet_client(struct fixture *fixture, int fds[2])
{
	struct hbm_wire_hello_reply reply;
	struct fdpass_fds got;

	connect_client(fixture);
	say_hello(fixture);
	pool_run(&fixture->pool, can_read, fixture);
	assert_int_equal(fdpass_receive(fixture->client, &reply, sizeof(reply), &got, 0),
			 sizeof(reply));
	assert_int_equal(got.count, 2);

	for (int i = 0; i < 2; i++) {
		if (fds)
			fds[i] = got.list[i];
		else
			close(got.list[i]);
	}
}

static bool is_dead(void *arg)
{
	return ((struct fixture *)arg)->died == 1;
}

static bool has_arrived(void *arg)
{
	const struct fixture *fixture = arg;
	return fixture->arrived_count == fixture->wanted;
}

static bool a_moment_has_passed(void *arg)
{
	return (*(unsigned *)arg)-- == 0;
}

/* Lets the loop turn a while, for what must not happen. */
static void idle(struct fixture *fixture)
{
	unsigned turns = 50;
	pool_run(&fixture->pool, a_moment_has_passed, &turns);
}

/* ---- Messages ---- */

static void a_ping_is_answered(void **state)
{
	struct fixture *fixture = *state;
	struct hbm_wire_header reply;

	greet_client(fixture, NULL);

	for (uint64_t id = 10; id < 20; id++) {
		say_ping(fixture, id);
		assert_int_equal(hear(fixture, &reply, sizeof(reply), HBM_WIRE_PING, id, HBM_OK),
				 sizeof(reply));
	}

	assert_int_equal(fixture->requests, 11);
	assert_int_equal(ledger_used(&fixture->session->payer, LEDGER_REQUESTS), 0);
	assert_int_equal(fixture->session->pid, getpid());
	assert_int_equal(fixture->session->uid, getuid());
	assert_int_equal(session_is_operator(fixture->session), true);
}

static void malformed_requests_are_refused_and_the_session_goes_on(void **state)
{
	struct fixture *fixture = *state;
	struct hbm_wire_header bad = {
		.size = sizeof(bad), .opcode = HBM_WIRE_PING, .id = 3, .zero = 1};
	struct hbm_wire_refusal reply;

	greet_client(fixture, NULL);
	say(fixture, &bad, sizeof(bad));
	hear(fixture, &reply, sizeof(reply), HBM_WIRE_PING, 3, HBM_INVALID);
	assert_string_equal(reply.reason, "header.zero is 1, expected 0");
	bad = (struct hbm_wire_header){.size = sizeof(bad), .opcode = 999, .id = 4};
	say(fixture, &bad, sizeof(bad));
	hear(fixture, &reply, sizeof(reply), 999, 4, HBM_UNSUPPORTED);
	assert_non_null(strstr(reply.reason, "header.opcode is 999, expected "));
	say_hello(fixture);
	hear(fixture, &reply, sizeof(reply), HBM_WIRE_HELLO, 1, HBM_INVALID);
	assert_string_equal(reply.reason, "a second HELLO");
	say_ping(fixture, 5);
	hear(fixture, &reply, sizeof(reply), HBM_WIRE_PING, 5, HBM_OK);
	assert_int_equal(fixture->refused, 3);
	assert_int_equal(fixture->arrived_count, 2);
}

static void assert_dropped(struct fixture *fixture)
{
	char byte;
	pool_run(&fixture->pool, is_freed, fixture);
	assert_int_equal(fixture->dropped, 1);
	ssize_t n = recv(fixture->client, &byte, 1, MSG_DONTWAIT);
	assert_int_equal(n < 0 ? errno : n, n < 0 ? ECONNRESET : 0);
}

static void a_request_before_hello_ends_the_session(void **state)
{
	struct fixture *fixture = *state;
	connect_client(fixture);
	say_ping(fixture, 1);
	assert_dropped(fixture);
	assert_int_equal(fixture->arrived_count, 0);
}

static void a_wrong_size_ends_the_session(void **state)
{
	struct fixture *fixture = *state;
	struct hbm_wire_header bad = {.size = sizeof(bad) + 1, .opcode = HBM_WIRE_PING};
	greet_client(fixture, NULL);
	say(fixture, &bad, sizeof(bad));
	assert_dropped(fixture);
}

static void too_long_a_message_ends_the_session(void **state)
{
	struct fixture *fixture = *state;
	static char bytes[HBM_WIRE_MESSAGE_MAX + 1];
	struct hbm_wire_header header = {.size = sizeof(bytes), .opcode = HBM_WIRE_PING};

	memcpy(bytes, &header, sizeof(header));
	greet_client(fixture, NULL);
	say(fixture, bytes, sizeof(bytes));
	assert_dropped(fixture);
}

static void an_empty_message_ends_the_session(void **state)
{
	struct fixture *fixture = *state;
	greet_client(fixture, NULL);
	say(fixture, "", 0);
	pool_run(&fixture->pool, is_freed, fixture);
}

static void descriptors_end_the_session(void **state)
{
	struct fixture *fixture = *state;
	struct hbm_wire_header ping = {.size = sizeof(ping), .opcode = HBM_WIRE_PING};
	struct iovec iov = {&ping, sizeof(ping)};

	greet_client(fixture, NULL);
	assert_int_equal(fdpass_send(fixture->client, &iov, 1, &(int){0}, 1), 0);
	assert_dropped(fixture);
}

static void silence_before_hello_ends_the_session(void **state)
{
	struct fixture *fixture = *state;
	ledger_set_limit(&fixture->ledger.host, LEDGER_HELLO_MS, 1);
	connect_client(fixture);
	assert_dropped(fixture);
}

/* ---- Bounds ---- */

static void no_more_is_read_than_may_be_in_flight(void **state)
{
	struct fixture *fixture = *state;
	struct hbm_wire_header reply;

	greet_client(fixture, NULL);
	fixture->park = true;
	for (uint64_t id = 0; id < 3 * LIMIT; id++)
		say_ping(fixture, id);

	for (int round = 1; round <= 3; round++) {
		fixture->wanted = 1 + (uint64_t)round * LIMIT;
		pool_run(&fixture->pool, has_arrived, fixture);
		idle(fixture);
		assert_int_equal(fixture->arrived_count, fixture->wanted);
		assert_int_equal(ledger_used(&fixture->session->payer, LEDGER_REQUESTS), LIMIT);
		answer_parked(fixture);
	}

	for (uint64_t id = 0; id < 3 * LIMIT; id++)
		hear(fixture, &reply, sizeof(reply), HBM_WIRE_PING, id, HBM_OK);
	assert_int_equal(ledger_used(&fixture->session->payer, LEDGER_REQUESTS), 0);
}

/* Lets n more requests arrive, and no more than these. */
static void expect_arrivals(struct fixture *fixture, uint64_t n)
{
	fixture->wanted = fixture->arrived_count + n;
	pool_run(&fixture->pool, has_arrived, fixture);
	idle(fixture);
	assert_int_equal(fixture->arrived_count, fixture->wanted);
}

static void answer_oldest(struct fixture *fixture, uint64_t id)
{
	struct hbm_wire_header reply;
	struct request *request =
		container_of(list_pop_front(&fixture->parked), struct request, link);

	assert_int_equal(request->message->id, id);
	request_reply(request, HBM_OK, NULL, 0);
	hear(fixture, &reply, sizeof(reply), HBM_WIRE_PING, id, HBM_OK);
}

/* Handlers get as many requests as there is memory for; the others are read, and wait in
 * order. A CANCEL does not wait. */
static void requests_wait_for_memory(void **state)
{
	struct fixture *fixture = *state;
	struct hbm_wire_cancel cancel = {
		.header = {.size = sizeof(cancel), .opcode = HBM_WIRE_CANCEL, .id = 100}};

	greet_client(fixture, NULL);
	fixture->park = true;
	fixture->cost = MIB;
	ledger_set_limit(&fixture->session->payer, LEDGER_REQUEST_BYTES, 3 * MIB);
	for (uint64_t id = 0; id < 8; id++)
		say_ping(fixture, id);

	expect_arrivals(fixture, 3);
	assert_int_equal(ledger_used(&fixture->session->payer, LEDGER_REQUESTS), 8);
	assert_in_range(ledger_used(&fixture->session->payer, LEDGER_REQUEST_BYTES), 3 * MIB,
			3 * MIB + 8 * 1024);

	say(fixture, &cancel, sizeof(cancel));
	expect_arrivals(fixture, 1);
	struct request *last = container_of(fixture->parked.prev, struct request, link);
	assert_int_equal(last->message->id, 100);
	list_remove(&last->link);
	request_reply(last, HBM_OK, NULL, 0);
	struct hbm_wire_header reply;
	hear(fixture, &reply, sizeof(reply), HBM_WIRE_CANCEL, 100, HBM_OK);

	for (uint64_t id = 0; id < 8; id++) {
		answer_oldest(fixture, id);
		idle(fixture);
	}

	assert_int_equal(ledger_used(&fixture->session->payer, LEDGER_REQUEST_BYTES), 0);
}

/* However little memory there may be, one request at a time is served. */
static void one_request_needs_no_room(void **state)
{
	struct fixture *fixture = *state;

	greet_client(fixture, NULL);
	fixture->park = true;
	fixture->cost = MIB;
	ledger_set_limit(&fixture->session->payer, LEDGER_REQUEST_BYTES, 1);
	for (uint64_t id = 0; id < 4; id++)
		say_ping(fixture, id);

	expect_arrivals(fixture, 1);
	for (uint64_t id = 0; id < 4; id++) {
		fixture->wanted = fixture->arrived_count + (id < 3);
		answer_oldest(fixture, id);
		pool_run(&fixture->pool, has_arrived, fixture);
	}
}

/* Other sessions have all the memory there is for requests: this one has one at a time,
 * and is not read any further until there is room again. */
static void the_memory_of_all_sessions_is_used(void **state)
{
	struct fixture *fixture = *state;
	struct payer other;
	struct charge charge = {0};

	payer_open(&other, &fixture->ledger, PAYER_SESSION);
	greet_client(fixture, NULL);
	/* Its share is some bytes: less than a request takes. */
	ledger_set_limit(&fixture->ledger.host, LEDGER_REQUEST_BYTES, 100);
	ledger_charge_always(&charge, &other, LEDGER_REQUEST_BYTES, 100);
	fixture->park = true;
	for (uint64_t id = 0; id < 4; id++)
		say_ping(fixture, id);

	expect_arrivals(fixture, 1);
	assert_int_equal(ledger_used(&fixture->session->payer, LEDGER_REQUESTS), 1);
	fixture->wanted++;
	answer_oldest(fixture, 0);
	pool_run(&fixture->pool, has_arrived, fixture);
	idle(fixture);
	assert_int_equal(ledger_used(&fixture->session->payer, LEDGER_REQUESTS), 1);

	/* A larger share is room for another request. */
	ledger_release(&charge);
	ledger_set_limit(&fixture->ledger.host, LEDGER_REQUEST_BYTES, MIB);
	ledger_charge_always(&charge, &other, LEDGER_REQUEST_BYTES, MIB);
	fixture->wanted += 2;
	answer_oldest(fixture, 1);
	pool_run(&fixture->pool, has_arrived, fixture);
	answer_oldest(fixture, 2);
	answer_oldest(fixture, 3);
	ledger_release(&charge);
	payer_close(&other);
}

/* What waits for memory when the client hangs up is answered, to nobody. */
static void a_session_ends_with_a_backlog(void **state)
{
	struct fixture *fixture = *state;

	greet_client(fixture, NULL);
	fixture->park = true;
	ledger_set_limit(&fixture->session->payer, LEDGER_REQUEST_BYTES, 1);
	for (uint64_t id = 0; id < 4; id++)
		say_ping(fixture, id);

	expect_arrivals(fixture, 1);
	close(fixture->client);
	fixture->client = -1;
	pool_run(&fixture->pool, is_dead, fixture);
	assert_int_equal(fixture->arrived_count, 2); /* HELLO, and the one */
	assert_int_equal(ledger_used(&fixture->session->payer, LEDGER_REQUESTS), 1);
}

/* Requests whose replies are large, from a client that does not read them: they wait,
 * bounded, and come in order. */
static void a_client_that_does_not_read_is_waited_for(void **state)
{
	struct fixture *fixture = *state;
	static unsigned char body[100000], reply[sizeof(body) + sizeof(struct hbm_wire_header)];

	greet_client(fixture, NULL);
	fixture->park = true;
	for (uint64_t id = 0; id < LIMIT; id++)
		say_ping(fixture, id);
	fixture->wanted = 1 + LIMIT;
	pool_run(&fixture->pool, has_arrived, fixture);

	for (uint64_t id = 0; id < LIMIT; id++) {
		struct list *node = list_pop_front(&fixture->parked);
		memset(body, (int)id, sizeof(body));
		request_reply(container_of(node, struct request, link), HBM_OK, body,
			      id % 3 ? sizeof(body) : 200);
	}

	assert_in_range(ledger_used(&fixture->session->payer, LEDGER_REQUESTS), 1, LIMIT);

	for (uint64_t id = 0; id < LIMIT; id++) {
		size_t size = hear(fixture, reply, sizeof(reply), HBM_WIRE_PING, id, HBM_OK);
		assert_int_equal(size,
				 sizeof(struct hbm_wire_header) + (id % 3 ? sizeof(body) : 200));
		assert_int_equal(reply[sizeof(struct hbm_wire_header)], id);
		assert_int_equal(reply[size - 1], id);
	}

	assert_int_equal(ledger_used(&fixture->session->payer, LEDGER_REQUESTS), 0);
	assert_int_equal(fixture->session->state, SESSION_LIVE);
}

static void a_body_inside_the_request_survives_queueing(void **state)
{
	struct fixture *fixture = *state;
	static unsigned char filler[100000], reply[sizeof(filler) + sizeof(struct hbm_wire_header)];

	greet_client(fixture, NULL);
	fixture->park = true;
	struct hbm_wire_keys *keys = (void *)filler;
	*keys = (struct hbm_wire_keys){
		.header = {.size = sizeof(*keys) + 16 * 1000, .opcode = HBM_WIRE_LOOKUP, .id = 1},
		.count = 1000,
	};
	for (uint32_t i = 0; i < 1000; i++)
		keys->keys[i].bytes[i % 16] = (uint8_t)(1 + i % 251);
	say_ping(fixture, 0);
	say_ping(fixture, 0);
	say_ping(fixture, 0);
	say_ping(fixture, 0);
	say(fixture, keys, keys->header.size);
	fixture->wanted = 6;
	pool_run(&fixture->pool, has_arrived, fixture);
	static unsigned char body[100000];
	for (int i = 0; i < 4; i++)
		request_reply(container_of(list_pop_front(&fixture->parked), struct request, link),
			      HBM_OK, body, sizeof(body));

	struct request *last = container_of(list_pop_front(&fixture->parked), struct request, link);
	const struct hbm_wire_keys *own = (const void *)last->message;
	request_reply(last, HBM_OK, own->keys, 1000 * sizeof(own->keys[0]));
	for (int i = 0; i < 4; i++)
		hear(fixture, reply, sizeof(reply), HBM_WIRE_PING, 0, HBM_OK);
	hear(fixture, reply, sizeof(reply), HBM_WIRE_LOOKUP, 1, HBM_OK);
	assert_memory_equal(reply + sizeof(struct hbm_wire_header), keys->keys, 16 * 1000);
}

static void parts_carry_their_descriptors(void **state)
{
	struct fixture *fixture = *state;

	greet_client(fixture, NULL);
	fixture->park = true;
	say_ping(fixture, 77);
	fixture->wanted = 2;
	pool_run(&fixture->pool, has_arrived, fixture);
	struct list parts;
	list_init(&parts);

	for (uint64_t i = 0; i < 5; i++) {
		struct out_message *message =
			out_message_new(sizeof(struct hbm_wire_header) + sizeof(i), 200);
		memcpy(message->bytes + sizeof(struct hbm_wire_header), &i, sizeof(i));
		for (size_t k = 0; k < 200; k++)
			message->fds[k] = fcntl(0, F_DUPFD_CLOEXEC, 0);
		list_push_back(&parts, &message->link);
	}

	request_reply_messages(container_of(list_pop_front(&fixture->parked), struct request, link),
			       &parts);
	for (uint64_t i = 0; i < 5; i++) {
		struct {
			struct hbm_wire_header header;
			uint64_t i;
		} part;
		struct fdpass_fds fds;

		pool_run(&fixture->pool, can_read, fixture);
		assert_int_equal(fdpass_receive(fixture->client, &part, sizeof(part), &fds, 0),
				 sizeof(part));
		assert_int_equal(fds.count, 200);
		assert_int_equal(part.i, i);
		assert_int_equal(part.header.id, 77);
		assert_int_equal(part.header.flags, HBM_WIRE_REPLY | (i < 4 ? HBM_WIRE_MORE : 0));
		fdpass_close(&fds);
	}

	assert_int_equal(ledger_used(&fixture->session->payer, LEDGER_REQUESTS), 0);
}

/* ---- Ends ---- */

static void a_hang_up_leaves_requests_to_end_by_themselves(void **state)
{
	struct fixture *fixture = *state;

	greet_client(fixture, NULL);
	fixture->park = true;
	for (uint64_t id = 0; id < 4; id++)
		say_ping(fixture, id);
	fixture->wanted = 5;
	pool_run(&fixture->pool, has_arrived, fixture);
	close(fixture->client);
	fixture->client = -1;
	pool_run(&fixture->pool, is_dead, fixture);
	idle(fixture);
	assert_int_equal(fixture->freed, 0);
	answer_parked(fixture);
	assert_int_equal(fixture->freed, 1);
}

static void a_hang_up_drops_queued_replies(void **state)
{
	struct fixture *fixture = *state;
	static unsigned char body[100000];

	greet_client(fixture, NULL);
	fixture->park = true;
	for (uint64_t id = 0; id < LIMIT; id++)
		say_ping(fixture, id);
	fixture->wanted = 1 + LIMIT;
	pool_run(&fixture->pool, has_arrived, fixture);

	for (uint64_t id = 0; id < LIMIT - 1; id++)
		request_reply(container_of(list_pop_front(&fixture->parked), struct request, link),
			      HBM_OK, body, sizeof(body));

	close(fixture->client);
	fixture->client = -1;
	pool_run(&fixture->pool, is_dead, fixture);
	assert_int_equal(fixture->freed, 0);
}

static void a_drained_session_ends_after_its_last_reply(void **state)
{
	struct fixture *fixture = *state;
	struct hbm_wire_header reply;

	greet_client(fixture, NULL);
	fixture->park = true;
	say_ping(fixture, 1);
	fixture->wanted = 2;
	pool_run(&fixture->pool, has_arrived, fixture);
	session_drain(fixture->session);
	say_ping(fixture, 2);
	idle(fixture);
	assert_int_equal(fixture->arrived_count, 2);
	assert_int_equal(fixture->died, 0);
	answer_parked(fixture);
	hear(fixture, &reply, sizeof(reply), HBM_WIRE_PING, 1, HBM_OK);
	pool_run(&fixture->pool, is_freed, fixture);
}

/* ---- States ---- */

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
static void reach(struct fixture *fixture, enum session_state state)
{
	fixture->arrived_count = fixture->died = fixture->freed = 0;
	fixture->park = true;
	fixture->wanted = 1;
	connect_client(fixture);
	say_hello(fixture);
	pool_run(&fixture->pool, has_arrived, fixture);
	assert_int_equal(fixture->session->state, SESSION_GREETING);

	if (state != SESSION_GREETING)
		events[state - 1](fixture->session);

	assert_int_equal(fixture->session->state, state);
}

static void every_event_in_every_state(void **state)
{
	struct fixture *fixture = *state;

	for (unsigned from = 0; from < STATES; from++) {
		for (unsigned event = 0; event < EVENTS; event++) {
			reach(fixture, from);
			events[event](fixture->session);
			enum session_state to = expected[from][event];
			assert_int_equal(fixture->session->state, to);
			assert_int_equal(ledger_used(&fixture->session->payer, LEDGER_REQUESTS), 1);
			assert_int_equal(fixture->died, to == SESSION_DEAD);
			assert_int_equal(connection_is_open(&fixture->session->connection),
					 to < SESSION_CLOSING);

			/* However it got there, it ends once. */
			close(fixture->client);
			fixture->client = -1;
			pool_run(&fixture->pool, is_dead, fixture);
			assert_int_equal(fixture->freed, 0);
			answer_parked(fixture);
			idle(fixture);
			assert_int_equal(fixture->died, 1);
			assert_int_equal(fixture->freed, 1);
		}
	}
}

/* ---- Fences ---- */

struct waiter {
	struct ready_wait wait;
	struct request *request; /* keeps the session */
	bool fired;
	int status;
};

static void waiter_fire(struct ready_wait *wait, int status)
{
	struct waiter *waiter = container_of(wait, struct waiter, wait);

	assert_int_equal(waiter->fired, false);
	waiter->fired = true;
	waiter->status = status;
	if (waiter->request)
		request_reply(waiter->request, status, NULL, 0);
}

static bool has_fired(void *arg)
{
	return ((struct waiter *)arg)->fired;
}

static void start_wait(struct fixture *fixture, struct waiter *waiter, uint32_t slot,
		       uint64_t value)
{
	*waiter = (struct waiter){.wait = {.slot = slot, .value = value, .fire = waiter_fire}};
	session_wait_ready(fixture->session, &waiter->wait);
	assert_int_equal(waiter->fired, false);
}

static void fences_are_shared_both_ways(void **state)
{
	struct fixture *fixture = *state;
	struct waiter first, second, third;
	int fds[2];

	ledger_set_limit(&fixture->ledger.host, LEDGER_READY_MS, 5000);
	greet_client(fixture, fds);
	uint64_t *page =
		mmap(NULL, HBM_WIRE_FENCES * 8, PROT_READ | PROT_WRITE, MAP_SHARED, fds[0], 0);
	assert_ptr_not_equal(page, MAP_FAILED);
	assert_int_equal(ftruncate(fds[0], 0), -1); /* sealed */
	assert_int_equal(ftruncate(fds[0], 8192), -1);

	session_fence(fixture->session, 511, 42);
	session_fence(fixture->session, HBM_WIRE_NO_FENCE, 1);
	assert_int_equal(page[511], 42);

	page[3] = 5; /* reached before, beyond, and later */
	start_wait(fixture, &first, 3, 5);
	start_wait(fixture, &second, 3, 4);
	start_wait(fixture, &third, 4, 9);
	pool_run(&fixture->pool, has_fired, &first);
	pool_run(&fixture->pool, has_fired, &second);
	assert_int_equal(first.status, HBM_OK);
	assert_int_equal(second.status, HBM_OK);
	idle(fixture);
	assert_int_equal(third.fired, false);
	__atomic_store_n(&page[4], 8, __ATOMIC_RELEASE);
	idle(fixture);
	assert_int_equal(third.fired, false);
	__atomic_store_n(&page[4], 9, __ATOMIC_RELEASE); /* no bell */
	pool_run(&fixture->pool, has_fired, &third);
	assert_int_equal(third.status, HBM_OK);
	assert_int_equal(munmap(page, HBM_WIRE_FENCES * 8), 0);
	close(fds[0]);
	close(fds[1]);
}

/* A client may clear O_NONBLOCK, as it shares the doorbell's file; the daemon must not
 * block for that. */
static void a_hostile_doorbell_blocks_nobody(void **state)
{
	struct fixture *fixture = *state;
	struct waiter waiter;
	int fds[2];

	greet_client(fixture, fds);
	assert_int_equal(fcntl(fds[1], F_SETFL, 0), 0);
	start_wait(fixture, &waiter, 0, 1);

	for (int i = 0; i < 100; i++) {
		uint64_t one = 1;
		assert_int_equal(write(fds[1], &one, 8), 8);
		unsigned turns = 1;
		pool_run(&fixture->pool, a_moment_has_passed, &turns);
	}

	pool_run(&fixture->pool, has_fired, &waiter);
	assert_int_equal(waiter.status, HBM_TIMEOUT);
	close(fds[0]);
	close(fds[1]);
}

struct watched_fences {
	struct fences fences;
	uint64_t set_for, looks, until_ns;
};

/* Each look sets the tick anew. */
static bool has_looked_long_enough(void *arg)
{
	struct watched_fences *watched = arg;
	watched->looks += watched->fences.tick.at_ns != watched->set_for;
	watched->set_for = watched->fences.tick.at_ns;
	return clock_now() >= watched->until_ns;
}

/* A fence that does not come is looked for less and less often: a client could open a
 * thousand sessions of such. */
static void fences_that_do_not_come_cost_little(void **state)
{
	struct fixture *fixture = *state;
	/* a failed assertion must not pull it away from the loop */
	static struct watched_fences watched;

	greet_client(fixture, NULL);
	assert_int_equal(fences_open(&watched.fences, fixture->pool.loop, 10000000000u), 0);
	static struct waiter waiter = {.wait = {.slot = 2, .value = 1, .fire = waiter_fire}};
	fences_wait(&watched.fences, &waiter.wait);
	watched.until_ns = clock_now() + 400000000u;
	pool_run(&fixture->pool, has_looked_long_enough, &watched);
	assert_in_range(watched.looks, 10, 200); /* every FENCES_TICK_NS would be 2,000 */
	uint64_t set_ns = clock_now();
	fences_set(&watched.fences, 2, 1);
	pool_run(&fixture->pool, has_fired, &waiter);
	assert_int_equal(waiter.status, HBM_OK);
	assert_in_range(clock_now() - set_ns, 0,
			200000000u); /* a sixteenth of 0.4 s, and a slow machine */
	fences_close(&watched.fences);
}

static void what_waits_can_be_cancelled(void **state)
{
	struct fixture *fixture = *state;
	struct waiter waiters[4];

	greet_client(fixture, NULL);
	ledger_set_limit(&fixture->ledger.host, LEDGER_READY_MS, 60000);
	for (uint64_t i = 0; i < 4; i++) {
		start_wait(fixture, &waiters[i], 0, 1);
		waiters[i].wait.id = i;
	}

	assert_int_equal(session_cancel(fixture->session, &(uint64_t){4}), false);
	assert_int_equal(session_cancel(fixture->session, &(uint64_t){0}), true);
	assert_int_equal(session_cancel(fixture->session, &(uint64_t){0}), false);
	assert_int_equal(waiters[0].status, HBM_CANCELLED);
	assert_int_equal(session_cancel(fixture->session, &(uint64_t){2}), true);
	assert_int_equal(waiters[2].status, HBM_CANCELLED);
	assert_int_equal(waiters[1].fired, false);
	assert_int_equal(session_cancel(fixture->session, NULL), true);
	assert_int_equal(waiters[1].status, HBM_CANCELLED);
	assert_int_equal(waiters[3].status, HBM_CANCELLED);
	assert_int_equal(session_cancel(fixture->session, NULL), false);
}

static void waits_end_with_the_session(void **state)
{
	struct fixture *fixture = *state;
	struct waiter waiter;

	greet_client(fixture, NULL);
	ledger_set_limit(&fixture->ledger.host, LEDGER_READY_MS, 5000);
	fixture->park = true;
	say_ping(fixture, 1);
	fixture->wanted = 2;
	pool_run(&fixture->pool, has_arrived, fixture);
	start_wait(fixture, &waiter, 0, UINT64_MAX);
	waiter.request = container_of(list_pop_front(&fixture->parked), struct request, link);
	close(fixture->client);
	fixture->client = -1;
	pool_run(&fixture->pool, is_freed, fixture);
	assert_int_equal(waiter.fired, true);
}

/* ---- Processes ---- */

struct process {
	pid_t pid;
	int orders; /* a byte makes it close its socket; the end of file makes it end */
};

static void be_a_client(int listener, int orders)
{
	char byte;
	struct sockaddr_un address;
	socklen_t size = sizeof(address);

	getsockname(listener, (struct sockaddr *)&address, &size);
	int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);
	connect(fd, (struct sockaddr *)&address, size);
	while (read(orders, &byte, 1) == 1)
		close(fd);
	_exit(0);
}

/* A session of another process, connected. */
static struct process spawn_client(struct fixture *fixture)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), orders[2];

	/* The kernel picks an abstract name. */
	assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(sa_family_t)), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(pipe2(orders, O_CLOEXEC), 0);
	pid_t pid = fork();
	if (pid == 0) {
		close(orders[1]);
		be_a_client(listener, orders[0]);
	}

	close(orders[0]);
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	close(listener);
	assert_int_equal(session_open(&fixture->session, &fixture->owner, fd, 2), 0);
	assert_int_equal(fixture->session->pid, pid);

	return (struct process){pid, orders[1]};
}

struct outcome {
	bool over;
	int status;
	struct region *region;
};

static bool is_over(void *arg)
{
	return ((struct outcome *)arg)->over;
}

static void region_over(void *arg, int status, struct region *region)
{
	*(struct outcome *)arg = (struct outcome){true, status, region};
}

static void commit_over(void *arg, int status)
{
	struct outcome *outcome = arg;
	outcome->over = true;
	outcome->status = status;
}

/* Leases 8 MiB to the session. */
static void lease_some(struct fixture *fixture)
{
	struct outcome outcome = {0};

	assert_int_equal(region_create(&fixture->session->regions, &fixture->pool.devices->list[0],
				       16 * MIB, 0, region_over, &outcome),
			 HBM_OK);
	pool_run(&fixture->pool, is_over, &outcome);
	struct hbm_wire_range range = {.region = region_id(outcome.region), .bytes = 8 * MIB};
	struct commit *commit;
	assert_int_equal(commit_new(&commit, &fixture->session->regions, &range, 1), HBM_OK);
	outcome.over = false;
	commit_start(commit, commit_over, &outcome);
	pool_run(&fixture->pool, is_over, &outcome);
	assert_int_equal(outcome.status, HBM_OK);
	commit_free(commit);
}

static struct slabs_books books(const struct fixture *fixture)
{
	return slabs_books(fixture->pool.devices->list[0].slabs);
}

static void a_killed_clients_memory_comes_back(void **state)
{
	struct fixture *fixture = *state;
	struct process process = spawn_client(fixture);

	lease_some(fixture);
	assert_int_equal(books(fixture).leased, 8 * MIB);
	assert_int_equal(kill(process.pid, SIGKILL), 0);
	pool_run(&fixture->pool, is_freed, fixture);
	pool_run(&fixture->pool, pool_is_quiet, &fixture->pool);
	assert_int_equal(books(fixture).leased + books(fixture).quarantined, 0);
	assert_int_equal(waitpid(process.pid, NULL, 0), process.pid);
	close(process.orders);
}

static void memory_is_quarantined_while_the_process_lives(void **state)
{
	struct fixture *fixture = *state;
	struct process process = spawn_client(fixture);

	lease_some(fixture);
	assert_int_equal(write(process.orders, "", 1), 1);
	pool_run(&fixture->pool, is_dead, fixture);
	idle(fixture);
	assert_int_equal(books(fixture).quarantined, 8 * MIB);
	assert_int_equal(fixture->freed, 0);
	close(process.orders);
	pool_run(&fixture->pool, is_freed, fixture);
	pool_run(&fixture->pool, pool_is_quiet, &fixture->pool);
	assert_int_equal(books(fixture).quarantined, 0);
	assert_int_equal(waitpid(process.pid, NULL, 0), process.pid);
}

static void draining_does_not_wait_for_processes(void **state)
{
	struct fixture *fixture = *state;
	struct process process = spawn_client(fixture);

	lease_some(fixture);
	session_drain(fixture->session);
	pool_run(&fixture->pool, is_freed, fixture);
	close(process.orders);
	assert_int_equal(waitpid(process.pid, NULL, 0), process.pid);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_ping_is_answered),
		TEST(malformed_requests_are_refused_and_the_session_goes_on),
		TEST(a_request_before_hello_ends_the_session),
		TEST(a_wrong_size_ends_the_session),
		TEST(too_long_a_message_ends_the_session),
		TEST(an_empty_message_ends_the_session),
		TEST(descriptors_end_the_session),
		TEST(silence_before_hello_ends_the_session),
		TEST(no_more_is_read_than_may_be_in_flight),
		TEST(requests_wait_for_memory),
		TEST(one_request_needs_no_room),
		TEST(the_memory_of_all_sessions_is_used),
		TEST(a_session_ends_with_a_backlog),
		TEST(a_client_that_does_not_read_is_waited_for),
		TEST(a_body_inside_the_request_survives_queueing),
		TEST(parts_carry_their_descriptors),
		TEST(a_hang_up_leaves_requests_to_end_by_themselves),
		TEST(a_hang_up_drops_queued_replies),
		TEST(a_drained_session_ends_after_its_last_reply),
		TEST(every_event_in_every_state),
		TEST(fences_are_shared_both_ways),
		TEST(a_hostile_doorbell_blocks_nobody),
		TEST(fences_that_do_not_come_cost_little),
		TEST(what_waits_can_be_cancelled),
		TEST(waits_end_with_the_session),
		TEST(a_killed_clients_memory_comes_back),
		TEST(memory_is_quarantined_while_the_process_lives),
		TEST(draining_does_not_wait_for_processes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
