/* SPDX-License-Identifier: Apache-2.0 */
/* backing: see backing.h. */
#include "client/sequence/backing.h"

#include "client/sequence/books.h"
#include "client/sequence/copies.h"
#include "client/sequence/page.h"
#include "client/sequence/pool.h"
#include "client/sequence/slot.h"

/* Of one request: fewer than a message holds. */
#define BACKING_RANGES 4096
#define BACKING_SHARES 1024

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

static struct slot *backing_slot(const struct hbm_pool *pool, uint64_t at)
{
	return &pool->slots[at / pool->slot_bytes];
}

int64_t hbm_backing_mapped(const struct hbm_region *region, uint64_t offset, uint64_t bytes)
{
	int64_t mapped = 0;

	for (uint64_t at = offset; at < offset + bytes; at += region->slab)
		if (region->slabs[at / region->slab] == SLAB_MAPPED)
			mapped += (int64_t)region->slab;

	return mapped;
}

/* Counts the slabs of a range that are mapped now, and were not. Slabs of other regions are
 * no slot's. */
static void backing_count_mapped(struct hbm_pool *pool, const struct hbm_region *region,
				 uint64_t offset, uint64_t bytes)
{
	if (region != pool->region) {
		hbm_books_count(pool, hbm_backing_mapped(region, offset, bytes));
		return;
	}
	for (uint64_t at = offset; at < offset + bytes; at += pool->slab) {
		struct slot *slot = backing_slot(pool, at);

		if (hbm_slot_has(pool, slot, at % pool->slot_bytes))
			hbm_slot_add(pool, slot, 1);
	}
}

/* The same of those that are not mapped any more, and were. */
static void backing_count_unmapped(struct hbm_pool *pool, const struct hbm_range *range)
{
	if (range->region != pool->region) {
		const int64_t left = hbm_backing_mapped(range->region, range->offset, range->bytes);

		hbm_books_count(pool, left - (int64_t)range->bytes);
		return;
	}
	for (uint64_t at = range->offset; at < range->offset + range->bytes; at += pool->slab) {
		struct slot *slot = backing_slot(pool, at);

		if (!hbm_slot_has(pool, slot, at % pool->slot_bytes)) {
			hbm_page_drop(pool, &slot->pages, at % pool->slot_bytes);
			hbm_slot_add(pool, slot, -1);
		}
	}
}

int hbm_backing_commit(struct hbm_pool *pool)
{
	const struct ranges *ranges = &pool->grow;
	size_t done;
	int r = backing_each(pool, ranges, hbm_commit, &done);

	if (r)
		for (size_t i = 0; i < done; i += BACKING_RANGES)
			hbm_decommit(pool->hbm, ranges->list + i, BACKING_RANGES);
	/* Of a request that was undone: what the device has refused to unmap. */
	for (size_t i = 0; i < done; i++)
		backing_count_mapped(pool, ranges->list[i].region, ranges->list[i].offset,
				     ranges->list[i].bytes);

	return r;
}

int hbm_backing_decommit(struct hbm_pool *pool)
{
	const struct ranges *ranges = &pool->shrink;
	size_t done;

	if (ranges->count > 0 && !hbm_copies_settle(pool))
		return hbm_copies_fail(pool);

	int r = backing_each(pool, ranges, hbm_decommit, &done);

	for (size_t i = 0; i < ranges->count; i++)
		backing_count_unmapped(pool, &ranges->list[i]);

	return r;
}

/* ---- Shares ---- */

static void backing_undo_shares(struct hbm_pool *pool, const struct hbm_share *list, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		const struct hbm_range range = {list[i].target, list[i].target_offset,
						list[i].bytes};

		hbm_decommit(pool->hbm, &range, 1);
	}
}

int hbm_backing_share(struct hbm_pool *pool)
{
	const struct shares *shares = &pool->shares;
	size_t done = 0;
	int r = 0;

	while (done < shares->count && r == 0) {
		const size_t left = shares->count - done;
		const size_t part = left < BACKING_SHARES ? left : BACKING_SHARES;

		r = hbm_share(pool->hbm, shares->list + done, part);
		if (r == 0)
			done += part;
	}

	if (r)
		backing_undo_shares(pool, shares->list, done);
	for (size_t i = 0; i < done; i++)
		backing_count_mapped(pool, shares->list[i].target, shares->list[i].target_offset,
				     shares->list[i].bytes);

	return r;
}
