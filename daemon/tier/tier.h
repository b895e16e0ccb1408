/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tier: HBM of a device, DDR of the host, or NVMe. A tier is a capacity cut into extents,
 * with two separate views of it:
 *
 *   the policy's  the blocks whose target this is (cache.c); never more than `usable` bytes
 *   placement     the blocks whose bytes are here now (block.c); never more than usable +
 *                 headroom bytes
 *
 * The policy decides at once; placement follows. The headroom comes on top of the
 * capacity and lets a new block arrive before an old one has left. The staging buffer,
 * host memory that bytes pass through between NVMe and a device, is a tier of this kind
 * too, but never a block's target.
 *
 * A tier may keep copies: extents of blocks that have moved to a tier above (block.h). They
 * have room of their own, on top of capacity and headroom, and none that another wants: an
 * allocation that finds no free extent takes the oldest copies'. So they change nothing of
 * what the tier holds for the policy.
 *
 * tier_ops hide how bytes get into an extent and out of it: tier_hbm.c, tier_ddr.c and
 * tier_nvme.c implement them. Other modules use a tier's kind only to show it, and to
 * tell memory from the rest.
 *
 * A request for an extent that finds none free waits here. Requests take turns between
 * those who pay for them, by bytes (fair_queue.h): one client's many stores or large loads
 * do not hold a tier or all of staging. The one whose turn it is waits for as much as it
 * needs, and none passes it but a small one of the same payer.
 *
 * A tier may begin with extents that have bytes of the daemon before. They are claimed first: on a
 * disk one by one, and until all are, none is allocated, and nothing of the tier is usable; in
 * memory as the tier grows.
 *
 * A block may move within a tier. Where the tier has records on a disk (left_extents.h), the extent
 * that it leaves is free when these say so.
 *
 * A tier whose I/O has no answer is silent: nothing is moved to it or read from it until
 * it answers; what it holds stays. Extents that an I/O without an answer uses are held:
 * they cannot be freed before it ends.
 */
#pragma once

#include "daemon/base/fair_queue.h"
#include "daemon/base/numa.h"
#include "daemon/tier/bad_extents.h"
#include "daemon/tier/extent.h"
#include "daemon/tier/failed_extents.h"
#include "daemon/tier/late_extents.h"
#include "daemon/tier/left_extents.h"
#include "daemon/tier/wipes.h"
#include "kernels/driver/driver.h"

#include <hbm/wire.h>

/* 0 is staging; then one HBM tier per device, DDR, NVMe, and one more */
#define TIER_NUMBERS (HBM_WIRE_DEVICES_MAX + 4)

struct device;
struct hbm_memory;
struct span;
struct step;
struct tier;

/* A place is an extent of the tier that starts at `unit`. Each of these calls makes one
 * step, which completes later, never from within the call (step.h). */
struct tier_ops {
	/* The host address of a place, for CPUs and copy engines. NULL: the tier has
	 * none, and its bytes pass through the staging buffer. */
	char *(*host)(const struct tier *tier, uint32_t unit);

	/* Copies the bytes of a place into step->host, and the reverse. NULL if the tier
	 * has host(). */
	void (*read)(const struct tier *tier, uint32_t unit, struct step *step);
	void (*write)(const struct tier *tier, uint32_t unit, struct step *step);
	/* Starts the reads and writes that are queued. NULL: nothing is queued. */
	void (*flush)(const struct tier *tier);
	/* Sets the function to call after the completions of one I/O (NULL: none). NULL:
	 * only a device completes steps. */
	void (*on_batch)(const struct tier *tier, void (*batch_done)(void *arg), void *arg);

	/* Whether a place and the memory of a device are one copy apart, without host
	 * memory. If so, copies spans of that memory, in order, into a place, and the
	 * reverse. NULL: never. */
	bool (*reaches)(const struct tier *tier, const struct device *device);
	void (*gather)(const struct tier *tier, uint32_t unit, struct step *step,
		       const struct span *spans, uint32_t span_count);
	void (*scatter)(const struct tier *tier, uint32_t unit, struct step *step,
			const struct span *spans, uint32_t span_count);
};

extern const struct tier_ops tier_hbm_ops, tier_ddr_ops, tier_nvme_ops;

/* Host memory of several NUMA nodes: the first part is of numa's node 0, and so on. */
struct tier_part {
	uint64_t begin; /* offset in the tier */
	uint64_t bytes; /* usable so far */
	uint64_t used;  /* of them, in extents */
};

