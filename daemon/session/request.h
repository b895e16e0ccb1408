/* SPDX-License-Identifier: Apache-2.0 */
/*
 * request: one request in flight, from the moment its message was read until its reply
 * has been given to the connection. It owns a copy of the message, which its handler
 * works on.
 *
 * A handler keeps the request while it works, on a list of its own if it likes, and ends
 * it with exactly one call of request_reply() or one of its variants. The owner is then
 * told that it ended.
 */
#pragma once

#include "daemon/base/list.h"
#include "daemon/ledger/ledger.h"
#include "daemon/session/connection.h"

#include <hbm/wire.h>
#include <stdbool.h>

struct parts;
struct request;
struct session;

/* What a request calls of its owner. */
struct request_ops {
	void (*refused)(struct session *session); /* its reply has a status other than HBM_OK */
	/* It has been freed; the owner may go with it. resumed: it had waited and gone on. */
	void (*ended)(struct session *session, bool resumed);
};

/* The rest of a request that has waited and may begin to use memory now (backlog.h). */
struct resumption {
	/* HBM_OK: go on; HBM_SHUTDOWN: the session has ended, refuse it. */
	void (*go_on)(struct resumption *resumption, int status);
};

struct request {
	struct list link;        /* the backlog's or the handler's, while it waits somewhere */
	struct session *session; /* the owner, which outlives it */
	const struct hbm_wire_header *message;
	struct resumption *resumption; /* the backlog's */
	struct parts *parts;           /* of a STORE or LOAD; NULL: it is whole by itself */
	int fd; /* that came with the message, charged for, closed with the request; -1: none */
	/* The rest is request.c's. */
	const struct request_ops *ops;
	struct connection *connection;
	struct charge count_charge, memory_charge, descriptor_charge;
	struct out_message reply; /* while it is queued in that memory */
	size_t room;
	_Alignas(16) unsigned char bytes[]; /* [room]: the message, then its reply */
};

/* Makes a request with its own copy of a validated message, which the payer is charged
 * for, whatever the limit. NULL: out of memory. */
struct request *request_new(struct session *session, struct connection *connection,
			    const struct request_ops *ops, struct payer *payer, const void *message,
			    size_t size);
/* Charges for memory that its handler keeps until it has replied. */
void request_charge(struct request *request, size_t bytes);
/* Charges for descriptors that its reply will carry, once: HBM_OK or HBM_LIMIT. */
int request_charge_descriptors(struct request *request, uint64_t count);

/* Sends header + body (size bytes after the header) and frees the request. The body may
 * lie in the request's message. status != HBM_OK: body must be NULL. */
void request_reply(struct request *request, int status, const void *body, size_t size);
/* The same with fds, which are borrowed. */
void request_reply_fds(struct request *request, int status, const void *body, size_t size,
		       const int *fds, size_t fd_count);
/* Refuses the request: status is not HBM_OK. The reason, one line for people, names the
 * field or limit and what it allows; it is cut to HBM_WIRE_REASON_BYTES. */
void request_refuse(struct request *request, int status, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* Refuses the request with HBM_LIMIT: its session may not have so much more. */
void request_refuse_limit(struct request *request, enum ledger_resource resource, uint64_t amount);
/* The same of another payer. */
void request_refuse_limit_of(struct request *request, const struct payer *payer,
			     enum ledger_resource resource, uint64_t amount);
/* Replies with messages made in advance, each with space for a header before its body;
 * consumes them. At least one. */
void request_reply_messages(struct request *request, struct list *messages);
