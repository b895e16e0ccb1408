/* SPDX-License-Identifier: Apache-2.0 */
/*
 * channel: the socket, seen as whole messages with file descriptors. It sends without blocking, receives one message
 * at a time into a buffer of its own, and knows nothing of what the messages mean.
 *
 * An fd that arrives belongs to the message; whoever wants it steals it, hbm_message_clear() closes the rest. A message
 * whose fds did not all fit into this process ends the channel, after those that fitted were closed.
 */
#pragma once

#include <hbm/wire.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/uio.h>

#define MESSAGE_FDS (HBM_WIRE_FDS_MAX + 1) /* CMSG_SPACE rounds up: room for 253 is room for 254 */

struct message {
	const struct hbm_wire_header *header; /* in the channel's buffer, until the next receive */
	size_t size;
	int fds[MESSAGE_FDS]; /* -1: stolen */
	size_t fd_count;
};

struct channel {
	int fd;
	void *buffer; /* HBM_WIRE_MESSAGE_MAX bytes */
};

/* Connects to the socket at path. -ETIMEDOUT: no place in the listener's queue for timeout_ms (-1: for ever); or
 * another negative errno. */
int hbm_channel_open(struct channel *channel, const char *path, int timeout_ms);
void hbm_channel_close(struct channel *channel);

/* One message from `count` pieces. 0; -EAGAIN: no room now; -ENOTCONN: the peer is gone; else negative errno. */
int hbm_channel_send(const struct channel *channel, struct iovec *pieces, size_t count);
/* The next message, waiting for it if `block`. 0; -EAGAIN; -ENOTCONN: the peer is gone; -EMFILE: its fds did not fit;
 * -EPROTO: not a message at all; else negative errno. Only after 0 is there something to clear. */
int hbm_channel_receive(const struct channel *channel, bool block, struct message *message);
/* Waits until the socket can be read, or written if `write`. 0, -ETIMEDOUT (timeout_ms -1: never) or negative errno. */
int hbm_channel_wait(const struct channel *channel, bool write, int timeout_ms);

int hbm_message_steal(struct message *message, size_t nth);
void hbm_message_clear(struct message *message);
