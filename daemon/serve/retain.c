/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/serve/retain.h"

#include "daemon/base/clock.h"
#include "daemon/cache/cache.h"

#include <stdlib.h>

struct retain {
	struct work work;
	struct hbmd *hbmd;
	struct request *request;
	const struct hbm_wire_keys *message;
	uint16_t ns; /* kept, even if the session closes it or dies */
	uint64_t until_ns;
	bool expired;   /* what was over has been ended, which makes room */
	uint32_t at;    /* keys from it on have been answered */
	uint32_t found; /* of the one before it, when it was begun */
	uint32_t walk;
	struct cache_retaining retaining;

	struct hbm_wire_results reply; /* its results follow */
};

static void retain_end(struct retain *retain)
{
	struct hbm_wire_results *reply = &retain->reply;

	request_reply(retain->request, HBM_OK, &reply->count,
		      sizeof(*reply) - sizeof(reply->header) +
			      reply->count * sizeof(reply->results[0]));
	namespaces_unref(retain->hbmd->cache->namespaces, retain->ns);
	free(retain);
}

static void retain_set_result(struct retain *retain, uint32_t i, uint32_t number, int status)
{
	const struct cache *cache = retain->hbmd->cache;
	struct hbm_wire_result result = {.status = (uint8_t)status};

	if (number != 0)
		result.tier = (uint8_t)cache->tiers[cache_block(cache, number)->target].kind;
	retain->reply.results[i] = result;
	retain->reply.done += status == HBM_OK;
}

/* False: the slice is over. */
static bool retain_one(struct retain *retain, uint32_t i, struct slice *slice)
{
	struct cache *cache = retain->hbmd->cache;
	struct cache_retaining *retaining = &retain->retaining;
	struct user *user = retain->request->session->user;
	unsigned priority = retain->message->flags;
	uint32_t number = cache_find_loadable(cache, retain->ns, &retain->message->keys[i]);
	bool goes_on = retaining->busy && number == retain->found;

	retaining->busy = goes_on;
	if (number == 0 || priority == 0) {
		retain_set_result(retain, i, number,
				  number == 0 ? HBM_MISS : cache_release(cache, number, user));
		return true;
	}

	retain->found = number;
	if (!goes_on)
		cache_retain_begin(retaining, number, user, priority, retain->until_ns);
	if (!cache_retain_some(cache, retaining, &retain->walk, slice))
		return false;

	retain_set_result(retain, i, number, retaining->status);

	return true;
}

/* False: the slice is over. */
static bool retain_expire(struct retain *retain, struct slice *slice)
{
	while (cache_retain_expire(retain->hbmd->cache, 1))
		if (slice_is_over(slice))
			return false;

	retain->expired = true;

	return true;
}

static bool retain_run(struct work *work, struct slice *slice)
{
	struct retain *retain = container_of(work, struct retain, work);

	if (!retain->expired && !retain_expire(retain, slice))
		return false;

	while (retain->at > 0) {
		if (!retain_one(retain, retain->at - 1, slice))
			return false;
		if (--retain->at > 0 && slice_is_over(slice))
			return false;
	}

	retain_end(retain);

	return true;
}

uint64_t retain_bytes(uint64_t count)
{
	return sizeof(struct retain) + count * sizeof(struct hbm_wire_result);
}

static uint64_t retain_until(const struct ledger *ledger, uint64_t us)
{
	uint64_t longest = ledger_limit(&ledger->host, LEDGER_RETAIN_MS) * 1000;

	return clock_now() + (us > 0 ? us : longest) * 1000;
}

void retain_begin(struct hbmd *hbmd, struct request *request)
{
	const struct hbm_wire_keys *message = (const struct hbm_wire_keys *)request->message;
	uint64_t ms = message->deadline_us / 1000, bytes = retain_bytes(message->count);

	if (!ledger_check(&hbmd->ledger->host, LEDGER_RETAIN_MS, ms)) {
		request_refuse_limit(request, LEDGER_RETAIN_MS, ms);
		return;
	}

	struct retain *retain = malloc(bytes);
	if (!retain) {
		request_refuse(request, HBM_LIMIT, "the daemon is out of memory");
		return;
	}

	*retain = (struct retain){.work.run = retain_run,
				  .hbmd = hbmd,
				  .request = request,
				  .message = message,
				  .ns = (uint16_t)message->ns,
				  .until_ns = retain_until(hbmd->ledger, message->deadline_us),
				  .at = message->count,
				  .walk = CACHE_WALK_MAX,
				  .reply.count = message->count};
	namespaces_ref(hbmd->cache->namespaces, retain->ns);
	request_charge(request, bytes);
	session_work(request->session, &retain->work);
}
