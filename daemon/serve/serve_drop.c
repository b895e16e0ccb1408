/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serve_drop: NAMESPACE_DROP. All blocks of a namespace leave the index, in slices
 * between turns of the loop. To every client it is one moment, the one when the
 * drop begins: from then on until the reply the namespace is taken for empty, and no
 * block is stored to it, so that none can be dropped that was stored after the reply.
 *
 * 	       no pins of others                  no block left                  no pin left
 * 	(none) ----------------> blocks are dropped ----------> pins are forgotten ----------> reply
 *
 * Where durable blocks were among them, the reply waits until their records are off the disk.
 *
 * Blocks that a transfer reads or writes give their place back when it ends; no lookup finds
 * them by then. Another NAMESPACE_DROP of the same namespace waits for the same end.
 *
 * Pins: a session's own never stand in the way. Those of other sessions and of operators
 * do, unless HBM_WIRE_PINNED takes them along. How many those are is what the namespace
 * has without the session's own, which are counted first, as a work of the session: it
 * makes none meanwhile, and counts again if blocks with pins have been dropped. Who joins a
 * drop that has begun is not asked. Pins are forgotten a few at a time, the kept ones first
 * and then those of one session after the other, which stays until the walk has passed it.
 */
#include "daemon/serve/serve_drop.h"

#include "daemon/cache/cache.h"
#include "daemon/catalog/catalog.h"
#include "daemon/loop/loop.h"
#include "daemon/move/pump.h"
#include "daemon/serve/pins.h"
#include "daemon/serve/removals.h"
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
	bool pinned; /* some of the blocks are */
	bool forgetting;
	struct session *session; /* whose pins are walked, with a reference; NULL: kept ones */
	struct pin_walk pins;
	struct catalog_barrier forgotten;
};

/* Goes on to the pins of the next session. False: there is none. */
static bool serve_drop_next_session(struct namespace_drop *drop)
{
	const struct list *sessions = server_sessions(drop->hbmd->server);
	struct session *before = drop->session;
	struct list *next = before ? before->link.next : sessions->next;

	drop->session = next == sessions ? NULL : container_of(next, struct session, link);
	if (drop->session) {
		session_ref(drop->session);
		pin_walk_begin(&drop->pins, &drop->session->pins);
	}

	if (before)
		session_unref(before);

	return drop->session != NULL;
}

/* False when no pin is left to look at. */
static bool serve_drop_forget_pins(struct namespace_drop *drop)
{
	struct cache *cache = drop->hbmd->cache;
	if (!drop->pinned)
		return false;

	if (!drop->forgetting)
		pin_walk_begin(&drop->pins, &cache->kept_pins);
	drop->forgetting = true;

	for (unsigned i = 0; i < DROP_STEP; i++)
		if (!pin_walk_forget_lost(&drop->pins, cache) && !serve_drop_next_session(drop))
			return false;

	return true;
}

static void serve_drop_reply(struct request *request, const struct namespace_drop *drop, int status)
{
	if (status == HBM_OK)
		serve_keys_reply_amount(request, &drop->walk.dropped);
	else
		request_refuse(request, status,
			       "namespace %u is empty, but its records could not be taken off the "
			       "disk: a restart may find durable blocks again",
			       drop->walk.ns);
}

static void serve_drop_end(struct namespace_drop *drop, int status)
{
	struct hbmd *hbmd = drop->hbmd;
	struct namespaces *namespaces = hbmd->cache->namespaces;
	uint16_t number = drop->walk.ns;
	serve_dropped *ended = drop->ended;

	namespaces_get(namespaces, number)->drop = NULL;
	namespaces_unref(namespaces, number);

	for (struct list *node; (node = list_pop_front(&drop->requests));)
		serve_drop_reply(container_of(node, struct request, link), drop, status);

	free(drop);
	if (ended)
		ended(hbmd, number);
}

static void serve_drop_forgotten(struct catalog_barrier *barrier)
{
	serve_drop_end(container_of(barrier, struct namespace_drop, forgotten), HBM_OK);
}

static void serve_drop_not_forgotten(struct catalog_barrier *barrier)
{
	serve_drop_end(container_of(barrier, struct namespace_drop, forgotten), HBM_IO);
}

