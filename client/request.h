/* SPDX-License-Identifier: Apache-2.0 */
/*
 * request: sends requests and brings their replies to the tickets. The one place that
 * reads from the socket.
 *
 * No more requests are under way than the daemon reads, less one, which is kept for a
 * CANCEL: one that had to queue behind what it is to cancel would be of no use. Until
 * there is a turn, and when the socket has no room, the sender handles replies: a client
 * with any number of requests never waits for a daemon that waits for it. Handling a
 * reply never sends and never makes a ticket; what a reply gives rise to is put on
 * hbm->unsent.
 */
#pragma once

#include "client/connection.h"
#include "client/ticket.h"

struct request {
	enum hbm_wire_opcode opcode;
	const struct ticket_kind *kind;
	struct ticket_answer answer;
	/* the first begins with a header, which hbm_request_submit() fills in */
	struct iovec pieces[2];
	size_t piece_count;
};

/* A whole message, to be sent as soon as there is room. Its memory is the owner's, who
 * takes it off before freeing. */
struct unsent {
	struct list link;
	struct hbm_wire_header *message;
};

/* Sends. 0 and the ticket in *ticket; HBM_LIMIT: longer than a message may be; or
 * negative errno. On failure nothing was sent, and request->answer remains the caller's. */
int hbm_request_submit(struct hbm *hbm, struct request *request, hbm_ticket *ticket);
/* Sends, waits, and returns how the ticket ended. A question is answered at once: a
 * daemon that does not, and says nothing else, is given up after what the connection's
 * owner chose; other requests take their time. */
int hbm_request_submit_wait(struct hbm *hbm, struct request *request);
int hbm_request_query(struct hbm *hbm, struct request *request);
/* Handles at least one reply, or breaks. */
void hbm_request_poll(struct hbm *hbm);
/* Has the daemon drop every request that has not begun, and waits for those that have. */
void hbm_request_end_all(struct hbm *hbm);
/* Ends the connection and every waiting ticket with `error`. */
void hbm_request_break(struct hbm *hbm, int error);

/* Whether the reply is a refusal: a bare header with a status. */
bool hbm_reply_is_refusal(const struct message *message);
/* The reply is a bare header. */
extern const struct ticket_kind hbm_kind_bare;
/* The reply has answer.size bytes, header included, which are copied to answer.body. */
extern const struct ticket_kind hbm_kind_fixed;
