/* SPDX-License-Identifier: Apache-2.0 */
/* backing: see backing.h. */
#include "client/sequence/backing.h"

#include "client/sequence/pool.h"
#include "client/sequence/slot.h"

#define BACKING_RANGES 4096 /* of one request: fewer than a message holds */

typedef int backing_call(struct hbm *hbm, const struct hbm_range *ranges, size_t count);

static size_t backing_part(const struct ranges *ranges, size_t first)
{
	const size_t left = ranges->count - first;
	return left < BACKING_RANGES ? left : BACKING_RANGES;
}

/* Calls for one part after the other until one is refused; *done counts their ranges. */
static int backing_each(struct hbm_pool *pool, const struct ranges *ranges, backing_call *call,
			size_t *done)
{
	int r = 0;

	for (*done = 0; *done < ranges->count && r == 0;) {
		const size_t part = backing_part(ranges, *done);

		r = call(pool->hbm, ranges->list + *done, part);
		if (r == 0)
			*done += part;
	}

	return r;
}

static struct slot *backing_slot(const struct hbm_pool *pool, const struct hbm_range *range)
{
	return &pool->slots[range->offset / pool->slot_bytes];
}

/* Ranges lie in one slot each. */
static void backing_add(struct hbm_pool *pool, const struct hbm_range *range, int64_t sign)
{
	hbm_slot_add(pool, backing_slot(pool, range), sign * (int64_t)(range->bytes / pool->slab));
}

/* Gives back a part. What the device refuses to unmap stays, and is counted. */
static void backing_undo(struct hbm_pool *pool, const struct hbm_range *part)
{
	if (hbm_decommit(pool->hbm, part, BACKING_RANGES) == 0)
		return;
	for (size_t i = 0; i < BACKING_RANGES; i++)
		hbm_slot_count(pool, backing_slot(pool, &part[i]));
}

int hbm_backing_commit(struct hbm_pool *pool)
{
	const struct ranges *ranges = &pool->grow;
	size_t done;
	int r = backing_each(pool, ranges, hbm_commit, &done);

	for (size_t i = 0; r == 0 && i < done; i++)
		backing_add(pool, &ranges->list[i], 1);
	for (; r != 0 && done > 0; done -= BACKING_RANGES)
		backing_undo(pool, ranges->list + done - BACKING_RANGES);

	return r;
}

int hbm_backing_decommit(struct hbm_pool *pool)
{
	const struct ranges *ranges = &pool->shrink;
	size_t done;
	int r = backing_each(pool, ranges, hbm_decommit, &done);

	for (size_t i = 0; i < done; i++)
		backing_add(pool, &ranges->list[i], -1);
	for (size_t i = done; i < ranges->count; i++)
		hbm_slot_count(pool, backing_slot(pool, &ranges->list[i]));

	return r;
}
