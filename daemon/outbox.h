/* SPDX-License-Identifier: Apache-2.0 */
/*
 * outbox: the messages that wait until a session's socket takes them, in order. It owns what it holds: bytes, fds, and
 * through over() whatever else a message keeps alive.
 */
#pragma once

#include "daemon/list.h"

#include <stddef.h>

/* One message. Made by parcel_new(), or embedded in something larger by whoever sets over(). */
struct parcel {
	struct list link;
	unsigned char *bytes;
	size_t size;
	int *fds; /* closed when the parcel is over; fds that are -1 are skipped then */
	size_t fd_count;
	void *owner;                         /* over()'s */
	void (*over)(struct parcel *parcel); /* it was sent, or never will be: frees it */
};

/* A parcel with room for so many bytes and fds (all -1): NULL without memory. */
struct parcel *parcel_new(size_t size, size_t fd_count);
/* Closes its fds and calls over(). Takes NULL, returns NULL. */
struct parcel *parcel_end(struct parcel *parcel);

struct outbox {
	struct list parcels;
};

void outbox_init(struct outbox *outbox);
void outbox_push(struct outbox *outbox, struct parcel *parcel); /* consumes it */
/* Sends what the socket takes: 0 when nothing is left, -EAGAIN when the socket is full, other negative errno when the
 * connection is of no more use. */
int outbox_flush(struct outbox *outbox, int socket);
void outbox_clear(struct outbox *outbox); /* ends all */
