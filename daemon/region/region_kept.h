/* SPDX-License-Identifier: Apache-2.0 */
/*
 * region_kept: the records of regions, their slots and slabs that outlive the daemon (state.h),
 * and the descriptors of slabs, which are parked (parking.h). From them the next daemon makes
 * what its clients have mapped all along: region_restore.h.
 *
 * 	what		there from				until
 * 	region		its address space is reserved, or	it is freed
 * 			its client's memory is open
 * 	slab		its first slot is filled and mapped	its memory is free, or stuck
 * 	slot		it is mapped				it has lost its slab
 * 	reservation	the first of its session and device	the session has ended
 * 	publication	it has its slots			it is closed
 * 	device		there is a pool of it			the state is no more
 *
 * A record is there before a reply says so, and gone before a reply says that; what was under
 * way when the daemon was killed is settled with the client when it comes back. The word of a slab says whether it is released, and which session may
 * hold it then: its descriptor is parked no longer, as that would hold the memory itself.
 *
 * Of a guest region the descriptor that its client sent is parked, by the place of its record, or its
 * handle is in the record.
 *
 * Regions of publications are those of session 0. Memory that is neither is not kept: slabs
 * that are ready, and what is lent and no client has mapped. The HBM tier's is kept elsewhere:
 * daemon/tier/hbm_kept.h.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "daemon/state/parking.h"
#include "daemon/state/state.h"

#include <hbm/wire.h>

struct ledger;

/* Where it is kept; zeroed: nowhere. It outlives the pools. */
struct region_kept {
	struct state *state;
	struct parking *parking;
};

/* As many regions, slots and slabs as there may be: a request for more is refused. Those of slabs
 * are 512 GiB of the smallest ones. */
enum { KEPT_SLABS = 1 << 18, KEPT_SLOTS = 1 << 20, KEPT_MOST = 1 << 20 };
/* More than there are, for some that are taken out. */
enum { KEPT_DEVICES = 2 * (HBM_WIRE_DEVICES_MAX + 1) };
/* Of a region: what limits.address_space may be. */
#define KEPT_ADDRESS_SPACE (UINT64_C(64) << 40)

/* The shapes of its tables, for what the ledger lets in. */
void region_kept_shapes(const struct ledger *ledger, struct state_shape shapes[STATE_TABLES]);

/* ---- The bodies of records. A device is known by its UUID. ---- */

struct kept_region {
	uint64_t session;
	uint64_t address_space, slab;
	uint8_t uuid[16];
	uint32_t region;
	uint32_t attached;                     /* to the publication of that region; 0: to none */
	uint32_t guest;                        /* its kind; 0: it is none */
	uint32_t read_only;                    /* 1: as it is attached */
	uint8_t handle[HBM_WIRE_HANDLE_BYTES]; /* of a guest region by handle */
};

/* The word: 0, or KEPT_HELD and the session that may hold it, or 0. */
#define KEPT_HELD (UINT64_C(1) << 63)

struct kept_slab {
	uint64_t slab;
	uint64_t bytes;
	uint64_t session; /* that it was made for, or 0 */
	uint8_t uuid[16];
};

enum kept_slot_flag { KEPT_READ_ONLY = 1, KEPT_LENT = 2 };

struct kept_slot {
	uint64_t session;
	uint64_t slab;
	uint64_t slot;
	uint32_t region;
	uint32_t flags; /* kept_slot_flag */
};

/* The word: bytes. */
struct kept_reservation {
	uint64_t session;
	uint8_t uuid[16];
};

enum kept_publication_flag { KEPT_FOR_GROUP = 1, KEPT_WAS_FOR_GROUP = 2 };

/* The word: 1: it is withdrawn. */
struct kept_publication {
	uint32_t region;
	uint32_t uid, gid;
	uint32_t flags; /* kept_publication_flag */
	char name[HBM_WIRE_NAME_BYTES];
	char tenant[HBM_WIRE_NAME_BYTES]; /* "": of a user that none has */
};

/* The word: what processes but the daemon had of it when nothing of it was held (held.h), plus one;
 * 0: that was not measured. */
struct kept_device {
	uint8_t uuid[16];
};

/* ---- What is kept has a member for it: the index of its record, plus one; 0: none. ---- */

/* Adds a record, which the member then is of: HBM_OK, also where nothing is kept; HBM_LIMIT: there
 * is no room. kept may be NULL, as in the following. */
int region_kept_add(const struct region_kept *kept, enum state_table table, const void *body,
		    uint64_t word, uint32_t *member);
/* Parks the descriptor of a guest region that has a record: HBM_OK, or HBM_LIMIT. */
int region_kept_park_guest(const struct region_kept *kept, uint32_t member, int fd);
/* The descriptor that an earlier daemon has parked, the caller's; -1: there is none. */
int region_kept_claim_guest(const struct region_kept *kept, uint32_t member);
void region_kept_drop_guest(const struct region_kept *kept, uint32_t member);
/* Any thread, as long as no other changes the record. */
void region_kept_set(const struct region_kept *kept, enum state_table table, uint32_t member,
		     uint64_t word);
void region_kept_drop(const struct region_kept *kept, enum state_table table, uint32_t *member);
/* Of a record that is there; 0 without. */
uint64_t region_kept_word(const struct region_kept *kept, enum state_table table, uint32_t member);
/* The record of that device, which may be new; where there is no room it has none. */
void region_kept_find_device(const struct region_kept *kept, const struct kept_device *device,
			     uint32_t *member);
/* A number that is higher with each daemon that has the state; 0: nothing is kept. */
uint64_t region_kept_starts(const struct region_kept *kept);
/* No region is given a number up to that one again. */
void region_kept_number(const struct region_kept *kept, uint32_t region);
