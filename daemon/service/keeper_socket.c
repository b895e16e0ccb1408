/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/service/keeper_socket.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define STRANGERS_MAX 1024 /* datagrams at once; more than any queue is long */

/* One message's control data: the credentials, and the descriptors of which the kernel may
 * deliver one more than there is room for. */
union keeper_control {
	struct cmsghdr header;
	char bytes[CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(sizeof(int) * KEEPER_FDS_MAX)];
};

int keeper_socket_open(int *out, char address[KEEPER_ADDRESS_BYTES])
{
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	socklen_t size = sizeof(name);
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;

	if (setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &(int){1}, sizeof(int)) < 0 ||
	    bind(fd, (struct sockaddr *)&name, sizeof(name.sun_family)) < 0 ||
	    getsockname(fd, (struct sockaddr *)&name, &size) < 0) {
		int r = -errno;
		close(fd);
		return r;
	}

	int length = (int)(size - offsetof(struct sockaddr_un, sun_path)) - 1;
	snprintf(address, KEEPER_ADDRESS_BYTES, "@%.*s", length, name.sun_path + 1);
	*out = fd;

	return 0;
}

/* ---- receiving ---- */

/* The sender, or 0. */
static pid_t keeper_socket_sender(struct msghdr *message)
{
	for (struct cmsghdr *h = CMSG_FIRSTHDR(message); h; h = CMSG_NXTHDR(message, h)) {
		struct ucred sender;
		if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_CREDENTIALS)
			continue;

		memcpy(&sender, CMSG_DATA(h), sizeof(sender));
		return sender.pid;
	}

	return 0;
}

/* Who sent the first datagram, which stays: 0: it says not; -1: there is none. */
static pid_t keeper_socket_peek(int socket)
{
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(sizeof(struct ucred))]; /* no room for a descriptor */
	} control;
	char byte;
	struct iovec iov = {&byte, 1};
	struct msghdr message = {.msg_iov = &iov,
				 .msg_iovlen = 1,
				 .msg_control = &control,
				 .msg_controllen = sizeof(control)};

	if (recvmsg(socket, &message, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC) < 0)
		return -1;

	return keeper_socket_sender(&message);
}

static void keeper_socket_take_fds(struct keeper_datagram *out, const struct cmsghdr *header)
{
	size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);

	for (size_t i = 0; i < count; i++) {
		int fd;
		memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof(int));
		if (out->count < KEEPER_FDS_MAX)
			out->fds[out->count++] = fd;
		else
			close(fd);
	}
}

static void keeper_socket_take(int socket, struct keeper_datagram *out)
{
	char text[KEEPER_TEXT_MAX + 1]; /* so that what is longer is seen to be */
	union keeper_control control;
	struct iovec iov = {text, sizeof(text)};
	struct msghdr message = {.msg_iov = &iov,
				 .msg_iovlen = 1,
				 .msg_control = &control,
				 .msg_controllen = sizeof(control)};

	out->message = (struct keeper_message){0};
	out->count = 0;
	ssize_t n = recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (n < 0)
		return;

	for (struct cmsghdr *h = CMSG_FIRSTHDR(&message); h; h = CMSG_NXTHDR(&message, h))
		if (h->cmsg_level == SOL_SOCKET && h->cmsg_type == SCM_RIGHTS)
			keeper_socket_take_fds(out, h);

	bool whole = !(message.msg_flags & MSG_CTRUNC) &&
		     keeper_message_parse(&out->message, text, (size_t)n);
	if (whole)
		return;

	keeper_datagram_close(out);
	out->message = (struct keeper_message){0};
	out->count = 0;
}

bool keeper_socket_receive(int socket, pid_t pid, struct keeper_datagram *out)
{
	for (int i = 0; i < STRANGERS_MAX; i++) {
		pid_t sender = keeper_socket_peek(socket);
		if (sender < 0)
			return false;
		if (sender == pid && pid > 0) {
			keeper_socket_take(socket, out);
			return true;
		}

		char byte;
		recv(socket, &byte, sizeof(byte), MSG_DONTWAIT); /* descriptors and all */
	}

	return false;
}

void keeper_datagram_close(const struct keeper_datagram *datagram)
{
	for (size_t i = 0; i < datagram->count; i++)
		close(datagram->fds[i]);
}
