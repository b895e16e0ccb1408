/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/serve/keys.h"

#include "daemon/base/checked.h"
#include "daemon/base/clock.h"
#include "daemon/base/link_stats.h"
#include "daemon/base/loading.h"
#include "daemon/cache/marks.h"
#include "daemon/catalog/catalog.h"
#include "daemon/move/pump.h"
#include "daemon/serve/pins.h"
#include "daemon/serve/unpin.h"

#include <stdlib.h>

#define LOOKUP_KEYS 64 /* looked up together, so that their cache misses overlap */

struct keys {
	struct work work;
	struct hbmd *hbmd;
	struct request *request;
	const struct hbm_wire_keys *message;
	uint16_t ns; /* kept, even if the session closes it or dies */
	bool (*phase)(struct keys *keys, struct slice *slice);
	uint32_t at; /* keys before it, or from it on, have been answered */
	/* LOOKUP */
	bool all_hit; /* so far */
	uint32_t hits;
	uint64_t blocks[HBM_TIERS]; /* of the leading run */
	/* TOUCH */
	struct cache_touch touch;
	/* REMOVE */
	struct cache_drop_wait drops;
	struct catalog_barrier forgotten;
	uint64_t forgets; /* catalog_forgets(), when it came */
	/* PIN, UNPIN */
	struct list *pins;
	struct payer *payer;
	uint32_t walk;
	struct pin_walk lost;
	struct pin *pin; /* that is being made */
	struct cache_pinning pinning;
	struct unpin *unpin;
	/* MOVE */
	struct tier *to;
	struct due_move *due; /* NULL: without a deadline */

	struct hbm_wire_results reply; /* its results follow */
};

static void keys_free(struct keys *keys)
{
	namespaces_unref(keys->hbmd->cache->namespaces, keys->ns);
	if (keys->due)
		due_moves_push(&keys->hbmd->mover->due[keys->to->number], keys->due);
	unpin_free(keys->unpin);
	free(keys);
}

static void keys_end(struct keys *keys)
{
	struct hbm_wire_results *reply = &keys->reply;

	request_reply(keys->request, HBM_OK, &reply->count,
		      sizeof(*reply) - sizeof(reply->header) +
			      reply->count * sizeof(reply->results[0]));
	keys_free(keys);
}

static void keys_set_result(struct keys *keys, uint32_t i, uint32_t number)
{
	const struct cache *cache = keys->hbmd->cache;

	keys->reply.results[i] = (struct hbm_wire_result){.status = HBM_MISS};
	if (number != 0)
		keys->reply.results[i] = (struct hbm_wire_result){
			.tier = (uint8_t)cache->tiers[cache_block(cache, number)->target].kind};
}

/* The block of the i-th key, or 0; its result says so. */
static uint32_t keys_find(struct keys *keys, uint32_t i)
{
	uint32_t number = cache_find(keys->hbmd->cache, keys->ns, &keys->message->keys[i]);

	keys_set_result(keys, i, number);

	return number;
}

/* The same, of a block that can be loaded. */
static uint32_t keys_find_loadable(struct keys *keys, uint32_t i)
{
	uint32_t number = cache_find_loadable(keys->hbmd->cache, keys->ns, &keys->message->keys[i]);

	keys_set_result(keys, i, number);

	return number;
}

/* ---- LOOKUP ---- */

/* Estimates the load time of the run at the measured rates. */
static uint64_t keys_estimate(const struct keys *keys)
{
	struct link_stats *link_stats = keys->hbmd->link_stats;
	const struct namespace *ns = namespaces_get(keys->hbmd->cache->namespaces, keys->ns);
	const uint64_t *blocks = keys->blocks;
	struct loading_rates rates = {
		.hbm_bytes_s = link_stats_bandwidth(link_stats, HBM_LINK_D2D),
		.link_bytes_s = link_stats_bandwidth(link_stats, HBM_LINK_H2D),
		.nvme_bytes_s = link_stats_bandwidth(link_stats, HBM_LINK_NVME_READ),
	};
	double seconds = loading_seconds(&rates, blocks[HBM_TIER_HBM] * ns->block_bytes,
					 blocks[HBM_TIER_DDR] * ns->block_bytes,
					 blocks[HBM_TIER_NVME] * ns->block_bytes);
	return (uint64_t)(seconds * 1e9);
}

static bool keys_end_lookup(struct keys *keys)
{
	struct counters *counters = &keys->hbmd->cache->counters;

	keys->reply.load_ns = keys_estimate(keys);
	counters->lookups++;
	counters->lookup_keys += keys->reply.count;
	counters->lookup_hits += keys->hits;
	counters->lookup_misses += keys->reply.count - keys->hits;
	keys->phase = NULL;

	return true;
}

