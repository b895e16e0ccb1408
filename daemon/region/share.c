/* SPDX-License-Identifier: Apache-2.0 */
/* share: see share.h. */
#include "daemon/region/share.h"

#include <stdlib.h>

#include "daemon/base/checked.h"
#include "daemon/region/region.h"
#include "daemon/region/slab.h"

static int share_claim_targets(struct claim *claim, struct regions *regions,
			       const struct hbm_wire_share *shares, uint32_t count)
{
	struct hbm_wire_range *targets = calloc(count, sizeof(*targets));
	if (!targets)
		return HBM_NO_SPACE;

	for (uint32_t i = 0; i < count; i++)
		targets[i] = (struct hbm_wire_range){.region = shares[i].target,
						     .offset = shares[i].target_offset,
						     .bytes = shares[i].bytes};
	int status = claim_make(claim, regions, targets, count, CLAIM_EMPTY);
	free(targets);

	return status;
}

/* Of the claim's run, whose share this is. */
static int share_find_source(struct share_source *source, const struct claim *claim,
			     const struct slot_run *run, const struct hbm_wire_share *share)
{
	struct region *region = region_find(claim->regions, share->source);
	if (!region)
		return HBM_NOT_FOUND;
	if (region_is_guest(region))
		return HBM_UNSUPPORTED;
	if (region->device != run->region->device || region->slab != run->region->slab ||
	    !is_aligned(share->source_offset, region->slab) ||
	    !checked_range(share->source_offset, share->bytes, region->address_space))
		return HBM_INVALID;

	*source = (struct share_source){.region = region,
					.first = share->source_offset / region->slab,
					.read_only = share->flags & HBM_WIRE_READ_ONLY};
	for (uint64_t k = 0; k < run->count; k++) {
		const struct slot *slot = &region->slots[source->first + k];

		if (slot->claim == claim)
			return HBM_INVALID;
		if (!slot->slab || slot->claim)
			return HBM_NOT_FOUND;
		if (slot->slab->stuck)
			return HBM_DEVICE;
	}

	return HBM_OK;
}

int share_claim(struct claim *claim, struct share_source **sources, struct regions *regions,
		const struct hbm_wire_share *shares, uint32_t count)
{
	struct share_source *found = calloc(count, sizeof(*found));
	if (!found)
		return HBM_NO_SPACE;

	int status = share_claim_targets(claim, regions, shares, count);
	for (uint32_t i = 0; status == HBM_OK && i < count; i++)
		status = share_find_source(&found[i], claim, &claim->runs[i], &shares[i]);

	if (status != HBM_OK) {
		claim_drop(claim);
		free(found);
		return status;
	}

	*sources = found;

	return HBM_OK;
}

void share_fill(const struct claim *claim, const struct share_source *sources)
{
	for (size_t i = 0; i < claim->count; i++) {
		const struct slot_run *run = &claim->runs[i];

		for (uint64_t k = 0; k < run->count; k++)
			slot_share(run->region, run->first + k,
				   sources[i].region->slots[sources[i].first + k].slab,
				   sources[i].read_only);
	}
}
