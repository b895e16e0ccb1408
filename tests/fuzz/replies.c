/* SPDX-License-Identifier: Apache-2.0 */
/* replies: see replies.h. What the fake daemon says goes into a socket of our own first. */
#include "tests/fuzz/replies.h"

#include "daemon/base/fdpass.h"
#include "tests/support/fakedaemon.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define SLABS 4
#define PATIENCE_US 20000

static struct fake fake;
static int ends[2]; /* what the fake says, and what we read of it */
static struct fuzz_input input;
static int memory; /* what MEMORY is answered with */

/* One message on its way. */
struct reply {
	_Alignas(64) unsigned char bytes[HBM_WIRE_MESSAGE_MAX];
	size_t size;
	struct fdpass_fds fds;
};

/* ---- Answers that the fake does not have ---- */

static void reply_import(const struct hbm_wire_header *request)
{
	struct hbm_wire_region_create_reply reply = {
		.region = ++fake.regions, .address_space = FAKE_SLAB, .slab = FAKE_SLAB};

	fake_reply_message(&fake, request, &reply, sizeof(reply), NULL, 0);
}

static void reply_attach(const struct hbm_wire_header *request)
{
	struct hbm_wire_attached reply = {
		.region = ++fake.regions, .address_space = 2 * FAKE_SLAB, .slab = FAKE_SLAB};

	fake_reply_message(&fake, request, &reply, sizeof(reply), NULL, 0);
}

/* Each block is a slab. */
static void reply_borrow(const struct hbm_wire_header *request)
{
	const struct hbm_wire_borrow *borrow = (const void *)request;
	struct {
		struct hbm_wire_borrowed head;
		struct hbm_wire_loan loans[2];
		struct hbm_wire_piece pieces[2];
		struct hbm_wire_slab slabs[2];
	} reply = {.head = {.count = 2, .pieces = 2, .slabs = 2}};

	if (borrow->count != 2) {
		fake_reply(&fake, request, HBM_NO_SPACE);
		return;
	}

	for (uint32_t i = 0; i < 2; i++) {
		reply.loans[i] = (struct hbm_wire_loan){.loan = 1 + i, .pieces = 1, .tier = 1};
		reply.pieces[i] = (struct hbm_wire_piece){.slab = i, .bytes = 65536};
		reply.slabs[i] =
			(struct hbm_wire_slab){.slab = 1 + i, .bytes = FAKE_SLAB, .sent = 1};
	}
	fake_reply_message(&fake, request, &reply, sizeof(reply), fake.slabs, 2);
}

static void reply_as_it_should(const struct hbm_wire_header *request)
{
	struct hbm_wire_header header = {0};

	if (request->opcode == HBM_WIRE_REGION_IMPORT)
		reply_import(request);
	else if (request->opcode == HBM_WIRE_ATTACH)
		reply_attach(request);
	else if (request->opcode == HBM_WIRE_BORROW)
		reply_borrow(request);
	else if (request->opcode == HBM_WIRE_MEMORY)
		fake_reply_message(&fake, request, &header, sizeof(header), &memory, 1);
	else
		fake_obey(&fake, request);
}

/* ---- Changes ---- */

static void reply_set(struct reply *reply, size_t bytes)
{
	uint64_t at = fuzz_take(&input, 2) % reply->size, value = fuzz_take(&input, bytes);

	at = at / 4 * 4;
	if (at + bytes <= reply->size)
		memcpy(reply->bytes + at, &value, bytes);
}

static void reply_set_size(struct reply *reply)
{
	struct hbm_wire_header *header = (void *)reply->bytes;
	size_t size = (size_t)fuzz_take(&input, 2), old = reply->size;
	bool honest = size & 1;

	reply->size = size % 2048;
	if (reply->size > old)
		memset(reply->bytes + old, 0, reply->size - old);
	if (honest)
		header->size = (uint32_t)reply->size;
}

static void reply_set_body(struct reply *reply)
{
	struct hbm_wire_header *header = (void *)reply->bytes;
	size_t size = 8 * (size_t)fuzz_take(&input, 1);

	fuzz_take_bytes(&input, header + 1, size);
	reply->size = sizeof(*header) + size;
	header->size = (uint32_t)reply->size;
}

