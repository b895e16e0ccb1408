/* SPDX-License-Identifier: Apache-2.0 */
/* session_rig: see session_rig.h. */
#include "tests/support/session_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/base/fdpass.h"
#include "daemon/base/list.h"
#include "daemon/ledger/ledger.h"
#include "daemon/session/request.h"
#include "daemon/session/session.h"

static struct session_rig *session_rig_of(struct session_owner *owner)
{
	return container_of(owner, struct session_rig, owner);
}

static void session_rig_hello_arrived(struct request *request)
{
	struct session *session = request->session;
	struct hbm_wire_hello_reply reply = {.magic = HBM_WIRE_MAGIC, .session = session->id};
	int fds[] = {session_fence_fd(session), session_doorbell_fd(session)};

	request_reply_fds(request, HBM_OK, &reply.magic, sizeof(reply) - sizeof(reply.header), fds,
			  2);
	session_greeted(session);
}

static void session_rig_arrived(struct session_owner *owner, struct request *request)
{
	struct session_rig *rig = session_rig_of(owner);
	rig->arrived_count++;

	if (rig->park) {
		request_charge(request, rig->cost);
		list_push_back(&rig->parked, &request->link);
	} else if (request->message->opcode == HBM_WIRE_HELLO) {
		session_rig_hello_arrived(request);
	} else {
		request_reply(request, HBM_OK, NULL, 0);
	}
}

static void session_rig_cancelled(struct session_owner *owner, struct request *request)
{
	(void)owner;
	request_refuse(request, HBM_CANCELLED, "cancelled");
}

static void session_rig_died(struct session_owner *owner, struct session *session)
{
	assert_int_equal(session->state, SESSION_DEAD);
	session_rig_of(owner)->died++;
}

static void session_rig_freed(struct session_owner *owner, struct session *session)
{
	(void)session;
	session_rig_of(owner)->freed++;
}

int session_rig_setup(void **state)
{
	static struct session_rig rig;

	memset(&rig, 0, sizeof(rig));
	pool_open(&rig.pool, 32 * MIB);
	rig.pool.config.limit_requests_in_flight = SESSION_RIG_REQUESTS;
	rig.pool.config.limit_ready_ms = 50;
	rig.pool.config.limit_hello_ms = 5000;
	ledger_open(&rig.ledger, &rig.pool.config);
	rig.owner = (struct session_owner){
		.loop = rig.pool.loop,
		.ledger = &rig.ledger,
		.incoming = aligned_alloc(64, HBM_WIRE_MESSAGE_MAX),
		.counters = &rig.counters,
		.arrived = session_rig_arrived,
		.cancelled = session_rig_cancelled,
		.died = session_rig_died,
		.freed = session_rig_freed,
	};
	session_owner_init(&rig.owner);
	list_init(&rig.parked);
	rig.client = -1;
	*state = &rig;

	return 0;
}

bool session_rig_is_freed(void *arg)
{
	return ((struct session_rig *)arg)->freed == 1;
}

void session_rig_answer(struct session_rig *rig)
{
	for (struct list *node; (node = list_pop_front(&rig->parked));)
		request_reply(container_of(node, struct request, link), HBM_OK, NULL, 0);
}

int session_rig_teardown(void **state)
{
	struct session_rig *rig = *state;
	if (rig->client >= 0)
		close(rig->client);

	session_rig_answer(rig);
	pool_run(&rig->pool, session_rig_is_freed, rig);
	assert_int_equal(rig->died, 1);
	pool_run(&rig->pool, pool_is_quiet, &rig->pool);
	pool_close(&rig->pool);
	free(rig->owner.incoming);

	return 0;
}

/* ---- The client's side ---- */

void session_rig_connect(struct session_rig *rig)
{
	int ends[2];
	assert_int_equal(
		socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
	assert_int_equal(session_open(&rig->session, &rig->owner, ends[0], 1), 0);
	rig->client = ends[1];
}

void session_rig_say(struct session_rig *rig, const void *message, size_t size)
{
	assert_int_equal(send(rig->client, message, size, MSG_NOSIGNAL), size);
}

bool session_rig_can_read(void *arg)
{
	char byte;
	return recv(((struct session_rig *)arg)->client, &byte, 1,
		    MSG_PEEK | MSG_DONTWAIT | MSG_TRUNC) > 0;
}

size_t session_rig_hear(struct session_rig *rig, void *message, size_t room, unsigned opcode,
			uint64_t id, int status)
{
	pool_run(&rig->pool, session_rig_can_read, rig);
	ssize_t n = recv(rig->client, message, room, MSG_DONTWAIT);
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

void session_rig_ping(struct session_rig *rig, uint64_t id)
{
	struct hbm_wire_header ping = {.size = sizeof(ping), .opcode = HBM_WIRE_PING, .id = id};
	session_rig_say(rig, &ping, sizeof(ping));
}

void session_rig_hello(struct session_rig *rig)
{
	struct hbm_wire_hello hello = {
		.header = {.size = sizeof(hello), .opcode = HBM_WIRE_HELLO, .id = 1},
		.magic = HBM_WIRE_MAGIC,
		.version_min = HBM_WIRE_VERSION,
		.version_max = HBM_WIRE_VERSION,
	};
	session_rig_say(rig, &hello, sizeof(hello));
}

void session_rig_greet(struct session_rig *rig, int fds[2])
{
	struct hbm_wire_hello_reply reply;
	struct fdpass_fds got;

	session_rig_connect(rig);
	session_rig_hello(rig);
	pool_run(&rig->pool, session_rig_can_read, rig);
	assert_int_equal(fdpass_receive(rig->client, &reply, sizeof(reply), &got, 0),
			 sizeof(reply));
	assert_int_equal(got.count, 2);

	for (int i = 0; i < 2; i++) {
		if (fds)
			fds[i] = got.list[i];
		else
			close(got.list[i]);
	}
}

bool session_rig_is_dead(void *arg)
{
	return ((struct session_rig *)arg)->died == 1;
}

bool session_rig_has_arrived(void *arg)
{
	const struct session_rig *rig = arg;
	return rig->arrived_count == rig->wanted;
}

bool session_rig_turned(void *arg)
{
	return (*(unsigned *)arg)-- == 0;
}

void session_rig_idle(struct session_rig *rig)
{
	unsigned turns = 50;
	pool_run(&rig->pool, session_rig_turned, &turns);
}
