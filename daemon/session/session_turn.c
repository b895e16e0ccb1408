/* SPDX-License-Identifier: Apache-2.0 */
/*
 * session_turn: what a session does in its turn (session.h). A client that waits for each
 * answer is read once each time its socket is readable; reading again would waste a system
 * call per round trip. One that has sent a message while another was under way is read until
 * there is none. The socket of one that pipelines is not polled while it waits for
 * its turn: what it sends meanwhile costs the loop nothing.
 */
#include "daemon/session/session.h"

#include <errno.h>
#include <string.h>

#include "daemon/base/foreign_fd.h"
#include "daemon/base/log.h"
#include "daemon/session/validate.h"

uint64_t session_turn_in_flight(const struct session *session)
{
	return ledger_used(&session->payer, LEDGER_REQUESTS);
}

/* ---- Room ---- */

/* Whether one more request may be read: always if there is none. */
static bool session_turn_has_room(const struct session *session)
{
	return session_turn_in_flight(session) == 0 ||
	       (ledger_has_room(&session->payer, LEDGER_REQUESTS, 1) &&
		ledger_has_shared_room(&session->payer, LEDGER_REQUEST_BYTES));
}

static bool session_turn_may_read(const struct session *session)
{
	return (session->state == SESSION_GREETING || session->state == SESSION_LIVE) &&
	       !session->owner->leaving && session_turn_has_room(session);
}

/* Whether other sessions have to make room before this one goes on. */
static bool session_turn_waits_for_others(const struct session *session)
{
	if (session->state >= SESSION_CLOSING || session_turn_in_flight(session) == 0)
		return false;

	bool others_fill_tenant = ledger_has_own_room(&session->payer, LEDGER_REQUESTS, 1) &&
				  !ledger_has_tenant_room(&session->payer, LEDGER_REQUESTS, 1);

	return others_fill_tenant || !ledger_has_shared_room(&session->payer, LEDGER_REQUEST_BYTES);
}

/* Polls for reading if there is room; if not, and if that is for others to change, it is
 * resumed when they have. */
static void session_turn_update_reading(struct session *session)
{
	list_remove(&session->waiting);
	if (session_turn_waits_for_others(session))
		list_push_back(&session->owner->waiting, &session->waiting);

	connection_allow(&session->connection,
			 !session->unpolled && session_turn_may_read(session));
}

void session_leave(struct session *session)
{
	session_turn_update_reading(session);
}

static void session_turn_wake(struct session *session)
{
	turns_wake(&session->owner->turns, &session->player);
}

static void session_turn_resume_run(struct post *post)
{
	struct session_owner *owner = container_of(post, struct session_owner, resume);
	struct list waiting;

	owner->resuming = false;
	list_init(&waiting);
	for (struct list *node; (node = list_pop_front(&owner->waiting));)
		list_push_back(&waiting, node);

	for (struct list *node; (node = list_pop_front(&waiting));) {
		struct session *session = container_of(node, struct session, waiting);

		session_turn_update_reading(session);
		if (session->backlog.count > 0)
			session_turn_wake(session);
	}
}

void session_turn_resume_others(struct session_owner *owner)
{
	if (owner->resuming || list_empty(&owner->waiting))
		return;

	owner->resuming = true;
	loop_post(owner->loop, &owner->resume);
}

void session_owner_init(struct session_owner *owner)
{
	owner->resume.run = session_turn_resume_run;
	turns_open(&owner->turns, owner->loop);
	unreads_open(&owner->unreads, owner->loop);
	list_init(&owner->waiting);
}

/* ---- Requests ---- */

static void session_turn_refused(struct session *session)
{
	session->owner->counters->refused++;
}

static void session_turn_ended(struct session *session, bool resumed)
{
	struct session_owner *owner = session->owner;

	if (resumed)
		backlog_resumed_ended(&session->backlog);
	if (session->backlog.count > 0)
		session_turn_wake(session);
	if (session->state == SESSION_DRAINING && session_turn_in_flight(session) == 0)
		session_break(session, NULL);

	session_turn_update_reading(session);
	if (ledger_has_room(&owner->ledger->host, LEDGER_REQUEST_BYTES, 1))
		session_turn_resume_others(owner);

	session_unref(session);
}

static const struct request_ops session_turn_request_ops = {
	.refused = session_turn_refused,
	.ended = session_turn_ended,
};

static struct request *session_turn_new_request(struct session *session, size_t size)
{
	struct request *request =
		request_new(session, &session->connection, &session_turn_request_ops,
			    &session->payer, session->owner->incoming, size);
	if (!request)
		return NULL;

	session_ref(session);
	session->requests++;
	session->owner->counters->requests++;
	session_turn_update_reading(session);

	return request;
}

static void session_turn_refuse(struct session *session, struct request *request, int status,
				const char *why)
{
	const char *name = validate_opcode_name(request->message->opcode);

	log_debug("session %llu (pid %d): %s refused: %s", (unsigned long long)session->id,
		  (int)session->pid, name ? name : "message", why);
	request_refuse(request, status, "%s", why);
}

void session_complete_request(const struct request *request, const struct completion_fence *fence,
			      uint64_t failed)
{
	if (parts_end_one(request->parts, &failed))
		session_complete(request->session, fence, failed);
}

static bool session_turn_has_parts(const struct request *request)
{
	unsigned opcode = request->message->opcode;

	return opcode == HBM_WIRE_STORE || opcode == HBM_WIRE_LOAD;
}

