/* SPDX-License-Identifier: Apache-2.0 */
/* suspend: see suspend.h. */
#include "client/sequence/suspend.h"

#include "client/sequence/backing.h"
#include "client/sequence/carry.h"
#include "client/sequence/gate.h"
#include "client/sequence/mark.h"
#include "client/sequence/page.h"
#include "client/sequence/pool.h"
#include "client/sequence/prefix.h"
#include "client/sequence/sequence.h"
#include "client/sequence/slot.h"
#include "client/sequence/tree.h"

#include <errno.h>

/* ---- The plan ---- */

static bool suspend_plan_slab(struct hbm_sequence *sequence, uint64_t offset,
			      struct carry *departure)
{
	struct hbm_pool *pool = sequence->pool;
	struct page *page = hbm_page_of(pool, &sequence->slot->pages, offset);
	struct stash_block *stored = page ? page->block : NULL;
	struct stash_block *block = hbm_stash_add(&pool->stashes, &sequence->stash, offset, stored);

	if (!block)
		return false;
	if (page)
		page->block = block;
	if (page && page->kind != PAGE_PRIVATE)
		block->origin = page->origin;

	return stored || hbm_carry_add(departure, sequence->slot, offset, block);
}

static bool suspend_plan_one(struct hbm_sequence *sequence, struct carry *departure)
{
	struct hbm_pool *pool = sequence->pool;
	const uint64_t end = sequence->tokens + hbm_tree_count(sequence->tree);
	bool planned = true;

	for (uint32_t i = 0; i < pool->buffer_count; i++) {
		uint64_t at = hbm_sequence_begin(sequence, i, sequence->first), offset, bytes;

		hbm_layout_range(hbm_sequence_layout(sequence), i, 0, end, &offset, &bytes);
		for (; planned && at < offset + bytes; at += pool->slab)
			if (hbm_slot_has(pool, sequence->slot, at))
				planned = suspend_plan_slab(sequence, at, departure);
	}

	return planned;
}

static void suspend_forget_pages(struct hbm_sequence *sequence)
{
	struct hbm_pool *pool = sequence->pool;

	for (size_t i = 0; i < sequence->stash.count; i++) {
		struct page *page =
			hbm_page_of(pool, &sequence->slot->pages, sequence->stash.list[i].offset);

		if (page)
			page->block = NULL;
	}
}

/* No step and no map-ahead takes place in them from now on. */
static void suspend_stop(struct hbm_pool *pool, struct hbm_sequence *const *sequences, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		hbm_sequence_turn(sequences[i], HBM_SEQUENCE_SUSPENDING);
		hbm_sequence_refresh(sequences[i]);
	}
	hbm_gate_close(pool);
	for (size_t i = 0; i < count; i++)
		hbm_mark_clear(pool, sequences[i]->index);
}

int hbm_suspend_plan(struct hbm_pool *pool, struct hbm_sequence *const *sequences, size_t count,
		     enum hbm_tier tier, struct carry *departure)
{
	int r = hbm_prefix_map_all(sequences, count);
	bool planned = true;

	if (r)
		return r;

	suspend_stop(pool, sequences, count);
	for (size_t i = 0; i < count && planned; i++) {
		sequences[i]->stash.tier = tier;
		planned = suspend_plan_one(sequences[i], departure);
	}
	for (size_t i = 0; i < count; i++)
		suspend_forget_pages(sequences[i]);
	if (planned && hbm_carry_prepare(pool, departure))
		return 0;

	return hbm_pool_fail(pool, -ENOMEM, "cannot allocate the list of what is to be stored");
}

/* ---- The end ---- */

static int suspend_decommit(struct hbm_pool *pool, struct hbm_sequence *const *sequences,
			    size_t count)
{
	hbm_ranges_begin(&pool->shrink);
	for (size_t i = 0; i < count; i++)
		hbm_slot_runs(pool, sequences[i]->slot, 0, pool->slot_bytes, true, &pool->shrink);

	return pool->shrink.failed ? HBM_LIMIT : hbm_backing_decommit(pool);
}

int hbm_suspend_empty(struct hbm_pool *pool, struct hbm_sequence *const *sequences, size_t count)
{
	int r = suspend_decommit(pool, sequences, count);

	if (r > 0)
		r = suspend_decommit(pool, sequences, count);

	return r < 0 ? hbm_pool_fail_call(pool, r, "slabs of suspended sequences") : 0;
}

void hbm_suspend_undo(struct hbm_pool *pool, struct hbm_sequence *const *sequences, size_t count,
		      bool lost)
{
	for (size_t i = 0; i < count; i++) {
		hbm_stash_clear(&pool->stashes, &sequences[i]->stash);
		hbm_sequence_turn(sequences[i], HBM_SEQUENCE_OPEN);
		sequences[i]->lost = lost;
		hbm_sequence_refresh(sequences[i]);
	}
}
