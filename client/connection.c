/* SPDX-License-Identifier: Apache-2.0 */
/* Connecting, the greeting, closing, and the error line. See connection.h. */
#include "client/connection.h"

#include "client/region.h"
#include "client/request.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define CLOSE_MS 10000 /* hbm.h says so, too */
#define FENCE_BYTES (HBM_WIRE_FENCES * sizeof(uint64_t))

int hbm_fail(struct hbm *hbm, int status, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(hbm->error, sizeof(hbm->error), format, arguments);
	va_end(arguments);
	return status;
}

int hbm_fail_device(struct hbm *hbm, const char *call, int result)
{
	return hbm_fail(hbm, HBM_DEVICE, "the device refused %s in this process: %s", call,
			driver_error_name(hbm->gpu.driver, (CUresult)result));
}

int hbm_use_device(struct hbm *hbm, uint32_t device)
{
	if (device >= hbm->info.devices)
		return hbm_fail(hbm, HBM_INVALID, "device %u: the daemon has %u", device, hbm->info.devices);
	if (hbm->inspect_only)
		return hbm_fail(hbm, HBM_UNSUPPORTED, "this connection was made with inspect_only and has no devices");
	char error[sizeof(hbm->error)] = "";
	int rc = hbm_gpu_open(&hbm->gpu, &hbm->info, error, sizeof(error));
	if (rc)
		return hbm_fail(hbm, rc, "%s", error);
	if (!hbm_gpu_recognise(&hbm->gpu, &hbm->info))
		return hbm_fail_device(hbm, hbm->gpu.failed_call, hbm->gpu.failed_result);
	if (hbm->gpu.ordinals[device] >= 0)
		return 0;
	return hbm_fail(hbm, -ENODEV, "device %u (%s) is none of those this process sees: see CUDA_VISIBLE_DEVICES",
			device, driver_uuid_text((char[DRIVER_UUID_TEXT]){0}, &hbm->gpu.uuids[device]));
}

int hbm_device_ordinal(struct hbm *hbm, uint32_t device, int *ordinal)
{
	int rc = hbm_use_device(hbm, device);
	if (rc == 0)
		*ordinal = hbm->gpu.ordinals[device];
	return rc;
}

/* ---- The greeting ---- */

/* A page that could shrink would be a SIGBUS in the caller's process. */
static volatile uint64_t *fences_map(int fd)
{
	struct stat stat;
	int seals = fcntl(fd, F_GET_SEALS);
	if (seals < 0 || !(seals & F_SEAL_SHRINK) || fstat(fd, &stat) < 0 || stat.st_size < (off_t)FENCE_BYTES)
		return NULL;
	void *page = mmap(NULL, FENCE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	return page == MAP_FAILED ? NULL : page;
}

/* Anything that is written to may block, or raise SIGPIPE; an eventfd that does not block does neither. It is none of
 * the kinds of file that stat() knows. */
static bool doorbell_is_sound(int fd)
{
	struct stat stat;
	int flags = fcntl(fd, F_GETFL);
	return flags >= 0 && flags & O_NONBLOCK && fstat(fd, &stat) == 0 && (stat.st_mode & S_IFMT) == 0;
}

static bool hello_reply_is_sound(const struct message *message)
{
	const struct hbm_wire_hello_reply *reply = (const void *)message->header;
	return message->size == sizeof(*reply) && message->fd_count == 2 && reply->header.status == HBM_OK &&
	       reply->header.flags == HBM_WIRE_REPLY && reply->magic == HBM_WIRE_MAGIC &&
	       reply->version == HBM_WIRE_VERSION && reply->zero == 0 && reply->devices <= HBM_WIRE_DEVICES_MAX &&
	       (reply->driver == HBM_DRIVER_SOFT || reply->driver == HBM_DRIVER_CUDA);
}

static int reply_hello(struct hbm *hbm, struct ticket *ticket, struct message *message)
{
	(void)ticket;
	if (hbm_reply_is_refusal(message))
		return message->header->status;
	if (!hello_reply_is_sound(message))
		return TICKET_BROKEN;
	hbm->fences = doorbell_is_sound(message->fds[1]) ? fences_map(message->fds[0]) : NULL;
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
	return HBM_OK;
}

static const struct ticket_kind kind_hello = {.reply = reply_hello};

static int connection_greet(struct hbm *hbm, const char *name)
{
	struct hbm_wire_hello hello = {
		.magic = HBM_WIRE_MAGIC,
		.version_min = HBM_WIRE_VERSION,
		.version_max = HBM_WIRE_VERSION,
	};
	memcpy(hello.name, name, strnlen(name, sizeof(hello.name) - 1));
	struct request request = {
		.opcode = HBM_WIRE_HELLO,
		.kind = &kind_hello,
		.pieces = {{&hello, sizeof(hello)}},
		.piece_count = 1,
	};
	return hbm_request_ask(hbm, &request);
}

/* ---- Open and close ---- */

static const char *socket_path(const struct hbm_options *options)
{
	if (options->socket)
		return options->socket;
	const char *path = secure_getenv("HBM_SOCKET");
	return path && *path ? path : HBM_DEFAULT_SOCKET;
}

static int connection_open(struct hbm *hbm, const struct hbm_options *options)
{
	hbm->channel.fd = hbm->doorbell = -1;
	list_init(&hbm->unsent);
	list_init(&hbm->regions);
	hbm->pid = getpid();
	hbm->inspect_only = options->inspect_only;
	hbm->patience_ms = -1;
	hbm->answer_ms = options->answer_ms - 1u < INT_MAX ? (int)options->answer_ms : -1;
	hbm->close_ms = CLOSE_MS;
	hbm->scratch = malloc(HBM_WIRE_MESSAGE_MAX);
	if (!hbm->scratch)
		return -ENOMEM;
	int rc = hbm_channel_open(&hbm->channel, socket_path(options), hbm->answer_ms);
	return rc ? rc : connection_greet(hbm, options->name ? options->name : program_invocation_short_name);
}

int hbm_connect(struct hbm **out, const struct hbm_options *options)
{
	static const struct hbm_options defaults;
	struct hbm *hbm = calloc(1, sizeof(*hbm));
	if (!hbm)
		return -ENOMEM;
	int rc = connection_open(hbm, options ? options : &defaults);
	if (rc) {
		hbm_close(hbm);
		return rc;
	}
	*out = hbm;
	return 0;
}

/* Gives back what is leased, and ends the session. */
static void connection_end(struct hbm *hbm)
{
	hbm->patience_ms = hbm->answer_ms = hbm->close_ms;
	hbm_request_end_all(hbm);
	/* Slabs of a region that is not destroyed stay quarantined until this process exits. */
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
	if (hbm->pid == getpid())
		connection_end(hbm);
	if (hbm->fences)
		munmap((void *)hbm->fences, FENCE_BYTES);
	if (hbm->doorbell >= 0)
		close(hbm->doorbell);
	hbm_channel_close(&hbm->channel);
	hbm_tickets_clear(&hbm->tickets);
	free(hbm->scratch);
	free(hbm);
	return NULL;
}

const struct hbm_info *hbm_info(const struct hbm *hbm)
{
	return &hbm->info;
}

int hbm_fd(const struct hbm *hbm)
{
	return hbm->channel.fd;
}

const char *hbm_error(const struct hbm *hbm)
{
	return hbm->error;
}
