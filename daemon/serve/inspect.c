/* SPDX-License-Identifier: Apache-2.0 */
/*
 * inspect: answers QUERY with the current state of the daemon, as pages of fixed-size
 * records. It changes nothing. A cursor is a position in a table, or the id of the next; a
 * walk over several pages sees each entry that stays, and may miss one that comes or goes
 * meanwhile. A page takes no longer for what earlier pages have shown. Which records there
 * are depends on who asks (visible.h).
 *
 * VERIFY and LIMITS take many turns of the loop: serve_verify.h.
 */
#include "daemon/serve/inspect.h"

#include "daemon/base/link_stats.h"
#include "daemon/base/log.h"
#include "daemon/cache/cache.h"
#include "daemon/catalog/catalog.h"
#include "daemon/config/config.h"
#include "daemon/move/mover.h"
#include "daemon/move/restoration.h"
#include "daemon/region/lend.h"
#include "daemon/region/publication.h"
#include "daemon/region/reservations.h"
#include "daemon/region/slab.h"
#include "daemon/serve/inspect_boards.h"
#include "daemon/serve/memory_pressure.h"
#include "daemon/serve/resize.h"
#include "daemon/serve/serve_lent.h"
#include "daemon/serve/serve_tenant.h"
#include "daemon/serve/serve_verify.h"
#include "daemon/tier/hbm_memory.h"
#include "daemon/tier/nvme_io.h"
#include "daemon/tier/nvme_name.h"
#include "daemon/tier/nvme_watch.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* index entries, and children of theirs, visited per page of blocks */
#define BLOCKS_STEP 2048
#define CHILDREN_COUNTED 1024 /* of one block */
#define NAMESPACES_STEP 4096  /* numbers visited per page */

static union {
	struct hbm_wire_query_reply reply;
	char bytes[HBM_WIRE_MESSAGE_MAX];
} answer;

static void inspect_count_sessions(struct hbmd *hbmd, struct hbm_wire_status *status)
{
	list_for_each (node, server_sessions(hbmd->server)) {
		const struct session *session = container_of(node, struct session, link);
		status->sessions +=
			session->state != SESSION_DEAD && session->state != SESSION_AWAY;
		status->regions += ledger_used(&session->payer, LEDGER_REGIONS);
	}
}

static uint64_t inspect_index_bytes(const struct cache *cache)
{
	uint64_t bytes = index_memory(cache->index);
	for (uint32_t i = 0; i <= cache->tier_count; i++)
		if (cache->tiers[i].extents)
			bytes += extent_memory(cache->tiers[i].extents);
	return bytes;
}

static void inspect_fill_cache(const struct cache *cache, struct hbm_wire_status *status)
{
	status->namespaces = namespaces_count(cache->namespaces);
	status->blocks = index_count(cache->index);
	status->blocks_max = index_max(cache->index);
	status->index_bytes = inspect_index_bytes(cache);
}

static const char *inspect_nvme_state(const struct hbmd *hbmd)
{
	const struct tier *nvme = hbmd->cache->nvme;
	return nvme->lost                           ? ", NVMe lost"
	       : nvme->silent                       ? ", no answer from NVMe"
	       : hbmd->nvme_missing                 ? ", without NVMe"
	       : nvme_name_is_gone(hbmd->nvme_name) ? ", NVMe file replaced"
						    : "";
}

/* The state of the daemon, and its first lost device, or else its lost NVMe. */
static void inspect_name_state(const struct hbmd *hbmd, struct hbm_wire_status *status)
{
	const struct devices *devices = hbmd->devices;
	const char *state = hbmd->draining && hbmd->state != HBMD_STOPPING
				    ? "draining"
				    : hbmd_state_name(hbmd->state);
	uint32_t i = 0;
	while (i < devices->count && !device_is_lost(&devices->list[i]))
		i++;
	if (i < devices->count)
		snprintf(status->state, sizeof(status->state), "%s, device %u lost", state,
			 (unsigned)(uint8_t)i);
	else
		snprintf(status->state, sizeof(status->state), "%s%s", state,
			 inspect_nvme_state(hbmd));
}

