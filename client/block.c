/* SPDX-License-Identifier: Apache-2.0 */
/*
 * block: STORE and LOAD, requests that carry blocks made of segments of regions.
 *
 * The library checks that every segment is in a region of this connection, that all are on
 * one device, and that all blocks have the same size, a multiple of 4 KiB. The daemon
 * checks that this is the namespace's size and that the segments are committed: a commit
 * may still be in flight when a load into it is submitted.
 */
#include "client/cache.h"
#include "client/error.h"
#include "client/region.h"
#include "daemon/base/checked.h"

#include <errno.h>

#define BLOCK_UNIT 4096

/* A request being built: blocks are added at the front of the message, their segments
 * behind the last block. */
struct builder {
	struct hbm *hbm;
	struct hbm_wire_blocks *message;
	struct hbm_wire_range *segments; /* behind the blocks */
	size_t most;                     /* segments that fit */
	const struct hbm_region *first;  /* of the first segment; sets the device */
	uint64_t block_bytes;            /* of the first block */
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

	if (block->segment_count > builder->most - builder->message->segments)
		return hbm_fail(hbm, HBM_LIMIT,
				"block %zu does not fit: a request has at most %d bytes", nth,
				HBM_WIRE_MESSAGE_MAX);

	for (size_t i = 0; i < block->segment_count; i++) {
		int rc = block_segment(builder, &block->segments[i], nth);
		if (rc)
			return rc;
		if (!checked_add(*bytes, block->segments[i].bytes, bytes))
			return hbm_fail(hbm, HBM_INVALID, "block %zu: more than 2^64 bytes", nth);
	}

	return 0;
}

static int block_fill(struct builder *builder, enum hbm_wire_opcode op,
		      const struct hbm_block *block, size_t nth)
{
	if (!hbm_key_is_valid(&block->key))
		return hbm_fail(builder->hbm, HBM_INVALID,
				"block %zu: its key is all zero, which is reserved", nth);

	uint64_t bytes = 0;
	int rc = block_segments(builder, block, nth, &bytes);
	if (rc)
		return rc;
	if (nth == 0)
		builder->block_bytes = bytes;

	if (!is_aligned(bytes, BLOCK_UNIT) || bytes != builder->block_bytes)
		return hbm_fail(
			builder->hbm, HBM_INVALID,
			"block %zu: %llu bytes, where all blocks have the namespace's block_bytes",
			nth, (unsigned long long)bytes);

	struct hbm_wire_block *wire = &builder->message->blocks[nth];
	*wire = (struct hbm_wire_block){.key = block->key,
					.segments = (uint32_t)block->segment_count};
	if (op == HBM_WIRE_LOAD)
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

/* Fills in the header and finds where blocks and segments go. */
static int block_init(struct builder *builder, uint32_t ns, size_t count,
		      const struct hbm_sync *sync)
{
	struct hbm *hbm = builder->hbm;
	size_t most = (HBM_WIRE_MESSAGE_MAX - sizeof(*builder->message)) /
		      (sizeof(struct hbm_wire_block) + sizeof(struct hbm_wire_range));

	if (count == 0)
		return hbm_fail(hbm, HBM_INVALID, "no blocks");

	if (count > most)
		return hbm_fail(hbm, HBM_LIMIT, "%zu blocks: a request has at most %zu", count,
				most);

	static const struct hbm_sync no_fences = {HBM_WIRE_NO_FENCE, HBM_WIRE_NO_FENCE, 0, 0, 0};
	if (!sync)
		sync = &no_fences;

	int rc = block_check_sync(hbm, sync);
	if (rc)
		return rc;

	builder->message = hbm->scratch;
	*builder->message = (struct hbm_wire_blocks){
		.ns = ns,
		.count = (uint32_t)count,
		.ready_slot = sync->ready_slot,
		.ready_value = sync->ready_value,
		.fence_slot = sync->fence_slot,
		.failed_slot = sync->failed_slot,
		.fence_value = sync->fence_value,
	};
	size_t used = sizeof(*builder->message) + count * sizeof(struct hbm_wire_block);
	builder->segments = (void *)&builder->message->blocks[count];
	builder->most = (HBM_WIRE_MESSAGE_MAX - used) / sizeof(struct hbm_wire_range);

	return 0;
}

static int block_blocks_submit(struct hbm *hbm, enum hbm_wire_opcode op, uint32_t ns,
			       const struct hbm_block *blocks, size_t count,
			       const struct hbm_sync *sync, hbm_result *results, hbm_ticket *ticket)
{
	if (hbm_check_owner(hbm))
		return -EPERM;

	struct builder builder = {.hbm = hbm};
	int rc = block_init(&builder, ns, count, sync);
	for (size_t i = 0; rc == 0 && i < count; i++)
		rc = block_fill(&builder, op, &blocks[i], i);
	if (rc)
		return rc;

	char *end = (char *)&builder.segments[builder.message->segments];
	struct request request = {
		.opcode = op,
		.kind = &hbm_kind_results,
		.answer = {.results = results, .count = (uint32_t)count},
		.pieces = {{builder.message, (size_t)(end - (char *)builder.message)}},
		.piece_count = 1,
	};

	return hbm_request_submit(hbm, &request, ticket);
}

int hbm_submit_store(struct hbm *hbm, uint32_t ns, const struct hbm_block *blocks, size_t count,
		     const struct hbm_sync *sync, hbm_result *results, hbm_ticket *ticket)
{
	return block_blocks_submit(hbm, HBM_WIRE_STORE, ns, blocks, count, sync, results, ticket);
}

int hbm_submit_load(struct hbm *hbm, uint32_t ns, const struct hbm_block *blocks, size_t count,
		    const struct hbm_sync *sync, hbm_result *results, hbm_ticket *ticket)
{
	return block_blocks_submit(hbm, HBM_WIRE_LOAD, ns, blocks, count, sync, results, ticket);
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
