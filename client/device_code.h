/* SPDX-License-Identifier: Apache-2.0 */
/* device_code: how the library's calls launch kernels on a stream of the caller. */
#pragma once

#include "kernels/device/kernels.h"

#include <hbm/hbm.h>

struct gpu;

/* What a call does with the context of `device` current: false, and gpu's failed_call, if a
 * call of the driver fails. */
typedef bool device_code_fn(struct gpu *gpu, uint32_t device, const void *arg);

/* Runs it. 0; what hbm_use_device() says; HBM_DEVICE. */
int hbm_device_code_run(struct hbm *hbm, uint32_t device, device_code_fn *fn, const void *arg);
/* The same for what has no copies to take its place: HBM_UNSUPPORTED, and a line that names
 * `what`, if the driver refuses the kernel's module. */
int hbm_device_code_need(struct hbm *hbm, uint32_t device, enum kernel kernel, const char *what,
			 device_code_fn *fn, const void *arg);
