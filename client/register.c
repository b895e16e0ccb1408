/* SPDX-License-Identifier: Apache-2.0 */
/*
 * register: ranges of host regions that are registered with the driver, hbm_region_register(). Each
 * was registered in the context of one device, and is unregistered there, before any part of it is
 * unmapped.
 */
#include <hbm/hbm.h>

#include <errno.h>
#include <stdlib.h>

#include "client/device.h"
#include "client/error.h"
#include "client/region.h"

struct registration {
	struct list link; /* in region->registrations */
	uint64_t offset, bytes;
	uint32_t device; /* in whose context */
};

static void *register_pointer(const struct hbm_region *region, uint64_t offset)
{
	return (void *)(uintptr_t)(region->address + offset);
}

static bool register_overlaps(const struct registration *registration, uint64_t offset,
			      uint64_t bytes)
{
	return registration->offset < offset + bytes &&
	       offset < registration->offset + registration->bytes;
}

/* ---- The end ---- */

static bool register_end(struct hbm_region *region, struct registration *registration)
{
	struct gpu *gpu = &region->hbm->gpu;
	if (!hbm_gpu_enter(gpu, registration->device))
		return false;

	bool ended =
		GPU_CALL(gpu, cuMemHostUnregister, register_pointer(region, registration->offset));
	hbm_gpu_leave(gpu);
	if (!ended)
		return false;

	list_remove(&registration->link);
	free(registration);

	return true;
}

bool hbm_registrations_end(struct hbm_region *region, uint64_t offset, uint64_t bytes)
{
	list_for_each_safe (node, after, &region->registrations) {
		struct registration *registration = container_of(node, struct registration, link);

		if (register_overlaps(registration, offset, bytes) &&
		    !register_end(region, registration))
			return false;
	}

	return true;
}

/* ---- The begin ---- */

static int register_check(struct hbm *hbm, const struct hbm_range *range)
{
	int rc = hbm_ranges_check(hbm, range, 1);
	if (rc)
		return rc;
	if (!range->region->host)
		return hbm_fail(hbm, HBM_UNSUPPORTED, "not a host region");

	list_for_each (node, &range->region->registrations)
		if (register_overlaps(container_of(node, struct registration, link), range->offset,
				      range->bytes))
			return hbm_fail(hbm, HBM_EXISTS, "part of the range is registered");

	return hbm_ranges_turn(hbm, range, 1, SLAB_MAPPED, SLAB_MAPPED, HBM_NOT_FOUND);
}

/* In the current context. Where the device does not find it, it is not registered either. */
static bool register_with(struct gpu *gpu, const struct hbm_range *range, CUdeviceptr *address)
{
	void *at = register_pointer(range->region, range->offset);
	unsigned flags = CU_MEMHOSTREGISTER_PORTABLE | CU_MEMHOSTREGISTER_DEVICEMAP;

	if (range->region->read_only)
		flags |= CU_MEMHOSTREGISTER_READ_ONLY;
	if (!GPU_CALL(gpu, cuMemHostRegister, at, range->bytes, flags))
		return false;
	if (GPU_CALL(gpu, cuMemHostGetDevicePointer, address, at, 0))
		return true;

	(void)gpu->driver->cuMemHostUnregister(at);

	return false;
}

int hbm_region_register(struct hbm *hbm, const struct hbm_range *range, uint32_t device,
			uint64_t *address)
{
	int rc = hbm_use_device(hbm, device);
	if (rc == 0)
		rc = register_check(hbm, range);
	if (rc)
		return rc;

	struct registration *registration = malloc(sizeof(*registration));
	if (!registration)
		return hbm_fail(hbm, -ENOMEM, "cannot allocate a registration");

	CUdeviceptr at = 0;
	bool entered = hbm_gpu_enter(&hbm->gpu, device),
	     done = entered && register_with(&hbm->gpu, range, &at);
	const char *call = hbm->gpu.failed_call;
	CUresult result = hbm->gpu.failed_result;
	if (entered)
		hbm_gpu_leave(&hbm->gpu);
	if (!done) {
		free(registration);
		return hbm_fail_device(hbm, call, (int)result);
	}

	*registration = (struct registration){
		.offset = range->offset, .bytes = range->bytes, .device = device};
	list_push_back(&range->region->registrations, &registration->link);
	if (address)
		*address = at;

	return 0;
}
