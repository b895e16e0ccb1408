/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serve_blocks: STORE, LOAD and PREFETCH. A batch is one such request in flight: it uses
 * the regions of its segments, waits until the client's data is ready, lets the
 * policy see all its blocks at once, and then starts one transfer for each block that
 * must move. It ends with the last of them.
 *
 * Nothing is decided before the data is ready: a client whose data never is keeps only
 * its own regions in use.
 */
#include "daemon/serve/serve_blocks.h"

#include "daemon/base/checked.h"
#include "daemon/cache/cache.h"
#include "daemon/move/load.h"
#include "daemon/move/pump.h"
#include "daemon/move/store.h"
#include "daemon/serve/serve_namespace.h"
#include "daemon/session/validate.h"

#include <stdlib.h>
#include <string.h>

struct item {
	union {
		struct store store;
		struct load load;
	};
	struct batch *batch;
	uint32_t number;
	uint32_t first_span;
};

struct batch {
	struct hbmd *hbmd;
	struct request *request;
	struct ready_wait wait;
	uint16_t ns;
	uint16_t opcode;
	uint64_t block_bytes;    /* logical, the namespace's */
	uint32_t count, pending; /* transfers, and one while starting */
	uint32_t span_count, in_use;
	uint32_t fence_slot;
	uint64_t fence_value;
	struct device *device;
	const struct hbm_wire_range *segments; /* [span_count], the request's */
	struct region **regions;               /* [span_count], the first `in_use` of them */
	struct span *spans;                    /* [span_count] */
	struct hbm_wire_results *reply;
	struct item items[];
};

static void batch_free(struct batch *batch)
{
	if (batch->ns != 0)
		namespaces_unref(batch->hbmd->cache->namespaces, batch->ns);

	free(batch->regions);
	free(batch->spans);
	free(batch->reply);
	free(batch);
}

static struct batch *batch_new(struct hbmd *hbmd, struct request *request, uint32_t count,
			       uint32_t span_count)
{
	size_t size = sizeof(struct batch) + count * sizeof(struct item);
	size_t reply_size =
		sizeof(struct hbm_wire_results) + count * sizeof(struct hbm_wire_result);
	struct batch *batch = calloc(1, size);
	if (!batch)
		return NULL;

	*batch = (struct batch){.hbmd = hbmd,
				.request = request,
				.opcode = request->message->opcode,
				.count = count,
				.span_count = span_count,
				.fence_slot = HBM_WIRE_NO_FENCE};
	batch->regions = calloc(span_count + 1, sizeof(*batch->regions));
	batch->spans = calloc(span_count + 1, sizeof(*batch->spans));
	batch->reply = calloc(1, reply_size);
	if (!batch->regions || !batch->spans || !batch->reply) {
		batch_free(batch);
		return NULL;
	}

	batch->reply->count = count;
	request_charge(request, size + reply_size +
					(span_count + 1) *
						(sizeof(*batch->regions) + sizeof(*batch->spans)));

	return batch;
}

/* Keeps the namespace while the batch lives, even if the session closes it. */
static void serve_blocks_set_namespace(struct batch *batch, uint32_t ns)
{
	batch->ns = (uint16_t)ns;
	batch->block_bytes = namespaces_get(batch->hbmd->cache->namespaces, ns)->block_bytes;
	namespaces_ref(batch->hbmd->cache->namespaces, batch->ns);
}

/* Ends the use of the client's memory; the request's message is still valid. */
static void serve_blocks_release_segments(struct batch *batch)
{
	for (uint32_t i = 0; i < batch->in_use; i++)
		region_unuse(batch->regions[i], batch->segments[i].offset,
			     batch->segments[i].bytes);
	batch->in_use = 0;
}

