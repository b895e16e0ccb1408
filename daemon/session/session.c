/* SPDX-License-Identifier: Apache-2.0 */
/*
 * session: see session.h. Everything that ends a session does so from the top of the loop
 * (session_end): from its process's watch and its timers, from the server, or through a
 * post (session_break).
 */
#include "daemon/session/session.h"
#include "daemon/base/clock.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/base/log.h"
#include "daemon/session/peer.h"
#include "daemon/session/session_kept.h"
#include "daemon/state/parking.h"

/* ---- State ---- */

#define TO(state) (1u << SESSION_##state)

/* The allowed transitions: the arrows in session.h. */
static const unsigned session_arrows[] = {
	[SESSION_GREETING] = TO(LIVE) | TO(DRAINING) | TO(CLOSING) | TO(DEAD),
	[SESSION_LIVE] = TO(DRAINING) | TO(CLOSING) | TO(DEAD),
	[SESSION_DRAINING] = TO(CLOSING) | TO(DEAD),
	[SESSION_CLOSING] = TO(DEAD),
	[SESSION_DEAD] = 0,
	[SESSION_AWAY] = TO(LIVE) | TO(CLOSING) | TO(DEAD),
};

/* False: the transition is not allowed, nothing has changed. */
static bool session_enter(struct session *session, enum session_state state)
{
	if (!(session_arrows[session->state] & 1u << state))
		return false;

	session->state = state;
	return true;
}

/* ---- What outlives the daemon ---- */

/* What its client has mapped, and rings, is that of the next daemon. */
static bool session_park(struct session *session)
{
	struct parking *parking = session->owner->parking;
	uint64_t fence = parking_id(PARK_FENCE, session->id),
		 doorbell = parking_id(PARK_DOORBELL, session->id);
	if (!session->owner->survives)
		return false;

	if (parking_put(parking, fence, session->fences.memfd) < 0)
		return false;
	if (parking_put(parking, doorbell, session->fences.doorbell) == 0)
		return true;

	parking_drop(parking, fence);

	return false;
}

/* What comes back without a record is let go by the next daemon. */
static void session_unpark(struct session *session)
{
	const uint64_t ids[] = {parking_id(PARK_FENCE, session->id),
				parking_id(PARK_DOORBELL, session->id)};

	if (session_survives(session))
		parking_drop_many(session->owner->parking, ids, 2);
}

bool session_survives(const struct session *session)
{
	static const uint8_t none[HBM_WIRE_TOKEN_BYTES];
	return memcmp(session->token, none, sizeof(none)) != 0;
}

int session_keep(struct session *session, bool returns)
{
	struct session_kept kept = {
		.id = session->id,
		.pid = (uint32_t)session->pid,
		.uid = session->uid,
		.gid = session->gid,
	};
	if (!session->owner->state)
		return HBM_OK;

	memcpy(kept.name, session->name, sizeof(kept.name));
	bool parked = returns && session_park(session);
	session->kept = session_kept_add(session->owner->state, &kept, parked);
	memcpy(session->token, kept.token, sizeof(session->token));
	if (session->kept != STATE_NONE)
		return HBM_OK;

	session_unpark(session);
	memset(session->token, 0, sizeof(session->token));

	return HBM_LIMIT;
}

/* ---- References ---- */

static void session_free(struct session *session)
{
	loop_unwatch(session->owner->loop, &session->process);
	close(session->pidfd);
	fences_close(&session->fences);
	turns_stop(&session->owner->turns, &session->player);
	list_remove(&session->waiting);
	ledger_release(&session->descriptors);
	ledger_release(&session->charge);
	payer_close(&session->payer);
	session->user = user_close(session->user);
	session_turn_resume_others(session->owner); /* the shares have grown */
	session_kept_drop(session->owner->state, session->kept);
	session_unpark(session);
	session->owner->freed(session->owner, session);
	parts_unref(session->parts); /* a request of which the last part has not come */
	free(session);
}

void session_weigh(struct session *session)
{
	session->fair_payer = user_fair_payer(session->user, session->id);
	turns_weigh(&session->player, session->fair_payer.weight);
}

void session_ref(struct session *session)
{
	session->refs++;
}

void session_unref(struct session *session)
{
	assert(session->refs > 0);
	if (--session->refs == 0 && session->state == SESSION_DEAD &&
	    regions_is_empty(&session->regions) && !connection_is_lingering(&session->connection))
		session_free(session);
}

static void session_regions_emptied(struct regions *regions)
{
	struct session *session = container_of(regions, struct session, regions);

	session_ref(session);
	session_unref(session);
}

/* ---- Waits ---- */

void session_plain_wait(struct session *session, struct session_wait *wait)
{
	backlog_park(&session->backlog);
	list_push_back(&session->plain_waits, &wait->link);
}

void session_end_plain_wait(struct session *session, struct session_wait *wait)
{
	list_remove(&wait->link);
	backlog_unpark(&session->backlog);
}

