/* SPDX-License-Identifier: Apache-2.0 */
/* notices: see notices.h. */
#include "daemon/session/notices.h"

#include <errno.h>
#include <stdlib.h>

#include "daemon/session/outbox.h"

/* One that waits in the connection's queue. */
struct notice {
	struct out_message message;
	struct charge charge;
	struct hbm_wire_ask ask;
};

void notices_init(struct notices *notices, struct payer *payer, struct connection *connection)
{
	*notices = (struct notices){.payer = payer, .connection = connection};
}

uint64_t notices_footprint(void)
{
	return sizeof(struct notice);
}

static void notices_release(struct out_message *message)
{
	struct notice *notice = container_of(message, struct notice, message);

	ledger_release(&notice->charge);
	free(notice);
}

static int notices_queue(struct notices *notices, const struct hbm_wire_ask *ask)
{
	struct notice *notice = calloc(1, sizeof(*notice));
	if (!notice)
		return HBM_LIMIT;

	if (ledger_charge(&notice->charge, notices->payer, LEDGER_NOTICES, 1) != HBM_OK) {
		free(notice);
		return HBM_LIMIT;
	}

	notice->ask = *ask;
	notice->message = (struct out_message){.bytes = (unsigned char *)&notice->ask,
					       .size = sizeof(notice->ask),
					       .release = notices_release};
	list_init(&notice->message.link);
	notices->sent++;
	connection_queue(notices->connection, &notice->message);

	return HBM_OK;
}

int notices_send(struct notices *notices, const struct hbm_wire_ask *ask)
{
	struct hbm_wire_ask message = *ask;
	struct iovec piece = {&message, sizeof(message)};

	if (!connection_is_open(notices->connection))
		return HBM_NOT_FOUND;

	message.header = (struct hbm_wire_header){
		.size = sizeof(message), .opcode = HBM_WIRE_ASK, .flags = HBM_WIRE_UNASKED};
	int r = connection_send(notices->connection, &piece, 1, NULL, 0);
	if (r == -EAGAIN)
		return notices_queue(notices, &message);
	if (r < 0)
		return HBM_NOT_FOUND;

	notices->sent++;

	return HBM_OK;
}
