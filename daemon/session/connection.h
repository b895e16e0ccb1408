/* SPDX-License-Identifier: Apache-2.0 */
/*
 * connection: the transport under a session: whole messages in both directions, in order,
 * with descriptors beside those that are sent. It knows no opcode, no request and no
 * session.
 *
 * Sending never blocks. What the transport does not take now is queued by the caller, who
 * keeps the memory for it, and leaves the queue when there is room: a client that does
 * not read holds up its own replies and nothing else. Receiving is switched on and off
 * (connection_allow), so that the owner never has more requests than it wants.
 *
 * 	open --> failed --> closed
 * 	   \----------------^
 *
 * Open: it carries messages. Failed: the peer hung up, sending failed, or the owner gave
 * up; the owner was told once, and closes it. Closed: the socket is gone and the queue
 * empty.
 */
#pragma once

#include "daemon/loop/loop.h"
#include "daemon/session/outbox.h"

#include <stdbool.h>
#include <sys/types.h>
#include <sys/uio.h>

struct connection;

/* What a connection needs of its owner. */
struct connection_ops {
	/* Around everything during which the owner may lose its last use of the
	 * connection. */
	void (*ref)(struct connection *connection);
	void (*unref)(struct connection *connection);
	/* A message may be there; only while receiving is allowed. From the top of the
	 * loop. */
	void (*readable)(struct connection *connection);
	/* It has failed: -ECONNRESET, -EPIPE: the peer hung up; -ETOOMANYREFS: the peer
	 * does not take its descriptors; -ENOMEM; or what sending said. Maybe from within
	 * a call. */
	void (*failed)(struct connection *connection, int r);
};

enum connection_state { CONNECTION_CLOSED, CONNECTION_OPEN, CONNECTION_FAILED };

/* Embedded in its owner; the members are connection.c's. */
struct connection {
	const struct connection_ops *ops;
	struct loop *loop;
	enum connection_state state;
	bool receiving;
	struct watch watch; /* of the socket */
	struct outbox outbox;
	struct timer retry; /* sends again what the kernel refused for want of room for fds */
	uint64_t retry_for_ns, retry_until_ns;
};

/* Opens on a connected non-blocking socket, which it consumes if it succeeds, with
 * receiving allowed. A peer that leaves its descriptors unread for retry_for_ns is a
 * failure. Negative errno. */
int connection_open(struct connection *connection, struct loop *loop, int socket,
		    uint64_t retry_for_ns, const struct connection_ops *ops);
/* Releases what is queued. No-op when closed. */
void connection_close(struct connection *connection);
/* Fails it unless it has failed already; failed() is called. */
void connection_fail(struct connection *connection, int r);
bool connection_is_open(const struct connection *connection);

/* Whether messages are received: otherwise they wait in the socket, and then at the peer. */
void connection_allow(struct connection *connection, bool receiving);
/* The size of the message that was received; 0: the peer hung up; -EAGAIN: none is there;
 * -EMSGSIZE: longer than `room`; -EPROTO: descriptors came with it; other negative errno. */
ssize_t connection_receive(struct connection *connection, void *bytes, size_t room);
/* Sends one message. The fds are borrowed. -EAGAIN: not now, queue it; -EMSGSIZE: longer
 * than the transport takes; other negative errno: the connection has failed. Nothing was
 * sent then. */
int connection_send(struct connection *connection, const struct iovec *iov, size_t iov_count,
		    const int *fds, size_t fd_count);
/* Sends it after those that were queued before, and releases it; at once if it is not
 * open. */
void connection_queue(struct connection *connection, struct out_message *message);
