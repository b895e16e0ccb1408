/* SPDX-License-Identifier: Apache-2.0 */
/*
 * connection: the transport under a session: whole messages in both directions, in order,
 * with descriptors beside those that are sent. It knows no opcode, no request and no
 * session.
 *
 * Sending never blocks. The caller queues what the transport does not accept now, in the
 * caller's own memory, and the queue is sent when there is room: a client that does not
 * read delays only its own replies. Descriptors that lie unread are charged (unread.h), and
 * none is sent beyond the limits. Receiving is switched on and off (connection_allow), so
 * that the owner never has more requests than it wants.
 *
 * 	open --> failed --> closed
 * 	   \----------------^
 *
 * Open: it carries messages. Failed: the peer hung up, sending failed, or the owner gave
 * up; the owner was told once, and closes it. Closed: nothing is sent or received, and the
 * queue is empty. The socket is gone, but for one thing: what the peer has not read stays in
 * the kernel after our end, so a closed connection lingers, its socket shut down but open,
 * until the peer has read its descriptors or closed its end. Else a peer that breaks one
 * connection after the other would leave any number of them unread.
 */
#pragma once

#include "daemon/loop/loop.h"
#include "daemon/session/outbox.h"
#include "daemon/session/unread.h"

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
	 * -ETOOMANYREFS: it, or its user's others, leave descriptors unread; -ENOMEM or -ENOBUFS: the
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
	struct unread unread;
	bool lingers;   /* closed, and the socket still open */
	bool abandoned; /* does not linger */
};

/* Opens on a connected non-blocking socket, which it consumes on success. Receiving is
 * allowed. The payer is charged for descriptors that are unread. If there is no room for
 * more of them for retry_for_ns, the connection fails, as it does if the kernel is out of
 * memory for so long. Negative errno. */
int connection_open(struct connection *connection, struct unreads *unreads, struct payer *payer,
		    int socket, uint64_t retry_for_ns, const struct connection_ops *ops);
/* Releases what is queued. The connection may linger. No-op when closed. */
void connection_close(struct connection *connection);
/* Whether it is closed, and its descriptors are still unread. Between a ref() and an unref()
 * it ends. */
bool connection_is_lingering(const struct connection *connection);
/* Whether it is open and all that was sent is in the socket. */
bool connection_is_idle(const struct connection *connection);
/* Closes such a one and hands over its socket, which stays as it is. */
int connection_hand_over(struct connection *connection);
/* Does not linger, now and when it is closed. */
void connection_abandon(struct connection *connection);
/* Fails it unless it has failed already; failed() is called. */
void connection_fail(struct connection *connection, int r);
bool connection_is_open(const struct connection *connection);

/* Switches receiving on or off: while off, messages wait in the socket, and then at the
 * peer. */
void connection_allow(struct connection *connection, bool receiving);
/* The size of the message that was received; 0: the peer hung up; -EAGAIN: none is there;
 * -EMSGSIZE: longer than `room`; -EPROTO: more descriptors came with it than one, or one
 * that may not stay (foreign_fd.h); other negative errno. The descriptor is in *fd, the
 * caller's; -1: none; -EMFILE: this process is out of descriptors. */
ssize_t connection_receive(struct connection *connection, void *bytes, size_t room, int *fd);
/* Sends one message. The fds are borrowed. On error nothing was sent: -EAGAIN: not now,
 * queue it; -EMSGSIZE: larger than the transport accepts; other negative errno: the
 * connection has failed. */
int connection_send(struct connection *connection, const struct iovec *iov, size_t iov_count,
		    const int *fds, size_t fd_count);
/* Queues a message behind those queued before, and releases it when sent; releases it at
 * once if the connection is not open. */
void connection_queue(struct connection *connection, struct out_message *message);
