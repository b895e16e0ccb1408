/* SPDX-License-Identifier: Apache-2.0 */
/*
 * outbox: the messages that a session's socket does not accept yet, in order. It owns
 * their bytes, their fds, and through release() whatever else they keep alive.
 */
#pragma once

#include "daemon/base/list.h"
#include "daemon/session/unread.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A message. Made by out_message_new(), or embedded in a larger struct that sets
 * release(). */
struct out_message {
	struct list link;
	unsigned char *bytes;
	size_t size;
	int *fds; /* closed with the message; -1 is skipped */
	size_t fd_count;
	void *owner;                                  /* release()'s */
	void (*release)(struct out_message *message); /* after it was sent or discarded: frees it */
};

/* Makes a message with space for so many bytes and fds (all -1): NULL if out of
 * memory. */
struct out_message *out_message_new(size_t size, size_t fd_count);
/* Closes its fds and calls release(). Accepts NULL, returns NULL. */
struct out_message *out_message_release(struct out_message *message);

struct outbox {
	struct list messages;
};

void outbox_init(struct outbox *outbox);
bool outbox_is_empty(const struct outbox *outbox);
void outbox_push(struct outbox *outbox, struct out_message *message); /* consumes it */
/* Sends what the socket accepts, and no more descriptors than may be unread: 0 when the
 * queue is empty, -EAGAIN when the socket is full, -ETOOMANYREFS when the next message has
 * too many descriptors, other negative errno when the connection is unusable. */
int outbox_flush(struct outbox *outbox, int socket, struct unread *unread);
void outbox_clear(struct outbox *outbox); /* releases all messages */
