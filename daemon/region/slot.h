/* SPDX-License-Identifier: Apache-2.0 */
/*
 * slot: the inside of a region, shared by the operations on it: region.c, create.c,
 * claim.c, mapping.c, commit.c, decommit.c.
 *
 * A slot of a region can be backed by one slab, which other slots may have, too:
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

#include "daemon/base/list.h"
#include "daemon/device/device.h"
#include "daemon/ledger/ledger.h"
#include "daemon/region/guest.h"

#include <sys/types.h>

struct borrower;
struct claim;
struct publication;
struct region;
struct regions;
struct slab;

struct slot {
	struct slab *slab;
	const struct claim *claim;
	uint32_t kept;       /* region_kept.h */
	uint32_t users : 29; /* by transfers */
	bool read_only : 1;  /* nothing is loaded into it */
	bool lent : 1;       /* its slab is, to the session (loan.h) */
	bool told : 1;       /* its client has told of it (reconcile.h) */
};

_Static_assert(sizeof(struct slot) <= 24, "there is one for each 2 MiB of address space");

/* Consecutive slots of one region. */
struct slot_run {
	struct region *region;
	uint64_t first, count;
	uint64_t at; /* of its first slot among all slots of the operation */
};

struct mapping {
	/* the caller's */
	struct device *device;
	uint64_t slab; /* only regions with such slabs; 0: with any */
	const struct slot_run *runs;
	size_t run_count;
	/* map: one for each slot of the operation, -1 before and where nothing was
	 * exported; NULL: nothing is to be */
	int *fds;
	void (*done)(struct mapping *mapping); /* loop thread */
	/* the outcome */
	CUresult result;
	const char *call; /* that failed */
	bool lacks_fds;   /* it failed because descriptors ran out */
	size_t run;       /* how far it has come: the module's, as are the following */
	uint64_t slot;    /* of that run */
	struct job job;
};

struct region {
	struct list link;      /* in regions->all */
	struct list by_device; /* among the device's that are counted again (slot_recount.h) */
	uint32_t mark;         /* there */
	struct list by_id;     /* in regions->by_id while live */
	struct regions *regions;
	struct device *device;
	uint32_t id;
	uint32_t kept;    /* region_kept.h */
	uint64_t session; /* the same */
	uint64_t address_space, slab, committed;
	uint64_t shared;           /* bytes of slots whose slab other slots have, too */
	uint64_t lent;             /* bytes of slots whose slab is lent */
	uint64_t *leased;          /* of its session's regions, or of all publications */
	struct borrower *borrower; /* its session's */
	struct charge count_charge, address_charge;
	CUdeviceptr address;
	struct slot *slots;
	uint64_t *backed; /* a bit for each slot: whether it has a slab */
	uint64_t slot_count;
	uint64_t users;  /* by transfers, of any slot */
	uint64_t claims; /* runs of operations, and the creation */
	bool gone, quarantined, closing;
	bool given_up; /* by its client: only uses and claims to wait for */
	bool told;     /* its client has told of it (reconcile.h) */
	void (*done)(void *arg, int status, struct region *region);
	void *arg;
	/* creating and closing */
	struct slot_run whole;
	struct mapping mapping;
	struct job job;
	CUresult result;
	struct guest guest; /* a guest region's; it has one slot, which is never backed */
	struct reason why;  /* while it is imported: where the refusal goes */
	/* attached to that one, whose slabs back it; NULL: ordinary ones do */
	struct publication *attached;
	bool attached_read_only;
	struct publication *publication; /* whose region it is; NULL: a session's */
};

/* What is published (publication.h), and what its slots and attached regions tell it. */
struct publication {
	struct list link;
	char name[HBM_WIRE_NAME_BYTES];
	bool withdrawn;
	bool for_group; /* members of `gid` may attach, too, to read */
	gid_t gid;
	bool was_for_group; /* it is or was: who attached it then may have it still */
	uint32_t kept;      /* region_kept.h */
	struct user *user;
	struct region *region; /* its own */
	uint64_t attached;     /* regions */
	struct charge count_charge, bytes_charge;
	struct regions *last;   /* of a connected session: it gave slots back last; or NULL */
	struct list by_regions; /* in last->gave_back */
	/* A session has given back a slot that has one of its slabs. */
	void (*given_back)(struct publication *publication, struct regions *regions);
	/* A region is attached no longer, or none of its slabs is in another slot: it may close. */
	void (*settle)(struct publication *publication);
};

extern const struct claim claim_stuck;

/* A region without address space or memory, in the list of its session's, and charged to no
 * one. The address space is that of slabs. NULL: no memory. */
struct region *region_new(struct regions *regions, struct device *device, uint64_t address_space,
			  uint64_t slab);
/* Writes its record (region_kept.h), which is there until it is freed: HBM_OK, HBM_LIMIT. */
int region_write(struct region *region);
/* Frees a region that has no memory and no address space, or none any more. */
void region_discard(struct region *region);

#define SLOT_BITS 64 /* in a word of region->backed */

/* An empty slot gets a slab that was requested, with its reference, or a reference to one
 * that other slots have. */
void slot_fill(struct region *region, uint64_t i, struct slab *slab);
void slot_share(struct region *region, uint64_t i, struct slab *slab, bool read_only);
/* The same with a slab that is lent to the session, which is not charged for it. */
void slot_borrow(struct region *region, uint64_t i, struct slab *slab);
/* The slot, which has that slab or is about to, and the slab outlive the daemon from now on
 * (region_kept.h): HBM_OK, HBM_LIMIT. The descriptor is of the slab; -1: slab_keep(). */
int slot_keep(struct region *region, uint64_t i, struct slab *slab, int fd);
void slot_unkeep(struct region *region, uint64_t i);
/* A slot whose slab is no longer mapped there loses it and its reference. One whose slab
 * could not be unmapped is stuck. */
void slot_empty(struct region *region, uint64_t i, bool quarantined);

/* The first slot from that one on that has a slab; region->slot_count: none. A region may
 * have half a million of slots, in memory that is not there before they are looked at. */
static inline uint64_t slot_next_backed(const struct region *region, uint64_t from)
{
	while (from < region->slot_count) {
		uint64_t bits = region->backed[from / SLOT_BITS] >> from % SLOT_BITS;
		if (bits != 0)
			return from + (uint64_t)__builtin_ctzll(bits);

		from += SLOT_BITS - from % SLOT_BITS;
	}

	return region->slot_count;
}
