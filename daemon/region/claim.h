/* SPDX-License-Identifier: Apache-2.0 */
/*
 * claim: the slots that one commit or decommit works on. While it is in flight no other
 * operation and no new transfer uses them. A claim keeps its regions, and so their
 * session's set of regions, from being closed.
 */
#pragma once

#include "daemon/region/slot.h"

#include <hbm/wire.h>
#include <stdbool.h>

struct regions;

struct claim {
	struct regions *regions;
	struct slot_run *runs;
	size_t count;
	uint64_t slots; /* of all runs */
};

enum claim_kind { CLAIM_EMPTY, CLAIM_COMMITTED }; /* what the slots must be */

/*
 * Claims the slots of ranges that came from a client (count >= 1). HBM_OK, or a refusal
 * that claims nothing: HBM_NOT_FOUND (no such region; not committed), HBM_INVALID
 * (misaligned, outside, twice in this request), HBM_EXISTS (not empty), HBM_UNSUPPORTED
 * (of a guest region), HBM_LIMIT (more than [limits] commit_slabs), HBM_NO_SPACE (the
 * daemon is out of memory). The claim must not move in memory.
 */
int claim_make(struct claim *claim, struct regions *regions, const struct hbm_wire_range *ranges,
	       uint32_t count, enum claim_kind kind);
/* Releases the claim and retries what waited for it. Accepts a zeroed claim and one that
 * failed. */
void claim_drop(struct claim *claim);
bool claim_is_used(const struct claim *claim); /* whether a transfer uses one of its slots */
bool claim_wanted(const struct claim *claim);  /* whether all of its regions are still live */
