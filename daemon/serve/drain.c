/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/serve/drain.h"

#include "daemon/base/clock.h"
#include "daemon/base/log.h"
#include "daemon/cache/cache.h"
#include "daemon/catalog/catalog.h"
#include "daemon/device/device.h"
#include "daemon/ledger/ledger.h"
#include "daemon/loop/loop.h"
#include "daemon/move/mover.h"
#include "daemon/move/pump.h"
#include "daemon/region/lend.h"
#include "daemon/region/reservations.h"
#include "daemon/region/slab.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define TICK_NS UINT64_C(50000000)
#define SLICE_BLOCKS 64u /* evicted in one go */
#define MS UINT64_C(1000000)
#define LINE HBM_WIRE_REASON_BYTES

struct drain {
	struct hbmd *hbmd;
	struct drain_calls calls;
	struct request *request; /* that waits for the end; NULL: none does any more */
	uint64_t deadline_ns;    /* 0: none */
	struct timer tick;
	struct background eviction;
};

/* What is still there. */
struct drain_left {
	uint64_t leased, sessions, loans, blocks, bytes;
	const struct session *largest; /* of those that have some */
	uint64_t largest_bytes;
	bool moving, silent, unrecorded;
};

/* ---- what is left ---- */

static bool drain_can_park(const struct cache *cache)
{
	return cache->nvme->usable > 0 && !cache->nvme->lost;
}

static void drain_count_session(const struct session *session, struct drain_left *left)
{
	struct hbm_wire_session record;

	session_record(session, &record);
	uint64_t bytes = record.leased;

	left->sessions += bytes > 0;
	if (bytes <= left->largest_bytes)
		return;

	left->largest = session;
	left->largest_bytes = bytes;
}

/* Copies for lending that are idle are not counted. */
static void drain_count_memory(const struct hbmd *hbmd, struct drain_left *left)
{
	const struct device *device;

	for (uint32_t i = 0; (device = devices_nth(hbmd->devices, i)); i++)
		left->leased +=
			slabs_books(device->slabs).leased - (device->lend ? device->lend->own : 0);
	left->loans = ledger_used(&hbmd->ledger->host, LEDGER_LOANS);
	list_for_each (node, server_sessions(hbmd->server))
		drain_count_session(container_of(node, struct session, link), left);
}

static void drain_count_blocks(const struct cache *cache, struct drain_left *left)
{
	for (uint32_t i = 1; drain_can_park(cache) && i <= cache->tier_count; i++) {
		const struct tier *tier = &cache->tiers[i];

		if (tier == cache->nvme || tier->lost)
			continue;
		left->blocks += tier->blocks;
		left->bytes += tier->bytes;
	}
	left->silent = drain_can_park(cache) && cache->nvme->silent;
	left->moving |= cache->nvme->inbound_first != 0;
}

static struct drain_left drain_left(const struct hbmd *hbmd)
{
	struct drain_left left = {.moving = !mover_is_idle(hbmd->mover)};

	drain_count_memory(hbmd, &left);
	drain_count_blocks(hbmd->cache, &left);
	left.unrecorded = hbmd->catalog && catalog_figures(hbmd->catalog).failing;

	return left;
}

static bool drain_is_done(const struct drain_left *left)
{
	return left->leased == 0 && left->loans == 0 && left->blocks == 0 && !left->moving &&
	       !left->silent && !left->unrecorded;
}

__attribute__((format(printf, 3, 4))) static int drain_add(char *line, int at, const char *format,
							   ...)
{
	va_list arguments;
	if (at >= LINE)
		return at;

	va_start(arguments, format);
	int n = vsnprintf(line + at, (size_t)(LINE - at), format, arguments);
	va_end(arguments);

	return at + n;
}

static void drain_describe(const struct drain_left *left, char line[LINE])
{
	int at = drain_add(line, 0, "%" PRIu64 " MiB are leased by %" PRIu64 " sessions",
			   left->leased >> 20, left->sessions);

	if (left->largest)
		at = drain_add(line, at,
			       " (most by session %" PRIu64 ", pid %d, %s: %" PRIu64 " MiB)",
			       left->largest->id, (int)left->largest->pid, left->largest->name,
			       left->largest_bytes >> 20);
	if (left->loans > 0)
		at = drain_add(line, at, ", %" PRIu64 " loans", left->loans);
	at = drain_add(line, at, ", %" PRIu64 " blocks of %" PRIu64 " MiB are in memory",
		       left->blocks, left->bytes >> 20);
	if (left->silent)
		at = drain_add(line, at, ", NVMe does not answer");
	if (left->unrecorded)
		drain_add(line, at, ", the catalog cannot be written");
}

/* ---- its end ---- */

static void drain_answer(struct drain *drain, int status, const char *reason)
{
	struct request *request = drain->request;
	if (!request)
		return;

	drain->request = NULL;
	if (status == HBM_OK)
		request_reply(request, HBM_OK, NULL, 0);
	else
		request_refuse(request, status, "%s", reason);
}

/* Nothing of it goes on, and who waits is told. */
static void drain_end(struct drain *drain, int status, const char *reason)
{
	loop_timer_stop(drain->hbmd->loop, &drain->tick);
	loop_background_stop(&drain->eviction);
	drain->hbmd->draining = false;
	drain_answer(drain, status, reason);
}

static void drain_give_up(struct drain *drain, int status, const char *why)
{
	log_notice("drain: %s; serving as before", why);
	drain_end(drain, status, why);
	drain->calls.changed(drain->calls.arg, NULL);
}

/* ---- its course ---- */

