/* SPDX-License-Identifier: Apache-2.0 */
/* The fake daemon: see fakedaemon.h. */
#include "tests/support/fakedaemon.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* ---- Messages ---- */

bool fake_send(struct fake *fake, const void *message, size_t size, const int *fds, size_t fd_count)
{
	union {
		struct cmsghdr align;
		char ns[CMSG_SPACE(HBM_WIRE_FDS_MAX * sizeof(int))];
	} control;
	struct iovec piece = {(void *)message, size};
	struct msghdr packet = {.msg_iov = &piece, .msg_iovlen = 1};

	if (fd_count) {
		memset(&control, 0, sizeof(control));
		packet.msg_control = &control;
		packet.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
		struct cmsghdr *part = CMSG_FIRSTHDR(&packet);
		part->cmsg_level = SOL_SOCKET;
		part->cmsg_type = SCM_RIGHTS;
		part->cmsg_len = CMSG_LEN(fd_count * sizeof(int));
		memcpy(CMSG_DATA(part), fds, fd_count * sizeof(int));
	}

	return sendmsg(fake->peer, &packet, MSG_NOSIGNAL) >= 0;
}

bool fake_reply_message(struct fake *fake, const struct hbm_wire_header *request, void *message,
			size_t size, const int *fds, size_t fd_count)
{
	struct hbm_wire_header *header = message;
	uint16_t flags = header->flags | HBM_WIRE_REPLY;
	*header = (struct hbm_wire_header){(uint32_t)size, request->opcode, flags,
					   request->id,    HBM_OK,          0};
	return fake_send(fake, message, size, fds, fd_count);
}

bool fake_reply(struct fake *fake, const struct hbm_wire_header *request, int status)
{
	struct hbm_wire_header header = {
		sizeof(header), request->opcode, HBM_WIRE_REPLY, request->id, status, 0,
	};
	return fake_send(fake, &header, sizeof(header), NULL, 0);
}

int fake_page(size_t bytes, int seals)
{
	int fd = memfd_create("fake fences", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0 || ftruncate(fd, (off_t)bytes) < 0 || fcntl(fd, F_ADD_SEALS, seals) < 0)
		abort();
	return fd;
}

/* ---- The obedient daemon ---- */

static void obey_hello(struct fake *fake, const struct hbm_wire_header *request)
{
	const struct hbm_wire_hello_resume *resume = (const void *)request;
	bool long_form = request->size == sizeof(*resume);
	struct hbm_wire_hello_resume_reply reply = {
		.hello = {.magic = HBM_WIRE_MAGIC,
			  .version = HBM_WIRE_VERSION,
			  .session = 7,
			  .boot_id = {1, 2, 3},
			  .driver = HBM_DRIVER_SOFT,
			  .devices = FAKE_DEVICES,
			  .requests_in_flight = 64,
			  .regions = 16,
			  .soft_memory = FAKE_MEMORY},
		.state = {4, 5, 6},
		.token = {7, 8, 9},
		.survives = fake->survives,
	};
	for (uint32_t i = 0; i < FAKE_DEVICES; i++)
		memcpy(reply.hello.uuids[i], fake->uuids[i].bytes, sizeof(reply.hello.uuids[i]));
	fake_reply_message(fake, request, &reply, long_form ? sizeof(reply) : sizeof(reply.hello),
			   (int[]){fake->fences, fake->doorbell},
			   long_form && resume->session != 0 ? 0 : 2);
}

static void obey_region_create(struct fake *fake, const struct hbm_wire_header *request)
{
	const struct hbm_wire_region_create *create = (const void *)request;
	struct hbm_wire_region_create_reply reply = {
		.region = ++fake->regions,
		.address_space = create->address_space,
		.slab = create->slab,
	};
	fake_reply_message(fake, request, &reply, sizeof(reply), NULL, 0);
}

/* One slab at a time in the order asked, `part` of them in a message. */
static void obey_commit(struct fake *fake, const struct hbm_wire_header *request)
{
	const struct hbm_wire_ranges *asked = (const void *)request;
	struct hbm_wire_ranges *part =
		calloc(1, sizeof(*part) + fake->part * sizeof(part->ranges[0]));
	int fds[HBM_WIRE_FDS_MAX];

	for (uint32_t i = 0; i < asked->count; i++) {
		const struct hbm_wire_range *range = &asked->ranges[i];
		for (uint64_t at = 0; at < range->bytes; at += FAKE_SLAB) {
			fds[part->count] = fake->slabs[fake->slab_next++ % fake->slab_count];
			part->ranges[part->count++] = (struct hbm_wire_range){
				range->region, 0, range->offset + at, FAKE_SLAB};
			bool last = i + 1 == asked->count && at + FAKE_SLAB == range->bytes;
			if (part->count < fake->part && !last)
				continue;

			part->header.flags = last ? 0 : HBM_WIRE_MORE;
			fake_reply_message(fake, request, part,
					   sizeof(*part) + part->count * sizeof(part->ranges[0]),
					   fds, part->count);
			part->count = 0;
		}
	}

	free(part);
}

