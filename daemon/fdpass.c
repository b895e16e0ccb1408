/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fdpass: see fdpass.h. Two traps on the receiving side. After MSG_CTRUNC the descriptors that did fit are in our table
 * and have to be closed. And CMSG_SPACE rounds up, so that room asked for three may deliver four: what counts is the
 * length of each control message, not the room given.
 */
#include "daemon/fdpass.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <hbm/wire.h>

/* Room for one message's control data, aligned as the kernel wants it; one more fd than may come, as it rounds. */
union control {
	struct cmsghdr header;
	char bytes[CMSG_SPACE(sizeof(int) * (HBM_WIRE_FDS_MAX + 1))];
};

int fdpass_send(int socket, const struct iovec *iov, size_t iov_count, const int *fds, size_t fd_count)
{
	assert(fd_count <= HBM_WIRE_FDS_MAX);
	union control control;
	struct msghdr message = {.msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = iov_count};
	if (fd_count > 0) {
		memset(&control.header, 0, sizeof(control.header));
		message.msg_control = &control;
		message.msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
		control.header.cmsg_level = SOL_SOCKET;
		control.header.cmsg_type = SCM_RIGHTS;
		control.header.cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
		memcpy(CMSG_DATA(&control.header), fds, sizeof(int) * fd_count);
	}
	ssize_t n;
	do
		n = sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : 0;
}

/* Takes the fds of one control message: kept while there is room, closed beyond. False if any was closed. */
static bool take_fds(struct cmsghdr *header, int *fds, size_t room, size_t *kept)
{
	size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
	bool all = true;
	for (size_t i = 0; i < count; i++) {
		int fd;
		memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof(int));
		if (*kept < room) {
			fds[(*kept)++] = fd;
		} else {
			close(fd);
			all = false;
		}
	}
	return all;
}

ssize_t fdpass_receive(int socket, void *bytes, size_t room, int *fds, size_t *fd_count)
{
	union control control;
	struct iovec iov = {bytes, room};
	struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
	if (*fd_count > 0) {
		assert(*fd_count <= HBM_WIRE_FDS_MAX);
		message.msg_control = &control;
		message.msg_controllen = CMSG_SPACE(sizeof(int) * *fd_count);
	}
	ssize_t n;
	do
		n = recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;

	size_t kept = 0;
	bool all = !(message.msg_flags & MSG_CTRUNC);
	for (struct cmsghdr *h = CMSG_FIRSTHDR(&message); h; h = CMSG_NXTHDR(&message, h))
		if (h->cmsg_level == SOL_SOCKET && h->cmsg_type == SCM_RIGHTS)
			all = take_fds(h, fds, *fd_count, &kept) && all;
	if (all && !(message.msg_flags & MSG_TRUNC)) {
		*fd_count = kept;
		return n;
	}
	for (size_t i = 0; i < kept; i++)
		close(fds[i]);
	return all ? -EMSGSIZE : -EPROTO;
}