/* From the top down: what leaves one tier leaves the next one in a later slice. */
static bool drain_evict(struct background *eviction)
{
	struct drain *drain = container_of(eviction, struct drain, eviction);
	struct cache *cache = drain->hbmd->cache;
	bool more = false;

	for (uint32_t i = 1; !more && i <= cache->tier_count; i++) {
		struct tier *tier = &cache->tiers[i];

		if (tier != cache->nvme && !tier->lost && tier->blocks > 0)
			more = cache_push_out(cache, tier, UINT64_MAX, SLICE_BLOCKS).blocks > 0;
	}
	if (more)
		pump_run(drain->hbmd->mover);

	return more;
}

static bool drain_is_abandoned(const struct drain *drain)
{
	return drain->request && drain->request->session->state >= SESSION_CLOSING;
}

static void drain_look(struct drain *drain)
{
	struct hbmd *hbmd = drain->hbmd;
	struct drain_left left = drain_left(hbmd);
	char line[LINE];

	drain_describe(&left, line);
	if (drain_is_done(&left)) {
		log_notice("drain: nothing is left");
		drain_answer(drain, HBM_OK, NULL);
		loop_background_stop(&drain->eviction);
		drain->calls.drained(drain->calls.arg);
	} else if (drain->deadline_ns != 0 && clock_now() >= drain->deadline_ns) {
		drain_give_up(drain, HBM_TIMEOUT, line);
	} else {
		if (left.blocks > 0 && !left.silent)
			loop_background(hbmd->loop, &drain->eviction);
		drain->calls.changed(drain->calls.arg, line);
		loop_timer_set(hbmd->loop, &drain->tick, clock_now() + TICK_NS);
	}
}

static void drain_fire(struct timer *timer)
{
	struct drain *drain = container_of(timer, struct drain, tick);

	if (drain_is_abandoned(drain))
		drain_answer(drain, HBM_SHUTDOWN, "the session has ended");
	drain_look(drain);
}

static void drain_begin(struct drain *drain, struct request *request)
{
	const struct hbm_wire_drain *message = (const void *)request->message;
	uint64_t now = clock_now(), most = (UINT64_MAX - now) / MS;
	uint64_t timeout_ms = message->timeout_ms < most ? message->timeout_ms : most;

	drain->request = request;
	drain->deadline_ns = timeout_ms > 0 ? now + timeout_ms * MS : 0;
	drain->hbmd->draining = true;
	reservations_end_waiting(drain->hbmd->reservations, HBM_DRAINING);
	log_notice("drain: session %" PRIu64 " has asked for it: no more memory is granted",
		   request->session->id);
	loop_timer_set(drain->hbmd->loop, &drain->tick, now);
}

static void drain_cancel(struct drain *drain, struct request *request)
{
	if (!drain->hbmd->draining) {
		request_refuse(request, HBM_NOT_FOUND, "no drain goes on");
		return;
	}

	drain_give_up(drain, HBM_CANCELLED, "cancelled by an operator");
	request_reply(request, HBM_OK, NULL, 0);
}

void serve_drain(struct hbmd *hbmd, struct request *request)
{
	const struct hbm_wire_drain *message = (const void *)request->message;

	if (!session_is_operator(request->session))
		request_refuse(request, HBM_DENIED, "only uid 0 and the daemon's uid drain it");
	else if (hbmd->state == HBMD_STOPPING)
		request_refuse(request, HBM_SHUTDOWN, "the daemon is stopping");
	else if (message->flags & HBM_WIRE_DRAIN_CANCEL)
		drain_cancel(hbmd->drain, request);
	else if (hbmd->draining)
		request_refuse(request, HBM_EXISTS, "a drain goes on already");
	else
		drain_begin(hbmd->drain, request);
}

/* ---- what is not granted ---- */

/* Of a RESERVE: what gives back is granted. */
static bool drain_is_for_more(const struct request *request)
{
	const struct hbm_wire_reserve *message = (const void *)request->message;

	for (uint32_t i = 0; i < message->count; i++)
		if (message->changes[i].bytes > 0)
			return true;

	return false;
}

static bool drain_is_a_grant(const struct request *request)
{
	switch (request->message->opcode) {
	case HBM_WIRE_REGION_CREATE:
	case HBM_WIRE_REGION_IMPORT:
	case HBM_WIRE_COMMIT:
	case HBM_WIRE_SHARE:
	case HBM_WIRE_BORROW:
	case HBM_WIRE_PUBLISH:
	case HBM_WIRE_ATTACH:
		return true;
	case HBM_WIRE_RESERVE:
		return drain_is_for_more(request);
	default:
		return false;
	}
}

bool drain_refuses(struct hbmd *hbmd, struct request *request)
{
	if (!hbmd->draining || !drain_is_a_grant(request))
		return false;

	request_refuse(request, HBM_DRAINING, "%s", DRAIN_REFUSAL);

	return true;
}

/* ---- opening ---- */

int drain_open(struct hbmd *hbmd, const struct drain_calls *calls)
{
	struct drain *drain = calloc(1, sizeof(*drain));
	if (!drain)
		return -ENOMEM;

	*drain = (struct drain){.hbmd = hbmd,
				.calls = *calls,
				.tick.fire = drain_fire,
				.eviction.run = drain_evict};
	hbmd->drain = drain;

	return 0;
}

void drain_stop(struct hbmd *hbmd)
{
	drain_end(hbmd->drain, HBM_SHUTDOWN, "the daemon is stopping");
}

void drain_close(struct hbmd *hbmd)
{
	if (hbmd->drain && hbmd->loop) {
		loop_timer_stop(hbmd->loop, &hbmd->drain->tick);
		loop_background_stop(&hbmd->drain->eviction);
	}
	free(hbmd->drain);
	hbmd->drain = NULL;
}
