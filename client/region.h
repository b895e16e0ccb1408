/* SPDX-License-Identifier: Apache-2.0 */
/*
 * region: a contiguous range of device addresses, reserved in this process and by the
 * daemon, and divided into slabs.
 *
 * A slab is empty -> asked (a commit is in flight) -> placed (mapped, without access yet, or
 * a share is in flight) -> mapped -> empty. Within one call, a slab that is being validated is marked. If the
 * device refuses to unmap a slab, it keeps its state. A guest region's memory is the
 * caller's; nothing is reserved or mapped for it. A host region has no device, and is mapped by
 * the system's calls. Ranges are in bytes and aligned to
 * slabs, and hbm_ranges_check() has accepted them.
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
	uint32_t commits;          /* in flight, and shares of which it is a target */
	bool read_only;            /* attached so: its slabs are mapped without write access */
	bool guest;                /* the caller's memory: one slab, which is never unmapped here */
	bool host;                 /* of host memory, without a device (host.h) */
	struct list registrations; /* register.c's */
	uint8_t slabs[];           /* enum slab_state */
};

/* A region without addresses and without slabs, of no connection's list. NULL: no memory. */
struct hbm_region *hbm_region_new(struct hbm *hbm, uint32_t device, uint64_t address_space,
				  uint64_t slab);
bool hbm_region_slab_is_valid(uint64_t slab);
/* hbm_use_device(), unless it is host memory, for which there is none to use. */
int hbm_region_device_usable(struct hbm *hbm, uint32_t device);
/* Before ranges are given back: waits for the answers to SHAREs of which they are sources, where
 * the session outlives the daemon (share.c). */
void hbm_shares_await(struct hbm *hbm, const struct hbm_range *ranges, size_t count);
/* False: gpu.failed_call failed. */
bool hbm_region_reserve(struct hbm_region *region);

/* Checks that all ranges are in regions of this connection. 0, or HBM_INVALID or HBM_LIMIT
 * with an error line. */
int hbm_ranges_check(struct hbm *hbm, const struct hbm_range *ranges, size_t count);
/* Turns every slab of the ranges from one state into another, all or none. 0;
 * HBM_INVALID: a slab appears twice; `refusal`: one was in another state. */
int hbm_ranges_turn(struct hbm *hbm, const struct hbm_range *ranges, size_t count,
		    enum slab_state from, enum slab_state to, int refusal);

/* Ends what hbm_region_register() has registered and overlaps that range, before any of it is unmapped
 * (register.c). False: the driver refused, gpu.failed_call says so, and it is not to be unmapped. */
bool hbm_registrations_end(struct hbm_region *region, uint64_t offset, uint64_t bytes);
/* Makes the context of the region's device current; of a host region, does nothing. False: it
 * failed; do not call hbm_region_leave(). */
bool hbm_region_enter(struct hbm_region *region);
void hbm_region_leave(struct hbm_region *region);
/* Device calls; the region has been entered. False: gpu.failed_call failed. */
bool hbm_region_place(struct hbm_region *region, uint64_t offset, int fd);
/* The same with memory that is imported already; the handle stays the caller's. */
bool hbm_region_place_handle(struct hbm_region *region, uint64_t offset,
			     CUmemGenericAllocationHandle handle);
/* Maps the slab at an offset of the source, which is mapped there, at another too. */
bool hbm_region_place_again(struct hbm_region *region, uint64_t offset,
			    const struct hbm_region *source, uint64_t source_offset);
bool hbm_region_open(struct hbm_region *region, uint64_t offset, uint64_t bytes, bool read_only);
bool hbm_region_unmap(struct hbm_region *region, uint64_t offset, uint64_t bytes);
/* Unmaps the placed slabs of a commit's range, and leaves all its slabs `asked`:
 * SLAB_ASKED or SLAB_EMPTY. */
void hbm_region_unplace(struct hbm_region *region, uint64_t offset, uint64_t bytes,
			enum slab_state asked);
