/* SPDX-License-Identifier: Apache-2.0 */
/*
 * again: what becomes of requests that a daemon was sent and did not answer, once the next one
 * has the session and nothing of it that this process does not have (reconnect.h). Most are sent
 * again: to do them twice is to do them once. What was to be given back has been, without them.
 *
 * A store or load that has set its completion fence is over, and must not run again: its client
 * may have used its memory since. Whether blocks failed is in its failed slot; where it has none,
 * or some did, a block that was to be loaded is a miss, and of one that was to be stored it is
 * not known (HBM_SHUTDOWN). Nor is it of a pin that outlives its session, which the daemon keeps as
 * often as it is made.
 */
#pragma once

#include "client/connection.h"
#include "client/ticket.h"

/* Whether its completion fence is set. */
bool hbm_again_is_over(const struct hbm *hbm, const struct hbm_wire_blocks *blocks);
/* TICKET_MORE: the request is to be sent again; else the status that it ends with. */
int hbm_again_settle(struct hbm *hbm, struct ticket *ticket);
/* The status of a request that was sent again, or late, and is answered with that status: what it
 * finds done already, it has done, or the daemon that it comes to as it was told what is mapped. */
int hbm_again_status(const struct ticket *ticket, int status);
