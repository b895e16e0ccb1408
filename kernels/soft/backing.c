/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Physical memory: creating, releasing, and charging it. Exporting and importing are in
 * export.c.
 */
#include "kernels/soft/backing.h"

#include "kernels/soft/card.h"
#include "kernels/soft/lock.h"
#include "kernels/soft/share.h"
#include "kernels/soft/slots.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

static struct slots handles = {.kind = 1};

/* Charged memory that this process has freed and another process still holds. */
struct lingerer {
	struct lingerer *next;
	struct device *device;
	uint64_t bytes;
	int fd;
};
static struct lingerer *lingerers;

struct backing *backing_find(CUmemGenericAllocationHandle handle)
{
	struct backing *backing = slots_find(&handles, handle);

	return backing != NULL && backing->references != 0 ? backing : NULL;
}

uint64_t backings_live(void)
{
	return handles.live;
}

/* Keeps the charge of memory that other processes hold. If that cannot be recorded, the
 * charge ends early. */
static bool backing_keep_charge(struct backing *backing)
{
	struct lingerer *lingerer;

	if (!backing->charged || !backing->exported || !share_is_held(backing->fd))
		return false;

	lingerer = malloc(sizeof(*lingerer));
	if (lingerer == NULL)
		return false;

	*lingerer = (struct lingerer){lingerers, backing->device, backing->bytes, backing->fd};
	lingerers = lingerer;

	return true;
}

void lingerers_sweep(void)
{
	struct lingerer **at = &lingerers;

	while (*at != NULL) {
		struct lingerer *lingerer = *at;

		if (share_is_held(lingerer->fd)) {
			at = &lingerer->next;
			continue;
		}

		*at = lingerer->next;
		lingerer->device->used -= lingerer->bytes;
		close(lingerer->fd);
		free(lingerer);
	}
}

static void backing_free_if_unused(struct backing *backing)
{
	if (backing->references != 0 || backing->mappings != 0)
		return;
	slots_remove(&handles, backing->name);

	if (!backing_keep_charge(backing)) {
		if (backing->charged)
			backing->device->used -= backing->bytes;
		close(backing->fd);
	}

	free(backing);
}

void backing_hold(struct backing *backing)
{
	backing->mappings++;
}

void backing_drop(struct backing *backing)
{
	backing->mappings--;
	backing_free_if_unused(backing);
}

void backing_release(struct backing *backing)
{
	backing->references--;
	backing_free_if_unused(backing);
}

void backings_reset(void)
{
	struct backing *backing;
	uint32_t at = 0;

	while ((backing = slots_next(&handles, &at)) != NULL) {
		close(backing->fd);
		free(backing);
	}

	slots_clear(&handles);

	while (lingerers != NULL) {
		struct lingerer *lingerer = lingerers;

		lingerers = lingerer->next;
		close(lingerer->fd);
		free(lingerer);
	}
}

CUresult backing_new(const struct backing *model, CUmemGenericAllocationHandle *handle)
{
	struct backing *backing = malloc(sizeof(*backing));
	uint64_t name;

	if (backing == NULL)
		return CUDA_ERROR_OUT_OF_MEMORY;

	*backing = *model;
	name = slots_add(&handles, backing);
	if (name == 0) {
		free(backing);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}

	backing->name = name;
	backing->references = 1;
	if (backing->charged)
		backing->device->used += backing->bytes;

	*handle = name;

	return CUDA_SUCCESS;
}

/* A file for memory of a device that only this process allocates from; negative: none. */
static int backing_allocate(struct device *device, uint64_t bytes)
{
	const struct share share = {device->index, card_number(), bytes};

	return bytes > backing_free_bytes(device) ? -1 : share_create(&share);
}

CUresult backing_charge_context(struct device *device)
{
	if (device->context_bytes == 0)
		return CUDA_SUCCESS;

	if (card_is_shared()) {
		device->context_fd =
			card_allocate(device->index, device->context_bytes, device->total);
		return device->context_fd < 0 ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_SUCCESS;
	}

	if (device->context_bytes > backing_free_bytes(device))
		return CUDA_ERROR_OUT_OF_MEMORY;

	device->used += device->context_bytes;

	return CUDA_SUCCESS;
}

void backing_discharge_context(struct device *device)
{
	if (device->context_bytes == 0)
		return;
	if (card_is_shared())
		close(device->context_fd);
	else
		device->used -= device->context_bytes;
}

uint64_t backing_free_bytes(struct device *device)
{
	uint64_t used;

	lingerers_sweep();
	used = card_is_shared() ? card_used(device->index)
				: device->used + card_left(device->index);

	return used < device->total ? device->total - used : 0;
}

/* As memory is that others have written to. False: the file cannot be written. */
static bool backing_soil(const struct backing *model)
{
	uint64_t words[4096];
	uint64_t at = 0;

	if (model->device->dirt == 0)
		return true;
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		words[i] = model->device->dirt;

	while (at < model->bytes &&
	       pwrite(model->fd, words, sizeof(words), (off_t)at) == (ssize_t)sizeof(words))
		at += sizeof(words);

	return at == model->bytes;
}

