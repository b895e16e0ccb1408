/* SPDX-License-Identifier: Apache-2.0 */
/* device_memory: see device.h. */
#include <assert.h>

#include "daemon/base/checked.h"
#include "daemon/device/device.h"

/* Bytes of the handle mapped at an offset: a slab, or a smaller part that still fits. */
static uint64_t device_memory_piece_at(const struct device_memory *memory, uint64_t offset)
{
	uint64_t piece = memory->slab;
	while (piece > memory->bytes - offset)
		piece /= 2;
	return piece;
}

CUresult device_memory_extend(struct device_memory *memory)
{
	return device_memory_extend_by(memory, device_memory_piece_at(memory, memory->mapped),
				       NULL);
}

CUresult device_memory_cut(struct device_memory *memory, uint64_t piece)
{
	CUresult r = device_unmap(memory->device, memory->address + memory->mapped - piece, piece);

	if (r == CUDA_SUCCESS)
		memory->mapped -= piece;

	return r;
}

/* The mapping alone keeps the memory. */
CUresult device_memory_extend_with(struct device_memory *memory, uint64_t piece,
				   CUmemGenericAllocationHandle handle)
{
	CUdeviceptr address = memory->address + memory->mapped;
	CUresult r = memory->device->driver->cuMemMap(address, piece, 0, handle, 0);
	if (r == CUDA_SUCCESS)
		memory->mapped += piece;

	CUresult released = device_release(memory->device, handle);
	if (r != CUDA_SUCCESS)
		return r;

	r = device_allow(memory->device, address, piece);

	return r != CUDA_SUCCESS ? r : released;
}

CUresult device_memory_extend_by(struct device_memory *memory, uint64_t piece, int *fd)
{
	const struct driver *driver = memory->device->driver;
	CUmemAllocationProp prop = device_allocation(memory->device);
	CUmemGenericAllocationHandle handle;
	CUresult r = driver->cuMemCreate(&handle, piece, &prop, 0);
	if (r != CUDA_SUCCESS)
		return r;

	if (fd && driver->cuMemExportToShareableHandle(
			  fd, handle, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0) != CUDA_SUCCESS)
		*fd = -1;

	return device_memory_extend_with(memory, piece, handle);
}

CUresult device_memory_reserve(struct device_memory *memory, struct device *device, uint64_t bytes,
			       uint64_t slab)
{
	assert(slab % device->granularity == 0 && bytes % device->granularity == 0);
	assert(is_power_of_two(slab / device->granularity));
	*memory = (struct device_memory){.device = device, .bytes = bytes, .slab = slab};
	if (bytes == 0)
		return CUDA_SUCCESS;

	CUresult r = device_enter(device);

	return r == CUDA_SUCCESS
		       ? device->driver->cuMemAddressReserve(&memory->address, bytes, 0, 0, 0)
		       : r;
}

CUresult device_memory_open(struct device_memory *memory, struct device *device, uint64_t bytes,
			    uint64_t slab)
{
	CUresult r = device_memory_reserve(memory, device, bytes, slab);
	while (r == CUDA_SUCCESS && memory->mapped < bytes)
		r = device_memory_extend(memory);
	if (r != CUDA_SUCCESS)
		device_memory_close(memory);

	return r;
}

/* Unmaps part by part, so that a failure of one call does not keep the others mapped. */
static void device_memory_unmap_all(const struct device_memory *memory)
{
	for (uint64_t at = 0; at < memory->mapped;) {
		uint64_t piece = device_memory_piece_at(memory, at);
		CUresult r = device_unmap(memory->device, memory->address + at, piece);
		if (r != CUDA_SUCCESS)
			device_failed(memory->device, "cuMemUnmap", r);
		at += piece;
	}
}

void device_memory_close(struct device_memory *memory)
{
	if (!memory->address)
		return;

	/* On failure the context may be current all the same, and unmapping may work
	 * without it. */
	(void)device_enter(memory->device);
	device_memory_unmap_all(memory);
	CUresult r = device_unreserve(memory->device, memory->address, memory->bytes);
	if (r != CUDA_SUCCESS)
		device_failed(memory->device, "cuMemAddressFree", r);

	*memory = (struct device_memory){0};
}
