/* SPDX-License-Identifier: Apache-2.0 */
/*
 * soft_device: what the tests of the soft driver share: an open driver with a current
 * context, and a device range with memory in it. Closing checks that nothing of the soft
 * driver's is left, and nothing of the process's.
 */
#pragma once

#include "kernels/driver/driver.h"
#include "kernels/soft/soft.h"
#include "tests/support/leaks.h"
#include "tests/support/soft_calls.h"

#define MIB (1ull << 20)
#define GRANULE (2 * MIB)

struct soft_device {
	struct leaks leaks;
	struct driver *driver;
	CUcontext context; /* of device 0, current */
	struct soft_calls call;
};

/* Opens the driver and finds its own functions; makes no context. */
void soft_open(struct soft_device *soft, const struct driver_soft_options *options);
void soft_close(struct soft_device *soft);
void soft_assert_only_contexts(const struct soft_device *soft);

/* cmocka's setup and teardown: two devices of 64 MiB, the first one's context current. */
int soft_setup(void **state);
int soft_teardown(void **state);

CUmemAllocationProp soft_prop(int device);
CUresult soft_access(const struct driver *driver, CUdeviceptr address, size_t bytes, int device,
		     CUmemAccess_flags flags);
/* A reservation with memory of a device throughout, accessible by it; to be freed with
 * soft_memory_free(). */
CUdeviceptr soft_memory(const struct driver *driver, int device, size_t bytes);
void soft_memory_free(const struct driver *driver, CUdeviceptr address, size_t bytes);
/* Registered host memory, of whole pages and shared with children; to be freed with
 * soft_host_free(). */
void *soft_host(const struct driver *driver, size_t bytes, unsigned flags);
void soft_host_free(const struct driver *driver, void *memory, size_t bytes);
/* Where a device sees registered host memory, given its start. */
CUdeviceptr soft_alias(const struct driver *driver, void *memory);
CUstream soft_stream(const struct driver *driver);
