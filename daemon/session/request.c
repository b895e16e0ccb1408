/* SPDX-License-Identifier: Apache-2.0 */
/*
 * request: see request.h. The memory of the message is reused for the reply: most
 * replies are no longer than their request, so queueing one needs no allocation. A larger
 * reply is allocated; if that fails the connection fails, because a client without an
 * answer would wait forever.
 */
#include "daemon/session/request.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/base/foreign_fd.h"
#include "daemon/session/parts.h"

#define REQUEST_ROOM_MIN 256u
static_assert(sizeof(struct hbm_wire_refusal) <= REQUEST_ROOM_MIN, "a refusal fits the room");

struct request *request_new(struct session *session, struct connection *connection,
			    const struct request_ops *ops, struct payer *payer, const void *message,
			    size_t size)
{
	size_t room = size > REQUEST_ROOM_MIN ? size : REQUEST_ROOM_MIN;
	struct request *request = malloc(sizeof(*request) + room);
	if (!request)
		return NULL;

	*request = (struct request){
		.session = session,
		.ops = ops,
		.connection = connection,
		.fd = -1,
		.room = room,
		.message = (const struct hbm_wire_header *)(const void *)request->bytes,
	};
	list_init(&request->link);
	memcpy(request->bytes, message, size);
	ledger_charge_always(&request->count_charge, payer, LEDGER_REQUESTS, 1);
	request_charge(request, sizeof(*request) + room);

	return request;
}

void request_charge(struct request *request, size_t bytes)
{
	ledger_charge_always(&request->memory_charge, request->count_charge.payer,
			     LEDGER_REQUEST_BYTES, bytes);
}

int request_charge_descriptors(struct request *request, uint64_t count)
{
	return ledger_charge(&request->descriptor_charge, request->count_charge.payer,
			     LEDGER_DESCRIPTORS, count);
}

static void request_end(struct request *request)
{
	struct session *session = request->session;
	const struct request_ops *ops = request->ops;
	bool resumed = request->resumption != NULL;

	if (request->fd >= 0)
		foreign_fd_close(request->fd);
	ledger_release(&request->descriptor_charge);
	ledger_release(&request->memory_charge);
	ledger_release(&request->count_charge);
	if (request->message->opcode == HBM_WIRE_NAMESPACE_OPEN)
		explicit_bzero(request->bytes, request->room); /* a salt */

	parts_unref(request->parts);
	free(request);
	ops->ended(session, resumed);
}

/* ---- The reply as a queued message ---- */

static void request_release_own(struct out_message *message)
{
	request_end(container_of(message, struct request, reply));
}

static void request_release_last(struct out_message *message)
{
	request_end(message->owner);
	free(message);
}

static struct hbm_wire_header request_make_header(const struct request *request, unsigned flags,
						  int status, size_t body)
{
	return (struct hbm_wire_header){
		.size = (uint32_t)(sizeof(struct hbm_wire_header) + body),
		.opcode = request->message->opcode,
		.flags = (uint16_t)(HBM_WIRE_REPLY | flags),
		.id = request->message->id,
		.status = status,
	};
}

/* Writes a reply without fds into the memory of the message. */
static struct out_message *request_use_room(struct request *request,
					    const struct hbm_wire_header *header, const void *body)
{
	size_t body_size = header->size - sizeof(*header);

	/* The body may lie in the message. */
	if (body_size > 0)
		memmove(request->bytes + sizeof(*header), body, body_size);

	memcpy(request->bytes, header, sizeof(*header));

	request->reply = (struct out_message){
		.bytes = request->bytes,
		.size = header->size,
		.release = request_release_own,
	};

	return &request->reply;
}

static bool request_dup_fds(struct out_message *message, const int *fds)
{
	for (size_t i = 0; i < message->fd_count; i++) {
		message->fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 0);
		if (message->fds[i] < 0)
			return false;
	}
	return true;
}

static struct out_message *request_make_message(const struct hbm_wire_header *header,
						const void *body, const int *fds, size_t fd_count)
{
	struct out_message *message = out_message_new(header->size, fd_count);
	if (!message)
		return NULL;
	if (!request_dup_fds(message, fds))
		return out_message_release(message);

	memcpy(message->bytes, header, sizeof(*header));
	if (header->size > sizeof(*header))
		memcpy(message->bytes + sizeof(*header), body, header->size - sizeof(*header));

	return message;
}

