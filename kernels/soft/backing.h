/* SPDX-License-Identifier: Apache-2.0 */
/*
 * backing: physical device memory, a memfd for each VMM handle. It lives while it has
 * references (from create, import and retain; cuMemRelease drops one) or mappings. Its
 * handle is valid only while it has references.
 *
 * Memory created here is charged to its device until it is freed: until this process, and
 * for exported memory every process, has closed and unmapped it. The real driver behaves
 * so: the kernel refuses a file lease while another process has the file open, which shows
 * whether one has. Imported memory is not charged here but in the process that created it; on a
 * card that this process has inherited (card.h), what an earlier one has created counts beside
 * what is charged. On a shared card nothing is charged: all memory that there is counts.
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
	bool rdma; /* created for GPUDirect RDMA; an import does not know */
};

struct backing *backing_find(CUmemGenericAllocationHandle handle); /* NULL: no such handle */
void backing_hold(struct backing *backing);                        /* by a mapping */
void backing_drop(struct backing *backing); /* by a mapping; may free the backing */
/* Creates a backing with one reference from the device, bytes, fd and nature of `model`;
 * *handle names it. */
CUresult backing_new(const struct backing *model, CUmemGenericAllocationHandle *handle);
/* The same, with new memory, charged to the device. */
CUresult backing_create(struct backing *model, CUmemGenericAllocationHandle *handle);
void backing_release(struct backing *backing); /* a reference; may free the backing */
/* Makes the file one whose other users can be told: see share.h. -errno. */
int backing_make_countable(struct backing *backing);
/* What is free of a device. */
uint64_t backing_free_bytes(struct device *device);
/* The memory that a context takes: for the first one who retains it, and the last to release
 * it. */
CUresult backing_charge_context(struct device *device);
void backing_discharge_context(struct device *device);
/* Uncharges memory that no process holds. */
void lingerers_sweep(void);
uint64_t backings_live(void);
/* Closes all; only when nothing is mapped. */
void backings_reset(void);
