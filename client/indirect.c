/* SPDX-License-Identifier: Apache-2.0 */
#include "client/indirect.h"

#include "client/bounce.h"
#include "client/cache.h"
#include "client/error.h"
#include "client/request.h"
#include "daemon/base/bulk_copy.h"
#include "daemon/base/checked.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FLIGHT_BLOCKS 512u   /* a slot's, of 4 KiB each */
#define STRIDE_UNIT 64u      /* blocks begin at such places of a slot */
#define BULK_CALL (1u << 20) /* bytes: of more the first have left the caches by the end */

struct indirect_call {
	struct list link; /* in indirect->calls */
	hbm_ticket ticket;
	enum hbm_wire_opcode opcode;
	uint32_t ns;
	size_t count, next, left; /* blocks: all, the next to begin, those that have not ended */
	int status;
	char *reason;
	hbm_result *results;
	uint64_t block_bytes;
	struct hbm_segment *segments; /* of all blocks */
	struct hbm_block blocks[];
};

/* The blocks of a call that are in one slot. */
struct indirect_flight {
	struct indirect_call *call; /* NULL: the slot is free */
	size_t first;
	uint32_t count;
	hbm_ticket ticket;
	bool ended; /* its request is answered */
	hbm_result results[FLIGHT_BLOCKS];
	struct hbm_block blocks[FLIGHT_BLOCKS];
	struct hbm_segment segments[FLIGHT_BLOCKS];
};

struct indirect {
	struct bounce bounce;
	struct list calls;
	bool running, growing;
	struct indirect_flight flights[BOUNCE_SLOTS]; /* of slot i */
};

/* ---- Copies ---- */

static uint64_t indirect_stride(uint64_t block_bytes)
{
	return (block_bytes + STRIDE_UNIT - 1) / STRIDE_UNIT * STRIDE_UNIT;
}

/* Copies between a block's memory and its place in a slot. */
static void indirect_copy(const struct hbm_block *block, char *place, bool in, bool bulk)
{
	for (size_t i = 0; i < block->segment_count; i++) {
		char *memory = (char *)(uintptr_t)block->segments[i].offset;
		char *to = in ? place : memory;
		const char *from = in ? memory : place;
		uint64_t bytes = block->segments[i].bytes;

		if (bulk)
			bulk_copy(to, from, bytes);
		else
			memcpy(to, from, bytes);
		place += bytes;
	}
}

static void indirect_copy_flight(const struct indirect *indirect,
				 const struct indirect_flight *flight, bool in)
{
	const struct indirect_call *call = flight->call;
	bool bulk = call->block_bytes > BULK_CALL / call->count;
	uint64_t stride = indirect_stride(call->block_bytes);
	char *at = hbm_bounce_at(&indirect->bounce, (uint32_t)(flight - indirect->flights));

	for (uint32_t i = 0; i < flight->count; i++)
		if (in || flight->results[i].status == HBM_OK)
			indirect_copy(&call->blocks[flight->first + i], at + i * stride, in, bulk);
}

/* ---- The end ---- */

static void indirect_end_call(struct hbm *hbm, struct indirect_call *call)
{
	struct ticket *ticket = hbm_ticket_find(&hbm->tickets, call->ticket);

	ticket->reason = call->reason;
	hbm_ticket_end_parts(&hbm->tickets, ticket, call->status);
	list_remove(&call->link);
	free(call);
}

/* So many blocks, from `first` on, have ended. */
static void indirect_end_blocks(struct hbm *hbm, struct indirect_call *call, size_t first,
				size_t count, const hbm_result *results)
{
	if (call->results)
		memcpy(&call->results[first], results, count * sizeof(*results));
	call->left -= count;
	if (call->left == 0)
		indirect_end_call(hbm, call);
}

static void indirect_fail(struct indirect_call *call, struct indirect_flight *flight, int status)
{
	uint8_t result = (uint8_t)(status > 0 ? status : HBM_SHUTDOWN);

	if (call->status == HBM_OK)
		call->status = status;
	for (uint32_t i = 0; i < flight->count; i++)
		flight->results[i] = (hbm_result){.status = result, .tier = HBM_TIER_NONE};
}

