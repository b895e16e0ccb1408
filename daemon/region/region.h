/* SPDX-License-Identifier: Apache-2.0 */
/*
 * region: the address ranges of a session. A region has a device, address space (also
 * reserved in the daemon, so that it can copy to and from the region) and, slab by slab,
 * backing. Committing and decommitting arrays is all or none, also across regions and
 * devices (commit.h, decommit.h).
 *
 * A region that a transfer uses (region_use) keeps its daemon-side mapping until the last
 * use ends, even after the client has destroyed it or died. A dead client's slabs are
 * quarantined until its process is gone, and so long it is charged for what it gave back
 * and still holds (held.h).
 *
 * A guest region's memory is its client's (guest.h): one slot as large as the region,
 * without a slab. Transfers use it like any other; it is closed as soon as its client has
 * destroyed it or died and nothing uses it, without waiting for the process, which could
 * write to no memory but its own.
 *
 * States of a region: being created or imported (cannot be found yet) -> live -> gone
 * (destroyed, or its session ended: cannot be found) -> closing, once nothing uses it
 * and, unless its client destroyed it, the process is gone -> freed, its memory back in
 * the pool.
 */
#pragma once

#include "daemon/base/list.h"
#include "daemon/device/device.h"
#include "daemon/ledger/ledger.h"
#include "daemon/region/held.h"
#include "daemon/region/loan.h"

#include <hbm/wire.h>

struct guest;
struct promise;
struct publication;
struct reason;
struct region;
struct session;

#define REGION_BUCKETS 32

/* A session's regions: embedded in struct session. The payer is charged for them, and
 * bounds what one commit may ask for. */
struct regions {
	struct list all;
	struct device *device; /* of the first that is of device memory, also when it is gone */
	struct payer *payer;
	struct holder holder; /* of what it gave back and still holds */
	struct borrower borrower;
	struct list promises; /* struct promise: what it has reserved, one of a device */
	struct user *user; /* that pays for their memory, and outlives them; NULL: no user does */
	uint32_t last_id;
	struct list by_id[REGION_BUCKETS]; /* the live ones */
	struct list waiting;               /* struct region_wait */
	struct list gave_back; /* struct publication: of which it gave slots back last */
	uint64_t leased;       /* bytes of their slabs, each once, but for published ones */
	bool ended;            /* the session is dead */
	bool released;         /* its slabs need no quarantine */
	/* after the last region was freed and nothing is held any more; may free this */
	void (*emptied)(struct regions *regions);
};

void regions_init(struct regions *regions, struct payer *payer);
/* Whether it has no region and no loan, and its client holds nothing of what it gave back. */
bool regions_is_empty(const struct regions *regions);
struct region *region_find(const struct regions *regions, uint32_t id);
struct device *region_device(const struct region *region);
/* The device of the first region of device memory that the session has made; NULL: it has made none. */
struct device *regions_device(const struct regions *regions);

/* Finds the daemon's address of [offset, offset + bytes) if all of it is committed:
 * HBM_OK, HBM_NOT_FOUND, HBM_INVALID. */
int region_address(const struct region *region, uint64_t offset, uint64_t bytes,
		   CUdeviceptr *address);
/* Whether it has a part that nothing may be loaded into. */
bool region_is_read_only(const struct region *region, uint64_t offset, uint64_t bytes);
/* Starts a use of such a range; region_unuse ends it. A decommit waits for the uses of
 * its own slabs only. */
void region_use(struct region *region, uint64_t offset, uint64_t bytes);
/* A copy of its device may go on in such a range (late_use.c): it stays in use until that is
 * known to be over. If it never will be, the slabs of the range, or all of a guest region, are
 * not unmapped, and never used again. To be called while the range is in use. */
void region_keep(struct region *region, uint64_t offset, uint64_t bytes);
void region_unuse(struct region *region, uint64_t offset, uint64_t bytes);

/* The slabs of a committed range, if it is whole slabs: how many; 0: it is not, or has more than
 * `room`. */
struct slab;
uint32_t region_slabs(const struct region *region, uint64_t offset, uint64_t bytes,
		      struct slab **slabs, uint32_t room);

/* ---- For the server. ---- */

/* The end of a creation or destruction; region is NULL if there is none. */
typedef void region_done(void *arg, int status, struct region *region);

/* Reserves address space for a region: HBM_OK, and done() will be called on the loop
 * thread; or a refusal. slab 0: the device's default. */
int region_create(struct regions *regions, struct device *device, uint64_t address_space,
		  uint64_t slab, region_done *done, void *arg);
/* Opens memory of the client as a guest region. `guest` has its kind, the descriptor or
 * handle, and bytes; the descriptor is borrowed until done(). HBM_OK, and done() will be
 * called on the loop thread, a refusal having its reason in *why, which stays valid until
 * then; or a refusal at once: HBM_LIMIT and HBM_NO_SPACE without a reason. */
int region_import(struct regions *regions, struct device *device, const struct guest *guest,
		  const struct reason *why, region_done *done, void *arg);
bool region_is_guest(const struct region *region);
/* Reserves address space for a region that is attached to a publication: as region_create(),
 * and the publication stays until the region is gone. */
int region_attach(struct regions *regions, struct publication *publication, bool read_only,
		  region_done *done, void *arg);
/* How many of a device's are attached. */
uint64_t regions_attached(const struct regions *regions, const struct device *device);
/* From now on the region cannot be found; done() is called when its memory is freed.
 * HBM_OK, HBM_NOT_FOUND. */
int region_destroy(struct regions *regions, uint32_t id, region_done *done, void *arg);
uint32_t region_id(const struct region *region);
uint64_t region_address_space(const struct region *region);
uint64_t region_slab(const struct region *region);
uint64_t regions_reserved(const struct regions *regions); /* their address space, bytes */
/* Bytes, each slab once; published ones are not its. */
uint64_t regions_committed(const struct regions *regions);
/* Bytes of the slots of a device that have a slab that is not lent, each slot once: counted
 * again. */
uint64_t regions_backed(const struct regions *regions, const struct device *device);
/* What the session has reserved of a device, to be changed by slabs_reserve(); made when it is
 * first asked for. NULL: no memory. */
struct promise *regions_promise(struct regions *regions, struct device *device);
/* Bytes that it has reserved, those of them that are outstanding, and those that are left
 * (promise.h): the sums over all devices. */
struct regions_promised {
	uint64_t reserved, outstanding, left;
};
struct regions_promised regions_promised(const struct regions *regions);
void region_record(const struct region *region, struct hbm_wire_region *record);
/* Fills in at most `room` records, from the region of id `from` on, or the next that there
 * is. Returns how many; *next is the id of the first that had no room, or 0. */
uint32_t regions_records(const struct regions *regions, uint32_t from,
			 struct hbm_wire_region *records, uint32_t room, uint32_t *next);

/* The session is dead: all its regions are gone, all their slabs quarantined. */
void regions_end(struct regions *regions);
/* The process is gone, or the daemon stops: ends the quarantine, and what is held is no longer
 * charged. */
void regions_release(struct regions *regions);

/* Waits until regions are no longer in use; retry() is called each time one becomes
 * unused. */
struct region_wait {
	struct list link;
	void (*retry)(struct region_wait *wait);
};
/* Retries what waited for a use, an operation or a process to end. */
void regions_advance(struct regions *regions);
