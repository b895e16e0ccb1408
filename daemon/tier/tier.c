/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/tier/tier.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "daemon/device/device.h"

#define FAILED_SHARE 8                /* of a tier: more than that is too much */
#define RECLAIMS 64                   /* copies that go at a time */
#define QUANTUM (1ull << 20)          /* bytes of a payer's turn */
#define GAP_UNITS ((uint64_t)1 << 18) /* of what is overwritten before any of it is free */

/* ---- parts ---- */

void tier_divide(struct tier *tier, const uint64_t *begins, uint32_t count)
{
	assert(count <= NUMA_NODES_MAX && begins[0] == 0);
	tier->part_count = count;
	tier->divided = tier->headroom + tier->capacity;
	for (uint32_t i = 0; i < count; i++) {
		tier->parts[i].begin = begins[i];
		if (i > 0)
			extent_pool_divide(tier->extents, begins[i]);
	}
}

uint64_t tier_largest_part(const struct tier *tier)
{
	uint64_t end = tier->capacity, largest = 0;
	if (tier->part_count == 0)
		return end;

	for (uint32_t i = tier->part_count; i-- > 0; end = tier->parts[i].begin)
		if (end - tier->parts[i].begin > largest)
			largest = end - tier->parts[i].begin;

	return largest;
}

static struct tier_part *tier_part_at(struct tier *tier, uint64_t offset)
{
	uint32_t i = tier->part_count;

	while (i > 1 && tier->parts[i - 1].begin > offset)
		i--;

	return i > 0 ? &tier->parts[i - 1] : NULL;
}

/* ---- a tier ---- */

int tier_init(struct tier *tier, enum hbm_tier kind, uint8_t number, uint64_t capacity,
	      uint64_t headroom, uint64_t max_blocks)
{
	*tier = (struct tier){
		.kind = kind, .number = number, .capacity = capacity, .headroom = headroom};
	fair_queue_open(&tier->waiting, QUANTUM);
	/* every block may have one extent here and be the target of one move; and what is
	 * overwritten at the start is cut into gaps */
	return extent_pool_new(&tier->extents,
			       max_blocks * 2 + capacity / (GAP_UNITS * EXTENT_UNIT));
}

void tier_clear(struct tier *tier)
{
	tier->extents = extent_pool_free(tier->extents);
	late_extents_clear(&tier->late);
	wipes_clear(&tier->wipes);
	left_extents_close(&tier->left);
	failed_extents_clear(&tier->out);
}

void tier_set_usable(struct tier *tier)
{
	uint64_t have = extent_capacity(tier->extents);
	bool none = have <= tier->headroom || tier->lost || tier->claiming;
	uint64_t usable = none ? 0 : have - tier->headroom;

	tier->usable = usable < tier->capacity ? usable : tier->capacity;
}

int tier_grow(struct tier *tier, uint64_t from, uint64_t bytes)
{
	const uint64_t grown = from;
	int r = extent_pool_grow(tier->extents, from, bytes);
	if (r < 0)
		return r;

	for (uint64_t end = from + bytes, next; tier->part_count > 0 && from < end; from = next) {
		struct tier_part *part = tier_part_at(tier, from);
		bool last = part == &tier->parts[tier->part_count - 1];

		next = last || part[1].begin > end ? end : part[1].begin;
		part->bytes += next - from;
	}

	tier_set_usable(tier);
	if (tier->grown)
		tier->grown(tier->grown_arg, tier, grown, bytes);
	tier_serve(tier);

	return 0;
}

bool tier_claim(struct tier *tier, uint32_t unit, uint64_t bytes, uint32_t extents)
{
	if (!extent_take(tier->extents, tier_offset(unit), bytes, extents))
		return false;

	struct tier_part *part = tier_part_at(tier, tier_offset(unit));
	if (part)
		part->used += bytes;
	tier->moving += bytes;

	return true;
}

void tier_wipe_gap(struct tier *tier, uint64_t from, uint64_t to)
{
	uint64_t end = extent_capacity(tier->extents) / EXTENT_UNIT;

	for (uint64_t units; from < to && from < end; from += units) {
		units = (to < end ? to : end) - from;
		if (units > GAP_UNITS)
			units = GAP_UNITS;
		if (tier_claim(tier, (uint32_t)from, units * EXTENT_UNIT, 1))
			tier_wipe(tier, (uint32_t)from, units * EXTENT_UNIT,
				  (struct fair_payer){0});
	}
}

void tier_end_claims(struct tier *tier)
{
	tier->dirty = false;
	tier->claiming = false;
	tier_set_usable(tier);
	tier_serve(tier);
}

/* ---- extents ---- */

