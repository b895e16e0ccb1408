/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/region/slot_recount.h"

#include "daemon/region/slot.h"

void slot_recount_add(struct slot_recount *recount, struct region *region)
{
	tally_push(&recount->regions, &region->by_device, &region->mark);
}

void slot_recount_remove(struct slot_recount *recount, struct region *region)
{
	if (recount->regions.next == &region->by_device)
		recount->passed = 0;
	tally_remove(&recount->regions, &region->by_device, region->mark, 0);
}

void slot_recount_begin(struct slot_recount *recount)
{
	tally_begin(&recount->regions);
	recount->passed = recount->backed = recount->lent = 0;
}

static void slot_recount_word(struct slot_recount *recount, const struct region *region)
{
	uint64_t bits = region->backed[recount->passed / SLOT_BITS];

	for (; bits != 0; bits &= bits - 1) {
		uint64_t i = recount->passed + (uint64_t)__builtin_ctzll(bits);

		*(region->slots[i].lent ? &recount->lent : &recount->backed) += region->slab;
	}

	recount->passed += SLOT_BITS;
}

bool slot_recount_some(struct slot_recount *recount, uint32_t max)
{
	for (; max > 0 && !tally_is_over(&recount->regions); max--) {
		struct region *region =
			container_of(recount->regions.next, struct region, by_device);

		if (recount->passed < region->slot_count) {
			slot_recount_word(recount, region);
			continue;
		}

		tally_pass(&recount->regions, &region->mark, 0);
		recount->passed = 0;
	}

	return !tally_is_over(&recount->regions);
}
