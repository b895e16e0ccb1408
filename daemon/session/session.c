/* SPDX-License-Identifier: Apache-2.0 */
/*
 * session: see session.h. Everything that ends a session does so from the top of the loop
 * (session_end): from its process's watch and its timers, from the server, or through a
 * post (session_break).
 *
 * Reading is fair: a session with nothing in flight gets one message read each time its
 * socket is readable, one that pipelines gets SESSION_BURST.
 */
#include "daemon/session/session.h"
#include "daemon/base/clock.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include "daemon/base/log.h"
#include "daemon/session/peer.h"
#include "daemon/session/validate.h"

enum { SESSION_BURST = 16 };

/* ---- State ---- */

#define TO(state) (1u << SESSION_##state)

/* The allowed transitions: the arrows in session.h. */
static const unsigned session_arrows[] = {
	[SESSION_GREETING] = TO(LIVE) | TO(DRAINING) | TO(CLOSING) | TO(DEAD),
	[SESSION_LIVE] = TO(DRAINING) | TO(CLOSING) | TO(DEAD),
	[SESSION_DRAINING] = TO(CLOSING) | TO(DEAD),
	[SESSION_CLOSING] = TO(DEAD),
	[SESSION_DEAD] = 0,
};

/* False: the transition is not allowed, nothing has changed. */
static bool session_enter(struct session *session, enum session_state state)
{
	if (!(session_arrows[session->state] & 1u << state))
		return false;

	session->state = state;
	return true;
}

/* Lets those go on that wait for room, from the top of the loop: their handlers do not run
 * within another session's. */
static void session_resume_others(struct session_owner *owner)
{
	if (owner->resuming || list_empty(&owner->waiting))
		return;

	owner->resuming = true;
	loop_post(owner->loop, &owner->resume);
}

/* ---- References ---- */

static void session_free(struct session *session)
{
	loop_unwatch(session->owner->loop, &session->process);
	close(session->pidfd);
	fences_close(&session->fences);
	list_remove(&session->waiting);
	ledger_release(&session->charge);
	payer_close(&session->payer);
	session_resume_others(session->owner); /* the shares have grown */
	session->owner->freed(session->owner, session);
	free(session);
}

static void session_ref(struct session *session)
{
	session->refs++;
}

static void session_unref(struct session *session)
{
	assert(session->refs > 0);
	if (--session->refs == 0 && session->state == SESSION_DEAD &&
	    list_empty(&session->regions.all))
		session_free(session);
}

static void session_regions_emptied(struct regions *regions)
{
	struct session *session = container_of(regions, struct session, regions);

	session_ref(session);
	session_unref(session);
}

/* ---- The end ---- */

void session_end(struct session *session)
{
	if (!session_enter(session, SESSION_DEAD))
		return;

	session_ref(session);
	log_debug("session %llu: over", (unsigned long long)session->id);

	loop_timer_stop(session->owner->loop, &session->greeting);
	connection_close(&session->connection);
	fences_end(&session->fences);
	backlog_end(&session->backlog);
	session->owner->died(session->owner, session);
	regions_end(&session->regions);

	session_unref(session);
}

static void session_closing_run(struct post *post)
{
	struct session *session = container_of(post, struct session, closing);

	session_end(session);
	session_unref(session);
}

void session_break(struct session *session, const char *why)
{
	if (!session_enter(session, SESSION_CLOSING))
		return;

	if (why)
		log_info("session %llu (pid %d): closed: %s", (unsigned long long)session->id,
			 (int)session->pid, why);

	session_ref(session);
	loop_post(session->owner->loop, &session->closing);
	connection_fail(&session->connection, -ECONNABORTED);
}

/* The client broke the protocol. */
static void session_drop(struct session *session, const char *why)
{
	session->owner->counters->sessions_dropped++;
	log_warning("session %llu (pid %d, uid %u): dropped: %s", (unsigned long long)session->id,
		    (int)session->pid, session->uid, why);
	session_end(session);
}

static uint64_t session_in_flight(const struct session *session)
{
	return ledger_used(&session->payer, LEDGER_REQUESTS);
}

/* Whether one more request may be read: always if there is none. */
static bool session_has_room(const struct session *session)
{
	return session_in_flight(session) == 0 ||
	       (ledger_has_room(&session->payer, LEDGER_REQUESTS, 1) &&
		ledger_has_shared_room(&session->payer, LEDGER_REQUEST_BYTES));
}

static bool session_may_read(const struct session *session)
{
	return (session->state == SESSION_GREETING || session->state == SESSION_LIVE) &&
	       session_has_room(session);
}

/* Whether other sessions have to make room before this one goes on. */
static bool session_waits_for_others(const struct session *session)
{
	return session->state < SESSION_CLOSING && session_in_flight(session) > 0 &&
	       !ledger_has_shared_room(&session->payer, LEDGER_REQUEST_BYTES);
}