CUresult backing_create(struct backing *model, CUmemGenericAllocationHandle *handle)
{
	CUresult result = CUDA_ERROR_OUT_OF_MEMORY;

	model->fd = card_is_shared() ? card_allocate(model->device->index, model->bytes,
						     model->device->total)
				     : backing_allocate(model->device, model->bytes);
	if (model->fd < 0)
		return CUDA_ERROR_OUT_OF_MEMORY;

	model->charged = !card_is_shared();
	model->exported = card_is_shared(); /* its users can be told */
	if (backing_soil(model))
		result = backing_new(model, handle);
	if (result != CUDA_SUCCESS)
		close(model->fd);

	return result;
}

static CUresult backing_check_prop(const CUmemAllocationProp *prop)
{
	if (prop == NULL || prop->type != CU_MEM_ALLOCATION_TYPE_PINNED ||
	    prop->win32HandleMetaData != NULL)
		return CUDA_ERROR_INVALID_VALUE;

	if (((unsigned)prop->requestedHandleTypes &
	     ~(unsigned)CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR) != 0)
		return CUDA_ERROR_NOT_SUPPORTED;

	if (prop->allocFlags.compressionType != 0 || prop->allocFlags.gpuDirectRDMACapable > 1 ||
	    prop->allocFlags.usage != 0)
		return CUDA_ERROR_NOT_SUPPORTED;

	for (size_t i = 0; i < sizeof(prop->allocFlags.reserved); i++)
		if (prop->allocFlags.reserved[i] != 0)
			return CUDA_ERROR_INVALID_VALUE;

	if (prop->location.type != CU_MEM_LOCATION_TYPE_DEVICE)
		return CUDA_ERROR_NOT_SUPPORTED;

	return device_at(prop->location.id) == NULL ? CUDA_ERROR_INVALID_DEVICE : CUDA_SUCCESS;
}

CUresult cuMemGetAllocationGranularity(size_t *granularity, const CUmemAllocationProp *prop,
				       CUmemAllocationGranularity_flags option)
{
	CUresult result;

	CALL_ENTER(cuMemGetAllocationGranularity);
	result = backing_check_prop(prop);
	if (result != CUDA_SUCCESS)
		return result;
	if (granularity == NULL || (unsigned)option > CU_MEM_ALLOC_GRANULARITY_RECOMMENDED)
		return CUDA_ERROR_INVALID_VALUE;

	*granularity = SOFT_GRANULARITY;

	return CUDA_SUCCESS;
}

CUresult cuMemCreate(CUmemGenericAllocationHandle *handle, size_t bytes,
		     const CUmemAllocationProp *prop, unsigned long long flags)
{
	struct backing model = {.bytes = bytes};
	CUresult result;

	CALL_ENTER(cuMemCreate);
	result = backing_check_prop(prop);
	if (result != CUDA_SUCCESS)
		return result;
	if (handle == NULL || flags != 0 || bytes == 0 || bytes % SOFT_GRANULARITY != 0)
		return CUDA_ERROR_INVALID_VALUE;

	LOCKED(vmm_lock);
	model.device = device_at(prop->location.id);
	result = device_answers(model.device);
	if (result != CUDA_SUCCESS)
		return result;

	model.shareable = prop->requestedHandleTypes == CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
	model.rdma = prop->allocFlags.gpuDirectRDMACapable != 0;

	return backing_create(&model, handle);
}

CUresult cuMemRelease(CUmemGenericAllocationHandle handle)
{
	struct backing *backing;
	CUresult result;

	CALL_ENTER(cuMemRelease);
	LOCKED(vmm_lock);
	backing = backing_find(handle);
	if (backing == NULL)
		return CUDA_ERROR_INVALID_VALUE;

	result = device_answers(backing->device);
	if (result == CUDA_SUCCESS)
		backing_release(backing);

	return result;
}

CUresult cuMemGetAllocationPropertiesFromHandle(CUmemAllocationProp *prop,
						CUmemGenericAllocationHandle handle)
{
	struct backing *backing;

	CALL_ENTER(cuMemGetAllocationPropertiesFromHandle);
	LOCKED(vmm_lock);
	backing = backing_find(handle);
	if (backing == NULL || prop == NULL)
		return CUDA_ERROR_INVALID_VALUE;

	*prop = (CUmemAllocationProp){
		.type = CU_MEM_ALLOCATION_TYPE_PINNED,
		.requestedHandleTypes = backing->shareable
						? CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR
						: CU_MEM_HANDLE_TYPE_NONE,
		.location = {CU_MEM_LOCATION_TYPE_DEVICE, (int)backing->device->index},
		.allocFlags.gpuDirectRDMACapable = backing->rdma,
	};

	return CUDA_SUCCESS;
}

CUresult cuMemGetInfo(size_t *free_bytes, size_t *total_bytes)
{
	struct device *device;
	CUresult result;

	CALL_ENTER(cuMemGetInfo);
	if (free_bytes == NULL || total_bytes == NULL)
		return CUDA_ERROR_INVALID_VALUE;

	LOCKED(vmm_lock);
	LOCKED(table_lock);
	result = device_current(&device);
	if (result != CUDA_SUCCESS)
		return result;

	*free_bytes = backing_free_bytes(device);
	*total_bytes = device->total;

	return CUDA_SUCCESS;
}
