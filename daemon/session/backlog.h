/* SPDX-License-Identifier: Apache-2.0 */
/*
 * backlog: the requests of a session that have been read and have not begun. They wait in
 * order, as messages, which is less than what a handler allocates. One begins when the
 * session's requests take less memory than [limits] request_bytes allows, and all sessions'
 * less than request_bytes_total or this one's less than its share; or if no other request of
 * the session has begun. A CANCEL or HELLO begins whatever the limit: a CANCEL may be for
 * what the others wait for, and only when a HELLO has been handled is it known whether the
 * next message is allowed.
 *
 * A request that waits for its ready fence is parked: it has begun, and costs no more than
 * its message. When the fence has been reached it returns here, and goes on before the
 * others and under the same limits, but always if no other request that has returned is
 * under way: what has begun may wait for it.
 */
#pragma once

#include "daemon/session/request.h"

#include <stdbool.h>

struct backlog {
	struct payer *payer;  /* the session's */
	struct list requests; /* that have not begun */
	struct list returned;
	uint64_t count;   /* of both */
	uint64_t parked;  /* requests that are */
	uint64_t resumed; /* requests that have returned and gone on, and have not ended */
};

void backlog_init(struct backlog *backlog, struct payer *payer);
void backlog_add(struct backlog *backlog, struct request *request);
/* Takes the next request that may begin or, if it has a resumption, go on. NULL: none may. */
struct request *backlog_take(struct backlog *backlog);

/* A request that has begun waits, and takes no more memory than its message. */
void backlog_park(struct backlog *backlog);
/* It ends or returns. */
void backlog_unpark(struct backlog *backlog);
/* It goes on when it may. */
void backlog_return(struct backlog *backlog, struct request *request,
		    struct resumption *resumption);
/* It has gone on, and has ended. */
void backlog_resumed_ended(struct backlog *backlog);

/* The request of that id that has not begun, or NULL. */
const struct request *backlog_find(const struct backlog *backlog, uint64_t id);
/* Takes a request of that id (NULL: any), or of these parts, unless that is NULL, that has not
 * begun, nor another of its parts: a RESERVE, or a STORE or LOAD that has a ready fence to wait for.
 * NULL: there is none. */
struct request *backlog_take_cancellable(struct backlog *backlog, const uint64_t *id,
					 const struct parts *parts);
/* Refuses all with HBM_SHUTDOWN. */
void backlog_end(struct backlog *backlog);
