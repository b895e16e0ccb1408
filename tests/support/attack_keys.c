/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attack_keys: attacks that keep the daemon's loop busy: requests that name thousands of
 * keys, or one key that costs as much, without a pause.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/attack_message.h"
#include "tests/support/raw.h"

#include <string.h>

#define BLOCK 4096u

static void begin_with_namespace(struct attack_run *run, struct attacker *attacker)
{
	(void)run;
	attacker->ns = raw_namespace(attacker->socket, BLOCK);
}

static void prepare_chain(struct attack_run *run, int socket)
{
	const struct attack_blocks chain = {
		.count = (uint32_t)run->size, .block_bytes = BLOCK, .is_chain = true};
	attack_stock(run, socket, &chain);
}

/* Keys of messages that are all alike: the first session makes the message. */
static struct hbm_wire_header *same_keys(struct attack_run *run, const struct attacker *attacker,
					 enum hbm_wire_opcode opcode,
					 const struct attack_keys *keys)
{
	struct hbm_wire_keys *message = (void *)run->message;
	if (message->header.opcode != opcode || message->ns != attacker->ns ||
	    message->count != keys->count)
		attack_keys(run, opcode, attacker->ns, keys);
	return &message->header;
}

static struct hbm_wire_header *next_lookup(struct attack_run *run, struct attacker *attacker)
{
	const struct attack_keys absent = {.chain = 99, .count = ATTACK_KEYS_MAX, .step = 1};
	return same_keys(run, attacker, HBM_WIRE_LOOKUP, &absent);
}

static struct hbm_wire_header *next_touch(struct attack_run *run, struct attacker *attacker)
{
	const struct attack_keys chain = {.count = (uint32_t)run->size, .step = 1};
	return same_keys(run, attacker, HBM_WIRE_TOUCH, &chain);
}

static struct hbm_wire_header *next_deep(struct attack_run *run, struct attacker *attacker)
{
	const struct attack_keys leaf = {.first = run->size - 1, .count = 1};
	return same_keys(run, attacker, HBM_WIRE_TOUCH, &leaf);
}

static void prepare_nvme(struct attack_run *run, int socket)
{
	prepare_chain(run, socket);
	attack_push_down(socket);
}

static struct hbm_wire_header *next_prefetch(struct attack_run *run, struct attacker *attacker)
{
	const struct attack_keys one = {.count = ATTACK_KEYS_MAX};
	return same_keys(run, attacker, HBM_WIRE_PREFETCH, &one);
}

static struct hbm_wire_header *next_verify(struct attack_run *run, struct attacker *attacker)
{
	(void)attacker;
	return attack_query(run, HBM_QUERY_VERIFY, 0);
}

static struct hbm_wire_header *next_blocks(struct attack_run *run, struct attacker *attacker)
{
	return attack_query(run, HBM_QUERY_BLOCKS, attacker->cursor);
}

static bool replied_blocks(struct attack_run *run, struct attacker *attacker,
			   const struct hbm_wire_header *reply)
{
	(void)run;
	if (reply->status == HBM_OK && reply->size >= sizeof(struct hbm_wire_query_reply))
		attacker->cursor = ((const struct hbm_wire_query_reply *)reply)->next;
	return true;
}

/* ---- A chain that is stored, and removed at its root ---- */

static void begin_chain(struct attack_run *run, struct attacker *attacker)
{
	begin_with_namespace(run, attacker);
	attacker->region = attack_region(attacker->socket, BLOCK);
}

static struct hbm_wire_header *next_chain(struct attack_run *run, struct attacker *attacker)
{
	uint64_t batches = (run->size + ATTACK_BLOCKS_MAX - 1) / ATTACK_BLOCKS_MAX;
	uint64_t batch = attacker->turn % (batches + 1), first = batch * ATTACK_BLOCKS_MAX;
	uint64_t left = run->size - first, chain = 100 + attacker->number;
	const struct attack_keys root = {.chain = chain, .count = 1};
	const struct attack_blocks blocks = {
		.chain = chain,
		.first = first,
		.count = (uint32_t)(left < ATTACK_BLOCKS_MAX ? left : ATTACK_BLOCKS_MAX),
		.block_bytes = BLOCK,
		.is_chain = true,
		.ready_slot = HBM_WIRE_NO_FENCE,
	};

	if (batch == batches)
		return attack_keys(run, HBM_WIRE_REMOVE, attacker->ns, &root);

	return attack_blocks(run, HBM_WIRE_STORE, attacker, &blocks);
}

/* For chains of 60,000 blocks of 4 KiB. */
static const char *const roomy[] = {"nvme.size=512MiB", NULL};

const struct attack attacks_with_keys[] = {
	{.name = "lookup",
	 .what = "LOOKUP of 8,189 absent keys",
	 .in_flight = 60,
	 .many = 32,
	 .begin = begin_with_namespace,
	 .next = next_lookup},
	{.name = "touch",
	 .what = "TOUCH of a chain of 8,189 blocks",
	 .size = {2000, ATTACK_KEYS_MAX},
	 .in_flight = 60,
	 .many = 32,
	 .has_results = true,
	 .prepare = prepare_chain,
	 .begin = begin_with_namespace,
	 .next = next_touch},
	{.name = "deep",
	 .what = "TOUCH of the leaf of a chain of 60,000",
	 .sets = roomy,
	 .size = {5000, 60000},
	 .in_flight = 60,
	 .many = 32,
	 .has_results = true,
	 .prepare = prepare_chain,
	 .begin = begin_with_namespace,
	 .next = next_deep},
	{.name = "prefetch",
	 .what = "PREFETCH of one NVMe block 8,189 times",
	 .size = {1, 1},
	 .in_flight = 60,
	 .many = 32,
	 .has_results = true,
	 .prepare = prepare_nvme,
	 .begin = begin_with_namespace,
	 .next = next_prefetch},
	{.name = "verify",
	 .what = "VERIFY with 60,000 blocks, by operators",
	 .sets = roomy,
	 .size = {5000, 60000},
	 .in_flight = 60,
	 .many = 8,
	 .is_operator = true,
	 .prepare = prepare_chain,
	 .next = next_verify},
	{.name = "blocks",
	 .what = "QUERY of the blocks, 60,000",
	 .sets = roomy,
	 .size = {5000, 60000},
	 .in_flight = 60,
	 .many = 32,
	 .prepare = prepare_chain,
	 .next = next_blocks,
	 .replied = replied_blocks},
	{.name = "chain",
	 .what = "STORE of a chain of 60,000, REMOVE of its root",
	 .sets = roomy,
	 .size = {5000, 60000},
	 .in_flight = 1,
	 .many = 2,
	 .has_results = true,
	 .begin = begin_chain,
	 .next = next_chain},
	{.name = NULL},
};
