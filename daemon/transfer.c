/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/transfer.h"

#include <stddef.h>

static void step_in(struct transfer *transfer);
static void step_out(struct transfer *transfer);

static const struct block *block_of(const struct transfer *transfer)
{
	return cache_block(transfer->carrier->cache, transfer->block);
}

static struct lane *lane_of(const struct device *device, enum lane_kind kind)
{
	return device->lanes[kind];
}

/* The device whose lanes touch this transfer's side: of the client, else of the HBM tier. */
static struct device *device_of(const struct transfer *transfer, const struct tier *tier)
{
	return tier ? tier->device : transfer->device;
}

void transfer_fail(struct transfer *transfer, int status)
{
	if (transfer->status == HBM_OK)
		transfer->status = status;
}

static void fail_readers(struct transfer *move)
{
	for (struct list *node; (node = list_pop_front(&move->readers)) != NULL;) {
		struct transfer *reader = container_of(node, struct transfer, link);
		transfer_fail(reader, move->status);
		reader->done(reader);
	}
}

void transfer_end(struct transfer *transfer)
{
	struct carrier *carrier = transfer->carrier;
	carrier->active--;
	if (transfer->staging_unit != UINT32_MAX)
		tier_give(carrier->cache->staging, transfer->staging_unit, transfer->bytes);
	fail_readers(transfer);
	carrier->ended(transfer);
}

void transfer_try_end(struct transfer *move)
{
	if (move->out_done && list_empty(&move->readers) && block_of(move)->users == 0)
		transfer_end(move);
}

/* What comes last has been done, or has failed. */
static void is_out(struct transfer *transfer)
{
	transfer->out_done = true;
	if (transfer->kind == TRANSFER_MOVE)
		transfer_try_end(transfer);
	else
		transfer_end(transfer);
}

/* ---- steps ---- */

/* The device side of the next copy: the client's spans, or one span that is the tier's slot. */
static void aim(struct transfer *transfer, const struct tier *tier, uint32_t unit)
{
	struct copy *copy = &transfer->copy;
	*copy = (struct copy){.bytes = transfer->bytes};
	if (tier) {
		transfer->span = (struct span){tier->base + tier_offset(unit), transfer->bytes};
		copy->spans = &transfer->span;
		copy->span_count = 1;
	} else {
		copy->spans = transfer->spans;
		copy->span_count = transfer->span_count;
	}
}

/* Takes the checksum a copy out of a device has made as the block's; one that has its checksum already must agree. */
static int settle_checksum(struct transfer *transfer)
{
	struct blocks *blocks = &transfer->carrier->cache->blocks;
	return block_settle_checksum(blocks, transfer->block, transfer->copy.checksum) ? HBM_OK : HBM_MISS;
}

/* The bytes are in host memory and are what was stored. */
static void host_is_valid(struct transfer *transfer)
{
	transfer->host_valid = true;
	list_for_each_safe (node, after, &transfer->readers)
		transfer_serve(container_of(node, struct transfer, link), transfer);
	step_out(transfer);
}

static void came_in(struct copy *copy)
{
	struct transfer *transfer = container_of(copy, struct transfer, copy);
	int status = copy->status == HBM_OK && copy->take_checksum ? settle_checksum(transfer) : copy->status;
	if (status == HBM_MISS) {
		transfer->carrier->cache->checksum_failures++;
		if (log_quota(&transfer->carrier->log))
			log_error("%s: a block of %llu bytes at %llu is not what was stored: dropped",
				  tier_name(transfer->from->kind), (unsigned long long)transfer->bytes,
				  (unsigned long long)tier_offset(transfer->from_unit));
	}
	if (status != HBM_OK) {
		transfer_fail(transfer, status);
		transfer_end(transfer);
		return;
	}
	host_is_valid(transfer);
}

/* A lane takes the checksum: the loop thread has better things to do. */
static void verify(struct transfer *transfer)
{
	const struct block *block = block_of(transfer);
	struct device *device =
		transfer->to && transfer->to->device ? transfer->to->device : &transfer->carrier->devices->list[0];
	transfer->copy = (struct copy){.verify_checksum = block->checksummed,
				       .checksum = block->checksum,
				       .host = transfer->host,
				       .bytes = transfer->bytes,
				       .done = came_in};
	lane_post(lane_of(device, LANE_H2D), &transfer->copy, transfer->urgent);
}

static void was_read(struct disk_op *op)
{
	struct transfer *transfer = container_of(op, struct transfer, op);
	if (op->error == 0) {
		verify(transfer);
		return;
	}
	transfer->carrier->cache->io_errors++;
	transfer_fail(transfer, HBM_IO);
	transfer_end(transfer);
}

static void step_in(struct transfer *transfer)
{
	if (transfer->from && transfer->from->kind == HBM_TIER_NVME) {
		transfer->op = (struct disk_op){.offset = tier_offset(transfer->from_unit),
						.bytes = transfer->bytes,
						.memory = transfer->host,
						.done = was_read};
		disk_submit(transfer->carrier->disk, &transfer->op, transfer->urgent);
		return;
	}
	aim(transfer, transfer->from, transfer->from_unit);
	transfer->copy.host = transfer->host;
	transfer->copy.take_checksum = true;
	transfer->copy.done = came_in;
	lane_post(lane_of(device_of(transfer, transfer->from), LANE_D2H), &transfer->copy, transfer->urgent);
}

