/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reorder: sequences take over the tokens of others, as beams do, at addresses that stay.
 *
 * Slabs that a sequence has already, as beams have most of their prefix, stay. Of the others,
 * those that are full are shared and the last ones copied (tail.h): first into scratch, a
 * slot for each sequence that changes, and from there, when all is there, into the place of
 * what the sequences had. Up to then a refusal changes nothing.
 */
#include "client/layout.h"
#include "client/sequence/ahead.h"
#include "client/sequence/backing.h"
#include "client/sequence/copies.h"
#include "client/sequence/credit.h"
#include "client/sequence/growth.h"
#include "client/sequence/mark.h"
#include "client/sequence/pool.h"
#include "client/sequence/prefix.h"
#include "client/sequence/scratch.h"
#include "client/sequence/sequence.h"
#include "client/sequence/slot.h"
#include "client/sequence/tail.h"
#include "client/sequence/tree.h"

#include <errno.h>
#include <stdlib.h>

/* A sequence that changes. What it takes over is what its source had before the call. */
struct reorder_one {
	struct hbm_sequence *sequence, *source;
	uint64_t tokens, first, slid, before[2];
	uint64_t scratch; /* its slot there: bytes from the begin */
};

/* A full slab that comes from a source; or the place of one, where windows of the source have
 * left nothing. */
struct reorder_slab {
	struct reorder_one *one;
	uint64_t offset;
	bool is_left;
	struct page *page;
};

struct reorder {
	struct hbm_pool *pool;
	struct reorder_one *ones;
	struct hbm_sequence **sequences; /* of each */
	size_t count;
	struct reorder_slab *slabs;
	size_t slab_count, slab_room;
};

/* ---- What is to be done ---- */

static bool reorder_add_slab(struct reorder *reorder, struct reorder_one *one, uint64_t offset,
			     bool is_left)
{
	if (reorder->slab_count == reorder->slab_room) {
		const size_t room = reorder->slab_room ? 2 * reorder->slab_room : 64;
		struct reorder_slab *slabs = realloc(reorder->slabs, room * sizeof(*slabs));

		if (!slabs)
			return false;
		reorder->slabs = slabs;
		reorder->slab_room = room;
	}
	reorder->slabs[reorder->slab_count++] = (struct reorder_slab){one, offset, is_left, NULL};

	return true;
}

/* The full slabs of its source that a sequence has not, and the reverse. */
static bool reorder_plan_one(struct reorder *reorder, struct reorder_one *one)
{
	struct hbm_pool *pool = reorder->pool;
	struct slot *to = one->sequence->slot, *from = one->source->slot;

	for (uint32_t i = 0; i < pool->buffer_count; i++) {
		const uint64_t end = hbm_sequence_begin(one->source, i, one->tokens);
		uint64_t at = hbm_sequence_begin(one->source, i, one->first);

		for (; at < end; at += pool->slab) {
			const bool is_left = !hbm_slot_has(pool, from, at);
			const bool differs =
				is_left ? hbm_slot_has(pool, to, at)
					: !hbm_page_is_same(pool, &to->pages, &from->pages, at);

			if (differs && !reorder_add_slab(reorder, one, at, is_left))
				return false;
		}
	}

	return true;
}

static int reorder_plan(struct reorder *reorder)
{
	struct hbm_pool *pool = reorder->pool;
	bool planned = true;

	for (size_t i = 0; i < reorder->count && planned; i++)
		planned = reorder_plan_one(reorder, &reorder->ones[i]);
	for (size_t i = 0; i < reorder->count && planned; i++)
		planned = hbm_page_prepare(pool, &reorder->ones[i].sequence->slot->pages, 0) &&
			  hbm_page_prepare(pool, &reorder->ones[i].source->slot->pages,
					   reorder->slab_count);

	return planned ? 0 : hbm_pool_fail(pool, -ENOMEM, "cannot allocate a reordering");
}

/* ---- Into scratch: nothing of the sequences changes ---- */

