/* SPDX-License-Identifier: Apache-2.0 */
/*
 * host_device: host memory as a device (host_driver.h), so that regions may be of it. It has a
 * control thread, and copy queues to and from other host memory; no context, no HBM tier and
 * nothing that is lent. It is in no list of devices: devices_get() finds it by its number,
 * HBM_WIRE_DEVICE_HOST.
 */
#pragma once

#include "daemon/device/device.h"

/* With so many bytes for regions, without slabs and queues yet. -ENOMEM, or what
 * pthread_create() says. */
int host_device_open(struct devices *devices, uint64_t bytes, struct loop *loop);
/* Accepts devices without one. */
void host_device_close(struct devices *devices);
