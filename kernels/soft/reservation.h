/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reservation: the ranges of device address space that were reserved. Each has a table
 * with an entry for each granule, so that an address is found in the time of a search
 * among the reservations.
 *
 * Device addresses are as far from any memory of the process as on a real device: what
 * the host touches there, itself or by a system call, is a fault. The bytes are at
 * another place, SOFT_ADDRESSES below, where only the driver looks; that place is
 * reserved with the range, so it can be computed, and a range without holes is one
 * without holes there.
 *
 * Changed with vmm_lock and table_lock held, read with either.
 */
#pragma once

#include "kernels/soft/device.h"

/* Above all that a process can have, and not in the top byte, which some processors
 * ignore. */
#define SOFT_ADDRESSES (1ull << 54)

struct mapping;

struct reservation {
	CUdeviceptr address;
	uint64_t bytes;
	uint64_t mappings;         /* how many are in it */
	struct mapping **granules; /* what is mapped at each; NULL: nothing */
};

/* Where the byte at a device address is for the driver; to be touched only where memory
 * is mapped and held. */
static inline void *reservation_place(CUdeviceptr address)
{
	return (void *)(uintptr_t)(address - SOFT_ADDRESSES);
}

/* The reservation the whole range lies in, or NULL. */
struct reservation *reservation_find(CUdeviceptr address, uint64_t bytes);
/* The table's entry for an address in the reservation. */
struct mapping **reservation_granule(const struct reservation *in, CUdeviceptr address);
struct reservation *reservation_nth(size_t n); /* NULL: there are not so many */
uint64_t reservations_live(void);
void reservations_reset(void); /* frees all, which nothing is mapped in; vmm_lock is held */
