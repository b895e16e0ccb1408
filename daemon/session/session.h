/* SPDX-License-Identifier: Apache-2.0 */
/*
 * session: one client: its connection, credentials and pidfd, its fence page and
 * doorbell, its regions, and the requests it has in flight.
 *
 * Its life, where "hang-up" stands for the end of the socket or of the process, and for a
 * message that breaks the protocol:
 *
 * 	            HELLO answered
 * 	 greeting ------------------> live
 * 	  |  |  \____        ________/ | |
 * 	  |  |   drain\     /drain     | |
 * 	  |  |         v   v           | |
 * 	  |  |        draining         | |
 * 	  |  |   break |   |hang-up    | |
 * 	  |  v_________v   |     break | |
 * 	  |  closing <-----|-----------' |
 * 	  |     | next turn|             |
 * 	  v     v  of loop v    hang-up  v
 * 	  `--------> dead <--------------'
 *
 * 	greeting  only HELLO is accepted, for [limits] hello_ms; the connection is charged as
 * 	          a silent one, and the server may drop it when there are too many
 * 	live      requests are read
 * 	draining  no request is read; it closes when those in flight have been answered
 * 	closing   it has failed, or is drained: nothing is read or sent; it dies from the top
 * 	          of the loop, so that no handler loses the session it works for
 * 	away      of an earlier daemon (session_away.h): it has no connection, and its client may
 * 	          come back to it, live, with its process; if that ends, the session is dead
 * 	dead      the connection is closed; replies go nowhere. Its regions stay while its
 * 	          process lives, and so does what it gave back and still holds.
 *
 * One that is away becomes live, closing or dead. Every other transition is refused and changes
 * nothing. A dead session is freed with its
 * last reference and its last region, once nothing is held and no descriptor that it was
 * sent lies unread. Requests, works, and whatever
 * may end the session while it is used, hold a reference.
 *
 * Bounded by construction: a session may have [limits] requests_in_flight requests, where
 * a request counts from the moment it is read until its reply is in the socket; at the
 * limit the daemon stops reading from it, which affects no other session. The memory for a
 * reply is allocated when the request is read.
 *
 * Memory: a request that is read but would take more than request_bytes waits in the
 * backlog (backlog.h). While the requests of all sessions take request_bytes_total or more,
 * none is read from a session that has its equal share of that, and what is in its backlog
 * stays there; both go on when the others have made room. Every session may always have one
 * request. What a request takes is known only to its handler, so the last one may exceed
 * the limit.
 *
 * Time: tenants take turns, and the sessions of each (turns.h). In its turn a session goes on with the work that its
 * requests have left, then begins a request of its backlog, then reads a message
 * (session_turn.c). So its requests begin in the order they were sent, and one that is long
 * delays those behind it, and no other session.
 */
#pragma once

#include "daemon/base/counters.h"
#include "daemon/base/fair_queue.h"
#include "daemon/base/guesses.h"
#include "daemon/base/list.h"
#include "daemon/base/log_peers.h"
#include "daemon/ledger/ledger.h"
#include "daemon/ledger/user.h"
#include "daemon/loop/loop.h"
#include "daemon/region/region.h"
#include "daemon/session/backlog.h"
#include "daemon/session/boards.h"
#include "daemon/session/connection.h"
#include "daemon/session/fences.h"
#include "daemon/session/notices.h"
#include "daemon/session/parts.h"
#include "daemon/session/request.h"
#include "daemon/session/turns.h"
#include "daemon/session/unread.h"
#include "daemon/state/state.h"

#include <hbm/wire.h>
#include <sys/types.h>

/* Descriptors that one needs: the socket, the process, the doorbell, and the fence page
 * until it has been handed over. */
#define SESSION_DESCRIPTORS 4

enum session_state {
	SESSION_GREETING,
	SESSION_LIVE,
	SESSION_DRAINING,
	SESSION_CLOSING,
	SESSION_DEAD,
	SESSION_AWAY,
};

/* What a request, or the end of a session, has left to do. */
struct work {
	struct list link; /* in session->works */
	/* Goes on until it is done (true), when it may have been freed, or until the slice
	 * is over (false). */
	bool (*run)(struct work *work, struct slice *slice);
};

