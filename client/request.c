/* SPDX-License-Identifier: Apache-2.0 */
/* Requests out, replies in, and the public calls that wait for them. See request.h. */
#include "client/request.h"

#include "client/again.h"
#include "client/error.h"
#include "client/status.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

/* ---- Replies ---- */

bool hbm_reply_is_refusal(const struct message *message)
{
	size_t size = message->size;
	return message->header->status > HBM_OK &&
	       (size == sizeof(*message->header) || size == sizeof(struct hbm_wire_refusal)) &&
	       message->fds.count == 0 && !(message->header->flags & HBM_WIRE_MORE);
}

/* The daemon's reason for a refusal; the caller frees it. NULL: none, or out of memory. */
static char *request_reply_reason(const struct message *message)
{
	if (!hbm_reply_is_refusal(message) || message->size != sizeof(struct hbm_wire_refusal))
		return NULL;

	const struct hbm_wire_refusal *refusal = (const void *)message->header;
	return refusal->reason[0] ? strndup(refusal->reason, sizeof(refusal->reason)) : NULL;
}

static int request_reply_bare(struct hbm *hbm, struct ticket *ticket, struct message *message)
{
	(void)hbm;
	(void)ticket;
	if (hbm_reply_is_refusal(message))
		return message->header->status;

	if (message->size != sizeof(*message->header) || message->fds.count ||
	    message->header->flags & HBM_WIRE_MORE)
		return TICKET_BROKEN;

	return message->header->status;
}

const struct ticket_kind hbm_kind_bare = {.reply = request_reply_bare};

static int request_reply_fixed(struct hbm *hbm, struct ticket *ticket, struct message *message)
{
	(void)hbm;
	if (hbm_reply_is_refusal(message))
		return message->header->status;

	if (message->header->status != HBM_OK || message->header->flags & HBM_WIRE_MORE ||
	    message->fds.count || message->size != ticket->answer.size)
		return TICKET_BROKEN;

	memcpy(ticket->answer.body, message->header, message->size);

	return HBM_OK;
}

const struct ticket_kind hbm_kind_fixed = {.reply = request_reply_fixed};

static bool request_header_is_valid(const struct hbm_wire_header *header)
{
	uint16_t known = HBM_WIRE_REPLY | HBM_WIRE_MORE;

	return header->zero == 0 && header->status >= 0 &&
	       (header->flags == HBM_WIRE_UNASKED ||
		(!(header->flags & ~known) && header->flags & HBM_WIRE_REPLY));
}

int hbm_request_handle(struct hbm *hbm, struct message *message)
{
	const struct hbm_wire_header *header = message->header;
	if (!request_header_is_valid(header))
		return -EPROTO;
	if (header->flags == HBM_WIRE_UNASKED)
		return hbm->unasked ? hbm->unasked(hbm, message) : -EPROTO;

	struct ticket *ticket = hbm_ticket_find(&hbm->tickets, header->id);
	if (!ticket || ticket->state != TICKET_WAITING || ticket->opcode != header->opcode)
		return -EPROTO;
	if (message->fds.lost && !ticket->kind->takes_lost_fds)
		return -EMFILE;

	int status = ticket->kind->reply(hbm, ticket, message);
	if (status == TICKET_BROKEN)
		return -EPROTO;
	if (hbm->come_back && status == HBM_OK && !ticket->sent.noted) {
		hbm_pins_answered(&hbm->reconnect.pins, ticket, message);
		ticket->sent.noted = true;
	}
	if (ticket->sent.again || ticket->sent.late)
		status = hbm_again_status(ticket, status);

	if (status != TICKET_MORE) {
		ticket->reason = request_reply_reason(message);
		hbm_ticket_end(&hbm->tickets, ticket, status);
	}

	return 0;
}

static void request_go_on(struct hbm *hbm)
{
	if (hbm->go_on)
		hbm->go_on(hbm);
}

