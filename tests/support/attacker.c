/* SPDX-License-Identifier: Apache-2.0 */
/* attacker: see attacker.h. */
#include "tests/support/attacker.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/raw.h"

#include <errno.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define PATIENCE_MS 20000
#define NOBODY 65534

static int attacker_connect(const struct spawn *spawn)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", spawn->socket);
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &(int){1 << 20}, sizeof(int));
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		return fd;

	int error = errno;
	close(fd);

	return -error;
}

/* Takes the descriptors of a message: the first `wanted` of them, and closes the others
 * unless they are to be kept open. How many it has got. */
static int attacker_take_fds(struct msghdr *message, bool keep, int *fds, int wanted)
{
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(message);
	int count = cmsg ? (int)((cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int)) : 0;

	for (int i = 0; i < count; i++) {
		int fd;
		memcpy(&fd, CMSG_DATA(cmsg) + (size_t)i * sizeof(int), sizeof(int));
		if (i < wanted)
			fds[i] = fd;
		else if (!keep)
			close(fd);
	}

	return count < wanted ? count : wanted;
}

static ssize_t attacker_receive(int socket, void *bytes, size_t size, bool keep, int *fds,
				int *wanted)
{
	union {
		char bytes[CMSG_SPACE(HBM_WIRE_FDS_MAX * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = {bytes, size};
	struct msghdr message = {.msg_iov = &iov,
				 .msg_iovlen = 1,
				 .msg_control = &control,
				 .msg_controllen = sizeof(control)};
	ssize_t n = recvmsg(socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	if (n >= 0)
		*wanted = attacker_take_fds(&message, keep, fds, *wanted);

	return n;
}

/* Of the reply to HELLO: the fence page and the doorbell. */
static void attacker_take_page(struct attacker *attacker, const int *fds)
{
	void *page = mmap(NULL, HBM_WIRE_FENCES * sizeof(uint64_t), PROT_READ | PROT_WRITE,
			  MAP_SHARED, fds[0], 0);

	close(fds[0]);
	attacker->doorbell = fds[1];
	attacker->fences = page == MAP_FAILED ? NULL : page;
}

static int attacker_greet(struct attacker *attacker)
{
	struct pollfd poller = {.fd = attacker->socket, .events = POLLIN};
	struct hbm_wire_hello hello;
	struct hbm_wire_hello_reply reply;

	raw_hello_fill(&hello);
	if (!raw_send(attacker->socket, &hello, sizeof(hello), 0))
		return RAW_DROPPED;

	if (poll(&poller, 1, PATIENCE_MS) != 1)
		return -ETIMEDOUT;

	int fds[2] = {-1, -1}, count = 2;
	ssize_t n = attacker_receive(attacker->socket, &reply, sizeof(reply), false, fds, &count);
	if (n > 0 && count == 2)
		attacker_take_page(attacker, fds);

	return n < (ssize_t)sizeof(reply.header) ? RAW_DROPPED : reply.header.status;
}

int attacker_open(struct attacker *attacker, const struct spawn *spawn, bool is_bare)
{
	*attacker = (struct attacker){.number = attacker->number, .doorbell = -1};
	int fd = attacker_connect(spawn);
	if (fd < 0) {
		attacker->socket = -1;
		return fd;
	}

	attacker->socket = fd;
	int status = is_bare ? 0 : attacker_greet(attacker);
	if (status != 0)
		attacker_close(attacker);

	return status;
}

void attacker_close(struct attacker *attacker)
{
	if (attacker->socket >= 0)
		close(attacker->socket);
	if (attacker->doorbell >= 0)
		close(attacker->doorbell);
	if (attacker->fences)
		munmap((void *)attacker->fences, HBM_WIRE_FENCES * sizeof(uint64_t));
	attacker->socket = attacker->doorbell = -1;
	attacker->fences = NULL;
}

bool attacker_send(struct attacker *attacker, struct hbm_wire_header *message)
{
	message->id = attacker->turn + 2; /* HELLO had 1 */
	ssize_t n = send(attacker->socket, message, message->size, MSG_NOSIGNAL | MSG_DONTWAIT);
	attacker->is_blocked = n < 0 && errno == EAGAIN;
	if (n < 0)
		return false;

	attacker->turn++;
	attacker->in_flight++;

	return true;
}

int attacker_take(struct attacker *attacker, void *reply, bool keep)
{
	int none = 0;
	ssize_t n =
		attacker_receive(attacker->socket, reply, ATTACKER_REPLY_BYTES, keep, NULL, &none);
	if (n < 0 && errno == EAGAIN)
		return 0;
	if (n < (ssize_t)sizeof(struct hbm_wire_header))
		return -1;

	struct hbm_wire_header header;
	memcpy(&header, reply, sizeof(header));
	if (!(header.flags & HBM_WIRE_MORE) && attacker->in_flight > 0)
		attacker->in_flight--;

	return (int)n;
}

/* Only a process that is somebody else altogether is no operator. */
bool attacker_become_nobody(void)
{
	pid_t test = getppid();
	if (geteuid() != 0)
		return false;

	assert_int_equal(setgroups(0, NULL), 0);
	assert_int_equal(setresgid(NOBODY, NOBODY, NOBODY), 0);
	assert_int_equal(setresuid(NOBODY, NOBODY, NOBODY), 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL); /* that was cleared with it */
	if (getppid() != test)
		_exit(126);

	return true;
}
