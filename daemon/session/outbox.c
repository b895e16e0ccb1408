/* SPDX-License-Identifier: Apache-2.0 */
/* outbox: see outbox.h. */
#include "daemon/session/outbox.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "daemon/base/fdpass.h"

static void outbox_free_message(struct out_message *message)
{
	free(message);
}

struct out_message *out_message_new(size_t size, size_t fd_count)
{
	/* One allocation: the message, its fds, its bytes (aligned for a message). */
	size_t at = sizeof(struct out_message) + fd_count * sizeof(int);

	at = (at + 15) & ~(size_t)15;
	struct out_message *message = malloc(at + size);
	if (!message)
		return NULL;

	*message = (struct out_message){
		.bytes = (unsigned char *)message + at,
		.size = size,
		.fds = (int *)(message + 1),
		.fd_count = fd_count,
		.release = outbox_free_message,
	};
	list_init(&message->link);
	for (size_t i = 0; i < fd_count; i++)
		message->fds[i] = -1;

	return message;
}

struct out_message *out_message_release(struct out_message *message)
{
	if (!message)
		return NULL;
	for (size_t i = 0; i < message->fd_count; i++)
		if (message->fds[i] >= 0)
			close(message->fds[i]);

	message->release(message);
	return NULL;
}

void outbox_init(struct outbox *outbox)
{
	list_init(&outbox->messages);
}

bool outbox_is_empty(const struct outbox *outbox)
{
	return list_empty(&outbox->messages);
}

void outbox_push(struct outbox *outbox, struct out_message *message)
{
	list_push_back(&outbox->messages, &message->link);
}

int outbox_flush(struct outbox *outbox, int socket, struct unread *unread)
{
	while (!list_empty(&outbox->messages)) {
		struct out_message *message =
			container_of(outbox->messages.next, struct out_message, link);
		struct iovec iov = {message->bytes, message->size};
		if (!unread_has_room(unread, message->fd_count))
			return -ETOOMANYREFS;

		int r = fdpass_send(socket, &iov, 1, message->fds, message->fd_count);
		if (r < 0)
			return r;

		unread_sent(unread, message->fd_count);
		list_remove(&message->link);
		out_message_release(message);
	}
	return 0;
}

void outbox_clear(struct outbox *outbox)
{
	for (struct list *node; (node = list_pop_front(&outbox->messages));)
		out_message_release(container_of(node, struct out_message, link));
}