struct tier {
	const struct tier_ops *ops;
	enum hbm_tier kind; /* to show; HBM_TIER_NONE: staging */
	uint8_t number;
	uint32_t device_index;
	struct device *device; /* whose memory this is; NULL: no device */
	struct tier *below;    /* where evicted blocks go; NULL: away */
	struct extent_pool *extents;
	struct tier_part parts[NUMA_NODES_MAX];
	uint32_t part_count; /* 0: all is alike */
	uint64_t divided;    /* bytes of addresses of all parts */
	uint64_t capacity, headroom;
	uint64_t copies_max; /* bytes of copies at most; on top of both */
	uint64_t usable;     /* usable bytes of the capacity */
	bool lost;           /* what was here cannot be read any more */
	bool silent;         /* set by silence.c */
	bool claiming;       /* until tier_end_claims() */
	bool dirty;          /* what is not claimed is to be overwritten before it is free */

	/* Called with bytes that have become usable, before an extent of them is allocated. NULL:
	 * no one claims any. */
	void (*grown)(void *arg, const struct tier *tier, uint64_t from, uint64_t bytes);
	void *grown_arg;

	/* where the bytes are, for ops */
	CUdeviceptr base;          /* HBM */
	char *host;                /* DDR, staging */
	void *io;                  /* NVMe: its struct nvme_io */
	struct hbm_memory *memory; /* HBM: behind it */

	/* the policy's view: blocks whose target this is (block.c); bytes are stored
	 * bytes */
	uint64_t blocks, bytes, logical_bytes;

	/* placement */
	uint64_t placed,
		/* bytes of extents with a stored block; of those a transfer uses */
		moving,
		/* of moving: of I/Os that a silent tier does not answer */
		held,
		/* of moving: of blocks on their way to a disk (io_share.h) */
		leaving,
		/* of extents that are not used again, or not before late copies are over */
		failed,
		/* of extents that are copies */
		copies;
	/* Frees the extent of the oldest copy; while there are copies. NULL: it keeps none. */
	void (*reclaim)(void *arg);
	void *reclaim_arg;
	struct failed_extents out; /* of failed: where they are */
	struct bad_extents bad;
	struct late_extents late;
	struct wipes wipes; /* of moving: extents that are to be overwritten, and that are now */
	struct left_extents left; /* of moving: what blocks have left for others of this tier */
	uint32_t inbound_first, inbound_last; /* target here, bytes elsewhere */
	struct fair_queue waiting;            /* struct extent_request */

	uint64_t in_blocks, in_bytes, out_blocks, out_bytes;
	uint64_t reused_blocks, reused_bytes; /* of in: they had a copy here */
};

struct extent_request {
	struct fair_item turn;
	uint64_t bytes;
	const struct device *near; /* where the extent is best; NULL: anywhere */
	void (*granted)(struct extent_request *wait, uint32_t unit);
};

/* Makes an empty tier without capacity: tier_grow adds it. The caller sets ops and the
 * location of the bytes. */
int tier_init(struct tier *tier, enum hbm_tier kind, uint8_t number, uint64_t capacity,
	      uint64_t headroom, uint64_t max_blocks);
void tier_clear(struct tier *tier);
/* Divides a tier of host memory into parts that no extent crosses, which begin at these
 * offsets, the first at 0. Before tier_grow(). */
void tier_divide(struct tier *tier, const uint64_t *begins, uint32_t count);
/* Makes [from, from + bytes) usable. Fills the headroom, then the capacity, then the room
 * for copies. */
int tier_grow(struct tier *tier, uint64_t from, uint64_t bytes);

/* The share of the extents' capacity that is in service: after a change of it, or of capacity. */
void tier_set_usable(struct tier *tier);

/* Of a tier that is claiming, or from within its grown(): allocates those bytes, counted as moving,
 * as so many extents that touch; 0: they are more of one. They are of one part. False: they are
 * not all free, or not all usable so far. */
bool tier_claim(struct tier *tier, uint32_t unit, uint64_t bytes, uint32_t extents);
/* Of one that is dirty, too: claims what is between these units, to be overwritten. */
void tier_wipe_gap(struct tier *tier, uint64_t from, uint64_t to);
void tier_end_claims(struct tier *tier);

/* Allocates an extent, counted as moving. Returns its unit, or UINT32_MAX if none is free
 * or others wait already. */
uint32_t tier_alloc(struct tier *tier, uint64_t bytes);
/* The same in the part that is near the device, if there is room; without a device in the
 * part that is used least. */
