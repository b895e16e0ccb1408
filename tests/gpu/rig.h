/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rig: the device a program of this folder looks at: the first one of the driver that
 * HBM_TEST_DRIVER names ("cuda", or "soft", which is also what is taken where nothing is
 * named), its primary context, current in the calling thread, and a stream. And slabs on
 * it, as hbmd makes them and its clients map them.
 *
 * Nothing here judges: results are handed up.
 */
#pragma once

#include "kernels/driver/driver.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MIB (1ull << 20)
#define GIB (1ull << 30)

struct rig {
	struct driver *driver;
	CUdevice device;
	CUcontext context;
	CUstream stream;
};

struct slab_map {
	CUmemGenericAllocationHandle handle; /* held as long as the mapping */
	CUdeviceptr address;                 /* 0: not mapped */
	size_t bytes;
};

/* Loads the driver and enters the context. False: error says what was missing. */
bool rig_open(struct rig *rig, char *error, size_t error_size);
void rig_close(struct rig *rig);
/* The same in two steps: without a context, as a process that only makes and hands out
 * memory. */
bool rig_load(struct rig *rig, char *error, size_t error_size);
CUresult rig_enter(struct rig *rig);
bool rig_is_soft(const struct rig *rig);
CUmemAllocationProp rig_prop(const struct rig *rig);

CUresult rig_create(const struct rig *rig, size_t bytes, CUmemGenericAllocationHandle *handle);
/* Reserves an address, maps the handle there, and opens it to this device. On failure
 * nothing stays. */
CUresult rig_map(const struct rig *rig, CUmemGenericAllocationHandle handle, size_t bytes,
		 CUmemAccess_flags access, CUdeviceptr *address);
void rig_unmap(const struct rig *rig, CUdeviceptr address, size_t bytes);
/* A new slab, mapped for reading and writing. */
CUresult rig_slab(const struct rig *rig, size_t bytes, struct slab_map *slab);
/* Gives both mapping and handle back; takes a slab that has neither. */
void rig_drop(const struct rig *rig, struct slab_map *slab);

/* Writes words made from the seed and their positions; compares. */
CUresult rig_fill(const struct rig *rig, CUdeviceptr address, size_t bytes, uint64_t seed);
CUresult rig_compare(const struct rig *rig, CUdeviceptr address, size_t bytes, uint64_t seed,
		     bool *same);
void pattern_fill(void *bytes, size_t size, uint64_t seed);
bool pattern_holds(const void *bytes, size_t size, uint64_t seed);
