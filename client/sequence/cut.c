/* SPDX-License-Identifier: Apache-2.0 */
/* cut: see cut.h. */
#include "client/sequence/cut.h"

#include "client/sequence/backing.h"
#include "client/sequence/credit.h"
#include "client/sequence/pool.h"
#include "client/sequence/prefix.h"
#include "client/sequence/sequence.h"
#include "client/sequence/slot.h"
#include "client/sequence/tree.h"

#include <errno.h>

static int cut_no_room(struct hbm_pool *pool)
{
	return hbm_pool_fail(pool, -ENOMEM, "cannot allocate the ranges to give back");
}

/* What the device refuses to unmap stays mapped, which does no harm. */
static int cut_give_back(struct hbm_sequence *sequence)
{
	struct hbm_pool *pool = sequence->pool;
	int r = hbm_backing_decommit(pool);
	if (r >= 0)
		r = hbm_credit_settle(pool, &sequence, 1);

	return r < 0 ? hbm_pool_fail_call(pool, r, "slabs were not given back") : 0;
}

/* ---- Truncate ---- */

/* Twice as far, so that tokens that come and go do not map and unmap. */
void hbm_cut_gather_end(struct hbm_sequence *sequence, uint64_t tokens)
{
	struct hbm_pool *pool = sequence->pool;
	const uint64_t left = pool->max_tokens - tokens;
	const uint64_t keep = pool->ahead_tokens < left / 2 ? 2 * pool->ahead_tokens : left;

	hbm_ranges_begin(&pool->shrink);
	hbm_slot_beyond(pool, hbm_sequence_layout(sequence), sequence->slot, tokens + keep,
			&pool->shrink);
	hbm_sequence_shared_beyond(sequence, tokens, tokens + keep);
}

static int cut_truncate(struct hbm_sequence *sequence, uint64_t tokens)
{
	struct hbm_pool *pool = sequence->pool;
	int r = hbm_sequence_check(pool, sequence);
	if (r)
		return r;
	if (tokens > sequence->tokens || tokens < sequence->first)
		return hbm_pool_fail(
			pool, HBM_INVALID, "a sequence with tokens %llu to %llu, truncated to %llu",
			(unsigned long long)sequence->first, (unsigned long long)sequence->tokens,
			(unsigned long long)tokens);

	if (tokens < sequence->slid)
		return hbm_pool_fail(pool, HBM_INVALID,
				     "a sequence whose windows have slid at %llu tokens, "
				     "truncated to %llu",
				     (unsigned long long)sequence->slid,
				     (unsigned long long)tokens);

	r = hbm_prefix_map_both(sequence);
	if (r)
		return r;

	hbm_cut_gather_end(sequence, tokens);
	if (pool->shrink.failed)
		return cut_no_room(pool);

	hbm_tree_prune(sequence->tree, TREE_ROOT);
	sequence->tokens = tokens;
	for (size_t i = 0; i < 2; i++)
		if (sequence->before[i] > tokens)
			sequence->before[i] = tokens;
	r = cut_give_back(sequence);
	hbm_sequence_refresh(sequence);

	return r;
}

int hbm_sequence_truncate(struct hbm_sequence *sequence, uint64_t tokens)
{
	if (!sequence)
		return HBM_INVALID;

	hbm_pool_lock(sequence->pool);
	int r = cut_truncate(sequence, tokens);
	hbm_pool_unlock(sequence->pool);

	return r;
}

/* ---- Slide ---- */

static void cut_gather_front(struct hbm_sequence *sequence, uint64_t first)
{
	struct hbm_pool *pool = sequence->pool;

	hbm_ranges_begin(&pool->shrink);
	for (uint32_t i = 0; i < pool->buffer_count; i++) {
		struct hbm_buffer buffer;

		hbm_layout_buffer(hbm_sequence_layout(sequence), i, &buffer);
		if (buffer.token_bytes == 0)
			continue;

		const uint64_t begin = hbm_sequence_begin(sequence, i, sequence->first);

		hbm_slot_runs(pool, sequence->slot, begin,
			      hbm_sequence_begin(sequence, i, first) - begin, true, &pool->shrink);
	}
}

static int cut_slide(struct hbm_sequence *sequence, uint64_t first)
{
	struct hbm_pool *pool = sequence->pool;
	int r = hbm_sequence_check(pool, sequence);
	if (r)
		return r;
	if (first > sequence->tokens || first < sequence->first)
		return hbm_pool_fail(
			pool, HBM_INVALID, "a sequence with tokens %llu to %llu, slid to %llu",
			(unsigned long long)sequence->first, (unsigned long long)sequence->tokens,
			(unsigned long long)first);

	r = hbm_prefix_map_both(sequence);
	if (r)
		return r;

	cut_gather_front(sequence, first);
	if (pool->shrink.failed)
		return cut_no_room(pool);

	sequence->first = first;
	hbm_credit_lessen(sequence);

	return cut_give_back(sequence);
}

int hbm_sequence_slide(struct hbm_sequence *sequence, uint64_t first)
{
	if (!sequence)
		return HBM_INVALID;

	hbm_pool_lock(sequence->pool);
	int r = cut_slide(sequence, first);
	hbm_pool_unlock(sequence->pool);

	return r;
}
