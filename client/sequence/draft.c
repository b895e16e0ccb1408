/* SPDX-License-Identifier: Apache-2.0 */
/*
 * draft: tokens of a tree behind those of a sequence, of which one path becomes the
 * sequence's. The path goes to the places behind the tokens, in place: its drafts have
 * ascending numbers, so each goes to a lower place, or stays.
 */
#include "client/sequence/ahead.h"
#include "client/sequence/backing.h"
#include "client/sequence/compaction.h"
#include "client/sequence/copies.h"
#include "client/sequence/credit.h"
#include "client/sequence/cut.h"
#include "client/sequence/event.h"
#include "client/sequence/growth.h"
#include "client/sequence/mark.h"
#include "client/sequence/own.h"
#include "client/sequence/pieces.h"
#include "client/sequence/pool.h"
#include "client/sequence/prefix.h"
#include "client/sequence/sequence.h"
#include "client/sequence/slot.h"
#include "client/sequence/tree.h"
#include "client/sequence/window.h"

#include <errno.h>

/* ---- Draft ---- */

static int draft_check(const struct hbm_sequence *sequence, const int32_t *parents, size_t count)
{
	struct hbm_pool *pool = sequence->pool;
	const uint32_t drafts = hbm_tree_count(sequence->tree);
	int r = hbm_sequence_check(pool, sequence);

	if (r)
		return r;
	if (count > sequence->max - sequence->tokens - drafts)
		return hbm_pool_fail(pool, HBM_INVALID,
				     "%zu drafts behind %llu tokens and %u drafts, of at most %llu",
				     count, (unsigned long long)sequence->tokens, drafts,
				     (unsigned long long)sequence->max);

	for (size_t i = 0; i < count; i++) {
		const int64_t parent = parents[i];
		const bool is_new = parent >= drafts && (uint64_t)parent < drafts + i;

		if (parent != TREE_ROOT && !is_new && !hbm_tree_has(sequence->tree, parent))
			return hbm_pool_fail(
				pool, HBM_INVALID,
				"draft %llu below draft %lld, which is not in the tree",
				(unsigned long long)drafts + i, (long long)parent);
	}

	return 0;
}

static int draft_map(struct hbm_sequence *sequence, uint64_t end)
{
	struct hbm_pool *pool = sequence->pool;
	int r = hbm_prefix_map(sequence);
	if (r == 0)
		r = hbm_window_slide(sequence);
	if (r == 0)
		r = hbm_own(sequence, sequence->tokens, end);
	if (r)
		return r;

	hbm_ranges_begin(&pool->grow);
	hbm_sequence_gather(sequence, end);
	if (pool->grow.failed)
		return hbm_pool_fail(pool, -ENOMEM, "cannot allocate the ranges of drafts");

	r = hbm_growth_map(pool);

	return r ? hbm_pool_fail_call(pool, r, "memory for drafts") : 0;
}

static int draft_add(struct hbm_sequence *sequence, const int32_t *parents, size_t count,
		     uint64_t *tokens)
{
	int r = draft_check(sequence, parents, count);
	if (r)
		return r;

	const uint64_t begin = sequence->tokens + hbm_tree_count(sequence->tree);

	if (!hbm_tree_prepare(&sequence->tree, count))
		return hbm_pool_fail(sequence->pool, -ENOMEM, "cannot allocate %zu drafts", count);
	r = draft_map(sequence, begin + count);
	for (size_t i = 0; i < count && r == 0; i++) {
		hbm_tree_add(sequence->tree, parents[i]);
		tokens[i] = begin + i;
	}
	hbm_sequence_refresh(sequence);

	return r;
}

int hbm_sequence_draft(struct hbm_sequence *sequence, const int32_t *parents, size_t count,
		       uint64_t *tokens)
{
	if (!sequence)
		return HBM_INVALID;

	hbm_pool_lock(sequence->pool);
	int r = draft_add(sequence, parents, count, tokens);
	hbm_pool_unlock(sequence->pool);

	return r;
}

/* ---- Accept ---- */

static int draft_check_path(const struct hbm_sequence *sequence, const int32_t *path, size_t count)
{
	struct hbm_pool *pool = sequence->pool;
	int r = hbm_sequence_check(pool, sequence);
	int32_t before = TREE_ROOT;

	for (size_t i = 0; i < count && r == 0; before = path[i++]) {
		if (!hbm_tree_has(sequence->tree, path[i]))
			r = hbm_pool_fail(pool, HBM_INVALID,
					  "draft %ld of the path is not in the tree",
					  (long)path[i]);
		else if (sequence->tree->parents[path[i]] != before)
			r = hbm_pool_fail(pool, HBM_INVALID,
					  "the path is no chain: draft %ld is below %ld, not %ld",
					  (long)path[i], (long)sequence->tree->parents[path[i]],
					  (long)before);
	}

	return r;
}

