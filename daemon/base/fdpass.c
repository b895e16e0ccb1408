/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fdpass: see fdpass.h. Two traps on the receiving side. After MSG_CTRUNC the descriptors
 * that did fit are in our table and must be closed. And CMSG_SPACE rounds up, so that a
 * buffer for three may deliver four: only the length of each control message counts.
 */
#include "daemon/base/fdpass.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

/* A buffer for one message's control data, aligned for the kernel; one fd larger than the
 * maximum, because of that rounding. */
union control {
	struct cmsghdr header;
	char bytes[CMSG_SPACE(sizeof(int) * (HBM_WIRE_FDS_MAX + 1))];
};

int fdpass_send(int socket, const struct iovec *iov, size_t iov_count, const int *fds,
		size_t fd_count)
{
	assert(fd_count <= HBM_WIRE_FDS_MAX);
	union control control;
	struct msghdr message = {.msg_iov = (struct iovec *)(uintptr_t)iov,
				 .msg_iovlen = iov_count};
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

/* Takes the fds of one control message. False: more than a message may have; the rest are
 * closed. */
static bool fdpass_take(const struct cmsghdr *header, struct fdpass_fds *fds)
{
	size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
	bool all = true;

	for (size_t i = 0; i < count; i++) {
		int fd;
		memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof(int));

		if (fds->count < HBM_WIRE_FDS_MAX) {
			fds->list[fds->count++] = fd;
		} else {
			close(fd);
			all = false;
		}
	}

	return all;
}

static bool fdpass_take_all(struct msghdr *message, struct fdpass_fds *fds)
{
	bool all = true;

	for (struct cmsghdr *h = CMSG_FIRSTHDR(message); h; h = CMSG_NXTHDR(message, h))
		if (h->cmsg_level == SOL_SOCKET && h->cmsg_type == SCM_RIGHTS)
			all = fdpass_take(h, fds) && all;

	return all;
}

/* Validates the received message: 0, or negative errno. */
static int fdpass_check(const struct msghdr *message, bool all, struct fdpass_fds *fds)
{
	if (!all)
		return -EPROTO;
	if (message->msg_flags & MSG_TRUNC)
		return -EMSGSIZE;
	if (!(message->msg_flags & MSG_CTRUNC))
		return 0;
	if (!fds)
		return -EPROTO;

	/* The buffer fits all that the kernel delivers: it is this process that is out of
	 * descriptors. */
	fdpass_close(fds);
	fds->lost = true;

	return 0;
}

ssize_t fdpass_receive(int socket, void *bytes, size_t room, struct fdpass_fds *fds, unsigned flags)
{
	union control control;
	struct iovec iov = {bytes, room};
	struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
	int how = (flags & FDPASS_WAIT ? 0 : MSG_DONTWAIT) | (flags & FDPASS_PEEK ? MSG_PEEK : 0);
	bool all = true;

	if (fds) {
		fds->count = 0;
		fds->lost = false;
		message.msg_control = &control;
		message.msg_controllen = sizeof(control);
	}

	ssize_t n;
	do
		n = recvmsg(socket, &message, MSG_CMSG_CLOEXEC | how);
	while (n < 0 && errno == EINTR);

	if (n < 0)
		return -errno;

	if (fds)
		all = fdpass_take_all(&message, fds);

	int r = fdpass_check(&message, all, fds);
	if (r < 0 && fds)
		fdpass_close(fds);

	return r < 0 ? r : n;
}

ssize_t fdpass_receive_foreign(int socket, void *bytes, size_t room, struct fdpass_fds *fds)
{
	union control control;
	struct iovec iov = {bytes, room};
	struct msghdr message = {.msg_iov = &iov,
				 .msg_iovlen = 1,
				 .msg_control = &control,
				 .msg_controllen = sizeof(control)};

	fds->count = 0;
	fds->lost = false;

	ssize_t n;
	do
		n = recvmsg(socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);

	if (n < 0)
		return -errno;

	(void)fdpass_take_all(&message, fds); /* all: no message can have more */
	fds->lost = (message.msg_flags & MSG_CTRUNC) != 0;

	return message.msg_flags & MSG_TRUNC ? -EMSGSIZE : n;
}

bool fdpass_exhausted(void)
{
	int fd = eventfd(0, EFD_CLOEXEC);
	if (fd < 0)
		return errno == EMFILE || errno == ENFILE;

	close(fd);
	return false;
}

void fdpass_close(struct fdpass_fds *fds)
{
	for (size_t i = 0; i < fds->count; i++)
		if (fds->list[i] >= 0)
			close(fds->list[i]);
	fds->count = 0;
}