static void batch_end(struct batch *batch)
{
	struct hbm_wire_results *reply = batch->reply;

	for (uint32_t i = 0; i < batch->count; i++)
		reply->done += reply->results[i].status == HBM_OK;
	serve_blocks_release_segments(batch);
	session_fence(batch->request->session, batch->fence_slot, batch->fence_value);
	request_reply(batch->request, HBM_OK, &reply->count,
		      sizeof(*reply) - sizeof(reply->header) +
			      batch->count * sizeof(reply->results[0]));
	batch_free(batch);
}

static void batch_refuse(struct batch *batch, int status, const char *why)
{
	serve_blocks_release_segments(batch);
	session_fence(batch->request->session, batch->fence_slot, batch->fence_value);
	request_refuse(batch->request, status, "%s", why);
	batch_free(batch);
}

static void serve_blocks_one_less(struct batch *batch)
{
	if (--batch->pending == 0)
		batch_end(batch);
}

static void serve_blocks_set_result(struct batch *batch, uint32_t i, int status, uint8_t tier)
{
	batch->reply->results[i] =
		(struct hbm_wire_result){.status = (uint8_t)status, .tier = tier};
}

static uint8_t serve_blocks_kind_of(const struct batch *batch, uint32_t number)
{
	const struct cache *cache = batch->hbmd->cache;
	return (uint8_t)cache->tiers[cache_block(cache, number)->target].kind;
}

/* ---- validate ---- */

static bool serve_blocks_is_zero_key(const struct hbm_wire_key *key)
{
	static const struct hbm_wire_key zero;
	return memcmp(key, &zero, sizeof(zero)) == 0;
}

/* Divides the segments among the blocks: together they must be exactly each block's
 * bytes. Done before any region lookup, which takes time for every slab a segment
 * spans. */
static int serve_blocks_divide_segments(struct batch *batch, const struct hbm_wire_block *blocks,
					const struct reason *why)
{
	uint32_t next = 0;
	for (uint32_t i = 0; i < batch->count; i++) {
		uint64_t sum = 0;
		batch->items[i].first_span = next;
		for (uint32_t end = next + blocks[i].segments; next < end; next++)
			if (!checked_add(sum, batch->segments[next].bytes, &sum))
				return reason_set(why, HBM_INVALID,
						  "block %u: its segments' bytes overflow", i);

		if (sum != batch->block_bytes)
			return reason_set(why, HBM_INVALID,
					  "block %u: segments of %llu bytes, block_bytes is %llu",
					  i, (unsigned long long)sum,
					  (unsigned long long)batch->block_bytes);
	}

	return HBM_OK;
}

/* Finds the daemon's addresses of a client's segments and uses their regions. Refuse a
 * lost device up front: making room for it would evict others' blocks for nothing. */
static int serve_blocks_resolve_segments(struct batch *batch, const struct reason *why)
{
	const struct hbm_wire_range *segments = batch->segments;
	for (uint32_t i = 0; i < batch->span_count; i++) {
		struct region *region =
			region_find(&batch->request->session->regions, segments[i].region);
		if (!region)
			return reason_set(why, HBM_NOT_FOUND, "segment %u: no region %u", i,
					  segments[i].region);

		CUdeviceptr address;
		int status =
			region_address(region, segments[i].offset, segments[i].bytes, &address);
		if (status != HBM_OK)
			return reason_set(
				why, status, "segment %u: %llu bytes at %llu of region %u are %s",
				i, (unsigned long long)segments[i].bytes,
				(unsigned long long)segments[i].offset, segments[i].region,
				status == HBM_INVALID ? "outside it" : "not committed");

		if (batch->device && batch->device != region_device(region))
			return reason_set(why, HBM_INVALID,
					  "segment %u: on another device than those before", i);

		batch->device = region_device(region);
		batch->spans[i] = (struct span){address, segments[i].bytes};
		batch->regions[i] = region;
		region_use(region, segments[i].offset, segments[i].bytes);
		batch->in_use++;
	}

	return device_is_lost(batch->device)
		       ? reason_set(why, HBM_DEVICE, "device %u is lost until hbmd restarts",
				    batch->device->index)
		       : HBM_OK;
}

