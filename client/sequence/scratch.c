/* SPDX-License-Identifier: Apache-2.0 */
/* scratch: see scratch.h. */
#include "client/sequence/scratch.h"

#include "client/sequence/backing.h"
#include "client/sequence/books.h"
#include "client/sequence/copies.h"
#include "client/sequence/pool.h"

#include <errno.h>

static void scratch_gather(struct hbm_pool *pool)
{
	const struct hbm_region *region = pool->scratch;

	hbm_ranges_begin(&pool->shrink);
	for (uint64_t at = 0; region && at < region->address_space; at += pool->slab)
		if (region->slabs[at / pool->slab] == SLAB_MAPPED)
			hbm_ranges_add(&pool->shrink, pool->scratch, at, pool->slab);
}

static bool scratch_is_empty(struct hbm_pool *pool)
{
	scratch_gather(pool);

	return pool->shrink.count == 0 && !pool->shrink.failed;
}

int hbm_scratch_open(struct hbm_pool *pool, uint32_t slots)
{
	const struct hbm_region_options options = {
		.device = pool->region->device,
		.slab = pool->slab,
		.address_space = slots * pool->slot_bytes,
	};
	struct hbm_region *region;

	if (pool->scratch && pool->scratch->address_space >= options.address_space)
		return scratch_is_empty(pool) ? 0 : hbm_scratch_empty(pool);
	if (!hbm_copies_settle(pool))
		return hbm_copies_fail(pool);

	int r = hbm_region_create(pool->hbm, &options, &region);
	if (r)
		return hbm_pool_fail_call(pool, r, "address space to exchange slabs");

	if (pool->scratch) {
		scratch_gather(pool);
		hbm_books_count(pool, -(int64_t)pool->shrink.bytes);
		hbm_region_destroy(pool->hbm, pool->scratch);
	}
	pool->scratch = region;

	return 0;
}

int hbm_scratch_empty(struct hbm_pool *pool)
{
	/* Copies that are still under way to it. */
	if (!hbm_copies_wait(pool))
		return hbm_copies_fail(pool);

	scratch_gather(pool);
	if (pool->shrink.failed)
		return hbm_pool_fail(pool, -ENOMEM, "cannot allocate the ranges of scratch");

	int r = hbm_backing_decommit(pool);

	return r ? hbm_pool_fail_call(pool, r, "what was left of an exchange") : 0;
}
