/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serve_region: the handlers for a session itself and its regions: PING, CANCEL, SESSION_END,
 * REGION_CREATE, REGION_DESTROY, COMMIT, DECOMMIT. They translate between
 * messages and region.h, commit.h, decommit.h, which know no messages.
 */
#include "daemon/serve/serve_region.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/base/checked.h"
#include "daemon/config/config.h"
#include "daemon/device/device.h"
#include "daemon/region/commit.h"
#include "daemon/region/decommit.h"
#include "daemon/region/promise.h"
#include "daemon/region/slab.h"
#include "daemon/session/outbox.h"

/* ---- PING, CANCEL ---- */

void serve_ping(struct hbmd *hbmd, struct request *request)
{
	(void)hbmd;
	request_reply(request, HBM_OK, NULL, 0);
}

void serve_cancel(struct hbmd *hbmd, struct request *request)
{
	(void)hbmd;
	const struct hbm_wire_cancel *cancel = (const void *)request->message;
	bool all = cancel->flags & HBM_WIRE_ALL;
	bool any = session_cancel(request->session, all ? NULL : &cancel->target);
	if (any || all)
		request_reply(request, HBM_OK, NULL, 0);
	else
		request_refuse(request, HBM_NOT_FOUND, "no request %llu waits for its ready fence",
			       (unsigned long long)cancel->target);
}

/* ---- SESSION_END ---- */

void serve_session_end(struct hbmd *hbmd, struct request *request)
{
	const struct hbm_wire_session_ref *ref = (const void *)request->message;
	unsigned long long id = ref->session;

	if (!session_is_operator(request->session)) {
		request_refuse(request, HBM_DENIED,
			       "only uid 0 and the daemon's uid end other sessions");
		return;
	}

	struct session *session = server_find_session(hbmd->server, ref->session);
	if (!session) {
		request_refuse(request, HBM_NOT_FOUND, "no session %llu", id);
	} else if (session->state == SESSION_CLOSING || session->state == SESSION_DEAD) {
		request_refuse(request, HBM_NOT_FOUND,
			       regions_is_empty(&session->regions)
				       ? "session %llu has ended: its place comes back when "
					 "process %d closes its socket"
				       : "session %llu has ended: its memory comes back when "
					 "process %d ends",
			       id, (int)session->pid);
	} else {
		session_break(session, "an operator has ended it");
		request_reply(request, HBM_OK, NULL, 0);
	}
}

/* ---- Regions ---- */

static void serve_region_created(void *arg, int status, struct region *region)
{
	struct request *request = arg;
	if (status != HBM_OK) {
		request_refuse(request, status,
			       "cannot reserve the address space; see the daemon's log");
		return;
	}

	struct hbm_wire_region_create_reply reply = {
		.region = region_id(region),
		.address_space = region_address_space(region),
		.slab = region_slab(region),
	};
	request_reply(request, HBM_OK, &reply.region, sizeof(reply) - sizeof(reply.header));
}

void serve_region_create(struct hbmd *hbmd, struct request *request)
{
	const struct hbm_wire_region_create *create = (const void *)request->message;
	struct regions *regions = &request->session->regions;

	struct device *device = devices_get(hbmd->devices, create->device);
	if (!device && create->device == HBM_WIRE_DEVICE_HOST) {
		request_refuse(request, HBM_UNSUPPORTED,
			       "there is no host memory for regions: ddr.regions is 0");
		return;
	}

	if (!device) {
		request_refuse(request, HBM_INVALID, "device %u: there are %u", create->device,
			       hbmd->devices->count);
		return;
	}

	int status = region_create(regions, device, create->address_space, create->slab,
				   serve_region_created, request);
	if (status == HBM_LIMIT && !ledger_has_room(regions->payer, LEDGER_REGIONS, 1))
		request_refuse_limit(request, LEDGER_REGIONS, 1);
	else if (status == HBM_LIMIT)
		request_refuse_limit(request, LEDGER_ADDRESS_SPACE, create->address_space);
	else if (status == HBM_INVALID)
		request_refuse(request, status,
			       "slab %llu is not 2 MiB times a power of two up to 1 GiB, or "
			       "address_space %llu is not a multiple of it",
			       (unsigned long long)create->slab,
			       (unsigned long long)create->address_space);
	else if (status == HBM_NO_SPACE)
		request_refuse(request, status, "the daemon is out of memory");
}

static void serve_region_destroyed(void *arg, int status, struct region *region)
{
	(void)region;
	request_reply(arg, status, NULL, 0);
}

void serve_region_destroy(struct hbmd *hbmd, struct request *request)
{
	(void)hbmd;
	const struct hbm_wire_region_destroy *destroy = (const void *)request->message;
	int status = region_destroy(&request->session->regions, destroy->region,
				    serve_region_destroyed, request);
	if (status != HBM_OK)
		request_refuse(request, status, "no region %u", destroy->region);
}

