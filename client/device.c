/* SPDX-License-Identifier: Apache-2.0 */
/* device: see device.h. */
#include "client/device.h"

#include "client/connection.h"
#include "client/error.h"

#include <errno.h>

int hbm_use_device(struct hbm *hbm, uint32_t device)
{
	if (hbm_check_owner(hbm))
		return -EPERM;

	if (device >= hbm->info.devices)
		return hbm_fail(hbm, HBM_INVALID, "device %u: the daemon has %u", device,
				hbm->info.devices);

	if (hbm->inspect_only)
		return hbm_fail(hbm, HBM_UNSUPPORTED,
				"this connection was made with inspect_only and has no devices");

	char error[sizeof(hbm->error)] = "";
	int rc = hbm_gpu_open(&hbm->gpu, &hbm->info, error, sizeof(error));
	if (rc)
		return hbm_fail(hbm, rc, "%s", error);
	if (!hbm_gpu_recognise(&hbm->gpu, &hbm->info))
		return hbm_fail_device(hbm, hbm->gpu.failed_call, hbm->gpu.failed_result);
	if (hbm->gpu.ordinals[device] >= 0)
		return 0;

	return hbm_fail(hbm, -ENODEV,
			"device %u (%s) is not visible to this process: see CUDA_VISIBLE_DEVICES",
			device,
			driver_uuid_text((char[DRIVER_UUID_TEXT]){0}, &hbm->gpu.uuids[device]));
}

int hbm_device_ordinal(struct hbm *hbm, uint32_t device, int *ordinal)
{
	int rc = hbm_use_device(hbm, device);
	if (rc == 0)
		*ordinal = hbm->gpu.ordinals[device];
	return rc;
}
