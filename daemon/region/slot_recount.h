/* SPDX-License-Identifier: Apache-2.0 */
/*
 * slot_recount: counts again, slot by slot, what the regions of a device have backed: in steps,
 * while slots get and lose slabs and regions come and go. What has been passed and changes is
 * counted anew, so that the sums are those of all slots whenever nothing is left to be passed.
 */
#pragma once

#include "daemon/region/slot_tally.h"

struct region;

void slot_recount_add(struct slot_recount *recount, struct region *region);
void slot_recount_remove(struct slot_recount *recount, struct region *region);
void slot_recount_begin(struct slot_recount *recount);
/* Over at most so many words of SLOT_BITS slots, and regions. False: nothing is left. */
bool slot_recount_some(struct slot_recount *recount, uint32_t max);
