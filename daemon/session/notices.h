/* SPDX-License-Identifier: Apache-2.0 */
/*
 * notices: what the daemon sends a session unasked. They go the way of replies, and as those
 * wait for a client that does not read; but no request bounds their number. So what waits is
 * charged (LEDGER_NOTICES), and beyond the limit a notice is dropped: it asks for something,
 * and nothing is wrong if no client hears it.
 */
#pragma once

#include "daemon/ledger/ledger.h"
#include "daemon/session/connection.h"

#include <hbm/wire.h>
#include <stdint.h>

/* Of a session; embedded. */
struct notices {
	struct payer *payer;
	struct connection *connection;
	uint64_t sent; /* and queued, so far */
};

void notices_init(struct notices *notices, struct payer *payer, struct connection *connection);
/* Sends a message, whose header it fills in: HBM_OK; HBM_LIMIT: too many wait, or there is no
 * memory; HBM_NOT_FOUND: the connection has ended. */
int notices_send(struct notices *notices, const struct hbm_wire_ask *ask);
/* What one that waits takes. */
uint64_t notices_footprint(void);
