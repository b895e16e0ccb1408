/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/session/backlog.h"

#include <assert.h>
#include <hbm/wire.h>

#include "daemon/session/parts.h"

void backlog_init(struct backlog *backlog, struct payer *payer)
{
	*backlog = (struct backlog){.payer = payer};
	list_init(&backlog->requests);
	list_init(&backlog->returned);
}

static bool backlog_has_room(const struct backlog *backlog)
{
	return ledger_has_own_room(backlog->payer, LEDGER_REQUEST_BYTES, 1) &&
	       ledger_has_shared_room(backlog->payer, LEDGER_REQUEST_BYTES);
}

/* Requests that have begun, have not ended, and may hold more than their message. */
static uint64_t backlog_begun(const struct backlog *backlog)
{
	return ledger_used(backlog->payer, LEDGER_REQUESTS) - backlog->count - backlog->parked;
}

static bool backlog_overtakes(const struct request *request)
{
	unsigned opcode = request->message->opcode;

	return opcode == HBM_WIRE_CANCEL || opcode == HBM_WIRE_HELLO;
}

void backlog_add(struct backlog *backlog, struct request *request)
{
	if (backlog_overtakes(request))
		list_push_front(&backlog->requests, &request->link);
	else
		list_push_back(&backlog->requests, &request->link);

	backlog->count++;
}

static struct request *backlog_remove(struct backlog *backlog, struct list *node)
{
	list_remove(node);
	backlog->count--;
	return container_of(node, struct request, link);
}

static struct request *backlog_take_returned(struct backlog *backlog)
{
	if (list_empty(&backlog->returned) || (backlog->resumed > 0 && !backlog_has_room(backlog)))
		return NULL;

	backlog->resumed++;
	return backlog_remove(backlog, backlog->returned.next);
}

struct request *backlog_take(struct backlog *backlog)
{
	struct request *request = backlog_take_returned(backlog);
	if (request || list_empty(&backlog->requests))
		return request;

	struct list *first = backlog->requests.next;
	if (backlog_begun(backlog) > 0 && !backlog_has_room(backlog) &&
	    !backlog_overtakes(container_of(first, struct request, link)))
		return NULL;

	return backlog_remove(backlog, first);
}

void backlog_park(struct backlog *backlog)
{
	backlog->parked++;
}

void backlog_unpark(struct backlog *backlog)
{
	assert(backlog->parked > 0);
	backlog->parked--;
}

void backlog_return(struct backlog *backlog, struct request *request, struct resumption *resumption)
{
	request->resumption = resumption;
	list_push_back(&backlog->returned, &request->link);
	backlog->count++;
}

void backlog_resumed_ended(struct backlog *backlog)
{
	assert(backlog->resumed > 0);
	backlog->resumed--;
}

static bool backlog_is_cancellable(const struct request *request)
{
	unsigned opcode = request->message->opcode;

	if (opcode == HBM_WIRE_RESERVE)
		return true;

	return (opcode == HBM_WIRE_STORE || opcode == HBM_WIRE_LOAD) &&
	       ((const struct hbm_wire_blocks *)(const void *)request->message)->ready_slot !=
		       HBM_WIRE_NO_FENCE;
}

const struct request *backlog_find(const struct backlog *backlog, uint64_t id)
{
	list_for_each (node, &backlog->requests) {
		const struct request *request = container_of(node, struct request, link);
		if (request->message->id == id)
			return request;
	}

	return NULL;
}

struct request *backlog_take_cancellable(struct backlog *backlog, const uint64_t *id,
					 const struct parts *parts)
{
	list_for_each (node, &backlog->requests) {
		struct request *request = container_of(node, struct request, link);
		bool meant =
			!id || request->message->id == *id || (parts && request->parts == parts);
		if (meant && backlog_is_cancellable(request) && !parts_have_begun(request->parts))
			return backlog_remove(backlog, node);
	}

	return NULL;
}

void backlog_end(struct backlog *backlog)
{
	while (!list_empty(&backlog->returned)) {
		struct request *request = backlog_remove(backlog, backlog->returned.next);

		backlog->resumed++;
		request->resumption->go_on(request->resumption, HBM_SHUTDOWN);
	}

	while (!list_empty(&backlog->requests))
		request_refuse(backlog_remove(backlog, backlog->requests.next), HBM_SHUTDOWN,
			       "the session has ended");
}
