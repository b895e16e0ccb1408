/* SPDX-License-Identifier: Apache-2.0 */
/*
 * request: a message on its way from the door to its reply (session.h). The memory that held the message is the room
 * reserved for the reply: most replies are no longer than their request, so a socket that is full right now does not
 * ask for memory. What does not fit is allocated; when that fails the session ends, as a client that got no answer
 * would wait for ever.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/outbox.h"
#include "daemon/session.h"

#define ROOM_MIN 256u

struct request_state {
	struct request request;
	struct out_message out; /* the reply, while it waits in the reserved room */
	size_t room;
	_Alignas(16) unsigned char message[];
};

static struct request_state *state_of(struct request *request)
{
	return request->private;
}

struct request *request_new(struct session *session, const void *message, size_t size)
{
	size_t room = size > ROOM_MIN ? size : ROOM_MIN;
	struct request_state *state = malloc(sizeof(*state) + room);
	if (!state)
		return NULL;
	state->room = room;
	memcpy(state->message, message, size);
	state->request = (struct request){
		.session = session,
		.message = (const struct hbm_wire_header *)(const void *)state->message,
		.private = state,
	};
	list_init(&state->request.link);
	session_request_begins(session);
	return &state->request;
}

static void end(struct request *request)
{
	struct session *session = request->session;
	free(state_of(request));
	session_request_ends(session);
}

static void request_release_own(struct out_message *message)
{
	end(&container_of(message, struct request_state, out)->request);
}

static void request_release_last(struct out_message *message)
{
	end(message->owner);
	free(message);
}

static struct hbm_wire_header make_header(const struct request *request, unsigned flags, int status, size_t body)
{
	return (struct hbm_wire_header){
		.size = (uint32_t)(sizeof(struct hbm_wire_header) + body),
		.opcode = request->message->opcode,
		.flags = (uint16_t)(HBM_WIRE_REPLY | flags),
		.id = request->message->id,
		.status = status,
	};
}

/* Puts a reply without fds into the room that held the request. */
static struct out_message *use_room(struct request *request, const struct hbm_wire_header *header, const void *body)
{
	struct request_state *state = state_of(request);
	size_t body_size = header->size - sizeof(*header);
	/* The body may lie in the request. */
	if (body_size > 0)
		memmove(state->message + sizeof(*header), body, body_size);
	memcpy(state->message, header, sizeof(*header));
	state->out = (struct out_message){.bytes = state->message, .size = header->size, .release = request_release_own};
	return &state->out;
}

static bool dup_fds(struct out_message *message, const int *fds)
{
	for (size_t i = 0; i < message->fd_count; i++) {
		message->fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 0);
		if (message->fds[i] < 0)
			return false;
	}
	return true;
}

static struct out_message *make_message(const struct hbm_wire_header *header, const void *body, const int *fds,
				  size_t fd_count)
{
	struct out_message *message = out_message_new(header->size, fd_count);
	if (!message)
		return NULL;
	if (!dup_fds(message, fds))
		return out_message_release(message);
	memcpy(message->bytes, header, sizeof(*header));
	if (header->size > sizeof(*header))
		memcpy(message->bytes + sizeof(*header), body, header->size - sizeof(*header));
	return message;
}

static int send_now(struct request *request, const struct hbm_wire_header *header, const void *body, const int *fds,
		    size_t fd_count)
{
	struct iovec iov[2] = {
		{(void *)(uintptr_t)header, sizeof(*header)},
		{(void *)(uintptr_t)body, header->size - sizeof(*header)},
	};
	return session_send(request->session, iov, iov[1].iov_len > 0 ? 2 : 1, fds, fd_count);
}

/* The last part did not fit the socket now. */
static void queue_last(struct request *request, const struct hbm_wire_header *header, const void *body, const int *fds,
		       size_t fd_count)
{
	struct out_message *message;
	if (fd_count == 0 && header->size <= state_of(request)->room) {
		message = use_room(request, header, body);
	} else {
		message = make_message(header, body, fds, fd_count);
		if (!message) {
			session_break(request->session, "no memory or descriptors for a reply");
			end(request);
			return;
		}
		message->owner = request;
		message->release = request_release_last;
	}
	session_queue(request->session, message);
}

void request_reply_fds(struct request *request, int status, const void *body, size_t size, const int *fds,
		       size_t fd_count)
{
	assert(size <= HBM_WIRE_MESSAGE_MAX - sizeof(struct hbm_wire_header));
	assert(status == HBM_OK || (!body && size == 0));
	struct session *session = request->session;
	if (status != HBM_OK)
		session_refuses(session);
	if (session_is_mute(session)) {
		end(request);
		return;
	}
	struct hbm_wire_header header = make_header(request, 0, status, size);
	int r = send_now(request, &header, body, fds, fd_count);
	if (r == -EMSGSIZE && size > 0) {
		/* The system's socket buffers are smaller than our largest message. */
		header = make_header(request, 0, HBM_LIMIT, 0);
		fd_count = 0;
		r = send_now(request, &header, NULL, NULL, 0);
	}
	if (r == -EAGAIN) {
		queue_last(request, &header, body, fds, fd_count);
		return;
	}
	if (r < 0)
		session_break(session, session_failure(r));
	end(request);
}

void request_reply(struct request *request, int status, const void *body, size_t size)
{
	request_reply_fds(request, status, body, size, NULL, 0);
}

void request_reply_messages(struct request *request, struct list *messages)
{
	struct session *session = request->session;
	bool last;
	do {
		struct out_message *message = container_of(list_pop_front(messages), struct out_message, link);
		last = list_empty(messages);
		struct hbm_wire_header header = make_header(request, last ? 0 : HBM_WIRE_MORE, HBM_OK,
							    message->size - sizeof(struct hbm_wire_header));
		memcpy(message->bytes, &header, sizeof(header));
		if (last) {
			message->owner = request;
			message->release = request_release_last;
		}
		/* The last one may end the request, and a dead session with it. */
		session_queue(session, message);
	} while (!last);
}