/* Fires the wait of the request of that id, NULL: all. False: there was none. */
static bool session_fire_plain_waits(struct session *session, const uint64_t *id, int status)
{
	bool any = false;

	list_for_each_safe (node, after, &session->plain_waits) {
		struct session_wait *wait = container_of(node, struct session_wait, link);
		if (id && wait->id != *id)
			continue;

		wait->fire(wait, status);
		any = true;
	}

	return any;
}

/* ---- The end ---- */

/* It has said HELLO, or will not any more. */
static void session_end_silence(struct session *session)
{
	list_remove(&session->silent);
	ledger_release(&session->silent_charge);
}

void session_end(struct session *session)
{
	if (!session_enter(session, SESSION_DEAD))
		return;

	session_ref(session);
	log_debug("session %llu: over", (unsigned long long)session->id);

	session_kept_died(session->owner->state, session->kept);
	session_end_silence(session);
	loop_timer_stop(session->owner->loop, &session->greeting);
	connection_close(&session->connection);
	boards_end(&session->boards);
	fences_end(&session->fences);
	(void)session_fire_plain_waits(session, NULL, HBM_SHUTDOWN);
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

/* Whether its user has not filled the log yet. */
static bool session_may_log(const struct session *session, enum log_cause cause)
{
	const struct log_who who = user_log_who(session->user->tenant, session->uid);

	return log_peers_may(&session->owner->log, cause, &who, clock_now());
}

void session_break(struct session *session, const char *why)
{
	if (!session_enter(session, SESSION_CLOSING))
		return;

	if (why && session_may_log(session, LOG_CAUSE_CLOSED))
		log_info("session %llu (pid %d): closed: %s", (unsigned long long)session->id,
			 (int)session->pid, why);

	session_ref(session);
	loop_post(session->owner->loop, &session->closing);
	connection_fail(&session->connection, -ECONNABORTED);
}

void session_drop(struct session *session, const char *why)
{
	session->owner->counters->sessions_dropped++;
	if (session_may_log(session, LOG_CAUSE_DROPPED))
		log_warning("session %llu (pid %d, uid %u): dropped: %s",
			    (unsigned long long)session->id, (int)session->pid, session->uid, why);
	session_end(session);
}

void session_drain(struct session *session)
{
	session_ref(session);
	if (session->state == SESSION_AWAY)
		session_end(session);
	regions_release(&session->regions);
	connection_abandon(&session->connection);

	if (session_enter(session, SESSION_DRAINING)) {
		fences_end(&session->fences);
		(void)session_fire_plain_waits(session, NULL, HBM_SHUTDOWN);
		connection_allow(&session->connection, false);
		if (session_turn_in_flight(session) == 0)
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
	session_turn_readable(session_of(connection));
}

/* NULL if the client hung up, which is not logged. */
static const char *session_failure(int r)
{
	switch (r) {
	case -EPIPE:
	case -ECONNRESET:
		return NULL;
	case -ETOOMANYREFS:
		return "descriptors sent to it, or to others of its user, are not read";
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

int session_connect(struct session *session, int socket)
{
	uint64_t ready_ns = ledger_limit(&session->payer, LEDGER_READY_MS) * 1000000u;

	return connection_open(&session->connection, &session->owner->unreads, &session->payer,
			       socket, ready_ns, &session_connection_ops);
}

static int session_start(struct session *session, int socket)
{
	struct loop *loop = session->owner->loop;
	uint64_t ready_ns = ledger_limit(&session->payer, LEDGER_READY_MS) * 1000000u;
	uint64_t hello_ns = ledger_limit(&session->payer, LEDGER_HELLO_MS) * 1000000u;

	int r = fences_open(&session->fences, loop, ready_ns);
	if (r == 0)
		r = loop_watch(loop, &session->process);

	if (r == 0)
		r = session_connect(session, socket);

	if (r < 0) {
		loop_unwatch(loop, &session->process);
		fences_close(&session->fences);
		return r;
	}

	loop_timer_set(loop, &session->greeting, clock_now() + hello_ns);

	return 0;
}

struct session *session_new(struct session_owner *owner, enum session_state state, uint64_t id,
			    struct user *user, const struct peer *peer)
{
	struct session *session = calloc(1, sizeof(*session));
	if (!session)
		return NULL;

	*session = (struct session){
		.id = id,
		.fair_payer = user_fair_payer(user, id),
		.pid = peer->pid,
		.uid = peer->uid,
		.gid = peer->gid,
		.state = state,
		.kept = STATE_NONE,
		.connected_ns = clock_now(),
		.user = user,
		.owner = owner,
		.pidfd = peer->pidfd,
		.process = {.fd = peer->pidfd, .events = POLLIN, .ready = session_process_gone},
		.greeting.fire = session_greeting_fire,
		.closing.run = session_closing_run,
		.player.play = session_turn_play,
	};
	if (turns_join(&owner->turns, &session->player, user_number(user),
		       session->fair_payer.weight) < 0) {
		free(session);
		return NULL;
	}

	list_init(&session->link);
	list_init(&session->opens);
	list_init(&session->pins);
	list_init(&session->waiting);
	list_init(&session->works);
	list_init(&session->silent);
	list_init(&session->plain_waits);
	payer_open_below(&session->payer, &user->payer, PAYER_SESSION);
	boards_init(&session->boards, &session->payer);
	notices_init(&session->notices, &session->payer, &session->connection);
	backlog_init(&session->backlog, &session->payer);
	regions_init(&session->regions, &session->payer);
	session->regions.holder.session = id;
	session->regions.user = user;
	session->regions.emptied = session_regions_emptied;

	return session;
}

void session_discard(struct session *session)
{
	if (!session)
		return;

	turns_stop(&session->owner->turns, &session->player);
	parts_unref(session->parts);
	payer_close(&session->payer);
	user_close(session->user);
	free(session);
}

struct user *session_user(struct ledger *ledger, const struct peer *peer)
{
	struct identity identity = {.uid = peer->uid, .gid = peer->gid};

	if (tenants_need_unit(ledger))
		peer_unit(peer, identity.unit, sizeof(identity.unit));

	return user_open_of(ledger, peer->uid, tenant_match(ledger, &identity));
}

int session_open(struct session **out, struct session_owner *owner, int socket, uint64_t id)
{
	struct peer peer;
	int r = peer_identify(socket, &peer);
	if (r < 0)
		return r;

	struct user *user = session_user(owner->ledger, &peer);
	struct session *session =
		user ? session_new(owner, SESSION_GREETING, id, user, &peer) : NULL;
	if (!session)
		user_close(user);

	r = session ? session_start(session, socket) : -ENOMEM;
	if (r < 0) {
		session_discard(session);
		close(peer.pidfd);
		return r;
	}

	ledger_charge_always(&session->silent_charge, &session->payer, LEDGER_SILENT, 1);
	list_push_back(&user->silent, &session->silent);
	*out = session;

	return 0;
}

int session_charge(struct session *session, enum ledger_resource *resource, uint64_t *amount)
{
	*resource = LEDGER_SESSIONS;
	*amount = 1;
	if (ledger_charge(&session->charge, &session->payer, *resource, *amount) != HBM_OK)
		return HBM_LIMIT;

	*resource = LEDGER_DESCRIPTORS;
	*amount = SESSION_DESCRIPTORS;
	if (ledger_charge(&session->descriptors, &session->payer, *resource, *amount) == HBM_OK)
		return HBM_OK;

	ledger_release(&session->charge);

	return HBM_LIMIT;
}

void session_uncharge(struct session *session)
{
	ledger_release(&session->descriptors);
	ledger_release(&session->charge);
}

void session_greeted(struct session *session)
{
	if (!session_enter(session, SESSION_LIVE))
		return;

	session_end_silence(session);
	loop_timer_stop(session->owner->loop, &session->greeting);
	if (session->fences.memfd >= 0)
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
	return user_is_operator(session->uid);
}

void session_complete(struct session *session, const struct completion_fence *fence,
		      uint64_t failed)
{
	fences_complete(&session->fences, fence, failed);
}

int session_ask(struct session *session, const struct hbm_wire_ask *ask)
{
	if (session->state != SESSION_LIVE || boards_is_empty(&session->boards))
		return HBM_NOT_FOUND;

	int status = notices_send(&session->notices, ask);
	session->owner->counters->notices += status == HBM_OK;
	session->owner->counters->notices_dropped += status == HBM_LIMIT;
	if (status == HBM_OK)
		boards_set_notices(&session->boards, session->notices.sent);

	return status;
}

void session_work(struct session *session, struct work *work)
{
	session_ref(session);
	list_push_back(&session->works, &work->link);
	turns_wake(&session->owner->turns, &session->player);
}

void session_wait_ready(struct session *session, struct ready_wait *wait)
{
	backlog_park(&session->backlog);
	fences_wait(&session->fences, wait);
}

void session_end_wait(struct session *session)
{
	backlog_unpark(&session->backlog);
}

void session_resume(struct request *request, struct resumption *resumption)
{
	struct session *session = request->session;

	parts_begin(request->parts);
	backlog_return(&session->backlog, request, resumption);
	turns_wake(&session->owner->turns, &session->player);
}

/* The parts that a request which waits is one of, or NULL. */
static struct parts *session_parts_of(const struct session *session, uint64_t id)
{
	const struct ready_wait *wait = fences_find(&session->fences, id);
	const struct request *request = wait ? NULL : backlog_find(&session->backlog, id);

	return wait ? wait->parts : request ? request->parts : NULL;
}

bool session_cancel(struct session *session, const uint64_t *id)
{
	struct parts *parts = id ? parts_ref(session_parts_of(session, *id)) : NULL;
	if (parts_have_begun(parts)) {
		parts_unref(parts);
		return false;
	}

	bool any = fences_cancel(&session->fences, id, parts);
	any |= session_fire_plain_waits(session, id, HBM_CANCELLED);
	struct request *request;

	while ((request = backlog_take_cancellable(&session->backlog, id, parts))) {
		session->owner->cancelled(session->owner, request);
		any = true;
	}

	parts_unref(parts);

	return any;
}
