/* SPDX-License-Identifier: Apache-2.0 */
/* Allocations. Each has whole granules: one that is smaller shares nothing with others. */
#include "kernels/soft/allocation.h"

#include "kernels/soft/lock.h"
#include "kernels/soft/mapping.h"

uint64_t allocations_live(void)
{
	return reservations_live(ALLOCATED) + reservations_live(OPENED);
}

CUresult allocation_device(struct device **out)
{
	LOCKED(table_lock);
	return device_current(out);
}

static void allocation_count(struct device *device, int change)
{
	LOCKED(table_lock);
	device->children += (uint64_t)(int64_t)change;
}

CUresult allocation_make(enum reservation_kind kind, struct backing *backing,
			 struct reservation **out)
{
	struct device *device = backing->device;
	struct reservation *made;
	CUresult result = reservation_make(backing->bytes, SOFT_GRANULARITY, 0, kind, &made);

	if (result == CUDA_SUCCESS) {
		result = mapping_make(made, made->address, backing);
		if (result != CUDA_SUCCESS)
			reservation_unmake(made);
	}

	backing_release(backing);
	if (result != CUDA_SUCCESS)
		return result;

	mapping_allow(made->address, made->bytes, device->index);
	allocation_count(device, 1);
	*out = made;

	return CUDA_SUCCESS;
}

CUresult allocation_unmake(enum reservation_kind kind, CUdeviceptr address)
{
	struct reservation *found = reservation_find(address, 1);
	struct device *device;
	CUresult result = allocation_device(&device);

	if (result != CUDA_SUCCESS)
		return result;
	if (found == NULL || found->kind != kind || found->address != address)
		return CUDA_ERROR_INVALID_VALUE;

	result = mapping_unmake(found->address, found->bytes);
	if (result != CUDA_SUCCESS)
		return result;

	reservation_unmake(found);
	allocation_count(device, -1);

	return CUDA_SUCCESS;
}

CUresult cuMemAlloc(CUdeviceptr *address, size_t bytes)
{
	struct backing model = {0};
	struct reservation *made;
	CUmemGenericAllocationHandle handle;
	CUresult result;

	CALL_ENTER(cuMemAlloc);
	if (address == NULL || bytes == 0)
		return CUDA_ERROR_INVALID_VALUE;
	if (bytes > SIZE_MAX - SOFT_GRANULARITY)
		return CUDA_ERROR_OUT_OF_MEMORY;

	LOCKED(vmm_lock);
	result = allocation_device(&model.device);
	if (result != CUDA_SUCCESS)
		return result;

	model.bytes = (bytes + SOFT_GRANULARITY - 1) / SOFT_GRANULARITY * SOFT_GRANULARITY;
	result = backing_create(&model, &handle);
	if (result == CUDA_SUCCESS)
		result = allocation_make(ALLOCATED, backing_find(handle), &made);
	if (result != CUDA_SUCCESS)
		return result;

	made->asked = bytes;
	*address = made->address;

	return CUDA_SUCCESS;
}

CUresult cuMemFree(CUdeviceptr address)
{
	CALL_ENTER(cuMemFree);
	LOCKED(vmm_lock);
	return allocation_unmake(ALLOCATED, address);
}

/* Of virtual memory the range is one mapping's, as of a real device: not the reservation's. */
CUresult cuMemGetAddressRange(CUdeviceptr *base, size_t *bytes, CUdeviceptr address)
{
	const struct reservation *in;
	CUdeviceptr start;
	uint64_t length;

	CALL_ENTER(cuMemGetAddressRange);
	LOCKED(vmm_lock);
	in = reservation_find(address, 1);
	if (in == NULL || !mapping_range_of(address, &start, &length))
		return CUDA_ERROR_NOT_FOUND;

	if (base != NULL)
		*base = start;
	if (bytes != NULL)
		*bytes = in->kind == RESERVED ? length : in->asked;

	return CUDA_SUCCESS;
}
