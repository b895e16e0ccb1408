/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server: the listening socket and the sessions. It accepts, reads messages, validates
 * each against the table of opcodes (size, array counts, fds, flags, padding, needs a session)
 * and only then calls the handler, which trusts its typed arguments. A message that
 * breaks the protocol gets HBM_INVALID where it has a readable header; one that cannot
 * have come from a client of ours (truncated, wrong size, unexpected fds, something
 * before HELLO) ends the session.
 */
#pragma once

#include "daemon/serve/hbmd.h"
#include "daemon/session/session.h"

/* Answers one request. The size of the message, counts, flags and padding have been
 * checked; ids, ranges and limits have not. Calls request_reply exactly once, now or
 * later. */
typedef void request_handler(struct hbmd *hbmd, struct request *request);

/* What the server calls, all of it above the server (handlers.h). */
struct server_handlers {
	request_handler *requests[HBM_WIRE_OPCODES];
	/* Before its handler has seen it: whether it has refused the request. NULL: never. */
	bool (*refuses)(struct hbmd *hbmd, struct request *request);
	/* A RESERVE, or a STORE or LOAD with a ready fence, is cancelled before its handler has
	 * seen it. */
	void (*cancelled)(struct request *request);
	/* A session has died: what it had outside its regions is given back. */
	void (*session_gone)(struct hbmd *hbmd, struct session *session);
};

/* Takes over the inherited listening socket, or makes one (-1) at config->socket: see
 * listener_open(). Negative errno and one line in error; the inherited socket is then
 * still the caller's. */
int server_open(struct server **out, struct hbmd *hbmd, const struct server_handlers *handlers,
		int inherited, char *error, size_t error_size);
/* Whether its sessions outlive the daemon. */
bool server_survives(const struct server *server);
/* Stops accepting; each session is closed once its requests are over; calls drained()
 * when no session is left. Where sessions outlive the daemon they are left as they are instead,
 * what they have begun goes on, and drained() is called at once. */
void server_drain(struct server *server, void (*drained)(void *arg), void *arg);
/* Where its sessions outlive the daemon: removes the socket file it made, and nothing else. */
void server_leave(struct server *server);
struct server *server_close(struct server *server); /* removes the socket file it made */

/* Whether the client of one of those may still have to open its namespaces again. */
bool server_awaits_clients(const struct server *server);
/* Makes the sessions that an earlier daemon has kept: those are away whose processes live. Before
 * it serves. Negative errno: it cannot be told whether one lives, whose memory is not to be used
 * again; all is kept for the next start. */
int server_restore_sessions(struct server *server, char *error, size_t error_size);
/* The session of that number, or NULL. */
struct session *server_find_session(const struct server *server, uint64_t id);
/* All that those sessions have is theirs again: what cannot come back is dead from now on. */
void server_sessions_restored(struct server *server);
/* A client has come back to its session, or was refused it. */
void server_count_resume(struct server *server, bool resumed);

/* For HELLO: the daemon is stopping. */
bool server_is_draining(const struct server *server);
struct list *server_sessions(struct server *server); /* of struct session, live and dead */
/* The limits and weights of tenants are others now. */
void server_tenants_changed(struct server *server);
/* Of sessions and requests. */
const struct counters *server_counters(const struct server *server);
/* Regions and sessions as records for HBM_QUERY_SESSIONS and _REGIONS. */
void session_record(const struct session *session, struct hbm_wire_session *record);
/* See regions_records(). */
uint32_t session_regions(const struct session *session, uint32_t from,
			 struct hbm_wire_region *records, uint32_t room, uint32_t *next);
