/* SPDX-License-Identifier: Apache-2.0 */
/* connection: see connection.h. A Unix SOCK_SEQPACKET socket, watched by the loop. */
#include "daemon/session/connection.h"
#include "daemon/base/clock.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <hbm/wire.h>

#include "daemon/base/fdpass.h"
#include "daemon/base/foreign_fd.h"

#define CONNECTION_RETRY_NS 1000000u

bool connection_is_open(const struct connection *connection)
{
	return connection->state == CONNECTION_OPEN;
}

void connection_fail(struct connection *connection, int r)
{
	if (!connection_is_open(connection))
		return;

	connection->state = CONNECTION_FAILED;
	loop_unwatch(connection->loop, &connection->watch);
	loop_timer_stop(connection->loop, &connection->retry);
	connection->ops->failed(connection, r);
}

/* Polls for reading while allowed, for writing while the queue is not empty. */
static void connection_update_watch(struct connection *connection)
{
	uint32_t events = 0;

	if (connection->receiving)
		events |= POLLIN;
	if (!outbox_is_empty(&connection->outbox) && !timer_is_set(&connection->retry))
		events |= POLLOUT;

	int r = loop_rewatch(connection->loop, &connection->watch, events);
	if (r < 0)
		connection_fail(connection, r);
}

/* ---- Sending ---- */

/*
 * ETOOMANYREFS: this connection, its user, or all, have the maximum number of unread fds,
 * by our limits or the kernel's; ENOBUFS and ENOMEM: the kernel is short of memory. They
 * are transient: clients read, memory is reclaimed; but no poll event tells when.
 */
static bool connection_is_transient(int r)
{
	return r == -ETOOMANYREFS || r == -ENOBUFS || r == -ENOMEM;
}

/* r: why. Passes it on once it has lasted too long. */
static int connection_wait_for_room(struct connection *connection, int r)
{
	uint64_t now = clock_now();
	if (connection->retry_until_ns == 0)
		connection->retry_until_ns = now + connection->retry_for_ns;
	if (now >= connection->retry_until_ns)
		return r;

	loop_timer_set(connection->loop, &connection->retry, now + CONNECTION_RETRY_NS);

	return 0;
}

static void connection_flush(struct connection *connection)
{
	int r = outbox_flush(&connection->outbox, connection->watch.fd, &connection->unread);
	if (connection_is_transient(r))
		r = connection_wait_for_room(connection, r);
	else
		connection->retry_until_ns = 0;

	if (r < 0 && r != -EAGAIN)
		connection_fail(connection, r);
	/* A released message may have caused a failure or a close. */
	else if (connection_is_open(connection))
		connection_update_watch(connection);
}

static void connection_retry_fire(struct timer *timer)
{
	struct connection *connection = container_of(timer, struct connection, retry);

	connection->ops->ref(connection);
	connection_flush(connection);
	connection->ops->unref(connection);
}

int connection_send(struct connection *connection, const struct iovec *iov, size_t iov_count,
		    const int *fds, size_t fd_count)
{
	if (!outbox_is_empty(&connection->outbox))
		return -EAGAIN;
	if (!unread_has_room(&connection->unread, fd_count))
		return -EAGAIN;

	int r = fdpass_send(connection->watch.fd, iov, iov_count, fds, fd_count);
	if (connection_is_transient(r))
		return -EAGAIN;
	if (r == 0)
		unread_sent(&connection->unread, fd_count);
	if (r < 0 && r != -EAGAIN && r != -EMSGSIZE)
		connection_fail(connection, r);

	return r;
}

void connection_queue(struct connection *connection, struct out_message *message)
{
	if (!connection_is_open(connection)) {
		out_message_release(message);
		return;
	}

	connection->ops->ref(connection);
	outbox_push(&connection->outbox, message);
	connection_flush(connection);
	connection->ops->unref(connection);
}

/* ---- Receiving ---- */

void connection_allow(struct connection *connection, bool receiving)
{
	if (!connection_is_open(connection) || connection->receiving == receiving)
		return;
	connection->receiving = receiving;
	connection_update_watch(connection);
}

