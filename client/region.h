/* SPDX-License-Identifier: Apache-2.0 */
/*
 * region: a range of device addresses reserved here and known to the daemon, cut into
 * slabs.
 *
 * A slab is empty -> asked (a commit of it is under way) -> placed (its memory is mapped
 * but not accessible yet) -> mapped -> empty. Marked is a slab being validated, within
 * one call. A slab whose unmapping the device refused stays what it was. Ranges here are
 * in bytes and aligned to slabs; hbm_ranges_check() has seen them.
 */
#pragma once

#include "client/connection.h"

enum slab_state { SLAB_EMPTY, SLAB_ASKED, SLAB_PLACED, SLAB_MAPPED, SLAB_MARKED };

struct hbm_region {
	struct list link; /* in hbm->regions */
	struct hbm *hbm;
	uint32_t id, device;
	uint64_t address_space, slab;
	CUdeviceptr address;
	uint32_t commits; /* under way */
	uint8_t slabs[];  /* enum slab_state */
};

/* Whether all ranges are ranges of regions of this connection: 0, or HBM_INVALID or
 * HBM_LIMIT with an error line. */
int hbm_ranges_check(struct hbm *hbm, const struct hbm_range *ranges, size_t count);
/* Turns every slab of the ranges from one state into another, all or none: 0; HBM_INVALID
 * when a slab appears twice; `refusal` when one was in another state. */
int hbm_ranges_turn(struct hbm *hbm, const struct hbm_range *ranges, size_t count,
		    enum slab_state from, enum slab_state to, int refusal);

/* Device calls; the region's context is current. False: gpu.failed_call says why. */
bool hbm_region_place(struct hbm_region *region, uint64_t offset, int fd);
bool hbm_region_open(struct hbm_region *region, uint64_t offset, uint64_t bytes);
bool hbm_region_unmap(struct hbm_region *region, uint64_t offset, uint64_t bytes);
/* Unmaps the placed slabs of a commit's range, and leaves all its slabs `asked`:
 * SLAB_ASKED or SLAB_EMPTY. */
void hbm_region_unplace(struct hbm_region *region, uint64_t offset, uint64_t bytes,
			enum slab_state asked);