static struct hbm_share reorder_share(const struct reorder *reorder, const struct reorder_one *one,
				      uint64_t offset, bool into_scratch)
{
	struct hbm_pool *pool = reorder->pool;
	struct hbm_share share = {
		.source = pool->scratch,
		.source_offset = one->scratch + offset,
		.target = pool->region,
		.target_offset = hbm_slot_offset(pool, one->sequence->slot) + offset,
		.bytes = pool->slab,
	};

	if (into_scratch) {
		share.target = pool->scratch;
		share.target_offset = share.source_offset;
		share.source = pool->region;
		share.source_offset = hbm_slot_offset(pool, one->source->slot) + offset;
	}

	return share;
}

static void reorder_gather_slabs(struct reorder *reorder, bool into_scratch)
{
	struct shares *shares = &reorder->pool->shares;

	hbm_shares_begin(shares);
	for (size_t i = 0; i < reorder->slab_count; i++) {
		const struct reorder_slab *slab = &reorder->slabs[i];
		struct hbm_share share =
			reorder_share(reorder, slab->one, slab->offset, into_scratch);

		if (slab->is_left)
			continue;
		share.flags =
			hbm_slot_share_flags(reorder->pool, slab->one->source->slot, slab->offset);
		hbm_shares_add(shares, &share);
	}
}

static int reorder_grow(struct reorder *reorder)
{
	struct hbm_pool *pool = reorder->pool;
	struct ranges *ranges = &pool->grow;

	hbm_ranges_begin(ranges);
	for (size_t i = 0; i < reorder->count; i++) {
		const uint64_t before = ranges->bytes;

		hbm_tail_each(reorder->ones[i].source, pool->scratch, reorder->ones[i].scratch,
			      ranges);
		hbm_credit_spend(reorder->ones[i].sequence, ranges->bytes - before);
	}
	if (ranges->failed)
		return hbm_pool_fail(pool, -ENOMEM, "cannot allocate a reordering");

	int r = hbm_growth_map(pool);

	return r ? hbm_pool_fail_call(pool, r, "memory for the last tokens of what is reordered")
		 : 0;
}

static int reorder_copy(struct reorder *reorder)
{
	struct hbm_pool *pool = reorder->pool;

	for (size_t i = 0; i < reorder->count; i++)
		if (!hbm_tail_copy(reorder->ones[i].source,
				   pool->scratch->address + reorder->ones[i].scratch))
			return hbm_copies_fail(pool);

	return hbm_copies_wait(pool) ? 0 : hbm_copies_fail(pool);
}

static int reorder_collect(struct reorder *reorder)
{
	struct hbm_pool *pool = reorder->pool;
	int r = hbm_scratch_open(pool, (uint32_t)reorder->count);

	if (r == 0)
		r = reorder_grow(reorder);
	if (r == 0)
		r = reorder_copy(reorder);
	if (r)
		return r;

	reorder_gather_slabs(reorder, true);
	if (pool->shares.failed)
		return hbm_pool_fail(pool, -ENOMEM, "cannot allocate a reordering");
	r = hbm_backing_share(pool);

	return r ? hbm_pool_fail_call(pool, r, "the slabs of what is reordered") : 0;
}

/* ---- Out of scratch ---- */

/* What a sequence has in the place of what it takes over, and in front of it. */
static void reorder_clear_one(struct reorder *reorder, const struct reorder_one *one)
{
	struct hbm_pool *pool = reorder->pool;
	const struct slot *slot = one->sequence->slot;

	for (uint32_t i = 0; i < pool->buffer_count; i++) {
		struct hbm_buffer buffer;
		uint64_t offset, bytes;

		hbm_layout_buffer(hbm_sequence_layout(one->source), i, &buffer);
		hbm_layout_range(hbm_sequence_layout(one->source), i, 0, one->tokens, &offset,
				 &bytes);

		const uint64_t front = hbm_sequence_begin(one->source, i, one->first);
		const uint64_t last = hbm_sequence_begin(one->source, i, one->tokens);

		hbm_slot_runs(pool, slot, buffer.offset, front - buffer.offset, true,
			      &pool->shrink);
		if (buffer.offset + bytes > last)
			hbm_slot_runs(pool, slot, last, buffer.offset + bytes - last, true,
				      &pool->shrink);
	}
}