/* Another descriptor instead of the last, or one more. */
static void reply_set_fd(struct reply *reply)
{
	struct fdpass_fds *fds = &reply->fds;
	uint32_t kind = fuzz_below(&input, 6);
	int fd = -1;

	if (kind == 0) {
		fdpass_close(fds);
		fds->count = 0;
		return;
	}

	if (kind == 1)
		fd = fake_page(4096, 0);
	else if (kind == 2)
		fd = fake_page(0, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
	else if (kind == 3)
		fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	else if (kind == 4)
		fd = eventfd(0, EFD_CLOEXEC); /* one that waits */
	else
		fd = fcntl(fake.slabs[0], F_DUPFD_CLOEXEC, 0);
	if (fuzz_take(&input, 1) & 1 && fds->count > 0)
		close(fds->list[--fds->count]);
	if (fds->count < HBM_WIRE_FDS_MAX)
		fds->list[fds->count++] = fd;
	else
		close(fd);
}

static void reply_send(const struct reply *reply)
{
	if (reply->size > 0)
		(void)fake_send(&fake, reply->bytes, reply->size, reply->fds.list,
				reply->fds.count);
}

static void reply_say_unasked(void)
{
	struct {
		struct hbm_wire_header header;
		unsigned char body[64];
	} message = {.header = {.opcode = HBM_WIRE_ASK, .flags = HBM_WIRE_UNASKED}};
	size_t size = sizeof(struct hbm_wire_header) + fuzz_below(&input, 9) * 8;

	message.header.size = (uint32_t)size;
	fuzz_take_bytes(&input, message.body, size - sizeof(struct hbm_wire_header));
	(void)fake_send(&fake, &message, size, NULL, 0);
}

static void reply_change(struct reply *reply)
{
	struct hbm_wire_header *header = (void *)reply->bytes;

	switch (fuzz_below(&input, 32)) {
	case 20:
	case 21:
	case 22:
		reply_set(reply, 4);
		break;
	case 23:
	case 24:
		reply_set(reply, 8);
		break;
	case 25:
		header->status = (int32_t)fuzz_below(&input, 20) - 2;
		break;
	case 26:
		reply_set_size(reply);
		break;
	case 27:
		reply_set_body(reply);
		break;
	case 28:
		reply_set_fd(reply);
		break;
	case 29:
		reply_send(reply);
		break;
	case 30:
		reply_say_unasked();
		break;
	case 31:
		header->flags ^= (uint16_t)fuzz_take(&input, 1);
		break;
	default:
		break;
	}
}

/* Sends on what the fake has said, with two changes at most to each message. */
static void reply_pass_on(void)
{
	static struct reply reply;

	for (;;) {
		ssize_t n =
			fdpass_receive(ends[1], reply.bytes, sizeof(reply.bytes), &reply.fds, 0);
		if (n <= 0)
			return;

		reply.size = (size_t)n;
		reply_change(&reply);
		if (reply.size >= sizeof(struct hbm_wire_header))
			reply_change(&reply);
		reply_send(&reply);
		fdpass_close(&reply.fds);
	}
}

/* It hangs up if nothing more is asked for a while: a call may wait for what does not come. */
static bool reply_to(struct fake *self, const struct hbm_wire_header *request)
{
	const struct timeval patience = {.tv_usec = PATIENCE_US};
	int peer;

	pthread_mutex_lock(&self->lock);
	peer = self->peer;
	self->peer = ends[0];
	pthread_mutex_unlock(&self->lock);
	setsockopt(peer, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));

	reply_as_it_should(request);

	pthread_mutex_lock(&self->lock);
	self->peer = peer;
	pthread_mutex_unlock(&self->lock);
	reply_pass_on();

	return true;
}

const char *replies_open(void)
{
	fuzz_check(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) ==
		   0);
	memory = memfd_create("memory", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	fuzz_check(memory >= 0 && ftruncate(memory, HBM_WIRE_MEMORY_BYTES) == 0);
	fuzz_check(fcntl(memory, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0);
	fake_open(&fake, SLABS);
	fake.part = 2;
	fake.answer = reply_to;

	return fake.path;
}

void replies_begin(struct fuzz_input changes)
{
	input = changes;
	fake.regions = 0;
	fake.slab_next = 0;
}

void replies_end(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	char byte;

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", fake.path);
	fuzz_check(fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0);
	shutdown(fd, SHUT_WR);
	fuzz_check(recv(fd, &byte, 1, 0) <= 0);
	close(fd);
}

int replies_slab(void)
{
	return fake.slabs[0];
}
