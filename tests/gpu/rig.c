/* SPDX-License-Identifier: Apache-2.0 */
/* rig: see rig.h. */
#include "tests/gpu/rig.h"

#include <stdlib.h>
#include <string.h>

#define MIXER 0x9e3779b97f4a7c15ull

static uint64_t pattern_word(uint64_t seed, size_t at)
{
	uint64_t word = (seed + 1) * MIXER ^ at * 0xd1342543de82ef95ull;
	return word ^ word >> 29;
}

void pattern_fill(void *bytes, size_t size, uint64_t seed)
{
	uint64_t *words = bytes;
	for (size_t i = 0; i < size / sizeof(*words); i++)
		words[i] = pattern_word(seed, i);
}

bool pattern_holds(const void *bytes, size_t size, uint64_t seed)
{
	const uint64_t *words = bytes;
	for (size_t i = 0; i < size / sizeof(*words); i++) {
		if (words[i] != pattern_word(seed, i))
			return false;
	}

	return true;
}

bool rig_load(struct rig *rig, char *error, size_t error_size)
{
	const char *wanted = getenv("HBM_TEST_DRIVER");
	bool cuda = wanted && strcmp(wanted, "cuda") == 0;

	*rig = (struct rig){0};
	return driver_open(&rig->driver, cuda ? DRIVER_CUDA : DRIVER_SOFT, NULL, error,
			   error_size) == 0 &&
	       rig->driver->cuDeviceGet(&rig->device, 0) == CUDA_SUCCESS;
}

CUresult rig_enter(struct rig *rig)
{
	CUresult result = rig->driver->cuDevicePrimaryCtxRetain(&rig->context, rig->device);

	if (result == CUDA_SUCCESS)
		result = rig->driver->cuCtxSetCurrent(rig->context);
	if (result == CUDA_SUCCESS)
		result = rig->driver->cuStreamCreate(&rig->stream, CU_STREAM_NON_BLOCKING);
	return result;
}

bool rig_open(struct rig *rig, char *error, size_t error_size)
{
	CUresult result;

	if (!rig_load(rig, error, error_size))
		return false;

	result = rig_enter(rig);
	if (result == CUDA_SUCCESS)
		return true;

	strncpy(error, driver_error_name(rig->driver, result), error_size - 1);
	error[error_size - 1] = '\0';
	rig_close(rig);

	return false;
}

void rig_close(struct rig *rig)
{
	if (rig->stream)
		rig->driver->cuStreamDestroy(rig->stream);
	if (rig->context)
		rig->driver->cuDevicePrimaryCtxRelease(rig->device);
	driver_close(rig->driver);
	*rig = (struct rig){0};
}

bool rig_is_soft(const struct rig *rig)
{
	return rig->driver->kind == HBM_DRIVER_SOFT;
}

CUmemAllocationProp rig_prop(const struct rig *rig)
{
	return (CUmemAllocationProp){.type = CU_MEM_ALLOCATION_TYPE_PINNED,
				     .requestedHandleTypes =
					     CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
				     .location = {CU_MEM_LOCATION_TYPE_DEVICE, rig->device}};
}

CUresult rig_create(const struct rig *rig, size_t bytes, CUmemGenericAllocationHandle *handle)
{
	const CUmemAllocationProp prop = rig_prop(rig);
	return rig->driver->cuMemCreate(handle, bytes, &prop, 0);
}

CUresult rig_map(const struct rig *rig, CUmemGenericAllocationHandle handle, size_t bytes,
		 CUmemAccess_flags access, CUdeviceptr *out)
{
	const CUmemAccessDesc desc = {{CU_MEM_LOCATION_TYPE_DEVICE, rig->device}, access};
	CUdeviceptr address;
	CUresult result = rig->driver->cuMemAddressReserve(&address, bytes, 0, 0, 0);

	if (result != CUDA_SUCCESS)
		return result;

	result = rig->driver->cuMemMap(address, bytes, 0, handle, 0);
	if (result != CUDA_SUCCESS) {
		rig->driver->cuMemAddressFree(address, bytes);
		return result;
	}

	result = rig->driver->cuMemSetAccess(address, bytes, &desc, 1);
	if (result != CUDA_SUCCESS)
		rig_unmap(rig, address, bytes);
	else
		*out = address;

	return result;
}

void rig_unmap(const struct rig *rig, CUdeviceptr address, size_t bytes)
{
	rig->driver->cuMemUnmap(address, bytes);
	rig->driver->cuMemAddressFree(address, bytes);
}

CUresult rig_slab(const struct rig *rig, size_t bytes, struct slab_map *out)
{
	struct slab_map slab = {.bytes = bytes};
	CUresult result = rig_create(rig, bytes, &slab.handle);

	if (result != CUDA_SUCCESS)
		return result;

	result =
		rig_map(rig, slab.handle, bytes, CU_MEM_ACCESS_FLAGS_PROT_READWRITE, &slab.address);
	if (result != CUDA_SUCCESS)
		rig->driver->cuMemRelease(slab.handle);
	else
		*out = slab;

	return result;
}

void rig_drop(const struct rig *rig, struct slab_map *slab)
{
	if (slab->address)
		rig_unmap(rig, slab->address, slab->bytes);
	if (slab->handle)
		rig->driver->cuMemRelease(slab->handle);
	*slab = (struct slab_map){0};
}

CUresult rig_fill(const struct rig *rig, CUdeviceptr address, size_t bytes, uint64_t seed)
{
	void *words = malloc(bytes);
	CUresult result = CUDA_ERROR_OUT_OF_MEMORY;

	if (words) {
		pattern_fill(words, bytes, seed);
		result = rig->driver->cuMemcpyHtoD(address, words, bytes);
	}

	if (result ==
	    CUDA_SUCCESS) /* that may return before all is there for another process to see */
		result = rig->driver->cuCtxSynchronize();

	free(words);

	return result;
}

CUresult rig_compare(const struct rig *rig, CUdeviceptr address, size_t bytes, uint64_t seed,
		     bool *same)
{
	void *words = malloc(bytes);
	CUresult result = CUDA_ERROR_OUT_OF_MEMORY;

	if (words)
		result = rig->driver->cuMemcpyDtoH(words, address, bytes);
	if (result == CUDA_SUCCESS)
		*same = pattern_holds(words, bytes, seed);

	free(words);

	return result;
}