/* The reply cannot be sent now. */
static void request_queue(struct request *request, const struct hbm_wire_header *header,
			  const void *body, const int *fds, size_t fd_count)
{
	struct out_message *message;

	if (fd_count == 0 && header->size <= request->room) {
		message = request_use_room(request, header, body);
	} else {
		message = request_make_message(header, body, fds, fd_count);
		if (!message) {
			connection_fail(request->connection, -ENOMEM);
			request_end(request);
			return;
		}

		message->owner = request;
		message->release = request_release_last;
		request_charge(request, header->size);
	}

	connection_queue(request->connection, message);
}

/* ---- Replying ---- */

static int request_send(struct request *request, const struct hbm_wire_header *header,
			const void *body, const int *fds, size_t fd_count)
{
	struct iovec iov[2] = {
		{(void *)(uintptr_t)header, sizeof(*header)},
		{(void *)(uintptr_t)body, header->size - sizeof(*header)},
	};
	return connection_send(request->connection, iov, iov[1].iov_len > 0 ? 2 : 1, fds, fd_count);
}

static void request_finish(struct request *request, int status, const void *body, size_t size,
			   const int *fds, size_t fd_count)
{
	if (status != HBM_OK)
		request->ops->refused(request->session);

	if (!connection_is_open(request->connection)) {
		request_end(request);
		return;
	}

	struct hbm_wire_header header = request_make_header(request, 0, status, size);
	int r = request_send(request, &header, body, fds, fd_count);
	if (r == -EMSGSIZE && size > 0) {
		/* The system's socket buffers are smaller than our largest message. */
		header = request_make_header(request, 0, HBM_LIMIT, 0);
		fd_count = 0;
		r = request_send(request, &header, NULL, NULL, 0);
	}

	if (r == -EAGAIN) {
		request_queue(request, &header, body, fds, fd_count);
		return;
	}

	if (r < 0)
		connection_fail(request->connection, r);

	request_end(request);
}

void request_reply_fds(struct request *request, int status, const void *body, size_t size,
		       const int *fds, size_t fd_count)
{
	assert(size <= HBM_WIRE_MESSAGE_MAX - sizeof(struct hbm_wire_header));
	assert(status == HBM_OK || (!body && size == 0));

	request_finish(request, status, body, size, fds, fd_count);
}

void request_refuse(struct request *request, int status, const char *format, ...)
{
	char reason[HBM_WIRE_REASON_BYTES] = "";
	va_list arguments;

	assert(status > HBM_OK);

	va_start(arguments, format);
	vsnprintf(reason, sizeof(reason), format, arguments);
	va_end(arguments);
	request_finish(request, status, reason, sizeof(reason), NULL, 0);
}

void request_refuse_limit_of(struct request *request, const struct payer *payer,
			     enum ledger_resource resource, uint64_t amount)
{
	char reason[HBM_WIRE_REASON_BYTES];

	ledger_reason(payer, resource, amount, reason, sizeof(reason));
	request_refuse(request, HBM_LIMIT, "%s", reason);
}

void request_refuse_limit(struct request *request, enum ledger_resource resource, uint64_t amount)
{
	request_refuse_limit_of(request, request->count_charge.payer, resource, amount);
}

void request_reply(struct request *request, int status, const void *body, size_t size)
{
	request_reply_fds(request, status, body, size, NULL, 0);
}

void request_reply_messages(struct request *request, struct list *messages)
{
	struct connection *connection = request->connection;
	bool last;

	do {
		struct list *node = list_pop_front(messages);
		struct out_message *message = container_of(node, struct out_message, link);

		last = list_empty(messages);

		struct hbm_wire_header header = request_make_header(
			request, last ? 0 : HBM_WIRE_MORE, HBM_OK, message->size - sizeof(header));
		memcpy(message->bytes, &header, sizeof(header));

		if (last) {
			message->owner = request;
			message->release = request_release_last;
		}

		/* Sending the last one may free the request, and a dead session with
		 * it. */
		connection_queue(connection, message);
	} while (!last);
}