/* A request that waits for something else than its ready fence. */
struct session_wait {
	struct list link; /* in session->plain_waits */
	uint64_t id;      /* of the request */
	/* HBM_CANCELLED; HBM_SHUTDOWN: the session ends. Calls session_end_plain_wait() and
	 * ends the request. */
	void (*fire)(struct session_wait *wait, int status);
};

struct session {
	struct list link; /* in the server's list */
	uint64_t id;
	pid_t pid;
	uid_t uid;
	gid_t gid;
	char name[HBM_WIRE_NAME_BYTES];
	enum session_state state;
	struct regions regions;
	struct list opens;    /* struct namespace_open: the namespaces it opened (cache.h) */
	struct list pins;     /* its pins (cache.h) */
	struct boards boards; /* what it says of its sequences */
	uint64_t pressed;     /* the devices of whose pressure it has been told (pressure.c) */
	/* What died() leaves to be done after the works of its requests. */
	struct work last;
	void *last_arg;
	uint32_t last_unref; /* a block whose reference is still to be dropped */
	uint64_t requests, loaded_bytes, stored_bytes, connected_ns;
	struct user *user;
	struct payer payer;           /* of all that the session has */
	struct charge charge;         /* for the session, once it has been greeted */
	struct charge descriptors;    /* for those that it needs, as above */
	struct fair_payer fair_payer; /* takes turns on links and disk */
	bool returned; /* its client has come back, and not said yet what it has (reconcile.h) */
	uint64_t returned_ns; /* when it came back, of clock.h; 0: it did not have to */
	uint32_t kept;        /* its record in the state, or STATE_NONE */
	uint8_t token[HBM_WIRE_TOKEN_BYTES]; /* all zero: its client does not come back */
	/* The rest is session.c's. */
	struct charge silent_charge; /* until it has been greeted */
	struct list silent;          /* as long, in user->silent */
	struct session_owner *owner;
	struct connection connection;
	struct notices notices;
	struct backlog backlog;
	struct fences fences;
	struct {
		int memfd, doorbell;
	} away; /* of its fences, until it is restored: session_away.c's */
	int pidfd;
	struct watch process;  /* the pidfd */
	struct timer greeting; /* ends a session that does not say HELLO */
	struct post closing;   /* pending in state closing */
	struct list waiting;   /* in owner->waiting */
	struct player player;
	struct parts *parts;     /* that the next STORE or LOAD is one of, or NULL */
	struct list works;       /* struct work */
	struct list plain_waits; /* struct session_wait */
	bool readable;           /* its socket may hold a message */
	bool unpolled;           /* its socket is not polled until it has had its turn */
	uint64_t refs;
};

/* What sessions call of their owner, which outlives them. */
struct session_owner {
	struct loop *loop;
	struct ledger *ledger;
	unsigned char *incoming; /* HBM_WIRE_MESSAGE_MAX bytes, aligned for any message */
	struct counters *counters;
	/* A request that has been validated. */
	void (*arrived)(struct session_owner *owner, struct request *request);
	/* A RESERVE, or a STORE or LOAD with a ready fence, is cancelled before it arrived. */
	void (*cancelled)(struct session_owner *owner, struct request *request);
	/* The session has become dead. */
	void (*died)(struct session_owner *owner, struct session *session);
	/* The session is about to be freed. */
	void (*freed)(struct session_owner *owner, struct session *session);
	struct state *state;     /* where their records are; NULL: nowhere */
	struct parking *parking; /* where their fences are */
	bool survives; /* both are kept when the daemon ends, so that clients can come back */
	struct log_peers log;   /* of what clients cause */
	struct guesses guesses; /* at salts: serve_namespace.c's */
	/* The rest is session.c's. */
	struct turns turns;
	struct unreads unreads;
	bool leaving; /* the daemon ends and they go on: nothing is read, no request begins */
	struct list waiting; /* sessions for which the others leave no room */
	struct post resume;  /* pending while `resuming` */
	bool resuming;
};

/* ---- For request handlers ---- */

/* Whether the peer is uid 0 or runs as the daemon's uid. */
bool session_is_operator(const struct session *session);
/* For HELLO: charges for the session and for what it needs. HBM_OK, or HBM_LIMIT, with the
 * resource that is short and how much of it was asked for. */
int session_charge(struct session *session, enum ledger_resource *resource, uint64_t *amount);
void session_uncharge(struct session *session); /* takes that back */
/* Writes its record (session_kept.h), if sessions have any; `returns`: its client means to come
 * back. HBM_OK; HBM_LIMIT: there is no room. */
