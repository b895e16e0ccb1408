/* SPDX-License-Identifier: Apache-2.0 */
/* guest: see guest.h. */
#include "daemon/region/guest.h"

#include <string.h>

/* Whether the call succeeded; else it is what is to be reported. */
static bool guest_check(struct guest *guest, const char *call, CUresult result)
{
	if (result == CUDA_SUCCESS)
		return true;

	guest->call = call;
	guest->result = result;

	return false;
}

#define GUEST_CALL(guest, name, ...)                                                               \
	guest_check(guest, #name, (guest)->device->driver->name(__VA_ARGS__))

/* ---- By descriptor ---- */

/* Whether the memory lies on the device and nowhere else. */
static bool guest_is_here(struct guest *guest, CUmemGenericAllocationHandle handle)
{
	CUmemAllocationProp prop;

	if (!GUEST_CALL(guest, cuMemGetAllocationPropertiesFromHandle, &prop, handle))
		return false;

	if (prop.location.type == CU_MEM_LOCATION_TYPE_DEVICE &&
	    prop.location.id == (int)guest->device->handle)
		return true;

	guest->status = HBM_INVALID;

	return false;
}

static bool guest_map(struct guest *guest, CUmemGenericAllocationHandle handle)
{
	const struct device *device = guest->device;
	CUdeviceptr address;

	if (!GUEST_CALL(guest, cuMemAddressReserve, &address, guest->bytes, 0, 0, 0))
		return false;

	/* The driver alone knows how large the allocation is: it refuses to map more. */
	bool mapped = GUEST_CALL(guest, cuMemMap, address, guest->bytes, 0, handle, 0);
	if (mapped &&
	    guest_check(guest, "cuMemSetAccess", device_allow(device, address, guest->bytes))) {
		guest->address = address;
		return true;
	}

	if (mapped)
		device_unmap(device, address, guest->bytes);
	device_unreserve(device, address, guest->bytes);

	return false;
}

static void guest_open_descriptor(struct guest *guest)
{
	CUmemGenericAllocationHandle handle;

	if (!GUEST_CALL(guest, cuMemImportFromShareableHandle, &handle, (void *)(intptr_t)guest->fd,
			CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR))
		return;

	if (guest_is_here(guest, handle))
		guest_map(guest, handle);

	device_release(guest->device, handle);
}

static void guest_close_descriptor(struct guest *guest)
{
	const struct device *device = guest->device;

	/* An address range that is still mapped cannot be freed. */
	if (guest_check(guest, "cuMemUnmap", device_unmap(device, guest->address, guest->bytes)))
		guest_check(guest, "cuMemAddressFree",
			    device_unreserve(device, guest->address, guest->bytes));
}

/* ---- By handle ---- */

static bool guest_is_open(const struct guest *guest)
{
	list_for_each (node, &guest->device->handles) {
		const struct guest *other = container_of(node, struct guest, link);
		if (memcmp(&other->handle, &guest->handle, sizeof(guest->handle)) == 0)
			return true;
	}

	return false;
}

/* Whether the allocation begins at the address and is as large as its client says. */
static bool guest_is_whole(struct guest *guest, CUdeviceptr address)
{
	CUdeviceptr base;
	size_t bytes;

	if (!GUEST_CALL(guest, cuMemGetAddressRange, &base, &bytes, address))
		return false;
	if (base <= address && guest->bytes <= bytes - (address - base))
		return true;

	guest->has = bytes - (address - base);
	guest->status = HBM_INVALID;

	return false;
}

static void guest_open_handle(struct guest *guest)
{
	const struct driver *driver = guest->device->driver;
	CUdeviceptr address;

	if (!driver->cuIpcOpenMemHandle || !driver->cuIpcCloseMemHandle ||
	    !driver->cuMemGetAddressRange) {
		guest->status = HBM_UNSUPPORTED;
		return;
	}

	if (guest_is_open(guest)) {
		guest->status = HBM_EXISTS;
		return;
	}

	if (!GUEST_CALL(guest, cuIpcOpenMemHandle, &address, guest->handle,
			CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS))
		return;

	if (!guest_is_whole(guest, address)) {
		driver->cuIpcCloseMemHandle(address);
		return;
	}

	guest->address = address;
	list_push_back(&guest->device->handles, &guest->link);
}

static void guest_close_handle(struct guest *guest)
{
	GUEST_CALL(guest, cuIpcCloseMemHandle, guest->address);
}

/* ---- Both ---- */

void guest_open(struct guest *guest)
{
	guest->status = HBM_OK;
	guest->result = CUDA_SUCCESS;
	list_init(&guest->link);
	if (guest->kind == HBM_WIRE_GUEST_FD)
		guest_open_descriptor(guest);
	else
		guest_open_handle(guest);
}

void guest_close(struct guest *guest)
{
	guest->result = CUDA_SUCCESS;
	list_remove(&guest->link);
	if (guest->kept)
		return;

	if (guest->kind == HBM_WIRE_GUEST_FD)
		guest_close_descriptor(guest);
	else
		guest_close_handle(guest);

	guest->address = 0;
}

static int guest_refusal(const struct guest *guest, const struct reason *why)
{
	const struct device *device = guest->device;

	if (guest->status == HBM_UNSUPPORTED)
		return reason_set(why, HBM_UNSUPPORTED, "the driver opens no handles");
	if (guest->status == HBM_EXISTS)
		return reason_set(why, HBM_EXISTS, "the handle is open already");
	if (guest->kind == HBM_WIRE_GUEST_IPC)
		return reason_set(why, HBM_INVALID, "bytes is %llu, the allocation has %llu",
				  (unsigned long long)guest->bytes, (unsigned long long)guest->has);

	return reason_set(why, HBM_INVALID, "the memory is not on device %u", device->index);
}

int guest_outcome(const struct guest *guest, const struct reason *why)
{
	const struct device *device = guest->device;
	CUresult result = guest->result;

	if (result == CUDA_SUCCESS)
		return guest->status == HBM_OK ? HBM_OK : guest_refusal(guest, why);

	if (driver_error_is_sticky(result))
		return reason_set(why, device_failed(guest->device, guest->call, result),
				  "%s failed; see the daemon's log", guest->call);

	return reason_set(why, result == CUDA_ERROR_OUT_OF_MEMORY ? HBM_NO_SPACE : HBM_INVALID,
			  "%s: %s", guest->call, driver_error_name(device->driver, result));
}

const char *guest_kind_name(uint32_t kind)
{
	return kind == HBM_WIRE_GUEST_FD ? "fd" : kind == HBM_WIRE_GUEST_IPC ? "ipc" : "";
}
