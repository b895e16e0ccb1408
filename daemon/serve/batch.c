/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/serve/batch.h"

#include "daemon/catalog/catalog.h"
#include "daemon/move/load.h"
#include "daemon/move/move.h"
#include "daemon/move/pump.h"
#include "daemon/move/store.h"
#include "daemon/serve/admit.h"
#include "daemon/serve/adopt.h"

#include <stdlib.h>
#include <string.h>

#define ROOM_STEP 64 /* new blocks for which room is made at a time */

struct batch_item {
	union {
		struct store store;
		struct load load;
		struct catalog_wait durable; /* when it is stored */
	};
	struct batch *batch;
	uint32_t number; /* 0: it has no block to move */
	uint32_t first_span;
	struct pin *pin; /* that it is stored with, or NULL */
};

/* ---- the whole ---- */

static void batch_free(struct batch *batch)
{
	namespaces_unref(batch->hbmd->cache->namespaces, batch->ns);
	free(batch->regions);
	free(batch->spans);
	free(batch->reply);
	free(batch->items);
	free(batch);
}

uint64_t batch_bytes(uint64_t count, uint64_t span_count)
{
	return sizeof(struct batch) + sizeof(struct hbm_wire_results) +
	       count * (sizeof(struct hbm_wire_result) + sizeof(struct batch_item)) +
	       (span_count + 1) * (sizeof(struct region *) + sizeof(struct span));
}

struct batch *batch_new(struct hbmd *hbmd, struct request *request, uint32_t ns, uint32_t count,
			uint32_t span_count)
{
	struct namespaces *namespaces = hbmd->cache->namespaces;
	struct batch *batch = calloc(1, sizeof(*batch));
	struct region **regions = calloc(span_count + 1, sizeof(struct region *));
	if (!batch || !regions) {
		free(regions);
		free(batch);
		return NULL;
	}

	*batch = (struct batch){.hbmd = hbmd,
				.request = request,
				.ns = (uint16_t)ns,
				.opcode = request->message->opcode,
				.block_bytes = namespaces_get(namespaces, ns)->block_bytes,
				.count = count,
				.span_count = span_count,
				.wait.slot = HBM_WIRE_NO_FENCE,
				.fence.slot = HBM_WIRE_NO_FENCE,
				.regions = regions};
	/* Keeps the namespace even if the session closes it. */
	namespaces_ref(namespaces, batch->ns);
	request_charge(request, sizeof(*batch) + (span_count + 1) * sizeof(*regions));

	return batch;
}

/* Ends the use of the client's memory; the request's message is still valid. */
static void batch_release_segments(struct batch *batch)
{
	for (uint32_t i = 0; i < batch->in_use; i++)
		region_unuse(batch->regions[i], batch->segments[i].offset,
			     batch->segments[i].bytes);
	batch->in_use = 0;
}

static void batch_end(struct batch *batch)
{
	struct hbm_wire_results *reply = batch->reply;
	uint32_t exist = 0;

	for (uint32_t i = 0; i < batch->count; i++) {
		reply->done += reply->results[i].status == HBM_OK;
		exist += reply->results[i].status == HBM_EXISTS;
	}

	batch_release_segments(batch);
	session_complete_request(batch->request, &batch->fence, batch->count - reply->done - exist);
	request_reply(batch->request, HBM_OK, &reply->count,
		      sizeof(*reply) - sizeof(reply->header) +
			      batch->count * sizeof(reply->results[0]));
	batch_free(batch);
}

void batch_refuse(struct batch *batch, int status, const char *why)
{
	batch_release_segments(batch);
	session_complete_request(batch->request, &batch->fence, batch->count);
	request_refuse(batch->request, status, "%s", why);
	batch_free(batch);
}

static void batch_one_less(struct batch *batch)
{
	if (--batch->pending == 0)
		batch_end(batch);
}

static void batch_set_result(struct batch *batch, uint32_t i, int status, uint8_t tier)
{
	batch->reply->results[i] =
		(struct hbm_wire_result){.status = (uint8_t)status, .tier = tier};
}

static uint8_t batch_kind_of(const struct batch *batch, uint32_t number)
{
	const struct cache *cache = batch->hbmd->cache;
	return (uint8_t)cache->tiers[cache_block(cache, number)->target].kind;
}

static const struct hbm_wire_block *batch_wanted(const struct batch *batch, uint32_t i)
{
	return &((const struct hbm_wire_blocks *)(const void *)batch->request->message)->blocks[i];
}

