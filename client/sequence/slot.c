/* SPDX-License-Identifier: Apache-2.0 */
/* slot: see slot.h. */
#include "client/sequence/slot.h"

#include "client/sequence/books.h"
#include "client/sequence/page.h"
#include "client/sequence/pool.h"
#include "client/sequence/show.h"

uint32_t hbm_slot_index(const struct hbm_pool *pool, const struct slot *slot)
{
	return (uint32_t)(slot - pool->slots);
}

uint64_t hbm_slot_offset(const struct hbm_pool *pool, const struct slot *slot)
{
	return hbm_slot_index(pool, slot) * pool->slot_bytes;
}

static const uint8_t *slot_states(const struct hbm_pool *pool, const struct slot *slot)
{
	return pool->region->slabs + hbm_slot_index(pool, slot) * pool->slot_slabs;
}

bool hbm_slot_has(const struct hbm_pool *pool, const struct slot *slot, uint64_t offset)
{
	return slot_states(pool, slot)[offset / pool->slab] == SLAB_MAPPED;
}

bool hbm_slot_owns(const struct hbm_pool *pool, const struct slot *slot, uint64_t offset)
{
	return hbm_slot_has(pool, slot, offset) && !hbm_page_is_shared(pool, &slot->pages, offset);
}

uint64_t hbm_slot_owned_bytes(const struct hbm_pool *pool, const struct slot *slot)
{
	uint64_t bytes = 0;

	for (uint64_t at = 0; at < pool->slot_bytes; at += pool->slab)
		if (hbm_slot_owns(pool, slot, at))
			bytes += pool->slab;

	return bytes;
}

uint32_t hbm_slot_share_flags(const struct hbm_pool *pool, const struct slot *slot, uint64_t offset)
{
	return hbm_page_is_borrowed(pool, &slot->pages, offset) ? HBM_SHARE_READ_ONLY : 0;
}

static void slot_show(const struct hbm_pool *pool, const struct slot *slot)
{
	/* Of a slab that goes, one is counted before the other. */
	const uint64_t shared = slot->pages.shared, slabs = slot->slabs;
	const uint64_t own = slabs > shared ? slabs - shared : 0;

	if (slot->sequence)
		hbm_show_bytes(pool, slot->record, own * pool->slab, shared * pool->slab);
}

void hbm_slot_begin(const struct hbm_pool *pool, struct slot *slot, struct hbm_sequence *sequence,
		    uint32_t record)
{
	slot->sequence = sequence;
	slot->record = record;
	slot_show(pool, slot);
}

void hbm_slot_sharing_changed(const struct hbm_pool *pool, const struct page_table *table)
{
	slot_show(pool, container_of(table, struct slot, pages));
}

void hbm_slot_add(struct hbm_pool *pool, struct slot *slot, int64_t slabs)
{
	slot->slabs += (uint64_t)slabs;
	hbm_books_count(pool, slabs * (int64_t)pool->slab);
	slot_show(pool, slot);
	if (slot->sequence) {
		hbm_books_look(pool, slot->account, slot->slabs * pool->slab);
		return;
	}

	pool->warm_slabs += (uint64_t)slabs;
	if (slot->slabs == 0) {
		list_remove(&slot->link);
		list_push_front(&pool->cold, &slot->link);
	}
}

void hbm_slot_runs(struct hbm_pool *pool, const struct slot *slot, uint64_t offset, uint64_t bytes,
		   bool mapped, struct ranges *ranges)
{
	const uint64_t base = hbm_slot_offset(pool, slot), end = offset + bytes;

	for (uint64_t at = offset; at < end; at += pool->slab)
		if (hbm_slot_has(pool, slot, at) == mapped)
			hbm_ranges_add(ranges, pool->region, base + at, pool->slab);
}

