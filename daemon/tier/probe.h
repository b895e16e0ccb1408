/* SPDX-License-Identifier: Apache-2.0 */
/*
 * probe: how fast NVMe is read and how fast a device copies from host memory, measured
 * once at startup, so that the time of a load can be estimated before the first one. Each
 * call blocks for some milliseconds and belongs on a worker thread, or before serving
 * starts. It uses memory of its own and is not counted as traffic.
 *
 * What cannot be measured is not an error: 0 is returned, and the first transfers on that
 * link meet the same problem and report it.
 */
#pragma once

#include <stdint.h>

struct device;

/* Bytes per second of reading a file at `offset`, by at most `bytes` bytes; 0: unknown.
 * offset and bytes are multiples of 4 KiB. */
double probe_nvme(int fd, uint64_t offset, uint64_t bytes);
/* Bytes per second of copying from host memory, registered with the device, to the device;
 * 0: unknown. Makes the device's context current. */
double probe_device(struct device *device, const void *host, uint64_t bytes);
