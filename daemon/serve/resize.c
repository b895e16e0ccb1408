/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/serve/resize.h"

#include "daemon/base/clock.h"
#include "daemon/base/log.h"
#include "daemon/base/log_event.h"
#include "daemon/base/reason.h"
#include "daemon/cache/cache.h"
#include "daemon/loop/loop.h"
#include "daemon/move/pump.h"
#include "daemon/move/vacate.h"
#include "daemon/serve/resize_backing.h"
#include "daemon/session/session.h"
#include "daemon/session/validate.h"
#include "daemon/tier/tier_resize.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define SLICE_NS UINT64_C(200000) /* of evicting what no longer fits */
#define POLL_NS UINT64_C(2000000) /* between two looks whether memory has come */
#define SORTED 1024               /* free ranges in a slice */

enum resize_state { RESIZE_OFF, RESIZE_GROWING, RESIZE_SETTLING, RESIZE_VACATING, RESIZE_GIVING };

/* Of one tier. */
struct resize {
	struct hbmd *hbmd;
	struct tier *tier;
	const struct resize_backing *backing;
	enum resize_state state;
	uint64_t from, to; /* bytes of the tier */
	bool again;        /* the size has changed while memory came or went */
	bool stopped;
	int status; /* how it will end */
	char why[256];
	uint64_t begun_ns;
	void (*done)(void *arg, int status, const char *why);
	void *arg;
	struct cache_touch touch;
	struct background settle;
	struct vacate vacate;
	struct timer poll;
};

struct resizes {
	struct resize list[TIER_NUMBERS];
	uint32_t count; /* of tiers when it was opened */
};

static void resize_go(struct resize *resize);

/* What a tier of so many bytes has of extents. */
static uint64_t resize_extents(const struct tier *tier, uint64_t bytes)
{
	return tier->headroom + bytes + tier->copies_max;
}

/* ---- the end ---- */

/* It fails, and gets its old size back; the second time, what there is. */
__attribute__((format(printf, 3, 4))) static void resize_undo(struct resize *resize, int status,
							      const char *format, ...)
{
	uint64_t beside = resize_extents(resize->tier, 0), have = tier_in_service(resize->tier);
	va_list args;

	if (resize->status == HBM_OK)
		resize->to = resize->from;
	else
		resize->to = have > beside ? have - beside : EXTENT_UNIT;

	resize->status = status;
	va_start(args, format);
	vsnprintf(resize->why, sizeof(resize->why), format, args);
	va_end(args);
}

static void resize_answer(struct resize *resize, int status, const char *why)
{
	void (*done)(void *arg, int status, const char *why) = resize->done;

	resize->done = NULL;
	if (done)
		done(resize->arg, status, why);
}

/* A client's is a message of its own; one that no client waits for is one of many steps. */
static void resize_log(const struct resize *resize)
{
	const struct tier *tier = resize->tier;
	const char *name = tier_name(tier->kind);
	unsigned long long from = resize->from >> 20, to = tier->capacity >> 20;
	double s = (double)(clock_now() - resize->begun_ns) / 1e9;
	char fields[64];

	snprintf(fields, sizeof(fields), "HBMD_TIER=%s", name);
	if (resize->status != HBM_OK)
		log_warning("%s; the tier has %llu MiB%s", resize->why, to,
			    tier->capacity == resize->from ? " again" : "");
	else if (resize->done)
		log_event(LOG_EVENT_RESIZED, LOG_NOTICE, fields,
			  "%s: resized from %llu to %llu MiB in %.1f s", name, from, to, s);
	else
		log_info("%s: resized from %llu to %llu MiB in %.1f s", name, from, to, s);
}

static void resize_end(struct resize *resize)
{
	resize->state = RESIZE_OFF;
	resize_log(resize);
	resize_answer(resize, resize->status, resize->why);
}

/* ---- the steps ---- */

static bool resize_is_late(const struct resize *resize)
{
	return resize->backing->is_late && resize->backing->is_late(resize->hbmd);
}

