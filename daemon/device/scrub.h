/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scrub: overwrites new device memory with zeros before a client gets it, where the driver does
 * not (device.scrub). The daemon hands no slab to another client that one has had: it is released,
 * and what comes in its place is new from the driver, which clears what it gives out unless its
 * host has that turned off. So this is a part of creating a slab, on the thread that does that,
 * mostly ahead of need.
 */
#pragma once

#include "daemon/device/device.h"

/* Maps memory of that many bytes, the whole of a handle, for as long as it takes; on a thread where
 * the device's context is current. Returns a CUresult; on failure the memory is not to be used. */
CUresult scrub_memory(const struct device *device, CUmemGenericAllocationHandle handle,
		      uint64_t bytes);
