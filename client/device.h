/* SPDX-License-Identifier: Apache-2.0 */
/* device: which of the daemon's devices a connection may use in this process. */
#pragma once

#include <stdint.h>

struct hbm;

/* Loads the driver if this connection may use one, and checks that this process sees the
 * daemon's device. 0, HBM_INVALID (no such device), HBM_UNSUPPORTED, HBM_DEVICE, -ENODEV
 * (not visible), or another negative errno. */
int hbm_use_device(struct hbm *hbm, uint32_t device);
