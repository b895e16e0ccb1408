/* SPDX-License-Identifier: Apache-2.0 */
/* own: see own.h. */
#include "client/sequence/own.h"

#include "client/sequence/backing.h"
#include "client/sequence/copies.h"
#include "client/sequence/credit.h"
#include "client/sequence/growth.h"
#include "client/sequence/page.h"
#include "client/sequence/pool.h"
#include "client/sequence/scratch.h"
#include "client/sequence/sequence.h"
#include "client/sequence/slot.h"

#include <errno.h>

/* Gathers what is shared of the bytes to be written. */
static void own_gather(struct hbm_sequence *sequence, uint64_t from, uint64_t end)
{
	struct hbm_pool *pool = sequence->pool;

	hbm_ranges_begin(&pool->shrink);
	for (uint32_t i = 0; sequence->slot->pages.list && i < pool->buffer_count; i++) {
		uint64_t offset, bytes;

		hbm_layout_range(hbm_sequence_layout(sequence), i, from, end, &offset, &bytes);
		hbm_slot_shared(pool, sequence->slot, offset, bytes, &pool->shrink);
	}
}

/* Commits scratch at the same offsets, and copies. */
static int own_copy(struct hbm_sequence *sequence, uint64_t from, uint64_t end)
{
	struct hbm_pool *pool = sequence->pool;
	const uint64_t base = hbm_slot_offset(pool, sequence->slot);
	int r = hbm_scratch_open(pool, 1);

	if (r)
		return r;

	own_gather(sequence, from, end);
	hbm_ranges_begin(&pool->grow);
	for (size_t i = 0; i < pool->shrink.count; i++)
		hbm_ranges_add(&pool->grow, pool->scratch, pool->shrink.list[i].offset - base,
			       pool->shrink.list[i].bytes);
	r = pool->grow.failed ? -ENOMEM : hbm_growth_map(pool);
	if (r)
		return hbm_pool_fail_call(pool, r, "memory for a copy of a shared slab");

	for (size_t i = 0; i < pool->grow.count; i++) {
		const struct hbm_range *range = &pool->grow.list[i];

		if (!hbm_copies_queue(pool, pool->scratch->address + range->offset,
				      pool->region->address + base + range->offset, range->bytes))
			return hbm_copies_fail(pool);
	}

	return hbm_copies_wait(pool) ? 0 : hbm_copies_fail(pool);
}

static void own_gather_shares(struct hbm_sequence *sequence)
{
	struct hbm_pool *pool = sequence->pool;
	const uint64_t base = hbm_slot_offset(pool, sequence->slot);

	hbm_shares_begin(&pool->shares);
	for (size_t i = 0; i < pool->grow.count; i++) {
		const struct hbm_range *range = &pool->grow.list[i];
		const struct hbm_share share = {
			.source = pool->scratch,
			.source_offset = range->offset,
			.target = pool->region,
			.target_offset = base + range->offset,
			.bytes = range->bytes,
		};

		hbm_shares_add(&pool->shares, &share);
	}
}

/* Puts the copies in the place of the slabs. What fails once is tried once more: half of it
 * cannot be undone, as the slabs are gone from here. */
static int own_exchange(struct hbm_sequence *sequence, uint64_t from, uint64_t end)
{
	struct hbm_pool *pool = sequence->pool;

	own_gather_shares(sequence);
	own_gather(sequence, from, end);
	if (pool->shares.failed || pool->shrink.failed)
		return hbm_pool_fail(pool, -ENOMEM, "cannot allocate a copy of a shared slab");

	int r = hbm_backing_decommit(pool);
	if (r) {
		own_gather(sequence, from, end);
		r = hbm_backing_decommit(pool);
	}
	if (r == 0 && (r = hbm_backing_share(pool)) != 0)
		r = hbm_backing_share(pool);
	if (r == 0)
		return 0;

	own_gather(sequence, from, end);
	if (pool->shrink.bytes == pool->grow.bytes) /* nothing has been unmapped */
		return hbm_pool_fail_call(pool, r, "a slab that is to be replaced by a copy");

	hbm_sequence_lose(sequence);

	return hbm_pool_fail_call(pool, r, "the copy of a shared slab: the sequence is lost");
}

int hbm_own(struct hbm_sequence *sequence, uint64_t from, uint64_t end)
{
	struct hbm_pool *pool = sequence->pool;

	own_gather(sequence, from, end);
	if (pool->shrink.failed)
		return hbm_pool_fail(pool, -ENOMEM, "cannot allocate a copy of a shared slab");
	if (pool->shrink.count == 0)
		return 0;

	sequence->target = end;
	hbm_credit_spend(sequence, pool->shrink.bytes);
	int r = own_copy(sequence, from, end);
	if (r == 0)
		r = own_exchange(sequence, from, end);
	hbm_scratch_empty(pool);

	int mended = hbm_credit_mend(pool, &sequence, 1);

	return r ? r : mended;
}