void hbm_request_break(struct hbm *hbm, int error)
{
	if (hbm->broken)
		return;
	hbm->broken = error;
	hbm->away = false;
	shutdown(hbm->channel.fd, SHUT_RDWR);

	for (uint32_t i = 0; i < hbm->tickets.size; i++) {
		struct ticket *ticket = &hbm->tickets.entries[i];
		if (ticket->state != TICKET_WAITING)
			continue;
		if (ticket->kind->abandon)
			ticket->kind->abandon(hbm, ticket);
		hbm_ticket_end(&hbm->tickets, ticket, error);
	}

	request_go_on(hbm);
}

/* ---- The socket ---- */

/* Sends the unsent messages, and what is corked. 0: all are sent; -EAGAIN: the socket is
 * full. */
static int request_flush(struct hbm *hbm)
{
	if (hbm->away)
		return -ENOTCONN;

	while (!list_empty(&hbm->unsent)) {
		struct unsent *first = container_of(hbm->unsent.next, struct unsent, link);
		struct iovec piece = {first->message, first->message->size};
		int rc = hbm_channel_send(&hbm->channel, &piece, 1, -1);
		if (rc)
			return rc;

		list_remove(&first->link);
	}

	return hbm_cork_send(&hbm->cork, &hbm->channel);
}

/* Goes on with another daemon. 0; -EAGAIN: not within timeout_ms; else the connection is now
 * broken. */
static int request_come_back(struct hbm *hbm, int timeout_ms)
{
	int rc = hbm->come_back(hbm, timeout_ms);
	if (rc && rc != -EAGAIN)
		hbm_request_break(hbm, rc);

	return rc;
}

/* Handles one message, or notes that the daemon is gone. 0; -EAGAIN: there is none; else the
 * connection is now broken. */
static int request_receive(struct hbm *hbm, bool block)
{
	if (hbm->broken)
		return hbm->broken;
	if (hbm->away)
		return request_come_back(hbm, block ? -1 : 0);

	struct message message;
	int rc = hbm_channel_receive(&hbm->channel, block, &message);
	if (rc == -EAGAIN)
		return rc;
	if (rc == -ENOTCONN && hbm->come_back) {
		hbm->away = true;
		return 0;
	}

	if (rc == 0) {
		rc = hbm_request_handle(hbm, &message);
		hbm_message_clear(&message);
	}

	if (rc)
		hbm_request_break(hbm, rc);
	else
		/* If the socket is full, retried with the next message; if the peer is
		 * gone, the next receive reports it. */
		request_flush(hbm);

	return rc;
}

static uint64_t request_now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Looks for a message for as long as the caller wants it to instead of sleeping. */
static int request_spin(struct hbm *hbm, int timeout_ms)
{
	uint64_t ns = hbm->poll_ns, most = (uint64_t)timeout_ms * 1000000u;
	uint64_t until = request_now_ns() + (timeout_ms >= 0 && most < ns ? most : ns);
	int rc;

	do
		rc = request_receive(hbm, false);
	while (rc == -EAGAIN && request_now_ns() < until);

	return rc;
}

/* Waits for a message at most timeout_ms (-1: no timeout) and handles it. 0 (also if no
 * message came after all), -ETIMEDOUT, or another negative errno: the connection is now
 * broken, or else a caller that gives up would leave tickets behind that still say where
 * its answer goes. */
static int request_wait(struct hbm *hbm, int timeout_ms)
{
	if (hbm->away) {
		int back = request_come_back(hbm, timeout_ms);
		return back == -EAGAIN ? -ETIMEDOUT : back;
	}

	int unsent = request_flush(hbm);
	if (unsent && unsent != -EAGAIN && unsent != -ENOTCONN) {
		hbm_request_break(hbm, unsent); /* what is waited for was never asked */
		return unsent;
	}

	bool more = unsent == -EAGAIN;
	if (!more && hbm->poll_ns > 0) {
		int rc = request_spin(hbm, timeout_ms);
		if (rc != -EAGAIN)
			return rc;
	}

	if (!more && timeout_ms < 0)
		return request_receive(hbm, true);

	int rc = hbm_channel_wait(&hbm->channel, more, timeout_ms);
	if (rc && rc != -ETIMEDOUT)
		hbm_request_break(hbm, rc);
	if (rc)
		return rc;

	rc = request_receive(hbm, false);

	return rc == -EAGAIN ? 0 : rc;
}

