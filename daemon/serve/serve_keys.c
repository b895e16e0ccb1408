/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serve_keys: handlers of the requests that are answered from the index alone: LOOKUP, TOUCH,
 * PIN, UNPIN, REMOVE and MOVE, whose work is keys.h's, RETAIN, which is retain.h's, COUNT, WATCH
 * and EVICT; and what becomes of pins at the end of a session.
 */
#include "daemon/serve/serve_keys.h"

#include "daemon/cache/cache.h"
#include "daemon/cache/event_ring.h"
#include "daemon/move/pump.h"
#include "daemon/serve/keys.h"
#include "daemon/serve/pins.h"
#include "daemon/serve/removals.h"
#include "daemon/serve/retain.h"
#include "daemon/serve/serve_namespace.h"
#include "daemon/session/validate.h"
#include "daemon/state/state.h"

#include <stdlib.h>

#define EVICT_STEP 64 /* blocks between two looks at the clock */

void serve_keys(struct hbmd *hbmd, struct request *request)
{
	const struct hbm_wire_keys *message = (const struct hbm_wire_keys *)request->message;
	bool moves = message->header.opcode == HBM_WIRE_MOVE;
	bool pins =
		message->header.opcode == HBM_WIRE_PIN || message->header.opcode == HBM_WIRE_UNPIN;
	struct refusal refusal;
	const struct reason why = refusal_reason(&refusal);

	if (!session_has_namespace(request->session, message->ns))
		request_refuse(request, HBM_NOT_FOUND, "namespace %u is not open in this session",
			       message->ns);
	else if (moves && message->device >= hbmd->devices->count)
		request_refuse(request, HBM_INVALID, "device %u: there are %u", message->device,
			       hbmd->devices->count);
	else if (moves && serve_namespace_check_tier(hbmd, message->ns, message->flags, &why))
		request_refuse(request, HBM_INVALID, "%s", refusal.reason);
	else if (pins && message->flags == HBM_WIRE_KEEP && !session_is_operator(request->session))
		request_refuse(request, HBM_DENIED, "only uid 0 and the daemon's uid keep pins");
	else if (message->header.opcode == HBM_WIRE_RETAIN)
		retain_begin(hbmd, request);
	else if (message->header.opcode != HBM_WIRE_REMOVE ||
		 !removals_wait(hbmd, request, serve_keys))
		keys_begin(hbmd, request);
}

void serve_count(struct hbmd *hbmd, struct request *request)
{
	const struct hbm_wire_count *message = (const struct hbm_wire_count *)request->message;
	struct usage *usage = &hbmd->cache->usage;
	uint32_t number = 0;

	if (!session_has_namespace(request->session, message->ns)) {
		request_refuse(request, HBM_NOT_FOUND, "namespace %u is not open in this session",
			       message->ns);
		return;
	}

	number = cache_find(hbmd->cache, (uint16_t)message->ns, &message->key);
	if (number == 0) {
		request_refuse(request, HBM_NOT_FOUND, "the cache has no such block");
		return;
	}

	if (message->flags & HBM_WIRE_COUNT_ONE)
		usage_add(usage, number);
	struct hbm_wire_counted reply = {.uses = usage_of(usage, number)};

	request_reply(request, HBM_OK, &reply.uses, sizeof(reply) - sizeof(reply.header));
}

/* Begins the events of a namespace, if it has none yet: false, and the request is refused. */
static bool serve_keys_begin_events(const struct hbmd *hbmd, struct namespace *ns,
				    struct request *request)
{
	struct payer *payer = &ns->user->payer;

	if (ns->events)
		return true;
	if (!ledger_check(payer, LEDGER_WATCHED, 1)) {
		char text[HBM_WIRE_REASON_BYTES];

		ledger_reason(payer, LEDGER_WATCHED, 1, text, sizeof(text));
		request_refuse(request, HBM_LIMIT, "%s", text);
		return false;
	}

	ns->events =
		event_ring_new(payer, hbmd->kept ? state_counter(hbmd->kept, STATE_STARTS) : 0);
	if (!ns->events)
		request_refuse(request, HBM_LIMIT, "the daemon is out of memory");

	return ns->events;
}

void serve_watch(struct hbmd *hbmd, struct request *request)
{
	const struct hbm_wire_watch *message = (const struct hbm_wire_watch *)request->message;
	struct namespace *ns = namespaces_get(hbmd->cache->namespaces, message->ns);
	struct hbm_wire_watched reply;

	if (!session_has_namespace(request->session, message->ns)) {
		request_refuse(request, HBM_NOT_FOUND, "namespace %u is not open in this session",
			       message->ns);
		return;
	}
	if (!serve_keys_begin_events(hbmd, ns, request))
		return;

	if (event_ring_read(ns->events, message->after, message->most ? message->most : UINT32_MAX,
			    &reply))
		request_reply(request, HBM_OK, &reply.last, sizeof(reply) - sizeof(reply.header));
	else
		request_refuse(request, HBM_INVALID,
			       "there is no event %llu yet; after 0 they begin",
			       (unsigned long long)message->after);
}

