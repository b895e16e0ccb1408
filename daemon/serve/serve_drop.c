/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serve_drop: NAMESPACE_DROP. All blocks of a namespace leave the index, in slices
 * between turns of the loop. To every client it is one moment, the one when the
 * request arrives: from then on until the reply the namespace is taken for empty, and no
 * block is stored to it, so that none can be dropped that was stored after the reply.
 *
 * 	        NAMESPACE_DROP                  no block left                  no pin left
 * 	(none) ----------------> blocks are dropped ----------> pins are forgotten ----------> reply
 *
 * Blocks that a transfer reads or writes give their place back when it ends; no lookup finds
 * them by then. Another NAMESPACE_DROP of the same namespace waits for the same end.
 *
 * Pins: a session's own never stand in the way. Those of other sessions and of operators
 * do, unless HBM_WIRE_PINNED takes them along. They are forgotten a session at a time.
 */
#include "daemon/serve/serve_drop.h"

#include "daemon/cache/cache.h"
#include "daemon/loop/loop.h"
#include "daemon/move/pump.h"
#include "daemon/serve/pins.h"
#include "daemon/serve/serve_keys.h"
#include "daemon/serve/serve_namespace.h"

#include <stdlib.h>

#define DROP_STEP 64 /* entries of the index in a slice */

struct namespace_drop {
	struct background background;
	struct hbmd *hbmd;
	struct list requests; /* that wait for its end */
	serve_dropped *ended; /* or NULL */
	struct cache_drop walk;
	bool pinned;      /* some of the blocks are */
	uint64_t session; /* pins of sessions up to this id have been forgotten */
};

/* The session with the lowest id above that one, or NULL. */
static struct session *serve_drop_session_after(struct hbmd *hbmd, uint64_t id)
{
	struct session *found = NULL;
	list_for_each (node, server_sessions(hbmd->server)) {
		struct session *session = container_of(node, struct session, link);
		if (session->id > id && (!found || session->id < found->id))
			found = session;
	}

	return found;
}

/* False when there is no session left to look at. */
static bool serve_drop_forget_pins(struct namespace_drop *drop)
{
	struct cache *cache = drop->hbmd->cache;
	if (!drop->pinned)
		return false;

	if (drop->session == 0)
		pins_forget_lost(cache, &cache->kept_pins);

	struct session *session = serve_drop_session_after(drop->hbmd, drop->session);
	if (!session)
		return false;

	pins_forget_lost(cache, &session->pins);
	drop->session = session->id;

	return true;
}

static void serve_drop_end(struct namespace_drop *drop)
{
	struct hbmd *hbmd = drop->hbmd;
	struct namespaces *namespaces = hbmd->cache->namespaces;
	uint16_t number = drop->walk.ns;
	serve_dropped *ended = drop->ended;

	namespaces_get(namespaces, number)->drop = NULL;
	namespaces_unref(namespaces, number);

	for (struct list *node; (node = list_pop_front(&drop->requests));)
		serve_keys_reply_amount(container_of(node, struct request, link),
					&drop->walk.dropped);

	free(drop);
	if (ended)
		ended(hbmd, number);
}

static bool serve_drop_some(struct background *background)
{
	struct namespace_drop *drop = container_of(background, struct namespace_drop, background);
	struct hbmd *hbmd = drop->hbmd;
	const struct namespace *ns = namespaces_get(hbmd->cache->namespaces, drop->walk.ns);
	bool more = (namespace_blocks(ns) > 0 &&
		     cache_drop_some(hbmd->cache, &drop->walk, DROP_STEP)) ||
		    serve_drop_forget_pins(drop);

	pump_run(hbmd->mover);

	if (!more)
		serve_drop_end(drop);

	return more;
}

/* A drop of a namespace, which it keeps; NULL: out of memory. */
static struct namespace_drop *serve_drop_new(struct hbmd *hbmd, uint16_t number)
{
	struct namespace *ns = namespaces_get(hbmd->cache->namespaces, number);
	struct namespace_drop *drop = calloc(1, sizeof(*drop));
	if (!drop)
		return NULL;

	*drop = (struct namespace_drop){.background = {.run = serve_drop_some},
					.hbmd = hbmd,
					.walk = {.ns = number},
					.pinned = ns->pins > 0};
	list_init(&drop->requests);
	ns->drop = drop;
	namespaces_ref(hbmd->cache->namespaces, number);

	return drop;
}

bool serve_drop_begin(struct hbmd *hbmd, uint16_t number, serve_dropped *ended)
{
	struct namespace_drop *drop = serve_drop_new(hbmd, number);
	if (!drop)
		return false;

	drop->ended = ended;
	loop_background(hbmd->loop, &drop->background);

	return true;
}

/* Pins of blocks of the namespace that are not the session's. */
static uint64_t serve_drop_pins_of_others(struct hbmd *hbmd, const struct session *session,
					  uint16_t number)
{
	uint64_t pins = namespaces_get(hbmd->cache->namespaces, number)->pins;
	return pins - pins_count_in(hbmd->cache, &session->pins, number);
}

/* Whether the request may drop it; otherwise it has been refused. */
static bool serve_drop_may(struct hbmd *hbmd, struct request *request,
			   const struct hbm_wire_namespace_drop *message)
{
	bool pinned = message->flags == HBM_WIRE_PINNED;
	uint64_t pins = 0;

	if (!session_has_namespace(request->session, message->ns))
		request_refuse(request, HBM_NOT_FOUND, "namespace %u is not open in this session",
			       message->ns);
	else if (pinned && !session_is_operator(request->session))
		request_refuse(request, HBM_DENIED,
			       "only uid 0 and the daemon's uid drop what others have pinned");
	else if (!pinned && (pins = serve_drop_pins_of_others(hbmd, request->session,
							      (uint16_t)message->ns)) > 0)
		request_refuse(request, HBM_DENIED, "others have %llu pins in namespace %u",
			       (unsigned long long)pins, message->ns);
	else
		return true;

	return false;
}

void serve_namespace_drop(struct hbmd *hbmd, struct request *request)
{
	const struct hbm_wire_namespace_drop *message =
		(const struct hbm_wire_namespace_drop *)request->message;
	if (!serve_drop_may(hbmd, request, message))
		return;

	struct namespace_drop *drop = namespaces_get(hbmd->cache->namespaces, message->ns)->drop;
	bool joined = drop != NULL;
	if (!joined)
		drop = serve_drop_new(hbmd, (uint16_t)message->ns);
	if (!drop) {
		request_refuse(request, HBM_LIMIT, "the daemon is out of memory");
		return;
	}

	list_push_back(&drop->requests, &request->link);
	if (!joined)
		loop_background(hbmd->loop, &drop->background);
}