void hbm_request_listen(struct hbm *hbm)
{
	while (request_receive(hbm, false) == 0)
		;
}

void hbm_request_poll(struct hbm *hbm)
{
	int rc = request_wait(hbm, hbm->timeout_ms);
	if (rc)
		hbm_request_break(hbm, rc);
}

/* Sends what is there and then a request, unless that is NULL. */
static int request_send(struct hbm *hbm, const struct request *request)
{
	for (;;) {
		int rc = request_flush(hbm);
		if (rc == 0 && request)
			rc = hbm_channel_send(&hbm->channel, request->pieces, request->piece_count,
					      request->has_fd ? request->fd : -1);

		if (rc == -ENOTCONN) {
			/* Handle the replies that the daemon sent before it exited. */
			while (!hbm->away && request_receive(hbm, false) == 0)
				;
			if (hbm->away)
				rc = request_come_back(hbm, hbm->timeout_ms);
			if (rc == 0)
				continue;
			hbm_request_break(hbm, -ENOTCONN);
		}

		if (rc != -EAGAIN)
			return rc;

		rc = hbm_channel_wait(&hbm->channel, true, hbm->timeout_ms);
		if (rc == 0)
			rc = request_receive(hbm, false);

		if (rc && rc != -EAGAIN) {
			hbm_request_break(hbm, rc);
			return rc;
		}
	}
}

static int request_fail(struct hbm *hbm, const struct request *request, int error)
{
	return hbm_fail(hbm, error, "%s not sent: %s", hbm_opcode_name(request->opcode),
			hbm_strerror(error));
}

/* Handles replies until one more request may be in flight. */
static void request_wait_turn(struct hbm *hbm, const struct request *request)
{
	uint32_t most = hbm->info.requests_in_flight;
	if (most > 0 && request->opcode != HBM_WIRE_CANCEL)
		most--;
	while (hbm->tickets.waiting > 0 && hbm->tickets.waiting >= most)
		hbm_request_poll(hbm);
}

/* Sends or corks the request of a ticket. */
static int request_start(struct hbm *hbm, const struct request *request, struct ticket *ticket)
{
	bool corked =
		!request->has_fd && hbm_cork_add(&hbm->cork, request->pieces, request->piece_count);
	int rc = corked ? 0 : request_send(hbm, request);
	if (rc == 0)
		hbm_ticket_sent(&hbm->tickets, ticket);

	return rc;
}

/* A ticket for the request, whose header is filled in. NULL: no memory, or no descriptors. */
static struct ticket *request_ticket_new(struct hbm *hbm, struct request *request, size_t size,
					 hbm_ticket *number)
{
	struct ticket *ticket = hbm_ticket_new(&hbm->tickets, number);
	if (!ticket)
		return NULL;

	ticket->opcode = (uint16_t)request->opcode;
	ticket->kind = request->kind;
	ticket->answer = request->answer;
	struct hbm_wire_header *header = request->pieces[0].iov_base;
	*header = (struct hbm_wire_header){
		.size = (uint32_t)size, .opcode = ticket->opcode, .id = *number};
	if (hbm->come_back &&
	    !hbm_ticket_keep(&hbm->tickets, ticket, request->pieces, request->piece_count,
			     request->has_fd ? request->fd : -1)) {
		hbm_ticket_free(&hbm->tickets, ticket);
		return NULL;
	}

	return ticket;
}