/* ---- the end of a session ---- */

static void serve_keys_end_wait(void *arg, uint32_t number)
{
	struct hbmd *hbmd = arg;

	block_end_wait(&hbmd->cache->blocks, number);
}

/* What it wanted by a deadline moves without one. False: the slice is over. */
static bool serve_keys_forget_deadlines(struct hbmd *hbmd, const struct session *session,
					struct slice *slice)
{
	const uint64_t payer = session->fair_payer.id;

	for (unsigned i = 0; i < TIER_NUMBERS; i++)
		while (due_moves_forget(&hbmd->mover->due[i], payer, serve_keys_end_wait, hbmd))
			if (slice_is_over(slice))
				return false;

	return true;
}

/* The last work of a session that is dead. Those of its requests, which come before it,
 * still use its namespaces and its pins. */
static bool serve_keys_end_session(struct work *work, struct slice *slice)
{
	struct session *session = container_of(work, struct session, last);
	struct hbmd *hbmd = session->last_arg;
	uint32_t *unref = &session->last_unref;
	bool over = false;

	if (!serve_keys_forget_deadlines(hbmd, session, slice))
		return false;

	serve_namespaces_gone(hbmd, session);
	do
		over = !cache_unref_some(hbmd->cache, unref, slice) || slice_is_over(slice);
	while (!over && (*unref = pins_take_first(hbmd->cache, &session->pins)) != 0);

	pump_run(hbmd->mover);

	return !over;
}

void serve_session_gone(struct hbmd *hbmd, struct session *session)
{
	session->last.run = serve_keys_end_session;
	session->last_arg = hbmd;
	session_work(session, &session->last);
}

void serve_close(struct hbmd *hbmd)
{
	uint32_t number;

	while ((number = pins_take_first(hbmd->cache, &hbmd->cache->kept_pins)) != 0)
		cache_unref_branch(hbmd->cache, number);
}

void serve_keys_reply_amount(struct request *request, const struct cache_amount *amount)
{
	struct hbm_wire_amount reply = {.blocks = amount->blocks, .bytes = amount->bytes};
	request_reply(request, HBM_OK, &reply.blocks, sizeof(reply) - sizeof(reply.header));
}

/* ---- evict ---- */

struct eviction {
	struct work work;
	struct hbmd *hbmd;
	struct request *request;
	struct tier *tier;
	uint64_t left;
	struct cache_amount evicted; /* so far */
};

static bool serve_keys_evict(struct work *work, struct slice *slice)
{
	struct eviction *eviction = container_of(work, struct eviction, work);
	struct hbmd *hbmd = eviction->hbmd;
	struct cache_amount gone;

	do {
		gone = cache_push_out(hbmd->cache, eviction->tier, eviction->left, EVICT_STEP);
		eviction->left = gone.bytes < eviction->left ? eviction->left - gone.bytes : 0;
		eviction->evicted.blocks += gone.blocks;
		eviction->evicted.bytes += gone.bytes;
	} while (gone.blocks > 0 && eviction->left > 0 && clock_now() < slice->until_ns);

	pump_run(hbmd->mover);
	if (gone.blocks > 0 && eviction->left > 0)
		return false;

	serve_keys_reply_amount(eviction->request, &eviction->evicted);
	free(eviction);

	return true;
}

void serve_evict(struct hbmd *hbmd, struct request *request)
{
	const struct hbm_wire_evict *message = (const struct hbm_wire_evict *)request->message;
	struct tier *tier = cache_tier(hbmd->cache, message->tier, message->device);
	struct eviction *eviction = NULL;

	if (!session_is_operator(request->session))
		request_refuse(request, HBM_DENIED, "only uid 0 and the daemon's uid evict");
	else if (!tier)
		request_refuse(request, HBM_INVALID, "device %u: there are %u", message->device,
			       hbmd->devices->count);
	else if (tier->capacity == 0)
		request_refuse(request, HBM_UNSUPPORTED, "this daemon has no such tier");
	else if (!(eviction = calloc(1, sizeof(*eviction))))
		request_refuse(request, HBM_LIMIT, "the daemon is out of memory");

	if (!eviction)
		return;

	*eviction = (struct eviction){.work.run = serve_keys_evict,
				      .hbmd = hbmd,
				      .request = request,
				      .tier = tier,
				      .left = message->bytes};
	session_work(request->session, &eviction->work);
}
