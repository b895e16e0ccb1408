/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server: see server.h. It keeps all sessions, live and dead, until they are freed; a
 * dead one whose process lives still counts against [limits] sessions, because it still
 * has memory.
 *
 * Every connection is accepted, so that none waits behind those that say nothing. Until
 * HELLO it counts among the silent ones alone. Where a user has too many of them, its oldest
 * is dropped; where all have too many, the oldest of the user with the most, and that of an
 * operator last. So a client that says HELLO at once is dropped only for others of its own
 * user, and then only if more than half as many as limits.silent come before its HELLO is
 * read: two turns of the loop accept fewer, and it is read in the second at the latest.
 */
#include "daemon/serve/server.h"
#include "daemon/base/clock.h"
#include "daemon/base/foreign_fd.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/base/log.h"
#include "daemon/base/rlimit.h"
#include "daemon/cache/cache.h"
#include "daemon/config/config.h"
#include "daemon/serve/listener.h"
#include "daemon/session/session_away.h"
#include "daemon/state/keep.h"
#include "daemon/state/parking.h"
#include "daemon/state/state.h"

#define ACCEPT_NS 100000u /* for connections in a turn of the loop; the others wait */
#define PAUSE_NS 100000000u
#define DRAIN_NS 3000000000u
#define CLOSE_NS 500000000u

struct server {
	struct hbmd *hbmd;
	const struct server_handlers *handlers;
	struct session_owner owner;
	struct listener listener;
	struct watch watch;
	struct timer pause; /* set while accepting is paused */
	/* an accepted socket without a session, for lack of descriptors or memory; -1:
	 * none */
	int unadmitted;
	bool complained; /* has logged that it cannot accept */
	struct list sessions;
	struct list *next; /* where server_for_all() goes on, while it runs */
	uint64_t count, last_id;
	struct counters counters; /* of sessions and requests */
	bool draining;
	struct timer drain_timeout; /* for clients that do not read, while draining */
	struct post drained_post;
	void (*drained)(void *arg);
	void *arg;
};

static struct server *server_of(struct session_owner *owner)
{
	return container_of(owner, struct server, owner);
}

static void server_arrived(struct session_owner *owner, struct request *request)
{
	struct server *server = server_of(owner);
	const struct server_handlers *handlers = server->handlers;

	if (handlers->refuses && handlers->refuses(server->hbmd, request))
		return;
	handlers->requests[request->message->opcode](server->hbmd, request);
}

static void server_cancelled(struct session_owner *owner, struct request *request)
{
	server_of(owner)->handlers->cancelled(request);
}

static void server_died(struct session_owner *owner, struct session *session)
{
	struct server *server = server_of(owner);

	server->handlers->session_gone(server->hbmd, session);
}

/* ---- Draining ---- */

/* From the top of the loop: the caller that freed the last session may still use the
 * server. */
static void server_drained_run(struct post *post)
{
	struct server *server = container_of(post, struct server, drained_post);
	server->drained(server->arg);
}

static void server_freed(struct session_owner *owner, struct session *session)
{
	struct server *server = server_of(owner);

	if (server->next == &session->link)
		server->next = session->link.next;
	list_remove(&session->link);
	server->count--;

	if (server->draining && server->count == 0) {
		loop_timer_stop(server->hbmd->loop, &server->drain_timeout);
		loop_post(server->hbmd->loop, &server->drained_post);
	}
}

/* Runs `end` on every session. Each may free its session, and others too: the requests that
 * end may have been all that kept a dead one. */
static void server_for_all(struct server *server, void (*end)(struct session *session))
{
	server->next = server->sessions.next;
	while (server->next != &server->sessions) {
		struct session *session = container_of(server->next, struct session, link);

		server->next = session->link.next;
		end(session);
	}
	server->next = NULL;
}

static void server_drain_timeout_fire(struct timer *timer)
{
	struct server *server = container_of(timer, struct server, drain_timeout);
	log_notice("%llu sessions did not read their replies in time",
		   (unsigned long long)server->count);
	server_for_all(server, session_end);
}

static void server_stop_accepting(struct server *server)
{
	loop_unwatch(server->hbmd->loop, &server->watch);
	loop_timer_stop(server->hbmd->loop, &server->pause);
	if (server->unadmitted >= 0)
		foreign_fd_close_socket(server->unadmitted);
	server->unadmitted = -1;
}

