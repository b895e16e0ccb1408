/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Primary contexts and the current context of a thread. Stricter than the real driver,
 * which destroys what a context still has: the last release is refused while streams,
 * events, modules or registrations of the context live.
 *
 * After a kernel has failed, every call that needs the context returns the kernel's error,
 * even a call that destroys something. So such a context can be released as it is, and its
 * objects are freed with the library. As on a real device this process cannot get another
 * context for that device.
 */
#include "kernels/soft/backing.h"
#include "kernels/soft/device.h"
#include "kernels/soft/lock.h"
#include "kernels/soft/stream.h"

#define CONTEXTS (6ull << 56) /* as the names of other objects: see slots.h */

static _Thread_local CUcontext current;
static _Thread_local struct device *current_device; /* whose it is */
static uint64_t lives;                              /* of all devices, ever; table_lock */

static CUcontext context_of(const struct device *device)
{
	return (CUcontext)(uintptr_t)device->life;
}

/* The device that a context is the live one of, or NULL; table_lock is held. */
static struct device *context_find(CUcontext context)
{
	for (unsigned i = 0; i < devices_count(); i++) {
		struct device *device = device_at((int)i);

		if (device->retained != 0 && context_of(device) == context)
			return device;
	}
	return NULL;
}

struct device *device_of_thread(void)
{
	return current_device;
}

CUresult device_current(struct device **out)
{
	struct device *device = current == NULL ? NULL : context_find(current);

	if (current == NULL)
		return CUDA_ERROR_INVALID_CONTEXT;
	if (device == NULL)
		return CUDA_ERROR_CONTEXT_IS_DESTROYED;

	*out = device;

	return device_fault(device);
}

CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device)
{
	struct device *found = device_at(device);
	CUresult result;

	CALL_ENTER(cuDevicePrimaryCtxRetain);
	if (found == NULL)
		return CUDA_ERROR_INVALID_DEVICE;
	if (context == NULL)
		return CUDA_ERROR_INVALID_VALUE;

	LOCKED(vmm_lock);
	if (device_fault(found) != CUDA_SUCCESS)
		return device_fault(found);

	if (found->retained == 0) {
		result = backing_charge_context(found);
		if (result != CUDA_SUCCESS)
			return result;
	}

	LOCKED(table_lock);
	if (found->retained++ == 0)
		found->life = CONTEXTS + ++lives;

	*context = context_of(found);

	return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRelease(CUdevice device)
{
	struct device *found = device_at(device);

	CALL_ENTER(cuDevicePrimaryCtxRelease);
	if (found == NULL)
		return CUDA_ERROR_INVALID_DEVICE;

	LOCKED(vmm_lock);
	LOCKED(table_lock);
	if (found->retained == 0)
		return CUDA_ERROR_INVALID_CONTEXT;
	if (found->retained == 1 && found->children != 0 && device_fault(found) == CUDA_SUCCESS)
		return CUDA_ERROR_ILLEGAL_STATE;

	if (--found->retained == 0)
		backing_discharge_context(found);

	return CUDA_SUCCESS;
}

CUresult cuCtxSetCurrent(CUcontext context)
{
	struct device *device;

	CALL_ENTER(cuCtxSetCurrent);
	LOCKED(table_lock);
	device = context_find(context);
	if (context != NULL && device == NULL)
		return CUDA_ERROR_INVALID_CONTEXT;

	current = context;
	current_device = device;

	return CUDA_SUCCESS;
}

CUresult cuCtxGetCurrent(CUcontext *context)
{
	CALL_ENTER(cuCtxGetCurrent);
	if (context == NULL)
		return CUDA_ERROR_INVALID_VALUE;
	*context = current;
	return CUDA_SUCCESS;
}

CUresult cuCtxSynchronize(void)
{
	struct device *device;
	CUresult result;

	CALL_ENTER(cuCtxSynchronize);
	pthread_mutex_lock(&table_lock);
	result = device_current(&device);
	pthread_mutex_unlock(&table_lock);
	if (result != CUDA_SUCCESS)
		return result;

	streams_drain(device);

	return device_fault(device);
}

CUresult cuCtxGetStreamPriorityRange(int *least, int *greatest)
{
	struct device *device;
	CUresult result;

	CALL_ENTER(cuCtxGetStreamPriorityRange);
	LOCKED(table_lock);
	result = device_current(&device);
	if (result != CUDA_SUCCESS)
		return result;
	if (least != NULL)
		*least = STREAM_PRIORITY_LEAST;
	if (greatest != NULL)
		*greatest = STREAM_PRIORITY_GREATEST;

	return CUDA_SUCCESS;
}
