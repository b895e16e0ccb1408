/* SPDX-License-Identifier: Apache-2.0 */
/*
 * session: opens a connection with HELLO, and closes it with everything created on it. It is
 * the top of the library and uses every module that has something to close.
 */
#include "client/connection.h"
#include "client/fence.h"
#include "client/indirect.h"
#include "client/loan.h"
#include "client/reconnect.h"
#include "client/region.h"
#include "client/request.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define CLOSE_MS 10000 /* also in hbm.h */
#define FENCE_BYTES (HBM_WIRE_FENCES * sizeof(uint64_t))

/* ---- HELLO ---- */

/* Maps the fence page. It must be sealed: if it could shrink, the caller could get SIGBUS. */
static volatile uint64_t *session_map_fences(int fd)
{
	struct stat stat;
	int seals = fcntl(fd, F_GET_SEALS);
	if (seals < 0 || !(seals & F_SEAL_SHRINK) || fstat(fd, &stat) < 0 ||
	    stat.st_size < (off_t)FENCE_BYTES)
		return NULL;

	void *page = mmap(NULL, FENCE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	return page == MAP_FAILED ? NULL : page;
}

/* Accept only a non-blocking eventfd: writing to anything else could block or raise SIGPIPE.
 * stat() reports no file type for an eventfd. */
static bool session_doorbell_is_valid(int fd)
{
	struct stat stat;
	int flags = fcntl(fd, F_GETFL);
	return flags >= 0 && flags & O_NONBLOCK && fstat(fd, &stat) == 0 &&
	       (stat.st_mode & S_IFMT) == 0;
}

/* A daemon that knows no sessions that outlive it gives the shorter reply. */
static bool session_hello_is_valid(const struct message *message)
{
	const struct hbm_wire_hello_reply *reply = (const void *)message->header;
	return (message->size == sizeof(*reply) ||
		message->size == sizeof(struct hbm_wire_hello_resume_reply)) &&
	       message->fds.count == 2 && reply->header.status == HBM_OK &&
	       reply->header.flags == HBM_WIRE_REPLY && reply->magic == HBM_WIRE_MAGIC &&
	       reply->version == HBM_WIRE_VERSION && reply->zero == 0 &&
	       reply->devices <= HBM_WIRE_DEVICES_MAX &&
	       (reply->driver == HBM_DRIVER_SOFT || reply->driver == HBM_DRIVER_CUDA);
}

static int session_reply_hello(struct hbm *hbm, struct ticket *ticket, struct message *message)
{
	(void)ticket;
	if (hbm_reply_is_refusal(message))
		return message->header->status;
	if (!session_hello_is_valid(message))
		return TICKET_BROKEN;

	hbm->fences = session_doorbell_is_valid(message->fds.list[1])
			      ? session_map_fences(message->fds.list[0])
			      : NULL;
	if (!hbm->fences)
		return TICKET_BROKEN;

	hbm->doorbell = hbm_message_steal(message, 1);

	const struct hbm_wire_hello_reply *reply = (const void *)message->header;
	hbm->gpu.soft_memory = reply->soft_memory;
	memcpy(hbm->gpu.uuids, reply->uuids, sizeof(hbm->gpu.uuids));
	hbm->info = (struct hbm_info){
		.session = reply->session,
		.driver = (enum hbm_driver)reply->driver,
		.devices = reply->devices,
		.requests_in_flight = reply->requests_in_flight,
		.regions = reply->regions,
	};
	memcpy(hbm->info.boot_id, reply->boot_id, sizeof(hbm->info.boot_id));

	const struct hbm_wire_hello_resume_reply *resume = (const void *)message->header;
	if (message->size == sizeof(*resume) && resume->survives == 1 &&
	    hbm->reconnect.limit_ms > 0)
		hbm_reconnect_allow(hbm, resume);

	return HBM_OK;
}

static const struct ticket_kind session_kind_hello = {.reply = session_reply_hello};

static int session_greet(struct hbm *hbm, const char *name)
{
	bool returns = hbm->reconnect.limit_ms > 0;
	struct hbm_wire_hello_resume resume = {
		.hello = {.magic = HBM_WIRE_MAGIC,
			  .version_min = HBM_WIRE_VERSION,
			  .version_max = HBM_WIRE_VERSION},
	};
	memcpy(resume.hello.name, name, strnlen(name, sizeof(resume.hello.name) - 1));
	struct request request = {
		.opcode = HBM_WIRE_HELLO,
		.kind = &session_kind_hello,
		.pieces = {{&resume, returns ? sizeof(resume) : sizeof(resume.hello)}},
		.piece_count = 1,
	};
	return hbm_request_query(hbm, &request);
}

/* ---- Open and close ---- */

static const char *session_socket_path(const struct hbm_options *options)
{
	if (options->socket)
		return options->socket;
	const char *path = secure_getenv("HBM_SOCKET");
	return path && *path ? path : HBM_DEFAULT_SOCKET;
}

/* Who only asks asks again. */
static uint32_t session_reconnect_ms(const struct hbm_options *options)
{
	if (options->inspect_only || options->reconnect_ms == HBM_RECONNECT_NEVER)
		return 0;
	return options->reconnect_ms ? options->reconnect_ms : HBM_RECONNECT_MS;
}

static int session_open(struct hbm *hbm, const struct hbm_options *options)
{
	hbm->channel.fd = hbm->doorbell = -1;
	list_init(&hbm->unsent);
	list_init(&hbm->regions);
	list_init(&hbm->shares);
	list_init(&hbm->loans);
	list_init(&hbm->boards);
	list_init(&hbm->books);
	for (size_t i = 0; i < LOAN_SLAB_BUCKETS; i++)
		list_init(&hbm->slabs[i]);
	hbm_owner_init(&hbm->owner);
	hbm->inspect_only = options->inspect_only;
	hbm->timeout_ms = -1;
	hbm->poll_ns = options->poll_us * UINT64_C(1000);
	list_init(&hbm->reconnect.namespaces);
	hbm->reconnect.limit_ms = session_reconnect_ms(options);
	hbm->answer_ms = options->answer_ms - 1u < INT_MAX ? (int)options->answer_ms : -1;
	hbm->close_ms = CLOSE_MS;
	hbm->scratch = malloc(HBM_WIRE_MESSAGE_MAX);
	if (!hbm->scratch)
		return -ENOMEM;

	hbm->socket = strdup(session_socket_path(options));
	hbm->name = strdup(options->name ? options->name : program_invocation_short_name);
	if (!hbm->socket || !hbm->name)
		return -ENOMEM;

	int rc = hbm_channel_open(&hbm->channel, hbm->socket, hbm->answer_ms);

	return rc ? rc : session_greet(hbm, hbm->name);
}

int hbm_connect(struct hbm **out, const struct hbm_options *options)
{
	static const struct hbm_options defaults;
	struct hbm *hbm = calloc(1, sizeof(*hbm));
	if (!hbm)
		return -ENOMEM;

	int rc = session_open(hbm, options ? options : &defaults);
	if (rc) {
		hbm_close(hbm);
		return rc;
	}

	*out = hbm;

	return 0;
}

/* Destroys all regions and ends the session. */
static void session_end(struct hbm *hbm)
{
	hbm->timeout_ms = hbm->answer_ms = hbm->close_ms;
	if (hbm->reconnect.limit_ms > (uint32_t)hbm->close_ms)
		hbm->reconnect.limit_ms = (uint32_t)hbm->close_ms;
	hbm_request_end_all(hbm);
	hbm_indirect_clear(hbm); /* before its region goes */

	hbm_loans_close(hbm);

	/* Slabs of a region that is not destroyed stay quarantined until this process
	 * exits. */
	while (!list_empty(&hbm->regions))
		hbm_region_destroy(hbm, container_of(hbm->regions.next, struct hbm_region, link));
	if (hbm->channel.buffer)
		hbm_request_break(hbm, -ENOTCONN);

	hbm_fences_unregister(hbm);
	hbm_gpu_close(&hbm->gpu);
}

struct hbm *hbm_close(struct hbm *hbm)
{
	if (!hbm)
		return NULL;
	if (hbm_owner_is_here(&hbm->owner))
		session_end(hbm);
	if (hbm->fences)
		munmap((void *)hbm->fences, FENCE_BYTES);
	if (hbm->memory)
		munmap((void *)(uintptr_t)hbm->memory, HBM_WIRE_MEMORY_BYTES);
	if (hbm->doorbell >= 0)
		close(hbm->doorbell);

	hbm_owner_clear(&hbm->owner);
	hbm_reconnect_clear(hbm);
	hbm_indirect_clear(hbm);
	hbm_cork_clear(&hbm->cork);
	hbm_channel_close(&hbm->channel);
	hbm_tickets_clear(&hbm->tickets);
	free(hbm->scratch);
	free(hbm->socket);
	free(hbm->name);
	free(hbm);

	return NULL;
}