static void inspect_fill_turns(const struct loop *loop, struct hbm_wire_status *status)
{
	struct loop_turns turns = loop_turns(loop);

	memcpy(status->turns, turns.at_most, sizeof(status->turns));
	status->longest_turn_ns = turns.longest_ns;
}

static void inspect_fill_catalog(const struct catalog *catalog, struct hbm_wire_status *status)
{
	if (!catalog)
		return;

	struct catalog_figures figures = catalog_figures(catalog);

	status->catalog_records = figures.records;
	status->catalog_unflushed = figures.unflushed;
	status->catalog_restored = figures.restored;
	status->catalog_dropped = figures.refused;
	status->catalog_failures = figures.failures;
	status->catalog_failing = figures.failing;
	status->durable_blocks = figures.durable;
}

static void inspect_fill_restoration(const struct restoration *restoration,
				     struct hbm_wire_status *status)
{
	if (!restoration)
		return;

	struct block_restore_figures ddr = restoration_figures(restoration, HBM_TIER_DDR),
				     hbm = restoration_figures(restoration, HBM_TIER_HBM);

	status->ddr_restored = ddr.restored;
	status->ddr_unsummed = ddr.unsummed;
	status->ddr_dropped = ddr.refused;
	status->hbm_restored = hbm.restored;
	status->hbm_unsummed = hbm.unsummed;
	status->hbm_dropped = hbm.refused;
}

static void inspect_query_status(struct page *page)
{
	struct hbmd *hbmd = page->hbmd;
	struct hbm_wire_status *status = (struct hbm_wire_status *)(void *)page->records;

	snprintf(status->version, sizeof(status->version), "%s", HBM_VERSION);
	snprintf(status->driver, sizeof(status->driver), "%s",
		 driver_kind_name(hbmd->devices->kind));
	snprintf(status->io, sizeof(status->io), "%s", loop_engine_name(hbmd->loop));
	inspect_name_state(hbmd, status);
	memcpy(status->boot_id, hbmd->boot_id, sizeof(status->boot_id));
	status->pid = (uint64_t)getpid();
	status->uptime_ms = (clock_now() - hbmd->started_ns) / 1000000;
	counters_add(server_counters(hbmd->server), status);
	counters_add(&hbmd->cache->counters, status);
	for (uint32_t i = 0; i < hbmd->devices->count; i++)
		status->device_errors += device_errors(&hbmd->devices->list[i]);
	status->log_lines_dropped = log_dropped();
	inspect_fill_turns(hbmd->loop, status);
	status->footprint_max = hbmd->footprint;
	inspect_count_sessions(hbmd, status);
	inspect_fill_cache(hbmd->cache, status);
	status->nvme_missing = hbmd->nvme_missing;
	status->nvme_replaced = nvme_name_is_gone(hbmd->nvme_name);
	inspect_fill_restoration(hbmd->restoration, status);
	inspect_fill_catalog(hbmd->catalog, status);
	if (hbmd->nvme_watch)
		status->nvme_hangs = hbmd->nvme_watch->hangs;
	if (hbmd->cache->nvme->io) {
		const struct nvme_flight *flight = nvme_io_flight(hbmd->cache->nvme->io);
		status->nvme_depth = nvme_flight_depth(flight);
		status->nvme_window = nvme_flight_window(flight);
	}
	page->count = 1;
	page->cursor = 0;
}