/* Its request has been answered, or could not be sent. */
static void indirect_land(struct hbm *hbm, struct indirect *indirect,
			  struct indirect_flight *flight, int status)
{
	struct indirect_call *call = flight->call;

	if (status != HBM_OK)
		indirect_fail(call, flight, status);
	else if (call->opcode == HBM_WIRE_LOAD)
		indirect_copy_flight(indirect, flight, false);

	flight->call = NULL;
	flight->ended = false;
	indirect_end_blocks(hbm, call, flight->first, flight->count, flight->results);
}

/* False: it is still under way. */
static bool indirect_land_one(struct hbm *hbm, struct indirect *indirect,
			      struct indirect_flight *flight)
{
	if (!flight->call || !flight->ended)
		return false;

	struct ticket *ticket = hbm_ticket_find(&hbm->tickets, flight->ticket);
	int status = ticket->status;

	if (status != HBM_OK && !flight->call->reason) {
		flight->call->reason = ticket->reason;
		ticket->reason = NULL;
	}
	hbm_ticket_free(&hbm->tickets, ticket);
	indirect_land(hbm, indirect, flight, status);

	return true;
}

/* The connection has ended, and each flight with it. */
static void indirect_break(struct hbm *hbm, struct indirect *indirect)
{
	while (!list_empty(&indirect->calls)) {
		struct indirect_call *call =
			container_of(indirect->calls.next, struct indirect_call, link);

		if (call->status == HBM_OK)
			call->status = hbm->broken;
		for (size_t i = call->next; call->results && i < call->count; i++)
			call->results[i] = (hbm_result){.status = HBM_SHUTDOWN};
		indirect_end_call(hbm, call);
	}
}

/* ---- The beginning ---- */

static void indirect_flight_ended(struct tickets *tickets, struct ticket *ticket)
{
	struct indirect_flight *flight = ticket->answer.body;

	(void)tickets;
	flight->ended = true;
}

static int indirect_send(struct hbm *hbm, struct indirect_flight *flight)
{
	const struct indirect_call *call = flight->call;
	bool load = call->opcode == HBM_WIRE_LOAD;
	int rc = (load ? hbm_submit_load : hbm_submit_store)(hbm, call->ns, flight->blocks,
							     flight->count, NULL, flight->results,
							     &flight->ticket);
	if (rc)
		return rc;

	struct ticket *ticket = hbm_ticket_find(&hbm->tickets, flight->ticket);

	ticket->part_ended = indirect_flight_ended;
	ticket->answer.body = flight;

	return 0;
}

/* The next blocks of a call take off from a slot that is free. */
static void indirect_take_off(struct hbm *hbm, struct indirect *indirect,
			      struct indirect_flight *flight, struct indirect_call *call)
{
	const struct bounce *bounce = &indirect->bounce;
	uint64_t stride = indirect_stride(call->block_bytes), fit = bounce->slot_bytes / stride;
	uint64_t offset = hbm_bounce_offset(bounce, (uint32_t)(flight - indirect->flights));
	size_t left = call->count - call->next;

	fit = fit < FLIGHT_BLOCKS ? fit : FLIGHT_BLOCKS;
	flight->call = call;
	flight->first = call->next;
	flight->count = (uint32_t)(left < fit ? left : fit);
	call->next += flight->count;
	for (uint32_t i = 0; i < flight->count; i++) {
		flight->segments[i] = (struct hbm_segment){bounce->region, offset + i * stride,
							   call->block_bytes};
		flight->blocks[i] = call->blocks[flight->first + i];
		flight->blocks[i].segments = &flight->segments[i];
		flight->blocks[i].segment_count = 1;
	}

	if (call->opcode == HBM_WIRE_STORE)
		indirect_copy_flight(indirect, flight, true);
	int rc = indirect_send(hbm, flight);
	if (rc)
		indirect_land(hbm, indirect, flight, rc);
}

static struct indirect_call *indirect_next_call(const struct indirect *indirect)
{
	list_for_each (node, &indirect->calls) {
		struct indirect_call *call = container_of(node, struct indirect_call, link);
		if (call->next < call->count)
			return call;
	}