static void obey_namespace(struct fake *fake, const struct hbm_wire_header *request)
{
	const struct hbm_wire_namespace_open *open = (const void *)request;
	bool by_number = request->size == sizeof(struct hbm_wire_namespace_ref);
	struct hbm_wire_namespace_reply reply = {
		.ns = 5,
		.block_bytes = by_number ? 65536 : open->spec.block_bytes,
	};
	fake_reply_message(fake, request, &reply, sizeof(reply), NULL, 0);
}

/* Every block is where it should be. */
static void obey_array(struct fake *fake, const struct hbm_wire_header *request)
{
	const struct hbm_wire_keys *keys =
		(const void *)request; /* count is at the same place in hbm_wire_blocks */
	size_t size =
		sizeof(struct hbm_wire_results) + keys->count * sizeof(struct hbm_wire_result);
	struct hbm_wire_results *reply = calloc(1, size);

	reply->count = reply->done = keys->count;
	reply->load_ns = 1000;
	for (uint32_t i = 0; i < keys->count; i++)
		reply->results[i].tier = HBM_TIER_HBM;
	fake_reply_message(fake, request, reply, size, NULL, 0);
	free(reply);
}

/* Devices have a default slab; nothing else has records. */
static void obey_query(struct fake *fake, const struct hbm_wire_header *request)
{
	const struct hbm_wire_query *query = (const void *)request;
	struct {
		struct hbm_wire_query_reply head;
		struct hbm_wire_device devices[FAKE_DEVICES];
	} reply = {.head = {.kind = query->kind, .record_bytes = sizeof(struct hbm_wire_device)}};

	if (query->kind == HBM_QUERY_DEVICES)
		reply.head.count = FAKE_DEVICES;

	for (uint32_t i = 0; i < FAKE_DEVICES; i++) {
		reply.devices[i].index = i;
		reply.devices[i].slab = FAKE_SLAB;
	}

	size_t size = sizeof(reply.head) + reply.head.count * sizeof(reply.devices[0]);
	fake_reply_message(fake, request, &reply, size, NULL, 0);
}

static void obey_amount(struct fake *fake, const struct hbm_wire_header *request)
{
	struct hbm_wire_amount reply = {.blocks = FAKE_BLOCKS, .bytes = FAKE_BLOCKS * 65536};
	fake_reply_message(fake, request, &reply, sizeof(reply), NULL, 0);
}

void fake_obey(struct fake *fake, const struct hbm_wire_header *request)
{
	static void (*const obey[HBM_WIRE_OPCODES])(struct fake *,
						    const struct hbm_wire_header *) = {
		[HBM_WIRE_HELLO] = obey_hello,
		[HBM_WIRE_REGION_CREATE] = obey_region_create,
		[HBM_WIRE_COMMIT] = obey_commit,
		[HBM_WIRE_NAMESPACE_OPEN] = obey_namespace,
		[HBM_WIRE_LOOKUP] = obey_array,
		[HBM_WIRE_STORE] = obey_array,
		[HBM_WIRE_LOAD] = obey_array,
		[HBM_WIRE_PREFETCH] = obey_array,
		[HBM_WIRE_TOUCH] = obey_array,
		[HBM_WIRE_PIN] = obey_array,
		[HBM_WIRE_UNPIN] = obey_array,
		[HBM_WIRE_REMOVE] = obey_array,
		[HBM_WIRE_QUERY] = obey_query,
		[HBM_WIRE_EVICT] = obey_amount,
		[HBM_WIRE_NAMESPACE_DROP] = obey_amount,
	};
	if (request->opcode < HBM_WIRE_OPCODES && obey[request->opcode])
		obey[request->opcode](fake, request);
	else
		fake_reply(fake, request, HBM_OK);
}

/* ---- The thread ---- */

static void fake_count(struct fake *fake, unsigned int *counts, unsigned int opcode)
{
	pthread_mutex_lock(&fake->lock);
	if (opcode < HBM_WIRE_OPCODES)
		counts[opcode]++;
	pthread_cond_broadcast(&fake->changed);
	pthread_mutex_unlock(&fake->lock);
}

void fake_await(struct fake *fake, unsigned int opcode, unsigned int count)
{
	pthread_mutex_lock(&fake->lock);
	while (fake->done[opcode] < count)
		pthread_cond_wait(&fake->changed, &fake->lock);
	pthread_mutex_unlock(&fake->lock);
}

/*
 * Received in two steps: ThreadSanitizer sees recv() write before it sees that the sender
 * was earlier, and tests look at the last message until they send the next.
 */