/* A durable block is gone when its record is off the disk. A drop that no request asked for waits for no disk. */
static void serve_drop_forget(struct namespace_drop *drop)
{
	struct catalog *catalog = drop->hbmd->catalog;
	const struct namespace *ns = namespaces_get(drop->hbmd->cache->namespaces, drop->walk.ns);

	drop->forgotten = (struct catalog_barrier){.done = serve_drop_forgotten,
						   .failed = serve_drop_not_forgotten};
	if (!list_empty(&drop->requests) && catalog_has_to_forget(catalog, ns, 0))
		catalog_flush_all(catalog, &drop->forgotten);
	else
		serve_drop_end(drop, HBM_OK);
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
		serve_drop_forget(drop);

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
	pin_walk_init(&drop->pins);
	ns->drop = drop;
	ns->drops++;
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

/* The request drops it, or waits until it is dropped. */
static void serve_drop_join(struct hbmd *hbmd, struct request *request, uint16_t number)
{
	struct namespace_drop *drop = namespaces_get(hbmd->cache->namespaces, number)->drop;
	bool joined = drop != NULL;
	if (!joined)
		drop = serve_drop_new(hbmd, number);
	if (!drop) {
		request_refuse(request, HBM_LIMIT, "the daemon is out of memory");
		return;
	}

	list_push_back(&drop->requests, &request->link);
	if (!joined)
		loop_background(hbmd->loop, &drop->background);
}

/* ---- pins of others ---- */

/* Counts the session's own. */
struct drop_count {
	struct work work;
	struct hbmd *hbmd;
	struct request *request;
	struct pin_walk walk;
	uint64_t own, lost;
	uint16_t ns;
};

static void serve_drop_begin_count(struct drop_count *count, const struct namespace *ns)
{
	count->own = 0;
	count->lost = ns->pins_lost;
	pin_walk_begin(&count->walk, &count->request->session->pins);
}

/* True: done. What another drops already is not counted. */
static bool serve_drop_count_pins(struct drop_count *count, const struct namespace *ns,
				  struct slice *slice)
{
	const struct pin *pin;

	if (ns->drop)
		pin_walk_end(&count->walk);

	while ((pin = pin_walk_next(&count->walk))) {
		count->own += pin_is_in(pin, count->hbmd->cache, count->ns);
		if (slice_is_over(slice))
			return false;
	}

	if (ns->drop || ns->pins_lost == count->lost)
		return true;

	/* Some of those that were counted may be of blocks that were dropped meanwhile. */
	serve_drop_begin_count(count, ns);

	return false;
}

static bool serve_drop_count_some(struct work *work, struct slice *slice)
{
	struct drop_count *count = container_of(work, struct drop_count, work);
	const struct namespace *ns = namespaces_get(count->hbmd->cache->namespaces, count->ns);

	if (!serve_drop_count_pins(count, ns, slice))
		return false;

	if (ns->drop || ns->pins == count->own)
		serve_drop_join(count->hbmd, count->request, count->ns);
	else
		request_refuse(count->request, HBM_DENIED, "others have %llu pins in namespace %u",
			       (unsigned long long)(ns->pins - count->own), count->ns);

	free(count);

	return true;
}

static void serve_drop_count(struct hbmd *hbmd, struct request *request, uint16_t number)
{
	struct drop_count *count = malloc(sizeof(*count));
	if (!count) {
		request_refuse(request, HBM_LIMIT, "the daemon is out of memory");
		return;
	}

	*count = (struct drop_count){
		.work.run = serve_drop_count_some, .hbmd = hbmd, .request = request, .ns = number};
	request_charge(request, sizeof(*count));
	pin_walk_init(&count->walk);
	serve_drop_begin_count(count, namespaces_get(hbmd->cache->namespaces, number));
	session_work(request->session, &count->work);
}

/* Whether pins of others may have to be looked for. */
static bool serve_drop_may_be_denied(const struct namespace *ns)
{
	return ns->pins > 0 && !ns->drop;
}

void serve_namespace_drop(struct hbmd *hbmd, struct request *request)
{
	const struct hbm_wire_namespace_drop *message =
		(const struct hbm_wire_namespace_drop *)request->message;
	bool pinned = message->flags == HBM_WIRE_PINNED;

	if (!session_has_namespace(request->session, message->ns))
		request_refuse(request, HBM_NOT_FOUND, "namespace %u is not open in this session",
			       message->ns);
	else if (pinned && !session_is_operator(request->session))
		request_refuse(request, HBM_DENIED,
			       "only uid 0 and the daemon's uid drop what others have pinned");
	else if (removals_wait(hbmd, request, serve_namespace_drop))
		return;
	else if (!pinned &&
		 serve_drop_may_be_denied(namespaces_get(hbmd->cache->namespaces, message->ns)))
		serve_drop_count(hbmd, request, (uint16_t)message->ns);
	else
		serve_drop_join(hbmd, request, (uint16_t)message->ns);
}
