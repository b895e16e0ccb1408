/* SPDX-License-Identifier: Apache-2.0 */
/* copier: see copier.h. */
#include "client/ctl/copier.h"

#include "kernels/driver/driver.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

struct copier {
	struct driver *driver;
	CUdevice device;
	CUcontext context; /* NULL: not retained */
};

static CUresult copier_retain(struct copier *copier, int ordinal)
{
	CUresult result = copier->driver->cuDeviceGet(&copier->device, ordinal);
	if (result != CUDA_SUCCESS)
		return result;

	CUcontext context;
	result = copier->driver->cuDevicePrimaryCtxRetain(&context, copier->device);
	if (result == CUDA_SUCCESS)
		copier->context = context;

	return result;
}

int copier_open(struct copier **out, struct hbm *hbm, uint32_t device, char *error,
		size_t error_size)
{
	/* Have the library load its driver first: only it knows the soft driver's
	 * configuration. */
	int ordinal;
	if (hbm_device_ordinal(hbm, device, &ordinal) != 0) {
		snprintf(error, error_size, "%s", hbm_error(hbm));
		return -1;
	}

	enum driver_choice choice =
		hbm_info(hbm)->driver == HBM_DRIVER_CUDA ? DRIVER_CUDA : DRIVER_SOFT;
	struct copier *copier = calloc(1, sizeof(*copier));
	if (!copier) {
		snprintf(error, error_size, "out of memory");
		return -1;
	}

	if (driver_open(&copier->driver, choice, NULL, error, error_size) < 0) {
		copier_close(copier);
		return -1;
	}

	CUresult result = copier_retain(copier, ordinal);
	if (result != CUDA_SUCCESS) {
		snprintf(error, error_size, "device %" PRIu32 ": %s", device,
			 driver_error_name(copier->driver, result));
		copier_close(copier);
		return -1;
	}

	*out = copier;

	return 0;
}

struct copier *copier_close(struct copier *copier)
{
	if (!copier)
		return NULL;
	if (copier->context)
		copier->driver->cuDevicePrimaryCtxRelease(copier->device);

	driver_close(copier->driver);
	free(copier);

	return NULL;
}

int copier_enter(struct copier *copier)
{
	return (int)copier->driver->cuCtxSetCurrent(copier->context);
}

int copier_write(struct copier *copier, uint64_t to, const void *from, size_t bytes)
{
	CUresult result = copier->driver->cuMemcpyHtoD((CUdeviceptr)to, from, bytes);
	/* A copy from unregistered memory may return before the bytes have arrived. */
	return (int)(result == CUDA_SUCCESS ? copier->driver->cuCtxSynchronize() : result);
}

int copier_read(struct copier *copier, void *to, uint64_t from, size_t bytes)
{
	return (int)copier->driver->cuMemcpyDtoH(to, (CUdeviceptr)from, bytes);
}

const char *copier_error(const struct copier *copier, int error)
{
	return driver_error_name(copier->driver, (CUresult)error);
}