/* Of the descriptors that came with a message one may stay, in *fd. */
static ssize_t connection_take_fd(const struct fdpass_fds *fds, ssize_t size, int *fd)
{
	*fd = size >= 0 && fds->lost ? -EMFILE : -1;
	if (fds->count == 0)
		return size;

	if (size >= 0 && !fds->lost && fds->count == 1 && foreign_fd_may_stay(fds->list[0])) {
		*fd = fds->list[0];
		return size;
	}

	foreign_fds_close(fds->list, fds->count);

	return size < 0 || fds->lost ? size : -EPROTO;
}

ssize_t connection_receive(struct connection *connection, void *bytes, size_t room, int *fd)
{
	struct fdpass_fds fds;
	ssize_t size = fdpass_receive_foreign(connection->watch.fd, bytes, room, &fds);

	size = connection_take_fd(&fds, size, fd);

	/* Who says something has most likely read what it was sent before. */
	if (size > 0)
		(void)unread_is_read(&connection->unread);

	return size;
}

static void connection_ready(struct watch *watch, uint32_t events)
{
	struct connection *connection = container_of(watch, struct connection, watch);

	connection->ops->ref(connection);

	if (events & (POLLHUP | POLLERR)) {
		connection_fail(connection, -ECONNRESET);
	} else {
		if (events & POLLOUT)
			connection_flush(connection);
		if (events & POLLIN && connection_is_open(connection) && connection->receiving)
			connection->ops->readable(connection);
	}

	connection->ops->unref(connection);
}

/* ---- Opening and closing ---- */

/* Closes the socket of a closed connection. */
static void connection_let_go(struct connection *connection)
{
	connection->lingers = false;
	unread_close(&connection->unread);
	foreign_fd_close_socket(connection->watch.fd);
	connection->watch.fd = -1;
}

static void connection_read(struct unread *unread)
{
	struct connection *connection = container_of(unread, struct connection, unread);

	connection->ops->ref(connection);
	if (connection->lingers)
		connection_let_go(connection);
	connection->ops->unref(connection);
}

bool connection_is_lingering(const struct connection *connection)
{
	return connection->lingers;
}

void connection_abandon(struct connection *connection)
{
	connection->abandoned = true;
	if (connection->lingers)
		connection_let_go(connection);
}

int connection_open(struct connection *connection, struct unreads *unreads, struct payer *payer,
		    int socket, uint64_t retry_for_ns, const struct connection_ops *ops)
{
	struct loop *loop = unreads->loop;

	*connection = (struct connection){
		.ops = ops,
		.loop = loop,
		.receiving = true,
		.watch = {.fd = socket, .events = POLLIN, .ready = connection_ready},
		.retry.fire = connection_retry_fire,
		.retry_for_ns = retry_for_ns,
	};
	unread_open(&connection->unread, unreads, payer, socket, connection_read);
	outbox_init(&connection->outbox);

	/* Large enough for the largest message even if the default is small; the system
	 * may refuse more. */
	setsockopt(socket, SOL_SOCKET, SO_SNDBUF, &(int){2 * HBM_WIRE_MESSAGE_MAX}, sizeof(int));

	int r = loop_watch(loop, &connection->watch);
	if (r == 0)
		connection->state = CONNECTION_OPEN;

	return r;
}

bool connection_is_idle(const struct connection *connection)
{
	return connection_is_open(connection) && outbox_is_empty(&connection->outbox);
}

int connection_hand_over(struct connection *connection)
{
	int socket = connection->watch.fd;

	assert(connection_is_idle(connection));
	connection->state = CONNECTION_CLOSED;
	loop_unwatch(connection->loop, &connection->watch);
	loop_timer_stop(connection->loop, &connection->retry);
	unread_close(&connection->unread);
	connection->watch.fd = -1;

	return socket;
}

void connection_close(struct connection *connection)
{
	if (connection->state == CONNECTION_CLOSED)
		return;

	connection->state = CONNECTION_CLOSED;
	loop_unwatch(connection->loop, &connection->watch);
	loop_timer_stop(connection->loop, &connection->retry);

	/* The loop may keep the file open a moment longer; the peer must see the end
	 * now. */
	shutdown(connection->watch.fd, SHUT_RDWR);
	connection->lingers = true;
	if (connection->abandoned || unread_is_read(&connection->unread))
		connection_let_go(connection);
	outbox_clear(&connection->outbox);
}
