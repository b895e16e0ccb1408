/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gpu: a connection's way to the devices: the driver table, which of this process's
 * devices is which of the daemon's, and each device's primary context, retained when the
 * device is first used. Devices are numbered as the daemon does; this process may count
 * them differently, or not see all (CUDA_VISIBLE_DEVICES), so they are told apart by
 * UUID. Device calls are made between hbm_gpu_enter() and hbm_gpu_leave(), which put the
 * caller's current context back; the caller may have none, or one of his own.
 *
 * A failed call is remembered by name and result until the next failure, for the error
 * line.
 */
#pragma once

#include "kernels/driver/driver.h"

#include <hbm/hbm.h>

struct gpu {
	struct driver *driver;              /* NULL until first used */
	CUuuid uuids[HBM_WIRE_DEVICES_MAX]; /* what HELLO said; [info.devices] */
	uint64_t soft_memory;
	bool recognised;                    /* the next is known */
	int ordinals[HBM_WIRE_DEVICES_MAX]; /* in this process; -1: it does not see the device */
	CUcontext contexts[HBM_WIRE_DEVICES_MAX];
	CUcontext saved; /* the caller's, between enter and leave */
	const char *failed_call;
	CUresult failed_result;
};

/* True if the call succeeded; else remembers it. */
#define GPU_CALL(gpu, name, ...) hbm_gpu_check(gpu, #name, (gpu)->driver->name(__VA_ARGS__))

/* Loads the driver the daemon uses. 0, or negative errno and a line in error. Does
 * nothing when it is loaded. */
int hbm_gpu_open(struct gpu *gpu, const struct hbm_info *info, char *error, size_t error_size);
/* Finds the daemon's devices among those of this process, once; the driver is loaded. */
bool hbm_gpu_recognise(struct gpu *gpu, const struct hbm_info *info);
void hbm_gpu_close(struct gpu *gpu);
/* Makes the visible device's primary context current. False: nothing to leave. */
bool hbm_gpu_enter(struct gpu *gpu, uint32_t device);
void hbm_gpu_leave(struct gpu *gpu);
bool hbm_gpu_check(struct gpu *gpu, const char *call, CUresult result);
