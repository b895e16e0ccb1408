/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fence: the shared fence page, from the CPU and from a stream. The page is registered with
 * the driver once, for all contexts. Its address for a device is queried each time, which
 * is cheap.
 */
#include "client/fence.h"

#include "client/connection.h"
#include "client/device.h"
#include "client/error.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

volatile uint64_t *hbm_fence(struct hbm *hbm, uint32_t slot)
{
	if (hbm_check_owner(hbm))
		return NULL;
	return slot < HBM_WIRE_FENCES ? &hbm->fences[slot] : NULL;
}

int hbm_fence_signal(struct hbm *hbm, uint32_t slot, uint64_t value)
{
	if (!hbm_owner_is_here(&hbm->owner))
		return -EPERM;
	if (slot >= HBM_WIRE_FENCES)
		return HBM_INVALID;

	/* Pairs with the daemon's load: if it sees the value, it sees every write before
	 * it. */
	__atomic_store_n(&hbm->fences[slot], value, __ATOMIC_RELEASE);

	/* EAGAIN: the counter is full, so the daemon will wake up anyway. */
	return eventfd_write(hbm->doorbell, 1) < 0 && errno != EAGAIN ? -errno : 0;
}

void hbm_fences_unregister(struct hbm *hbm)
{
	if (!hbm->fences_registered || !hbm_gpu_enter(&hbm->gpu, hbm->fences_device))
		return;
	GPU_CALL(&hbm->gpu, cuMemHostUnregister, (void *)hbm->fences);
	hbm_gpu_leave(&hbm->gpu);
}

static bool fence_address(struct hbm *hbm, uint32_t device, CUdeviceptr *page)
{
	void *fences = (void *)hbm->fences;
	if (!hbm->fences_registered) {
		hbm->fences_registered = GPU_CALL(
			&hbm->gpu, cuMemHostRegister, fences, HBM_WIRE_FENCES * sizeof(uint64_t),
			CU_MEMHOSTREGISTER_PORTABLE | CU_MEMHOSTREGISTER_DEVICEMAP);
		hbm->fences_device = device;
	}

	return hbm->fences_registered &&
	       GPU_CALL(&hbm->gpu, cuMemHostGetDevicePointer, page, fences, 0);
}

int hbm_fence_device(struct hbm *hbm, uint32_t device, uint32_t slot, uint64_t *address)
{
	if (slot >= HBM_WIRE_FENCES)
		return hbm_fail(hbm, HBM_INVALID, "fence %u: there are %d", slot, HBM_WIRE_FENCES);

	int rc = hbm_use_device(hbm, device);
	if (rc)
		return rc;

	CUdeviceptr page;
	bool entered = hbm_gpu_enter(&hbm->gpu, device),
	     done = entered && fence_address(hbm, device, &page);
	const char *call = hbm->gpu.failed_call;
	CUresult result = hbm->gpu.failed_result;
	if (entered)
		hbm_gpu_leave(&hbm->gpu);
	if (!done)
		return hbm_fail_device(hbm, call, result);

	*address = page + slot * sizeof(uint64_t);

	return 0;
}