static void keys_look_up_one(struct keys *keys, uint32_t i, uint32_t number)
{
	if (number != 0 && !cache_is_loadable(keys->hbmd->cache, number))
		number = 0;

	keys_set_result(keys, i, number);
	keys->hits += number != 0;
	keys->all_hit = keys->all_hit && number != 0;
	if (keys->all_hit) {
		keys->reply.done++;
		keys->blocks[keys->reply.results[i].tier]++;
	}
}

static bool keys_look_up(struct keys *keys, struct slice *slice)
{
	struct cache *cache = keys->hbmd->cache;
	uint16_t ns = keys->ns;
	bool over = false;

	while (keys->at < keys->reply.count && !over) {
		uint32_t found[LOOKUP_KEYS], left = keys->reply.count - keys->at,
					     count = left < LOOKUP_KEYS ? left : LOOKUP_KEYS;
		const struct hbm_wire_key *wanted = &keys->message->keys[keys->at];
		size_t run = 0;

		if (!namespaces_get(cache->namespaces, ns)->drop)
			run = index_find_chain(cache->index, ns, wanted, count, found);
		for (uint32_t i = 0; i < count; i++)
			keys_look_up_one(keys, keys->at + i,
					 i < run ? found[i] : cache_find(cache, ns, &wanted[i]));

		keys->at += count;
		over = slice_is_over(slice);
	}

	return keys->at < keys->reply.count ? false : keys_end_lookup(keys);
}

/* ---- TOUCH ---- */

static bool keys_settle(struct keys *keys, struct slice *slice)
{
	if (!cache_settle_touch(keys->hbmd->cache, &keys->touch, slice))
		return false;

	cache_touch_end(keys->hbmd->cache);
	keys->phase = NULL;

	return true;
}

/* Where a block is used: where its target is, or, below HBM, on the session's device. */
static uint32_t keys_device_of(const struct keys *keys, uint32_t number)
{
	const struct device *home = regions_device(&keys->request->session->regions);
	const struct cache *cache = keys->hbmd->cache;
	const struct tier *tier = &cache->tiers[cache_block(cache, number)->target];

	return tier->device ? tier->device->index : home ? home->index : 0;
}

static bool keys_touch(struct keys *keys, struct slice *slice)
{
	struct cache *cache = keys->hbmd->cache;

	while (keys->at > 0) {
		uint32_t number = 0, device = 0;

		if (!keys->touch.busy) {
			number = keys_find_loadable(keys, keys->at - 1);
			keys->reply.done += number != 0;
			device = keys_device_of(keys, number);
		}

		if (!cache_touch_some(cache, &keys->touch, number, device, slice))
			return false;

		keys->at--;
		if (slice_is_over(slice))
			return false;
	}

	keys->phase = keys_settle;

	return true;
}

/* ---- REMOVE ---- */

static void keys_remove_one(struct keys *keys, uint32_t i)
{
	struct cache *cache = keys->hbmd->cache;
	uint32_t number = keys_find(keys, i);
	if (number == 0)
		return;

	if (cache_is_pinned(cache, number)) {
		keys->reply.results[i].status = HBM_DENIED;
		return;
	}

	cache_drop(cache, number);
	cache->counters.removed_blocks++;
	keys->reply.done++;
}

static bool keys_remove(struct keys *keys, struct slice *slice)
{
	while (keys->at > 0) {
		keys_remove_one(keys, --keys->at);
		if (slice_is_over(slice))
			return false;
	}

	keys->phase = NULL;

	return true;
}

/* ---- PIN ---- */

/* False: the key needs no more than its result. */
static bool keys_begin_pin(struct keys *keys, uint32_t i)
{
	uint32_t number = keys_find_loadable(keys, i);
	if (number == 0)
		return false;

	keys->pin = pin_new(keys->payer);
	if (!keys->pin)
		keys->reply.results[i].status = HBM_LIMIT;
	else
		cache_pin_begin(&keys->pinning, number);

	return keys->pin != NULL;
}

static void keys_end_pin(struct keys *keys, uint32_t i)
{
	int status = keys->pinning.status;

	keys->reply.results[i].status = (uint8_t)status;
	keys->reply.done += status == HBM_OK;
	if (status == HBM_OK) {
		keys->pin->number = keys->pinning.number;
		if (keys->pins == &keys->hbmd->cache->kept_pins)
			keys->pin->mark = mark_pin_add(keys->hbmd->cache, keys->pin->number);
		list_push_back(keys->pins, &keys->pin->link);
	} else {
		pin_free(keys->pin);
	}

	keys->pin = NULL;
}