static void went_out(struct copy *copy)
{
	struct transfer *transfer = container_of(copy, struct transfer, copy);
	if (copy->status != HBM_OK)
		transfer_fail(transfer, copy->status);
	is_out(transfer);
}

static void was_written(struct disk_op *op)
{
	struct transfer *transfer = container_of(op, struct transfer, op);
	if (op->error < 0) {
		transfer->carrier->cache->io_errors++;
		transfer_fail(transfer, HBM_IO);
	}
	is_out(transfer);
}

static void step_out(struct transfer *transfer)
{
	const struct tier *to = transfer->to;
	if (to && to->kind == HBM_TIER_NVME) {
		transfer->op = (struct disk_op){.write = true,
						.offset = tier_offset(transfer->to_unit),
						.bytes = transfer->bytes,
						.memory = transfer->host,
						.done = was_written};
		disk_submit(transfer->carrier->disk, &transfer->op, transfer->urgent);
	} else if (to && to->kind == HBM_TIER_HBM) {
		aim(transfer, to, transfer->to_unit);
		transfer->copy.host = transfer->host;
		transfer->copy.done = went_out;
		lane_post(lane_of(to->device, LANE_H2D), &transfer->copy, transfer->urgent);
	} else {
		is_out(transfer);
	}
}

static void staged(struct slot_wait *wait, uint32_t unit)
{
	struct transfer *transfer = container_of(wait, struct transfer, wait);
	transfer->staging_unit = unit;
	transfer->host = transfer->carrier->cache->staging->host + tier_offset(unit);
	step_in(transfer);
}

/* Where the bytes pass through host memory, and then the first step. The target's slot is held already. */
void transfer_begin(struct transfer *transfer)
{
	const struct tier *from = transfer->from, *to = transfer->to;
	transfer->carrier->active++;
	if (from && from->kind == HBM_TIER_DDR) {
		transfer->host = from->host + tier_offset(transfer->from_unit);
		host_is_valid(transfer);
	} else if (to && to->kind == HBM_TIER_DDR) {
		transfer->host = to->host + tier_offset(transfer->to_unit);
		step_in(transfer);
	} else {
		transfer->wait = (struct slot_wait){.bytes = transfer->bytes, .granted = staged};
		tier_wait(transfer->carrier->cache->staging, &transfer->wait);
	}
}

/* ---- one copy ---- */

static void was_read_back(struct copy *copy)
{
	struct transfer *store = container_of(copy, struct transfer, copy);
	transfer_fail(store, copy->status == HBM_OK ? settle_checksum(store) : copy->status);
	is_out(store);
}

static void staged_for_checksum(struct slot_wait *wait, uint32_t unit)
{
	struct transfer *store = container_of(wait, struct transfer, wait);
	store->staging_unit = unit;
	aim(store, store->to, store->to_unit);
	store->copy.host = store->carrier->cache->staging->host + tier_offset(unit);
	store->copy.take_checksum = true;
	store->copy.done = was_read_back;
	lane_post(lane_of(store->to->device, LANE_D2H), &store->copy, store->urgent);
}

/* The bytes are in a slot of HBM. Their checksum is taken of what lies there, by way of host memory: the processor sees
 * no other. */
static void is_in_hbm(struct copy *copy)
{
	struct transfer *store = container_of(copy, struct transfer, copy);
	if (copy->status != HBM_OK) {
		transfer_fail(store, copy->status);
		is_out(store);
		return;
	}
	store->wait = (struct slot_wait){.bytes = store->bytes, .granted = staged_for_checksum};
	tier_wait(store->carrier->cache->staging, &store->wait);
}

void transfer_direct(struct transfer *transfer)
{
	const struct tier *tier = transfer->to ? transfer->to : transfer->from;
	uint32_t unit = transfer->to ? transfer->to_unit : transfer->from_unit;
	transfer->carrier->active++;
	aim(transfer, NULL, 0);
	transfer->copy.done = transfer->to ? is_in_hbm : went_out;
	transfer->copy.gather = transfer->to != NULL;
	if (tier->kind == HBM_TIER_HBM)
		transfer->copy.flat = tier->base + tier_offset(unit);
	else
		transfer->copy.host = tier->host + tier_offset(unit);
	lane_post(lane_of(transfer->device, tier->kind == HBM_TIER_HBM ? LANE_D2D : LANE_H2D), &transfer->copy, true);
}

/* ---- readers ---- */

static void served(struct copy *copy)
{
	struct transfer *reader = container_of(copy, struct transfer, copy);
	struct transfer *move = reader->source;
	transfer_fail(reader, copy->status);
	list_remove(&reader->link);
	reader->done(reader);
	transfer_try_end(move);
}

void transfer_serve(struct transfer *reader, struct transfer *move)
{
	reader->source = move;
	aim(reader, NULL, 0);
	reader->copy.host = move->host;
	reader->copy.done = served;
	lane_post(lane_of(reader->device, LANE_H2D), &reader->copy, true);
}
