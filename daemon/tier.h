/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tier: one of the places a block can be: the HBM of a device, the host's DDR, the NVMe. A tier is a capacity cut into
 * extents, and two views of it that are kept apart:
 *
 *	the policy's	which blocks belong here, in order of use (cache.c); never more than `online` bytes
 *	placement	which blocks' bytes are here now (mover.c); never more than online + reserve bytes
 *
 * The policy decides at once; placement follows. The reserve, which is on top of the capacity, is what lets a new block
 * arrive before an old one has left. The host memory that blocks pass through between NVMe and a device is a tier of
 * this kind too, to which no block ever belongs ("staging").
 *
 * A slot is an extent of a tier. Whoever needs one and finds none waits here, in order.
 */
#pragma once

#include "daemon/extent.h"
#include "daemon/list.h"
#include "kernels/driver.h"

#include <hbm/wire.h>

#define TIER_NUMBERS (HBM_WIRE_DEVICES_MAX + 4) /* 0 none, then one HBM tier a device, DDR, NVMe, staging */

struct device;

struct tier {
	enum hbm_tier kind; /* HBM_TIER_NONE: staging */
	uint8_t number;
	uint32_t device_index;
	struct device *device; /* HBM only */
	struct tier *below;    /* where what is pushed out goes; NULL: away */
	struct extent_pool *extents;
	uint64_t capacity, reserve;
	uint64_t online; /* of capacity, usable by now */

	/* where the bytes are */
	CUdeviceptr base; /* HBM */
	char *host;       /* DDR, staging */

	/* the policy's view: blocks whose target this is (block.c); bytes are stored bytes */
	uint64_t blocks, bytes, logical_bytes, pinned;

	/* placement */
	uint64_t placed,
		moving; /* bytes of slots that hold a stored block; that are the source or target of something */
	uint32_t inbound_first, inbound_last; /* blocks that belong here and are not here */
	struct list waiting;                  /* struct slot_wait */

	uint64_t in_blocks, in_bytes, out_blocks, out_bytes;
};

struct slot_wait {
	struct list link;
	uint64_t bytes;
	void (*granted)(struct slot_wait *wait, uint32_t unit);
};

/* An empty tier without space: tier_grow adds it. */
int tier_init(struct tier *tier, enum hbm_tier kind, uint8_t number, uint64_t capacity, uint64_t reserve,
	      uint64_t max_blocks);
void tier_clear(struct tier *tier);
/* [from, from + bytes) is usable from now on. The reserve is filled before the capacity is. */
int tier_grow(struct tier *tier, uint64_t from, uint64_t bytes);

/* A slot, counted as moving: its unit, or UINT32_MAX when there is none free or others wait already. */
uint32_t tier_take(struct tier *tier, uint64_t bytes);
/* Takes a slot now or later: granted() may be called from within. */
void tier_wait(struct tier *tier, struct slot_wait *wait);
void tier_give(struct tier *tier, uint32_t unit, uint64_t bytes); /* a moving slot becomes free */
void tier_place(struct tier *tier, uint64_t bytes);               /* moving -> placed */
void tier_unplace(struct tier *tier, uint64_t bytes);             /* placed -> moving */
/* Grants what can be granted to those who wait. Called by the mover when slots may have become free. */
void tier_serve(struct tier *tier);

static inline uint64_t tier_offset(uint32_t unit)
{
	return (uint64_t)unit * EXTENT_UNIT;
}
const char *tier_name(enum hbm_tier kind); /* "hbm", "ddr", "nvme", "staging" */
