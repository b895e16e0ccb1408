/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mapping: one job for a device's control worker: maps, or unmaps, the slabs of stretches
 * of slots in the daemon's address space. The only place that calls cuMemMap and
 * cuMemUnmap for regions.
 *
 * Mapping is all or none: on failure nothing of it is mapped and no fd is left. Unmapping
 * always ends; a slab the device refuses to unmap is marked stuck.
 */
#pragma once

#include "daemon/device/device.h"

struct region;

/* Consecutive slots of one region. */
struct stretch {
	struct region *region;
	uint64_t first, count;
	uint64_t at; /* of its first slot among all slots of the operation */
};

struct mapping {
	/* the caller's */
	struct device *device;
	uint64_t slab; /* only regions with such slabs; 0: with any */
	const struct stretch *stretches;
	size_t stretch_count;
	/* map: one for each slot of the operation, -1 before and where nothing was
	 * exported */
	int *fds;
	void (*done)(struct mapping *mapping); /* loop thread */
	/* the outcome */
	CUresult result;
	const char *call; /* that failed */
	bool lacks_fds;   /* it failed for want of descriptors */
	struct job job;
};

void mapping_map(struct mapping *mapping);
void mapping_unmap(struct mapping *mapping); /* empty slots are skipped */