static void inspect_pool(struct device *device, struct hbm_wire_device *record)
{
	struct slabs_books books = slabs_books(device->slabs);

	*record = (struct hbm_wire_device){.index = device->index,
					   .lost = device_is_lost(device),
					   .total = device->total,
					   .memory = books.budget,
					   .regions = books.budget,
					   .leased = books.leased,
					   .quarantined = books.quarantined,
					   .retiring = books.retiring,
					   .ready = books.ready,
					   .uncreated = books.uncreated,
					   .held = books.held,
					   .free = device_free(device),
					   .promised = books.promised,
					   .slab = slabs_default(device->slabs),
					   .granularity = device->granularity};
	memcpy(record->name, device->name, sizeof(record->name));
}

/* What host memory for regions, which comes last, has not. */
static void inspect_rest(const struct hbmd *hbmd, const struct device *device,
			 struct hbm_wire_device *record)
{
	const struct tier *tier = cache_hbm(hbmd->cache, device->index);

	memcpy(record->uuid, device->uuid.bytes, sizeof(record->uuid));
	record->memory += tier->memory ? hbm_memory_bytes(tier->memory) : 0;
	record->cache = tier->capacity;
	record->headroom = tier->headroom;
	record->lend = device->lend->budget;
	record->lent = device->lend->bytes;
	record->replicas = device->lend->replicas;
	record->loans = device->lend->loans;
	record->waiting = reservations_waiting(hbmd->reservations, device->index);
}

static void inspect_query_devices(struct page *page)
{
	struct hbm_wire_device *records = (struct hbm_wire_device *)(void *)page->records;
	const struct devices *devices = page->hbmd->devices;
	uint64_t i = page->cursor;
	struct device *device;

	for (; (device = devices_nth(devices, (uint32_t)i)) && page->count < page->room; i++) {
		struct hbm_wire_device *record = &records[page->count++];

		inspect_pool(device, record);
		if (device != devices->host)
			inspect_rest(page->hbmd, device, record);
	}

	page->cursor = device ? i : 0;
}

static uint64_t inspect_written(const struct hbmd *hbmd, const struct tier *tier)
{
	struct hbm_wire_link link = {0};

	if (tier->kind == HBM_TIER_NVME)
		link_stats_link(hbmd->link_stats, HBM_LINK_NVME_WRITE, &link);

	return link.bytes;
}

static void inspect_query_tiers(struct page *page)
{
	struct hbm_wire_tier *records = (struct hbm_wire_tier *)(void *)page->records;
	const struct cache *cache = page->hbmd->cache;
	uint64_t i = page->cursor > 0 ? page->cursor : 1;

	for (; i <= cache->tier_count && page->count < page->room; i++) {
		const struct tier *tier = &cache->tiers[i];
		if (tier->capacity == 0)
			continue;
		records[page->count++] = (struct hbm_wire_tier){
			.tier = tier->kind,
			.device = tier->device_index,
			.capacity = tier->capacity,
			.headroom = tier->headroom,
			.usable = tier->usable,
			.blocks = tier->blocks,
			.bytes = tier->bytes,
			.placed = tier->placed,
			.moving = tier->moving,
			.free = extent_available(tier->extents),
			.pinned = cache_pinned(cache, tier),
			.in_blocks = tier->in_blocks,
			.in_bytes = tier->in_bytes,
			.out_blocks = tier->out_blocks,
			.out_bytes = tier->out_bytes,
			.logical_bytes = tier->logical_bytes,
			.lost = tier->lost || tier->silent,
			.failed = tier->failed,
			.copies = tier->copies,
			.copies_max = tier->copies_max,
			.reused_blocks = tier->reused_blocks,
			.reused_bytes = tier->reused_bytes,
			.written_bytes = inspect_written(page->hbmd, tier),
			.retained = retention_favoured(&cache->retention, tier->number),
			.resizing = resize_is_on(page->hbmd, tier),
			.leaving = resize_leaving(tier),
			.pressed = tier->kind == HBM_TIER_DDR ? memory_pressure_events(page->hbmd)
							      : 0};
	}

	page->cursor = i <= cache->tier_count ? i : 0;
}