/* False: the slice is over. */
static bool keys_pin_one(struct keys *keys, uint32_t i, struct slice *slice)
{
	struct cache *cache = keys->hbmd->cache;
	struct cache_pinning *pinning = &keys->pinning;

	if (!keys->pin && !keys_begin_pin(keys, i))
		return true;

	/* Its number may be another's meanwhile. */
	if (!pinning->done && keys_find_loadable(keys, i) != pinning->number)
		pinning->status = HBM_MISS;
	if (!cache_pin_some(cache, pinning, &keys->walk, slice))
		return false;

	keys_end_pin(keys, i);

	return true;
}

static bool keys_pin(struct keys *keys, struct slice *slice)
{
	while (keys->at < keys->reply.count) {
		if (!keys_pin_one(keys, keys->at, slice))
			return false;
		keys->at++;
		if (slice_is_over(slice))
			return false;
	}

	keys->phase = NULL;

	return true;
}

/* Makes room: removes the pins of blocks that could not be read. */
static bool keys_forget_lost(struct keys *keys, struct slice *slice)
{
	while (pin_walk_forget_lost(&keys->lost, keys->hbmd->cache))
		if (slice_is_over(slice))
			return false;

	keys->phase = keys_pin;

	return true;
}

static void keys_begin_pins(struct keys *keys)
{
	bool keep = keys->message->flags == HBM_WIRE_KEEP;

	keys->walk = CACHE_WALK_MAX;
	keys->phase = keys_pin;
	if (!keep && ledger_has_room(keys->payer, LEDGER_PINS, keys->reply.count))
		return;

	pin_walk_init(&keys->lost);
	pin_walk_begin(&keys->lost, keys->pins);
	keys->phase = keys_forget_lost;
}

/* ---- UNPIN, MOVE ---- */

static bool keys_settle_moved(struct keys *keys, struct slice *slice)
{
	if (!cache_settle_some(keys->hbmd->cache, slice))
		return false;

	keys->phase = NULL;

	return true;
}

static bool keys_unpin(struct keys *keys, struct slice *slice)
{
	if (!unpin_some(keys->unpin, keys->hbmd->cache, slice))
		return false;

	if (keys->at == keys->reply.count) {
		keys->phase = keys_settle_moved;
		return true;
	}

	for (; keys->at < keys->reply.count && !unpin_is_full(keys->unpin); keys->at++) {
		uint32_t number = keys_find(keys, keys->at);
		if (number != 0)
			unpin_add(keys->unpin, number, keys->at);
	}

	unpin_begin(keys->unpin);

	return true;
}

/* With a deadline a block waits in a queue by that, if it is to wait for its move at all. */
static void keys_settle_wait(struct keys *keys, uint32_t number)
{
	const struct block *block = cache_block(keys->hbmd->cache, number);

	if (block->target == keys->to->number && block->actual != keys->to->number)
		due_move_add(keys->due, number);
	else
		block_end_wait(&keys->hbmd->cache->blocks, number);
}

static void keys_move_one(struct keys *keys, uint32_t i)
{
	struct cache *cache = keys->hbmd->cache;
	uint32_t number = keys_find_loadable(keys, i);
	if (number == 0)
		return;

	bool waits = keys->due && block_begin_wait(&cache->blocks, number);
	int status = cache_move(cache, number, keys->to);
	if (waits)
		keys_settle_wait(keys, number);
	keys_set_result(keys, i, number);
	keys->reply.results[i].status = (uint8_t)status;
	keys->reply.done += status == HBM_OK;
}

static bool keys_move(struct keys *keys, struct slice *slice)
{
	while (keys->at < keys->reply.count) {
		keys_move_one(keys, keys->at++);
		if (slice_is_over(slice))
			return false;
	}

	if (keys->due)
		due_moves_push(&keys->hbmd->mover->due[keys->to->number], keys->due);
	keys->due = NULL;
	keys->phase = keys_settle_moved;

	return true;
}

/* A move up from a disk may have a deadline; others begin in the order they came in. */
static void keys_begin_move(struct keys *keys)
{
	const struct hbm_wire_keys *message = keys->message;
	struct session *session = keys->request->session;
	struct cache *cache = keys->hbmd->cache;
	uint64_t deadline_ns;

	keys->to = cache_tier(cache, message->flags, message->device);
	keys->phase = keys_move;
	if (message->deadline_us == 0 || keys->to->capacity == 0 || tier_has_io(keys->to) ||
	    !checked_mul(message->deadline_us, 1000, &deadline_ns) ||
	    !checked_add(deadline_ns, clock_now(), &deadline_ns))
		return;

	keys->due = due_move_new(&keys->hbmd->mover->due[keys->to->number], &session->payer,
				 session->fair_payer, deadline_ns,
				 namespaces_get(cache->namespaces, keys->ns)->block_bytes,
				 message->count);
}

/* ---- begin ---- */

