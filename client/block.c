/* SPDX-License-Identifier: Apache-2.0 */
/*
 * block: STORE and LOAD, requests that carry blocks made of segments of regions. What is
 * larger than a message goes as several (parts.h), each of whole blocks.
 *
 * The library checks that every segment is in a region of this connection, that all are on
 * one device, and that all blocks have the same size. The daemon
 * checks that this is the namespace's size and that the segments are committed: a commit
 * may still be in flight when a load into it is submitted.
 */
#include "client/cache.h"
#include "client/error.h"
#include "client/parts.h"
#include "client/region.h"
#include "client/status.h"
#include "daemon/base/checked.h"

#include <errno.h>

/* What of a message is left for blocks and segments, and segments of one block that it has. */
#define ROOM (HBM_WIRE_MESSAGE_MAX - sizeof(struct hbm_wire_blocks))
#define SEGMENTS_MOST ((ROOM - sizeof(struct hbm_wire_block)) / sizeof(struct hbm_wire_range))

/* A call, and the message of it that is being built: its blocks are at the front, their segments
 * behind the last block. */
struct builder {
	struct hbm *hbm;
	enum hbm_wire_opcode op;
	uint32_t ns;
	const struct hbm_block *blocks;
	size_t count;
	const struct hbm_sync *sync;
	hbm_result *results;
	const struct hbm_region *first; /* of the first segment; sets the device */
	uint64_t block_bytes;           /* of the first block */
	struct hbm_wire_blocks *message;
	struct hbm_wire_range *segments; /* behind the blocks */
};

static int block_segment(struct builder *builder, const struct hbm_segment *segment, size_t block)
{
	struct hbm *hbm = builder->hbm;
	const struct hbm_region *region = segment->region;
	if (!region || region->hbm != hbm)
		return hbm_fail(hbm, HBM_INVALID,
				"block %zu: a segment in no region of this connection", block);

	if (!checked_range(segment->offset, segment->bytes, region->address_space))
		return hbm_fail(hbm, HBM_INVALID,
				"block %zu: a segment of %llu bytes at %llu in a region of %llu",
				block, (unsigned long long)segment->bytes,
				(unsigned long long)segment->offset,
				(unsigned long long)region->address_space);

	if (!builder->first)
		builder->first = region;

	if (region->device != builder->first->device)
		return hbm_fail(hbm, HBM_INVALID,
				"block %zu: on device %u, earlier blocks are on %u", block,
				region->device, builder->first->device);

	builder->segments[builder->message->segments++] = (struct hbm_wire_range){
		.region = region->id,
		.offset = segment->offset,
		.bytes = segment->bytes,
	};

	return 0;
}

static int block_segments(struct builder *builder, const struct hbm_block *block, size_t nth,
			  uint64_t *bytes)
{
	struct hbm *hbm = builder->hbm;

	if (block->segment_count == 0)
		return hbm_fail(hbm, HBM_INVALID, "block %zu has no segments", nth);

	for (size_t i = 0; i < block->segment_count; i++) {
		int rc = block_segment(builder, &block->segments[i], nth);
		if (rc)
			return rc;
		if (!checked_add(*bytes, block->segments[i].bytes, bytes))
			return hbm_fail(hbm, HBM_INVALID, "block %zu: more than 2^64 bytes", nth);
	}

	return 0;
}

/* Block `nth` of the call becomes the one at `wire`. */
static int block_fill(struct builder *builder, size_t nth, struct hbm_wire_block *wire)
{
	const struct hbm_block *block = &builder->blocks[nth];

	if (!hbm_key_is_valid(&block->key))
		return hbm_fail(builder->hbm, HBM_INVALID,
				"block %zu: its key is all zero, which is reserved", nth);

	uint64_t bytes = 0;
	int rc = block_segments(builder, block, nth, &bytes);
	if (rc)
		return rc;
	if (nth == 0)
		builder->block_bytes = bytes;

	if (bytes == 0 || bytes != builder->block_bytes)
		return hbm_fail(
			builder->hbm, HBM_INVALID,
			"block %zu: %llu bytes, where all blocks have the namespace's block_bytes",
			nth, (unsigned long long)bytes);

	*wire = (struct hbm_wire_block){.key = block->key,
					.segments = (uint32_t)block->segment_count};
	if (builder->op == HBM_WIRE_LOAD)
		return 0;

	if (block->tier >= HBM_TIERS)
		return hbm_fail(builder->hbm, HBM_INVALID, "block %zu: there is no tier %d", nth,
				(int)block->tier);

	wire->parent = block->parent;
	wire->tier = (uint16_t)block->tier;
	wire->flags = (uint16_t)((block->pin ? HBM_WIRE_BLOCK_PIN : 0) |
				 (block->lend ? HBM_WIRE_BLOCK_LEND : 0) |
				 (block->durable ? HBM_WIRE_BLOCK_DURABLE : 0));

	return 0;
}

