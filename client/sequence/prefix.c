/* SPDX-License-Identifier: Apache-2.0 */
/* prefix: see prefix.h. */
#include "client/sequence/prefix.h"

#include "client/sequence/backing.h"
#include "client/sequence/page.h"
#include "client/sequence/pool.h"
#include "client/sequence/sequence.h"
#include "client/sequence/slot.h"

#include <errno.h>

void hbm_prefix_record(struct hbm_sequence *sequence, struct hbm_sequence *source)
{
	sequence->source = source;
	list_push_back(&source->forks, &sequence->fork);
	hbm_sequence_refresh(sequence);
}

typedef void prefix_slab(struct hbm_sequence *sequence, uint64_t offset);

/* Calls for every slab that it shares: offset in the slot. */
static void prefix_each(struct hbm_sequence *sequence, prefix_slab *call)
{
	const struct hbm_pool *pool = sequence->pool;

	for (uint32_t i = 0; i < pool->buffer_count; i++) {
		const uint64_t end = hbm_sequence_begin(sequence, i, sequence->tokens);
		uint64_t at = hbm_sequence_begin(sequence, i, sequence->first);

		for (; at < end; at += pool->slab)
			if (hbm_slot_has(pool, sequence->source->slot, at))
				call(sequence, at);
	}
}

/* What the slot has of a sequence before: it is in the place of what is shared. */
static void prefix_clear(struct hbm_sequence *sequence, uint64_t offset)
{
	struct hbm_pool *pool = sequence->pool;

	if (hbm_slot_has(pool, sequence->slot, offset))
		hbm_ranges_add(&pool->shrink, pool->region,
			       hbm_slot_offset(pool, sequence->slot) + offset, pool->slab);
}

static void prefix_gather(struct hbm_sequence *sequence, uint64_t offset)
{
	struct hbm_pool *pool = sequence->pool;
	const struct hbm_share share = {
		.source = pool->region,
		.target = pool->region,
		.source_offset = hbm_slot_offset(pool, sequence->source->slot) + offset,
		.target_offset = hbm_slot_offset(pool, sequence->slot) + offset,
		.bytes = pool->slab,
		.flags = hbm_slot_share_flags(pool, sequence->source->slot, offset),
	};

	pool->shares.slabs++;
	hbm_shares_add(&pool->shares, &share);
}

static void prefix_note(struct hbm_sequence *sequence, uint64_t offset)
{
	hbm_page_share(sequence->pool, &sequence->source->slot->pages, &sequence->slot->pages,
		       offset);
}

static int prefix_no_room(struct hbm_pool *pool)
{
	return hbm_pool_fail(pool, -ENOMEM, "cannot allocate what a fork shares");
}

static int prefix_make_place(struct hbm_sequence *sequence)
{
	struct hbm_pool *pool = sequence->pool;

	hbm_ranges_begin(&pool->shrink);
	prefix_each(sequence, prefix_clear);
	if (pool->shrink.failed)
		return prefix_no_room(pool);

	int r = hbm_backing_decommit(pool);

	return r ? hbm_pool_fail_call(pool, r, "slabs of the sequence before stay mapped") : 0;
}

static int prefix_share(struct hbm_sequence *sequence)
{
	struct hbm_pool *pool = sequence->pool;

	hbm_shares_begin(&pool->shares);
	prefix_each(sequence, prefix_gather);
	if (pool->shares.failed ||
	    !hbm_page_prepare(pool, &sequence->slot->pages, pool->shares.slabs) ||
	    !hbm_page_prepare(pool, &sequence->source->slot->pages, pool->shares.slabs))
		return prefix_no_room(pool);

	int r = hbm_backing_share(pool);
	if (r)
		return hbm_pool_fail_call(pool, r, "the shared prefix of a fork");

	prefix_each(sequence, prefix_note);

	return 0;
}

int hbm_prefix_map(struct hbm_sequence *sequence)
{
	if (!sequence->source)
		return 0;

	int r = prefix_make_place(sequence);
	if (r == 0)
		r = prefix_share(sequence);
	if (r)
		return r;

	sequence->source = NULL;
	list_remove(&sequence->fork);
	hbm_sequence_refresh(sequence);

	return 0;
}

int hbm_prefix_map_forks(struct hbm_sequence *source)
{
	int r = 0;

	list_for_each_safe (node, after, &source->forks) {
		r = hbm_prefix_map(container_of(node, struct hbm_sequence, fork));
		if (r)
			break;
	}

	return r;
}

int hbm_prefix_map_both(struct hbm_sequence *sequence)
{
	int r = hbm_prefix_map(sequence);

	return r ? r : hbm_prefix_map_forks(sequence);
}

int hbm_prefix_map_all(struct hbm_sequence *const *sequences, size_t count)
{
	int r = 0;

	for (size_t i = 0; i < count && r == 0; i++)
		r = hbm_prefix_map_both(sequences[i]);

	return r;
}