static uint64_t tier_begin_near(const struct tier *tier, const struct device *near)
{
	const struct tier_part *least = &tier->parts[0];

	if (tier->part_count == 0)
		return 0;
	if (near && near->node >= 0) {
		assert((uint32_t)near->node < tier->part_count);
		return tier->parts[near->node].begin;
	}

	for (uint32_t i = 1; i < tier->part_count; i++)
		if (tier->parts[i].used < least->used)
			least = &tier->parts[i];

	return least->begin;
}

bool tier_reclaim(struct tier *tier, uint64_t bytes)
{
	unsigned count = 0;

	if (tier->wipes.bytes >= bytes)
		return false; /* that much will be free without it */

	for (; count < RECLAIMS && tier->copies > 0 && extent_largest(tier->extents) < bytes;
	     count++)
		tier->reclaim(tier->reclaim_arg);

	return count > 0;
}

static uint32_t tier_try_alloc(struct tier *tier, uint64_t bytes, const struct device *near)
{
	if (tier->claiming)
		return UINT32_MAX;
	if (extent_largest(tier->extents) < bytes)
		tier_reclaim(tier, bytes);

	uint64_t offset = extent_alloc_from(tier->extents, bytes, tier_begin_near(tier, near));
	if (offset == EXTENT_NONE)
		return UINT32_MAX;

	struct tier_part *part = tier_part_at(tier, offset);
	if (part)
		part->used += bytes;
	tier->moving += bytes;

	return (uint32_t)(offset / EXTENT_UNIT);
}

uint32_t tier_alloc_near(struct tier *tier, uint64_t bytes, const struct device *near)
{
	return fair_queue_empty(&tier->waiting) ? tier_try_alloc(tier, bytes, near) : UINT32_MAX;
}

uint32_t tier_alloc(struct tier *tier, uint64_t bytes)
{
	return tier_alloc_near(tier, bytes, NULL);
}

void tier_request(struct tier *tier, struct extent_request *wait, struct fair_payer payer)
{
	uint32_t unit = tier_alloc_near(tier, wait->bytes, wait->near);
	if (unit != UINT32_MAX)
		wait->granted(wait, unit);
	else
		fair_queue_push(&tier->waiting, &wait->turn, payer, wait->bytes, wait->bytes);
}

void tier_hasten(struct tier *tier, struct extent_request *wait, struct fair_payer payer)
{
	fair_queue_remove(&tier->waiting, &wait->turn);
	fair_queue_push(&tier->waiting, &wait->turn, payer, wait->bytes, wait->bytes);
}

void tier_fail(struct tier *tier, uint32_t unit, uint64_t bytes)
{
	assert(tier->moving >= bytes);
	failed_extents_add(&tier->out, unit, bytes);
	tier->moving -= bytes;
	tier->failed += bytes;
}

void tier_read_failed(struct tier *tier, uint32_t unit)
{
	bad_extents_read_failed(&tier->bad, unit);
}

void tier_keep(struct tier *tier, uint32_t unit, struct device *device)
{
	late_extents_add(&tier->late, unit, device);
}

bool tier_has_failed(const struct tier *tier)
{
	return tier->failed > tier->capacity / FAILED_SHARE;
}

static void tier_return(struct tier *tier, uint32_t unit, uint64_t bytes)
{
	struct tier_part *part = tier_part_at(tier, tier_offset(unit));

	if (part)
		part->used -= bytes;
	extent_free(tier->extents, tier_offset(unit), bytes);
}

void tier_free(struct tier *tier, uint32_t unit, uint64_t bytes)
{
	if (bad_extents_take(&tier->bad, unit) || late_extents_free(&tier->late, unit, bytes)) {
		tier_fail(tier, unit, bytes);
		return;
	}

	assert(tier->moving >= bytes);
	tier->moving -= bytes;
	tier_return(tier, unit, bytes);
}

/* Where it cannot be remembered, the extent is not used again. */
void tier_wipe(struct tier *tier, uint32_t unit, uint64_t bytes, struct fair_payer payer)
{
	struct wipe wipe = {.unit = unit, .bytes = bytes, .payer = payer};

	if (tier->lost)
		tier_free(tier, unit, bytes);
	else if (late_extents_free_wiped(&tier->late, unit, bytes) ||
		 !wipes_add(&tier->wipes, &wipe))
		tier_fail(tier, unit, bytes);
}

bool tier_has_wiped(const struct tier *tier)
{
	return tier->wipes.bytes > 0 || tier->wipes.kept || late_extents_have_wiped(&tier->late) ||
	       left_extents_have_wiped(&tier->left);
}