/* ---- store ---- */

static void serve_blocks_stored(struct store *store)
{
	const struct transfer *transfer = &store->transfer;
	struct item *item = container_of(store, struct item, store);
	struct batch *batch = item->batch;
	uint32_t i = (uint32_t)(item - batch->items);

	batch->reply->results[i].status = (uint8_t)transfer->status;
	if (transfer->status == HBM_OK) {
		batch->hbmd->cache->counters.stored_blocks++;
		batch->hbmd->cache->counters.stored_bytes += batch->block_bytes;
		batch->request->session->stored_bytes += batch->block_bytes;
	}

	serve_blocks_one_less(batch);
}

/* Begins the store of a new block, or sets the result that says why not. */
static void serve_blocks_admit(struct batch *batch, uint32_t i, const struct hbm_wire_block *wanted)
{
	struct cache *cache = batch->hbmd->cache;
	struct item *item = &batch->items[i];

	if (namespaces_get(cache->namespaces, batch->ns)->drop) {
		serve_blocks_set_result(batch, i, HBM_NOT_FOUND, 0);
		return;
	}

	item->number = index_find(cache->index, batch->ns, &wanted->key);
	if (item->number != 0) {
		serve_blocks_set_result(batch, i, HBM_EXISTS,
					serve_blocks_kind_of(batch, item->number));
		return;
	}

	uint32_t parent = serve_blocks_is_zero_key(&wanted->parent)
				  ? 0
				  : index_find(cache->index, batch->ns, &wanted->parent);
	if (parent == 0 && !serve_blocks_is_zero_key(&wanted->parent)) {
		serve_blocks_set_result(batch, i, HBM_NO_PARENT, 0);
		return;
	}

	item->number = cache_insert(cache, batch->ns, &wanted->key, parent);
	if (item->number == 0)
		serve_blocks_set_result(batch, i, HBM_LIMIT, 0);
}

static bool serve_blocks_is_admitted(const struct batch *batch, uint32_t i)
{
	return batch->reply->results[i].status == HBM_OK;
}

static void serve_blocks_start_store(struct batch *batch, uint32_t i,
				     const struct hbm_wire_block *wanted)
{
	struct cache *cache = batch->hbmd->cache;
	struct item *item = &batch->items[i];
	if (!block_target(&cache->blocks, item->number)) {
		serve_blocks_set_result(batch, i, HBM_NO_SPACE, 0);
		cache_abandon_store(cache, item->number);
		return;
	}

	serve_blocks_set_result(batch, i, HBM_OK, serve_blocks_kind_of(batch, item->number));
	item->store = (struct store){.block = item->number,
				     .device = batch->device,
				     .spans = &batch->spans[item->first_span],
				     .span_count = wanted->segments,
				     .done = serve_blocks_stored};
	batch->pending++;
	store_begin(batch->hbmd->mover, &item->store);
}

static void serve_blocks_touch_all(struct batch *batch)
{
	struct cache *cache = batch->hbmd->cache;
	cache_touch_begin(cache);

	for (uint32_t i = batch->count; i-- > 0;)
		if (batch->items[i].number != 0)
			cache_touch(cache, batch->items[i].number, batch->device->index);

	cache_settle(cache);
}

static void serve_blocks_run_store(struct batch *batch)
{
	const struct hbm_wire_blocks *message =
		(const struct hbm_wire_blocks *)batch->request->message;

	batch->hbmd->cache->counters.stores++;

	/* Done before any lookup, so that it cannot drop a block this request names. */
	cache_make_room(batch->hbmd->cache, batch->count);
	for (uint32_t i = 0; i < batch->count; i++)
		serve_blocks_admit(batch, i, &message->blocks[i]);
	serve_blocks_touch_all(batch);

	for (uint32_t i = 0; i < batch->count; i++)
		if (serve_blocks_is_admitted(batch, i))
			serve_blocks_start_store(batch, i, &message->blocks[i]);
}