int session_keep(struct session *session, bool returns);
/* Whether its client may come back. */
bool session_survives(const struct session *session);
/* Completes a request of so many failed blocks in the fences of the session, whether or not
 * the session still lives. */
void session_complete(struct session *session, const struct completion_fence *fence,
		      uint64_t failed);
/* The same for a request that ends: one of several parts (parts.h) completes nothing before the
 * last of them. */
void session_complete_request(const struct request *request, const struct completion_fence *fence,
			      uint64_t failed);
/* Sends it a message unasked, whose header is filled in, and counts it: HBM_OK; HBM_LIMIT: it
 * does not read, and this one is dropped; HBM_NOT_FOUND: it has no board, or is not live. */
int session_ask(struct session *session, const struct hbm_wire_ask *ask);
/* Leaves the work to the session's turns, after that which it has. Dead sessions have turns
 * too. */
void session_work(struct session *session, struct work *work);
/* Fires the wait when its fence is reached, after [limits] ready_ms, or when the session
 * ends. Until then the request takes no more memory than its message. */
void session_wait_ready(struct session *session, struct ready_wait *wait);
/* For fire(): the wait is over. The request ends now, or with session_resume(). */
void session_end_wait(struct session *session);
/* Lets a request wait for something else: until session_end_plain_wait() it delays no other
 * request of the session. The wait is fired when the request is cancelled or the session
 * ends. */
void session_plain_wait(struct session *session, struct session_wait *wait);
void session_end_plain_wait(struct session *session, struct session_wait *wait);
/* Lets the request go on, in a turn of the session, when it may use memory. */
void session_resume(struct request *request, struct resumption *resumption);
/* Fires the waits of the request of that id (NULL: of all requests) with HBM_CANCELLED, and
 * cancels those that have not arrived; of parts, all or none (parts.h). False: there was none. */
bool session_cancel(struct session *session, const uint64_t *id);
/* For HELLO: greeting -> live: other requests are accepted. The fds of its reply are
 * borrowed until then. */
void session_greeted(struct session *session);
int session_fence_fd(const struct session *session);
int session_doorbell_fd(const struct session *session);

/* ---- For the server ---- */

/* Once, when its members are set. */
void session_owner_init(struct session_owner *owner);
/* Opens a session on an accepted socket, which it consumes on success. Negative errno. */
int session_open(struct session **out, struct session_owner *owner, int socket, uint64_t id);
/* greeting, live -> draining -> closing. Whatever its state: its regions need no
 * quarantine, and what it leaves unread is not waited for. */
void session_drain(struct session *session);
/* Its owner is leaving: what it has begun goes on, and may be answered. */
void session_leave(struct session *session);
/* Any state -> dead, whatever is in flight. May free it. Not from within a request
 * handler. */
void session_end(struct session *session);
/* The same for a client's fault, which is counted and logged with why, a static phrase. */
void session_drop(struct session *session, const char *why);
/* Its tenant has another weight. */
void session_weigh(struct session *session);
/* greeting, live, draining -> closing. why, a static phrase or NULL, is logged. */
void session_break(struct session *session, const char *why);

/* ---- Between session.c, session_turn.c and session_away.c ---- */

struct peer;

/* One in state greeting, or away, without a connection. The user's reference and the pidfd
 * become the session's, on success. NULL: no memory. */
struct session *session_new(struct session_owner *owner, enum session_state state, uint64_t id,
			    struct user *user, const struct peer *peer);
/* The user that the process is of, with the tenant that has it now; NULL: no memory. */
struct user *session_user(struct ledger *ledger, const struct peer *peer);
/* For one that session_new() has made and nothing has been done with. */
void session_discard(struct session *session);
/* Opens its connection: as connection_open(). */
int session_connect(struct session *session, int socket);

/* struct player: a turn of the session. */
bool session_turn_play(struct player *player, struct slice *slice);
/* Its socket is readable. */
void session_turn_readable(struct session *session);
/* Lets those sessions go on that wait for room, from the top of the loop. */
void session_turn_resume_others(struct session_owner *owner);
uint64_t session_turn_in_flight(const struct session *session); /* requests */

void session_ref(struct session *session);
void session_unref(struct session *session);