static const struct hbm_wire_key *batch_key(const struct batch *batch, uint32_t i)
{
	if (batch->opcode == HBM_WIRE_PREFETCH)
		return &((const struct hbm_wire_keys *)(const void *)batch->request->message)
				->keys[i];
	return &batch_wanted(batch, i)->key;
}

static uint32_t batch_segments(const struct batch *batch, uint32_t i)
{
	return batch->opcode == HBM_WIRE_PREFETCH ? 0 : batch_wanted(batch, i)->segments;
}

/* ---- start ---- */

/* A copy of the item may go on in the client's memory. */
static void batch_keep_segments(const struct batch_item *item)
{
	const struct batch *batch = item->batch;
	uint32_t first = item->first_span,
		 end = first + batch_segments(batch, (uint32_t)(item - batch->items));

	for (uint32_t i = first; i < end; i++)
		region_keep(batch->regions[i], batch->segments[i].offset, batch->segments[i].bytes);
}

static void batch_end_pin(struct batch *batch, struct batch_item *item, bool stored)
{
	if (item->pin)
		admit_end_pin(batch->hbmd->cache, batch->request->session, item->pin, stored);
	item->pin = NULL;
}

/* Whether the number is still that block's: while it was made durable nothing held it. */
static bool batch_still_has(const struct batch *batch, const struct batch_item *item, uint32_t i)
{
	const struct cache *cache = batch->hbmd->cache;

	return index_find(cache->index, batch->ns, &batch_wanted(batch, i)->key) == item->number &&
	       block_is_complete(cache_block(cache, item->number));
}

/* A block that is stored is lent as the client has it, if it may be. */
static void batch_adopt(const struct batch_item *item)
{
	const struct batch *batch = item->batch;
	uint32_t i = (uint32_t)(item - batch->items), first = item->first_span;

	if (batch_wanted(batch, i)->flags & HBM_WIRE_BLOCK_LEND && batch_still_has(batch, item, i))
		adopt_block(batch->request->session, batch->device->lend, item->number,
			    &batch->regions[first], &batch->segments[first],
			    batch_segments(batch, i));
}

static void batch_end_store(struct batch_item *item, int status)
{
	struct batch *batch = item->batch;

	batch->reply->results[item - batch->items].status = (uint8_t)status;
	if (status == HBM_OK) {
		batch_adopt(item);
		batch->hbmd->cache->counters.stored_blocks++;
		batch->hbmd->cache->counters.stored_bytes += batch->block_bytes;
		batch->request->session->stored_bytes += batch->block_bytes;
	}

	batch_end_pin(batch, item, status == HBM_OK);
	batch_one_less(batch);
}

static void batch_is_durable(struct catalog_wait *wait, int status)
{
	batch_end_store(container_of(wait, struct batch_item, durable), status);
}

/* A block that was there already keeps its result. */
static void batch_is_durable_again(struct catalog_wait *wait, int status)
{
	const struct batch_item *item = container_of(wait, struct batch_item, durable);
	struct batch *batch = item->batch;

	if (status != HBM_OK)
		batch_set_result(batch, (uint32_t)(item - batch->items), status, 0);
	batch_one_less(batch);
}

static bool batch_wants_durable(const struct batch *batch, uint32_t i)
{
	return batch->opcode == HBM_WIRE_STORE &&
	       batch_wanted(batch, i)->flags & HBM_WIRE_BLOCK_DURABLE;
}

static void batch_await(struct batch_item *item, bool again)
{
	struct batch *batch = item->batch;

	item->durable =
		(struct catalog_wait){.ns = batch->ns,
				      .key = *batch_key(batch, (uint32_t)(item - batch->items)),
				      .again = again,
				      .done = again ? batch_is_durable_again : batch_is_durable};
	catalog_await(batch->hbmd->catalog, &item->durable);
}

static void batch_stored(struct store *store)
{
	struct batch_item *item = container_of(store, struct batch_item, store);
	int status = store->transfer.status;

	if (store->transfer.late)
		batch_keep_segments(item);

	if (status == HBM_OK &&
	    batch_wants_durable(item->batch, (uint32_t)(item - item->batch->items)))
		batch_await(item, false);
	else
		batch_end_store(item, status);
}

static void batch_start_store(struct batch *batch, uint32_t i)
{
	struct cache *cache = batch->hbmd->cache;
	struct batch_item *item = &batch->items[i];
	if (!block_target(&cache->blocks, item->number)) {
		batch_set_result(batch, i, HBM_NO_SPACE, 0);
		cache_abandon_store(cache, item->number);
		batch_end_pin(batch, item, false);
		return;
	}

	batch_set_result(batch, i, HBM_OK, batch_kind_of(batch, item->number));
	item->store = (struct store){.block = item->number,
				     .payer = batch->request->session->fair_payer,
				     .device = batch->device,
				     .spans = &batch->spans[item->first_span],
				     .span_count = batch_segments(batch, i),
				     .done = batch_stored};
	batch->pending++;
	store_begin(batch->hbmd->mover, &item->store);
}

