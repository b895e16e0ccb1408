/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reserve: reservations of device memory, and the page in which the daemon says how much there
 * is. The page is mapped when it is first read, so that a daemon that has none is as good to
 * all other calls.
 */
#include "client/reserve.h"
#include "client/connection.h"
#include "client/error.h"
#include "client/request.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define TRIES 100000 /* a write takes some ten nanoseconds */

/* ---- Reservations ---- */

/* What a daemon that follows is told. */
static void reserve_answered(struct hbm *hbm, const struct hbm_wire_reserve *reserve)
{
	for (uint32_t i = 0; i < reserve->count; i++) {
		uint64_t *reserved = &hbm->reconnect.reserved[reserve->changes[i].device];
		int64_t bytes = reserve->changes[i].bytes;
		uint64_t less = bytes < 0 ? -(uint64_t)bytes : 0;

		if (bytes >= 0)
			*reserved += (uint64_t)bytes;
		else
			*reserved -= less < *reserved ? less : *reserved;
	}
}

static int reserve_reply(struct hbm *hbm, struct ticket *ticket, struct message *message)
{
	int status = hbm_kind_bare.reply(hbm, ticket, message);

	if (status == HBM_OK && hbm->come_back)
		reserve_answered(hbm, (const void *)ticket->sent.message);

	return status;
}

static const struct ticket_kind kind_reserve = {.reply = reserve_reply};

int hbm_submit_reserve(struct hbm *hbm, const struct hbm_reserve_change *changes, size_t count,
		       uint32_t timeout_ms, hbm_ticket *ticket)
{
	struct hbm_wire_reserve_change wire[HBM_WIRE_DEVICES_MAX];
	struct hbm_wire_reserve reserve = {.count = (uint32_t)count, .timeout_ms = timeout_ms};
	if (hbm_check_owner(hbm))
		return -EPERM;
	if (count == 0 || count > hbm->info.devices)
		return hbm_fail(hbm, HBM_INVALID, "%zu changes: the daemon has %u devices", count,
				hbm->info.devices);

	for (size_t i = 0; i < count; i++) {
		if (changes[i].device >= hbm->info.devices)
			return hbm_fail(hbm, HBM_INVALID, "device %u: the daemon has %u",
					changes[i].device, hbm->info.devices);

		wire[i] = (struct hbm_wire_reserve_change){.device = changes[i].device,
							   .bytes = changes[i].bytes};
	}

	struct request request = {
		.opcode = HBM_WIRE_RESERVE,
		.kind = &kind_reserve,
		.pieces = {{&reserve, sizeof(reserve)}, {wire, count * sizeof(wire[0])}},
		.piece_count = 2,
	};
	hbm->reconnect.reserves = true;

	return hbm_request_submit(hbm, &request, ticket);
}

int hbm_reserve(struct hbm *hbm, const struct hbm_reserve_change *changes, size_t count,
		uint32_t timeout_ms)
{
	hbm_ticket ticket;
	int rc = hbm_submit_reserve(hbm, changes, count, timeout_ms, &ticket);

	return rc ? rc : hbm_wait(hbm, ticket, -1);
}

/* ---- The page ---- */

/* It must be sealed: if it could shrink, the caller could get SIGBUS. */
static const struct hbm_wire_memory *reserve_map_page(int fd)
{
	struct stat stat;
	int seals = fcntl(fd, F_GET_SEALS);
	if (seals < 0 || !(seals & F_SEAL_SHRINK) || fstat(fd, &stat) < 0 ||
	    stat.st_size < (off_t)HBM_WIRE_MEMORY_BYTES)
		return NULL;

	void *page = mmap(NULL, HBM_WIRE_MEMORY_BYTES, PROT_READ, MAP_SHARED, fd, 0);

	return page == MAP_FAILED ? NULL : page;
}

bool hbm_memory_move(struct hbm *hbm, int fd)
{
	void *page = (void *)(uintptr_t)reserve_map_page(fd);

	return page &&
	       mremap(page, HBM_WIRE_MEMORY_BYTES, HBM_WIRE_MEMORY_BYTES,
		      MREMAP_MAYMOVE | MREMAP_FIXED, (void *)(uintptr_t)hbm->memory) != MAP_FAILED;
}

static int reserve_reply_page(struct hbm *hbm, struct ticket *ticket, struct message *message)
{
	(void)ticket;
	if (hbm_reply_is_refusal(message))
		return message->header->status;
	if (message->header->status != HBM_OK || message->size != sizeof(*message->header) ||
	    message->header->flags & HBM_WIRE_MORE || message->fds.count != 1)
		return TICKET_BROKEN;

	hbm->memory = reserve_map_page(message->fds.list[0]);

	return hbm->memory ? HBM_OK : TICKET_BROKEN;
}

static int reserve_ask_page(struct hbm *hbm)
{
	static const struct ticket_kind kind = {.reply = reserve_reply_page};
	struct hbm_wire_header header = {0};
	struct request request = {
		.opcode = HBM_WIRE_MEMORY,
		.kind = &kind,
		.pieces = {{&header, sizeof(header)}},
		.piece_count = 1,
	};

	return hbm_check_owner(hbm) ? -EPERM : hbm_request_query(hbm, &request);
}

/* One try to read a record. False: it was written meanwhile. */
static bool reserve_read(const struct hbm_wire_memory *record, struct hbm_wire_memory *copy)
{
	const uint64_t *from = (const uint64_t *)record;
	uint64_t *to = (uint64_t *)copy;

	/* Acquire: the words are read after it, and it is read again after them. No fence: the
	 * thread sanitizer knows none. */
	to[0] = __atomic_load_n(&from[0], __ATOMIC_ACQUIRE);
	for (size_t i = 1; i < sizeof(*copy) / sizeof(*to); i++)
		to[i] = __atomic_load_n(&from[i], __ATOMIC_ACQUIRE);

	return to[0] % 2 == 0 && __atomic_load_n(&from[0], __ATOMIC_RELAXED) == to[0];
}

/* Makes no system call once the page is mapped; not even getpid(), as hbm_fail() and
 * hbm_check_owner() would not be called then. */
int hbm_device_memory(struct hbm *hbm, uint32_t device, struct hbm_device_memory *out)
{
	struct hbm_wire_memory copy;
	unsigned tries = 0;

	if (device >= hbm->info.devices)
		return hbm_fail(hbm, HBM_INVALID, "device %u: the daemon has %u", device,
				hbm->info.devices);

	int rc = hbm->memory ? 0 : reserve_ask_page(hbm);
	if (rc)
		return rc;

	while (!reserve_read(&hbm->memory[device], &copy))
		if (++tries == TRIES)
			return -EAGAIN;

	*out = (struct hbm_device_memory){
		.capacity = copy.capacity,
		.free = copy.free,
		.promised = copy.promised,
		.available = copy.available,
		.largest_slab = copy.largest_slab,
		.returning = copy.returning,
		.waiting = copy.waiting,
		.default_slab = copy.default_slab,
		.lost = copy.lost != 0,
	};

	return 0;
}
