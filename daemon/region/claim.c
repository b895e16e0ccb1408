/* SPDX-License-Identifier: Apache-2.0 */
/* claim: see claim.h. */
#include "daemon/region/claim.h"

#include <stdlib.h>

#include "daemon/base/checked.h"
#include "daemon/region/region.h"

const struct claim claim_stuck;

static int claim_check_slot(const struct claim *claim, const struct slot *slot,
			    enum claim_kind kind)
{
	if (slot->claim == claim)
		return HBM_INVALID;
	if (kind == CLAIM_EMPTY)
		return slot->slab || slot->claim ? HBM_EXISTS : HBM_OK;
	return slot->slab && !slot->claim ? HBM_OK : HBM_NOT_FOUND;
}

static void claim_unmark(const struct slot_run *run)
{
	for (uint64_t i = 0; i < run->count; i++) {
		struct slot *slot = &run->region->slots[run->first + i];
		if (slot->claim != &claim_stuck)
			slot->claim = NULL;
	}
	run->region->claims--;
}

/* Marks slot by slot; on refusal the slots marked so far are released. */
static int claim_mark(struct claim *claim, struct slot_run run, enum claim_kind kind)
{
	struct region *region = run.region;

	region->claims++;

	for (uint64_t i = 0; i < run.count; i++) {
		struct slot *slot = &region->slots[run.first + i];
		int status = claim_check_slot(claim, slot, kind);
		if (status != HBM_OK) {
			run.count = i;
			claim_unmark(&run);
			return status;
		}

		slot->claim = claim;
	}

	claim->runs[claim->count++] = run;
	claim->slots += run.count;

	return HBM_OK;
}

static int claim_add_range(struct claim *claim, const struct hbm_wire_range *range,
			   enum claim_kind kind)
{
	struct region *region = region_find(claim->regions, range->region);
	if (!region)
		return HBM_NOT_FOUND;
	if (region_is_guest(region))
		return HBM_UNSUPPORTED;

	if (!is_aligned(range->offset, region->slab) || !is_aligned(range->bytes, region->slab) ||
	    !checked_range(range->offset, range->bytes, region->address_space))
		return HBM_INVALID;

	struct slot_run run = {
		.region = region,
		.first = range->offset / region->slab,
		.count = range->bytes / region->slab,
		.at = claim->slots,
	};
	if (kind == CLAIM_EMPTY &&
	    !ledger_check(claim->regions->payer, LEDGER_COMMIT_SLABS, claim->slots + run.count))
		return HBM_LIMIT;

	return claim_mark(claim, run, kind);
}

static void claim_forget(struct claim *claim)
{
	for (size_t i = 0; i < claim->count; i++)
		claim_unmark(&claim->runs[i]);
	free(claim->runs);
	*claim = (struct claim){0};
}

int claim_make(struct claim *claim, struct regions *regions, const struct hbm_wire_range *ranges,
	       uint32_t count, enum claim_kind kind)
{
	*claim = (struct claim){.regions = regions, .runs = calloc(count, sizeof(*claim->runs))};
	if (!claim->runs)
		return HBM_NO_SPACE;

	for (uint32_t i = 0; i < count; i++) {
		int status = claim_add_range(claim, &ranges[i], kind);
		if (status != HBM_OK) {
			claim_forget(claim);
			return status;
		}
	}

	return HBM_OK;
}

void claim_drop(struct claim *claim)
{
	struct regions *regions = claim->regions;
	if (!regions)
		return;
	claim_forget(claim);
	regions_advance(regions);
}

bool claim_is_used(const struct claim *claim)
{
	for (size_t i = 0; i < claim->count; i++) {
		const struct slot_run *run = &claim->runs[i];
		for (uint64_t k = 0; k < run->count; k++)
			if (run->region->slots[run->first + k].users > 0)
				return true;
	}
	return false;
}

bool claim_wanted(const struct claim *claim)
{
	for (size_t i = 0; i < claim->count; i++)
		if (claim->runs[i].region->gone)
			return false;
	return true;
}