static void reorder_gather_old(struct reorder *reorder)
{
	struct hbm_pool *pool = reorder->pool;

	hbm_ranges_begin(&pool->shrink);
	for (size_t i = 0; i < reorder->count; i++)
		reorder_clear_one(reorder, &reorder->ones[i]);
	for (size_t i = 0; i < reorder->slab_count; i++) {
		const struct reorder_slab *slab = &reorder->slabs[i];

		hbm_slot_runs(pool, slab->one->sequence->slot, slab->offset, pool->slab, true,
			      &pool->shrink);
	}
	/* What lies beyond, others may have, too. */
	for (size_t i = 0; i < reorder->count; i++)
		hbm_sequence_shared_beyond(reorder->ones[i].sequence, reorder->ones[i].tokens,
					   pool->max_tokens);
}

static void reorder_gather_new(struct reorder *reorder)
{
	struct hbm_pool *pool = reorder->pool;

	reorder_gather_slabs(reorder, false);
	for (size_t i = 0; i < reorder->count; i++) {
		const struct reorder_one *one = &reorder->ones[i];

		/* Each for itself: the end of one slot is the begin of the next. */
		hbm_ranges_begin(&pool->grow);
		hbm_tail_each(one->source, pool->scratch, one->scratch, &pool->grow);
		pool->shares.failed |= pool->grow.failed;
		for (size_t k = 0; k < pool->grow.count; k++) {
			const struct hbm_range *range = &pool->grow.list[k];
			struct hbm_share share =
				reorder_share(reorder, one, range->offset - one->scratch, false);

			share.bytes = range->bytes;
			hbm_shares_add(&pool->shares, &share);
		}
	}
}

static void reorder_hold(struct reorder *reorder)
{
	for (size_t i = 0; i < reorder->slab_count; i++) {
		struct reorder_slab *slab = &reorder->slabs[i];

		if (!slab->is_left)
			slab->page = hbm_page_hold(reorder->pool, &slab->one->source->slot->pages,
						   slab->offset);
	}
}

/* Pages go with their slabs, or are let go of. */
static void reorder_put(struct reorder *reorder, bool exchanged)
{
	for (size_t i = 0; i < reorder->slab_count; i++) {
		const struct reorder_slab *slab = &reorder->slabs[i];

		if (slab->is_left)
			continue;
		if (exchanged)
			hbm_page_put(reorder->pool, &slab->one->sequence->slot->pages, slab->offset,
				     slab->page);
		else
			hbm_page_release(reorder->pool, slab->page);
	}
}

/* What fails once is tried once more: what the sequences had may be gone by then. */
static int reorder_exchange(struct reorder *reorder)
{
	struct hbm_pool *pool = reorder->pool;

	reorder_gather_new(reorder);
	reorder_hold(reorder);
	reorder_gather_old(reorder);
	if (pool->shares.failed || pool->shrink.failed) {
		reorder_put(reorder, false);
		return hbm_pool_fail(pool, -ENOMEM, "cannot allocate a reordering");
	}

	const uint64_t bytes = pool->shrink.bytes;
	int r = hbm_backing_decommit(pool);
	if (r) {
		reorder_gather_old(reorder);
		r = hbm_backing_decommit(pool);
	}
	if (r == 0 && (r = hbm_backing_share(pool)) != 0)
		r = hbm_backing_share(pool);
	if (r)
		reorder_gather_old(reorder);
	reorder_put(reorder, r == 0);
	if (r == 0)
		return 0;
	if (!pool->shrink.failed && pool->shrink.bytes == bytes) /* nothing has been unmapped */
		return hbm_pool_fail_call(pool, r, "slabs that are to be replaced");

	for (size_t i = 0; i < reorder->count; i++)
		hbm_sequence_lose(reorder->ones[i].sequence);

	return hbm_pool_fail_call(pool, r, "reordered sequences are lost");
}

