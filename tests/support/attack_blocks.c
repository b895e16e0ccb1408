/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attack_blocks: attacks that keep copy queues, NVMe and staging busy, and those whose
 * requests wait.
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
#define MIDDLE (64u << 10)
#define LARGE (8u << 20)

static void begin(struct attacker *attacker, uint64_t block_bytes)
{
	attacker->ns = raw_namespace(attacker->socket, block_bytes);
	attacker->region = attack_region(attacker->socket, block_bytes);
}

static void begin_small(struct attack_run *run, struct attacker *attacker)
{
	(void)run;
	begin(attacker, BLOCK);
}

static void begin_middle(struct attack_run *run, struct attacker *attacker)
{
	(void)run;
	begin(attacker, MIDDLE);
}

static void begin_large(struct attack_run *run, struct attacker *attacker)
{
	(void)run;
	begin(attacker, LARGE);
}

static void prepare(struct attack_run *run, int socket, uint64_t block_bytes)
{
	const struct attack_blocks blocks = {.count = (uint32_t)run->size,
					     .block_bytes = block_bytes};
	attack_stock(run, socket, &blocks);
}

static void prepare_small_in_hbm(struct attack_run *run, int socket)
{
	prepare(run, socket, BLOCK);
}

static void prepare_small_in_nvme(struct attack_run *run, int socket)
{
	prepare(run, socket, BLOCK);
	attack_push_down(socket);
}

static void prepare_middle_in_nvme(struct attack_run *run, int socket)
{
	prepare(run, socket, MIDDLE);
	attack_push_down(socket);
}

static void prepare_large(struct attack_run *run, int socket)
{
	prepare(run, socket, LARGE);
}

/* LOADs of `batch` blocks at a time out of `run->size`, and again from the first. */
static struct hbm_wire_header *next_load(struct attack_run *run, struct attacker *attacker,
					 struct attack_blocks *blocks, uint32_t batch)
{
	uint64_t batches = run->size / batch;
	uint64_t turn = attacker->turn + attacker->number * 7;

	blocks->first = turn % (batches == 0 ? 1 : batches) * batch;
	blocks->count = (uint32_t)(run->size < batch ? run->size : batch);
	blocks->ready_slot = HBM_WIRE_NO_FENCE;

	return attack_blocks(run, HBM_WIRE_LOAD, attacker, blocks);
}

static struct hbm_wire_header *next_pairs(struct attack_run *run, struct attacker *attacker)
{
	struct attack_blocks blocks = {.block_bytes = BLOCK, .times = 2};
	return next_load(run, attacker, &blocks, 500);
}

static struct hbm_wire_header *next_hot(struct attack_run *run, struct attacker *attacker)
{
	struct attack_blocks blocks = {.block_bytes = BLOCK};
	return next_load(run, attacker, &blocks, 500);
}

static struct hbm_wire_header *next_bulk(struct attack_run *run, struct attacker *attacker)
{
	struct attack_blocks blocks = {.block_bytes = MIDDLE};
	return next_load(run, attacker, &blocks, 500);
}

static struct hbm_wire_header *next_large(struct attack_run *run, struct attacker *attacker)
{
	struct attack_blocks blocks = {.block_bytes = LARGE};
	return next_load(run, attacker, &blocks, 1);
}

/* ---- As many segments as are allowed ---- */

static struct hbm_wire_header *next_shreds(struct attack_run *run, struct attacker *attacker)
{
	struct attack_blocks blocks = {.block_bytes = BLOCK, .segments = run->segments};
	if (run->segments == 0)
		blocks.segments = run->segments = BLOCK;
	return next_load(run, attacker, &blocks, 1);
}

static bool replied_shreds(struct attack_run *run, struct attacker *attacker,
			   const struct hbm_wire_header *reply)
{
	(void)attacker;
	if ((reply->status == HBM_INVALID || reply->status == HBM_LIMIT) && run->segments > 1)
		run->segments /= 2;
	return true;
}