/* Waits its turn and sends it. The table of tickets may move meanwhile. */
static int request_send_ticket(struct hbm *hbm, const struct request *request, hbm_ticket number)
{
	request_wait_turn(hbm, request);
	if (hbm->broken)
		return -ENOTCONN;

	return request_start(hbm, request, hbm_ticket_find(&hbm->tickets, number));
}

int hbm_request_submit(struct hbm *hbm, struct request *request, hbm_ticket *id)
{
	if (hbm_check_owner(hbm))
		return -EPERM;

	size_t size = 0;
	for (size_t i = 0; i < request->piece_count; i++)
		size += request->pieces[i].iov_len;
	if (size > HBM_WIRE_MESSAGE_MAX)
		return hbm_fail(hbm, HBM_LIMIT, "%s of %zu bytes: a request has at most %d",
				hbm_opcode_name(request->opcode), size, HBM_WIRE_MESSAGE_MAX);

	/* Before it waits: a daemon that follows meanwhile has been told what it gives back. */
	hbm_ticket number;
	struct ticket *ticket = request_ticket_new(hbm, request, size, &number);
	if (!ticket)
		return request_fail(hbm, request, -ENOMEM);

	int rc = request_send_ticket(hbm, request, number);
	if (rc) {
		hbm_ticket_free(&hbm->tickets, hbm_ticket_find(&hbm->tickets, number));
		return request_fail(hbm, request, rc);
	}

	*id = number;

	return 0;
}

int hbm_request_send_kept(struct hbm *hbm, hbm_ticket id)
{
	struct hbm_wire_header *header = (void *)hbm_ticket_find(&hbm->tickets, id)->sent.message;
	const struct request request = {
		.opcode = header->opcode, .pieces = {{header, header->size}}, .piece_count = 1};

	int rc = request_send_ticket(hbm, &request, id);

	return rc ? request_fail(hbm, &request, rc) : 0;
}

/* ---- Corking ---- */

int hbm_cork(struct hbm *hbm)
{
	if (hbm_check_owner(hbm))
		return -EPERM;
	if (!hbm->cork.bytes)
		hbm->cork.bytes = malloc(CORK_BYTES);
	if (!hbm->cork.bytes)
		return hbm_fail(hbm, -ENOMEM, "not corked: %s", hbm_strerror(-ENOMEM));

	hbm->cork.on = true;

	return 0;
}

int hbm_uncork(struct hbm *hbm)
{
	if (hbm_check_owner(hbm))
		return -EPERM;

	hbm->cork.on = false;
	int rc = hbm->broken ? -ENOTCONN : request_send(hbm, NULL);
	if (rc == 0)
		return 0;

	hbm_request_break(hbm, rc);

	return hbm_fail(hbm, rc, "requests not sent: %s", hbm_strerror(rc));
}

static int request_submit_wait(struct hbm *hbm, struct request *request, int timeout_ms)
{
	hbm_ticket ticket;
	int rc = hbm_request_submit(hbm, request, &ticket);
	if (rc)
		return rc;

	/* The limit is for each daemon anew, and not for the time without one. */
	uint64_t times;
	do {
		times = hbm->reconnect.times;
		rc = hbm_wait(hbm, ticket, timeout_ms);
	} while (rc == -ETIMEDOUT && (hbm->away || hbm->reconnect.times != times));
	if (rc == -ETIMEDOUT)
		hbm_request_break(hbm, rc);

	return rc;
}

int hbm_request_submit_wait(struct hbm *hbm, struct request *request)
{
	return request_submit_wait(hbm, request, hbm->timeout_ms);
}

int hbm_request_query(struct hbm *hbm, struct request *request)
{
	return request_submit_wait(hbm, request, hbm->answer_ms);
}

/* ---- Waiting ---- */

static int64_t request_now_ms(void)
{
	return (int64_t)(request_now_ns() / 1000000);
}

