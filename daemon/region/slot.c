/* SPDX-License-Identifier: Apache-2.0 */
/*
 * slot: see slot.h. How many bytes of a region are shared changes, too, when a slot of
 * another region takes or loses one of its slabs. A slab does not list its slots; `owners` is
 * their regions' addresses, combined by exclusive or. While there is one slot, that is the
 * address of its region, whose count changes when a second comes, or when it went. A slab may
 * have references that are no slots' (lent.h): those do not count here, nor do slots of a
 * session that has borrowed the slab: it is not that session's memory.
 */
#include "daemon/region/slot.h"

#include "daemon/region/loan.h"
#include "daemon/region/region_kept.h"
#include "daemon/region/slab.h"
#include "daemon/region/slot_tally.h"

/* It has got its slab, or is about to lose it: counts it if it has been passed (slot_recount.h). */
static void slot_count(const struct region *region, uint64_t i, bool filled)
{
	struct slot_recount *recount = slabs_slots(region->device->slabs);
	bool passed = region->mark == recount->regions.round ||
		      (recount->regions.next == &region->by_device && i < recount->passed);
	uint64_t *sum = region->slots[i].lent ? &recount->lent : &recount->backed;

	if (passed && filled)
		*sum += region->slab;
	else if (passed)
		*sum -= region->slab;
}

static void slot_set_slab(struct region *region, uint64_t i, struct slab *slab)
{
	uint64_t bit = UINT64_C(1) << i % SLOT_BITS, *word = &region->backed[i / SLOT_BITS];

	region->slots[i].slab = slab;
	*word = slab ? *word | bit : *word & ~bit;
}

static struct region *slot_only_owner(const struct slab *slab)
{
	return (struct region *)slab->owners; /* NOLINT(performance-no-int-to-ptr) */
}

void slot_fill(struct region *region, uint64_t i, struct slab *slab)
{
	slab_place(slab);
	slab->owners = (uintptr_t)region;
	slab->leased = region->leased;
	*slab->leased += slab->bytes;
	slot_set_slab(region, i, slab);
	slot_count(region, i, true);
}

void slot_share(struct region *region, uint64_t i, struct slab *slab, bool read_only)
{
	slab_add_slot(slab);
	if (slab->slots == 2)
		slot_only_owner(slab)->shared += slab->bytes;

	region->shared += slab->bytes;
	slab->owners ^= (uintptr_t)region;
	slot_set_slab(region, i, slab);
	region->slots[i].read_only = read_only;
	slot_count(region, i, true);
}

int slot_keep(struct region *region, uint64_t i, struct slab *slab, int fd)
{
	struct slot *slot = &region->slots[i];
	int status = slab_keep(slab, fd);
	if (status != HBM_OK)
		return status;

	const struct kept_slot body = {
		.session = region->session,
		.slab = slab->id,
		.slot = i,
		.region = region->id,
		.flags = (slot->read_only ? KEPT_READ_ONLY : 0) |
			 (slot->lent || slab->borrowed ? KEPT_LENT : 0),
	};

	return region_kept_add(slabs_kept(region->device->slabs), STATE_SLOTS, &body, 0,
			       &slot->kept);
}

void slot_unkeep(struct region *region, uint64_t i)
{
	region_kept_drop(slabs_kept(region->device->slabs), STATE_SLOTS, &region->slots[i].kept);
}

void slot_borrow(struct region *region, uint64_t i, struct slab *slab)
{
	slab_ref(slab);
	export_hold(region->borrower, slab);
	region->lent += slab->bytes;
	slot_set_slab(region, i, slab);
	region->slots[i].read_only = true;
	region->slots[i].lent = true;
	slot_count(region, i, true);
}

/* The end of slot_borrow(). The reference is never quarantined: who may write to what is lent is
 * not known anyway (lent.h). */
static void slot_return(struct region *region, uint64_t i)
{
	struct slot *slot = &region->slots[i];
	struct slab *slab = slot->slab;

	region->lent -= slab->bytes;
	slot_set_slab(region, i, NULL);
	slot_unkeep(region, i);
	slot->read_only = false;
	slot->lent = false;
	if (slab->stuck)
		slot->claim = &claim_stuck;
	slab_unref(slab, false);
	export_unhold(region->borrower, slab);
}

/* The only other one that has the slab in a slot from now on; NULL: there is none, or more. */
static struct region *slot_leave(struct region *region, struct slab *slab)
{
	struct region *other = NULL;

	slab->owners ^= (uintptr_t)region;
	if (slab->slots == 1)
		*slab->leased -= slab->bytes;
	else
		region->shared -= slab->bytes;

	if (slab->slots == 2) {
		other = slot_only_owner(slab);
		other->shared -= slab->bytes;
	}

	return other;
}

void slot_empty(struct region *region, uint64_t i, bool quarantined)
{
	struct slot *slot = &region->slots[i];
	struct slab *slab = slot->slab;

	slot_count(region, i, false);
	if (slot->lent) {
		slot_return(region, i);
		return;
	}

	if (slab->publication && !region->publication)
		slab->publication->given_back(slab->publication, region->regions);
	const struct region *other = slot_leave(region, slab);

	slot_set_slab(region, i, NULL);
	slot_unkeep(region, i);
	slot->read_only = false;
	if (slab->stuck)
		slot->claim = &claim_stuck;
	slab_drop_slot(slab, quarantined);

	/* At last: it may close, and give back its slabs. */
	if (other && other->publication && other->shared == 0)
		other->publication->settle(other->publication);
}
