/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reservation: the ranges of device address space that were reserved. Device addresses are host addresses. Each has a
 * table with an entry for each granule, so that an address is found in the time of a search among the reservations.
 *
 * Changed with vmm_lock and table_lock held, read with either.
 */
#pragma once

#include "kernels/soft/device.h"

struct mapping;

struct reservation {
	CUdeviceptr address;
	uint64_t bytes;
	uint64_t mappings;         /* how many are in it */
	struct mapping **granules; /* what is mapped at each; NULL: nothing */
};

/* The reservation the whole range lies in, or NULL. */
struct reservation *reservation_find(CUdeviceptr address, uint64_t bytes);
/* The table's entry for an address in the reservation. */
struct mapping **reservation_granule(const struct reservation *in, CUdeviceptr address);
struct reservation *reservation_nth(size_t n); /* NULL: there are not so many */
uint64_t reservations_live(void);
void reservations_reset(void); /* frees all, which nothing is mapped in; vmm_lock is held */
