/* SPDX-License-Identifier: Apache-2.0 */
/*
 * host: host memory registered with the driver: ranges that do not overlap, compared by pages, as pinning goes by
 * pages. Nothing is pinned. What a registration allows is what its flags say; work holds the registration it uses.
 */
#pragma once

#include "kernels/soft/device.h"

/*
 * Holds host memory for asynchronous work of a device. CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED: not inside one
 * registration, or one of another context that is not portable; CUDA_ERROR_ILLEGAL_ADDRESS: registered read-only and to
 * be written. table_lock is held.
 */
CUresult host_hold(uint64_t address, uint64_t bytes, const struct device *device, bool write);
/* The same for a device address of host memory: besides, the registration is mapped into the device. */
CUresult host_hold_mapped(uint64_t address, uint64_t bytes, const struct device *device, bool write);
void host_drop(uint64_t address); /* of what was held; table_lock is held */
/* Whether the address is in a registration; table_lock is held. */
bool host_is_registered(uint64_t address);
uint64_t host_registrations(void); /* vmm_lock is held */
void host_reset(void);             /* forgets all; vmm_lock is held, nothing is held by work */