	return NULL;
}

static bool indirect_step(struct hbm *hbm, struct indirect *indirect)
{
	bool moved = false;

	for (uint32_t i = 0; i < BOUNCE_SLOTS; i++)
		moved |= indirect_land_one(hbm, indirect, &indirect->flights[i]);

	for (uint32_t i = 0; i < BOUNCE_SLOTS && !hbm->broken && !indirect->growing; i++) {
		struct indirect_call *call = indirect_next_call(indirect);

		if (!call || indirect->flights[i].call)
			continue;
		indirect_take_off(hbm, indirect, &indirect->flights[i], call);
		moved = true;
	}

	return moved;
}

static void indirect_go_on(struct hbm *hbm)
{
	struct indirect *indirect = hbm->indirect;

	if (indirect->running || list_empty(&indirect->calls))
		return;

	indirect->running = true;
	while (indirect_step(hbm, indirect))
		;
	if (hbm->broken)
		indirect_break(hbm, indirect);
	indirect->running = false;
}

/* ---- Submitting ---- */

static int indirect_check_block(struct hbm *hbm, const struct hbm_block *block, size_t nth,
				uint64_t *bytes)
{
	*bytes = 0;
	if (!hbm_key_is_valid(&block->key))
		return hbm_fail(hbm, HBM_INVALID,
				"block %zu: its key is all zero, which is reserved", nth);
	if (block->tier >= HBM_TIERS)
		return hbm_fail(hbm, HBM_INVALID, "block %zu: there is no tier %d", nth,
				(int)block->tier);

	for (size_t i = 0; i < block->segment_count; i++) {
		const struct hbm_segment *segment = &block->segments[i];

		if (segment->region || segment->offset == 0 ||
		    !checked_range(segment->offset, segment->bytes, UINTPTR_MAX))
			return hbm_fail(hbm, HBM_INVALID,
					"block %zu: a segment in a region, or of no memory", nth);
		if (!checked_add(*bytes, segment->bytes, bytes))
			return hbm_fail(hbm, HBM_INVALID, "block %zu: more than 2^64 bytes", nth);
	}

	return 0;
}

static int indirect_check(struct hbm *hbm, const struct hbm_block *blocks, size_t count,
			  uint64_t *block_bytes, size_t *segments)
{
	if (count == 0)
		return hbm_fail(hbm, HBM_INVALID, "no blocks");
	if (count > UINT32_MAX)
		return hbm_fail(hbm, HBM_LIMIT, "%zu blocks: a call has at most %u", count,
				UINT32_MAX);

	for (size_t i = 0; i < count; i++) {
		uint64_t bytes;
		int rc = indirect_check_block(hbm, &blocks[i], i, &bytes);
		if (rc)
			return rc;

		if (i == 0)
			*block_bytes = bytes;
		if (bytes == 0 || bytes != *block_bytes)
			return hbm_fail(hbm, HBM_INVALID,
					"block %zu: %llu bytes, where all blocks have the "
					"namespace's block_bytes",
					i, (unsigned long long)bytes);
		*segments += blocks[i].segment_count;
	}

	return 0;
}

/* Blocks and segments are copied. NULL: no memory. */
static struct indirect_call *indirect_new_call(const struct hbm_block *blocks, size_t count,
					       size_t segments)
{
	struct indirect_call *call = calloc(1, sizeof(*call) + count * sizeof(call->blocks[0]) +
						       segments * sizeof(call->segments[0]));
	if (!call)
		return NULL;

	call->count = call->left = count;
	call->segments = (void *)&call->blocks[count];
	struct hbm_segment *next = call->segments;
	for (size_t i = 0; i < count; i++) {
		call->blocks[i] = blocks[i];
		call->blocks[i].segments = next;
		call->blocks[i].lend = false; /* what would be lent is the bounce buffer's */
		memcpy(next, blocks[i].segments, blocks[i].segment_count * sizeof(*next));
		next += blocks[i].segment_count;
	}

	return call;
}

static bool indirect_is_empty(const struct indirect *indirect)
{
	for (uint32_t i = 0; i < BOUNCE_SLOTS; i++)
		if (indirect->flights[i].call)
			return false;

	return true;
}

