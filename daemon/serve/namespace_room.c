/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/serve/namespace_room.h"

#include <errno.h>
#include <stdlib.h>

#include "daemon/cache/cache.h"
#include "daemon/ledger/user.h"
#include "daemon/loop/loop.h"
#include "daemon/move/pump.h"
#include "daemon/serve/serve_drop.h"
#include "daemon/serve/serve_namespace.h"

#define ROOM_STEP 16 /* requests in a turn of the loop */

struct namespace_room {
	struct hbmd *hbmd;
	struct post post;
	bool posted;
	struct list turns; /* struct user: those with requests that wait */
	uint16_t taking;   /* the namespace that gives way; 0: none */
};

/* Tenants that have made namespaces; users that are one alone count as one. */
static uint64_t namespace_room_tenants(const struct ledger *ledger)
{
	uint64_t tenants = 0;

	list_for_each (node, &ledger->users) {
		const struct user *user = container_of(node, struct user, link);
		tenants += !user->tenant && ledger_used(&user->payer, LEDGER_NAMESPACES) > 0;
	}
	list_for_each (node, &ledger->tenants) {
		const struct tenant *tenant = container_of(node, struct tenant, link);
		tenants += ledger_used(&tenant->payer, LEDGER_NAMESPACES) > 0;
	}

	return tenants > 0 ? tenants : 1;
}

/* The namespace that gives way to this user's next; 0: none may. */
static uint16_t namespace_room_victim(const struct hbmd *hbmd, const struct user *user)
{
	const struct namespaces *namespaces = hbmd->cache->namespaces;
	const struct ledger *ledger = hbmd->ledger;
	const struct payer *tenant = ledger_tenant(&user->payer);
	uint64_t part =
		ledger_limit(&ledger->host, LEDGER_NAMESPACES) / namespace_room_tenants(ledger);

	if (!ledger_has_own_room(tenant, LEDGER_NAMESPACES, 1))
		return namespaces_coldest(namespaces, user, 0);

	bool has_part = ledger_used(tenant, LEDGER_NAMESPACES) >= part;
	uint16_t victim = namespaces_coldest(namespaces, has_part ? user : NULL, part);

	return victim != 0 ? victim : namespaces_coldest(namespaces, NULL, 0);
}

static void namespace_room_wake(struct namespace_room *room)
{
	if (room->posted || list_empty(&room->turns))
		return;

	room->posted = true;
	loop_post(room->hbmd->loop, &room->post);
}

/* A namespace has been forgotten. */
static void namespace_room_forgotten(void *arg, uint16_t number)
{
	struct namespace_room *room = arg;

	if (room->taking == number)
		room->taking = 0;
	if (namespaces_leave_wiped(room->hbmd->cache->namespaces))
		pump_soon(room->hbmd->mover); /* it may have been the last one */
	namespace_room_wake(room);
}

/* Drops what was to live no longer than those who had it open. Without the memory for that it
 * stays until it is evicted. */
static void namespace_room_abandoned(void *arg, uint16_t number)
{
	const struct namespace_room *room = arg;

	(void)serve_drop_begin(room->hbmd, number, NULL);
}

/* The blocks are dropped. The number is free, or will be when the last transfer of a block
 * ends, unless an operator has opened it by its number meanwhile. */
static void namespace_room_dropped(struct hbmd *hbmd, uint16_t number)
{
	struct namespace_room *room = hbmd->namespace_room;
	const struct namespace *ns = namespaces_get(hbmd->cache->namespaces, number);

	if (room->taking == number && ns && ns->opens > 0)
		namespace_room_forgotten(room, number);
}

static struct request *namespace_room_next(struct namespace_room *room)
{
	struct user *user = container_of(room->turns.next, struct user, turn);
	struct request *request =
		container_of(list_pop_front(&user->waiting), struct request, link);

	list_remove(&user->turn);
	if (!list_empty(&user->waiting))
		list_push_back(&room->turns, &user->turn);

	return request;
}