static int64_t request_deadline_in(int timeout_ms)
{
	return timeout_ms > 0 ? request_now_ms() + timeout_ms : timeout_ms;
}

/* The remaining part of timeout_ms; 0 and -1 are unchanged. */
static int request_deadline_left(int64_t deadline, int timeout_ms)
{
	if (timeout_ms <= 0)
		return timeout_ms < 0 ? -1 : 0;
	int64_t left = deadline - request_now_ms();
	return left > 0 ? (int)left : 0;
}

static int request_ticket_give_back(struct hbm *hbm, struct ticket *ticket)
{
	int status = ticket->status;
	if (status && ticket->failure)
		hbm_fail(hbm, status, "%s", ticket->failure);
	else if (status == HBM_DEVICE && ticket->device_call)
		hbm_fail_device(hbm, ticket->device_call, ticket->device_result);
	else if (status > 0)
		hbm_fail(hbm, status, "the daemon refused %s: %s%s%s",
			 hbm_opcode_name(ticket->opcode), hbm_strerror(status),
			 ticket->reason ? ": " : "", ticket->reason ? ticket->reason : "");
	else if (status < 0)
		hbm_fail(hbm, status, "%s unanswered: %s", hbm_opcode_name(ticket->opcode),
			 hbm_strerror(status));

	hbm_ticket_free(&hbm->tickets, ticket);
	return status;
}

int hbm_request_unknown(struct hbm *hbm, hbm_ticket id)
{
	return hbm_fail(hbm, -EINVAL, "there is no ticket %#llx", (unsigned long long)id);
}

int hbm_wait(struct hbm *hbm, hbm_ticket id, int timeout_ms)
{
	if (hbm_check_owner(hbm))
		return -EPERM;

	if (!hbm_ticket_find(&hbm->tickets, id))
		return hbm_request_unknown(hbm, id);

	int64_t deadline = request_deadline_in(timeout_ms);
	for (;;) {
		request_go_on(hbm); /* entries may move */
		struct ticket *ticket = hbm_ticket_find(&hbm->tickets, id);
		if (ticket->state == TICKET_ENDED)
			return request_ticket_give_back(hbm, ticket);

		int rc = request_wait(hbm, request_deadline_left(deadline, timeout_ms));
		if (rc && !hbm->broken)
			return hbm_fail(hbm, rc, "%s still unanswered: %s",
					hbm_opcode_name(ticket->opcode), hbm_strerror(rc));
	}
}

int hbm_poll(struct hbm *hbm, hbm_ticket id)
{
	if (hbm_check_owner(hbm))
		return -EPERM;
	struct ticket *ticket = hbm_ticket_find(&hbm->tickets, id);
	if (!ticket)
		return hbm_request_unknown(hbm, id);
	return ticket->state == TICKET_ENDED ? request_ticket_give_back(hbm, ticket) : -EAGAIN;
}

/* ---- Dispatching ---- */

static int request_dispatch_broken(struct hbm *hbm, int error)
{
	return hbm_fail(hbm, error, "the connection has ended, and every ticket with it: %s",
			hbm_strerror(error));
}

int hbm_dispatch(struct hbm *hbm, int timeout_ms)
{
	if (hbm_check_owner(hbm))
		return -EPERM;
	if (hbm->broken)
		return request_dispatch_broken(hbm, -ENOTCONN);

	int64_t deadline = request_deadline_in(timeout_ms);
	request_flush(hbm);
	request_go_on(hbm);
	while (hbm->tickets.unreported == 0) {
		int rc = request_wait(hbm, request_deadline_left(deadline, timeout_ms));
		if (rc == -ETIMEDOUT)
			break;
		if (rc)
			return request_dispatch_broken(hbm, rc);
		request_go_on(hbm);
	}

	while (request_receive(hbm, false) == 0)
		;
	request_go_on(hbm);

	return hbm->broken ? request_dispatch_broken(hbm, hbm->broken)
			   : hbm_tickets_report(&hbm->tickets);
}
