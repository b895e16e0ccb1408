/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/session/backlog.h"

#include <hbm/wire.h>

void backlog_init(struct backlog *backlog, struct payer *payer,
		  void (*hand_on)(struct backlog *backlog, struct request *request))
{
	*backlog = (struct backlog){.payer = payer, .hand_on = hand_on};
	list_init(&backlog->requests);
}

/* `unhandled` requests of the session are with no handler. */
static bool backlog_has_room(const struct backlog *backlog, uint64_t unhandled)
{
	const struct payer *payer = backlog->payer;

	return ledger_used(payer, LEDGER_REQUESTS) == unhandled ||
	       (ledger_has_own_room(payer, LEDGER_REQUEST_BYTES, 1) &&
		ledger_has_shared_room(payer, LEDGER_REQUEST_BYTES));
}

static struct request *backlog_remove(struct backlog *backlog, struct list *node)
{
	list_remove(node);
	backlog->count--;
	return container_of(node, struct request, link);
}

static bool backlog_overtakes(const struct request *request)
{
	unsigned opcode = request->message->opcode;

	return opcode == HBM_WIRE_CANCEL || opcode == HBM_WIRE_HELLO;
}

void backlog_add(struct backlog *backlog, struct request *request)
{
	bool waits = backlog->count > 0 || !backlog_has_room(backlog, 1);

	if (!waits || backlog_overtakes(request)) {
		backlog->hand_on(backlog, request);
		return;
	}

	list_push_back(&backlog->requests, &request->link);
	backlog->count++;
}

void backlog_run(struct backlog *backlog)
{
	/* The handler has replied from within. */
	if (backlog->running)
		return;

	backlog->running = true;
	while (backlog->count > 0 && backlog_has_room(backlog, backlog->count))
		backlog->hand_on(backlog, backlog_remove(backlog, backlog->requests.next));

	backlog->running = false;
}

static bool backlog_is_cancellable(const struct request *request)
{
	unsigned opcode = request->message->opcode;

	return (opcode == HBM_WIRE_STORE || opcode == HBM_WIRE_LOAD) &&
	       ((const struct hbm_wire_blocks *)(const void *)request->message)->ready_slot !=
		       HBM_WIRE_NO_FENCE;
}

bool backlog_run_cancellable(struct backlog *backlog, const uint64_t *id)
{
	list_for_each (node, &backlog->requests) {
		struct request *request = container_of(node, struct request, link);
		if (!backlog_is_cancellable(request) || (id && request->message->id != *id))
			continue;

		backlog->hand_on(backlog, backlog_remove(backlog, node));

		return true;
	}

	return false;
}

void backlog_end(struct backlog *backlog)
{
	while (backlog->count > 0)
		request_refuse(backlog_remove(backlog, backlog->requests.next), HBM_SHUTDOWN,
			       "the session has ended");
}
