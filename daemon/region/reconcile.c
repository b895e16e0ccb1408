/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/region/reconcile.h"

#include <stdlib.h>

#include "daemon/base/checked.h"
#include "daemon/region/decommit.h"
#include "daemon/region/slot.h"

#define RUNS 256 /* of one decommit */

struct reconciliation {
	struct regions *regions;
	uint64_t pending; /* operations, and the reconciliation itself while it begins them */
	void (*done)(void *arg, int status);
	void *arg;
	int status;
	uint64_t most, slots; /* of one decommit, and of the runs */
	uint32_t run_count;
	struct hbm_wire_range runs[RUNS];
};

/* ---- Telling ---- */

int reconcile_tell(struct regions *regions, const struct hbm_wire_range *range)
{
	struct region *region = region_find(regions, range->region);
	if (!region)
		return HBM_NOT_FOUND;
	if (range->bytes > 0 &&
	    (!checked_range(range->offset, range->bytes, region->address_space) ||
	     !is_aligned(range->offset, region->slab) || !is_aligned(range->bytes, region->slab)))
		return HBM_INVALID;

	uint64_t first = range->offset / region->slab, count = range->bytes / region->slab;
	for (uint64_t i = first; i < first + count; i++)
		if (region_is_guest(region) || !region->slots[i].slab || region->slots[i].claim)
			return HBM_NOT_FOUND;
		else if (region->slots[i].told)
			return HBM_INVALID;

	region->told = true;
	for (uint64_t i = first; i < first + count; i++)
		region->slots[i].told = true;

	return HBM_OK;
}

/* ---- Giving back ---- */

static void reconcile_end_one(struct reconciliation *reconciliation)
{
	if (--reconciliation->pending > 0)
		return;

	reconciliation->done(reconciliation->arg, reconciliation->status);
	free(reconciliation);
}

static void reconcile_destroyed(void *arg, int status, struct region *region)
{
	(void)status;
	(void)region;
	reconcile_end_one(arg);
}

static void reconcile_decommitted(void *arg, int status)
{
	(void)status;
	reconcile_end_one(arg);
}

static int reconcile_give_back(struct reconciliation *reconciliation)
{
	uint32_t count = reconciliation->run_count;
	if (count == 0)
		return HBM_OK;

	reconciliation->run_count = 0;
	reconciliation->slots = 0;
	reconciliation->pending++;
	int status = decommit_start(reconciliation->regions, reconciliation->runs, count,
				    reconcile_decommitted, reconciliation);
	if (status != HBM_OK)
		reconciliation->pending--;

	return status;
}

static int reconcile_add(struct reconciliation *reconciliation, const struct region *region,
			 uint64_t first, uint64_t count)
{
	reconciliation->slots += count;
	reconciliation->runs[reconciliation->run_count++] =
		(struct hbm_wire_range){.region = region->id,
					.offset = first * region->slab,
					.bytes = count * region->slab};

	return reconciliation->run_count == RUNS || reconciliation->slots == reconciliation->most
		       ? reconcile_give_back(reconciliation)
		       : HBM_OK;
}

/* The slots of a region that the client has, of which it has not told. */
static int reconcile_region(struct reconciliation *reconciliation, struct region *region)
{
	int status = HBM_OK;

	for (uint64_t i = 0;
	     status == HBM_OK && (i = slot_next_backed(region, i)) < region->slot_count;) {
		uint64_t first = i, end = i + reconciliation->most - reconciliation->slots;
		while (i < region->slot_count && i < end && region->slots[i].slab &&
		       !region->slots[i].told)
			i++;

		if (i == first) {
			region->slots[i++].told = false;
			continue;
		}

		status = reconcile_add(reconciliation, region, first, i - first);
	}

	return status;
}

static int reconcile_begin(struct reconciliation *reconciliation)
{
	struct regions *regions = reconciliation->regions;
	int status = HBM_OK;

	list_for_each_safe (node, after, &regions->all) {
		struct region *region = container_of(node, struct region, link);
		if (region->gone)
			continue;

		if (region->told && status == HBM_OK) {
			status = reconcile_region(reconciliation, region);
		} else if (status == HBM_OK) {
			reconciliation->pending++;
			(void)region_destroy(regions, region->id, reconcile_destroyed,
					     reconciliation);
		}
		region->told = false;
	}

	return status == HBM_OK ? reconcile_give_back(reconciliation) : status;
}

int reconcile_drop(struct regions *regions, void (*done)(void *arg, int status), void *arg)
{
	struct reconciliation *reconciliation = calloc(1, sizeof(*reconciliation));
	if (!reconciliation)
		return HBM_NO_SPACE;

	*reconciliation = (struct reconciliation){
		.regions = regions,
		.pending = 1,
		.done = done,
		.arg = arg,
		.most = ledger_limit(regions->payer, LEDGER_COMMIT_SLABS),
	};

	/* What has begun goes on. */
	reconciliation->status = reconcile_begin(reconciliation);
	reconcile_end_one(reconciliation);

	return HBM_OK;
}
