/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serve_keys: requests that are answered from the index alone: LOOKUP, TOUCH, PIN, UNPIN,
 * REMOVE, EVICT.
 *
 * A pin is an object of its session, charged to it and freed with it. Pins of operators
 * may be kept instead: the cache owns them until an operator removes them.
 */
#include "daemon/serve/serve_keys.h"

#include "daemon/base/link_stats.h"
#include "daemon/base/loading.h"
#include "daemon/cache/cache.h"
#include "daemon/config/config.h"
#include "daemon/move/mover.h"
#include "daemon/move/pump.h"
#include "daemon/serve/serve_namespace.h"

#include <stdlib.h>

#define EVICT_STEP 4096 /* blocks per turn of the loop */

struct pin {
	struct list link; /* in session->pins or cache->kept_pins */
	struct charge charge;
	uint32_t number;
};

/* The answer is built here and copied when sent; only the loop thread uses it. */
static union {
	struct hbm_wire_results results;
	char bytes[HBM_WIRE_MESSAGE_MAX];
} answer;

static struct hbm_wire_results *serve_keys_answer_new(uint32_t count)
{
	answer.results = (struct hbm_wire_results){.count = count};
	return &answer.results;
}

static void serve_keys_answer_send(struct request *request)
{
	struct hbm_wire_results *results = &answer.results;
	request_reply(request, HBM_OK, &results->count,
		      sizeof(*results) - sizeof(results->header) +
			      results->count * sizeof(results->results[0]));
}

static struct hbm_wire_result serve_keys_result_of(const struct cache *cache, uint32_t number)
{
	if (number == 0)
		return (struct hbm_wire_result){.status = HBM_MISS};
	return (struct hbm_wire_result){
		.tier = (uint8_t)cache->tiers[cache_block(cache, number)->target].kind};
}

/* ---- lookup ---- */

/* Estimates the load time of the run at the measured rates. */
static uint64_t serve_keys_estimate(struct link_stats *link_stats, const uint64_t blocks[HBM_TIERS],
				    uint64_t block_bytes)
{
	struct loading_rates rates = {
		.hbm_bytes_s = link_stats_bandwidth(link_stats, HBM_LINK_D2D),
		.link_bytes_s = link_stats_bandwidth(link_stats, HBM_LINK_H2D),
		.nvme_bytes_s = link_stats_bandwidth(link_stats, HBM_LINK_NVME_READ),
	};
	double seconds = loading_seconds(&rates, blocks[HBM_TIER_HBM] * block_bytes,
					 blocks[HBM_TIER_DDR] * block_bytes,
					 blocks[HBM_TIER_NVME] * block_bytes);
	return (uint64_t)(seconds * 1e9);
}

void serve_lookup(struct hbmd *hbmd, struct request *request)
{
	const struct hbm_wire_keys *message = (const struct hbm_wire_keys *)request->message;
	struct cache *cache = hbmd->cache;

	if (!session_has_namespace(request->session, message->ns)) {
		request_refuse(request, HBM_NOT_FOUND, "namespace %u is not open in this session",
			       message->ns);
		return;
	}

	static uint32_t found[HBM_WIRE_MESSAGE_MAX / sizeof(struct hbm_wire_key)];
	uint16_t ns = (uint16_t)message->ns;
	uint32_t run = 0;
	if (!namespaces_get(cache->namespaces, ns)->drop)
		run = (uint32_t)index_find_chain(cache->index, ns, message->keys, message->count,
						 found);

	struct hbm_wire_results *results = serve_keys_answer_new(message->count);
	uint64_t blocks[HBM_TIERS] = {0};
	uint32_t leading = 0, hits = 0;
	for (uint32_t i = 0; i < message->count; i++) {
		uint32_t number = i < run ? found[i] : cache_find(cache, ns, &message->keys[i]);
		if (number != 0 && !block_is_complete(cache_block(cache, number)))
			number = 0;
		results->results[i] = serve_keys_result_of(cache, number);
		hits += number != 0;
		if (number != 0 && leading == i) {
			leading++;
			blocks[results->results[i].tier]++;
		}
	}

	results->done = leading;
	results->load_ns = serve_keys_estimate(hbmd->link_stats, blocks,
					       namespaces_get(cache->namespaces, ns)->block_bytes);
	cache->counters.lookups++;
	cache->counters.lookup_keys += message->count;
	cache->counters.lookup_hits += hits;
	cache->counters.lookup_misses += message->count - hits;
	serve_keys_answer_send(request);
}

/* ---- touch, remove ---- */

/* Blocks below HBM are used on the session's device. */
static void serve_keys_touch(struct cache *cache, const struct session *session,
			     const struct hbm_wire_keys *message)
{
	struct hbm_wire_results *results = serve_keys_answer_new(message->count);
	const struct device *home = regions_device(&session->regions);

	cache_touch_begin(cache);

	for (uint32_t i = message->count; i-- > 0;) {
		uint32_t number = cache_find(cache, (uint16_t)message->ns, &message->keys[i]);

		results->results[i] = serve_keys_result_of(cache, number);
		if (number == 0)
			continue;

		const struct tier *tier = &cache->tiers[cache_block(cache, number)->target];
		cache_touch(cache, number,
			    tier->device ? tier->device->index
			    : home       ? home->index
					 : 0);
		results->done++;
	}

	cache_settle(cache);
}