static void reorder_finish(struct reorder *reorder)
{
	for (size_t i = 0; i < reorder->count; i++) {
		struct reorder_one *one = &reorder->ones[i];

		one->sequence->tokens = one->tokens;
		one->sequence->first = one->first;
		one->sequence->slid = one->slid;
		one->sequence->before[0] = one->before[0];
		one->sequence->before[1] = one->before[1];
		hbm_sequence_refresh(one->sequence);
		hbm_mark_set(reorder->pool, one->sequence->index);
	}
	hbm_ahead_wake(reorder->pool);
}

static int reorder_do(struct reorder *reorder)
{
	int r = reorder_plan(reorder);
	if (r == 0)
		r = reorder_collect(reorder);
	if (r == 0)
		r = reorder_exchange(reorder);
	if (r == 0)
		reorder_finish(reorder);
	hbm_scratch_empty(reorder->pool);

	int settled = hbm_credit_settle(reorder->pool, reorder->sequences, reorder->count);

	return r ? r : settled;
}

/* ---- The call ---- */

static int reorder_check(struct hbm_pool *pool, struct hbm_sequence *const *sequences,
			 const uint32_t *from, size_t count)
{
	const uint64_t step = atomic_fetch_add(&pool->steps, 1) + 1;

	for (size_t i = 0; i < count; i++) {
		int r = hbm_sequence_check(pool, sequences[i]);

		if (r)
			return r;
		if (sequences[i]->step == step)
			return hbm_pool_fail(pool, HBM_INVALID, "sequence %zu is reordered twice",
					     i);
		sequences[i]->step = step;
	}
	for (size_t i = 0; i < count; i++) {
		if (from[i] >= count)
			return hbm_pool_fail(pool, HBM_INVALID,
					     "sequence %zu is to become sequence %u, of %zu", i,
					     from[i], count);
		if (from[i] != i && hbm_tree_count(sequences[i]->tree) > 0)
			return hbm_pool_fail(pool, HBM_INVALID,
					     "sequence %zu has drafts, and is to become another",
					     i);
		if (!hbm_layout_is_same(hbm_sequence_layout(sequences[from[i]]),
					hbm_sequence_layout(sequences[i])))
			return hbm_pool_fail(pool, HBM_INVALID,
					     "sequence %zu is to become one that has kept other "
					     "layers or heads",
					     i);
		if (sequences[from[i]]->tokens > sequences[i]->max)
			return hbm_pool_fail(
				pool, HBM_INVALID,
				"sequence %zu is to become one of %llu tokens, of at most %llu", i,
				(unsigned long long)sequences[from[i]]->tokens,
				(unsigned long long)sequences[i]->max);
	}

	return 0;
}

static int reorder_all(struct hbm_pool *pool, struct hbm_sequence *const *sequences,
		       const uint32_t *from, size_t count)
{
	struct reorder reorder = {.pool = pool};
	int r = reorder_check(pool, sequences, from, count);
	if (r == 0)
		r = hbm_prefix_map_all(sequences, count);
	if (r)
		return r;

	reorder.ones = calloc(count + 1, sizeof(*reorder.ones) + sizeof(*reorder.sequences));
	if (!reorder.ones)
		return hbm_pool_fail(pool, -ENOMEM, "cannot allocate a reordering");

	reorder.sequences = (void *)(reorder.ones + count + 1);
	for (size_t i = 0; i < count; i++) {
		struct hbm_sequence *source = sequences[from[i]];

		if (from[i] == i)
			continue;
		reorder.ones[reorder.count] = (struct reorder_one){
			.sequence = sequences[i],
			.source = source,
			.tokens = source->tokens,
			.first = source->first,
			.slid = source->slid,
			.before = {source->before[0], source->before[1]},
			.scratch = reorder.count * pool->slot_bytes,
		};
		reorder.sequences[reorder.count++] = sequences[i];
	}

	r = reorder.count ? reorder_do(&reorder) : 0;
	free(reorder.slabs);
	free(reorder.ones);

	return r;
}

int hbm_sequences_reorder(struct hbm_pool *pool, struct hbm_sequence *const *sequences,
			  const uint32_t *from, size_t count)
{
	hbm_pool_lock(pool);
	int r = reorder_all(pool, sequences, from, count);
	hbm_pool_unlock(pool);

	return r;
}