static void tier_free_as_left(struct tier *tier, const struct left_extent *extent)
{
	if (extent->wipe)
		tier_wipe(tier, extent->unit, extent->bytes, extent->payer);
	else
		tier_free(tier, extent->unit, extent->bytes);
}

void tier_leave(struct tier *tier, const struct left_extent *extent)
{
	if (!tier->left.list || tier->lost) {
		tier_free_as_left(tier, extent);
		return;
	}

	left_extents_add(&tier->left, extent);
	tier->left.left(tier->left.arg);
}

void tier_free_left(struct tier *tier, uint32_t count)
{
	struct left_extent extent;

	for (; count > 0 && left_extents_take(&tier->left, &extent); count--)
		tier_free_as_left(tier, &extent);
}

void tier_fail_left(struct tier *tier)
{
	struct left_extent extent;

	while (left_extents_take(&tier->left, &extent)) {
		tier->wipes.kept |= extent.wipe;
		tier_fail(tier, extent.unit, extent.bytes);
	}
}

void tier_free_late(struct tier *tier)
{
	uint32_t unit;
	bool wipe;

	for (uint64_t bytes; (bytes = late_extents_take_over(&tier->late, &unit, &wipe)) > 0;) {
		assert(tier->failed >= bytes);
		tier->failed -= bytes;
		failed_extents_remove(&tier->out, unit, bytes);
		if (!wipe) {
			tier_return(tier, unit, bytes);
			continue;
		}
		tier->moving += bytes;
		tier_wipe(tier, unit, bytes, (struct fair_payer){0});
	}
}

void tier_shrink(struct tier *tier, uint32_t unit, uint64_t bytes, uint64_t kept)
{
	struct tier_part *part = tier_part_at(tier, tier_offset(unit));

	assert(tier->moving >= bytes && kept <= bytes);
	tier->moving -= bytes - kept;
	if (part)
		part->used -= bytes - kept;
	extent_shrink(tier->extents, tier_offset(unit), bytes, kept);
}

void tier_place(struct tier *tier, uint64_t bytes)
{
	assert(tier->moving >= bytes);
	tier->moving -= bytes;
	tier->placed += bytes;
}

void tier_unplace(struct tier *tier, uint64_t bytes)
{
	assert(tier->placed >= bytes);
	tier->placed -= bytes;
	tier->moving += bytes;
}

bool tier_keep_copy(struct tier *tier, uint64_t bytes)
{
	for (unsigned count = 0;
	     count < RECLAIMS && tier->copies > 0 && tier->copies + bytes > tier->copies_max;
	     count++)
		tier->reclaim(tier->reclaim_arg);
	if (tier->copies + bytes > tier->copies_max)
		return false;

	assert(tier->moving >= bytes);
	tier->moving -= bytes;
	tier->copies += bytes;

	return true;
}

void tier_release_copy(struct tier *tier, uint64_t bytes)
{
	assert(tier->copies >= bytes);
	tier->copies -= bytes;
	tier->moving += bytes;
}

struct extent_request *tier_waiting(struct tier *tier)
{
	struct fair_item *item = fair_queue_next(&tier->waiting);
	return item ? container_of(item, struct extent_request, turn) : NULL;
}

struct extent_request *tier_take_waiting(struct tier *tier)
{
	struct extent_request *wait = tier_waiting(tier);
	if (wait)
		fair_queue_take(&tier->waiting, &wait->turn);

	return wait;
}

/* Serves requests strictly in turn: otherwise a large block could wait forever behind
 * small ones. */
void tier_serve(struct tier *tier)
{
	struct extent_request *wait;

	while ((wait = tier_waiting(tier))) {
		uint32_t unit = tier_try_alloc(tier, wait->bytes, wait->near);
		if (unit == UINT32_MAX)
			return;

		tier_take_waiting(tier);
		wait->granted(wait, unit);
	}
}

int tier_part_of(const struct tier *tier, const char *host)
{
	uint64_t offset = (uint64_t)(host - tier->host);
	int i = (int)tier->part_count - 1;

	if (!tier->host || host < tier->host || offset >= tier->divided)
		return -1;

	while (i > 0 && tier->parts[i].begin > offset)
		i--;

	return i;
}

bool tier_reaches(const struct tier *tier, const struct device *device)
{
	return tier->ops->host || (tier->ops->reaches && tier->ops->reaches(tier, device));
}

const char *tier_name(enum hbm_tier kind)
{
#define NAME(name, value, text) [value] = text,
	static const char *const names[HBM_TIERS] = {HBM_TIER_LIST(NAME)};
#undef NAME

	return kind == HBM_TIER_NONE ? "staging" : names[kind];
}
