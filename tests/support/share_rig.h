/* SPDX-License-Identifier: Apache-2.0 */
/*
 * share_rig: slots of region_rig's regions that share slabs: the calls made blocking, and what the
 * daemon says and reads of them.
 */
#pragma once

#include "daemon/region/slab.h"
#include "tests/support/region_rig.h"

/* `count` slots of the source from `first` on, at the target's from `to` on. */
struct hbm_wire_share share_rig_range(const struct region *source, uint64_t first,
				      const struct region *target, uint64_t to, uint64_t count);
/* Shares them, and waits for it: the status. */
int share_rig_share(struct region_rig *rig, const struct hbm_wire_share *shares, uint32_t count);
int share_rig_slots(struct region_rig *rig, const struct region *source, uint64_t first,
		    const struct region *target, uint64_t to, uint64_t count);
/* The first byte of a slot, where the daemon has it mapped. */
void share_rig_put(const struct region *region, uint64_t slot, char byte);
char share_rig_get(const struct region *region, uint64_t slot);
/* The books of device 0, which are checked. */
struct slabs_books share_rig_books(struct region_rig *rig);
/* How many bytes the region shares, by its record. */
uint64_t share_rig_shared(struct region_rig *rig, const struct region *region);
/* For pool_run(), of the pool: nothing is being made ahead any more, or released. */
bool share_rig_is_ready(void *pool);
