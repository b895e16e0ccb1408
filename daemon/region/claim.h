/* SPDX-License-Identifier: Apache-2.0 */
/*
 * claim: the slots one commit or decommit has made its own, so that no other operation
 * and no new transfer touches them while it is under way. A claim keeps its regions (and
 * so its leases) from being closed.
 */
#pragma once

#include "daemon/region/slot.h"

#include <hbm/wire.h>
#include <stdbool.h>

struct regions;

struct claim {
	struct regions *regions;
	struct stretch *stretches;
	size_t count;
	uint64_t slots; /* of all stretches */
};

enum claim_kind { CLAIM_EMPTY, CLAIM_COMMITTED }; /* what the slots must be */

/*
 * Claims the slots of ranges that came from a client (count >= 1): HBM_OK, or, with
 * nothing claimed, HBM_NOT_FOUND (no such region; not committed), HBM_INVALID
 * (misaligned, outside, twice in this request), HBM_EXISTS (not empty), HBM_LIMIT (more
 * than max_slots), HBM_NO_SPACE (the daemon is out of memory). The claim must not move in
 * memory.
 */
int claim_make(struct claim *claim, struct regions *regions, const struct hbm_wire_range *ranges,
	       uint32_t count, enum claim_kind kind, uint64_t max_slots);
/* Lets go; whatever waited for that goes on. Takes one that was never made or failed to
 * be, zeroed. */
void claim_drop(struct claim *claim);
bool claim_is_used(const struct claim *claim); /* whether a transfer uses one of its slots */
bool claim_wanted(const struct claim *claim);  /* whether all of its regions are still live */
