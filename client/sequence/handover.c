/* SPDX-License-Identifier: Apache-2.0 */
/* handover: see handover.h. */
#include "client/sequence/handover.h"

#include "client/sequence/backing.h"
#include "client/sequence/pool.h"
#include "client/sequence/slot.h"

#include <errno.h>
#include <stdlib.h>

bool hbm_handover_plan(const struct hbm_pool *pool, struct handover *handover,
		       const struct carry *departure, size_t *slabs)
{
	size_t count = 0;

	for (size_t i = 0; i < departure->count; i++)
		count += hbm_slot_owns(pool, departure->slabs[i].slot, departure->slabs[i].offset);
	*slabs = count;
	if (departure->count == 0)
		return true;

	handover->moved = calloc(departure->count, sizeof(*handover->moved));
	handover->target = calloc(departure->count, sizeof(*handover->target));

	return handover->moved && handover->target;
}

static uint64_t handover_offset(const struct hbm_pool *pool, const struct carry_slab *slab)
{
	return hbm_slot_offset(pool, slab->slot) + slab->offset;
}

static void handover_share(struct hbm_pool *pool, const struct carry_slab *from,
			   const struct carry_slab *to)
{
	const struct hbm_share share = {
		.source = pool->region,
		.target = pool->region,
		.source_offset = handover_offset(pool, from),
		.target_offset = handover_offset(pool, to),
		.bytes = pool->slab,
	};

	hbm_shares_add(&pool->shares, &share);
}

/* ---- Forth ---- */

/* Notes the next pairs from handover->count on: their end. */
static size_t handover_pair(struct hbm_pool *pool, struct handover *handover,
			    const struct carry *departure, const struct arrival *arrival)
{
	const struct carry *carry = &arrival->carry;
	size_t end = handover->count, to = arrival->acquired;

	hbm_shares_begin(&pool->shares);
	for (; handover->looked < departure->done && to < carry->count; handover->looked++) {
		const struct carry_slab *from = &departure->slabs[handover->looked];

		if (!hbm_slot_owns(pool, from->slot, from->offset))
			continue;
		handover_share(pool, from, &carry->slabs[to]);
		handover->moved[end] = handover->looked;
		handover->target[end++] = to++;
	}

	return end;
}

static int handover_unmap(struct hbm_pool *pool, const struct handover *handover, size_t end,
			  const struct carry *departure)
{
	hbm_ranges_begin(&pool->shrink);
	for (size_t i = handover->count; i < end; i++) {
		const struct carry_slab *from = &departure->slabs[handover->moved[i]];

		hbm_slot_runs(pool, from->slot, from->offset, pool->slab, true, &pool->shrink);
	}

	return pool->shrink.failed ? -ENOMEM : hbm_backing_decommit(pool);
}

int hbm_handover_run(struct hbm_pool *pool, struct handover *handover,
		     const struct carry *departure, struct arrival *arrival)
{
	const size_t end = handover_pair(pool, handover, departure, arrival);

	if (pool->shares.failed)
		return hbm_pool_fail(pool, -ENOMEM, "cannot allocate what is handed over");
	if (end == handover->count)
		return 0;

	int r = hbm_backing_share(pool);
	if (r)
		return hbm_pool_fail_call(pool, r, "slabs for what comes in");

	r = handover_unmap(pool, handover, end, departure);
	if (r > 0)
		r = handover_unmap(pool, handover, end, departure);
	/* Also what is still in both places is noted: it has to be undone. */
	arrival->acquired += end - handover->count;
	handover->count = end;

	return r ? hbm_pool_fail_call(pool, r, "slabs of what goes out") : 0;
}

/* ---- Back ---- */

static void handover_gather_back(struct hbm_pool *pool, const struct handover *handover,
				 const struct carry *departure, const struct arrival *arrival)
{
	hbm_shares_begin(&pool->shares);
	for (size_t i = 0; i < handover->count; i++) {
		const struct carry_slab *from = &departure->slabs[handover->moved[i]];

		if (!hbm_slot_has(pool, from->slot, from->offset))
			handover_share(pool, &arrival->carry.slabs[handover->target[i]], from);
	}
}

bool hbm_handover_undo(struct hbm_pool *pool, const struct handover *handover,
		       const struct carry *departure, const struct arrival *arrival)
{
	if (handover->count == 0)
		return true;

	handover_gather_back(pool, handover, departure, arrival);
	if (pool->shares.failed)
		return false;

	int r = hbm_backing_share(pool);

	if (r) /* once more */
		r = hbm_backing_share(pool);

	return r == 0;
}

bool hbm_handover_reload(struct hbm_pool *pool, const struct handover *handover,
			 const struct carry *departure)
{
	struct carry back = {0};
	bool loaded = true;

	for (size_t i = 0; i < handover->count && loaded; i++) {
		const struct carry_slab *from = &departure->slabs[handover->moved[i]];

		loaded = hbm_carry_add(&back, from->slot, from->offset, from->block);
	}
	loaded = loaded && hbm_carry_prepare(pool, &back);
	if (loaded)
		loaded = hbm_carry_run(pool, &back);
	hbm_carry_clear(&back);

	return loaded;
}

void hbm_handover_clear(struct handover *handover)
{
	free(handover->moved);
	free(handover->target);
	*handover = (struct handover){0};
}
