/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mapping, unmapping, and granting access. A call validates everything first and then
 * changes the address space outside table_lock, so that other copies go on. It removes
 * access before it removes pages. The driver itself can always read and write mapped
 * memory; the table alone says which device has access, and it is checked whenever an
 * operation acquires a range.
 */
#include "kernels/soft/mapping.h"

#include "kernels/soft/backing.h"
#include "kernels/soft/lock.h"
#include "kernels/soft/reservation.h"
#include "kernels/soft/stream.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

struct mapping {
	CUdeviceptr address;
	uint64_t bytes;
	struct backing *backing;
	uint32_t uses;                    /* by queued and running operations; table_lock */
	uint8_t access[SOFT_DEVICES_MAX]; /* CUmemAccess_flags of each device */
};

static uint64_t mapping_count;

uint64_t mappings_live(void)
{
	return mapping_count;
}

static bool mapping_aligned(uint64_t value)
{
	return value % SOFT_GRANULARITY == 0;
}

/* The mapping at an address, or NULL. */
static struct mapping *mapping_at(CUdeviceptr address)
{
	struct reservation *in = reservation_find(address, 1);

	return in == NULL ? NULL : *reservation_granule(in, address);
}

static CUdeviceptr mapping_end(const struct mapping *mapping)
{
	return mapping->address + mapping->bytes;
}

/* The mapping after this one in a range that is mapped up to `end`; NULL: this was the
 * last. */
static struct mapping *mapping_after(const struct mapping *mapping, CUdeviceptr end)
{
	return mapping_end(mapping) < end ? mapping_at(mapping_end(mapping)) : NULL;
}

/* Whether every address of the range is mapped, and all of it in one reservation. */
static bool mapping_range_is_mapped(CUdeviceptr address, uint64_t bytes)
{
	const struct mapping *mapping;

	if (bytes == 0 || reservation_find(address, bytes) == NULL)
		return false;
	for (CUdeviceptr at = address; at < address + bytes; at = mapping_end(mapping)) {
		mapping = mapping_at(at);
		if (mapping == NULL)
			return false;
	}

	return true;
}

CUresult mapping_hold_range(CUdeviceptr address, uint64_t bytes, const struct device *device,
			    CUmemAccess_flags wanted)
{
	struct mapping *mapping;

	if (bytes == 0)
		return CUDA_SUCCESS;
	if (!mapping_range_is_mapped(address, bytes))
		return CUDA_ERROR_INVALID_VALUE;

	for (mapping = mapping_at(address); mapping != NULL;
	     mapping = mapping_after(mapping, address + bytes))
		if ((mapping->access[device->index] & wanted) != wanted)
			return CUDA_ERROR_ILLEGAL_ADDRESS;

	for (mapping = mapping_at(address); mapping != NULL;
	     mapping = mapping_after(mapping, address + bytes))
		mapping->uses++;

	return CUDA_SUCCESS;
}

void mapping_drop_range(CUdeviceptr address, uint64_t bytes)
{
	struct mapping *mapping;

	if (bytes == 0)
		return;
	assert(mapping_range_is_mapped(address, bytes));
	for (mapping = mapping_at(address); mapping != NULL;
	     mapping = mapping_after(mapping, address + bytes)) {
		assert(mapping->uses > 0);
		mapping->uses--;
	}
}

static void mapping_insert(struct reservation *in, struct mapping *mapping)
{
	LOCKED(table_lock);
	for (uint64_t at = 0; at < mapping->bytes; at += SOFT_GRANULARITY)
		*reservation_granule(in, mapping->address + at) = mapping;
	in->mappings++;
	mapping_count++;
}

static bool mapping_range_is_unmapped(const struct reservation *in, CUdeviceptr address,
				      uint64_t bytes)
{
	for (uint64_t at = 0; at < bytes; at += SOFT_GRANULARITY)
		if (*reservation_granule(in, address + at) != NULL)
			return false;
	return true;
}

CUresult mapping_make(struct reservation *in, CUdeviceptr address, struct backing *backing)
{
	struct mapping *mapping;

	mapping = calloc(1, sizeof(*mapping));
	if (mapping == NULL)
		return CUDA_ERROR_OUT_OF_MEMORY;

	if (mmap(reservation_place(address), backing->bytes, PROT_READ | PROT_WRITE,
		 MAP_SHARED | MAP_FIXED, backing->fd, 0) == MAP_FAILED) {
		free(mapping);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}

	mapping->address = address;
	mapping->bytes = backing->bytes;
	mapping->backing = backing;
	backing_hold(backing);
	mapping_insert(in, mapping);

	return CUDA_SUCCESS;
}

