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

/* Sends, and receives at most `size` bytes: how many came. */
static size_t raw_exchange(int socket, const void *message, void *reply, size_t size)
{
	const struct hbm_wire_header *request = message;
	struct pollfd poller = {.fd = socket, .events = POLLIN};
	struct hbm_wire_header header;

	assert_true(raw_send(socket, message, request->size, 0));
	assert_int_equal(poll(&poller, 1, PATIENCE_MS), 1);
	ssize_t n = recv(socket, reply, size, 0);
	assert_in_range(n, sizeof(header), size);
	memcpy(&header, reply, sizeof(header));
	assert_int_equal(header.size, n);
	assert_int_equal(header.opcode, request->opcode);
	assert_int_equal(header.id, request->id);

	return (size_t)n;
}

void raw_refused(int socket, const void *message, int status, const char *reason)
{
	struct hbm_wire_refusal reply = {.reason = ""};
	size_t n = raw_exchange(socket, message, &reply, sizeof(reply));

	assert_string_equal(reply.reason, reason);
	assert_int_equal(reply.header.status, status);
	assert_int_equal(n, sizeof(reply));
}

void raw_call(int socket, const void *message, void *reply, size_t size)
{
	struct hbm_wire_header header;

	assert_int_equal(raw_exchange(socket, message, reply, size), size);
	memcpy(&header, reply, sizeof(header));
	assert_int_equal(header.status, HBM_OK);
}

uint32_t raw_namespace(int socket, uint64_t block_bytes)
{
	const struct hbm_wire_namespace_open open = {
		.header = RAW_HEADER(NAMESPACE_OPEN, sizeof(open)),
		.spec = {.model = "m", .layout = "l", .block_bytes = block_bytes},
	};
	struct hbm_wire_namespace_reply reply;

	raw_call(socket, &open, &reply, sizeof(reply));
	assert_int_equal(reply.block_bytes, block_bytes);

	return reply.ns;
}

uint32_t raw_region(int socket, uint32_t device, uint64_t address_space, uint64_t slab)
{
	const struct hbm_wire_region_create create = {
		.header = RAW_HEADER(REGION_CREATE, sizeof(create)),
		.device = device,
		.address_space = address_space,
		.slab = slab,
	};
	struct hbm_wire_region_create_reply reply;
	struct raw_ranges commit = {
		.head = {.header = RAW_HEADER(COMMIT, sizeof(commit)), .count = 1},
		.range.bytes = slab,
	};

	raw_call(socket, &create, &reply, sizeof(reply));
	assert_int_equal(reply.address_space, address_space);
	assert_int_equal(reply.slab, slab);
	commit.range.region = reply.region;
	assert_int_equal(raw_ask(socket, &commit, sizeof(commit)), HBM_OK);

	return reply.region;
}

struct raw_blocks raw_store(uint32_t ns, uint8_t key, uint32_t region, uint64_t bytes)
{
	return (struct raw_blocks){
		.head = {.header = RAW_HEADER(STORE, sizeof(struct raw_blocks)),
			 .ns = ns,
			 .count = 1,
			 .segments = 1,
			 .ready_slot = HBM_WIRE_NO_FENCE,
			 .fence_slot = HBM_WIRE_NO_FENCE},
		.block = {.key.bytes[0] = key, .segments = 1},
		.segment = {.region = region, .bytes = bytes},
	};
}
