/* SPDX-License-Identifier: Apache-2.0 */
/* arrival: see arrival.h. */
#include "client/sequence/arrival.h"

#include "client/sequence/backing.h"
#include "client/sequence/growth.h"
#include "client/sequence/page.h"
#include "client/sequence/pool.h"
#include "client/sequence/sequence.h"
#include "client/sequence/slot.h"

#include <errno.h>
#include <stdlib.h>

/* ---- The plan ---- */

static bool arrival_add_twin(struct arrival *arrival, const struct slot *source,
			     struct slot *target, uint64_t offset)
{
	if (arrival->twin_count == arrival->twin_room) {
		const size_t room = arrival->twin_room ? 2 * arrival->twin_room : 64;
		struct arrival_twin *twins = realloc(arrival->twins, room * sizeof(*twins));

		if (!twins)
			return false;
		arrival->twins = twins;
		arrival->twin_room = room;
	}
	arrival->twins[arrival->twin_count++] =
		(struct arrival_twin){(struct slot *)source, target, offset};

	return true;
}

static bool arrival_plan_slab(struct arrival *arrival, struct hbm_sequence *sequence,
			      const struct stash_slab *slab)
{
	struct slot *slot = sequence->slot;
	struct stash_block *block = slab->block;

	if (block->slot)
		return arrival_add_twin(arrival, block->slot, slot, slab->offset);
	block->slot = slot;

	/* What is borrowed is still what it was, and cannot be loaded into. */
	if (hbm_slot_has(sequence->pool, slot, slab->offset) &&
	    hbm_page_is_borrowed(sequence->pool, &slot->pages, slab->offset))
		return true;

	return hbm_carry_add(&arrival->carry, slot, slab->offset, block);
}

static int arrival_compare_twins(const void *a, const void *b)
{
	const struct arrival_twin *one = a, *other = b;

	return one->offset < other->offset ? -1 : one->offset > other->offset;
}

bool hbm_arrival_plan(struct hbm_pool *pool, struct arrival *arrival,
		      struct hbm_sequence *const *sequences, size_t count)
{
	bool planned = true;

	for (size_t i = 0; i < count; i++)
		for (size_t k = 0; planned && k < sequences[i]->stash.count; k++)
			planned = arrival_plan_slab(arrival, sequences[i],
						    &sequences[i]->stash.list[k]);
	for (size_t i = 0; i < count; i++)
		for (size_t k = 0; k < sequences[i]->stash.count; k++)
			sequences[i]->stash.list[k].block->slot = NULL;
	if (arrival->twin_count > 0)
		qsort(arrival->twins, arrival->twin_count, sizeof(*arrival->twins),
		      arrival_compare_twins);

	return planned && hbm_carry_prepare(pool, &arrival->carry);
}

static uint32_t arrival_group_of(const struct hbm_pool *pool, uint64_t offset)
{
	struct hbm_buffer buffer;
	uint32_t i = pool->buffer_count;

	do
		hbm_layout_buffer(pool->layout, --i, &buffer);
	while (i > 0 && buffer.offset > offset);

	return buffer.group;
}

size_t hbm_arrival_group(const struct hbm_pool *pool, const struct arrival *arrival, size_t first,
			 uint32_t *group)
{
	const struct carry *carry = &arrival->carry;
	size_t end = first;

	if (first == carry->count)
		return 0;

	*group = arrival_group_of(pool, carry->slabs[first].offset);
	while (end < carry->count && arrival_group_of(pool, carry->slabs[end].offset) == *group)
		end++;

	return end - first;
}

/* ---- Memory ---- */

/* The next twins whose source is mapped. */
static size_t arrival_gather_twins(struct hbm_pool *pool, const struct arrival *arrival)
{
	size_t i = arrival->twins_mapped;

	hbm_shares_begin(&pool->shares);
	for (; i < arrival->twin_count; i++) {
		const struct arrival_twin *twin = &arrival->twins[i];

		if (!hbm_slot_has(pool, twin->source, twin->offset))
			break;

		const struct hbm_share share = {
			.source = pool->region,
			.target = pool->region,
			.source_offset = hbm_slot_offset(pool, twin->source) + twin->offset,
			.target_offset = hbm_slot_offset(pool, twin->target) + twin->offset,
			.bytes = pool->slab,
			.flags = hbm_slot_share_flags(pool, twin->source, twin->offset),
		};

		hbm_shares_add(&pool->shares, &share);
	}

	return i;
}

int hbm_arrival_map_twins(struct hbm_pool *pool, struct arrival *arrival)
{
	const size_t end = arrival_gather_twins(pool, arrival);
	bool prepared = !pool->shares.failed;

	for (size_t i = arrival->twins_mapped; prepared && i < end; i++)
		prepared = hbm_page_prepare(pool, &arrival->twins[i].source->pages, end) &&
			   hbm_page_prepare(pool, &arrival->twins[i].target->pages, end);
	if (!prepared)
		return hbm_pool_fail(pool, -ENOMEM, "cannot allocate what sequences share");

	int r = hbm_backing_share(pool);
	if (r)
		return hbm_pool_fail_call(pool, r, "slabs that resumed sequences share");

	for (; arrival->twins_mapped < end; arrival->twins_mapped++) {
		const struct arrival_twin *twin = &arrival->twins[arrival->twins_mapped];

		hbm_page_share(pool, &twin->source->pages, &twin->target->pages, twin->offset);
	}

	return 0;
}

int hbm_arrival_acquire(struct hbm_pool *pool, struct arrival *arrival, size_t slabs)
{
	const size_t end = arrival->acquired + slabs;

	hbm_ranges_begin(&pool->grow);
	for (size_t i = arrival->acquired; i < end; i++)
		hbm_slot_runs(pool, arrival->carry.slabs[i].slot, arrival->carry.slabs[i].offset,
			      pool->slab, false, &pool->grow);
	if (pool->grow.failed)
		return hbm_pool_fail(pool, -ENOMEM, "cannot allocate the ranges of a resume");

	int r = hbm_growth_map(pool);
	if (r)
		return hbm_pool_fail_call(pool, r, "memory for what is resumed");
	arrival->acquired = end;

	return 0;
}

bool hbm_arrival_is_done(const struct arrival *arrival)
{
	return arrival->carry.done == arrival->carry.count && arrival->carry.status == 0 &&
	       arrival->twins_mapped == arrival->twin_count;
}

void hbm_arrival_clear(struct arrival *arrival)
{
	hbm_carry_clear(&arrival->carry);
	free(arrival->twins);
	*arrival = (struct arrival){0};
}
