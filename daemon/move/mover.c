/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/move/mover.h"

#include <errno.h>
#include <stdlib.h>

#include "daemon/device/device.h"
#include "daemon/loop/loop.h"
#include "daemon/move/wiper.h"

/* ---- failures ---- */

void mover_give_up_lost_devices(struct mover *mover)
{
	struct cache *cache = mover->cache;

	for (uint32_t i = 1; i <= cache->tier_count; i++) {
		struct tier *tier = &cache->tiers[i];
		if (tier->device && tier->usable > 0 && device_is_lost(tier->device))
			cache_lose_tier(cache, tier);
	}
}

static void mover_log_mismatch(struct mover *mover, const struct transfer *transfer)
{
	struct place place = transfer->from.place;

	if (log_quota(&mover->mismatches))
		log_error("%s: checksum mismatch, block of %llu bytes at offset %llu dropped",
			  tier_name(place.tier->kind),
			  (unsigned long long)transfer_bytes_at(transfer, place.tier),
			  (unsigned long long)tier_offset(place.unit));
}

void mover_failed(struct mover *mover, const struct transfer *transfer, uint32_t number)
{
	bool known = transfer->checksum_mode == CHECKSUM_VERIFY &&
		     block_is_dropped(cache_block(mover->cache, number));

	if (transfer->status == HBM_MISS && !known) {
		mover->cache->counters.checksum_failures++;
		mover_log_mismatch(mover, transfer);
	} else if (transfer->status == HBM_IO) {
		mover->cache->counters.io_errors++;
	} else if (transfer->status == HBM_DEVICE) {
		mover_give_up_lost_devices(mover);
	}
}

void mover_fail_extent(struct mover *mover, struct place place, uint64_t bytes, bool secret)
{
	struct tier *tier = place.tier;

	tier->wipes.kept |= secret;
	tier_fail(tier, place.unit, bytes);
	if (tier->lost || !tier_has_failed(tier))
		return;

	log_error("%s: %llu of %llu bytes have failed: the tier is lost until hbmd restarts; "
		  "replace the disk",
		  tier_name(tier->kind), (unsigned long long)tier->failed,
		  (unsigned long long)tier->capacity);
	cache_lose_tier(mover->cache, tier);
}

/* ---- the mover ---- */

uint64_t mover_active(const struct mover *mover)
{
	return mover->context.active;
}

uint64_t mover_moves(const struct mover *mover)
{
	return mover->numbers - mover->vacant_count;
}

bool mover_is_idle(const struct mover *mover)
{
	return mover->context.active == mover->context.held && !wiper_waits(mover->wiper);
}

void mover_stop(struct mover *mover)
{
	wiper_stop(mover->wiper);
}

static void mover_late_settled(struct late_listener *listener)
{
	struct mover *mover = container_of(listener, struct mover_late, listener)->mover;

	for (uint32_t i = 0; i <= mover->cache->tier_count; i++)
		tier_free_late(&mover->cache->tiers[i]);
	mover->batch_done(mover);
}

static void mover_listen_late(struct mover *mover)
{
	for (uint32_t i = 0; i < mover->devices->count; i++) {
		struct mover_late *late = &mover->late[i];

		if (late->mover)
			list_remove(&late->listener.link);
		*late = (struct mover_late){.listener.settled = mover_late_settled};
		if (!mover->batch_done)
			continue;
		late->mover = mover;
		device_late_listen(&mover->devices->list[i], &late->listener);
	}
}

void mover_listen(struct mover *mover, void (*batch_done)(void *arg))
{
	const struct devices *devices = mover->devices;
	const struct cache *cache = mover->cache;

	mover->batch_done = batch_done;
	mover_listen_late(mover);
	for (uint32_t i = 0; i < devices->count; i++)
		for (enum copy_direction kind = COPY_D2D; kind <= COPY_H2D; kind++)
			copy_queue_on_batch(devices->list[i].queues[kind], batch_done, mover);
	for (enum copy_direction kind = COPY_D2H; devices->host && kind <= COPY_H2D; kind++)
		copy_queue_on_batch(devices->host->queues[kind], batch_done, mover);

	if (mover->context.hash_pool)
		hash_pool_on_batch(mover->context.hash_pool, batch_done, mover);
	for (uint32_t i = 1; i <= cache->tier_count; i++)
		if (cache->tiers[i].ops && cache->tiers[i].ops->on_batch)
			cache->tiers[i].ops->on_batch(&cache->tiers[i], batch_done, mover);
}

static void mover_wipe_failed(void *arg, struct place place, uint64_t bytes, int status)
{
	if (status == HBM_DEVICE)
		mover_give_up_lost_devices(arg);
	else
		mover_fail_extent(arg, place, bytes, true);
}

static void mover_may_wipe(void *arg)
{
	struct mover *mover = arg;

	mover->again = true;
	if (mover->loop)
		loop_background(mover->loop, &mover->rest);
}

static int mover_open_wiper(struct mover *mover)
{
	return wiper_new(&mover->wiper, &(struct wiper_options){.cache = mover->cache,
								.context = &mover->context,
								.failed = mover_wipe_failed,
								.ready = mover_may_wipe,
								.arg = mover});
}

int mover_new(struct mover **out, const struct mover_options *options)
{
	struct mover *mover = calloc(1, sizeof(*mover));
	if (!mover)
		return -ENOMEM;

	mover->cache = options->cache;
	mover->late_ns = options->late_ns;
	list_init(&mover->writes);
	mover->context = (struct transfer_context){.staging = options->staging,
						   .hash_pool = options->hash_pool,
						   .piece = options->piece};
	mover->devices = options->devices;
	mover->checksums = options->checksums;
	list_init(&mover->serving);
	for (unsigned i = 0; i < TIER_NUMBERS; i++)
		due_moves_open(&mover->due[i]);
	mover->link_stats = options->link_stats;
	payer_open(&mover->for_policy, options->ledger, PAYER_MOVER);
	payer_open(&mover->for_loads, options->ledger, PAYER_MOVER);
	mover->numbers = 2 * ledger_limit(&mover->for_policy, LEDGER_MOVES);
	mover->moves = calloc(mover->numbers + 1, sizeof(*mover->moves));
	mover->vacant = calloc(mover->numbers, sizeof(*mover->vacant));
	if (!mover->moves || !mover->vacant || mover_open_wiper(mover) < 0 ||
	    waiting_loads_open(&mover->loads, mover->numbers)) {
		mover_free(mover);
		return -ENOMEM;
	}

	for (uint64_t n = mover->numbers; n > 0; n--)
		mover->vacant[mover->vacant_count++] = (uint32_t)n;
	*out = mover;

	return 0;
}

struct mover *mover_free(struct mover *mover)
{
	if (!mover)
		return NULL;

	if (mover->vacant && mover->moves)
		mover_listen(mover, NULL);

	mover->cache->drops.pending = NULL;
	loop_background_stop(&mover->rest);
	for (unsigned i = 0; i < TIER_NUMBERS; i++)
		due_moves_close(&mover->due[i]);
	payer_close(&mover->for_policy);
	payer_close(&mover->for_loads);
	waiting_loads_close(&mover->loads);
	mover->wiper = wiper_free(mover->wiper);
	free(mover->vacant);
	free(mover->moves);
	free(mover);

	return NULL;
}
