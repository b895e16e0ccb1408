/* SPDX-License-Identifier: Apache-2.0 */
/* Copies on the caller's thread: the synchronous ones, and those of tests. */
#include "kernels/soft/host.h"
#include "kernels/soft/lock.h"
#include "kernels/soft/mapping.h"
#include "kernels/soft/park.h"
#include "kernels/soft/reservation.h"
#include "kernels/soft/stream.h"

#include <errno.h>
#include <string.h>

/* Copies like the engine: `ready` is when the copy could have started. */
static void copy_sync_run(struct engine *engine, uint64_t ready, void *target, const void *source,
			  uint64_t bytes)
{
	uint64_t due = engine_is_limited(engine) ? engine_schedule(engine, ready, bytes) : 0;

	memcpy(target, source, bytes);
	if (due != 0)
		clock_wait_until(due);
}

/* Holds device memory for a copy on this thread; *device: of the current context. */
static CUresult copy_sync_hold(CUdeviceptr address, uint64_t bytes, CUmemAccess_flags wanted,
			       struct device **device)
{
	CUresult result;

	LOCKED(table_lock);
	result = device_current(device);
	return result != CUDA_SUCCESS ? result
				      : mapping_hold_range(address, bytes, *device, wanted);
}

static void copy_sync_drop(CUdeviceptr address, uint64_t bytes)
{
	LOCKED(table_lock);
	mapping_drop_range(address, bytes);
}

/* A device address where a host address is expected would crash this process. */
static bool copy_sync_is_of_host(const void *place)
{
	return place != NULL && (uintptr_t)place < SOFT_ALIASES;
}

CUresult cuMemcpyHtoD(CUdeviceptr target, const void *source, size_t bytes)
{
	struct device *device;
	CUresult result;

	CALL_ENTER(cuMemcpyHtoD);
	if (bytes != 0 && !copy_sync_is_of_host(source))
		return CUDA_ERROR_INVALID_VALUE;

	result = copy_sync_hold(target, bytes, CU_MEM_ACCESS_FLAGS_PROT_READWRITE, &device);
	if (result != CUDA_SUCCESS)
		return result;

	if (bytes != 0)
		copy_sync_run(&device->engines[ENGINE_H2D], clock_now(), reservation_place(target),
			      source, bytes);

	copy_sync_drop(target, bytes);

	return CUDA_SUCCESS;
}

CUresult cuMemcpyDtoH(void *target, CUdeviceptr source, size_t bytes)
{
	struct device *device;
	CUresult result;

	CALL_ENTER(cuMemcpyDtoH);
	if (bytes != 0 && !copy_sync_is_of_host(target))
		return CUDA_ERROR_INVALID_VALUE;

	result = copy_sync_hold(source, bytes, CU_MEM_ACCESS_FLAGS_PROT_READ, &device);
	if (result != CUDA_SUCCESS)
		return result;

	if (bytes != 0)
		copy_sync_run(&device->engines[ENGINE_D2H], clock_now(), target,
			      reservation_place(source), bytes);

	copy_sync_drop(source, bytes);

	return CUDA_SUCCESS;
}

/* ---- For tests ---- */

static int copy_sync_test_hold(unsigned device, CUdeviceptr address, uint64_t bytes,
			       CUmemAccess_flags wanted)
{
	const struct device *found = device_at((int)device);

	LOCKED(table_lock);
	if (found == NULL || mapping_hold_range(address, bytes, found, wanted) != CUDA_SUCCESS)
		return -EFAULT;
	return 0;
}

void *hbm_soft_host(CUdeviceptr address)
{
	LOCKED(vmm_lock);

	return reservation_find(address, 1) != NULL ? reservation_place(address) : NULL;
}

int hbm_soft_peek(void *target, unsigned device, CUdeviceptr source, size_t bytes)
{
	if (copy_sync_test_hold(device, source, bytes, CU_MEM_ACCESS_FLAGS_PROT_READ) < 0)
		return -EFAULT;
	memcpy(target, reservation_place(source), bytes);
	copy_sync_drop(source, bytes);
	return 0;
}

int hbm_soft_poke(unsigned device, CUdeviceptr target, const void *source, size_t bytes)
{
	if (copy_sync_test_hold(device, target, bytes, CU_MEM_ACCESS_FLAGS_PROT_READWRITE) < 0)
		return -EFAULT;
	memcpy(reservation_place(target), source, bytes);
	copy_sync_drop(target, bytes);
	return 0;
}
