/* SPDX-License-Identifier: Apache-2.0 */
/*
 * host: host memory registered with the driver: ranges that do not overlap, compared by
 * pages, as pinning goes by pages. Nothing is pinned. What a registration allows is what
 * its flags say; work holds the registration it uses.
 *
 * A device sees registered memory at an alias, SOFT_ALIASES above the host's address, and
 * nowhere else: as on a device that cannot use the host's pointers.
 */
#pragma once

#include "kernels/soft/device.h"

/* Above every user-space address, and below the addresses of device memory. */
#define SOFT_ALIASES (1ull << 53)

/* Whether a device address is one of host memory, registered or not. */
static inline bool host_is_alias(CUdeviceptr address)
{
	return address >= SOFT_ALIASES && address < 2 * SOFT_ALIASES;
}

/* The host address of an alias. */
static inline uint64_t host_of_alias(CUdeviceptr alias)
{
	return alias - SOFT_ALIASES;
}

/*
 * Holds host memory for asynchronous work of a device.
 * CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED: not inside one registration, or one of another
 * context that is not portable; CUDA_ERROR_ILLEGAL_ADDRESS: registered read-only and to
 * be written. table_lock is held.
 */
CUresult host_hold(uint64_t address, uint64_t bytes, const struct device *device, bool write);
/* The same by alias; the registration must also be mapped into the device. */
CUresult host_hold_alias(CUdeviceptr alias, uint64_t bytes, const struct device *device,
			 bool write);
void host_drop(uint64_t address);  /* the host's address, of what was held; table_lock is held */
uint64_t host_registrations(void); /* vmm_lock is held */
void host_reset(void);             /* forgets all; vmm_lock is held, nothing is held by work */
