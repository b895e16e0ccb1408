/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mapping: a job for a device's control worker: maps, or unmaps, the slabs of runs of
 * slots in the daemon's address space. Only this module calls cuMemMap and cuMemUnmap for
 * regions.
 *
 * Mapping is all or none: on failure none of it stays mapped and no fd stays open.
 * Unmapping always completes; a slab the device refuses to unmap is marked stuck.
 */
#pragma once

#include "daemon/device/device.h"

struct region;

/* Consecutive slots of one region. */
struct slot_run {
	struct region *region;
	uint64_t first, count;
	uint64_t at; /* index of its first slot among all slots of the operation */
};

struct mapping {
	/* the caller's */
	struct device *device;
	uint64_t slab; /* only regions with slabs of this size; 0: of any size */
	const struct slot_run *runs;
	size_t stretch_count;
	/* map: one fd per slot of the operation; -1 at first, and where nothing was
	 * exported */
	int *fds;
	void (*done)(struct mapping *mapping); /* loop thread */
	/* the outcome */
	CUresult result;
	const char *call; /* the call that failed */
	bool lacks_fds;   /* it failed because the process is out of descriptors */
	struct job job;
};

void mapping_map(struct mapping *mapping);
void mapping_unmap(struct mapping *mapping); /* empty slots are skipped */
