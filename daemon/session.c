/* SPDX-License-Identifier: Apache-2.0 */
/*
 * session: see session.h. Everything that ends a session does so from the top of the loop (session_end): from one of
 * its own watches and timers, from the server, or through a post (session_break), so that no handler loses the session
 * it is working for.
 *
 * Reading is fair: a session with nothing under way gets one message read for each time its socket is seen readable,
 * one that pipelines gets BURST.
 *
 * A session is freed when it is dead and nothing refers to it: no request, no region, no posted end.
 */
#include "daemon/session.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/config.h"
#include "daemon/validate.h"
#include "daemon/fdpass.h"
#include "daemon/fences.h"
#include "daemon/log.h"
#include "daemon/outbox.h"
#include "daemon/peer.h"

enum { BURST = 16 };
#define RETRY_NS 1000000u

struct session_private {
	struct session session;
	struct session_host *host;
	int socket, pidfd;
	struct watch readable, process;
	struct timer greeting; /* ends a session that does not say HELLO */
	struct timer retry;    /* sends again what the kernel refused for want of room for fds */
	uint64_t retry_until_ns;
	struct outbox outbox;
	struct fences fences;
	struct post broken;
	bool greeted, draining, breaking;
	uint64_t held;
};

static struct session_private *private_of(const struct session *session)
{
	return session->private;
}

static struct loop *loop_of(const struct session_private *p)
{
	return p->host->loop;
}

/* ---- The end ---- */

static void free_session(struct session_private *p)
{
	loop_unwatch(loop_of(p), &p->process);
	close(p->pidfd);
	fences_close(&p->fences);
	p->host->freed(p->host, &p->session);
	free(p);
}

static void unhold(struct session_private *p)
{
	if (--p->held == 0 && p->session.dead && list_empty(&p->session.leases.regions))
		free_session(p);
}

static void leases_emptied(struct leases *leases)
{
	struct session_private *p = container_of(leases, struct session_private, session.leases);
	p->held++;
	unhold(p);
}

static void close_socket(struct session_private *p)
{
	loop_unwatch(loop_of(p), &p->readable);
	loop_timer_stop(loop_of(p), &p->greeting);
	loop_timer_stop(loop_of(p), &p->retry);
	/* The loop may keep the file a moment longer; the client is to see the end now. */
	shutdown(p->socket, SHUT_RDWR);
	close(p->socket);
	p->socket = -1;
}

void session_end(struct session *session)
{
	struct session_private *p = private_of(session);
	if (session->dead)
		return;
	p->held++;
	session->dead = true;
	log_debug("session %llu: over", (unsigned long long)session->id);
	close_socket(p);
	outbox_clear(&p->outbox);
	fences_end(&p->fences);
	p->host->died(p->host, session);
	leases_end(&session->leases);
	unhold(p);
}

static void broken_run(struct post *post)
{
	struct session_private *p = container_of(post, struct session_private, broken);
	session_end(&p->session);
	unhold(p);
}

static void end_from_the_top(struct session_private *p)
{
	if (p->breaking || p->session.dead)
		return;
	p->breaking = true;
	p->held++;
	loop_post(loop_of(p), &p->broken);
}

void session_break(struct session *session, const char *why)
{
	struct session_private *p = private_of(session);
	if (why && !p->breaking && !session->dead)
		log_info("session %llu (pid %d): closed: %s", (unsigned long long)session->id, (int)session->pid, why);
	end_from_the_top(p);
}

const char *session_failure(int r)
{
	switch (r) {
	case -EPIPE:
	case -ECONNRESET:
		return NULL;
	case -ETOOMANYREFS:
		return "its client does not take the descriptors sent to it";
	default:
		return "its socket failed";
	}
}

/* The client broke the protocol. */
static void drop(struct session_private *p, const char *why)
{
	++*p->host->dropped;
	log_warning("session %llu (pid %d, uid %u): dropped: %s", (unsigned long long)p->session.id,
		    (int)p->session.pid, p->session.uid, why);
	session_end(&p->session);
}

void session_drain(struct session *session)
{
	struct session_private *p = private_of(session);
	p->draining = true;
	p->held++;
	leases_release(&session->leases);
	if (!session->dead) {
		fences_end(&p->fences);
		if (session->in_flight == 0)
			end_from_the_top(p);
		else
			(void)loop_rewatch(loop_of(p), &p->readable, p->readable.events & ~(uint32_t)POLLIN);
	}
	unhold(p);
}

/* ---- Watching ---- */

