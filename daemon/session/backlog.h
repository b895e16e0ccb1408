/* SPDX-License-Identifier: Apache-2.0 */
/*
 * backlog: the requests of a session on their way from the socket to their handlers. While
 * the session's requests take as much memory as [limits] request_bytes allows, those that
 * arrive wait here in order, as messages, which is less than what a handler allocates. A
 * CANCEL overtakes them: it may be for what they wait for. So does a HELLO: only when it has
 * been handled is it known whether the next message is allowed. If no handler has a request
 * of the session, the next is handed on whatever the limit.
 */
#pragma once

#include "daemon/session/request.h"

#include <stdbool.h>

struct backlog {
	struct payer *payer; /* the session's */
	/* Gives a request to its handler, which may reply from within. */
	void (*hand_on)(struct backlog *backlog, struct request *request);
	struct list requests; /* that wait */
	uint64_t count;
	bool running;
};

void backlog_init(struct backlog *backlog, struct payer *payer,
		  void (*hand_on)(struct backlog *backlog, struct request *request));
/* Hands a request on, now or later. */
void backlog_add(struct backlog *backlog, struct request *request);
/* Hands on what waits, as far as there is room: after a request has ended, of the session or
 * of another. */
void backlog_run(struct backlog *backlog);
/* Hands on one STORE or LOAD that has a ready fence to wait for and that id (NULL: any).
 * False: there is none. */
bool backlog_run_cancellable(struct backlog *backlog, const uint64_t *id);
/* Refuses all that wait with HBM_SHUTDOWN. */
void backlog_end(struct backlog *backlog);
