/* SPDX-License-Identifier: Apache-2.0 */
/*
 * outbox: the messages that wait until a session's socket takes them, in order. It owns
 * what it holds: bytes, fds, and through release() whatever else a message keeps alive.
 */
#pragma once

#include "daemon/base/list.h"

#include <stdbool.h>
#include <stddef.h>

/* One message. Made by out_message_new(), or embedded in something larger by whoever sets
 * release(). */
struct out_message {
	struct list link;
	unsigned char *bytes;
	size_t size;
	int *fds; /* closed when the message is over; fds that are -1 are skipped then */
	size_t fd_count;
	void *owner;                                  /* release()'s */
	void (*release)(struct out_message *message); /* it was sent, or never will be: frees it */
};

/* A message with room for so many bytes and fds (all -1): NULL without memory. */
struct out_message *out_message_new(size_t size, size_t fd_count);
/* Closes its fds and calls release(). Takes NULL, returns NULL. */
struct out_message *out_message_release(struct out_message *message);

struct outbox {
	struct list messages;
};

void outbox_init(struct outbox *outbox);
bool outbox_is_empty(const struct outbox *outbox);
void outbox_push(struct outbox *outbox, struct out_message *message); /* consumes it */
/* Sends what the socket takes: 0 when nothing is left, -EAGAIN when the socket is full,
 * other negative errno when the connection is of no more use. */
int outbox_flush(struct outbox *outbox, int socket);
void outbox_clear(struct outbox *outbox); /* ends all */