/* Reads while it may, writes while it must. */
static void update_watch(struct session_private *p)
{
	uint32_t events = 0;
	if (!p->draining && p->session.in_flight < p->host->config->limit_requests_in_flight)
		events |= POLLIN;
	if (!outbox_is_empty(&p->outbox) && !timer_is_set(&p->retry))
		events |= POLLOUT;
	if (loop_rewatch(loop_of(p), &p->readable, events) < 0)
		session_break(&p->session, "out of memory");
}

static void greeting_fire(struct timer *timer)
{
	drop(container_of(timer, struct session_private, greeting), "no HELLO in time");
}

static void process_ready(struct watch *watch, uint32_t events)
{
	struct session_private *p = container_of(watch, struct session_private, process);
	(void)events;
	loop_unwatch(loop_of(p), watch);
	p->session.process_gone = true;
	p->held++;
	session_end(&p->session);
	leases_release(&p->session.leases);
	unhold(p);
}

/* ---- Writing ---- */

/*
 * ETOOMANYREFS: the fds this user has in sockets, unread, are as many as it may open. That passes when clients read;
 * no poll tells when.
 */
static int wait_for_readers(struct session_private *p)
{
	uint64_t now = loop_now();
	if (p->retry_until_ns == 0)
		p->retry_until_ns = now + p->host->config->limit_ready_ms * 1000000u;
	if (now >= p->retry_until_ns)
		return -ETOOMANYREFS;
	return loop_timer_set(loop_of(p), &p->retry, now + RETRY_NS);
}

static void flush(struct session_private *p)
{
	if (p->breaking)
		return;
	/* What a message's end wakes may end up here again, and a dead session must not go in the middle of it. */
	p->held++;
	int r = outbox_flush(&p->outbox, p->socket);
	if (r == -ETOOMANYREFS)
		r = wait_for_readers(p);
	else
		p->retry_until_ns = 0;
	if (r < 0 && r != -EAGAIN)
		session_break(&p->session, session_failure(r));
	else
		update_watch(p);
	unhold(p);
}

static void retry_fire(struct timer *timer)
{
	flush(container_of(timer, struct session_private, retry));
}

bool session_is_mute(const struct session *session)
{
	return session->dead || private_of(session)->breaking;
}

int session_send(struct session *session, const struct iovec *iov, size_t iov_count, const int *fds, size_t fd_count)
{
	struct session_private *p = private_of(session);
	if (!outbox_is_empty(&p->outbox))
		return -EAGAIN;
	int r = fdpass_send(p->socket, iov, iov_count, fds, fd_count);
	return r == -ETOOMANYREFS ? -EAGAIN : r;
}

void session_queue(struct session *session, struct out_message *message)
{
	struct session_private *p = private_of(session);
	if (session_is_mute(session)) {
		out_message_release(message);
		return;
	}
	outbox_push(&p->outbox, message);
	flush(p);
}

/* ---- Reading ---- */

void session_request_begins(struct session *session)
{
	struct session_private *p = private_of(session);
	p->held++;
	session->requests++;
	++*p->host->requests;
	if (++session->in_flight == p->host->config->limit_requests_in_flight)
		update_watch(p);
}

void session_request_ends(struct session *session)
{
	struct session_private *p = private_of(session);
	bool paused = session->in_flight == p->host->config->limit_requests_in_flight;
	session->in_flight--;
	if (!session_is_mute(session)) {
		if (p->draining && session->in_flight == 0)
			end_from_the_top(p);
		else if (paused)
			update_watch(p);
	}
	unhold(p);
}

void session_refuses(struct session *session)
{
	++*private_of(session)->host->refused;
}

static void refuse(struct session_private *p, struct request *request, int status, const char *why)
{
	const char *name = validate_opcode_name(request->message->opcode);
	log_debug("session %llu (pid %d): %s refused: %s", (unsigned long long)p->session.id, (int)p->session.pid,
		  name ? name : "message", why);
	request_reply(request, status, NULL, 0);
}

/* False when the session is over. */
static bool take_message(struct session_private *p, size_t size)
{
	const char *why;
	int status = validate_message(p->host->incoming, size, p->greeted, &why);
	if (status < 0) {
		drop(p, why);
		return false;
	}
	struct request *request = request_new(&p->session, p->host->incoming, size);
	if (!request) {
		session_break(&p->session, "out of memory");
		return false;
	}
	if (status == HBM_OK)
		p->host->arrived(p->host, request);
	else
		refuse(p, request, status, why);
	return true;
}

