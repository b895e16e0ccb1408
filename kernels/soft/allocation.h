/* SPDX-License-Identifier: Apache-2.0 */
/*
 * allocation: memory that has an address from the start: of cuMemAlloc, or of another
 * process's cuMemAlloc, opened by the handle of cuIpcGetMemHandle (ipc.c). Either is a
 * reservation of its own with one mapping, which only its device has access to, and which
 * the calls for virtual memory refuse. It belongs to a context.
 *
 * All functions: vmm_lock is held.
 */
#pragma once

#include "kernels/soft/backing.h"
#include "kernels/soft/reservation.h"

/* Gives a backing, whose only reference passes to the allocation, an address. On failure
 * the reference is dropped. */
CUresult allocation_make(enum reservation_kind kind, struct backing *backing,
			 struct reservation **out);
/* Frees the allocation of a kind that begins at the address. CUDA_ERROR_INVALID_VALUE:
 * there is none; CUDA_ERROR_ILLEGAL_STATE: work uses it. */
CUresult allocation_unmake(enum reservation_kind kind, CUdeviceptr address);
/* The device of the current context, or its fault. */
CUresult allocation_device(struct device **out);
uint64_t allocations_live(void);
