/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mapping: whole backings mapped into reservations, with the access each device has to
 * them. Work that is queued or in flight holds the mappings it touches: they cannot be
 * unmapped or lose access meanwhile.
 */
#pragma once

#include "kernels/soft/device.h"

/*
 * Holds [address, address + bytes) for work of a device. CUDA_ERROR_INVALID_VALUE: not
 * mapped throughout; CUDA_ERROR_ILLEGAL_ADDRESS: mapped, but not with the access wanted.
 * table_lock is held.
 */
CUresult mapping_hold_range(CUdeviceptr address, uint64_t bytes, const struct device *device,
			    CUmemAccess_flags wanted);
void mapping_drop_range(CUdeviceptr address,
			uint64_t bytes); /* of what was held; table_lock is held */

struct backing;
struct reservation;
/* Maps a backing at an address of a reservation that has room there; vmm_lock is held. */
CUresult mapping_make(struct reservation *in, CUdeviceptr address, struct backing *backing);
/* Grants a device all access to a range of whole mappings. */
void mapping_allow(CUdeviceptr address, uint64_t bytes, unsigned device);
/* Unmaps a range of whole mappings. CUDA_ERROR_ILLEGAL_STATE: work uses it. vmm_lock is
 * held. */
CUresult mapping_unmake(CUdeviceptr address, uint64_t bytes);
struct backing *mapping_backing(CUdeviceptr address); /* NULL: nothing is mapped there */
/* The range of the mapping at an address, in *base and *bytes; vmm_lock is held. */
bool mapping_range_of(CUdeviceptr address, CUdeviceptr *base, uint64_t *bytes);
uint64_t mappings_live(void); /* vmm_lock is held */
/* Forgets all, leaving their pages to reservations_reset(); vmm_lock is held, nothing is
 * held by work. */
void mappings_reset(void);