/* Last key first: dropping a chain's head drops its descendants, and each block must be
 * counted for the key that names it. */
static void serve_keys_remove_blocks(struct cache *cache, const struct hbm_wire_keys *message)
{
	struct hbm_wire_results *results = serve_keys_answer_new(message->count);
	for (uint32_t i = message->count; i-- > 0;) {
		uint32_t number = cache_find(cache, (uint16_t)message->ns, &message->keys[i]);

		results->results[i] = serve_keys_result_of(cache, number);
		if (number == 0)
			continue;

		if (cache_is_pinned(cache, number)) {
			results->results[i].status = HBM_DENIED;
			continue;
		}

		cache_drop(cache, number);
		cache->counters.removed_blocks++;
		results->done++;
	}
}

/* ---- pins ---- */

static void serve_keys_unpin(struct cache *cache, struct pin *pin)
{
	list_remove(&pin->link);
	cache_unpin(cache, pin->number);
	ledger_release(&pin->charge);
	free(pin);
}

/* A block that could not be read is dropped, pinned or not, and no key names it any
 * longer: its pins only keep its entry, and count. Drops them. */
static void serve_keys_forget_lost(struct cache *cache, struct list *pins)
{
	list_for_each_safe (node, after, pins) {
		struct pin *pin = container_of(node, struct pin, link);
		if (!block_is_dropped(cache_block(cache, pin->number)))
			continue;
		serve_keys_unpin(cache, pin);
	}
}

void serve_keys_forget_lost_pins(struct cache *cache, struct session *session)
{
	serve_keys_forget_lost(cache, session ? &session->pins : &cache->kept_pins);
}

uint64_t serve_keys_pins_in(const struct cache *cache, const struct session *session, uint16_t ns)
{
	uint64_t count = 0;
	list_for_each (node, &session->pins) {
		const struct block *block =
			cache_block(cache, container_of(node, struct pin, link)->number);
		count += block->ns == ns && !block_is_dropped(block);
	}

	return count;
}

static int serve_keys_pin_one(struct cache *cache, struct list *pins, struct payer *payer,
			      uint32_t number)
{
	struct pin *pin = calloc(1, sizeof(*pin));
	if (!pin)
		return HBM_LIMIT;

	if (ledger_charge(&pin->charge, payer, LEDGER_PINS, 1) != HBM_OK ||
	    !cache_pin(cache, number)) {
		ledger_release(&pin->charge);
		free(pin);
		return HBM_LIMIT;
	}

	pin->number = number;
	list_push_back(pins, &pin->link);

	return HBM_OK;
}

static void serve_keys_pin_blocks(struct hbmd *hbmd, struct session *session,
				  const struct hbm_wire_keys *message)
{
	struct cache *cache = hbmd->cache;
	bool keep = message->flags == HBM_WIRE_KEEP;
	struct list *pins = keep ? &cache->kept_pins : &session->pins;
	struct payer *payer = keep ? &hbmd->ledger->host : &session->payer;
	struct hbm_wire_results *results = serve_keys_answer_new(message->count);

	if (keep || !ledger_has_room(payer, LEDGER_PINS, message->count))
		serve_keys_forget_lost(cache, pins);

	cache_touch_begin(cache);

	for (uint32_t i = 0; i < message->count; i++) {
		uint32_t number = cache_find(cache, (uint16_t)message->ns, &message->keys[i]);

		results->results[i] = serve_keys_result_of(cache, number);
		if (number == 0)
			continue;

		int status = serve_keys_pin_one(cache, pins, payer, number);
		results->results[i].status = (uint8_t)status;
		results->done += status == HBM_OK;
	}
}

/* A key of an UNPIN whose block exists, and its index in the message. */
struct unpin_key {
	uint32_t number, index;
	/* in the first of several with one number: how many of them have found a pin */
	uint32_t taken;
};

static int unpin_key_compare(const void *one, const void *other)
{
	const struct unpin_key *a = one, *b = other;
	uint64_t left = (uint64_t)a->number << 32 | a->index,
		 right = (uint64_t)b->number << 32 | b->index;
	return (left > right) - (left < right);
}

/* The first of the sorted keys with that number; NULL: none. */
static struct unpin_key *unpin_key_find(struct unpin_key *keys, uint32_t count, uint32_t number)
{
	uint32_t low = 0, high = count;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (keys[middle].number < number)
			low = middle + 1;
		else
			high = middle;
	}

	return low < count && keys[low].number == number ? &keys[low] : NULL;
}