/* The tier keeps its new size, because what has been given up may go at any moment. */
static void resize_given_back(void *arg)
{
	struct resize *resize = arg;

	if (resize->stopped)
		return;
	if (resize->again) {
		resize_go(resize);
		return;
	}

	if (resize->status == HBM_OK && resize_is_late(resize)) {
		resize->status = HBM_IO;
		snprintf(resize->why, sizeof(resize->why),
			 "%s: the disk does not answer: the tier has the new size, and what is "
			 "behind "
			 "it not yet",
			 tier_name(resize->tier->kind));
	}
	resize_end(resize);
}

static void resize_give_up(struct resize *resize, enum vacate_end end)
{
	const struct tier *tier = resize->tier;
	const char *name = tier_name(tier->kind);
	unsigned long long bytes = resize_leaving(tier);

	switch (end) {
	case VACATE_AWAY:
	case VACATE_PINNED:
		resize_undo(resize, HBM_NO_SPACE,
			    "%s: %llu bytes in the part that is to go are of pinned blocks that "
			    "fit nowhere else: unpin some",
			    name, bytes);
		break;
	case VACATE_FAILED:
		resize_undo(resize, HBM_IO,
			    "%s: %llu bytes in the part that is to go have failed, and are out of "
			    "service until hbmd restarts",
			    name, bytes);
		break;
	case VACATE_LOST:
		resize_undo(resize, HBM_IO, "%s: it does not answer", name);
		break;
	case VACATE_UNRECORDED:
		resize_undo(resize, HBM_IO,
			    "%s: where blocks have moved to cannot be written to the catalog; see "
			    "the log",
			    name);
		break;
	}
}

static void resize_vacated(struct vacate *vacate)
{
	struct resize *resize = container_of(vacate, struct resize, vacate);

	if (vacate->end != VACATE_AWAY) {
		resize_give_up(resize, vacate->end);
		resize_go(resize);
		return;
	}

	resize->state = RESIZE_GIVING;
	resize->backing->give_back(resize->hbmd, resize->tier, resize_given_back, resize);
}

/* Sorts what is retired or is no longer, and evicts what does not fit. */
static bool resize_settle_some(struct background *background)
{
	struct resize *resize = container_of(background, struct resize, settle);
	struct cache *cache = resize->hbmd->cache;
	struct slice slice = {.until_ns = clock_now() + SLICE_NS};
	bool more = tier_sort_some(resize->tier, SORTED) ||
		    !cache_settle_touch(cache, &resize->touch, &slice);

	if (!more)
		cache_touch_end(cache);
	pump_run(resize->hbmd->mover);
	if (more)
		return true;

	resize->state = RESIZE_VACATING;
	vacate_begin(&resize->vacate, resize->hbmd->mover, resize->tier, resize_vacated);

	return false;
}

static void resize_settle(struct resize *resize)
{
	resize->state = RESIZE_SETTLING;
	cache_touch_begin(resize->hbmd->cache, &resize->touch);
	resize->touch.moved = true;
	tier_set_usable(resize->tier);
	loop_background(resize->hbmd->loop, &resize->settle);
}

static void resize_poll(struct timer *timer)
{
	struct resize *resize = container_of(timer, struct resize, poll);
	struct tier *tier = resize->tier;

	(void)tier_sort_some(tier, SORTED);
	if (!resize->backing->is_settled(resize->hbmd, tier)) {
		loop_timer_set(resize->hbmd->loop, &resize->poll, clock_now() + POLL_NS);
		return;
	}

	if (resize->again) {
		resize_go(resize);
		return;
	}

	uint64_t lacking = tier_retire_to(tier, resize_extents(tier, resize->to));
	if (lacking > 0 && resize_is_late(resize))
		resize_undo(resize, HBM_IO, "%s: the disk does not answer", tier_name(tier->kind));
	else if (lacking > 0)
		resize_undo(resize, HBM_NO_SPACE,
			    "%s: cannot allocate %llu bytes more; see the log",
			    tier_name(tier->kind), (unsigned long long)lacking);
	if (lacking > 0) {
		(void)tier_retire_to(tier, resize_extents(tier, resize->to));
		tier->capacity = resize->to;
	}

	resize_settle(resize);
}

