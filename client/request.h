/* SPDX-License-Identifier: Apache-2.0 */
/*
 * request: sends requests and hands their replies to the tickets. Only this module reads
 * from the socket.
 *
 * The daemon reads a limited number of requests at a time. One of them is kept for a
 * CANCEL, which would be useless if it queued behind the request it cancels. At the limit,
 * and when the socket is full, the sender handles replies: so client and daemon never wait
 * for each other. Handling a reply never sends and never creates a ticket; a message that
 * it needs to send goes on hbm->unsent.
 */
#pragma once

#include "client/connection.h"
#include "client/ticket.h"

struct request {
	enum hbm_wire_opcode opcode;
	const struct ticket_kind *kind;
	struct ticket_answer answer;
	/* the first begins with a header; hbm_request_submit() fills it in */
	struct iovec pieces[2];
	size_t piece_count;
	bool has_fd; /* `fd` goes with it: borrowed until it is sent */
	int fd;
};

/* A message to send as soon as the socket has room. The owner unlinks it before it frees
 * it. */
struct unsent {
	struct list link;
	struct hbm_wire_header *message;
};

/* Sends. 0 and the ticket in *ticket; HBM_LIMIT: the message is too long; or
 * negative errno. On failure nothing was sent, and request->answer remains the caller's. */
int hbm_request_submit(struct hbm *hbm, struct request *request, hbm_ticket *ticket);
/* Sends the request that an unsent ticket keeps, as above. On failure the ticket is as before. */
int hbm_request_send_kept(struct hbm *hbm, hbm_ticket id);
/* Sends, waits, and returns the status of the ticket. For a request that the daemon answers
 * at once the timeout is answer_ms, for others timeout_ms: the connection ends if the
 * daemon sends nothing for so long. */
int hbm_request_submit_wait(struct hbm *hbm, struct request *request);
int hbm_request_query(struct hbm *hbm, struct request *request);
/* Handles the messages that have come, without waiting. */
void hbm_request_listen(struct hbm *hbm);
/* Handles at least one reply, or breaks the connection. */
void hbm_request_poll(struct hbm *hbm);
/* Notes that there is no such ticket, and returns that error. */
int hbm_request_unknown(struct hbm *hbm, hbm_ticket id);
/* Cancels every request that has not begun, and waits for the others. */
void hbm_request_end_all(struct hbm *hbm);
/* Hands a message to its ticket. 0, or the negative errno that ends the connection. */
int hbm_request_handle(struct hbm *hbm, struct message *message);
/* Ends the connection and every waiting ticket with `error`. */
void hbm_request_break(struct hbm *hbm, int error);

/* Whether the reply is a refusal: a bare header with a status. */
bool hbm_reply_is_refusal(const struct message *message);
/* The reply is a bare header. */
extern const struct ticket_kind hbm_kind_bare;
/* The reply has answer.size bytes, header included, which are copied to answer.body. */
extern const struct ticket_kind hbm_kind_fixed;