uint32_t tier_alloc_near(struct tier *tier, uint64_t bytes, const struct device *near);
/* Allocates an extent now or later: granted() may be called from within. */
void tier_request(struct tier *tier, struct extent_request *wait, struct fair_payer payer);
/* One that waits becomes another payer's. */
void tier_hasten(struct tier *tier, struct extent_request *wait, struct fair_payer payer);
/* The request whose turn it is, among those that wait; NULL: none. The second takes it out,
 * for a caller that refuses it. */
struct extent_request *tier_waiting(struct tier *tier);
struct extent_request *tier_take_waiting(struct tier *tier);
void tier_free(struct tier *tier, uint32_t unit, uint64_t bytes); /* frees a moving extent */
/* Frees it once its bytes have been overwritten (daemon/move/wiper.h): until then it is moving. */
void tier_wipe(struct tier *tier, uint32_t unit, uint64_t bytes, struct fair_payer payer);
/* Whether extents of no block have bytes that are still to be overwritten. */
bool tier_has_wiped(const struct tier *tier);
/* A block has left the extent for another of the tier: frees it, or has it overwritten, when no
 * record names it any more (left_extents.h). */
void tier_leave(struct tier *tier, const struct left_extent *extent);
/* No record names the first `count` of those any more. The second: it may be that the blocks are
 * nowhere else, and all of them are not used again. */
void tier_free_left(struct tier *tier, uint32_t count);
void tier_fail_left(struct tier *tier);
/* Whether some of it will be free although nothing moves. */
static inline bool tier_will_free_left(const struct tier *tier)
{
	return tier->left.count > 0 && !tier->left.failing;
}
/* Frees the end of a moving extent. */
void tier_shrink(struct tier *tier, uint32_t unit, uint64_t bytes, uint64_t kept);
/* A write into a moving extent has failed: it is not used again. */
void tier_fail(struct tier *tier, uint32_t unit, uint64_t bytes);
/* A read of an extent has failed. After the second time it is not used again: tier_free()
 * does not free it. */
void tier_read_failed(struct tier *tier, uint32_t unit);
/* A copy of that device from or to an extent in memory may go on: tier_free() does not free it
 * before it is known to be over. */
void tier_keep(struct tier *tier, uint32_t unit, struct device *device);
/* Frees what was not freed for that and can be now. The caller serves who waits. */
void tier_free_late(struct tier *tier);
/* Whether so much has failed that the rest is not to be trusted. */
bool tier_has_failed(const struct tier *tier);
void tier_place(struct tier *tier, uint64_t bytes);   /* moving -> placed */
void tier_unplace(struct tier *tier, uint64_t bytes); /* placed -> moving */
/* Keeps a moving extent as a copy, for which the oldest ones may go: moving -> copies. False:
 * it is too large, and still moving. */
bool tier_keep_copy(struct tier *tier, uint64_t bytes);
void tier_release_copy(struct tier *tier, uint64_t bytes); /* copies -> moving */
/* Frees copies until one of the free extents is so large: some, so that it does not take
 * long. False: there are none. */
bool tier_reclaim(struct tier *tier, uint64_t bytes);
/* Serves the waiting requests that fit. The mover calls it when extents may have become
 * free. */
void tier_serve(struct tier *tier);

/* Whether a place is in host memory, or one copy away from the memory of that device. */
bool tier_reaches(const struct tier *tier, const struct device *device);

/* Whether what it holds is gone with the power. */
static inline bool tier_is_memory(const struct tier *tier)
{
	return tier->kind == HBM_TIER_HBM || tier->kind == HBM_TIER_DDR;
}

static inline char *tier_host(const struct tier *tier, uint32_t unit)
{
	return tier->ops->host ? tier->ops->host(tier, unit) : NULL;
}
/* Which part of a divided tier a host address is in; -1: none, or it is not divided. */
int tier_part_of(const struct tier *tier, const char *host);
/* How large an extent may be at most, once all of it is usable. */
uint64_t tier_largest_part(const struct tier *tier);
/* Whether its reads and writes wait for a disk. */
static inline bool tier_has_io(const struct tier *tier)
{
	return tier->ops->flush;
}
static inline uint64_t tier_offset(uint32_t unit)
{
	return (uint64_t)unit * EXTENT_UNIT;
}
const char *tier_name(enum hbm_tier kind); /* "hbm", "ddr", "nvme", "staging" */