static bool block_slot_is_valid(uint32_t slot)
{
	return slot < HBM_WIRE_FENCES || slot == HBM_WIRE_NO_FENCE;
}

static int block_check_sync(struct hbm *hbm, const struct hbm_sync *sync)
{
	if (!block_slot_is_valid(sync->ready_slot) || !block_slot_is_valid(sync->fence_slot) ||
	    sync->failed_slot >= HBM_WIRE_FENCES)
		return hbm_fail(hbm, HBM_INVALID, "fences %u, %u and %u: there are %d",
				sync->ready_slot, sync->fence_slot, sync->failed_slot,
				HBM_WIRE_FENCES);

	if (sync->failed_slot != 0 && sync->failed_slot == sync->fence_slot)
		return hbm_fail(hbm, HBM_INVALID, "fence %u is to take two values",
				sync->fence_slot);

	return 0;
}

/* How many blocks, from `first` on, fit in a message. 0: the first has too many segments. */
static size_t block_fit(const struct builder *builder, size_t first)
{
	size_t room = ROOM, fit = 0;

	for (; first + fit < builder->count; fit++) {
		size_t segments = builder->blocks[first + fit].segment_count;
		size_t bytes =
			sizeof(struct hbm_wire_block) + segments * sizeof(struct hbm_wire_range);

		if (segments > SEGMENTS_MOST || bytes > room)
			break;
		room -= bytes;
	}

	return fit;
}

/* Builds the request of so many blocks, from `first` on. */
static int block_build(struct builder *builder, size_t first, size_t count, struct request *request)
{
	const struct hbm_sync *sync = builder->sync;
	struct hbm_wire_blocks *message = builder->hbm->scratch;
	int rc = 0;

	*message = (struct hbm_wire_blocks){
		.ns = builder->ns,
		.count = (uint32_t)count,
		.ready_slot = sync->ready_slot,
		.ready_value = sync->ready_value,
		.fence_slot = sync->fence_slot,
		.failed_slot = sync->failed_slot,
		.fence_value = sync->fence_value,
	};
	builder->message = message;
	builder->segments = (void *)&message->blocks[count];
	for (size_t i = 0; rc == 0 && i < count; i++)
		rc = block_fill(builder, first + i, &message->blocks[i]);

	char *end = (char *)&builder->segments[message->segments];
	*request = (struct request){
		.opcode = builder->op,
		.kind = &hbm_kind_results,
		.answer = {.results = builder->results ? &builder->results[first] : NULL,
			   .count = (uint32_t)count},
		.pieces = {{message, (size_t)(end - (char *)message)}},
		.piece_count = 1,
	};

	return rc;
}

/* Into how many messages the call goes: 0, and the error is set, if some block fits in none. */
static uint32_t block_count_parts(const struct builder *builder)
{
	uint32_t parts = 0;

	for (size_t first = 0, fit; first < builder->count; first += fit, parts++) {
		fit = block_fit(builder, first);
		if (fit == 0) {
			hbm_fail(builder->hbm, HBM_LIMIT,
				 "block %zu: %zu segments: a message has room for %zu", first,
				 builder->blocks[first].segment_count, SEGMENTS_MOST);
			return 0;
		}
	}

	return parts;
}

