/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keep: a sequence drops tokens, layers or heads. What is refused before the first copy has
 * changed nothing: slabs of its own in place of shared ones, and slabs where what is kept goes
 * to, come first.
 */
#include "client/layout.h"
#include "client/sequence/backing.h"
#include "client/sequence/compaction.h"
#include "client/sequence/copies.h"
#include "client/sequence/credit.h"
#include "client/sequence/growth.h"
#include "client/sequence/own.h"
#include "client/sequence/pieces.h"
#include "client/sequence/pool.h"
#include "client/sequence/prefix.h"
#include "client/sequence/sequence.h"
#include "client/sequence/slot.h"
#include "client/sequence/squeeze.h"
#include "client/sequence/tree.h"

#include <errno.h>

#define KEEP_RUN 64 /* tokens that are moved together */

struct keep {
	struct hbm_sequence *sequence;
	enum hbm_axis axis;
	const uint64_t *set;
	size_t count;
};

/* ---- Checks ---- */

/* The fewest heads of a layer that has some. */
static uint64_t keep_heads(const struct hbm_layout *layout)
{
	uint64_t heads = UINT64_MAX;

	for (uint32_t i = 0; i < layout->options.layer_count; i++)
		if (!layout->shapes[i].state_bytes && layout->shapes[i].heads < heads)
			heads = layout->shapes[i].heads;

	return heads == UINT64_MAX ? 0 : heads;
}

static int keep_check_set(const struct keep *keep, const char *what, uint64_t first, uint64_t end)
{
	struct hbm_pool *pool = keep->sequence->pool;

	if (first == end)
		return hbm_pool_fail(pool, HBM_INVALID, "%s to be kept: there are none", what);
	if (keep->count == 0)
		return hbm_pool_fail(pool, HBM_INVALID, "no %s are to be kept", what);

	for (size_t i = 0; i < keep->count; i++) {
		if (i > 0 && keep->set[i] <= keep->set[i - 1])
			return hbm_pool_fail(pool, HBM_INVALID,
					     "%s to be kept: %llu behind %llu, where each is more "
					     "than the one before",
					     what, (unsigned long long)keep->set[i],
					     (unsigned long long)keep->set[i - 1]);
		if (keep->set[i] < first || keep->set[i] >= end)
			return hbm_pool_fail(
				pool, HBM_INVALID, "%s to be kept: %llu, not %llu to %llu", what,
				(unsigned long long)keep->set[i], (unsigned long long)first,
				(unsigned long long)end - 1);
	}

	return 0;
}

static int keep_check(const struct keep *keep)
{
	struct hbm_sequence *sequence = keep->sequence;
	struct hbm_pool *pool = sequence->pool;
	const struct hbm_layout *layout = hbm_sequence_layout(sequence);
	int r = hbm_sequence_check(pool, sequence);

	if (r)
		return r;
	if (hbm_tree_count(sequence->tree) > 0)
		return hbm_pool_fail(pool, HBM_INVALID,
				     "a sequence with drafts: they are accepted or pruned before "
				     "it keeps less");

	switch (keep->axis) {
	case HBM_AXIS_LAYERS:
		return keep_check_set(keep, "layers", 0, layout->options.layer_count);
	case HBM_AXIS_HEADS:
		return keep_check_set(keep, "heads", 0, keep_heads(layout));
	case HBM_AXIS_TOKENS:
		if (sequence->slid > 0)
			return hbm_pool_fail(pool, HBM_INVALID,
					     "tokens to be kept, where layers with a window have "
					     "given up some");
		return keep_check_set(keep, "tokens", sequence->first, sequence->tokens);
	default:
		return hbm_pool_fail(pool, HBM_INVALID, "there is no axis %u",
				     (unsigned)keep->axis);
	}
}

/* ---- Both ways ---- */

/* Copies have been queued, or refused. */
static int keep_end_copies(const struct keep *keep, bool queued, bool moved)
{
	struct hbm_pool *pool = keep->sequence->pool;
	int r = 0;

	if (!queued)
		r = hbm_copies_fail(pool);
	if (!hbm_compaction_end(pool) && r == 0)
		r = hbm_copies_fail(pool);
	if (r && moved)
		hbm_sequence_lose(keep->sequence);

	return r;
}

/* What the device refuses to unmap stays mapped, which does no harm. */
static int keep_give_back(struct hbm_sequence *sequence)
{
	struct hbm_pool *pool = sequence->pool;
	const uint64_t left = pool->max_tokens - sequence->tokens;
	const uint64_t ahead = pool->ahead_tokens < left ? pool->ahead_tokens : left;

	hbm_ranges_begin(&pool->shrink);
	hbm_slot_beyond(pool, hbm_sequence_layout(sequence), sequence->slot,
			sequence->tokens + ahead, &pool->shrink);
	hbm_sequence_shared_beyond(sequence, sequence->tokens, sequence->tokens + ahead);
	if (pool->shrink.failed)
		return hbm_pool_fail(pool, -ENOMEM, "cannot allocate the ranges to give back");

	int r = hbm_backing_decommit(pool);
	if (r >= 0)
		r = hbm_credit_settle(pool, &sequence, 1);

	return r < 0 ? hbm_pool_fail_call(pool, r, "slabs were not given back") : 0;
}

/* ---- Tokens ---- */

/* How many of the set are in their place. */
static size_t keep_in_place(const struct keep *keep)
{
	size_t i = 0;

	while (i < keep->count && keep->set[i] == keep->sequence->first + i)
		i++;

	return i;
}