/* ---- load and prefetch ---- */

static void serve_blocks_loaded(struct load *load)
{
	const struct transfer *transfer = &load->transfer;
	struct item *item = container_of(load, struct item, load);
	struct batch *batch = item->batch;

	batch->reply->results[item - batch->items].status = (uint8_t)transfer->status;
	if (transfer->status == HBM_OK && batch->opcode == HBM_WIRE_LOAD) {
		batch->hbmd->cache->counters.loaded_blocks++;
		batch->hbmd->cache->counters.loaded_bytes += batch->block_bytes;
		batch->request->session->loaded_bytes += batch->block_bytes;
	}

	serve_blocks_one_less(batch);
}

/* Finds the blocks and keeps them from being evicted while the policy makes room for
 * them. */
static void serve_blocks_find_all(struct batch *batch, const struct hbm_wire_key *keys,
				  size_t stride)
{
	struct cache *cache = batch->hbmd->cache;
	for (uint32_t i = 0; i < batch->count; i++) {
		const struct hbm_wire_key *key =
			(const struct hbm_wire_key *)((const char *)keys + i * stride);
		uint32_t number = cache_find(cache, batch->ns, key);

		batch->items[i].number = number;
		if (number == 0) {
			serve_blocks_set_result(batch, i, HBM_MISS, 0);
			cache->counters.late_misses += batch->opcode == HBM_WIRE_LOAD;
			continue;
		}

		block_use(&cache->blocks, number);
		serve_blocks_set_result(batch, i, HBM_OK, serve_blocks_kind_of(batch, number));
		cache->counters.hits[serve_blocks_kind_of(batch, number)] +=
			batch->opcode == HBM_WIRE_LOAD;
	}
}

static void serve_blocks_start_load(struct batch *batch, uint32_t i, uint32_t span_count)
{
	struct item *item = &batch->items[i];

	item->load = (struct load){.block = item->number,
				   .device = batch->device,
				   .spans = &batch->spans[item->first_span],
				   .span_count = span_count,
				   .done = serve_blocks_loaded};
	batch->pending++;
	load_begin(batch->hbmd->mover, &item->load);
	block_unuse(&batch->hbmd->cache->blocks, item->number);
}

static void serve_blocks_run_load(struct batch *batch)
{
	const struct hbm_wire_blocks *message =
		(const struct hbm_wire_blocks *)batch->request->message;

	batch->hbmd->cache->counters.loads++;
	serve_blocks_find_all(batch, &message->blocks[0].key, sizeof(message->blocks[0]));
	serve_blocks_touch_all(batch);

	for (uint32_t i = 0; i < batch->count; i++)
		if (batch->items[i].number != 0)
			serve_blocks_start_load(batch, i, message->blocks[i].segments);
}

/* A load without spans: it ends when the block is in memory, on its way to its target. */
static void serve_blocks_run_prefetch(struct batch *batch)
{
	const struct hbm_wire_keys *message = (const struct hbm_wire_keys *)batch->request->message;
	serve_blocks_find_all(batch, message->keys, sizeof(message->keys[0]));
	serve_blocks_touch_all(batch);

	for (uint32_t i = 0; i < batch->count; i++)
		if (batch->items[i].number != 0)
			serve_blocks_start_load(batch, i, 0);
}

/* ---- requests ---- */

static void serve_blocks_run(struct batch *batch)
{
	batch->pending = 1;
	switch (batch->opcode) {
	case HBM_WIRE_STORE:
		serve_blocks_run_store(batch);
		break;
	case HBM_WIRE_LOAD:
		serve_blocks_run_load(batch);
		break;
	default:
		serve_blocks_run_prefetch(batch);
	}

	pump_run(batch->hbmd->mover);
	serve_blocks_one_less(batch);
}