static void keys_forgotten(struct catalog_barrier *barrier)
{
	keys_end(container_of(barrier, struct keys, forgotten));
}

/* They are gone, and may be found again after a restart. */
static void keys_not_forgotten(struct catalog_barrier *barrier)
{
	struct keys *keys = container_of(barrier, struct keys, forgotten);

	for (uint32_t i = 0; i < keys->reply.count; i++)
		if (keys->reply.results[i].status == HBM_OK)
			keys->reply.results[i].status = HBM_IO;
	keys->reply.done = 0;
	keys_end(keys);
}

/* A durable block is gone when its record is off the disk: those of others are not waited for. */
static void keys_forget(struct keys *keys)
{
	struct catalog *catalog = keys->hbmd->catalog;
	const struct namespace *ns = namespaces_get(keys->hbmd->cache->namespaces, keys->ns);
	bool removes = keys->message->header.opcode == HBM_WIRE_REMOVE && keys->reply.done > 0;

	keys->forgotten =
		(struct catalog_barrier){.done = keys_forgotten, .failed = keys_not_forgotten};
	if (removes && catalog_has_to_forget(catalog, ns, keys->forgets))
		catalog_flush_all(catalog, &keys->forgotten);
	else
		keys_end(keys);
}

static void keys_dropped(struct cache_drop_wait *wait)
{
	keys_forget(container_of(wait, struct keys, drops));
}

/* Whether the reply has to wait until what descends from the blocks is gone. */
static bool keys_wait_for_drops(struct keys *keys)
{
	keys->drops.done = keys_dropped;

	return keys->message->header.opcode == HBM_WIRE_REMOVE &&
	       cache_wait_for_drops(keys->hbmd->cache, &keys->drops);
}

static bool keys_run(struct work *work, struct slice *slice)
{
	struct keys *keys = container_of(work, struct keys, work);
	bool over = false;

	while (keys->phase && !over)
		over = !keys->phase(keys, slice);
	if (keys->message->header.opcode != HBM_WIRE_LOOKUP)
		pump_run(keys->hbmd->mover);
	if (keys->phase)
		return false;

	if (!keys_wait_for_drops(keys))
		keys_forget(keys);

	return true;
}

static bool keys_begin_unpin(struct keys *keys)
{
	keys->unpin = unpin_new(keys->pins, &keys->reply);
	if (!keys->unpin)
		return false;

	request_charge(keys->request, sizeof(*keys->unpin));
	keys->phase = keys_unpin;

	return true;
}

/* False: out of memory. */
static bool keys_set_phase(struct keys *keys)
{
	struct cache *cache = keys->hbmd->cache;
	struct session *session = keys->request->session;
	bool keep = keys->message->flags == HBM_WIRE_KEEP;

	keys->pins = keep ? &cache->kept_pins : &session->pins;
	keys->payer = keep ? &keys->hbmd->ledger->host : &session->payer;

	switch (keys->message->header.opcode) {
	case HBM_WIRE_LOOKUP:
		keys->all_hit = true;
		keys->phase = keys_look_up;
		return true;
	case HBM_WIRE_TOUCH:
		cache_touch_begin(cache, &keys->touch);
		keys->at = keys->reply.count;
		keys->phase = keys_touch;
		return true;
	case HBM_WIRE_REMOVE:
		keys->at = keys->reply.count;
		keys->phase = keys_remove;
		return true;
	case HBM_WIRE_PIN:
		keys_begin_pins(keys);
		return true;
	case HBM_WIRE_MOVE:
		keys_begin_move(keys);
		return true;
	default:
		return keys_begin_unpin(keys);
	}
}

uint64_t keys_bytes(uint64_t count)
{
	return sizeof(struct keys) + count * sizeof(struct hbm_wire_result) + sizeof(struct unpin);
}

void keys_begin(struct hbmd *hbmd, struct request *request)
{
	const struct hbm_wire_keys *message = (const struct hbm_wire_keys *)request->message;
	size_t size = sizeof(struct keys) + message->count * sizeof(struct hbm_wire_result);
	struct keys *keys = malloc(size);
	if (!keys) {
		request_refuse(request, HBM_LIMIT, "the daemon is out of memory");
		return;
	}

	*keys = (struct keys){.work.run = keys_run,
			      .hbmd = hbmd,
			      .request = request,
			      .message = message,
			      .ns = (uint16_t)message->ns,
			      .reply.count = message->count};
	keys->forgets = catalog_forgets(hbmd->catalog);
	namespaces_ref(hbmd->cache->namespaces, keys->ns);
	request_charge(request, size);
	if (!keys_set_phase(keys)) {
		keys_free(keys);
		request_refuse(request, HBM_LIMIT, "the daemon is out of memory");
		return;
	}

	session_work(request->session, &keys->work);
}