static void namespace_room_add(struct namespace_room *room, struct request *request)
{
	struct user *user = request->session->user;

	if (list_empty(&user->waiting))
		list_push_back(&room->turns, &user->turn);
	list_push_back(&user->waiting, &request->link);
}

static void namespace_room_refuse(struct request *request)
{
	ledger_check(&request->session->user->payer, LEDGER_NAMESPACES, 1); /* counts it */
	request_refuse_limit(request, LEDGER_NAMESPACES, 1);
}

/* The number of the namespace, opened; 0: there is no room. */
static uint16_t namespace_room_try(struct hbmd *hbmd, const struct request *request)
{
	const struct namespace_identity identity = serve_namespace_identity(hbmd, request->message);

	return namespaces_open(hbmd->cache->namespaces, &identity, request->session->user);
}

/* Lets the first request try again. False: it has to wait. */
static bool namespace_room_step(struct namespace_room *room)
{
	struct user *user = container_of(room->turns.next, struct user, turn);
	struct hbmd *hbmd = room->hbmd;
	const struct request *first = container_of(user->waiting.next, struct request, link);

	if (first->session->state >= SESSION_CLOSING) {
		request_refuse(namespace_room_next(room), HBM_SHUTDOWN, "the session has ended");
		return true;
	}

	if (room->taking != 0)
		return false;

	uint16_t number = namespace_room_try(hbmd, first);
	if (number != 0) {
		serve_namespace_add_open(hbmd, namespace_room_next(room), number);
		return true;
	}

	uint16_t victim = namespace_room_victim(hbmd, user);
	if (victim == 0) {
		namespace_room_refuse(namespace_room_next(room));
		return true;
	}

	room->taking = victim;
	if (!serve_drop_begin(hbmd, victim, namespace_room_dropped)) {
		room->taking = 0;
		request_refuse(namespace_room_next(room), HBM_LIMIT, "the daemon is out of memory");
	}

	return true;
}

static void namespace_room_run(struct post *post)
{
	struct namespace_room *room = container_of(post, struct namespace_room, post);

	room->posted = false;
	for (int i = 0; i < ROOM_STEP && !list_empty(&room->turns); i++)
		if (!namespace_room_step(room))
			return;

	namespace_room_wake(room);
}

/* Not before those that wait, unless the namespace is there. */
static bool namespace_room_may_try(const struct namespace_room *room, const struct request *request)
{
	const struct namespace_identity identity =
		serve_namespace_identity(room->hbmd, request->message);
	uint16_t found =
		namespaces_find(room->hbmd->cache->namespaces, &identity, request->session->user);

	return found != 0 ? found != room->taking : list_empty(&room->turns);
}

static void namespace_room_request(struct hbmd *hbmd, struct request *request)
{
	struct namespace_room *room = hbmd->namespace_room;
	uint16_t number =
		namespace_room_may_try(room, request) ? namespace_room_try(hbmd, request) : 0;

	if (number != 0) {
		serve_namespace_add_open(hbmd, request, number);
		return;
	}

	if (room->taking == 0 && list_empty(&room->turns) &&
	    namespace_room_victim(hbmd, request->session->user) == 0) {
		namespace_room_refuse(request);
		return;
	}

	namespace_room_add(room, request);
	namespace_room_wake(room);
}

void serve_namespace_open(struct hbmd *hbmd, struct request *request)
{
	if (!serve_namespace_answer_open(hbmd, request))
		namespace_room_request(hbmd, request);
}

int namespace_room_open(struct namespace_room **out, struct hbmd *hbmd)
{
	struct namespace_room *room = calloc(1, sizeof(*room));
	if (!room)
		return -ENOMEM;

	room->hbmd = hbmd;
	room->post.run = namespace_room_run;
	list_init(&room->turns);
	namespaces_on_forget(hbmd->cache->namespaces, namespace_room_forgotten, room);
	namespaces_on_abandon(hbmd->cache->namespaces, namespace_room_abandoned, room);
	*out = room;

	return 0;
}

struct namespace_room *namespace_room_close(struct namespace_room *room)
{
	free(room);
	return NULL;
}