/* Polls for reading if there is room; if not, and if that is for others to change, it is
 * resumed when they have. */
static void session_update_reading(struct session *session)
{
	list_remove(&session->waiting);
	if (session_waits_for_others(session))
		list_push_back(&session->owner->waiting, &session->waiting);

	connection_allow(&session->connection, session_may_read(session));
}

static void session_resume_run(struct post *post)
{
	struct session_owner *owner = container_of(post, struct session_owner, resume);
	struct list waiting;

	owner->resuming = false;
	list_init(&waiting);
	for (struct list *node; (node = list_pop_front(&owner->waiting));)
		list_push_back(&waiting, node);

	for (struct list *node; (node = list_pop_front(&waiting));) {
		struct session *session = container_of(node, struct session, waiting);

		session_ref(session);
		backlog_run(&session->backlog);
		session_update_reading(session);
		session_unref(session);
	}
}

void session_owner_init(struct session_owner *owner)
{
	owner->resume.run = session_resume_run;
	list_init(&owner->waiting);
}

void session_drain(struct session *session)
{
	session_ref(session);
	regions_release(&session->regions);

	if (session_enter(session, SESSION_DRAINING)) {
		fences_end(&session->fences);
		connection_allow(&session->connection, false);
		if (session_in_flight(session) == 0)
			session_break(session, NULL);
	}

	session_unref(session);
}

static void session_greeting_fire(struct timer *timer)
{
	session_drop(container_of(timer, struct session, greeting), "no HELLO in time");
}

static void session_process_gone(struct watch *watch, uint32_t events)
{
	struct session *session = container_of(watch, struct session, process);

	(void)events;

	session_ref(session);
	loop_unwatch(session->owner->loop, watch);
	session_end(session);
	regions_release(&session->regions);
	session_unref(session);
}

static void session_request_refused(struct session *session)
{
	session->owner->counters->refused++;
}

/* ---- Requests ---- */

static void session_request_ended(struct session *session)
{
	struct session_owner *owner = session->owner;

	backlog_run(&session->backlog);

	if (session->state == SESSION_DRAINING && session_in_flight(session) == 0)
		session_break(session, NULL);

	session_update_reading(session);
	if (ledger_has_room(&owner->ledger->host, LEDGER_REQUEST_BYTES, 1))
		session_resume_others(owner);

	session_unref(session);
}

static void session_hand_on(struct backlog *backlog, struct request *request)
{
	struct session *session = container_of(backlog, struct session, backlog);

	session->owner->arrived(session->owner, request);
}

static const struct request_ops session_request_ops = {
	.refused = session_request_refused,
	.ended = session_request_ended,
};

static struct request *session_begin_request(struct session *session, size_t size)
{
	struct request *request = request_new(session, &session->connection, &session_request_ops,
					      &session->payer, session->owner->incoming, size);
	if (!request)
		return NULL;

	session_ref(session);
	session->requests++;
	session->owner->counters->requests++;
	session_update_reading(session);

	return request;
}

static void session_refuse(struct session *session, struct request *request, int status,
			   const char *why)
{
	const char *name = validate_opcode_name(request->message->opcode);

	log_debug("session %llu (pid %d): %s refused: %s", (unsigned long long)session->id,
		  (int)session->pid, name ? name : "message", why);
	request_refuse(request, status, "%s", why);
}

/* False when the session is over. */
static bool session_take_message(struct session *session, size_t size)
{
	struct refusal why;
	bool greeted = session->state != SESSION_GREETING;
	int status = validate_message(session->owner->incoming, size, greeted, &why);
	if (status < 0) {
		session_drop(session, why.reason);
		return false;
	}

	struct request *request = session_begin_request(session, size);
	if (!request) {
		session_break(session, "out of memory");
		return false;
	}

	if (status == HBM_OK)
		backlog_add(&session->backlog, request);
	else
		session_refuse(session, request, status, why.reason);

	return true;
}

/* False when the session is over. */
static bool session_read_message(struct session *session, bool *any)
{
	ssize_t size = connection_receive(&session->connection, session->owner->incoming,
					  HBM_WIRE_MESSAGE_MAX);

	*any = size > 0;
	if (size > 0)
		return session_take_message(session, (size_t)size);
	if (size == -EAGAIN)
		return true;

	if (size == -EMSGSIZE)
		session_drop(session, "message too long");
	else if (size == -EPROTO)
		session_drop(session, "unexpected file descriptors");
	else
		session_end(session);

	return false;
}

/* ---- The connection's calls ---- */

static struct session *session_of(struct connection *connection)
{
	return container_of(connection, struct session, connection);
}

static void session_connection_ref(struct connection *connection)
{
	session_ref(session_of(connection));
}

static void session_connection_unref(struct connection *connection)
{
	session_unref(session_of(connection));
}