void server_drain(struct server *server, void (*drained)(void *arg), void *arg)
{
	struct loop *loop = server->hbmd->loop;

	if (server->draining)
		return;

	server->draining = true;
	server->drained = drained;
	server->arg = arg;
	server_stop_accepting(server);
	server->owner.leaving = server->owner.survives;
	if (server->owner.leaving)
		server_for_all(server, session_leave);

	if (server->owner.leaving || server->count == 0) {
		loop_post(loop, &server->drained_post);
		return;
	}

	loop_timer_set(loop, &server->drain_timeout, clock_now() + DRAIN_NS);
	server_for_all(server, session_drain);
}

/* ---- Sessions of an earlier daemon ---- */

static void server_restore_part(struct server *server, struct session *session,
				enum session_away_part part, enum parking_kind kind)
{
	int fd = server->owner.parking
			 ? parking_claim(server->owner.parking, parking_id(kind, session->id))
			 : -1;
	if (fd >= 0)
		session_restore_part(session, part, fd);
}

static void server_restore_parts(struct server *server, struct session *session)
{
	server_restore_part(server, session, SESSION_AWAY_FENCES, PARK_FENCE);
	server_restore_part(server, session, SESSION_AWAY_DOORBELL, PARK_DOORBELL);
}

int server_restore_sessions(struct server *server, char *error, size_t error_size)
{
	struct state *state = server->owner.state;
	uint64_t gone = 0;
	if (!state)
		return 0;

	server->last_id = state_counter(state, STATE_LAST_SESSION);
	for (uint32_t i = 0; (i = state_next(state, STATE_SESSIONS, i)) != STATE_NONE; i++) {
		struct session *session;
		int r = session_restore(&session, &server->owner, i);
		if (r == -ESRCH) {
			gone++;
			continue;
		}
		if (r < 0) {
			snprintf(error, error_size,
				 "cannot make a session of the daemon before again: %s",
				 strerror(-r));
			return r;
		}

		server->count++;
		list_push_back(&server->sessions, &session->link);
		if (session_survives(session)) /* else its parts are no one's, and are let go */
			server_restore_parts(server, session);
	}

	if (server->count + gone > 0)
		log_notice(
			"sessions of the daemon before: %llu, and %llu whose processes have ended",
			(unsigned long long)server->count, (unsigned long long)gone);

	return 0;
}

struct session *server_find_session(const struct server *server, uint64_t id)
{
	list_for_each (node, &server->sessions) {
		struct session *session = container_of(node, struct session, link);
		if (session->id == id)
			return session;
	}

	return NULL;
}

bool server_awaits_clients(const struct server *server)
{
	list_for_each (node, &server->sessions)
		if (session_is_awaited(container_of(node, struct session, link)))
			return true;

	return false;
}

void server_sessions_restored(struct server *server)
{
	server_for_all(server, session_restored);
}

bool server_survives(const struct server *server)
{
	return server->owner.survives;
}

void server_count_resume(struct server *server, bool resumed)
{
	if (resumed)
		server->counters.sessions_resumed++;
	else
		server->counters.resumes_refused++;
}

bool server_is_draining(const struct server *server)
{
	return server->draining;
}

/* ---- Accepting ---- */

static bool server_is_out_of_resources(int error)
{
	return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
}

/* Out of descriptors or memory: connections wait in the backlog. */
static void server_pause_accepting(struct server *server, int error)
{
	if (!server->complained)
		log_error("cannot accept connections, retrying: %s%s", strerror(error),
			  rlimit_hint((char[RLIMIT_HINT]){""}, rlimit_of_error(error)));

	server->complained = true;
	loop_timer_set(server->hbmd->loop, &server->pause, clock_now() + PAUSE_NS);
	(void)loop_rewatch(server->hbmd->loop, &server->watch, 0);
}

/* The user with the most silent connections; an operator only if there is no other. */
static struct user *server_most_silent(const struct server *server)
{
	struct user *most = NULL;

	list_for_each (node, &server->hbmd->ledger->users) {
		struct user *user = container_of(node, struct user, link);
		uint64_t silent = ledger_used(&user->payer, LEDGER_SILENT);
		bool yields = most && user_is_operator(user->uid) < user_is_operator(most->uid);

		if (silent > 0 && (!most || yields ||
				   (user_is_operator(user->uid) == user_is_operator(most->uid) &&
				    silent > ledger_used(&most->payer, LEDGER_SILENT))))
			most = user;
	}

