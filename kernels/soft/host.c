/* SPDX-License-Identifier: Apache-2.0 */
/* Registrations: an array sorted by address. */
#include "kernels/soft/host.h"

#include "kernels/soft/lock.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define REGISTER_FLAGS                                                                             \
	((unsigned)CU_MEMHOSTREGISTER_PORTABLE | CU_MEMHOSTREGISTER_DEVICEMAP |                    \
	 CU_MEMHOSTREGISTER_READ_ONLY)

struct registration {
	uint64_t address, bytes;
	unsigned flags;
	uint32_t uses;
	struct device *device; /* whose context made it */
};

static struct registration *registrations;
static size_t registration_count;

static uint64_t host_page_bytes(void)
{
	return (uint64_t)sysconf(_SC_PAGESIZE);
}

/* Where the first registration that ends after the address is, or would be. */
static size_t registration_index(uint64_t address)
{
	size_t low = 0, high = registration_count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (registrations[middle].address + registrations[middle].bytes <= address)
			low = middle + 1;
		else
			high = middle;
	}

	return low;
}

static struct registration *registration_at(uint64_t address)
{
	size_t index = registration_index(address);

	if (index == registration_count || registrations[index].address > address)
		return NULL;
	return &registrations[index];
}

/* Whether a device's context made the registration, or may use it because it is portable. */
static bool registration_is_of(const struct registration *registration, const struct device *device)
{
	return registration->device == device ||
	       (registration->flags & CU_MEMHOSTREGISTER_PORTABLE) != 0;
}

/* The one that begins there: only its start has flags and a device pointer. */
static struct registration *registration_of(const void *address, const struct device *device)
{
	struct registration *registration = registration_at((uint64_t)(uintptr_t)address);

	if (registration == NULL || registration->address != (uint64_t)(uintptr_t)address ||
	    !registration_is_of(registration, device))
		return NULL;

	return registration;
}

static CUresult registration_allows(const struct registration *registration, uint64_t address,
				    uint64_t bytes, const struct device *device, bool write)
{
	if (registration == NULL || bytes > registration->bytes - (address - registration->address))
		return CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED;
	if (!registration_is_of(registration, device))
		return CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED;
	if (write && (registration->flags & CU_MEMHOSTREGISTER_READ_ONLY) != 0)
		return CUDA_ERROR_ILLEGAL_ADDRESS;
	return CUDA_SUCCESS;
}

CUresult host_hold(uint64_t address, uint64_t bytes, const struct device *device, bool write)
{
	struct registration *registration = registration_at(address);
	CUresult result = registration_allows(registration, address, bytes, device, write);

	if (result == CUDA_SUCCESS)
		registration->uses++;
	return result;
}

CUresult host_hold_alias(CUdeviceptr alias, uint64_t bytes, const struct device *device, bool write)
{
	const struct registration *registration = registration_at(host_of_alias(alias));

	if (registration == NULL || (registration->flags & CU_MEMHOSTREGISTER_DEVICEMAP) == 0)
		return CUDA_ERROR_INVALID_VALUE;
	return host_hold(host_of_alias(alias), bytes, device, write);
}

void host_drop(uint64_t address)
{
	struct registration *registration = registration_at(address);

	assert(registration != NULL && registration->uses > 0);
	registration->uses--;
}

uint64_t host_registrations(void)
{
	return registration_count;
}

void host_reset(void)
{
	free(registrations);
	registrations = NULL;
	registration_count = 0;
}

/* Whether the pages of the range share one with a registration. */
static bool host_range_overlaps(uint64_t address, uint64_t bytes)
{
	uint64_t page = host_page_bytes();
	uint64_t start = address / page * page, end = (address + bytes + page - 1) / page * page;

	for (size_t i = 0; i < registration_count; i++) {
		uint64_t other_start = registrations[i].address / page * page;
		uint64_t other_end =
			(registrations[i].address + registrations[i].bytes + page - 1) / page *
			page;

		if (start < other_end && other_start < end)
			return true;
	}

	return false;
}

/* Whether the kernel can populate pages by request: since Linux 5.14. */
static bool host_can_populate(void)
{
	static _Alignas(4096) char page[4096];

	return host_page_bytes() > sizeof(page) ||
	       madvise(page, sizeof(page), MADV_POPULATE_READ) == 0;
}

