/* SPDX-License-Identifier: Apache-2.0 */
/*
 * slot: the inside of a region, shared by the operations on it: region.c, claim.c,
 * mapping.c, commit.c, decommit.c.
 *
 * A slot of a region can be backed by one slab:
 *
 * 	slab  claim
 * 	 -     -	empty
 * 	 -     yes	being committed, no slab yet
 * 	 yes   yes	being committed or decommitted: nothing may start to use it
 * 	 yes   -	committed
 * 	 -   &claim_stuck	the device refused to unmap its slab: never usable again
 *
 * The loop thread changes slots; the control worker reads the slabs of slots that belong
 * to a claim or a closing region, while nothing changes them.
 */
#pragma once

#include "daemon/region/mapping.h"
#include "daemon/region/region.h"
#include "daemon/region/slab.h"

struct claim;

struct slot {
	struct slab *slab;
	const struct claim *claim;
	uint64_t users; /* by transfers */
};

struct region {
	struct list link;  /* in regions->all */
	struct list by_id; /* in regions->by_id while live */
	struct regions *regions;
	struct device *device;
	uint32_t id;
	uint64_t address_space, slab, committed;
	CUdeviceptr address;
	struct slot *slots;
	uint64_t slot_count;
	uint64_t users;  /* by transfers, of any slot */
	uint64_t claims; /* runs of operations, and the creation */
	bool gone, quarantined, closing;
	bool given_up; /* by its client: it waits only for uses and claims */
	region_done *done;
	void *arg;
	/* creating and closing */
	struct slot_run whole;
	struct mapping mapping;
	struct job job;
	CUresult result;
};

extern const struct claim claim_stuck;