static bool keep_queue_tokens(const struct keep *keep, size_t from, bool *moved)
{
	struct hbm_sequence *sequence = keep->sequence;
	struct hbm_pool *pool = sequence->pool;
	const uint64_t base = pool->region->address + hbm_slot_offset(pool, sequence->slot);

	for (size_t i = from, run; i < keep->count; i += run) {
		for (run = 1; run < KEEP_RUN && i + run < keep->count &&
			      keep->set[i + run] == keep->set[i] + run;)
			run++;
		if (!hbm_pieces_move(pool, hbm_sequence_layout(sequence), base, sequence->first + i,
				     keep->set[i], run, moved))
			return false;
	}

	return hbm_compaction_queue(pool, moved);
}

static int keep_tokens(const struct keep *keep)
{
	struct hbm_sequence *sequence = keep->sequence;
	struct hbm_pool *pool = sequence->pool;
	const size_t in_place = keep_in_place(keep);
	const uint64_t end = sequence->first + keep->count;
	bool moved = false;
	int r = 0;

	if (in_place < keep->count) {
		r = hbm_own(sequence, sequence->first + in_place, end);
		if (r == 0 && !hbm_compaction_begin(pool))
			r = hbm_pool_fail(pool, -ENOMEM, "cannot allocate the moves of tokens");
		if (r)
			return r;

		const bool queued = keep_queue_tokens(keep, in_place, &moved);

		r = keep_end_copies(keep, queued, moved);
	}
	if (r)
		return r;

	sequence->tokens = end;
	for (size_t i = 0; i < 2; i++)
		if (sequence->before[i] > end)
			sequence->before[i] = end;

	return keep_give_back(sequence);
}

/* ---- Layers and heads ---- */

/* Where what is kept goes to: mapped, as windows have nothing in front of them. The slab where
 * tokens end is there, too, if all in front of it were given up: it is the tail. */
static int keep_map(struct hbm_sequence *sequence, const struct hbm_layout *layout)
{
	struct hbm_pool *pool = sequence->pool;

	hbm_ranges_begin(&pool->grow);
	for (uint32_t i = 0; i < pool->buffer_count; i++) {
		const struct hbm_buffer *buffer = &layout->buffers[i];
		const uint64_t first = hbm_squeeze_first(sequence, buffer);
		uint64_t begin, offset, bytes;

		hbm_layout_range(layout, i, first, first, &begin, &bytes);
		hbm_layout_range(layout, i, 0, sequence->tokens, &offset, &bytes);
		if (offset + bytes > begin)
			hbm_slot_runs(pool, sequence->slot, begin, offset + bytes - begin, false,
				      &pool->grow);
	}
	if (pool->grow.failed)
		return hbm_pool_fail(pool, -ENOMEM, "cannot allocate the ranges of what is kept");

	int r = hbm_growth_map(pool);

	return r ? hbm_pool_fail_call(pool, r, "memory for what is kept") : 0;
}

static int keep_squeeze(const struct keep *keep, const struct hbm_layout *layout)
{
	struct hbm_sequence *sequence = keep->sequence;
	struct hbm_pool *pool = sequence->pool;
	struct squeeze squeeze = {
		sequence, hbm_sequence_layout(sequence), layout, keep->axis, keep->set, keep->count,
		false,
	};
	int r = hbm_own(sequence, sequence->first, sequence->tokens);
	if (r == 0)
		r = keep_map(sequence, layout);
	if (r == 0 && !hbm_compaction_begin(pool))
		r = hbm_pool_fail(pool, -ENOMEM, "cannot allocate the moves of what is kept");
	if (r)
		return r;

	const bool queued = hbm_squeeze(&squeeze) && hbm_compaction_queue(pool, &squeeze.moved);

	return keep_end_copies(keep, queued, squeeze.moved);
}

static int keep_less(const struct keep *keep)
{
	struct hbm_sequence *sequence = keep->sequence;
	struct hbm_pool *pool = sequence->pool;
	const bool apart = pool->layout->options.order == HBM_ORDER_LAYER;
	struct hbm_layout *layout =
		hbm_layout_keep(hbm_sequence_layout(sequence), keep->axis, keep->set, keep->count);
	int r = layout ? 0 : hbm_pool_fail(pool, -ENOMEM, "cannot allocate a layout");

	if (r == 0 && sequence->tokens > 0 && !(apart && keep->axis == HBM_AXIS_LAYERS))
		r = keep_squeeze(keep, layout);
	if (r) {
		hbm_layout_free(layout);
		return r;
	}

	hbm_layout_free(sequence->layout);
	sequence->layout = layout;
	hbm_credit_lessen(sequence);

	return keep_give_back(sequence);
}

static int keep_all(const struct keep *keep)
{
	int r = keep_check(keep);
	if (r == 0)
		r = hbm_prefix_map_both(keep->sequence);
	if (r)
		return r;

	r = (keep->axis == HBM_AXIS_TOKENS ? keep_tokens : keep_less)(keep);
	hbm_sequence_refresh(keep->sequence);

	return r;
}

int hbm_sequence_keep(struct hbm_sequence *sequence, enum hbm_axis axis, const uint64_t *set,
		      size_t count)
{
	const struct keep keep = {sequence, axis, set, count};

	if (!sequence)
		return HBM_INVALID;

	hbm_pool_lock(sequence->pool);
	int r = keep_all(&keep);
	hbm_pool_unlock(sequence->pool);

	return r;
}
