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

/* Maps the next part after the mapped ones. The mapping alone keeps the memory: the
 * handle is released. */
static CUresult device_memory_map_next(struct device_memory *memory)
{
	const struct driver *driver = memory->device->driver;
	CUmemAllocationProp prop = device_allocation(memory->device);
	uint64_t piece = device_memory_piece_at(memory, memory->mapped);
	CUmemGenericAllocationHandle handle;
	CUresult r = driver->cuMemCreate(&handle, piece, &prop, 0);
	if (r != CUDA_SUCCESS)
		return r;

	r = driver->cuMemMap(memory->address + memory->mapped, piece, 0, handle, 0);
	if (r == CUDA_SUCCESS)
		memory->mapped += piece;

	CUresult released = device_release(memory->device, handle);

	return r != CUDA_SUCCESS ? r : released;
}

CUresult device_memory_open(struct device_memory *memory, struct device *device, uint64_t bytes,
			    uint64_t slab)
{
	assert(slab % device->granularity == 0 && bytes % device->granularity == 0);
	assert(is_power_of_two(slab / device->granularity));
	struct device_memory made = {.device = device, .bytes = bytes, .slab = slab};
	CUresult r = CUDA_SUCCESS;
	if (bytes > 0) {
		r = device_enter(device);
		if (r == CUDA_SUCCESS)
			r = device->driver->cuMemAddressReserve(&made.address, bytes, 0, 0, 0);
		while (r == CUDA_SUCCESS && made.mapped < bytes)
			r = device_memory_map_next(&made);
		if (r == CUDA_SUCCESS)
			r = device_allow(device, made.address, bytes);
	}

	if (r != CUDA_SUCCESS) {
		device_memory_close(&made);
		return r;
	}

	*memory = made;

	return CUDA_SUCCESS;
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
