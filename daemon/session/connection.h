/* SPDX-License-Identifier: Apache-2.0 */
/*
 * connection: the transport under a session: whole messages in both directions, in order,
 * with descriptors beside those that are sent. It knows no opcode, no request and no
 * session.
 *
 * Sending never blocks. The caller queues what the transport does not accept now, in the
 * caller's own memory, and the queue is sent when there is room: a client that does not
 * read delays only its own replies. Descriptors that lie unread in a socket keep their
 * memory, and the kernel counts them against one number for all sockets of the daemon: no
 * more than fd_limit are sent before the peer has read all. Receiving is switched on and off
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

/* What a connection calls of its owner. */
struct connection_ops {
	/* Held around every call during which the owner may drop its last reference. */
	void (*ref)(struct connection *connection);
	void (*unref)(struct connection *connection);
	/* A message may be there; called only while receiving is allowed, from the top of
	 * the loop. */
	void (*readable)(struct connection *connection);
	/* The connection has failed: -ECONNRESET, -EPIPE: the peer hung up;
	 * -ETOOMANYREFS: the peer leaves its descriptors unread; -ENOMEM or -ENOBUFS: the
	 * system has been out of memory for long; or another error of a send. May be
	 * called from within a call. */
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
	struct timer retry; /* of a send that was refused for what passes */
	uint64_t retry_for_ns, retry_until_ns;
	uint64_t fd_limit, fd_room; /* fds unread at most; that may be sent now */
};

/* Opens on a connected non-blocking socket, which it consumes on success. Receiving is
 * allowed. A peer that leaves its descriptors unread for retry_for_ns, while more are to be
 * sent than fd_limit, at least HBM_WIRE_FDS_MAX, fails the connection, as does a kernel
 * that is out of memory for so long. Negative errno. */
int connection_open(struct connection *connection, struct loop *loop, int socket,
		    uint64_t retry_for_ns, uint64_t fd_limit, const struct connection_ops *ops);
/* Releases what is queued. No-op when closed. */
void connection_close(struct connection *connection);
/* Fails it unless it has failed already; failed() is called. */
void connection_fail(struct connection *connection, int r);
bool connection_is_open(const struct connection *connection);

/* Switches receiving on or off: while off, messages wait in the socket, and then at the
 * peer. */
void connection_allow(struct connection *connection, bool receiving);
/* The size of the message that was received; 0: the peer hung up; -EAGAIN: none is there;
 * -EMSGSIZE: longer than `room`; -EPROTO: descriptors came with it; other negative errno. */
ssize_t connection_receive(struct connection *connection, void *bytes, size_t room);
/* Sends one message. The fds are borrowed. On error nothing was sent: -EAGAIN: not now,
 * queue it; -EMSGSIZE: larger than the transport accepts; other negative errno: the
 * connection has failed. */
int connection_send(struct connection *connection, const struct iovec *iov, size_t iov_count,
		    const int *fds, size_t fd_count);
/* Queues a message behind those queued before, and releases it when sent; releases it at
 * once if the connection is not open. */
void connection_queue(struct connection *connection, struct out_message *message);
