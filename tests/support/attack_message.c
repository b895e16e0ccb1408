/* SPDX-License-Identifier: Apache-2.0 */
/* attack_message: see attack_message.h. */
#include "tests/support/attack_message.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/raw.h"

#include <stdio.h>
#include <string.h>

#define SLAB (2u << 20)

static struct hbm_wire_key attack_key(uint64_t chain, uint64_t number)
{
	const uint64_t words[2] = {number + 1, chain + 1};
	struct hbm_wire_key key;

	memcpy(key.bytes, words, sizeof(words));

	return key;
}

struct hbm_wire_header *attack_keys(struct attack_run *run, enum hbm_wire_opcode opcode,
				    uint32_t ns, const struct attack_keys *keys)
{
	struct hbm_wire_keys *message = (void *)run->message;
	size_t size = sizeof(*message) + keys->count * sizeof(message->keys[0]);

	assert_in_range(size, 0, sizeof(run->message));
	*message = (struct hbm_wire_keys){
		.header = {.size = (uint32_t)size, .opcode = (uint16_t)opcode},
		.ns = ns,
		.count = keys->count,
	};
	for (uint32_t i = 0; i < keys->count; i++)
		message->keys[i] = attack_key(keys->chain, keys->first + i * keys->step);

	return &message->header;
}

/* The segments of the n-th block: pieces of one length, the last one longer. */
static void attack_cut(struct hbm_wire_range *segments, uint32_t region,
		       const struct attack_blocks *blocks, uint32_t n)
{
	uint64_t slots = blocks->block_bytes < SLAB ? SLAB / blocks->block_bytes : 1;
	uint64_t at = n % slots * blocks->block_bytes, left = blocks->block_bytes;
	uint32_t count = blocks->segments == 0 ? 1 : blocks->segments;
	uint64_t piece = left / count;

	for (uint32_t i = 0; i < count; i++) {
		uint64_t bytes = i + 1 == count ? left : piece;
		segments[i] =
			(struct hbm_wire_range){.region = region, .offset = at, .bytes = bytes};
		at += bytes;
		left -= bytes;
	}
}

struct hbm_wire_header *attack_blocks(struct attack_run *run, enum hbm_wire_opcode opcode,
				      const struct attacker *attacker,
				      const struct attack_blocks *blocks)
{
	struct hbm_wire_blocks *message = (void *)run->message;
	uint32_t times = blocks->times == 0 ? 1 : blocks->times, count = blocks->count * times;
	uint32_t each = blocks->segments == 0 ? 1 : blocks->segments;
	struct hbm_wire_range *segments = (void *)&message->blocks[count];
	size_t size = (size_t)((unsigned char *)&segments[count * each] - run->message);

	assert_in_range(size, 0, sizeof(run->message));
	*message = (struct hbm_wire_blocks){
		.header = {.size = (uint32_t)size, .opcode = (uint16_t)opcode},
		.ns = attacker->ns,
		.count = count,
		.segments = count * each,
		.ready_slot = blocks->ready_slot,
		.ready_value = blocks->ready_slot != HBM_WIRE_NO_FENCE,
		.fence_slot = HBM_WIRE_NO_FENCE,
	};
	for (uint32_t i = 0; i < count; i++) {
		uint64_t number = blocks->first + i / times;
		message->blocks[i] = (struct hbm_wire_block){
			.key = attack_key(blocks->chain, number), .segments = each};
		if (blocks->is_chain && number > 0)
			message->blocks[i].parent = attack_key(blocks->chain, number - 1);
		attack_cut(segments + i * each, attacker->region, blocks, i);
	}

	return &message->header;
}

struct hbm_wire_header *attack_query(struct attack_run *run, enum hbm_wire_query_kind kind,
				     uint64_t cursor)
{
	struct hbm_wire_query *message = (void *)run->message;
	*message = (struct hbm_wire_query){
		.header = RAW_HEADER(QUERY, sizeof(*message)), .kind = kind, .cursor = cursor};
	return &message->header;
}

struct hbm_wire_header *attack_ranges(struct attack_run *run, enum hbm_wire_opcode opcode,
				      uint32_t region, uint64_t bytes)
{
	struct raw_ranges *message = (void *)run->message;
	*message = (struct raw_ranges){
		.head = {.header = {.size = sizeof(*message), .opcode = (uint16_t)opcode},
			 .count = 1},
		.range = {.region = region, .bytes = bytes},
	};
	return &message->head.header;
}

struct hbm_wire_header *attack_open(struct attack_run *run, const char *salt)
{
	struct hbm_wire_namespace_open *message = (void *)run->message;
	*message = (struct hbm_wire_namespace_open){
		.header = RAW_HEADER(NAMESPACE_OPEN, sizeof(*message)),
		.spec = {.model = "m", .layout = "l", .block_bytes = 4096},
	};
	snprintf(message->spec.salt, sizeof(message->spec.salt), "%s", salt);
	return &message->header;
}

struct hbm_wire_header *attack_close(struct attack_run *run, uint32_t ns)
{
	struct hbm_wire_namespace_ref *message = (void *)run->message;
	*message = (struct hbm_wire_namespace_ref){
		.header = RAW_HEADER(NAMESPACE_CLOSE, sizeof(*message)), .ns = ns};
	return &message->header;
}

uint32_t attack_region(int socket, uint64_t block_bytes)
{
	uint64_t slab = block_bytes > SLAB ? block_bytes : SLAB;
	return raw_region(socket, 0, slab, slab);
}

void attack_stock(struct attack_run *run, int socket, const struct attack_blocks *blocks)
{
	struct attacker self = {.socket = socket,
				.ns = raw_namespace(socket, blocks->block_bytes),
				.region = attack_region(socket, blocks->block_bytes)};
	uint32_t done = 0;

	while (done < blocks->count) {
		struct attack_blocks batch = *blocks;
		batch.first = blocks->first + done;
		batch.count = blocks->count - done;
		if (batch.count > ATTACK_BLOCKS_MAX)
			batch.count = ATTACK_BLOCKS_MAX;
		batch.ready_slot = HBM_WIRE_NO_FENCE;
		const struct hbm_wire_header *message =
			attack_blocks(run, HBM_WIRE_STORE, &self, &batch);
		assert_int_equal(raw_ask(socket, message, message->size), HBM_OK);
		done += batch.count;
	}

	const struct hbm_wire_region_destroy destroy = {
		.header = RAW_HEADER(REGION_DESTROY, sizeof(destroy)), .region = self.region};
	assert_int_equal(raw_ask(socket, &destroy, sizeof(destroy)), HBM_OK);
}

void attack_push_down(int socket)
{
	const enum hbm_tier tiers[] = {HBM_TIER_HBM, HBM_TIER_DDR};

	for (size_t i = 0; i < 2; i++) {
		const struct hbm_wire_evict evict = {.header = RAW_HEADER(EVICT, sizeof(evict)),
						     .tier = tiers[i],
						     .bytes = UINT64_MAX};
		assert_int_equal(raw_ask(socket, &evict, sizeof(evict)), HBM_OK);
	}
}