static const char *serve_blocks_unready(int status)
{
	switch (status) {
	case HBM_TIMEOUT:
		return "the ready fence was not reached within limits.ready_ms";
	case HBM_CANCELLED:
		return "cancelled before its ready fence was reached";
	default:
		return "the session has ended";
	}
}

static void serve_blocks_ready(struct ready_wait *wait, int status)
{
	struct batch *batch = container_of(wait, struct batch, wait);
	if (status != HBM_OK)
		batch_refuse(batch, status, serve_blocks_unready(status));
	else
		serve_blocks_run(batch);
}

static void serve_blocks_start(struct batch *batch)
{
	for (uint32_t i = 0; i < batch->count; i++)
		batch->items[i].batch = batch;
	if (batch->wait.slot == HBM_WIRE_NO_FENCE)
		serve_blocks_run(batch);
	else
		session_wait_ready(batch->request->session, &batch->wait);
}

static void serve_blocks(struct hbmd *hbmd, struct request *request)
{
	const struct hbm_wire_blocks *message = (const struct hbm_wire_blocks *)request->message;
	int status = session_has_namespace(request->session, message->ns) ? HBM_OK : HBM_NOT_FOUND;
	struct batch *batch = status == HBM_OK
				      ? batch_new(hbmd, request, message->count, message->segments)
				      : NULL;
	if (!batch) {
		session_fence(request->session, message->fence_slot, message->fence_value);
		if (status != HBM_OK)
			request_refuse(request, status, "namespace %u is not open in this session",
				       message->ns);
		else
			request_refuse(request, HBM_LIMIT, "the daemon is out of memory");

		return;
	}

	serve_blocks_set_namespace(batch, message->ns);
	batch->fence_slot = message->fence_slot;
	batch->fence_value = message->fence_value;
	batch->wait = (struct ready_wait){.id = message->header.id,
					  .slot = message->ready_slot,
					  .value = message->ready_value,
					  .fire = serve_blocks_ready};
	batch->segments = (const void *)&message->blocks[message->count];
	struct refusal refusal;
	const struct reason why = refusal_reason(&refusal);
	status = serve_blocks_divide_segments(batch, message->blocks, &why);
	if (status == HBM_OK)
		status = serve_blocks_resolve_segments(batch, &why);

	if (status == HBM_OK)
		serve_blocks_start(batch);
	else
		batch_refuse(batch, status, refusal.reason);
}

void serve_store(struct hbmd *hbmd, struct request *request)
{
	serve_blocks(hbmd, request);
}

void serve_load(struct hbmd *hbmd, struct request *request)
{
	serve_blocks(hbmd, request);
}

void serve_prefetch(struct hbmd *hbmd, struct request *request)
{
	const struct hbm_wire_keys *message = (const struct hbm_wire_keys *)request->message;
	int status = message->device < hbmd->devices->count ? HBM_OK : HBM_INVALID;
	if (status == HBM_OK && !session_has_namespace(request->session, message->ns))
		status = HBM_NOT_FOUND;
	if (status == HBM_OK && device_is_lost(&hbmd->devices->list[message->device]))
		status = HBM_DEVICE;

	struct batch *batch = status == HBM_OK ? batch_new(hbmd, request, message->count, 0) : NULL;
	if (!batch) {
		request_refuse(request, status == HBM_OK ? HBM_LIMIT : status, "%s",
			       status == HBM_OK        ? "the daemon is out of memory"
			       : status == HBM_INVALID ? "no such device"
			       : status == HBM_NOT_FOUND
				       ? "the namespace is not open in this session"
				       : "the device is lost until hbmd restarts");
		return;
	}

	serve_blocks_set_namespace(batch, message->ns);
	batch->device = &hbmd->devices->list[message->device];
	batch->wait.slot = HBM_WIRE_NO_FENCE;
	serve_blocks_start(batch);
}
