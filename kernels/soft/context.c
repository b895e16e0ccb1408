/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Primary contexts and the current context of a thread. Stricter than the real driver, which destroys what a context
 * still has: the last release is refused while streams, events, modules or registrations of the context live.
 *
 * A context that a kernel has ruined answers with the kernel's error wherever it is needed, also where things of it are
 * to be destroyed; so it can be released as it is, and what it has goes when the library is. As on a real device there
 * is no other context for that device in this process.
 */
#include "kernels/soft/device.h"
#include "kernels/soft/lock.h"
#include "kernels/soft/stream.h"

static _Thread_local struct device *current;

static CUcontext context_of(struct device *device)
{
	return (CUcontext)(void *)device;
}

/* The device a context belongs to, or NULL if the value is no context. */
static struct device *context_find(CUcontext context)
{
	for (unsigned i = 0; i < devices_count(); i++)
		if (context_of(device_at((int)i)) == context)
			return device_at((int)i);
	return NULL;
}

CUresult device_current(struct device **out)
{
	if (current == NULL)
		return CUDA_ERROR_INVALID_CONTEXT;
	if (current->retained == 0)
		return CUDA_ERROR_CONTEXT_IS_DESTROYED;
	*out = current;
	return device_fault(current);
}

CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device)
{
	struct device *found = device_at(device);

	CALL_ENTER(cuDevicePrimaryCtxRetain);
	if (found == NULL)
		return CUDA_ERROR_INVALID_DEVICE;
	if (context == NULL)
		return CUDA_ERROR_INVALID_VALUE;
	LOCKED(table_lock);
	if (device_fault(found) != CUDA_SUCCESS)
		return device_fault(found);
	found->retained++;
	*context = context_of(found);
	return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRelease(CUdevice device)
{
	struct device *found = device_at(device);

	CALL_ENTER(cuDevicePrimaryCtxRelease);
	if (found == NULL)
		return CUDA_ERROR_INVALID_DEVICE;
	LOCKED(table_lock);
	if (found->retained == 0)
		return CUDA_ERROR_INVALID_CONTEXT;
	if (found->retained == 1 && found->children != 0 && device_fault(found) == CUDA_SUCCESS)
		return CUDA_ERROR_ILLEGAL_STATE;
	found->retained--;
	return CUDA_SUCCESS;
}

CUresult cuCtxSetCurrent(CUcontext context)
{
	struct device *found = context == NULL ? NULL : context_find(context);

	CALL_ENTER(cuCtxSetCurrent);
	LOCKED(table_lock);
	if (context != NULL && (found == NULL || found->retained == 0))
		return CUDA_ERROR_INVALID_CONTEXT;
	current = found;
	return CUDA_SUCCESS;
}

CUresult cuCtxGetCurrent(CUcontext *context)
{
	CALL_ENTER(cuCtxGetCurrent);
	if (context == NULL)
		return CUDA_ERROR_INVALID_VALUE;
	*context = current == NULL ? NULL : context_of(current);
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
