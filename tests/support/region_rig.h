/* SPDX-License-Identifier: Apache-2.0 */
/*
 * region_rig: the regions of one client on soft_pool's devices, without a session, and the
 * calls of regions made blocking. The teardown checks that the pools hold all memory again
 * and the devices nothing.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "daemon/ledger/ledger.h"
#include "daemon/region/region.h"
#include "tests/support/soft_pool.h"

#define REGION_RIG_BUDGET (32 * MIB) /* of each device */
#define REGION_RIG_LARGE (256 * MIB)
#define SLAB (2 * MIB)

struct region_rig {
	struct soft_pool pool;
	struct regions regions;
	struct ledger ledger;
	struct payer payer;
	bool emptied;
};

struct region_outcome {
	bool over;
	int status;
	struct region *region;
};

/* cmocka's setup and teardown: no region yet; at most 4, of 256 MiB in all. */
int region_rig_setup(void **state);
int region_rig_setup_large(void **state); /* with REGION_RIG_LARGE, none made ahead */
int region_rig_teardown(void **state);
/* Begins again after regions_end(). */
void region_rig_open(struct region_rig *rig);
/* Waits until the last region is gone, and checks that nothing is left of any. */
void region_rig_assert_all_back(struct region_rig *rig);
/* Runs the loop until the control worker of device 0 has done all it was told so far. */
void region_rig_settle(struct region_rig *rig);
bool region_rig_is_empty(void *rig); /* for pool_run() */

/* For calls that the test does not make blocking: what they call, and for pool_run() whether
 * they did; arg is a struct region_outcome. */
void region_rig_region_over(void *arg, int status, struct region *region);
void region_rig_op_over(void *arg, int status);
bool region_rig_is_over(void *arg);

int region_rig_create(struct region_rig *rig, uint32_t device, uint64_t address_space,
		      uint64_t slab, struct region **out);
/* The same; fails the test if there is no region. */
struct region *region_rig_make(struct region_rig *rig, uint32_t device, uint64_t address_space,
			       uint64_t slab);
int region_rig_destroy(struct region_rig *rig, const struct region *region);
/* Commits and counts the fds that come with it, closing them. */
int region_rig_commit(struct region_rig *rig, const struct hbm_wire_range *ranges, uint32_t count);
int region_rig_decommit(struct region_rig *rig, const struct hbm_wire_range *ranges,
			uint32_t count);
/* `count` slabs from the region's `first` on. */
struct hbm_wire_range region_rig_range(const struct region *region, uint64_t first, uint64_t count);
int region_rig_commit_slots(struct region_rig *rig, const struct region *region, uint64_t first,
			    uint64_t count);
int region_rig_decommit_slots(struct region_rig *rig, const struct region *region, uint64_t first,
			      uint64_t count);
/* What region_address() returns. */
int region_rig_address(const struct region *region, uint64_t offset, uint64_t bytes);
