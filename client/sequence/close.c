/* SPDX-License-Identifier: Apache-2.0 */
/* close: the end of a sequence. Slabs that only it has stay in its slot, warm. See close.h. */
#include "client/sequence/close.h"

#include "client/sequence/backing.h"
#include "client/sequence/credit.h"
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

/* A slot with slabs of others must not serve another sequence. What fails once is tried once
 * more, as half of it cannot be undone. */
static int close_drop_shared(struct hbm_pool *pool, struct hbm_sequence *sequence)
{
	const uint64_t bytes = pool->shrink.bytes;
	int r = hbm_backing_decommit(pool);

	if (r > 0 && close_gather(pool, sequence) == 0)
		r = hbm_backing_decommit(pool);
	if (r <= 0)
		return r;

	if (close_gather(pool, sequence) != 0 || pool->shrink.bytes < bytes)
		hbm_sequence_lose(sequence);

	return hbm_pool_fail_call(pool, r, "not closed");
}

/* One that is suspended can be closed. */
static int close_check(struct hbm_pool *pool, const struct hbm_sequence *sequence)
{
	return hbm_sequence_is_open(sequence) && sequence->state == HBM_SEQUENCE_SUSPENDED
		       ? 0
		       : hbm_sequence_check(pool, sequence);
}

static int close_one(struct hbm_sequence *sequence)
{
	struct hbm_pool *pool = sequence->pool;
	const bool lost = sequence->lost;

	sequence->lost = false;
	int r = close_check(pool, sequence);
	if (r == 0)
		r = hbm_prefix_map_forks(sequence);
	if (r == 0)
		r = close_gather(pool, sequence);
	if (r) {
		sequence->lost = lost;
		return r;
	}

	r = close_drop_shared(pool, sequence);
	if (r > 0)
		return r;

	close_count(pool, sequence);
	hbm_stash_clear(&pool->stashes, &sequence->stash);
	hbm_stash_sweep(&pool->stashes, pool->hbm);
	hbm_sequence_end(pool, sequence);
	if (r == 0)
		r = hbm_warm_trim(pool);
	if (r == 0)
		r = hbm_credit_settle(pool, NULL, 0);

	/* What the device refuses to unmap stays warm. */
	return r < 0 ? hbm_pool_fail_call(pool, r, "closed, but its slabs were not given back") : 0;
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

int hbm_sequence_abandon(struct hbm_sequence *sequence, int status)
{
	struct hbm_pool *pool = sequence->pool;

	hbm_pool_lock(pool);
	struct hbm_pool_totals totals = pool->totals;

	totals.overruns -= sequence->overrun_due; /* which is not said any more */
	pool->is_quiet = true;
	close_one(sequence);
	pool->is_quiet = false;
	pool->totals = totals;
	hbm_pool_fail(pool, status, "%s", pool->error);
	hbm_pool_unlock(pool);

	return status;
}