static bool draft_queue(struct hbm_sequence *sequence, const int32_t *path, size_t count,
			bool *moved)
{
	struct hbm_pool *pool = sequence->pool;
	const uint64_t tokens = sequence->tokens;
	const uint64_t base = pool->region->address + hbm_slot_offset(pool, sequence->slot);

	for (size_t i = 0, run; i < count; i += run) {
		for (run = 1; i + run < count && path[i + run] == path[i] + (int32_t)run;)
			run++;
		if (!hbm_pieces_move(pool, hbm_sequence_layout(sequence), base, tokens + i,
				     tokens + (uint64_t)path[i], run, moved))
			return false;
	}

	return hbm_compaction_queue(pool, moved);
}

static int draft_compact(struct hbm_sequence *sequence, const int32_t *path, size_t count)
{
	struct hbm_pool *pool = sequence->pool;
	bool moved = false;

	if (!hbm_compaction_prepare(pool))
		return hbm_pool_fail(pool, -ENOMEM, "cannot allocate the moves of a path");
	if (draft_queue(sequence, path, count, &moved) && hbm_copies_finish(pool))
		return 0;

	/* Places of some drafts hold others by now. */
	if (moved)
		hbm_tree_prune(sequence->tree, TREE_ROOT);

	return hbm_copies_fail(pool);
}

/* What only drafts needed is given back. The path may still be on its way from there. */
static int draft_give_back(struct hbm_sequence *sequence)
{
	struct hbm_pool *pool = sequence->pool;

	hbm_cut_gather_end(sequence, sequence->tokens + hbm_tree_count(sequence->tree));
	if (pool->shrink.count == 0 || pool->shrink.failed || !hbm_copies_wait(pool))
		return 0;

	int r = hbm_backing_decommit(pool);
	if (r >= 0)
		r = hbm_credit_settle(pool, &sequence, 1);

	return r < 0 ? hbm_pool_fail_call(pool, r, "slabs were not given back") : 0;
}

static void draft_grow(struct hbm_sequence *sequence, size_t count)
{
	hbm_tree_prune(sequence->tree, TREE_ROOT);
	sequence->before[1] = (uint64_t)sequence->before[0];
	sequence->before[0] = (uint64_t)sequence->tokens;
	sequence->tokens += count;
	if (!sequence->overrun && sequence->tokens > sequence->expected) {
		sequence->overrun = true;
		hbm_event_overrun(sequence);
	}
}

/* As a step does. */
static void draft_look_ahead(struct hbm_sequence *sequence)
{
	hbm_sequence_refresh(sequence);
	if (sequence->tokens <= sequence->calm)
		return;
	hbm_mark_set(sequence->pool, sequence->index);
	hbm_ahead_wake(sequence->pool);
}

static int draft_accept(struct hbm_sequence *sequence, const int32_t *path, size_t count)
{
	int r = draft_check_path(sequence, path, count);
	if (r)
		return r;

	r = draft_compact(sequence, path, count);
	if (r == 0) {
		draft_grow(sequence, count);
		r = draft_give_back(sequence);
	}
	draft_look_ahead(sequence);

	return r;
}

int hbm_sequence_accept(struct hbm_sequence *sequence, const int32_t *path, size_t count)
{
	if (!sequence)
		return HBM_INVALID;

	hbm_pool_lock(sequence->pool);
	int r = draft_accept(sequence, path, count);
	hbm_pool_unlock(sequence->pool);

	return r;
}

/* ---- Prune ---- */

static int draft_prune(struct hbm_sequence *sequence, int32_t draft)
{
	struct hbm_pool *pool = sequence->pool;
	int r = hbm_sequence_check(pool, sequence);

	if (r)
		return r;
	if (draft != TREE_ROOT && !hbm_tree_has(sequence->tree, draft))
		return hbm_pool_fail(pool, HBM_INVALID, "draft %ld is not in the tree",
				     (long)draft);

	hbm_tree_prune(sequence->tree, draft);
	r = draft_give_back(sequence);
	hbm_sequence_refresh(sequence);

	return r;
}

int hbm_sequence_prune(struct hbm_sequence *sequence, int32_t draft)
{
	if (!sequence)
		return HBM_INVALID;

	hbm_pool_lock(sequence->pool);
	int r = draft_prune(sequence, draft);
	hbm_pool_unlock(sequence->pool);

	return r;
}