/* Drops one pin for each time its key is named. Walks the pins once, not once per key. */
static void serve_keys_unpin_named(struct cache *cache, struct list *pins, struct unpin_key *keys,
				   uint32_t count)
{
	struct hbm_wire_results *results = &answer.results;
	list_for_each_safe (node, after, pins) {
		struct pin *pin = container_of(node, struct pin, link);
		struct unpin_key *first = unpin_key_find(keys, count, pin->number);
		if (!first)
			continue;

		const struct unpin_key *key = first + first->taken;
		if (key == keys + count || key->number != pin->number)
			continue;

		results->results[key->index].status = HBM_OK;
		results->done++;
		first->taken++;
		serve_keys_unpin(cache, pin);
	}
}

static void serve_keys_unpin_blocks(struct cache *cache, struct session *session,
				    const struct hbm_wire_keys *message)
{
	static struct unpin_key keys[HBM_WIRE_MESSAGE_MAX / sizeof(struct hbm_wire_key)];
	bool keep = message->flags == HBM_WIRE_KEEP;
	struct hbm_wire_results *results = serve_keys_answer_new(message->count);
	uint32_t count = 0;

	for (uint32_t i = 0; i < message->count; i++) {
		uint32_t number = cache_find(cache, (uint16_t)message->ns, &message->keys[i]);

		results->results[i] = serve_keys_result_of(cache, number);
		if (number == 0)
			continue;

		results->results[i].status = HBM_NOT_FOUND; /* until a pin of it is found */
		keys[count++] = (struct unpin_key){.number = number, .index = i};
	}

	qsort(keys, count, sizeof(keys[0]), unpin_key_compare);

	serve_keys_unpin_named(cache, keep ? &cache->kept_pins : &session->pins, keys, count);
	cache_settle(cache);
}

static void serve_keys_pins_gone(struct hbmd *hbmd, struct session *session)
{
	list_for_each_safe (node, after, &session->pins)
		serve_keys_unpin(hbmd->cache, container_of(node, struct pin, link));
}

void serve_keys(struct hbmd *hbmd, struct request *request)
{
	const struct hbm_wire_keys *message = (const struct hbm_wire_keys *)request->message;
	if (!session_has_namespace(request->session, message->ns)) {
		request_refuse(request, HBM_NOT_FOUND, "namespace %u is not open in this session",
			       message->ns);
		return;
	}

	if (message->flags == HBM_WIRE_KEEP && !session_is_operator(request->session)) {
		request_refuse(request, HBM_DENIED, "only uid 0 and the daemon's uid keep pins");
		return;
	}

	switch (message->header.opcode) {
	case HBM_WIRE_TOUCH:
		serve_keys_touch(hbmd->cache, request->session, message);
		break;
	case HBM_WIRE_REMOVE:
		serve_keys_remove_blocks(hbmd->cache, message);
		break;
	case HBM_WIRE_PIN:
		serve_keys_pin_blocks(hbmd, request->session, message);
		break;
	default:
		serve_keys_unpin_blocks(hbmd->cache, request->session, message);
	}

	serve_keys_answer_send(request);
	pump_run(hbmd->mover);
}

void serve_session_gone(struct hbmd *hbmd, struct session *session)
{
	serve_keys_pins_gone(hbmd, session);
	serve_namespaces_gone(hbmd, session);
	pump_run(hbmd->mover);
}

void serve_close(struct hbmd *hbmd)
{
	list_for_each_safe (node, after, &hbmd->cache->kept_pins)
		serve_keys_unpin(hbmd->cache, container_of(node, struct pin, link));
}

void serve_keys_reply_amount(struct request *request, const struct cache_amount *amount)
{
	struct hbm_wire_amount reply = {.blocks = amount->blocks, .bytes = amount->bytes};
	request_reply(request, HBM_OK, &reply.blocks, sizeof(reply) - sizeof(reply.header));
}

/* ---- evict ---- */

struct eviction {
	struct post post;
	struct hbmd *hbmd;
	struct request *request;
	struct tier *tier;
	uint64_t left;
	struct cache_amount evicted; /* so far */
};

static void serve_keys_evict_some(struct post *post)
{
	struct eviction *eviction = container_of(post, struct eviction, post);
	struct hbmd *hbmd = eviction->hbmd;
	struct cache_amount gone =
		cache_push_out(hbmd->cache, eviction->tier, eviction->left, EVICT_STEP);

	pump_run(hbmd->mover);
	eviction->left = gone.bytes < eviction->left ? eviction->left - gone.bytes : 0;
	eviction->evicted.blocks += gone.blocks;
	eviction->evicted.bytes += gone.bytes;
	if (gone.blocks > 0 && eviction->left > 0) {
		loop_post(hbmd->loop, post);
		return;
	}

	serve_keys_reply_amount(eviction->request, &eviction->evicted);
	free(eviction);
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

	*eviction = (struct eviction){.post = {.run = serve_keys_evict_some},
				      .hbmd = hbmd,
				      .request = request,
				      .tier = tier,
				      .left = message->bytes};
	serve_keys_evict_some(&eviction->post);
}