CUresult cuMemMap(CUdeviceptr address, size_t bytes, size_t offset,
		  CUmemGenericAllocationHandle handle, unsigned long long flags)
{
	struct reservation *in;
	struct backing *backing;
	CUresult result;

	CALL_ENTER(cuMemMap);
	LOCKED(vmm_lock);
	backing = backing_find(handle);
	in = reservation_find(address, bytes);
	if (backing == NULL || in == NULL || !mapping_aligned(address) || offset != 0 ||
	    bytes != backing->bytes || flags != 0)
		return CUDA_ERROR_INVALID_VALUE;

	if (!mapping_range_is_unmapped(in, address, bytes))
		return CUDA_ERROR_ALREADY_MAPPED;

	result = device_answers(backing->device);

	return result == CUDA_SUCCESS ? mapping_make(in, address, backing) : result;
}

/* Whether the range is one or several whole mappings side by side. */
static bool mapping_range_is_whole_mappings(CUdeviceptr address, uint64_t bytes)
{
	return mapping_range_is_mapped(address, bytes) && mapping_at(address)->address == address &&
	       mapping_end(mapping_at(address + bytes - 1)) == address + bytes;
}

/* Removes all access from the mappings of a range, so that no operation starts on it;
 * false if one is in flight. */
static bool mapping_range_close(CUdeviceptr address, uint64_t bytes)
{
	struct mapping *mapping;

	LOCKED(table_lock);

	for (mapping = mapping_at(address); mapping != NULL;
	     mapping = mapping_after(mapping, address + bytes))
		if (mapping->uses != 0)
			return false;

	for (mapping = mapping_at(address); mapping != NULL;
	     mapping = mapping_after(mapping, address + bytes))
		memset(mapping->access, 0, sizeof(mapping->access));

	return true;
}

static void mapping_remove(struct mapping *mapping)
{
	struct reservation *in = reservation_find(mapping->address, mapping->bytes);

	pthread_mutex_lock(&table_lock);
	for (uint64_t at = 0; at < mapping->bytes; at += SOFT_GRANULARITY)
		*reservation_granule(in, mapping->address + at) = NULL;
	in->mappings--;
	mapping_count--;
	pthread_mutex_unlock(&table_lock);
	backing_drop(mapping->backing);
	free(mapping);
}

static void mapping_range_remove(CUdeviceptr address, uint64_t bytes)
{
	struct mapping *mapping = mapping_at(address), *next;

	for (; mapping != NULL; mapping = next) {
		next = mapping_after(mapping, address + bytes);
		mapping_remove(mapping);
	}
}

CUresult mapping_unmake(CUdeviceptr address, uint64_t bytes)
{
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;

	CUresult result = device_answers(mapping_at(address)->backing->device);

	if (result != CUDA_SUCCESS)
		return result;
	if (!mapping_range_close(address, bytes))
		return CUDA_ERROR_ILLEGAL_STATE;
	if (mmap(reservation_place(address), bytes, PROT_NONE, flags, -1, 0) == MAP_FAILED)
		return CUDA_ERROR_OUT_OF_MEMORY;

	mapping_range_remove(address, bytes);

	return CUDA_SUCCESS;
}

/* For the option `unmap_waits`: what is queued in the thread's context ends first. */
static void mapping_wait_for_streams(void)
{
	const struct device *device = device_of_thread();

	if (device != NULL && device->unmap_waits)
		streams_drain(device);
}

/* Whether the range is one or several whole mappings that cuMemMap made. */
static bool mapping_range_is_of_vmm(CUdeviceptr address, uint64_t bytes)
{
	return mapping_range_is_whole_mappings(address, bytes) &&
	       reservation_find(address, bytes)->kind == RESERVED;
}

CUresult cuMemUnmap(CUdeviceptr address, size_t bytes)
{
	CALL_ENTER(cuMemUnmap);
	mapping_wait_for_streams();
	LOCKED(vmm_lock);
	return mapping_range_is_of_vmm(address, bytes) ? mapping_unmake(address, bytes)
						       : CUDA_ERROR_INVALID_VALUE;
}

void mapping_allow(CUdeviceptr address, uint64_t bytes, unsigned device)
{
	struct mapping *mapping;

	LOCKED(table_lock);
	for (mapping = mapping_at(address); mapping != NULL;
	     mapping = mapping_after(mapping, address + bytes))
		mapping->access[device] = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
}

struct backing *mapping_backing(CUdeviceptr address)
{
	const struct mapping *mapping = mapping_at(address);

	return mapping == NULL ? NULL : mapping->backing;
}

bool mapping_range_of(CUdeviceptr address, CUdeviceptr *base, uint64_t *bytes)
{
	const struct mapping *mapping = mapping_at(address);

	if (mapping == NULL)
		return false;

	*base = mapping->address;
	*bytes = mapping->bytes;

	return true;
}