/* ---- Stores ---- */

static struct hbm_wire_header *next_waiting(struct attack_run *run, struct attacker *attacker)
{
	const struct attack_blocks blocks = {.chain = 300 + attacker->number,
					     .first = attacker->turn * ATTACK_BLOCKS_MAX,
					     .count = ATTACK_BLOCKS_MAX,
					     .block_bytes = BLOCK,
					     .ready_slot = 3};
	return attack_blocks(run, HBM_WIRE_STORE, attacker, &blocks);
}

static struct hbm_wire_header *next_fill(struct attack_run *run, struct attacker *attacker)
{
	const struct attack_blocks blocks = {.chain = 300 + attacker->number,
					     .first = attacker->turn * 32,
					     .count = 32,
					     .block_bytes = MIDDLE,
					     .ready_slot = HBM_WIRE_NO_FENCE};
	return attack_blocks(run, HBM_WIRE_STORE, attacker, &blocks);
}

/* Less in the tiers above than is loaded, so that it is always read from NVMe. */
static const char *const low[] = {"device.cache=16MiB", "ddr.size=16MiB", "nvme.size=512MiB", NULL};
/* A link of 1 GiB/s, over which a block takes 8 ms; it is never in HBM. */
static const char *const slow_link[] = {"soft.h2d_gib_s=1", "device.cache=8MiB", "ddr.size=384MiB",
					NULL};
static const char *const short_wait[] = {"limits.ready_ms=300", NULL};

const struct attack attacks_with_blocks[] = {
	{.name = "pairs",
	 .what = "LOAD of 500 NVMe blocks of 4 KiB, each twice",
	 .sets = low,
	 .size = {1000, 30000},
	 .in_flight = 60,
	 .many = 8,
	 .has_results = true,
	 .prepare = prepare_small_in_nvme,
	 .begin = begin_small,
	 .next = next_pairs},
	{.name = "shreds",
	 .what = "LOAD of one block in pieces of one byte",
	 .size = {64, 64},
	 .in_flight = 60,
	 .many = 8,
	 .has_results = true,
	 .prepare = prepare_small_in_hbm,
	 .begin = begin_small,
	 .next = next_shreds,
	 .replied = replied_shreds},
	{.name = "bulk",
	 .what = "LOAD of 500 NVMe blocks of 64 KiB",
	 .sets = low,
	 .size = {500, 2000},
	 .victims_blocks = {768, 1024},
	 .in_flight = 2,
	 .many = 8,
	 .has_results = true,
	 .prepare = prepare_middle_in_nvme,
	 .begin = begin_middle,
	 .next = next_bulk},
	{.name = "large",
	 .what = "25 LOADs of 8 MiB over a link of 1 GiB/s",
	 .sets = slow_link,
	 .size = {4, 16},
	 .victims_blocks = {256, 1024},
	 .in_flight = 25,
	 .many = 8,
	 .has_results = true,
	 .prepare = prepare_large,
	 .begin = begin_large,
	 .next = next_large},
	{.name = "hot",
	 .what = "LOAD of 500 HBM blocks of 4 KiB",
	 .size = {500, 500},
	 .in_flight = 20,
	 .many = 32,
	 .has_results = true,
	 .prepare = prepare_small_in_hbm,
	 .begin = begin_small,
	 .next = next_hot},
	{.name = "fill",
	 .what = "STORE of 32 new blocks of 64 KiB",
	 .in_flight = 8,
	 .many = 8,
	 .has_results = true,
	 .begin = begin_middle,
	 .next = next_fill},
	{.name = "waiting",
	 .what = "STORE of 2,046 blocks that is never ready",
	 .sets = short_wait,
	 .in_flight = 64,
	 .many = 32,
	 .begin = begin_small,
	 .next = next_waiting},
	{.name = NULL},
};