static void fake_serve(struct fake *fake)
{
	unsigned char buffer[HBM_WIRE_MESSAGE_MAX];

	for (;;) {
		ssize_t n = recv(fake->peer, buffer, sizeof(buffer), 0);
		if (n < (ssize_t)sizeof(struct hbm_wire_header))
			return;

		memcpy(fake->last, buffer, (size_t)n);
		const struct hbm_wire_header *request = fake->last;
		fake_count(fake, fake->seen, request->opcode);
		if (!fake->answer || !fake->answer(fake, request))
			fake_obey(fake, request);

		fake_count(fake, fake->done, request->opcode);
	}
}

static void fake_set_peer(struct fake *fake, int fd)
{
	pthread_mutex_lock(&fake->lock);
	if (fake->peer >= 0)
		close(fake->peer);
	fake->peer = fd;
	pthread_mutex_unlock(&fake->lock);
}

static void *fake_run(void *arg)
{
	struct fake *fake = arg;
	for (;;) {
		int fd = accept4(fake->listener, NULL, NULL, SOCK_CLOEXEC);
		if (fd < 0)
			return NULL;

		fake_set_peer(fake, fd);
		fake_serve(fake);
		fake_set_peer(fake, -1);
	}
}

void fake_hang_up(struct fake *fake)
{
	pthread_mutex_lock(&fake->lock);
	if (fake->peer >= 0)
		shutdown(fake->peer, SHUT_RDWR);
	pthread_mutex_unlock(&fake->lock);
}

/* ---- Start and stop ---- */

static void fake_make_slabs(struct fake *fake, size_t count)
{
	struct driver_soft_options options = {.devices = FAKE_DEVICES, .memory = FAKE_MEMORY};
	char error[256] = "";
	if (driver_open(&fake->driver, DRIVER_SOFT, &options, error, sizeof(error)))
		fail_msg("%s", error);

	for (int i = 0; i < FAKE_DEVICES; i++)
		assert_int_equal(fake->driver->cuDeviceGetUuid(&fake->uuids[i], i), CUDA_SUCCESS);
	CUmemAllocationProp prop = {
		.type = CU_MEM_ALLOCATION_TYPE_PINNED,
		.requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
		.location = {CU_MEM_LOCATION_TYPE_DEVICE, 0},
	};
	fake->slabs = calloc(count + 1, sizeof(int));
	for (fake->slab_count = 0; fake->slab_count < count; fake->slab_count++) {
		CUmemGenericAllocationHandle handle;
		assert_int_equal(fake->driver->cuMemCreate(&handle, FAKE_SLAB, &prop, 0),
				 CUDA_SUCCESS);
		assert_int_equal(fake->driver->cuMemExportToShareableHandle(
					 &fake->slabs[fake->slab_count], handle,
					 CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0),
				 CUDA_SUCCESS);
		assert_int_equal(fake->driver->cuMemRelease(handle), CUDA_SUCCESS);
	}
}

static void fake_listen(struct fake *fake)
{
	strcpy(fake->folder, "/tmp/hbm-fake-XXXXXX");
	assert_non_null(mkdtemp(fake->folder));
	snprintf(fake->path, sizeof(fake->path), "%s/sock", fake->folder);
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	strcpy(address.sun_path, fake->path);
	fake->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(fake->listener, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(fake->listener, 8), 0);
}

void fake_open(struct fake *fake, size_t slabs)
{
	*fake = (struct fake){.peer = -1, .part = HBM_WIRE_FDS_MAX};
	if (slabs)
		fake_make_slabs(fake, slabs);

	fake_listen(fake);
	fake->last = malloc(HBM_WIRE_MESSAGE_MAX);
	size_t page = HBM_WIRE_FENCES * sizeof(uint64_t);
	fake->fences = fake_page(page, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
	fake->fence_page = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, fake->fences, 0);
	fake->doorbell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	pthread_mutex_init(&fake->lock, NULL);
	pthread_cond_init(&fake->changed, NULL);
	assert_int_equal(pthread_create(&fake->thread, NULL, fake_run, fake), 0);
}

void fake_close(struct fake *fake)
{
	shutdown(fake->listener, SHUT_RDWR);
	fake_hang_up(fake);
	pthread_join(fake->thread, NULL);
	close(fake->listener);
	unlink(fake->path);
	rmdir(fake->folder);
	munmap((void *)fake->fence_page, HBM_WIRE_FENCES * sizeof(uint64_t));
	close(fake->fences);
	close(fake->doorbell);
	for (size_t i = 0; i < fake->slab_count; i++)
		close(fake->slabs[i]);
	free(fake->slabs);
	free(fake->last);
	driver_close(fake->driver);
	pthread_mutex_destroy(&fake->lock);
	pthread_cond_destroy(&fake->changed);
}