/* Goes on with the size as it is to be now. */
static void resize_go(struct resize *resize)
{
	struct tier *tier = resize->tier;
	uint64_t lacking = tier_retire_to(tier, resize_extents(tier, resize->to));

	resize->again = false;
	tier->capacity = resize->to;
	if (lacking == 0) {
		resize_settle(resize);
		return;
	}

	/* What has been recalled is in service meanwhile. */
	(void)tier_sort_some(tier, SORTED);
	resize->state = RESIZE_GROWING;
	resize->backing->grow(resize->hbmd, tier, lacking);
	loop_timer_set(resize->hbmd->loop, &resize->poll, clock_now());
}

/* ---- the beginning ---- */

static struct resize *resize_of(const struct hbmd *hbmd, const struct tier *tier)
{
	return &hbmd->resizes->list[tier->number];
}

/* Bytes of extents that it lacks for a size. */
static uint64_t resize_lacks(const struct tier *tier, uint64_t bytes)
{
	uint64_t from, piece, grown = 0;

	for (uint32_t n = 0; extent_piece(tier->extents, n, &from, &piece); n++)
		grown += piece;

	uint64_t needed = resize_extents(tier, bytes);

	return needed > grown ? needed - grown : 0;
}

static int resize_check(const struct resize *resize, uint64_t bytes, const struct reason *why)
{
	struct hbmd *hbmd = resize->hbmd;
	const struct tier *tier = resize->tier;
	const char *name = tier_name(tier->kind);
	uint64_t pinned = cache_pinned(hbmd->cache, tier);

	if (tier->capacity == 0 || !resize->backing)
		return reason_set(why, HBM_UNSUPPORTED, "this daemon has no such tier");
	if (hbmd->state == HBMD_STOPPING || resize->stopped)
		return reason_set(why, HBM_SHUTDOWN, "the daemon is stopping");
	if (resize->state == RESIZE_OFF && !resize->backing->is_settled(hbmd, tier))
		return reason_set(why, HBM_LIMIT,
				  "%s: its memory is still coming into service: "
				  "try again when hbmctl tiers shows it all as usable",
				  name);
	if (tier->lost || tier->silent)
		return reason_set(why, HBM_IO, "%s: it does not answer", name);
	if (bytes < EXTENT_UNIT || bytes > EXTENT_END / 2)
		return reason_set(why, HBM_INVALID, "%llu bytes: expected %u to %llu",
				  (unsigned long long)bytes, EXTENT_UNIT,
				  (unsigned long long)EXTENT_END / 2);
	if (pinned > bytes)
		return reason_set(why, HBM_NO_SPACE,
				  "%s: %llu bytes in it are pinned: unpin some, or leave it more",
				  name, (unsigned long long)pinned);

	return resize->backing->check(hbmd, tier, bytes, resize_lacks(tier, bytes), why);
}

/* Another size while one is on: at once, or when memory has come or gone. */
static void resize_replace(struct resize *resize)
{
	switch (resize->state) {
	case RESIZE_SETTLING:
		loop_background_stop(&resize->settle);
		cache_touch_end(resize->hbmd->cache);
		resize_go(resize);
		break;
	case RESIZE_VACATING:
		vacate_stop(&resize->vacate);
		resize_go(resize);
		break;
	case RESIZE_OFF:
		resize_go(resize);
		break;
	case RESIZE_GROWING:
	case RESIZE_GIVING:
		resize->again = true;
		break;
	}
}

