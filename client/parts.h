/* SPDX-License-Identifier: Apache-2.0 */
/*
 * parts: a call that is larger than a message is sent as several requests, its parts, each a
 * ticket of its own; the caller has one ticket, which ends when all of them have ended.
 *
 * All are made before the first is sent, so that nothing is sent of a call that is refused
 * here or has no memory. Its parts are at most half of the requests in flight, so that others
 * of the connection go on beside it: until the last is sent, the call handles replies.
 *
 * Where parts have fences, the daemon sets them when it has ended all (HBM_WIRE_MORE). It is
 * then one request to it, so that after a restart all are sent again, also those that were
 * answered (again.h).
 *
 * The status of the call is that of the first part, in their order, that has not ended HBM_OK;
 * the results of such a part are its status.
 */
#pragma once

#include "client/request.h"

struct part {
	hbm_ticket ticket;
	struct hbm_lookup lookup; /* its own answer */
};

struct parts {
	hbm_ticket whole; /* the caller's */
	struct hbm_lookup *lookup;
	bool fenced;             /* they are one request to the daemon */
	uint32_t count, running; /* all; those that have not ended, sent or not */
	struct part list[];
};

/* For `count` parts, as the ticket of a call, whose lookup may be NULL. NULL: no memory. */
struct parts *hbm_parts_new(struct hbm *hbm, enum hbm_wire_opcode opcode, uint32_t count,
			    struct hbm_lookup *lookup);
/* Adds the next part, of which everything is copied; its answer is its own, but for the lookup.
 * False: no memory. */
bool hbm_parts_add(struct hbm *hbm, struct parts *parts, struct request *request);
/* Frees parts that were not submitted. Takes NULL. */
void hbm_parts_free(struct hbm *hbm, struct parts *parts);
/* Sends all, and consumes them. 0 and the caller's ticket; or, as of hbm_request_submit(): nothing
 * was sent. */
int hbm_parts_submit(struct hbm *hbm, struct parts *parts, hbm_ticket *ticket);
/* Before anything is said to the next daemon: what was answered of parts that are one request to
 * it, and not over, waits again. */
void hbm_parts_reopen(struct hbm *hbm);
/* The first that waits for its reply; 0: none. */
hbm_ticket hbm_parts_waiting(const struct hbm *hbm, const struct parts *parts);
