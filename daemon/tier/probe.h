/* SPDX-License-Identifier: Apache-2.0 */
/*
 * probe: how fast NVMe is read and how fast a device copies from host memory, measured
 * once at startup, so that the time of a load can be estimated before the first one. Each
 * call blocks for some milliseconds and belongs on a worker thread, or before serving
 * starts. It allocates no device memory and is not counted as traffic.
 *
 * What cannot be measured fails no start: 0 is returned, and the first transfers on that
 * link meet the same problem.
 */
#pragma once

#include "kernels/driver/driver.h"

#include <stdint.h>

struct device;

/* Bytes per second of reading a file at `offset`, by at most `bytes` bytes; 0: unknown.
 * offset and bytes are multiples of 4 KiB. */
double probe_nvme(int fd, uint64_t offset, uint64_t bytes);
/* Bytes per second of copying from registered host memory to `target`, device memory of
 * `bytes` bytes that no one writes meanwhile and that stay as they are, in the current context; 0:
 * unknown. A failed call is counted and logged as any other of the device. */
double probe_device(struct device *device, CUdeviceptr target, uint64_t bytes);
