/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tier: one of the places a block can be: the HBM of a device, the host's DDR, the NVMe.
 * A tier is a capacity cut into extents, and two views of it that are kept apart:
 *
 * 	the policy's	which blocks belong here, in order of use (cache.c); never more than `online` bytes
 * 	placement	which blocks' bytes are here now (mover.c); never more than online + reserve bytes
 *
 * The policy decides at once; placement follows. The reserve, which is on top of the
 * capacity, is what lets a new block arrive before an old one has left. The staging
 * buffer, host memory that bytes pass through between NVMe and a device, is a tier of
 * this kind too, to which no block ever belongs.
 *
 * How bytes get into an extent and out of it is behind tier_ops: tier_hbm.c, tier_ddr.c
 * and tier_nvme.c implement them. Nobody else asks what kind of tier one is, but to show
 * it.
 *
 * A slot is an extent of a tier. Whoever needs one and finds none waits here, in order.
 */
#pragma once

#include "daemon/base/list.h"
#include "daemon/tier/extent.h"
#include "kernels/driver/driver.h"

#include <hbm/wire.h>

/* 0 staging; one HBM tier a device, DDR, NVMe, and one more */
#define TIER_NUMBERS (HBM_WIRE_DEVICES_MAX + 4)

struct device;
struct span;
struct step;
struct tier;

/* A place is an extent of the tier that begins at `unit`. A step is made by exactly one
 * of these calls and is done later, never from within (step.h). */
struct tier_ops {
	/* Where the processor and the copy engines reach a place in host memory. NULL:
	 * they do not, and bytes that come from there or go there pass through the
	 * staging buffer. */
	char *(*host)(const struct tier *tier, uint32_t unit);

	/* The bytes of a place into step->host, and the reverse. NULL where there is a
	 * host(). */
	void (*read)(const struct tier *tier, uint32_t unit, struct step *step);
	void (*write)(const struct tier *tier, uint32_t unit, struct step *step);
	/* Starts what reads and writes have queued. NULL: nothing is queued. */
	void (*flush)(const struct tier *tier);
	/* What to call after the completions of one I/O (NULL: nothing). NULL: there are
	 * none but a device's. */
	void (*on_batch)(const struct tier *tier, void (*batch_done)(void *arg), void *arg);

	/* Whether a place and the memory of a device are one copy apart that passes no
	 * host memory; if so, from spans of that memory, in order, into a place, and the
	 * reverse. NULL: never. */
	bool (*reaches)(const struct tier *tier, const struct device *device);
	void (*gather)(const struct tier *tier, uint32_t unit, struct step *step,
		       const struct span *spans, uint32_t span_count);
	void (*scatter)(const struct tier *tier, uint32_t unit, struct step *step,
			const struct span *spans, uint32_t span_count);
};

extern const struct tier_ops tier_hbm_ops, tier_ddr_ops, tier_nvme_ops;

struct tier {
	const struct tier_ops *ops;
	enum hbm_tier kind; /* to show; HBM_TIER_NONE: staging */
	uint8_t number;
	uint32_t device_index;
	struct device *device; /* whose memory this is; NULL: no device's */
	struct tier *below;    /* where what is pushed out goes; NULL: away */
	struct extent_pool *extents;
	uint64_t capacity, headroom;
	uint64_t usable; /* of capacity, usable by now */

	/* where the bytes are, for ops */
	CUdeviceptr base; /* HBM */
	char *host;       /* DDR, staging */
	void *io;         /* NVMe: its struct nvme_io */

	/* the policy's view: blocks whose target this is (block.c); bytes are stored
	 * bytes */
	uint64_t blocks, bytes, logical_bytes, pinned;

	/* placement */
	uint64_t placed,
		/* bytes of slots that hold a stored block; that are the source or
		 * target of something */
		moving;
	uint32_t inbound_first, inbound_last; /* blocks that belong here and are not here */
	struct list waiting;                  /* struct extent_request */

	uint64_t in_blocks, in_bytes, out_blocks, out_bytes;
};

struct extent_request {
	struct list link;
	uint64_t bytes;
	void (*granted)(struct extent_request *wait, uint32_t unit);
};

/* An empty tier without space: tier_grow adds it. The caller sets ops and where the bytes
 * are. */
int tier_init(struct tier *tier, enum hbm_tier kind, uint8_t number, uint64_t capacity,
	      uint64_t headroom, uint64_t max_blocks);
void tier_clear(struct tier *tier);
/* [from, from + bytes) is usable from now on. The reserve is filled before the capacity
 * is. */
int tier_grow(struct tier *tier, uint64_t from, uint64_t bytes);

/* A slot, counted as moving: its unit, or UINT32_MAX when there is none free or others
 * wait already. */
uint32_t tier_alloc(struct tier *tier, uint64_t bytes);
/* Takes a slot now or later: granted() may be called from within. */
void tier_request(struct tier *tier, struct extent_request *wait);
void tier_free(struct tier *tier, uint32_t unit, uint64_t bytes); /* a moving slot becomes free */
void tier_place(struct tier *tier, uint64_t bytes);               /* moving -> placed */
void tier_unplace(struct tier *tier, uint64_t bytes);             /* placed -> moving */
/* Grants what can be granted to those who wait. Called by the mover when slots may have
 * become free. */
void tier_serve(struct tier *tier);

/* Whether a place is in host memory, or one copy from the memory of that device. */
bool tier_reaches(const struct tier *tier, const struct device *device);

static inline char *tier_host(const struct tier *tier, uint32_t unit)
{
	return tier->ops->host ? tier->ops->host(tier, unit) : NULL;
}
static inline uint64_t tier_offset(uint32_t unit)
{
	return (uint64_t)unit * EXTENT_UNIT;
}
const char *tier_name(enum hbm_tier kind); /* "hbm", "ddr", "nvme", "staging" */
