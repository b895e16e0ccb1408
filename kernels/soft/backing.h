/* SPDX-License-Identifier: Apache-2.0 */
/*
 * backing: physical device memory, a memfd behind each VMM handle. It lives while it is
 * referred to (created, imported, retained: references, dropped by cuMemRelease) or
 * mapped; its handle is good only while it is referred to.
 *
 * Memory made here is charged to its device until nobody has it any more: not this
 * process, and for exported memory not any other, by fd or by mapping. That is how the
 * real driver behaves, and it is found out by asking for a lease on the file, which is
 * refused while somebody else has it open. Memory imported is not charged: its maker does
 * that.
 *
 * All functions: vmm_lock is held.
 */
#pragma once

#include "kernels/soft/device.h"

struct backing {
	uint64_t name; /* the handle */
	struct device *device;
	uint64_t bytes;
	int fd;
	uint32_t references, mappings;
	bool charged, shareable, exported;
};

struct backing *
backing_find(CUmemGenericAllocationHandle handle); /* NULL: not, or no longer, a handle */
void backing_hold(struct backing *backing);        /* by a mapping */
void backing_drop(struct backing *backing);        /* by a mapping; the backing may be gone after */
/* Makes a backing of a model that has its device, bytes, fd and nature, referred to once;
 * *handle names it. */
CUresult backing_new(const struct backing *model, CUmemGenericAllocationHandle *handle);
/* Uncharges memory that no process has any longer. */
void lingerers_sweep(void);
uint64_t backings_live(void);
/* Closes all; only when nothing is mapped. */
void backings_reset(void);