/* Sessions are in the order of their ids. */
static void inspect_query_sessions(struct page *page)
{
	struct hbm_wire_session *records = (struct hbm_wire_session *)(void *)page->records;
	list_for_each (node, server_sessions(page->hbmd->server)) {
		const struct session *session = container_of(node, struct session, link);
		if (!visible_session(page->visible, session) || session->id < page->cursor)
			continue;
		if (page->count == page->room) {
			page->cursor = session->id;
			return;
		}

		session_record(session, &records[page->count++]);
	}

	page->cursor = 0;
}

/* Published ones, which have no session. False: the page is full. */
static bool inspect_query_published(struct page *page, uint32_t from)
{
	const struct visible *visible = page->visible;
	uint32_t next;

	page->count = publications_records(
		page->hbmd->publications, visible->all ? NULL : visible->viewer->user, from,
		(struct hbm_wire_region *)(void *)page->records, page->room, &next);
	page->cursor = next;

	return next == 0;
}

/* The cursor is session id << 32 | region id. An id that does not fit in its half would only
 * end the walk early. */
static void inspect_query_regions(struct page *page)
{
	struct hbm_wire_region *records = (struct hbm_wire_region *)(void *)page->records;
	uint64_t first = page->cursor >> 32;

	if (first == 0 && !inspect_query_published(page, (uint32_t)page->cursor))
		return;

	list_for_each (node, server_sessions(page->hbmd->server)) {
		const struct session *session = container_of(node, struct session, link);
		uint32_t from = session->id == first ? (uint32_t)page->cursor : 0, next;
		if (!visible_session(page->visible, session) || session->id < first)
			continue;

		page->count += session_regions(session, from, &records[page->count],
					       page->room - page->count, &next);
		if (next != 0) {
			page->cursor = session->id << 32 | next;
			return;
		}
	}

	page->cursor = 0;
}

#define ENCODING_NAME(name, value, text) [value] = (text),
static const char *const encoding_names[HBM_ENCODINGS] = {HBM_ENCODING_LIST(ENCODING_NAME)};

static void inspect_fill_namespace(const struct namespace *ns, uint32_t number,
				   struct hbm_wire_namespace *record)
{
	*record = (struct hbm_wire_namespace){.ns = number,
					      .opens = ns->opens,
					      .weights = ns->spec.weights,
					      .block_bytes = ns->block_bytes,
					      .blocks = namespace_blocks(ns),
					      .logical_bytes = ns->logical_bytes,
					      .element_bytes = ns->encoding.element_bytes,
					      .salted = ns->salted,
					      .memory_only = ns->memory_only,
					      .wipe_on_free = ns->wipe_on_free};
	memcpy(record->group, ns->group, sizeof(record->group));
	strcpy(record->encoding, encoding_names[ns->encoding.encoding]);
	memcpy(record->model, ns->spec.model, sizeof(record->model));
	memcpy(record->layout, ns->spec.layout, sizeof(record->layout));
	memcpy(record->fingerprint, ns->fingerprint, sizeof(record->fingerprint));
	record->blocks_in[HBM_TIER_NONE] = namespace_blocks(ns);
	for (unsigned tier = HBM_TIER_HBM; tier < HBM_TIERS; tier++) {
		record->blocks_in[tier] = ns->blocks_in[tier];
		record->blocks_in[HBM_TIER_NONE] -= ns->blocks_in[tier];
	}
}

static void inspect_query_namespaces(struct page *page)
{
	struct hbm_wire_namespace *records = (struct hbm_wire_namespace *)(void *)page->records;
	uint64_t max = ledger_limit(&page->hbmd->ledger->host, LEDGER_NAMESPACES),
		 i = page->cursor > 0 ? page->cursor : 1;
	for (uint64_t step = 0; i <= max && page->count < page->room && step < NAMESPACES_STEP;
	     i++, step++) {
		const struct namespace *ns =
			namespaces_get(page->hbmd->cache->namespaces, (uint32_t)i);
		if (ns && visible_namespace(page->visible, (uint16_t)i))
			inspect_fill_namespace(ns, (uint32_t)i, &records[page->count++]);
	}

	page->cursor = i <= max ? i : 0;
}