	return most;
}

/* Drops silent connections until there are no more of this user and of all together than
 * may be. */
static void server_limit_silence(struct server *server, struct user *user)
{
	user_ref(user);
	while (!ledger_check(&user->payer, LEDGER_SILENT, 0)) {
		bool own = !ledger_has_tenant_room(&user->payer, LEDGER_SILENT, 0);
		struct user *most = own ? user : server_most_silent(server);

		session_drop(container_of(most->silent.next, struct session, silent),
			     "too many connections that have not said HELLO");
	}

	user_close(user);
}

static void server_log_rejected(struct server *server, int socket, int r)
{
	struct ucred peer = {.uid = (uid_t)-1};
	socklen_t size = sizeof(peer);

	(void)getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size);
	const struct identity identity = {.uid = peer.uid,
					  .gid = peer.gid}; /* its unit is not known */
	const struct log_who who =
		user_log_who(tenant_match(server->hbmd->ledger, &identity), peer.uid);

	if (log_peers_may(&server->owner.log, LOG_CAUSE_REJECTED, &who, clock_now()))
		log_info("connection of uid %u rejected: %s", peer.uid, strerror(-r));
}

/* Makes a session of an accepted socket. False: the socket is kept for later, and
 * accepting is paused. */
static bool server_admit(struct server *server, int socket)
{
	struct session *session;

	int r = session_open(&session, &server->owner, socket, server->last_id + 1);
	if (server_is_out_of_resources(-r)) {
		server->unadmitted = socket;
		server_pause_accepting(server, -r);
		return false;
	}

	if (r < 0) {
		server_log_rejected(server, socket, r);
		foreign_fd_close_socket(socket);
		return true;
	}

	server->complained = false;
	log_peers_sweep(&server->owner.log, clock_now());
	server->last_id++;
	if (server->owner.state)
		state_count_to(server->owner.state, STATE_LAST_SESSION, server->last_id);
	server->count++;
	server->counters.sessions_total++;
	list_push_back(&server->sessions, &session->link);
	log_debug("session %llu: pid %d, uid %u", (unsigned long long)session->id,
		  (int)session->pid, session->uid);
	server_limit_silence(server, session->user);

	return true;
}

/* Retries the kept socket. False: there are still no resources for it. */
static bool server_admit_kept(struct server *server)
{
	int socket = server->unadmitted;
	server->unadmitted = -1;
	return socket < 0 || server_admit(server, socket);
}

static void server_pause_fire(struct timer *timer)
{
	struct server *server = container_of(timer, struct server, pause);
	if (!server_admit_kept(server))
		return;
	if (loop_rewatch(server->hbmd->loop, &server->watch, POLLIN) < 0)
		loop_timer_set(server->hbmd->loop, &server->pause, clock_now() + PAUSE_NS);
}

