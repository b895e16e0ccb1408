/* SPDX-License-Identifier: Apache-2.0 */
/*
 * session: one connected client: its socket, credentials and pidfd, its fence page and doorbell, its leases, and the
 * requests it has under way.
 *
 * States: greeting (no HELLO yet) -> live -> dead (the socket or the process is gone) -> freed, when its process is
 * gone and its last request and hold are over. A request keeps its session alive; replies to a dead session go nowhere.
 *
 * Bounded by construction: a session may have [limits] requests_in_flight requests, where a request counts from the
 * moment it is read until its reply is in the socket; at the limit the daemon stops reading from it. Nobody else
 * notices. The room for a reply is reserved when the request is read.
 */
#pragma once

#include "daemon/lease.h"
#include "daemon/list.h"
#include "daemon/loop.h"

#include <hbm/wire.h>
#include <sys/types.h>

struct server;

struct session {
	struct list link; /* in the server's list */
	struct server *server;
	uint64_t id;
	pid_t pid;
	uid_t uid;
	gid_t gid;
	char name[HBM_WIRE_NAME_BYTES];
	bool dead;         /* no reply will be sent any more */
	bool process_gone; /* seen through the pidfd */
	struct leases leases;
	volatile uint64_t *fences; /* HBM_WIRE_FENCES slots, shared with the client, who may write anything there */
	struct list waiting;       /* struct ready_wait: requests whose data is not ready yet */
	struct list opens;         /* struct space_open: the namespaces it opened (cache.h) */
	struct list pins;          /* the pins it holds (cache.h) */
	uint64_t opens_count, pins_count;
	uint64_t in_flight, requests, loaded_bytes, stored_bytes, connected_ns;
	/* the rest belongs to session.c */
	struct session_private *private;
};

struct request;

/* What sessions need of whoever keeps them; outlives them. */
struct session_host {
	struct loop *loop;
	const struct config *config;
	unsigned char *incoming;                /* HBM_WIRE_MESSAGE_MAX bytes, aligned for any message */
	uint64_t *requests, *refused, *dropped; /* counters */
	void (*arrived)(struct session_host *host, struct request *request); /* passed the door */
	void (*died)(struct session_host *host, struct session *session);    /* is dead from now on */
	void (*freed)(struct session_host *host, struct session *session);   /* is about to be freed */
};

/* A request from the moment it was read until its reply is sent. message is its own copy, checked at the door. */
struct request {
	struct list link; /* the handler's, while it waits somewhere */
	struct session *session;
	const struct hbm_wire_header *message;
	void *private; /* session.c's */
};

/* Ends the request: sends header + body (size bytes after the header) and frees it. The fds are borrowed. status !=
 * HBM_OK: body must be NULL. */
void request_reply(struct request *request, int status, const void *body, size_t size);
void request_reply_fds(struct request *request, int status, const void *body, size_t size, const int *fds,
		       size_t fd_count);

/* Whether the peer is uid 0 or runs as the daemon's uid. */
bool session_is_operator(const struct session *session);
/* Sets a fence of the session, whether or not it still lives. slot HBM_WIRE_NO_FENCE: nothing. */
void session_fence(struct session *session, uint32_t slot, uint64_t value);

/* Calls fire(0) on the loop as soon as fences[slot] >= value; or fire(HBM_TIMEOUT) after [limits] ready_ms,
 * fire(HBM_CANCELLED) when the client takes the request back, or fire(HBM_SHUTDOWN) when the session dies. Never from
 * within the call. */
struct ready_wait {
	struct list link;
	struct session *session;
	uint64_t id; /* of the request */
	uint32_t slot;
	uint64_t value, since_ns, deadline_ns;
	void (*fire)(struct ready_wait *wait, int status);
	int status; /* the fences' */
};
void session_wait_ready(struct session *session, struct ready_wait *wait);
/* Fires the waits of the request of that id (NULL: of all requests) with HBM_CANCELLED. False: there was none. */
bool session_cancel(struct session *session, const uint64_t *id);

/* ---- For the server and request.c. ---- */

/* A session on an accepted socket, which it consumes if it succeeds. Negative errno. */
int session_open(struct session **out, struct session_host *host, int socket, uint64_t id);
/* HELLO was answered: other requests are welcome. The fds of its reply are borrowed until then. */
void session_greeted(struct session *session);
int session_fence_fd(const struct session *session);
int session_doorbell_fd(const struct session *session);
/* No further request is read; the session ends when those it has are answered. */
void session_drain(struct session *session);
/* Ends it now, whatever it has under way. May free it. Not from within a call a request handler makes. */
void session_end(struct session *session);
/* As session_end(), but from the top of the loop; until then nothing is sent. why, a static phrase or NULL, is logged.
 */
void session_break(struct session *session, const char *why);
/* The phrase for a failed send: NULL when the client has just hung up, which is nothing to log. */
const char *session_failure(int r);

/* A request with its own copy of a message that passed the door: NULL without memory. */
struct request *request_new(struct session *session, const void *message, size_t size);
/* Ends the request with parts made in advance, each with room for a header before its body; consumes them. */
void request_reply_messages(struct request *request, struct list *messages);
/* request.c's: */
void session_request_begins(struct session *session);
void session_request_ends(struct session *session);  /* may free a dead session */
void session_refuses(struct session *session);       /* counts a refusal */
bool session_is_mute(const struct session *session); /* whatever is sent goes nowhere */
/* 0: sent; -EAGAIN: to be queued; else negative errno, nothing sent. */
int session_send(struct session *session, const struct iovec *iov, size_t iov_count, const int *fds, size_t fd_count);
struct out_message;
void session_queue(struct session *session, struct out_message *message); /* consumes it */
