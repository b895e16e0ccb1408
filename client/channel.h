/* SPDX-License-Identifier: Apache-2.0 */
/*
 * channel: the socket as a stream of messages with file descriptors. It sends without
 * blocking and receives one message at a time into its own buffer. It does not interpret
 * the messages.
 *
 * A message owns the fds received with it. A handler may steal one; hbm_message_clear()
 * closes the others.
 */
#pragma once

#include "daemon/base/fdpass.h"

#include <hbm/wire.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/uio.h>

struct message {
	const struct hbm_wire_header *header; /* in the channel's buffer, until the next receive */
	size_t size;
	struct fdpass_fds fds;
};

struct channel {
	int fd;
	void *buffer; /* HBM_WIRE_MESSAGE_MAX bytes */
};

/* Connects to the socket at path. -ETIMEDOUT: the listener's queue stayed full for
 * timeout_ms (-1: no timeout); or another negative errno. */
int hbm_channel_open(struct channel *channel, const char *path, int timeout_ms);
/* Connects a channel to the socket at path again, under the same descriptor, without waiting:
 * negative errno, -EAGAIN if the listener's queue is full; nothing has changed then. */
int hbm_channel_reopen(const struct channel *channel, const char *path);
void hbm_channel_close(struct channel *channel);

/* Sends one message made of `count` pieces, and with it a borrowed fd, unless that is
 * negative. 0; -EAGAIN: the socket is full; -ENOTCONN: the peer is gone; else negative
 * errno. */
int hbm_channel_send(const struct channel *channel, const struct iovec *pieces, size_t count,
		     int fd);
/* Sends messages of one piece each, in order: how many, at least 1; or negative errno as
 * above. */
int hbm_channel_send_all(const struct channel *channel, struct iovec *messages, size_t count);
/* Receives the next message, waiting for it if `wait`. 0; -EAGAIN; -ENOTCONN: the peer is
 * gone; -EPROTO: not a message; else negative errno. Only after 0 must the caller
 * clear the message. fds.lost: this process could not receive the fds of the message, and
 * they are closed. */
int hbm_channel_receive(const struct channel *channel, bool wait, struct message *message);
/* Waits until the socket is readable or, if `write`, writable. 0; -ETIMEDOUT (timeout_ms
 * -1: no timeout); or another negative errno. */
int hbm_channel_wait(const struct channel *channel, bool write, int timeout_ms);

int hbm_message_steal(struct message *message, size_t nth);
void hbm_message_clear(struct message *message);
