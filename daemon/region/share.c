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

/* What is lent, or another client has published and may only read, is not to become writable. */
static int share_check_slot(const struct share_source *source, const struct slot *slot,
			    const struct claim *claim)
{
	if (slot->claim == claim)
		return HBM_INVALID;
	if (!slot->slab || slot->claim)
		return HBM_NOT_FOUND;
	if (slot->slab->stuck)
		return HBM_DEVICE;
	if ((slot->lent || slot->slab->borrowed) && !source->read_only)
		return HBM_DENIED;
	if (slot->read_only && slot->slab->publication && !source->read_only)
		return HBM_DENIED;

	return HBM_OK;
}

/* Slabs of a block that is on loan; each is the block's alone, as others may be unmapped with
 * their own loans. */
static int share_find_loan(struct share_source *source, const struct claim *claim,
			   const struct slot_run *run, const struct hbm_wire_share *share)
{
	const struct loan *loan = loan_find(&claim->regions->borrower, share->source_offset);
	if (!loan)
		return HBM_NOT_FOUND;

	const struct lent *lent = loan->replica->lent;
	if (lent->device != run->region->device || lent->slab_bytes != run->region->slab ||
	    lent->cell_count != 1 || lent_bytes(lent) != lent->cell_bytes ||
	    !checked_range(share->source, run->count, lent->slab_count))
		return HBM_INVALID;

	if (!(share->flags & HBM_WIRE_READ_ONLY))
		return HBM_DENIED;

	for (uint64_t k = 0; k < run->count; k++)
		if (lent->slabs[share->source + k]->stuck)
			return HBM_DEVICE;

	*source = (struct share_source){.loan = loan, .first = share->source};

	return HBM_OK;
}

/* Of the claim's run, whose share this is. */
static int share_find_source(struct share_source *source, const struct claim *claim,
			     const struct slot_run *run, const struct hbm_wire_share *share)
{
	if (share->flags & HBM_WIRE_OF_LOAN)
		return share_find_loan(source, claim, run, share);

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
		int status = share_check_slot(source, &region->slots[source->first + k], claim);
		if (status != HBM_OK)
			return status;
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

static void share_fill_slot(struct region *region, uint64_t i, const struct share_source *source,
			    uint64_t from)
{
	const struct slot *slot = source->region ? &source->region->slots[from] : NULL;

	if (!slot)
		slot_borrow(region, i, source->loan->replica->lent->slabs[from]);
	else if (slot->lent)
		slot_borrow(region, i, slot->slab);
	else
		slot_share(region, i, slot->slab, source->read_only);
}

void share_fill(const struct claim *claim, const struct share_source *sources)
{
	for (size_t i = 0; i < claim->count; i++) {
		const struct slot_run *run = &claim->runs[i];

		for (uint64_t k = 0; k < run->count; k++)
			share_fill_slot(run->region, run->first + k, &sources[i],
					sources[i].first + k);
	}
}

/* ---- Attached regions ---- */

static int share_check_attached(const struct slot_run *run)
{
	const struct region *source = run->region->attached->region;

	for (uint64_t k = 0; k < run->count; k++)
		if (source->slots[run->first + k].slab->stuck)
			return HBM_DEVICE;

	return HBM_OK;
}

int share_attached(const struct claim *claim, bool *attached)
{
	int status = HBM_OK;

	*attached = claim->runs[0].region->attached;
	for (size_t i = 0; status == HBM_OK && i < claim->count; i++) {
		if ((claim->runs[i].region->attached != NULL) != *attached)
			status = HBM_INVALID;
		else if (*attached)
			status = share_check_attached(&claim->runs[i]);
	}

	return status;
}

void share_fill_attached(const struct claim *claim)
{
	for (size_t i = 0; i < claim->count; i++) {
		const struct slot_run *run = &claim->runs[i];
		const struct region *source = run->region->attached->region;

		for (uint64_t k = run->first; k < run->first + run->count; k++)
			slot_share(run->region, k, source->slots[k].slab,
				   run->region->attached_read_only);
	}
}
