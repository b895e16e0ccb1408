/* SPDX-License-Identifier: Apache-2.0 */
/* The socket as whole messages with fds. See channel.h. */
#include "client/channel.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* How long connect() may wait for a listener whose queue is full; -1: for ever. What is sent never waits. */
static int channel_limit(int fd, int timeout_ms)
{
	struct timeval limit = {timeout_ms / 1000, timeout_ms % 1000 * 1000};
	return timeout_ms < 0 ? 0 : setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
}

/* A Unix socket that a signal took out of the listener's queue is as it was before. */
static int channel_connect(int fd, const struct sockaddr_un *address)
{
	int rc;
	do
		rc = connect(fd, (const struct sockaddr *)address, sizeof(*address));
	while (rc < 0 && errno == EINTR);
	return rc;
}

int hbm_channel_open(struct channel *channel, const char *path, int timeout_ms)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	memcpy(address.sun_path, path, strlen(path));

	void *buffer = malloc(HBM_WIRE_MESSAGE_MAX);
	if (!buffer)
		return -ENOMEM;
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0 || channel_limit(fd, timeout_ms) < 0 || channel_connect(fd, &address) < 0) {
		int error = errno == EAGAIN ? -ETIMEDOUT : -errno;
		free(buffer);
		if (fd >= 0)
			close(fd);
		return error;
	}
	*channel = (struct channel){fd, buffer};
	return 0;
}

void hbm_channel_close(struct channel *channel)
{
	if (channel->buffer)
		close(channel->fd);
	free(channel->buffer);
	*channel = (struct channel){.fd = -1};
}

int hbm_channel_send(const struct channel *channel, struct iovec *pieces, size_t count)
{
	struct msghdr packet = {.msg_iov = pieces, .msg_iovlen = count};
	for (;;) {
		if (sendmsg(channel->fd, &packet, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
			return 0;
		if (errno == EPIPE || errno == ECONNRESET)
			return -ENOTCONN;
		if (errno != EINTR)
			return -errno;
	}
}

static void message_take_fds(struct message *message, struct msghdr *packet)
{
	message->fd_count = 0;
	for (struct cmsghdr *part = CMSG_FIRSTHDR(packet); part; part = CMSG_NXTHDR(packet, part)) {
		if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
			continue;
		size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		assert(message->fd_count + count <= MESSAGE_FDS);
		memcpy(message->fds + message->fd_count, CMSG_DATA(part), count * sizeof(int));
		message->fd_count += count;
	}
}

static int channel_receive_packet(const struct channel *channel, bool block, struct msghdr *packet, size_t *size)
{
	bool reset = false;
	for (;;) {
		ssize_t n = recvmsg(channel->fd, packet, MSG_CMSG_CLOEXEC | (block ? 0 : MSG_DONTWAIT));
		if (n >= 0) {
			*size = (size_t)n;
			return 0;
		}
		/* A peer that died with our requests unread says so once, before what it had answered. */
		if (errno == ECONNRESET && !reset)
			reset = true;
		else if (errno != EINTR)
			return errno == ECONNRESET ? -ENOTCONN : -errno;
	}
}

static int message_check(const struct message *message, int flags)
{
	/* The end of the stream, or an empty message, which looks the same but may have brought fds. */
	if (message->size == 0)
		return -ENOTCONN;
	/* Truncated control data: some fds did not fit into our table. Those that did are in it. */
	if (flags & MSG_CTRUNC)
		return -EMFILE;
	if (flags & MSG_TRUNC || message->size < sizeof(*message->header) || message->header->size != message->size)
		return -EPROTO;
	return 0;
}

int hbm_channel_receive(const struct channel *channel, bool block, struct message *message)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(HBM_WIRE_FDS_MAX * sizeof(int))];
	} control;
	struct iovec piece = {channel->buffer, HBM_WIRE_MESSAGE_MAX};
	struct msghdr packet = {
		.msg_iov = &piece,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	int rc = channel_receive_packet(channel, block, &packet, &message->size);
	if (rc)
		return rc;
	message->header = channel->buffer;
	message_take_fds(message, &packet);
	rc = message_check(message, packet.msg_flags);
	if (rc)
		hbm_message_clear(message);
	return rc;
}

int hbm_channel_wait(const struct channel *channel, bool write, int timeout_ms)
{
	struct pollfd poll_fd = {channel->fd, (short)(POLLIN | (write ? POLLOUT : 0)), 0};
	int n = poll(&poll_fd, 1, timeout_ms);
	if (n == 0)
		return -ETIMEDOUT;
	return n < 0 && errno != EINTR ? -errno : 0;
}

int hbm_message_steal(struct message *message, size_t nth)
{
	assert(nth < message->fd_count);
	int fd = message->fds[nth];
	message->fds[nth] = -1;
	return fd;
}

void hbm_message_clear(struct message *message)
{
	for (size_t i = 0; i < message->fd_count; i++)
		if (message->fds[i] >= 0)
			close(message->fds[i]);
	message->fd_count = 0;
}
