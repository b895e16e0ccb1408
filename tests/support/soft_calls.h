/* SPDX-License-Identifier: Apache-2.0 */
/*
 * soft_calls: the functions that the soft driver has beside those of a driver, found in its
 * library: see kernels/soft/soft.h.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "kernels/driver/driver.h"

struct hbm_soft_kernel;

struct soft_calls {
	int (*fail_nth)(const char *name, unsigned nth, CUresult result);
	int (*faults)(const char *list);
	uint64_t (*calls)(const char *name);
	uint64_t (*live)(const char *kind);
	int (*peek)(void *target, unsigned device, CUdeviceptr source, size_t bytes);
	int (*poke)(unsigned device, CUdeviceptr target, const void *source, size_t bytes);
	int (*gone)(unsigned device);
	void (*hold)(bool hold);
	int (*kernel)(const struct hbm_soft_kernel *kernel);
};

/* The address of a symbol of the driver's library; fails the test if there is none. */
void *soft_symbol(const struct driver *driver, const char *name);
struct soft_calls soft_calls_of(const struct driver *driver);
