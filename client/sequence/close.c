/* SPDX-License-Identifier: Apache-2.0 */
/* close: the end of a sequence. Slabs that only it has stay in its slot, warm. */
#include "client/sequence/backing.h"
#include "client/sequence/pool.h"
#include "client/sequence/prefix.h"
#include "client/sequence/sequence.h"
#include "client/sequence/slot.h"
#include "client/sequence/warm.h"

#include <errno.h>

static void close_count(struct hbm_pool *pool, const struct hbm_sequence *sequence)
{
	pool->totals.closed++;
	pool->totals.expected_tokens += sequence->expected;
	pool->totals.actual_tokens += sequence->tokens;
}

/* Gathers what must not stay: slabs that others have. */
static int close_gather(struct hbm_pool *pool, const struct hbm_sequence *sequence)
{
	hbm_ranges_begin(&pool->shrink);
	if (sequence->slot->pages.list)
		hbm_slot_shared(pool, sequence->slot, 0, pool->slot_bytes, &pool->shrink);

	return pool->shrink.failed
		       ? hbm_pool_fail(pool, -ENOMEM, "cannot allocate the ranges to give back")
		       : 0;
}

static int close_one(struct hbm_sequence *sequence)
{
	struct hbm_pool *pool = sequence->pool;
	const bool lost = sequence->lost;

	sequence->lost = false;
	int r = hbm_sequence_check(pool, sequence);
	if (r == 0)
		r = hbm_prefix_map_forks(sequence);
	if (r == 0)
		r = close_gather(pool, sequence);
	if (r) {
		sequence->lost = lost;
		return r;
	}

	r = hbm_backing_decommit(pool);
	if (r > 0) {
		/* A slot with slabs of others must not serve another sequence. */
		sequence->lost = true;
		hbm_sequence_refresh(sequence);
		return hbm_pool_fail_call(pool, r, "not closed");
	}

	close_count(pool, sequence);
	hbm_sequence_end(pool, sequence);
	r = r ? r : hbm_warm_trim(pool);

	return r ? hbm_pool_fail_call(pool, r, "closed, but slabs of it could not be given back")
		 : 0;
}

int hbm_sequence_close(struct hbm_sequence *sequence)
{
	if (!sequence)
		return HBM_INVALID;

	hbm_pool_lock(sequence->pool);
	int r = close_one(sequence);
	hbm_pool_unlock(sequence->pool);

	return r;
}