/* Makes a bounce buffer whose slots have so many bytes: a larger one when the last flight of the
 * one before has landed. */
static int indirect_prepare(struct hbm *hbm, uint64_t bytes)
{
	struct indirect *indirect = hbm->indirect;

	if (!indirect) {
		indirect = calloc(1, sizeof(*indirect));
		if (!indirect)
			return hbm_fail(hbm, -ENOMEM, "%s", hbm_strerror(-ENOMEM));
		list_init(&indirect->calls);
		hbm->indirect = indirect;
		hbm->go_on = indirect_go_on;
	}
	if (indirect->bounce.region && indirect->bounce.slot_bytes >= bytes)
		return 0;

	indirect->growing = true;
	while (!hbm->broken && !indirect_is_empty(indirect)) {
		hbm_request_poll(hbm);
		indirect_go_on(hbm);
	}
	int rc = hbm->broken ? -ENOTCONN : hbm_bounce_open(&indirect->bounce, hbm, bytes);
	indirect->growing = false;

	return rc;
}

static int indirect_submit(struct hbm *hbm, struct indirect_call given,
			   const struct hbm_block *blocks, hbm_ticket *id)
{
	size_t segments = 0;
	int rc = hbm_check_owner(hbm);

	rc = rc ? rc : indirect_check(hbm, blocks, given.count, &given.block_bytes, &segments);
	rc = rc ? rc : indirect_prepare(hbm, indirect_stride(given.block_bytes));
	if (rc)
		return rc;

	struct indirect_call *call = indirect_new_call(blocks, given.count, segments);
	struct ticket *ticket = call ? hbm_ticket_new(&hbm->tickets, &call->ticket) : NULL;
	if (!ticket) {
		free(call);
		return hbm_fail(hbm, -ENOMEM, "%s", hbm_strerror(-ENOMEM));
	}

	call->opcode = given.opcode;
	call->ns = given.ns;
	call->results = given.results;
	call->block_bytes = given.block_bytes;
	ticket->opcode = (uint16_t)given.opcode;
	ticket->state = TICKET_INDIRECT;
	list_push_back(&hbm->indirect->calls, &call->link);
	*id = call->ticket;
	indirect_go_on(hbm);

	return 0;
}

int hbm_submit_store_from(struct hbm *hbm, uint32_t ns, const struct hbm_block *blocks,
			  size_t count, hbm_result *results, hbm_ticket *ticket)
{
	return indirect_submit(
		hbm,
		(struct indirect_call){
			.opcode = HBM_WIRE_STORE, .ns = ns, .count = count, .results = results},
		blocks, ticket);
}

int hbm_submit_load_to(struct hbm *hbm, uint32_t ns, const struct hbm_block *blocks, size_t count,
		       hbm_result *results, hbm_ticket *ticket)
{
	return indirect_submit(
		hbm,
		(struct indirect_call){
			.opcode = HBM_WIRE_LOAD, .ns = ns, .count = count, .results = results},
		blocks, ticket);
}

int hbm_store_from(struct hbm *hbm, uint32_t ns, const struct hbm_block *blocks, size_t count,
		   hbm_result *results)
{
	hbm_ticket ticket;
	int rc = hbm_submit_store_from(hbm, ns, blocks, count, results, &ticket);
	return rc ? rc : hbm_wait(hbm, ticket, -1);
}

int hbm_load_to(struct hbm *hbm, uint32_t ns, const struct hbm_block *blocks, size_t count,
		hbm_result *results)
{
	hbm_ticket ticket;
	int rc = hbm_submit_load_to(hbm, ns, blocks, count, results, &ticket);
	return rc ? rc : hbm_wait(hbm, ticket, -1);
}

void hbm_indirect_clear(struct hbm *hbm)
{
	struct indirect *indirect = hbm->indirect;

	while (indirect && !list_empty(&indirect->calls)) {
		struct indirect_call *call =
			container_of(list_pop_front(&indirect->calls), struct indirect_call, link);
		free(call->reason);
		free(call);
	}
	free(indirect);
	hbm->indirect = NULL;
	hbm->go_on = NULL;
}