static void inspect_fill_block(const struct cache *cache, uint32_t number,
			       struct hbm_wire_block_info *record)
{
	const struct block *block = cache_block(cache, number);
	const struct tier *place = &cache->tiers[block->actual];
	const struct retained *retained = retention_find(&cache->retention, number);

	*record = (struct hbm_wire_block_info){.ns = block->ns,
					       .device = place->device_index,
					       .key = block->key,
					       .tier = cache->tiers[block->target].kind,
					       .place = place->kind,
					       .offset = tier_offset(block->unit),
					       .bytes = block_logical_bytes(&cache->blocks, number),
					       .checksum = block->checksum,
					       .pins = block->pins,
					       .readers = block->users,
					       .checksummed = block->checksummed,
					       .priority = retained ? retained->priority : 0,
					       .durable = block->durable};
	if (cache_parent(cache, number) != 0)
		record->parent = cache_block(cache, block->parent)->key;

	for (uint32_t child = block->child; child != 0 && record->children < CHILDREN_COUNTED;
	     child = cache_block(cache, child)->sibling)
		record->children++;
}

/* Whether the index has a complete block of that number, of a namespace that is visible. */
static bool inspect_may_see_block(const struct page *page, uint32_t number)
{
	const struct cache *cache = page->hbmd->cache;
	return index_used(cache->index, number) &&
	       visible_namespace(page->visible, cache_block(cache, number)->ns) &&
	       block_is_complete(cache_block(cache, number));
}

/* A page may be short or even empty without being the last, so that one query cannot
 * stall the loop. Where a block lies tells how much others have stored. */
static void inspect_query_blocks(struct page *page)
{
	struct hbm_wire_block_info *records = (struct hbm_wire_block_info *)(void *)page->records;
	const struct cache *cache = page->hbmd->cache;
	uint32_t highest = index_highest(cache->index);
	uint64_t number = page->cursor > 0 ? page->cursor : 1;

	for (uint64_t step = 0; number <= highest && page->count < page->room && step < BLOCKS_STEP;
	     number++, step++) {
		if (!inspect_may_see_block(page, (uint32_t)number))
			continue;
		struct hbm_wire_block_info *record = &records[page->count++];
		inspect_fill_block(cache, (uint32_t)number, record);
		step += record->children;
		if (!page->visible->all)
			record->offset = 0;
	}

	page->cursor = number <= highest ? number : 0;
}

static void inspect_query_links(struct page *page)
{
	struct hbm_wire_link *records = (struct hbm_wire_link *)(void *)page->records;
	for (unsigned i = 0; i < HBM_LINKS; i++)
		link_stats_link(page->hbmd->link_stats, i, &records[page->count++]);
	page->cursor = 0;
}

static void inspect_query_timeline(struct page *page)
{
	struct hbm_wire_interval *records = (struct hbm_wire_interval *)(void *)page->records;
	page->count =
		link_stats_intervals(page->hbmd->link_stats, &page->cursor, records, page->room);
	page->cursor = page->count == page->room ? page->cursor + page->count : 0;
}

static uint32_t inspect_count_devices(const struct devices *devices, int node)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < devices->count; i++)
		count += devices->list[i].node == node;

	return count;
}

static void inspect_query_nodes(struct page *page)
{
	struct hbm_wire_node *records = (struct hbm_wire_node *)(void *)page->records;
	const struct tier *ddr = page->hbmd->cache->ddr, *staging = page->hbmd->cache->staging;
	const struct devices *devices = page->hbmd->devices;
	uint64_t i = page->cursor;

	for (; i < staging->part_count && page->count < page->room; i++)
		records[page->count++] = (struct hbm_wire_node){
			.node = devices->numa.ids[i],
			.devices = inspect_count_devices(devices, (int)i),
			.ddr = ddr->parts[i].bytes,
			.ddr_used = ddr->parts[i].used,
			.staging = staging->parts[i].bytes,
			.staging_used = staging->parts[i].used,
			.hashed = hash_pool_done(page->hbmd->mover->context.hash_pool, (uint32_t)i),
		};

	page->cursor = i < staging->part_count ? i : 0;
}

