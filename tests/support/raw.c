/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/raw.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define PATIENCE_MS 20000

int raw_connect(const struct spawn *spawn)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", spawn->socket);
	assert_true(fd >= 0);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &(int){1 << 20}, sizeof(int)), 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);

	return fd;
}

void raw_hello_fill(struct hbm_wire_hello *hello)
{
	*hello = (struct hbm_wire_hello){
		.header = {.size = sizeof(*hello), .opcode = HBM_WIRE_HELLO, .id = 1},
		.magic = HBM_WIRE_MAGIC,
		.version_min = HBM_WIRE_VERSION,
		.version_max = HBM_WIRE_VERSION,
		.name = "raw",
	};
}

int raw_greet(const struct spawn *spawn)
{
	struct hbm_wire_hello hello;
	int socket = raw_connect(spawn);
	raw_hello_fill(&hello);
	assert_int_equal(raw_ask(socket, &hello, sizeof(hello)), HBM_OK);
	return socket;
}

bool raw_send(int socket, const void *message, size_t size, size_t fd_count)
{
	union {
		char bytes[CMSG_SPACE(HBM_WIRE_FDS_MAX * sizeof(int))];
		struct cmsghdr align;
	} control = {{0}};
	struct iovec iov = {(void *)(uintptr_t)message, size};
	struct msghdr header = {.msg_iov = &iov, .msg_iovlen = 1};

	assert_in_range(fd_count, 0, HBM_WIRE_FDS_MAX);

	if (fd_count > 0) {
		header.msg_control = control.bytes;
		header.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
		struct cmsghdr *cmsg = CMSG_FIRSTHDR(&header);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(fd_count * sizeof(int));
		for (size_t i = 0; i < fd_count; i++)
			memcpy(CMSG_DATA(cmsg) + i * sizeof(int), &(int){STDERR_FILENO},
			       sizeof(int));
	}

	return sendmsg(socket, &header, MSG_NOSIGNAL) == (ssize_t)size;
}

static void close_fds(struct msghdr *message)
{
	for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(message); cmsg;
	     cmsg = CMSG_NXTHDR(message, cmsg)) {
		size_t count = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < count; i++) {
			int fd;
			memcpy(&fd, CMSG_DATA(cmsg) + i * sizeof(int), sizeof(int));
			close(fd);
		}
	}
}

bool raw_receive(int socket, struct hbm_wire_header *header)
{
	static char bytes[HBM_WIRE_MESSAGE_MAX];
	union {
		char bytes[CMSG_SPACE(HBM_WIRE_FDS_MAX * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = {bytes, sizeof(bytes)};
	struct msghdr message = {.msg_iov = &iov,
				 .msg_iovlen = 1,
				 .msg_control = &control,
				 .msg_controllen = sizeof(control)};
	struct pollfd poller = {.fd = socket, .events = POLLIN};

	assert_int_equal(poll(&poller, 1, PATIENCE_MS), 1);
	ssize_t n = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
	if (n <= 0)
		return false;

	close_fds(&message);
	assert_true((size_t)n >= sizeof(*header));
	memcpy(header, bytes, sizeof(*header));
	assert_int_equal(header->size, n);
	assert_int_equal(header->flags & HBM_WIRE_REPLY, HBM_WIRE_REPLY);

	return true;
}

int raw_ask(int socket, const void *message, size_t size)
{
	struct hbm_wire_header reply, asked = {0};

	memcpy(&asked, message, size < sizeof(asked) ? size : sizeof(asked));
	if (!raw_send(socket, message, size, 0) || !raw_receive(socket, &reply))
		return RAW_DROPPED;

	assert_int_equal(reply.id, asked.id);
	assert_int_equal(reply.opcode, asked.opcode);

	return reply.status;
}