static void server_listener_ready(struct watch *watch, uint32_t events)
{
	struct server *server = container_of(watch, struct server, watch);
	(void)events;
	if (!server_admit_kept(server))
		return;

	uint64_t until = clock_now() + ACCEPT_NS;
	do {
		int socket = accept4(watch->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (socket >= 0) {
			if (!server_admit(server, socket))
				return;
		} else if (server_is_out_of_resources(errno)) {
			server_pause_accepting(server, errno);
			return;
		} else if (errno != EINTR && errno != ECONNABORTED) {
			return;
		}
	} while (clock_now() < until);
}

/* ---- The server ---- */

static struct server *server_new(struct hbmd *hbmd)
{
	struct server *server = calloc(1, sizeof(*server));
	unsigned char *incoming = aligned_alloc(64, HBM_WIRE_MESSAGE_MAX);
	if (!server || !incoming) {
		free(incoming);
		free(server);
		return NULL;
	}

	server->hbmd = hbmd;
	server->owner = (struct session_owner){
		.loop = hbmd->loop,
		.ledger = hbmd->ledger,
		.incoming = incoming,
		.counters = &server->counters,
		.state = hbmd->kept,
		.parking = hbmd->parking,
		.survives = hbmd->parking && keep_is_there(),
		.arrived = server_arrived,
		.cancelled = server_cancelled,
		.died = server_died,
		.freed = server_freed,
	};
	session_owner_init(&server->owner);
	server->listener.fd = server->unadmitted = -1;
	server->pause.fire = server_pause_fire;
	server->drain_timeout.fire = server_drain_timeout_fire;
	server->drained_post.run = server_drained_run;
	list_init(&server->sessions);

	return server;
}

int server_open(struct server **out, struct hbmd *hbmd, const struct server_handlers *handlers,
		int inherited, char *error, size_t error_size)
{
	struct server *server = server_new(hbmd);
	if (!server) {
		snprintf(error, error_size, "out of memory");
		return -ENOMEM;
	}

	server->handlers = handlers;
	int r = listener_open(&server->listener, inherited, hbmd->config, error, error_size);
	if (r == 0) {
		server->watch = (struct watch){.fd = server->listener.fd,
					       .events = POLLIN,
					       .ready = server_listener_ready};
		r = loop_watch(hbmd->loop, &server->watch);
		if (r < 0)
			snprintf(error, error_size, "cannot watch the listening socket: %s",
				 strerror(-r));
	}

	if (r < 0) {
		if (server->listener.fd == inherited)
			server->listener.fd = -1;
		server_close(server);
		return r;
	}

	*out = server;

	return 0;
}

/*
 * Ends sessions that were not drained, and waits for their jobs on the control workers.
 * If a request does not end, because the loop no longer runs, its session and this server
 * are not freed: the process is about to exit, and other objects may still refer to them.
 */
static void server_end_sessions(struct server *server)
{
	uint64_t until = clock_now() + CLOSE_NS;
	server_for_all(server, session_drain);
	server_for_all(server, session_end);
	while (loop_flush(server->hbmd->loop), server->count > 0 && clock_now() < until)
		sched_yield();
}

void server_leave(struct server *server)
{
	server_stop_accepting(server);
	listener_close(&server->listener);
}

struct server *server_close(struct server *server)
{
	if (!server)
		return NULL;

	server_leave(server);
	server_end_sessions(server);
	loop_timer_stop(server->hbmd->loop, &server->drain_timeout);
	if (server->count > 0)
		return NULL;

	free(server->owner.incoming);
	free(server);

	return NULL;
}

void server_tenants_changed(struct server *server)
{
	list_for_each (node, &server->sessions) {
		struct session *session = container_of(node, struct session, link);
		session_weigh(session);
	}

	cache_bound_owners(server->hbmd->cache);
	session_turn_resume_others(&server->owner);
}

struct list *server_sessions(struct server *server)
{
	return &server->sessions;
}

const struct counters *server_counters(const struct server *server)
{
	return &server->counters;
}

/* As HBM_QUERY_SESSIONS says it. */
static uint32_t server_state_of(const struct session *session)
{
	return session->state == SESSION_DEAD ? 1 : session->state == SESSION_AWAY ? 2 : 0;
}

void session_record(const struct session *session, struct hbm_wire_session *record)
{
	const struct regions_promised promised = regions_promised(&session->regions);

	*record = (struct hbm_wire_session){
		.session = session->id,
		.pid = (uint32_t)session->pid,
		.uid = session->uid,
		.gid = session->gid,
		.connected_ms = (clock_now() - session->connected_ns) / 1000000,
		.regions = ledger_used(&session->payer, LEDGER_REGIONS),
		.address_space = ledger_used(&session->payer, LEDGER_ADDRESS_SPACE),
		.leased = regions_committed(&session->regions),
		.requests = session->requests,
		.in_flight = ledger_used(&session->payer, LEDGER_REQUESTS),
		.loaded_bytes = session->loaded_bytes,
		.stored_bytes = session->stored_bytes,
		.state = server_state_of(session),
		.held = ledger_used(&session->payer, LEDGER_HELD),
		.loans = session->regions.borrower.count,
		.borrowed = session->regions.borrower.bytes,
		.reserved = promised.reserved,
		.promised = promised.outstanding,
		.lent_left = promised.left,
	};
	memcpy(record->name, session->name, sizeof(record->name));
}

uint32_t session_regions(const struct session *session, uint32_t from,
			 struct hbm_wire_region *records, uint32_t room, uint32_t *next)
{
	uint32_t count = regions_records(&session->regions, from, records, room, next);

	for (uint32_t i = 0; i < count; i++)
		records[i].session = session->id;

	return count;
}