static void batch_loaded(struct load *load)
{
	const struct transfer *transfer = &load->transfer;
	struct batch_item *item = container_of(load, struct batch_item, load);
	struct batch *batch = item->batch;

	batch->reply->results[item - batch->items].status = (uint8_t)transfer->status;
	if (transfer->status == HBM_OK && batch->opcode == HBM_WIRE_LOAD) {
		batch->hbmd->cache->counters.loaded_blocks++;
		batch->hbmd->cache->counters.loaded_bytes += batch->block_bytes;
		batch->request->session->loaded_bytes += batch->block_bytes;
	}

	if (transfer->late)
		batch_keep_segments(item);

	batch_one_less(batch);
}

/* A prefetch is a load without spans: it ends when the block is in memory, on its way to its
 * target. */
static void batch_start_load(struct batch *batch, uint32_t i)
{
	struct batch_item *item = &batch->items[i];
	struct blocks *blocks = &batch->hbmd->cache->blocks;

	if (block_is_dropped(block_get(blocks, item->number))) {
		batch_set_result(batch, i, HBM_MISS, 0);
	} else {
		item->load = (struct load){.block = item->number,
					   .payer = batch->request->session->fair_payer,
					   .device = batch->device,
					   .spans = &batch->spans[item->first_span],
					   .span_count = batch_segments(batch, i),
					   .done = batch_loaded};
		batch->pending++;
		load_begin(batch->hbmd->mover, &item->load);
	}

	move_unuse(batch->hbmd->mover, item->number); /* a move may have ended meanwhile */
}

/* It has been there, and its client waits until it is durable. */
static bool batch_exists_for_durable(const struct batch *batch, uint32_t i)
{
	return batch->reply->results[i].status == HBM_EXISTS && batch_wants_durable(batch, i);
}

static void batch_start_waiting(struct batch *batch, uint32_t i)
{
	batch->pending++;
	batch_await(&batch->items[i], true);
}

static void batch_start_one(struct batch *batch, uint32_t i)
{
	if (batch->opcode == HBM_WIRE_STORE)
		batch_start_store(batch, i);
	else
		batch_start_load(batch, i);
}

static bool batch_start(struct batch *batch, struct slice *slice)
{
	while (batch->at < batch->count) {
		uint32_t i = batch->at++;

		if (batch->items[i].number != 0)
			batch_start_one(batch, i);
		else if (batch_exists_for_durable(batch, i))
			batch_start_waiting(batch, i);
		else
			continue;
		if (slice_is_over(slice))
			return false;
	}

	batch->phase = NULL;

	return true;
}

/* ---- touch, settle ---- */

static bool batch_settle(struct batch *batch, struct slice *slice)
{
	if (!cache_settle_touch(batch->hbmd->cache, &batch->touch, slice))
		return false;

	cache_touch_end(batch->hbmd->cache);
	batch->at = 0;
	batch->phase = batch_start;

	return true;
}

/* The block to use for an item: a store uses one that exists already, too. */
static uint32_t batch_to_touch(const struct batch *batch, uint32_t i)
{
	if (batch->reply->results[i].status == HBM_EXISTS)
		return index_find(batch->hbmd->cache->index, batch->ns, batch_key(batch, i));
	if (batch->opcode == HBM_WIRE_STORE && batch_wanted(batch, i)->tier != HBM_TIER_NONE)
		return 0; /* it is where it is to be */
	return batch->items[i].number;
}

static bool batch_touch(struct batch *batch, struct slice *slice)
{
	struct cache *cache = batch->hbmd->cache;

	for (; batch->at > 0; batch->at--) {
		uint32_t number = batch_to_touch(batch, batch->at - 1);

		if (!cache_touch_some(cache, &batch->touch, number, batch->device->index, slice))
			return false;
	}

	batch->phase = batch_settle;

	return true;
}

static void batch_begin_touch(struct batch *batch)
{
	cache_touch_begin(batch->hbmd->cache, &batch->touch);
	batch->touch.moved = batch->placed;
	batch->at = batch->count;
	batch->phase = batch_touch;
}

/* ---- room, find ---- */

