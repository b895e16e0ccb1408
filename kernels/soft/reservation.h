/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reservation: reserved ranges of device address space. Each has a table with an entry for
 * each granule, so that finding an address takes only a search among the reservations.
 *
 * Device addresses are outside the process's address space, as with a real device: a host
 * access to one faults, and a system call fails. The bytes are SOFT_ADDRESSES below the
 * device address, where only the driver accesses them. That host range is reserved with
 * the device range, so both have the same layout.
 *
 * Changed with vmm_lock and table_lock held, read with either.
 */
#pragma once

#include "kernels/soft/device.h"

/* Above every user-space address, and not in the top byte, which some processors ignore. */
#define SOFT_ADDRESSES (1ull << 54)

struct mapping;

/* RESERVED: by cuMemAddressReserve, and mapped as its owner likes. The others have memory
 * throughout, which only the call that is their reverse takes away: see allocation.h. */
enum reservation_kind { RESERVED, ALLOCATED, OPENED };

struct reservation {
	CUdeviceptr address;
	uint64_t bytes;
	enum reservation_kind kind;
	uint64_t asked;            /* bytes, of one that is not RESERVED */
	uint64_t file;             /* the inode of its memory, of one that is OPENED */
	uint64_t mappings;         /* how many are in it */
	struct mapping **granules; /* what is mapped at each; NULL: nothing */
};

/* The host address of the byte at a device address. Access it only while memory is mapped
 * there and held. */
static inline void *reservation_place(CUdeviceptr address)
{
	return (void *)(uintptr_t)(address - SOFT_ADDRESSES);
}

/* The reservation that contains the whole range, or NULL. */
struct reservation *reservation_find(CUdeviceptr address, uint64_t bytes);
/* A new one; vmm_lock is held. */
CUresult reservation_make(uint64_t bytes, uint64_t alignment, CUdeviceptr hint,
			  enum reservation_kind kind, struct reservation **out);
/* Of one without mappings; vmm_lock is held. */
void reservation_unmake(struct reservation *reservation);
/* The table's entry for an address in the reservation. */
struct mapping **reservation_granule(const struct reservation *in, CUdeviceptr address);
struct reservation *reservation_nth(size_t n); /* NULL: there are not so many */
uint64_t reservations_live(enum reservation_kind kind);
void reservations_reset(void); /* frees all; nothing is mapped in them; vmm_lock is held */
