/* SPDX-License-Identifier: Apache-2.0 */
/* The driver and the primary contexts. See gpu.h. */
#include "client/gpu.h"

#include <assert.h>
#include <string.h>

int hbm_gpu_open(struct gpu *gpu, const struct hbm_info *info, char *error, size_t error_size)
{
	if (gpu->driver)
		return 0;
	struct driver_soft_options soft = {.devices = info->devices, .memory = gpu->soft_memory};
	bool is_soft = info->driver == HBM_DRIVER_SOFT;
	return driver_open(&gpu->driver, is_soft ? DRIVER_SOFT : DRIVER_CUDA,
			   is_soft ? &soft : NULL, error, error_size);
}

/* Records which of the daemon's devices has the UUID of this process's `ordinal`. */
static void gpu_match(struct gpu *gpu, uint32_t devices, int ordinal, const CUuuid *uuid)
{
	for (uint32_t i = 0; i < devices; i++) {
		if (memcmp(&gpu->uuids[i], uuid, sizeof(*uuid)) == 0)
			gpu->ordinals[i] = ordinal;
	}
}

bool hbm_gpu_recognise(struct gpu *gpu, const struct hbm_info *info)
{
	int count = 0;

	if (gpu->recognised)
		return true;
	if (!GPU_CALL(gpu, cuDeviceGetCount, &count))
		return false;

	for (uint32_t i = 0; i < HBM_WIRE_DEVICES_MAX; i++)
		gpu->ordinals[i] = -1;
	for (int ordinal = 0; ordinal < count; ordinal++) {
		CUdevice device;
		CUuuid uuid;
		if (!GPU_CALL(gpu, cuDeviceGet, &device, ordinal) ||
		    !GPU_CALL(gpu, cuDeviceGetUuid, &uuid, device))
			return false;

		gpu_match(gpu, info->devices, ordinal, &uuid);
	}

	gpu->recognised = true;

	return true;
}

static void gpu_unload(struct gpu *gpu, uint32_t device)
{
	if (!kernels_are_loaded(&gpu->kernels[device]) || !hbm_gpu_enter(gpu, device))
		return;
	kernels_unload(&gpu->kernels[device], gpu->driver);
	hbm_gpu_leave(gpu);
}

void hbm_gpu_close(struct gpu *gpu)
{
	for (uint32_t i = 0; i < HBM_WIRE_DEVICES_MAX; i++) {
		CUdevice device;
		gpu_unload(gpu, i);
		if (gpu->contexts[i] && GPU_CALL(gpu, cuDeviceGet, &device, gpu->ordinals[i]))
			GPU_CALL(gpu, cuDevicePrimaryCtxRelease, device);
	}

	driver_close(gpu->driver);
	*gpu = (struct gpu){0};
}

bool hbm_gpu_check(struct gpu *gpu, const char *call, CUresult result)
{
	if (result == CUDA_SUCCESS)
		return true;
	gpu->failed_call = call;
	gpu->failed_result = result;
	return false;
}

static bool gpu_retain(struct gpu *gpu, uint32_t index)
{
	CUdevice device;
	return gpu->contexts[index] ||
	       (GPU_CALL(gpu, cuDeviceGet, &device, gpu->ordinals[index]) &&
		GPU_CALL(gpu, cuDevicePrimaryCtxRetain, &gpu->contexts[index], device));
}

bool hbm_gpu_enter(struct gpu *gpu, uint32_t device)
{
	assert(gpu->driver && device < HBM_WIRE_DEVICES_MAX);
	return gpu_retain(gpu, device) && GPU_CALL(gpu, cuCtxGetCurrent, &gpu->saved) &&
	       GPU_CALL(gpu, cuCtxSetCurrent, gpu->contexts[device]);
}

void hbm_gpu_leave(struct gpu *gpu)
{
	GPU_CALL(gpu, cuCtxSetCurrent, gpu->saved);
}
