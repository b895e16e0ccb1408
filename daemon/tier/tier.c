/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/tier/tier.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define FAILED_SHARE 8       /* of a tier: more than that is too much */
#define QUANTUM (1ull << 20) /* bytes of a payer's turn */

int tier_init(struct tier *tier, enum hbm_tier kind, uint8_t number, uint64_t capacity,
	      uint64_t headroom, uint64_t max_blocks)
{
	*tier = (struct tier){
		.kind = kind, .number = number, .capacity = capacity, .headroom = headroom};
	fair_queue_open(&tier->waiting, QUANTUM);
	/* every block may have one extent here and be the target of one move */
	return extent_pool_new(&tier->extents, max_blocks * 2);
}

void tier_clear(struct tier *tier)
{
	tier->extents = extent_pool_free(tier->extents);
}

int tier_grow(struct tier *tier, uint64_t from, uint64_t bytes)
{
	int r = extent_pool_grow(tier->extents, from, bytes);
	if (r < 0)
		return r;

	uint64_t have = extent_capacity(tier->extents);
	tier->usable = have > tier->headroom && !tier->lost ? have - tier->headroom : 0;
	tier_serve(tier);

	return 0;
}

static uint32_t tier_try_alloc(struct tier *tier, uint64_t bytes)
{
	uint64_t offset = extent_alloc(tier->extents, bytes);
	if (offset == EXTENT_NONE)
		return UINT32_MAX;
	tier->moving += bytes;
	return (uint32_t)(offset / EXTENT_UNIT);
}

uint32_t tier_alloc(struct tier *tier, uint64_t bytes)
{
	return fair_queue_empty(&tier->waiting) ? tier_try_alloc(tier, bytes) : UINT32_MAX;
}

void tier_request(struct tier *tier, struct extent_request *wait, struct fair_payer payer)
{
	uint32_t unit = tier_alloc(tier, wait->bytes);
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
	(void)unit;
	tier->moving -= bytes;
	tier->failed += bytes;
}

void tier_read_failed(struct tier *tier, uint32_t unit)
{
	bad_extents_read_failed(&tier->bad, unit);
}

bool tier_has_failed(const struct tier *tier)
{
	return tier->failed > tier->capacity / FAILED_SHARE;
}

void tier_free(struct tier *tier, uint32_t unit, uint64_t bytes)
{
	if (bad_extents_take(&tier->bad, unit)) {
		tier_fail(tier, unit, bytes);
		return;
	}

	assert(tier->moving >= bytes);
	tier->moving -= bytes;
	extent_free(tier->extents, tier_offset(unit), bytes);
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
		uint32_t unit = tier_try_alloc(tier, wait->bytes);
		if (unit == UINT32_MAX)
			return;

		tier_take_waiting(tier);
		wait->granted(wait, unit);
	}
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