static int block_build_parts(struct builder *builder, struct parts *parts)
{
	int rc = 0;

	for (size_t first = 0, fit; rc == 0 && first < builder->count; first += fit) {
		struct request request;

		fit = block_fit(builder, first);
		rc = block_build(builder, first, fit, &request);
		if (rc == 0 && !hbm_parts_add(builder->hbm, parts, &request))
			rc = hbm_fail(builder->hbm, -ENOMEM, "%s not sent: %s",
				      hbm_opcode_name(builder->op), hbm_strerror(-ENOMEM));
	}

	return rc;
}

static int block_submit_parts(struct builder *builder, hbm_ticket *ticket)
{
	const struct hbm_sync *sync = builder->sync;
	uint32_t count = block_count_parts(builder);
	if (count == 0)
		return HBM_LIMIT;

	struct parts *parts = hbm_parts_new(builder->hbm, builder->op, count, NULL);
	if (!parts)
		return hbm_fail(builder->hbm, -ENOMEM, "%s not sent: %s",
				hbm_opcode_name(builder->op), hbm_strerror(-ENOMEM));

	parts->fenced = sync->ready_slot != HBM_WIRE_NO_FENCE ||
			sync->fence_slot != HBM_WIRE_NO_FENCE || sync->failed_slot != 0;
	int rc = block_build_parts(builder, parts);
	if (rc == 0)
		return hbm_parts_submit(builder->hbm, parts, ticket);

	hbm_parts_free(builder->hbm, parts);

	return rc;
}

static int block_check(struct builder *builder)
{
	static const struct hbm_sync no_fences = {HBM_WIRE_NO_FENCE, HBM_WIRE_NO_FENCE, 0, 0, 0};
	struct hbm *hbm = builder->hbm;

	if (builder->count == 0)
		return hbm_fail(hbm, HBM_INVALID, "no blocks");
	if (builder->count > UINT32_MAX)
		return hbm_fail(hbm, HBM_LIMIT, "%zu blocks: a call has at most %u", builder->count,
				UINT32_MAX);
	if (!builder->sync)
		builder->sync = &no_fences;

	return block_check_sync(hbm, builder->sync);
}

static int block_submit(struct builder builder, hbm_ticket *ticket)
{
	if (hbm_check_owner(builder.hbm))
		return -EPERM;

	int rc = block_check(&builder);
	if (rc)
		return rc;
	if (block_fit(&builder, 0) < builder.count)
		return block_submit_parts(&builder, ticket);

	struct request request;
	rc = block_build(&builder, 0, builder.count, &request);

	return rc ? rc : hbm_request_submit(builder.hbm, &request, ticket);
}

int hbm_submit_store(struct hbm *hbm, uint32_t ns, const struct hbm_block *blocks, size_t count,
		     const struct hbm_sync *sync, hbm_result *results, hbm_ticket *ticket)
{
	return block_submit((struct builder){.hbm = hbm,
					     .op = HBM_WIRE_STORE,
					     .ns = ns,
					     .blocks = blocks,
					     .count = count,
					     .sync = sync,
					     .results = results},
			    ticket);
}

int hbm_submit_load(struct hbm *hbm, uint32_t ns, const struct hbm_block *blocks, size_t count,
		    const struct hbm_sync *sync, hbm_result *results, hbm_ticket *ticket)
{
	return block_submit((struct builder){.hbm = hbm,
					     .op = HBM_WIRE_LOAD,
					     .ns = ns,
					     .blocks = blocks,
					     .count = count,
					     .sync = sync,
					     .results = results},
			    ticket);
}

int hbm_store(struct hbm *hbm, uint32_t ns, const struct hbm_block *blocks, size_t count,
	      hbm_result *results)
{
	hbm_ticket ticket;
	int rc = hbm_submit_store(hbm, ns, blocks, count, NULL, results, &ticket);
	return rc ? rc : hbm_wait(hbm, ticket, -1);
}

int hbm_load(struct hbm *hbm, uint32_t ns, const struct hbm_block *blocks, size_t count,
	     hbm_result *results)
{
	hbm_ticket ticket;
	int rc = hbm_submit_load(hbm, ns, blocks, count, NULL, results, &ticket);
	return rc ? rc : hbm_wait(hbm, ticket, -1);
}
