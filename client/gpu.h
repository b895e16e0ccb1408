/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gpu: a connection's devices: the driver table, the map from the daemon's devices to this
 * process's, and each device's primary context, retained on first use. Devices have the
 * daemon's numbers. This process may number them differently or see only some
 * (CUDA_VISIBLE_DEVICES), so they are matched by UUID. Device calls are made between
 * hbm_gpu_enter() and hbm_gpu_leave(), which restores the caller's current context, if
 * any.
 *
 * The name and result of the last failed call are kept for the error line.
 */
#pragma once

#include "kernels/device/kernels.h"
#include "kernels/driver/driver.h"

#include <hbm/hbm.h>

struct gpu {
	struct driver *driver;              /* NULL until first used */
	CUuuid uuids[HBM_WIRE_DEVICES_MAX]; /* from HELLO; [info.devices] */
	uint64_t soft_memory;
	bool recognised;                    /* ordinals is filled in */
	int ordinals[HBM_WIRE_DEVICES_MAX]; /* in this process; -1: not visible */
	CUcontext contexts[HBM_WIRE_DEVICES_MAX];
	struct kernels kernels[HBM_WIRE_DEVICES_MAX]; /* of each context */
	CUcontext saved;                              /* the caller's, between enter and leave */
	const char *failed_call;
	CUresult failed_result;
};

/* True if the call succeeded; else records it in `gpu`. */
#define GPU_CALL(gpu, name, ...) hbm_gpu_check(gpu, #name, (gpu)->driver->name(__VA_ARGS__))

/* Loads the driver the daemon uses, unless it is loaded. 0, or negative errno and a line in
 * error. */
int hbm_gpu_open(struct gpu *gpu, const struct hbm_info *info, char *error, size_t error_size);
/* Matches the daemon's devices to those of this process, once. The driver is loaded. */
bool hbm_gpu_recognise(struct gpu *gpu, const struct hbm_info *info);
void hbm_gpu_close(struct gpu *gpu);
/* Makes the primary context of a visible device current. False: it failed; do not call
 * hbm_gpu_leave(). */
bool hbm_gpu_enter(struct gpu *gpu, uint32_t device);
void hbm_gpu_leave(struct gpu *gpu);
bool hbm_gpu_check(struct gpu *gpu, const char *call, CUresult result);