static void session_readable(struct connection *connection)
{
	struct session *session = session_of(connection);
	bool any = true;

	for (int i = 0; i < SESSION_BURST && any && session_may_read(session); i++) {
		if (!session_read_message(session, &any))
			return;

		/* No request in flight after a message: a client that waits for each
		 * answer. Reading again would waste a system call per round trip. */
		if (session_in_flight(session) == 0)
			return;
	}

	/* Handlers, of this session or of others, may have taken what room there was. */
	session_update_reading(session);
}

/* NULL if the client hung up, which is not logged. */
static const char *session_failure(int r)
{
	switch (r) {
	case -EPIPE:
	case -ECONNRESET:
		return NULL;
	case -ETOOMANYREFS:
		return "the client does not read the descriptors sent to it";
	case -ENOMEM:
		return "out of memory or descriptors";
	default:
		return "its socket failed";
	}
}

static void session_connection_failed(struct connection *connection, int r)
{
	session_break(session_of(connection), session_failure(r));
}

static const struct connection_ops session_connection_ops = {
	.ref = session_connection_ref,
	.unref = session_connection_unref,
	.readable = session_readable,
	.failed = session_connection_failed,
};

/* ---- Open ---- */

static int session_start(struct session *session, int socket)
{
	struct loop *loop = session->owner->loop;
	uint64_t ready_ns = ledger_limit(&session->payer, LEDGER_READY_MS) * 1000000u;
	uint64_t hello_ns = ledger_limit(&session->payer, LEDGER_HELLO_MS) * 1000000u;

	int r = fences_open(&session->fences, loop, ready_ns);
	if (r == 0)
		r = loop_timer_set(loop, &session->greeting, clock_now() + hello_ns);

	if (r == 0)
		r = loop_watch(loop, &session->process);

	if (r == 0)
		r = connection_open(&session->connection, loop, socket, ready_ns,
				    &session_connection_ops);

	if (r < 0) {
		loop_unwatch(loop, &session->process);
		loop_timer_stop(loop, &session->greeting);
		fences_close(&session->fences);
	}

	return r;
}

static struct session *session_new(struct session_owner *owner, uint64_t id,
				   const struct peer *peer)
{
	struct session *session = calloc(1, sizeof(*session));
	if (!session)
		return NULL;

	*session = (struct session){
		.id = id,
		.pid = peer->pid,
		.uid = peer->uid,
		.gid = peer->gid,
		.state = SESSION_GREETING,
		.connected_ns = clock_now(),
		.owner = owner,
		.pidfd = peer->pidfd,
		.process = {.fd = peer->pidfd, .events = POLLIN, .ready = session_process_gone},
		.greeting.fire = session_greeting_fire,
		.closing.run = session_closing_run,
	};
	list_init(&session->link);
	list_init(&session->opens);
	list_init(&session->pins);
	list_init(&session->waiting);
	payer_open(&session->payer, owner->ledger, PAYER_SESSION);
	backlog_init(&session->backlog, &session->payer, session_hand_on);
	regions_init(&session->regions, &session->payer);
	session->regions.emptied = session_regions_emptied;

	return session;
}

static void session_discard(struct session *session)
{
	if (!session)
		return;

	payer_close(&session->payer);
	free(session);
}

int session_open(struct session **out, struct session_owner *owner, int socket, uint64_t id)
{
	struct peer peer;
	int r = peer_identify(socket, &peer);
	if (r < 0)
		return r;

	struct session *session = session_new(owner, id, &peer);
	r = session ? session_start(session, socket) : -ENOMEM;
	if (r < 0) {
		session_discard(session);
		close(peer.pidfd);
		return r;
	}

	*out = session;

	return 0;
}

void session_greeted(struct session *session)
{
	if (!session_enter(session, SESSION_LIVE))
		return;

	loop_timer_stop(session->owner->loop, &session->greeting);
	fences_handed_over(&session->fences);
}

/* ---- What requests ask of their session ---- */

int session_fence_fd(const struct session *session)
{
	return session->fences.memfd;
}

int session_doorbell_fd(const struct session *session)
{
	return session->fences.doorbell;
}

bool session_is_operator(const struct session *session)
{
	return session->uid == 0 || session->uid == geteuid();
}

void session_fence(struct session *session, uint32_t slot, uint64_t value)
{
	fences_set(&session->fences, slot, value);
}

void session_wait_ready(struct session *session, struct ready_wait *wait)
{
	fences_wait(&session->fences, wait);
}

bool session_cancel(struct session *session, const uint64_t *id)
{
	bool any = false;

	/* What has ended makes room: others may begin to wait meanwhile. */
	for (;;) {
		if (fences_cancel(&session->fences, id))
			any = true;
		else if (!backlog_run_cancellable(&session->backlog, id))
			break;
	}

	return any;
}
