/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lease: regions, what was promised to a session. A region has a device, a reserve
 * (address space, also reserved in the daemon so that it can copy from and to the region)
 * and, slab by slab, backing. Committing and decommitting arrays is all or none, also
 * across regions and devices (commit.h, decommit.h).
 *
 * A region in use by a transfer (region_use) keeps its daemon-side mapping until the last
 * hold is put, even after the client has destroyed it or died. A dead client's slabs are
 * quarantined until its process is gone.
 *
 * States of a region: being created (not to be found yet) -> live -> gone (destroyed, or
 * its session ended: not to be found any more) -> closing, once nothing uses it and, if
 * it was not its client that gave it up, its process is gone -> freed, its memory back in
 * the pool.
 */
#pragma once

#include "daemon/base/list.h"
#include "daemon/device/device.h"

#include <hbm/wire.h>

struct region;
struct session;

#define REGION_BUCKETS 32

/* What a session holds: embedded in struct session. */
struct regions {
	struct list all;
	uint64_t count, reserved; /* charged against [limits] */
	uint32_t last_id;
	struct list by_id[REGION_BUCKETS]; /* the live ones */
	struct list waiting;               /* struct region_wait */
	bool ended;                        /* the session is dead */
	bool released;                     /* what it held need not be quarantined (any more) */
	void (*emptied)(
		struct regions *regions); /* after the last region was freed; may free the leases */
};

void regions_init(struct regions *regions);
struct region *region_find(const struct regions *regions, uint32_t id);
struct device *region_device(const struct region *region);
/* Where the session has its memory: the device of its oldest region; NULL: it has none. */
struct device *regions_device(const struct regions *regions);

/* The daemon's address of [offset, offset + bytes) if all of it is committed: HBM_OK,
 * HBM_NOT_FOUND, HBM_INVALID. */
int region_address(const struct region *region, uint64_t offset, uint64_t bytes,
		   CUdeviceptr *address);
/* A use of such a range, until it is put again: a decommit of any of its slabs waits, of
 * others does not. */
void region_use(struct region *region, uint64_t offset, uint64_t bytes);
void region_unuse(struct region *region, uint64_t offset, uint64_t bytes);

/* ---- For the server. ---- */

struct region_limits {
	uint64_t regions, address_space;
};

/* How a creation or destruction ended; region is NULL where there is none (any more). */
typedef void region_done(void *arg, int status, struct region *region);

/* Reserves address space for a region: HBM_OK and done() will be called on the loop
 * thread, or a refusal. slab 0: the device's default. */
int region_create(struct regions *regions, struct device *device, uint64_t address_space,
		  uint64_t slab, const struct region_limits *limits, region_done *done, void *arg);
/* The region cannot be found from now on; done() when its memory is given back. HBM_OK,
 * HBM_NOT_FOUND. */
int region_destroy(struct regions *regions, uint32_t id, region_done *done, void *arg);
uint32_t region_id(const struct region *region);
uint64_t region_address_space(const struct region *region);
uint64_t region_slab(const struct region *region);
uint64_t regions_committed(const struct regions *regions); /* bytes of all its regions */
bool regions_record(const struct regions *regions, size_t nth, struct hbm_wire_region *record);

/* The session is dead: every region is gone, every slab quarantined. */
void regions_end(struct regions *regions);
/* Its process is gone, or the daemon stops: nothing need be quarantined. */
void regions_release(struct regions *regions);

/* Something that waits until regions are no longer held; retry() is called whenever one
 * no longer is. */
struct region_wait {
	struct list link;
	void (*retry)(struct region_wait *wait);
};
/* Goes on with what waited for a hold, an operation or a process to end. */
void regions_advance(struct regions *regions);