/* ---- COMMIT ---- */

static uint64_t serve_region_promised_to_others(struct session *session, struct device *device)
{
	const struct promise *own = regions_promise(&session->regions, device);

	return slabs_books(device->slabs).promised - (own ? promise_outstanding(own) : 0);
}

/* Out of memory: of the device of the first range, which for nearly all requests is the
 * only one. */
static void serve_region_refuse_for_space(struct request *request)
{
	const struct hbm_wire_ranges *ranges = (const void *)request->message;
	const struct session *session = request->session;
	const struct region *region = region_find(&session->regions, ranges->ranges[0].region);
	if (!region) {
		request_refuse(request, HBM_NO_SPACE, "not enough free memory");
		return;
	}

	struct device *device = region_device(region);
	struct slabs_books books = slabs_books(device->slabs);
	uint64_t available = books.ready + books.uncreated + books.retiring;
	uint64_t promised = serve_region_promised_to_others(request->session, device);
	uint64_t held = ledger_used(&session->payer, LEDGER_HELD);
	char name[HBM_WIRE_NAME_BYTES], others[48] = "", text[96] = "";

	if (promised > 0)
		snprintf(others, sizeof(others), ", %llu reserved by others",
			 (unsigned long long)promised);
	if (books.held > 0)
		snprintf(text, sizeof(text),
			 "; %llu given back are still held, %llu of them by this session",
			 (unsigned long long)books.held,
			 (unsigned long long)(held < books.held ? held : books.held));
	if (device->index == HBM_WIRE_DEVICE_HOST)
		snprintf(name, sizeof(name), "%s", device->name);
	else
		snprintf(name, sizeof(name), "device %u", device->index);
	request_refuse(request, HBM_NO_SPACE, "%s: %llu of %llu bytes for regions are free%s%s",
		       name, (unsigned long long)available, (unsigned long long)books.budget,
		       others, text);
}

/* Memory that a COMMIT asks for. */
static uint64_t serve_region_wanted(const struct request *request)
{
	const struct hbm_wire_ranges *ranges = (const void *)request->message;
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < ranges->count; i++)
		if (!checked_add(bytes, ranges->ranges[i].bytes, &bytes))
			return UINT64_MAX;

	return bytes;
}

/* What its memory is charged as: of a COMMIT of several devices, that of the first. */
static enum ledger_resource serve_region_resource(const struct request *request)
{
	const struct hbm_wire_ranges *ranges = (const void *)request->message;
	const struct region *region =
		region_find(&request->session->regions, ranges->ranges[0].region);

	return region && region_device(region)->index == HBM_WIRE_DEVICE_HOST ? LEDGER_HOST_MEMORY
									      : LEDGER_MEMORY;
}

/* Whether its tenant may not have as much of a device: then it is refused for that. */
static bool serve_region_refuse_for_device(struct request *request)
{
	const struct hbm_wire_ranges *ranges = (const void *)request->message;
	struct regions *regions = &request->session->regions;

	list_for_each (node, &regions->promises) {
		const struct promise *promise = container_of(node, struct promise, by_session);
		uint64_t bytes = 0;

		for (uint32_t i = 0; i < ranges->count; i++) {
			const struct region *region =
				region_find(regions, ranges->ranges[i].region);
			if (region && region_device(region)->index == promise->device &&
			    !checked_add(bytes, ranges->ranges[i].bytes, &bytes))
				bytes = UINT64_MAX;
		}

		uint64_t growth = promise_growth(promise, promise->reserved, bytes);
		if (promise_has_room(promise, growth))
			continue;

		request_refuse_limit_of(request, promise->tenant, LEDGER_DEVICE_MEMORY, growth);
		return true;
	}

	return false;
}

/* The reasons of COMMIT and DECOMMIT. */
static void serve_region_refuse_ranges(struct request *request, int status)
{
	if (status == HBM_NO_SPACE) {
		serve_region_refuse_for_space(request);
		return;
	}

	if (status == HBM_UNSUPPORTED) {
		request_refuse(request, status,
			       "a range is of a guest region, whose memory is its client's");
		return;
	}

	if (status == HBM_LIMIT &&
	    !ledger_has_tenant_room(&request->session->payer, LEDGER_HELD, 1)) {
		request_refuse_limit(request, LEDGER_HELD, 1);
		return;
	}

	if (status == HBM_LIMIT && serve_region_refuse_for_device(request))
		return;

	uint64_t wanted = serve_region_wanted(request);
	enum ledger_resource memory = serve_region_resource(request);
	if (status == HBM_LIMIT &&
	    !ledger_has_room(&request->session->user->payer, memory, wanted)) {
		request_refuse_limit(request, memory, wanted);
		return;
	}

	const char *why = status == HBM_NOT_FOUND ? "a range names no region, or is not committed"
			  : status == HBM_INVALID ? "a range is misaligned, outside its region, or "
						    "named twice; or only some are "
						    "of attached regions"
			  : status == HBM_EXISTS
				  ? "part of a range is already committed or being committed"
			  : status == HBM_DEVICE ? "a device call failed; see the daemon's log"
						 : "the daemon has no file descriptors left";
	request_refuse(request, status, "%s", why);
}

