/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/device/scrub.h"

/* Where memory is mapped meanwhile. */
struct scrub {
	CUdeviceptr address;
	CUstream stream;
	bool mapped;
};

static CUresult scrub_open(struct scrub *scrub, const struct device *device,
			   CUmemGenericAllocationHandle handle, uint64_t bytes)
{
	const struct driver *driver = device->driver;
	CUresult r = driver->cuMemAddressReserve(&scrub->address, bytes, 0, 0, 0);
	if (r != CUDA_SUCCESS)
		return r;

	r = driver->cuMemMap(scrub->address, bytes, 0, handle, 0);
	if (r != CUDA_SUCCESS)
		return r;

	scrub->mapped = true;
	r = device_allow(device, scrub->address, bytes);

	return r == CUDA_SUCCESS ? driver->cuStreamCreate(&scrub->stream, CU_STREAM_NON_BLOCKING)
				 : r;
}

/* Tried again as device_unmap(), for memory that is written to cannot be unmapped. */
static CUresult scrub_wait(const struct scrub *scrub, const struct device *device)
{
	CUresult r = device->driver->cuStreamSynchronize(scrub->stream);

	return r != CUDA_SUCCESS && !driver_error_is_sticky(r)
		       ? device->driver->cuStreamSynchronize(scrub->stream)
		       : r;
}

static CUresult scrub_first(CUresult one, CUresult other)
{
	return one != CUDA_SUCCESS ? one : other;
}

/* Undoes each part that has been made, whatever becomes of the others. */
static CUresult scrub_close(const struct scrub *scrub, const struct device *device, uint64_t bytes)
{
	CUresult r = CUDA_SUCCESS;

	if (scrub->stream)
		r = device->driver->cuStreamDestroy(scrub->stream);
	if (r != CUDA_SUCCESS && !driver_error_is_sticky(r))
		r = device->driver->cuStreamDestroy(scrub->stream);
	if (scrub->mapped)
		r = scrub_first(r, device_unmap(device, scrub->address, bytes));
	if (scrub->address)
		r = scrub_first(r, device_unreserve(device, scrub->address, bytes));

	return r;
}

CUresult scrub_memory(const struct device *device, CUmemGenericAllocationHandle handle,
		      uint64_t bytes)
{
	const struct driver *driver = device->driver;
	struct scrub scrub = {0};
	CUresult r = scrub_open(&scrub, device, handle, bytes);

	if (r == CUDA_SUCCESS)
		r = driver->cuMemsetD8Async(scrub.address, 0, bytes, scrub.stream);
	if (r == CUDA_SUCCESS)
		r = scrub_wait(&scrub, device);

	return scrub_first(r, scrub_close(&scrub, device, bytes));
}