static CUresult mapping_check_accesses(const CUmemAccessDesc *accesses, size_t count)
{
	if (accesses == NULL || count == 0)
		return CUDA_ERROR_INVALID_VALUE;
	for (size_t i = 0; i < count; i++) {
		const CUmemAccessDesc *access = &accesses[i];

		if (access->location.type != CU_MEM_LOCATION_TYPE_DEVICE)
			return CUDA_ERROR_NOT_SUPPORTED;
		if (device_at(access->location.id) == NULL)
			return CUDA_ERROR_INVALID_DEVICE;

		if (access->flags != CU_MEM_ACCESS_FLAGS_PROT_NONE &&
		    access->flags != CU_MEM_ACCESS_FLAGS_PROT_READ &&
		    access->flags != CU_MEM_ACCESS_FLAGS_PROT_READWRITE)
			return CUDA_ERROR_INVALID_VALUE;

		for (size_t j = 0; j < i; j++)
			if (accesses[j].location.id == access->location.id)
				return CUDA_ERROR_INVALID_VALUE;
	}

	return CUDA_SUCCESS;
}

/* Whether an operation in flight would lose access. */
static bool mapping_would_lose_access(const struct mapping *mapping,
				      const CUmemAccessDesc *accesses, size_t count)
{
	for (size_t i = 0; i < count && mapping->uses != 0; i++)
		if ((mapping->access[accesses[i].location.id] & ~(unsigned)accesses[i].flags) != 0)
			return true;
	return false;
}

/* Sets the access to a range of whole mappings; false, and nothing is set, if an operation
 * in flight would lose access. */
static bool mapping_range_set_access(CUdeviceptr address, uint64_t bytes,
				     const CUmemAccessDesc *accesses, size_t count)
{
	struct mapping *mapping;

	LOCKED(table_lock);

	for (mapping = mapping_at(address); mapping != NULL;
	     mapping = mapping_after(mapping, address + bytes))
		if (mapping_would_lose_access(mapping, accesses, count))
			return false;

	for (mapping = mapping_at(address); mapping != NULL;
	     mapping = mapping_after(mapping, address + bytes))
		for (size_t i = 0; i < count; i++)
			mapping->access[accesses[i].location.id] = (uint8_t)accesses[i].flags;

	return true;
}

CUresult cuMemSetAccess(CUdeviceptr address, size_t bytes, const CUmemAccessDesc *accesses,
			size_t count)
{
	CUresult result;

	CALL_ENTER(cuMemSetAccess);
	result = mapping_check_accesses(accesses, count);
	if (result != CUDA_SUCCESS)
		return result;

	mapping_wait_for_streams();
	LOCKED(vmm_lock);
	if (!mapping_range_is_of_vmm(address, bytes))
		return CUDA_ERROR_INVALID_VALUE;

	result = device_answers(mapping_at(address)->backing->device);
	if (result != CUDA_SUCCESS)
		return result;

	return mapping_range_set_access(address, bytes, accesses, count) ? CUDA_SUCCESS
									 : CUDA_ERROR_ILLEGAL_STATE;
}

CUresult cuMemGetAccess(unsigned long long *flags, const CUmemLocation *location,
			CUdeviceptr address)
{
	const struct mapping *mapping;

	CALL_ENTER(cuMemGetAccess);
	if (flags == NULL || location == NULL || location->type != CU_MEM_LOCATION_TYPE_DEVICE)
		return CUDA_ERROR_INVALID_VALUE;
	if (device_at(location->id) == NULL)
		return CUDA_ERROR_INVALID_DEVICE;

	LOCKED(vmm_lock);
	mapping = mapping_at(address);
	if (mapping == NULL)
		return CUDA_ERROR_INVALID_VALUE;

	*flags = mapping->access[location->id];

	return CUDA_SUCCESS;
}

CUresult cuMemRetainAllocationHandle(CUmemGenericAllocationHandle *handle, void *address)
{
	const struct mapping *mapping;

	CALL_ENTER(cuMemRetainAllocationHandle);
	LOCKED(vmm_lock);
	mapping = mapping_at((CUdeviceptr)(uintptr_t)address);
	if (handle == NULL || mapping == NULL ||
	    reservation_find(mapping->address, 1)->kind != RESERVED)
		return CUDA_ERROR_INVALID_VALUE;

	mapping->backing->references++;
	*handle = mapping->backing->name;

	return CUDA_SUCCESS;
}

void mappings_reset(void)
{
	const struct reservation *in;

	for (size_t i = 0; (in = reservation_nth(i)) != NULL; i++) {
		for (uint64_t at = 0; at < in->bytes; at += SOFT_GRANULARITY) {
			struct mapping *mapping = mapping_at(in->address + at);

			if (mapping != NULL)
				mapping_remove(mapping);
		}
	}
}