static void session_turn_arrive(struct session *session, struct request *request)
{
	const struct hbm_wire_blocks *blocks = (const void *)request->message;
	int status = session_turn_has_parts(request)
			     ? parts_join(&session->parts, blocks, &request->parts)
			     : HBM_OK;

	if (request->parts)
		request_charge(request, sizeof(*request->parts));
	if (status == HBM_OK)
		backlog_add(&session->backlog, request);
	else
		session_turn_refuse(session, request, status,
				    status == HBM_LIMIT
					    ? "the daemon is out of memory"
					    : "its fences are not those of the parts before "
					      "it, of which the last has HBM_WIRE_MORE");
}

/* What is malformed is refused before it can be a part, and may have been the last of them. */
static void session_turn_refuse_malformed(struct session *session, struct request *request,
					  int status, const char *why)
{
	bool last = session_turn_has_parts(request) && !(request->message->flags & HBM_WIRE_MORE);
	struct parts *open = session->parts;
	uint64_t failed;

	session_turn_refuse(session, request, status, why);
	if (!open || !last)
		return;

	if (parts_cut(open, &failed))
		session_complete(session, &open->fence, failed);
	session->parts = parts_unref(open);
}

/* Consumes the descriptor that came with the message; negative: none. */
static void session_turn_take_message(struct session *session, size_t size, int fd)
{
	struct refusal why;
	bool greeted = session->state != SESSION_GREETING;
	int status = validate_message(session->owner->incoming, size, greeted, &why);
	if (status >= 0)
		status = validate_descriptor(session->owner->incoming, status, fd, &why);
	struct request *request = status < 0 ? NULL : session_turn_new_request(session, size);
	bool kept = request && status == HBM_OK && fd >= 0;

	if (kept)
		request->fd = fd;
	else if (fd >= 0)
		foreign_fd_close(fd);

	if (status < 0)
		session_drop(session, why.reason);
	else if (!request)
		session_break(session, "out of memory");
	else if (kept && request_charge_descriptors(request, 1) != HBM_OK)
		request_refuse_limit(request, LEDGER_DESCRIPTORS, 1);
	else if (status == HBM_OK)
		session_turn_arrive(session, request);
	else
		session_turn_refuse_malformed(session, request, status, why.reason);
}

/* No salt stays behind in the memory that the next message is read into. */
static void session_turn_forget_message(struct session_owner *owner, size_t size)
{
	const struct hbm_wire_header *header = (const void *)owner->incoming;

	if (size < sizeof(*header) || header->opcode == HBM_WIRE_NAMESPACE_OPEN)
		explicit_bzero(owner->incoming, size);
}

/* False: there is no message, or the session is over. */
static bool session_turn_read(struct session *session)
{
	struct session_owner *owner = session->owner;
	bool pipelines = session_turn_in_flight(session) > 0;
	int fd;
	ssize_t size = connection_receive(&session->connection, owner->incoming,
					  HBM_WIRE_MESSAGE_MAX, &fd);

	session->readable = size > 0 && pipelines;
	if (size > 0) {
		session_turn_take_message(session, (size_t)size, fd);
		session_turn_forget_message(owner, (size_t)size);
	} else if (size == -EMSGSIZE) {
		session_drop(session, "message too long");
	} else if (size == -EPROTO) {
		session_drop(session, "unexpected file descriptors");
	} else if (size != -EAGAIN) {
		session_end(session);
	}

	return size > 0 && session->state != SESSION_DEAD;
}

/* ---- The turn ---- */

static void session_turn_go_on(struct session *session, struct slice *slice)
{
	struct work *work = container_of(list_pop_front(&session->works), struct work, link);

	if (work->run(work, slice))
		session_unref(session);
	else
		list_push_front(&session->works, &work->link);
}

static void session_turn_begin(struct session *session, struct request *request)
{
	if (request->resumption)
		request->resumption->go_on(request->resumption, HBM_OK);
	else
		session->owner->arrived(session->owner, request);
}

/* Does one thing. False: there is nothing to do until the session is woken. */
static bool session_turn_step(struct session *session, struct slice *slice)
{
	struct request *request;

	if (!list_empty(&session->works)) {
		session_turn_go_on(session, slice);
		return true;
	}

	request = session->owner->leaving ? NULL : backlog_take(&session->backlog);
	if (request) {
		session_turn_begin(session, request);
		return true;
	}

	return session->readable && session_turn_may_read(session) && session_turn_read(session);
}

/* Whether what was just done leaves nothing: the client waits for each answer. */
static bool session_turn_is_idle(const struct session *session)
{
	return list_empty(&session->works) && session_turn_in_flight(session) == 0;
}

static bool session_turn_run(struct session *session, struct slice *slice)
{
	do {
		if (!session_turn_step(session, slice))
			return !list_empty(&session->works); /* the end of a session is work */
		if (session_turn_is_idle(session))
			return false;
	} while (clock_now() < slice->until_ns);

	return true;
}

bool session_turn_play(struct player *player, struct slice *slice)
{
	struct session *session = container_of(player, struct session, player);

	session_ref(session);
	bool more = session_turn_run(session, slice);
	if (!more) {
		/* Handlers, of this session or of others, may have taken what room there
		 * was. */
		session->unpolled = false;
		session_turn_update_reading(session);
	}
	session_unref(session);

	return more;
}

void session_turn_readable(struct session *session)
{
	session->readable = true;
	if (turns_is_awake(&session->player)) {
		session->unpolled = true;
		session_turn_update_reading(session);
	}

	session_turn_wake(session);
}
