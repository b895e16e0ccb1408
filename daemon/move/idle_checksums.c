/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/move/idle_checksums.h"

#include <errno.h>
#include <stdlib.h>

#include "daemon/loop/loop.h"
#include "daemon/move/move.h"

#define SLICE_BLOCKS 1024 /* looked at; about 88 KiB of the table */

static bool idle_checksums_wants(const struct idle_checksums *idle, uint32_t number)
{
	const struct blocks *blocks = &idle->mover->cache->blocks;
	const struct block *block = block_get(blocks, number);
	const struct tier *tier = block_place(blocks, number).tier;

	return block_is_complete(block) && !block->checksummed && tier && tier_is_memory(tier) &&
	       !tier->lost;
}

static void idle_checksums_have_read(struct transfer *transfer);

static void idle_checksums_wait(struct idle_checksums *idle)
{
	if (!timer_is_set(&idle->quiet))
		loop_timer_set(idle->mover->loop, &idle->quiet, clock_now() + idle->quiet_ns);
}

static bool idle_checksums_is_quiet(const struct idle_checksums *idle)
{
	return mover_is_idle(idle->mover) && clock_now() - idle->placed_ns >= idle->quiet_ns;
}

/* Out of a device, through a staging buffer. */
static void idle_checksums_read(struct idle_checksums *idle, struct place place)
{
	struct blocks *blocks = &idle->mover->cache->blocks;

	block_use(blocks, idle->block);
	idle->transfer = (struct transfer){.context = &idle->mover->context,
					   .from = {.place = place},
					   .bytes = block_bytes(blocks, idle->block),
					   .wipe = block_is_wiped(blocks, idle->block),
					   .checksum_mode = CHECKSUM_TAKE,
					   .done = idle_checksums_have_read};
	transfer_begin(&idle->transfer);
}

static void idle_checksums_compute(struct idle_checksums *idle, uint32_t number)
{
	const struct blocks *blocks = &idle->mover->cache->blocks;
	struct place place = block_place(blocks, number);

	idle->block = number;
	idle->moved = false;
	if (!tier_host(place.tier, place.unit)) {
		idle_checksums_read(idle, place);
		return;
	}

	idle->job.host = tier_host(place.tier, place.unit);
	idle->job.bytes = block_bytes(blocks, number);
	hash_pool_post(idle->mover->context.hash_pool, &idle->job, false);
}

/* ---- what has come ---- */

static void idle_checksums_add_fresh(struct idle_checksums *idle, uint32_t number)
{
	if (idle->fresh_count == IDLE_CHECKSUMS_FRESH)
		return;

	idle->fresh[(idle->fresh_first + idle->fresh_count) % IDLE_CHECKSUMS_FRESH] = number;
	idle->fresh_count++;
}

/* Begins with the next that has come, unless one is being computed. Whether one is, then. */
static bool idle_checksums_compute_fresh(struct idle_checksums *idle)
{
	const struct index *index = idle->mover->cache->blocks.index;

	while (idle->block == 0 && idle->fresh_count > 0) {
		uint32_t number = idle->fresh[idle->fresh_first];

		idle->fresh_first = (idle->fresh_first + 1) % IDLE_CHECKSUMS_FRESH;
		idle->fresh_count--;
		if (index_used(index, number) && idle_checksums_wants(idle, number))
			idle_checksums_compute(idle, number);
	}

	return idle->block != 0;
}

void idle_checksums_hurry(struct idle_checksums *idle)
{
	idle->soon = true;
}

/* ---- the walk ---- */

static void idle_checksums_end_walk(struct idle_checksums *idle)
{
	idle->next = 0;
	if (idle->came)
		idle_checksums_wait(idle);
}

static bool idle_checksums_walk(struct background *background)
{
	struct idle_checksums *idle = container_of(background, struct idle_checksums, walk);
	const struct index *index = idle->mover->cache->blocks.index;

	if (idle->block != 0)
		return false; /* it goes on when that is computed */
	if (!idle_checksums_is_quiet(idle)) {
		idle_checksums_wait(idle);
		return false;
	}

	for (unsigned looked = 0; looked < SLICE_BLOCKS; looked++) {
		if (idle->next > index_highest(index)) {
			idle_checksums_end_walk(idle);
			return false;
		}

		uint32_t number = idle->next++;
		if (index_used(index, number) && idle_checksums_wants(idle, number)) {
			idle_checksums_compute(idle, number);
			return false;
		}
	}

	return true;
}

