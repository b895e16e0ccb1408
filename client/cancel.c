/* SPDX-License-Identifier: Apache-2.0 */
/* cancel: requests that still wait for something, and the end of all. */
#include "client/error.h"
#include "client/parts.h"
#include "client/request.h"
#include "client/status.h"

#include <errno.h>

static int cancel_send(struct hbm *hbm, hbm_ticket target, uint32_t flags)
{
	struct hbm_wire_cancel cancel = {.target = target, .flags = flags};
	struct request request = {
		.opcode = HBM_WIRE_CANCEL,
		.kind = &hbm_kind_bare,
		.pieces = {{&cancel, sizeof(cancel)}},
		.piece_count = 1,
	};
	return hbm_request_query(hbm, &request);
}

/* The request of a ticket that waits, or the first of its parts that does; 0: none. */
static hbm_ticket cancel_target(const struct hbm *hbm, hbm_ticket id)
{
	const struct ticket *ticket = hbm_ticket_find(&hbm->tickets, id);

	return ticket->state == TICKET_WAITING ? id
	       : ticket->state == TICKET_PARTS ? hbm_parts_waiting(hbm, ticket->parts)
					       : 0;
}

/* Of parts the daemon cancels all, or none. One that it has refused does not wait any more. */
static int cancel_ticket(struct hbm *hbm, hbm_ticket id)
{
	hbm_ticket target, before = 0;
	int rc = HBM_NOT_FOUND;

	while (rc == HBM_NOT_FOUND && (target = cancel_target(hbm, id)) != before) {
		before = target;
		rc = target ? cancel_send(hbm, target, 0) : HBM_NOT_FOUND;
	}

	return rc;
}

int hbm_cancel(struct hbm *hbm, hbm_ticket id)
{
	if (hbm_check_owner(hbm))
		return -EPERM;

	struct ticket *ticket = hbm_ticket_find(&hbm->tickets, id);
	if (!ticket)
		return hbm_request_unknown(hbm, id);

	unsigned int opcode = ticket->opcode;
	int rc = cancel_ticket(hbm, id);
	if (rc == HBM_NOT_FOUND)
		return hbm_fail(hbm, rc, "%s has started or ended: it cannot be cancelled",
				hbm_opcode_name(opcode));

	return rc;
}

void hbm_request_end_all(struct hbm *hbm)
{
	if (hbm->tickets.waiting > 0)
		cancel_send(hbm, 0, HBM_WIRE_ALL);
	while (hbm->tickets.waiting > 0)
		hbm_request_poll(hbm);
}