/* A commit and its reply, complete except for the fds. */
struct commit_reply {
	struct request *request;
	struct commit *commit;
	struct list messages;
};

static void serve_region_free_reply(struct commit_reply *reply)
{
	for (struct list *node; (node = list_pop_front(&reply->messages));)
		out_message_release(container_of(node, struct out_message, link));
	commit_free(reply->commit);
	free(reply);
}

static bool serve_region_make_messages(struct commit_reply *reply)
{
	uint64_t left = commit_slabs(reply->commit);
	while (left > 0) {
		size_t count = left < HBM_WIRE_FDS_MAX ? (size_t)left : HBM_WIRE_FDS_MAX;
		size_t size =
			sizeof(struct hbm_wire_ranges) + count * sizeof(struct hbm_wire_range);
		struct out_message *message = out_message_new(size, count);
		if (!message)
			return false;

		list_push_back(&reply->messages, &message->link);
		request_charge(reply->request, size + count * sizeof(int));
		left -= count;
	}

	return true;
}

static void serve_region_fill_message(struct commit_reply *reply, struct out_message *message)
{
	struct hbm_wire_ranges *ranges = (void *)message->bytes;
	ranges->count = (uint32_t)message->fd_count;
	ranges->zero = 0;
	for (uint32_t i = 0; i < ranges->count; i++)
		message->fds[i] = commit_next(reply->commit, &ranges->ranges[i]);
}

static void serve_region_committed(void *arg, int status)
{
	struct commit_reply *reply = arg;
	struct request *request = reply->request;
	if (status == HBM_OK) {
		list_for_each (node, &reply->messages)
			serve_region_fill_message(reply,
						  container_of(node, struct out_message, link));
		request_reply_messages(request, &reply->messages);
	} else {
		serve_region_refuse_ranges(request, status);
	}

	serve_region_free_reply(reply);
}

static int serve_region_start_commit(struct request *request)
{
	const struct hbm_wire_ranges *ranges = (const void *)request->message;
	struct commit_reply *reply = calloc(1, sizeof(*reply));
	if (!reply)
		return HBM_NO_SPACE;

	reply->request = request;
	list_init(&reply->messages);
	int status = commit_new(&reply->commit, &request->session->regions, ranges->ranges,
				ranges->count);
	if (status == HBM_OK)
		status = request_charge_descriptors(request, commit_slabs(reply->commit));
	if (status == HBM_OK && !serve_region_make_messages(reply))
		status = HBM_NO_SPACE;

	if (status != HBM_OK) {
		serve_region_free_reply(reply);
		return status;
	}

	request_charge(request, sizeof(*reply) + commit_bytes(reply->commit));
	commit_start(reply->commit, serve_region_committed, reply);

	return HBM_OK;
}

/* The slabs that a request asks for. */
static uint64_t serve_region_count_slabs(const struct request *request)
{
	const struct hbm_wire_ranges *ranges = (const void *)request->message;
	uint64_t slabs = 0;

	for (uint32_t i = 0; i < ranges->count; i++) {
		const struct region *region =
			region_find(&request->session->regions, ranges->ranges[i].region);
		slabs += region ? ranges->ranges[i].bytes / region_slab(region) : 0;
	}

	return slabs;
}

void serve_commit(struct hbmd *hbmd, struct request *request)
{
	(void)hbmd;
	uint64_t slabs = serve_region_count_slabs(request);
	int status = serve_region_start_commit(request);
	if (status == HBM_LIMIT)
		request_refuse_limit(
			request,
			ledger_has_room(&request->session->payer, LEDGER_COMMIT_SLABS, slabs)
				? LEDGER_DESCRIPTORS
				: LEDGER_COMMIT_SLABS,
			slabs);
	else if (status != HBM_OK)
		serve_region_refuse_ranges(request, status);
}

/* ---- DECOMMIT ---- */

static void serve_region_decommitted(void *arg, int status)
{
	request_reply(arg, status, NULL, 0);
}

void serve_decommit(struct hbmd *hbmd, struct request *request)
{
	(void)hbmd;
	const struct hbm_wire_ranges *ranges = (const void *)request->message;

	request_charge(request, decommit_bytes(ranges->count)); /* it may end within */
	int status = decommit_start(&request->session->regions, ranges->ranges, ranges->count,
				    serve_region_decommitted, request);
	if (status != HBM_OK)
		serve_region_refuse_ranges(request, status);
}