int resize_begin(struct hbmd *hbmd, struct tier *tier, uint64_t bytes,
		 void (*done)(void *arg, int status, const char *why), void *arg,
		 const struct reason *why)
{
	struct resize *resize = resize_of(hbmd, tier);

	bytes = bytes / EXTENT_UNIT * EXTENT_UNIT;
	int status = resize_check(resize, bytes, why);
	if (status != HBM_OK)
		return status;

	resize_answer(resize, HBM_CANCELLED, "another resize of the tier has taken its place");
	if (resize->state == RESIZE_OFF)
		resize->from = tier->capacity;
	resize->to = bytes;
	resize->status = HBM_OK;
	resize->why[0] = '\0';
	resize->begun_ns = clock_now();
	resize->done = done;
	resize->arg = arg;
	resize_replace(resize);

	return HBM_OK;
}

bool resize_is_on(const struct hbmd *hbmd, const struct tier *tier)
{
	return hbmd->resizes && resize_of(hbmd, tier)->state != RESIZE_OFF;
}

bool resize_was_undone(const struct hbmd *hbmd, const struct tier *tier)
{
	const struct resize *resize = resize_of(hbmd, tier);

	return resize->state == RESIZE_OFF && resize->status != HBM_OK;
}

uint64_t resize_leaving(const struct tier *tier)
{
	return extent_retiring(tier->extents);
}

/* ---- opening and closing ---- */

int resizes_open(struct hbmd *hbmd)
{
	struct cache *cache = hbmd->cache;
	struct resizes *resizes = calloc(1, sizeof(*resizes));
	if (!resizes)
		return -ENOMEM;

	resizes->count = cache->tier_count;
	for (uint32_t i = 1; i <= resizes->count; i++)
		resizes->list[i] = (struct resize){.hbmd = hbmd,
						   .tier = &cache->tiers[i],
						   .backing = resize_backing_of(&cache->tiers[i]),
						   .settle.run = resize_settle_some,
						   .poll.fire = resize_poll};
	hbmd->resizes = resizes;

	return 0;
}

static void resize_stop(struct resize *resize)
{
	struct hbmd *hbmd = resize->hbmd;
	if (resize->stopped)
		return;

	resize->stopped = true;
	if (resize->state == RESIZE_SETTLING)
		cache_touch_end(hbmd->cache);
	resize->state = RESIZE_OFF;
	loop_background_stop(&resize->settle);
	loop_timer_stop(hbmd->loop, &resize->poll);
	vacate_stop(&resize->vacate);
	resize_answer(resize, HBM_SHUTDOWN, "the daemon is stopping");
}

void resizes_stop(struct hbmd *hbmd)
{
	for (uint32_t i = 1; hbmd->resizes && i <= hbmd->resizes->count; i++)
		resize_stop(&hbmd->resizes->list[i]);
}

void resizes_close(struct hbmd *hbmd)
{
	free(hbmd->resizes);
	hbmd->resizes = NULL;
}

/* ---- RESIZE ---- */

static void resize_reply(void *arg, int status, const char *why)
{
	struct request *request = arg;

	if (status == HBM_OK)
		request_reply(request, HBM_OK, NULL, 0);
	else
		request_refuse(request, status, "%s", why);
}

void serve_resize(struct hbmd *hbmd, struct request *request)
{
	const struct hbm_wire_resize *message = (const void *)request->message;
	struct tier *tier = cache_tier(hbmd->cache, message->tier, message->device);
	struct refusal refusal;
	const struct reason why = refusal_reason(&refusal);

	if (!session_is_operator(request->session)) {
		request_refuse(request, HBM_DENIED, "only uid 0 and the daemon's uid resize tiers");
		return;
	}
	if (!tier) {
		request_refuse(request, HBM_INVALID, "device %u: there are %u", message->device,
			       hbmd->devices->count);
		return;
	}

	int status = resize_begin(hbmd, tier, message->bytes, resize_reply, request, &why);
	if (status != HBM_OK)
		request_refuse(request, status, "%s", refusal.reason);
}