/*
 * Whether the whole range is memory that a device could read, and write unless it is
 * registered as read-only. The pages are touched, as pinning would touch them. An older
 * kernel can only tell whether the range is mapped: an asynchronous msync walks the
 * mappings and does nothing else.
 */
static bool host_range_can_be_pinned(uint64_t address, uint64_t bytes, bool read_only)
{
	uint64_t start = address / host_page_bytes() * host_page_bytes(),
		 length = bytes + (address - start);
	void *first = (void *)(uintptr_t)start;

	if (madvise(first, length, read_only ? MADV_POPULATE_READ : MADV_POPULATE_WRITE) == 0)
		return true;
	return !host_can_populate() && msync(first, length, MS_ASYNC) == 0;
}

static CUresult registration_insert(const struct registration *added)
{
	struct registration *grown =
		reallocarray(registrations, registration_count + 1, sizeof(*grown));
	size_t index;

	if (grown == NULL)
		return CUDA_ERROR_OUT_OF_MEMORY;

	registrations = grown;
	index = registration_index(added->address);
	memmove(&registrations[index + 1], &registrations[index],
		(registration_count - index) * sizeof(*added));
	registrations[index] = *added;
	registration_count++;

	return CUDA_SUCCESS;
}

/* Whether the range can be registered now; vmm_lock is held, and no other lock, because it
 * may take long. */
static CUresult registration_check(const struct registration *added)
{
	struct device *device;
	CUresult result;

	pthread_mutex_lock(&table_lock);
	result = device_current(&device);
	pthread_mutex_unlock(&table_lock);
	if (result != CUDA_SUCCESS)
		return result;
	if (host_range_overlaps(added->address, added->bytes))
		return CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED;

	return host_range_can_be_pinned(added->address, added->bytes,
					(added->flags & CU_MEMHOSTREGISTER_READ_ONLY) != 0)
		       ? CUDA_SUCCESS
		       : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuMemHostRegister(void *address, size_t bytes, unsigned int flags)
{
	struct registration added = {(uint64_t)(uintptr_t)address, bytes, flags, 0, NULL};
	uint64_t end;
	CUresult result;

	CALL_ENTER(cuMemHostRegister);
	if (address == NULL || bytes == 0 || __builtin_add_overflow(added.address, bytes, &end))
		return CUDA_ERROR_INVALID_VALUE;

	if ((flags & ~REGISTER_FLAGS) != 0)
		return flags == CU_MEMHOSTREGISTER_IOMEMORY ? CUDA_ERROR_NOT_SUPPORTED
							    : CUDA_ERROR_INVALID_VALUE;

	LOCKED(vmm_lock);
	result = registration_check(&added);
	if (result != CUDA_SUCCESS)
		return result;

	LOCKED(table_lock);
	result = device_current(&added.device);
	if (result == CUDA_SUCCESS)
		result = registration_insert(&added);
	if (result == CUDA_SUCCESS)
		added.device->children++;

	return result;
}

CUresult cuMemHostUnregister(void *address)
{
	struct registration *registration;
	struct device *device;
	CUresult result;

	CALL_ENTER(cuMemHostUnregister);
	LOCKED(vmm_lock);
	LOCKED(table_lock);
	result = device_current(&device);
	if (result != CUDA_SUCCESS)
		return result;

	registration = registration_of(address, device);
	if (registration == NULL)
		return CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED;

	if (registration->uses != 0)
		return CUDA_ERROR_ILLEGAL_STATE;

	registration->device->children--;
	registration_count--;
	memmove(registration, registration + 1,
		(size_t)(registrations + registration_count - registration) *
			sizeof(*registration));

	return CUDA_SUCCESS;
}

CUresult cuMemHostGetDevicePointer(CUdeviceptr *device_address, void *address, unsigned int flags)
{
	const struct registration *registration;
	struct device *device;
	CUresult result;

	CALL_ENTER(cuMemHostGetDevicePointer);
	if (device_address == NULL || flags != 0)
		return CUDA_ERROR_INVALID_VALUE;

	LOCKED(table_lock);
	result = device_current(&device);
	if (result != CUDA_SUCCESS)
		return result;

	registration = registration_of(address, device);
	if (registration == NULL || (registration->flags & CU_MEMHOSTREGISTER_DEVICEMAP) == 0)
		return CUDA_ERROR_INVALID_VALUE;

	*device_address = SOFT_ALIASES + registration->address;

	return CUDA_SUCCESS;
}