/* Begins the store of a new block, or sets the result that says why not. */
static void batch_admit(struct batch *batch, uint32_t i)
{
	const struct hbm_wire_block *wanted = batch_wanted(batch, i);
	struct batch_item *item = &batch->items[i];
	struct admission admission = {.session = batch->request->session,
				      .ns = batch->ns,
				      .device = batch->device->index,
				      .wanted = wanted};
	int status = admit_block(batch->hbmd->cache, &admission);
	uint8_t kind = status == HBM_EXISTS ? batch_kind_of(batch, admission.number) : 0;

	batch_set_result(batch, i, status, kind);
	batch->placed |= admission.placed;
	if (status == HBM_OK) {
		item->number = admission.number;
		item->pin = admission.pin;
	}
}

/* Finds a block and keeps it from being evicted while the policy makes room. */
static void batch_look_up(struct batch *batch, uint32_t i)
{
	struct cache *cache = batch->hbmd->cache;
	bool is_load = batch->opcode == HBM_WIRE_LOAD;
	uint32_t number = cache_find_loadable(cache, batch->ns, batch_key(batch, i));

	batch->items[i].number = number;
	if (number == 0) {
		batch_set_result(batch, i, HBM_MISS, 0);
		cache->counters.late_misses += is_load;
		return;
	}

	block_use(&cache->blocks, number);
	batch_set_result(batch, i, HBM_OK, batch_kind_of(batch, number));
	cache->counters.hits[batch_kind_of(batch, number)] += is_load;
}

static bool batch_find(struct batch *batch, struct slice *slice)
{
	while (batch->at < batch->count) {
		uint32_t i = batch->at++;

		batch->items[i] =
			(struct batch_item){.batch = batch, .first_span = batch->next_span};
		batch->next_span += batch_segments(batch, i);
		if (batch->opcode == HBM_WIRE_STORE)
			batch_admit(batch, i);
		else
			batch_look_up(batch, i);
		if (slice_is_over(slice))
			return false;
	}

	batch_begin_touch(batch);

	return true;
}

/* Done before any lookup, so that it cannot drop a block this request names. */
static bool batch_make_room(struct batch *batch, struct slice *slice)
{
	while (batch->at < batch->count) {
		uint32_t left = batch->count - batch->at,
			 step = left < ROOM_STEP ? left : ROOM_STEP;

		if (!cache_make_room(batch->hbmd->cache, batch->ns, batch->at + step, slice))
			return false;
		batch->at += step;
	}

	batch->at = 0;
	batch->phase = batch_find;

	return true;
}

/* Finds the daemon's addresses of the client's segments: those of ranges in use do not
 * change. */
static bool batch_resolve(struct batch *batch, struct slice *slice)
{
	while (batch->at < batch->span_count) {
		uint32_t i = batch->at++;
		const struct hbm_wire_range *segment = &batch->segments[i];
		CUdeviceptr address = 0;

		(void)region_address(batch->regions[i], segment->offset, segment->bytes, &address);
		batch->spans[i] = (struct span){address, segment->bytes};
		if (slice_is_over(slice))
			return false;
	}

	batch->at = 0;
	batch->phase = batch->opcode == HBM_WIRE_STORE ? batch_make_room : batch_find;

	return true;
}

/* ---- begin ---- */

static bool batch_allocate(struct batch *batch)
{
	size_t reply_size = sizeof(*batch->reply) + batch->count * sizeof(batch->reply->results[0]),
	       items_size = batch->count * sizeof(*batch->items),
	       spans_size = (batch->span_count + 1) * sizeof(*batch->spans);

	batch->reply = calloc(1, reply_size);
	batch->items = malloc(items_size);
	batch->spans = malloc(spans_size);
	if (!batch->reply || !batch->items || !batch->spans)
		return false;

	batch->reply->count = batch->count;
	request_charge(batch->request, reply_size + items_size + spans_size);

	return true;
}

static bool batch_run(struct work *work, struct slice *slice)
{
	struct batch *batch = container_of(work, struct batch, work);
	bool over = false;

	while (batch->phase && !over)
		over = !batch->phase(batch, slice);

	pump_run(batch->hbmd->mover);

	bool done = !batch->phase;
	if (done)
		batch_one_less(batch);

	return done;
}

void batch_begin(struct batch *batch)
{
	struct counters *counters = &batch->hbmd->cache->counters;

	if (!batch_allocate(batch)) {
		batch_refuse(batch, HBM_LIMIT, "the daemon is out of memory");
		return;
	}

	counters->stores += batch->opcode == HBM_WIRE_STORE;
	counters->loads += batch->opcode == HBM_WIRE_LOAD;
	batch->pending = 1;
	batch->at = 0;
	batch->phase = batch_resolve;
	batch->work.run = batch_run;
	session_work(batch->request->session, &batch->work);
}
