/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tier_resize: how much of a tier's extents is in service. From the top of each part ranges are
 * retired, or recalled; what is retired goes away as it is freed (extent.h). It changes no capacity
 * and no memory: whose memory that is takes it once it is away, and cuts it off.
 */
#pragma once

#include "daemon/tier/tier.h"

/* Keeps so many bytes of extents in service, of what there is; the parts keep the shares that they
 * have of it. Returns how many it lacks for that. */
uint64_t tier_retire_to(struct tier *tier, uint64_t bytes);
/* To be called after it until it is false: sorts at most so many free ranges. */
bool tier_sort_some(struct tier *tier, uint32_t max);
/* Bytes of extents that are in service: without what is retired. */
uint64_t tier_in_service(const struct tier *tier);
/* Whether an extent of that size has a byte that is retired. */
static inline bool tier_is_retired(const struct tier *tier, uint32_t unit, uint64_t bytes)
{
	return extent_is_retired(tier->extents, tier_offset(unit), bytes);
}
/* Of what is retired and in use: bytes that are out of service, and will not be free before a
 * restart. */
uint64_t tier_retired_failed(const struct tier *tier);
/* Cuts off what is away: 0, or what extent_cut() says. */
int tier_cut(struct tier *tier, uint64_t from, uint64_t bytes);
