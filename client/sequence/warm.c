/* SPDX-License-Identifier: Apache-2.0 */
/* warm: see warm.h. */
#include "client/sequence/warm.h"

#include "client/sequence/backing.h"
#include "client/sequence/pool.h"
#include "client/sequence/slot.h"

/* Gathers at least so many slabs of a slot, of the longest tokens first. */
static void warm_gather_from(struct hbm_pool *pool, const struct slot *slot, uint64_t slabs)
{
	uint64_t low = 0, high = pool->max_tokens;

	/* The most tokens that leave enough; 0 leaves all. */
	while (low < high) {
		const uint64_t middle = low + (high - low + 1) / 2;

		hbm_ranges_begin(&pool->shrink);
		hbm_slot_beyond(pool, pool->layout, slot, middle, &pool->shrink);
		if (pool->shrink.bytes / pool->slab >= slabs)
			low = middle;
		else
			high = middle - 1;
	}
	hbm_ranges_begin(&pool->shrink);
	hbm_slot_beyond(pool, pool->layout, slot, low, &pool->shrink);
}

/* One slot's worth: 0, or why not. */
static int warm_release_slot(struct hbm_pool *pool, uint64_t slabs)
{
	struct slot *slot = container_of(pool->warm.prev, struct slot, link);

	warm_gather_from(pool, slot, slabs < slot->slabs ? slabs : slot->slabs);
	/* What could not be noted is tried another time. */
	if (pool->shrink.count == 0)
		return HBM_LIMIT;

	return hbm_backing_decommit(pool);
}

static int warm_shrink(struct hbm_pool *pool, uint64_t to)
{
	int r = 0;

	while (r == 0 && pool->warm_slabs > to)
		r = warm_release_slot(pool, pool->warm_slabs - to);

	return r;
}

uint64_t hbm_warm_release(struct hbm_pool *pool, uint64_t slabs)
{
	const uint64_t before = pool->warm_slabs;

	warm_shrink(pool, slabs < before ? before - slabs : 0);

	return before - pool->warm_slabs;
}

int hbm_warm_trim(struct hbm_pool *pool)
{
	struct hbm_device_memory memory;
	const bool is_short =
		pool->warm_slabs > 0 &&
		hbm_device_memory(pool->hbm, hbm_region_device(pool->region), &memory) == 0 &&
		memory.waiting > 0;

	return warm_shrink(pool, is_short ? 0 : pool->warm_slabs_max);
}