static void idle_checksums_begin(struct timer *timer)
{
	struct idle_checksums *idle = container_of(timer, struct idle_checksums, quiet);

	if (!idle_checksums_is_quiet(idle)) {
		idle_checksums_wait(idle);
		return;
	}

	if (idle->next == 0) {
		idle->next = 1;
		idle->came = false;
	}

	loop_background(idle->mover->loop, &idle->walk);
}

/* One may have come, and been begun with, while the last was brought to its end. */
static void idle_checksums_go_on(struct idle_checksums *idle)
{
	if (!idle_checksums_compute_fresh(idle))
		loop_background(idle->mover->loop, &idle->walk);
}

static void idle_checksums_computed(struct hash_job *job)
{
	struct idle_checksums *idle = container_of(job, struct idle_checksums, job);
	uint32_t number = idle->block;

	idle->block = 0;
	if (idle->stopped)
		return;

	if (!idle->moved && idle_checksums_wants(idle, number))
		block_settle_checksum(&idle->mover->cache->blocks, number, job->checksum);
	idle_checksums_go_on(idle);
}

/* The block is in use, so that it is what it was, and where it was. */
static void idle_checksums_have_read(struct transfer *transfer)
{
	struct idle_checksums *idle = container_of(transfer, struct idle_checksums, transfer);
	struct mover *mover = idle->mover;
	uint32_t number = idle->block;

	transfer_release(transfer);
	if (transfer->status != HBM_OK)
		mover_failed(mover, transfer, number);
	else if (!block_is_dropped(block_get(&mover->cache->blocks, number)))
		(void)block_settle_checksum(&mover->cache->blocks, number, transfer->checksum);

	idle->block = 0;
	move_unuse(mover, number);
	if (!idle->stopped)
		idle_checksums_go_on(idle);
}

/* ---- what it is told ---- */

static void idle_checksums_placed(struct block_listener *listener, uint32_t number, struct tier *to,
				  struct tier *from)
{
	struct idle_checksums *idle = container_of(listener, struct idle_checksums, listener);

	(void)from;
	if (!tier_is_memory(to))
		return;

	if (idle->soon && idle_checksums_wants(idle, number))
		idle_checksums_add_fresh(idle, number);
	(void)idle_checksums_compute_fresh(idle);
	idle->placed_ns = clock_now();
	idle->came = true;
	if (idle->next == 0)
		idle_checksums_wait(idle);
}

static void idle_checksums_unplaced(struct block_listener *listener, uint32_t number,
				    struct tier *from, struct tier *to)
{
	struct idle_checksums *idle = container_of(listener, struct idle_checksums, listener);

	(void)from;
	(void)to;
	idle->moved |= number == idle->block;
}

int idle_checksums_new(struct idle_checksums **out, struct mover *mover, uint64_t quiet_ns)
{
	struct idle_checksums *idle = calloc(1, sizeof(*idle));
	if (!idle)
		return -ENOMEM;

	*idle = (struct idle_checksums){
		.mover = mover,
		.quiet_ns = quiet_ns,
		.listener = {.placed = idle_checksums_placed, .unplaced = idle_checksums_unplaced},
		.quiet.fire = idle_checksums_begin,
		.walk.run = idle_checksums_walk,
		.job.done = idle_checksums_computed};
	block_listen(&mover->cache->blocks, &idle->listener);
	*out = idle;

	return 0;
}

void idle_checksums_stop(struct idle_checksums *idle)
{
	if (!idle)
		return;

	idle->stopped = true;
	loop_timer_stop(idle->mover->loop, &idle->quiet);
	loop_background_stop(&idle->walk);
	list_remove(&idle->listener.link);
}

struct idle_checksums *idle_checksums_free(struct idle_checksums *idle)
{
	free(idle);
	return NULL;
}
