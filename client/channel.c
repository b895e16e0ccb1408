/* SPDX-License-Identifier: Apache-2.0 */
/* The socket as whole messages with fds. See channel.h. */
#include "client/channel.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define CHANNEL_SEND_MAX 64 /* messages of one system call */

/* Limits how long connect() waits for a listener whose queue is full; -1: no limit.
 * Sending never waits. */
static int channel_limit(int fd, int timeout_ms)
{
	struct timeval limit = {timeout_ms / 1000, timeout_ms % 1000 * 1000};
	return timeout_ms < 0 ? 0 : setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
}

/* After EINTR connect() may simply be retried. */
static int channel_connect(int fd, const struct sockaddr_un *address)
{
	int rc;
	do
		rc = connect(fd, (const struct sockaddr *)address, sizeof(*address));
	while (rc < 0 && errno == EINTR);
	return rc;
}

static bool channel_address(struct sockaddr_un *address, const char *path)
{
	*address = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof(address->sun_path))
		return false;

	memcpy(address->sun_path, path, strlen(path));

	return true;
}

int hbm_channel_reopen(const struct channel *channel, const char *path)
{
	struct sockaddr_un address;
	if (!channel_address(&address, path))
		return -ENAMETOOLONG;

	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;

	/* It blocks where it is told to, as the first one. */
	bool done = channel_connect(fd, &address) == 0 && fcntl(fd, F_SETFL, 0) == 0 &&
		    dup3(fd, channel->fd, O_CLOEXEC) >= 0;
	int error = done ? 0 : -errno;
	close(fd);

	return error;
}

int hbm_channel_open(struct channel *channel, const char *path, int timeout_ms)
{
	struct sockaddr_un address;
	if (!channel_address(&address, path))
		return -ENAMETOOLONG;

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

static int channel_error(int error)
{
	return error == -EPIPE || error == -ECONNRESET ? -ENOTCONN : error;
}

int hbm_channel_send(const struct channel *channel, const struct iovec *pieces, size_t count,
		     int fd)
{
	return channel_error(fdpass_send(channel->fd, pieces, count, &fd, fd >= 0 ? 1 : 0));
}

int hbm_channel_send_all(const struct channel *channel, struct iovec *messages, size_t count)
{
	struct mmsghdr headers[CHANNEL_SEND_MAX] = {0};
	int sent;

	count = count < CHANNEL_SEND_MAX ? count : CHANNEL_SEND_MAX;
	for (size_t i = 0; i < count; i++) {
		headers[i].msg_hdr.msg_iov = &messages[i];
		headers[i].msg_hdr.msg_iovlen = 1;
	}

	do
		sent = sendmmsg(channel->fd, headers, (unsigned)count, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (sent < 0 && errno == EINTR);

	return sent < 0 ? channel_error(-errno) : sent;
}

static int channel_message_check(const struct message *message)
{
	/* End of stream, or an empty message: it looks the same but may carry fds. */
	if (message->size == 0)
		return -ENOTCONN;
	if (message->size < sizeof(*message->header) || message->header->size != message->size)
		return -EPROTO;
	return 0;
}

int hbm_channel_receive(const struct channel *channel, bool wait, struct message *message)
{
	unsigned flags = wait ? FDPASS_WAIT : 0;
	ssize_t n = fdpass_receive(channel->fd, channel->buffer, HBM_WIRE_MESSAGE_MAX,
				   &message->fds, flags);

	/* Reported once if the peer died with our requests unread; its replies come
	 * after. */
	if (n == -ECONNRESET)
		n = fdpass_receive(channel->fd, channel->buffer, HBM_WIRE_MESSAGE_MAX,
				   &message->fds, flags);

	if (n == -EMSGSIZE)
		return -EPROTO;
	if (n < 0)
		return channel_error((int)n);

	message->header = channel->buffer;
	message->size = (size_t)n;
	int rc = channel_message_check(message);
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
	assert(nth < message->fds.count);
	int fd = message->fds.list[nth];
	message->fds.list[nth] = -1;
	return fd;
}

void hbm_message_clear(struct message *message)
{
	fdpass_close(&message->fds);
}