void hbm_slot_shared(struct hbm_pool *pool, const struct slot *slot, uint64_t offset,
		     uint64_t bytes, struct ranges *ranges)
{
	const uint64_t base = hbm_slot_offset(pool, slot), end = offset + bytes;

	for (uint64_t at = offset; at < end; at += pool->slab)
		if (hbm_slot_has(pool, slot, at) && !hbm_slot_owns(pool, slot, at))
			hbm_ranges_add(ranges, pool->region, base + at, pool->slab);
}

static void slot_owned(struct hbm_pool *pool, const struct slot *slot, uint64_t offset,
		       uint64_t bytes, struct ranges *ranges)
{
	const uint64_t base = hbm_slot_offset(pool, slot), end = offset + bytes;

	for (uint64_t at = offset; at < end; at += pool->slab)
		if (hbm_slot_owns(pool, slot, at))
			hbm_ranges_add(ranges, pool->region, base + at, pool->slab);
}

static void slot_beyond(struct hbm_pool *pool, const struct hbm_layout *layout,
			const struct slot *slot, uint64_t tokens, bool owned, struct ranges *ranges)
{
	for (uint32_t i = 0; i < pool->buffer_count; i++) {
		struct hbm_buffer buffer;
		uint64_t offset, bytes;

		hbm_layout_buffer(layout, i, &buffer);
		hbm_layout_range(layout, i, 0, tokens, &offset, &bytes);

		const uint64_t first = buffer.offset + bytes, rest = buffer.address_space - bytes;

		if (owned)
			slot_owned(pool, slot, first, rest, ranges);
		else
			hbm_slot_runs(pool, slot, first, rest, true, ranges);
	}
}

void hbm_slot_beyond(struct hbm_pool *pool, const struct hbm_layout *layout,
		     const struct slot *slot, uint64_t tokens, struct ranges *ranges)
{
	slot_beyond(pool, layout, slot, tokens, false, ranges);
}

void hbm_slot_owned_beyond(struct hbm_pool *pool, const struct hbm_layout *layout,
			   const struct slot *slot, uint64_t tokens, struct ranges *ranges)
{
	slot_beyond(pool, layout, slot, tokens, true, ranges);
}

/* ---- Free slots ---- */

#define SLOT_LOOK 64 /* so many of the last closed are compared */

static struct slot *slot_of(struct list *node)
{
	return container_of(node, struct slot, link);
}

/* Whether `slot` suits better than `best`, for so many slabs. */
static bool slot_is_better(const struct slot *slot, const struct slot *best, uint64_t slabs)
{
	if (!best)
		return true;
	if (best->slabs >= slabs)
		return slot->slabs >= slabs && slot->slabs < best->slabs;

	return slot->slabs > best->slabs;
}

static void slot_remove(struct hbm_pool *pool, struct slot *slot)
{
	list_remove(&slot->link);
	pool->warm_slabs -= slot->slabs;
}

struct slot *hbm_slot_take(struct hbm_pool *pool, uint64_t slabs)
{
	struct slot *best = NULL;

	unsigned seen = 0;

	list_for_each (node, &pool->warm) {
		if (seen++ == SLOT_LOOK)
			break;
		if (slot_is_better(slot_of(node), best, slabs))
			best = slot_of(node);
	}
	if (!best && !list_empty(&pool->cold))
		best = slot_of(pool->cold.next);

	if (best)
		slot_remove(pool, best);

	return best;
}

struct slot *hbm_slot_take_empty(struct hbm_pool *pool)
{
	if (list_empty(&pool->cold))
		return hbm_slot_take(pool, 0);

	struct slot *slot = slot_of(pool->cold.next);

	slot_remove(pool, slot);

	return slot;
}

void hbm_slot_free(struct hbm_pool *pool, struct slot *slot)
{
	slot->sequence = NULL;
	slot->account = NULL;
	pool->warm_slabs += slot->slabs;
	list_push_front(slot->slabs ? &pool->warm : &pool->cold, &slot->link);
}
