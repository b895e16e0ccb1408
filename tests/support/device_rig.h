/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device_rig: what the tests of device code share: the soft device with memory, a copy of
 * that memory on the host, on which a test does with plain C what it has a kernel do, and
 * the comparison of every byte of the two: whatever a kernel writes beside its target is
 * found.
 */
#pragma once

#include "kernels/device/kernels.h"
#include "tests/support/seed.h"
#include "tests/support/soft_device.h"

#define DEVICE_RIG_BYTES GRANULE

struct device_rig {
	struct soft_device *soft;
	const struct driver *driver;
	struct kernels kernels;
	CUstream stream;
	CUdeviceptr memory;   /* DEVICE_RIG_BYTES */
	unsigned char *image; /* what should be there */
	struct seed seed;
};

/* Between soft_setup() and soft_teardown(). Memory and image are filled with the same
 * random bytes. */
void device_rig_open(struct device_rig *rig, void *soft);
void device_rig_close(struct device_rig *rig);
/* Makes the memory what the image is. */
void device_rig_put(struct device_rig *rig);
/* Waits for the stream, and fails the test where memory and image differ. */
void device_rig_check(struct device_rig *rig);
/* Waits for the stream, and copies bytes at `at` of the memory into the image. */
void device_rig_get(struct device_rig *rig, uint64_t at, uint64_t bytes);