/* False when the session is over. */
static bool read_message(struct session_private *p, bool *any)
{
	size_t fd_count = 0;
	ssize_t size = fdpass_receive(p->socket, p->host->incoming, HBM_WIRE_MESSAGE_MAX, NULL, &fd_count);
	*any = size > 0;
	if (size > 0)
		return take_message(p, (size_t)size);
	if (size == -EAGAIN)
		return true;
	if (size == -EMSGSIZE)
		drop(p, "a message that is too long");
	else if (size == -EPROTO)
		drop(p, "descriptors that nobody asked for");
	else
		session_end(&p->session);
	return false;
}

static bool may_read(const struct session_private *p)
{
	return !p->breaking && !p->draining && p->session.in_flight < p->host->config->limit_requests_in_flight;
}

static void read_messages(struct session_private *p)
{
	bool any = true;
	for (int i = 0; i < BURST && any && may_read(p); i++) {
		if (!read_message(p, &any))
			return;
		/* Nothing under way after a message: a client that waits for each answer. Looking again would be a
		 * wasted system call in every round trip. */
		if (p->session.in_flight == 0)
			return;
	}
}

static void socket_ready(struct watch *watch, uint32_t events)
{
	struct session_private *p = container_of(watch, struct session_private, readable);
	if (p->breaking)
		return;
	p->held++;
	if (events & (POLLHUP | POLLERR)) {
		session_end(&p->session);
	} else {
		if (events & POLLOUT)
			flush(p);
		if (events & POLLIN)
			read_messages(p);
	}
	unhold(p);
}

/* ---- The beginning ---- */

static int start(struct session_private *p)
{
	struct loop *loop = loop_of(p);
	const struct config *config = p->host->config;
	p->greeting.fire = greeting_fire;
	p->retry.fire = retry_fire;
	p->broken.run = broken_run;
	p->readable = (struct watch){.fd = p->socket, .events = POLLIN, .ready = socket_ready};
	p->process = (struct watch){.fd = p->pidfd, .events = POLLIN, .ready = process_ready};
	int r = fences_open(&p->fences, loop, &p->session.waiting, config->limit_ready_ms * 1000000u);
	if (r == 0)
		r = loop_timer_set(loop, &p->greeting, loop_now() + config->limit_hello_ms * 1000000u);
	if (r == 0)
		r = loop_watch(loop, &p->process);
	if (r == 0)
		r = loop_watch(loop, &p->readable);
	if (r < 0) {
		loop_unwatch(loop, &p->process);
		loop_timer_stop(loop, &p->greeting);
		fences_close(&p->fences);
	}
	return r;
}

static void init(struct session *session, uint64_t id, const struct peer *peer)
{
	session->id = id;
	session->pid = peer->pid;
	session->uid = peer->uid;
	session->gid = peer->gid;
	session->connected_ns = loop_now();
	list_init(&session->link);
	list_init(&session->waiting);
	list_init(&session->opens);
	list_init(&session->pins);
	leases_init(&session->leases);
	session->leases.emptied = leases_emptied;
}

int session_open(struct session **out, struct session_host *host, int socket, uint64_t id)
{
	struct peer peer;
	int r = peer_identify(socket, &peer);
	if (r < 0)
		return r;
	struct session_private *p = calloc(1, sizeof(*p));
	if (!p) {
		close(peer.pidfd);
		return -ENOMEM;
	}
	p->session.private = p;
	p->host = host;
	p->socket = socket;
	p->pidfd = peer.pidfd;
	outbox_init(&p->outbox);
	init(&p->session, id, &peer);
	/* Room for a largest reply even where the default is small; refused beyond what the system allows. */
	setsockopt(socket, SOL_SOCKET, SO_SNDBUF, &(int){2 * HBM_WIRE_MESSAGE_MAX}, sizeof(int));
	r = start(p);
	if (r < 0) {
		close(peer.pidfd);
		free(p);
		return r;
	}
	*out = &p->session;
	return 0;
}

void session_greeted(struct session *session)
{
	struct session_private *p = private_of(session);
	p->greeted = true;
	loop_timer_stop(loop_of(p), &p->greeting);
	fences_handed_over(&p->fences);
}

/* ---- What requests ask of their session ---- */

int session_fence_fd(const struct session *session)
{
	return private_of(session)->fences.memfd;
}

int session_doorbell_fd(const struct session *session)
{
	return private_of(session)->fences.doorbell;
}

bool session_is_operator(const struct session *session)
{
	return session->uid == 0 || session->uid == geteuid();
}

void session_fence(struct session *session, uint32_t slot, uint64_t value)
{
	fences_set(&private_of(session)->fences, slot, value);
}

void session_wait_ready(struct session *session, struct ready_wait *wait)
{
	wait->session = session;
	fences_wait(&private_of(session)->fences, wait);
}

bool session_cancel(struct session *session, const uint64_t *id)
{
	return fences_cancel(&private_of(session)->fences, id);
}