/* What visits everything, which takes many turns of the loop. */
static bool inspect_is_audit(uint32_t kind)
{
	return kind == HBM_QUERY_VERIFY || kind == HBM_QUERY_LIMITS;
}

typedef void inspect_fill(struct page *page);
static inspect_fill *const fills[HBM_QUERY_KINDS] = {
	[HBM_QUERY_STATUS] = inspect_query_status,
	[HBM_QUERY_DEVICES] = inspect_query_devices,
	[HBM_QUERY_TIERS] = inspect_query_tiers,
	[HBM_QUERY_SESSIONS] = inspect_query_sessions,
	[HBM_QUERY_REGIONS] = inspect_query_regions,
	[HBM_QUERY_SEQUENCES] = inspect_sequences,
	[HBM_QUERY_EVENTS] = inspect_events,
	[HBM_QUERY_NAMESPACES] = inspect_query_namespaces,
	[HBM_QUERY_BLOCKS] = inspect_query_blocks,
	[HBM_QUERY_LINKS] = inspect_query_links,
	[HBM_QUERY_TIMELINE] = inspect_query_timeline,
	[HBM_QUERY_NODES] = inspect_query_nodes,
	[HBM_QUERY_TENANTS] = inspect_tenants,
};

#define RECORD_SIZE(name, value, record, text, members) [value] = sizeof(struct record),
static const uint32_t record_sizes[HBM_QUERY_KINDS] = {HBM_QUERY_LIST(RECORD_SIZE)};

#define RECORD_NAME(name, value, record, text, members) [value] = text,
static const char *const record_names[HBM_QUERY_KINDS] = {HBM_QUERY_LIST(RECORD_NAME)};

/* Moves the records together, where each is shown only in part. */
static void inspect_cut_records(const struct page *page, uint32_t whole, uint32_t shown)
{
	for (uint32_t i = 1; shown < whole && i < page->count; i++)
		memmove(page->records + i * (size_t)shown, page->records + i * (size_t)whole,
			shown);
}

void serve_query(struct hbmd *hbmd, struct request *request)
{
	static struct visible visible;
	const struct hbm_wire_query *message = (const struct hbm_wire_query *)request->message;
	uint32_t whole = record_sizes[message->kind];

	visible_init(&visible, request->session);
	uint32_t shown = visible_bytes(&visible, message->kind);
	if (shown > whole)
		shown = whole;

	if (shown == 0) {
		request_refuse(request, HBM_DENIED, "only uid 0 and the daemon's uid may see %s",
			       record_names[message->kind]);
		return;
	}

	if (message->kind == HBM_QUERY_LENT) {
		serve_lent(hbmd, request);
		return;
	}

	if (inspect_is_audit(message->kind)) {
		serve_verify(hbmd, request);
		return;
	}

	struct page page = {.hbmd = hbmd,
			    .visible = &visible,
			    .cursor = message->cursor,
			    .room = (HBM_WIRE_MESSAGE_MAX - sizeof(answer.reply)) / whole,
			    .records = answer.bytes + sizeof(answer.reply)};
	memset(page.records, 0, whole);
	fills[message->kind](&page);
	inspect_cut_records(&page, whole, shown);

	answer.reply.kind = message->kind;
	answer.reply.count = page.count;
	answer.reply.record_bytes = shown;
	answer.reply.next = page.cursor;
	request_reply(request, HBM_OK, &answer.reply.kind,
		      sizeof(answer.reply) - sizeof(answer.reply.header) +
			      page.count * (size_t)shown);
}
