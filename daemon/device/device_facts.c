/* SPDX-License-Identifier: Apache-2.0 */
/* device_facts: see device_facts.h. */
#include "daemon/device/device_facts.h"

#include <errno.h>
#include <stdio.h>

#include "daemon/base/log.h"

enum { CU_COMPUTEMODE_DEFAULT = 0, CU_COMPUTEMODE_PROHIBITED = 2 };

/* Also whether there is memory for GPUDirect RDMA: a driver that refuses it, whatever the
 * attribute says, is asked for plain memory. */
static CUresult device_facts_ask_granularity(struct device *device)
{
	const struct driver *driver = device->driver;
	size_t bytes = 0;
	int rdma = 0;

	CUresult r = driver->cuDeviceGetAttribute(
		&rdma, CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WITH_CUDA_VMM_SUPPORTED, device->handle);
	device->rdma = r == CUDA_SUCCESS && rdma != 0;

	CUmemAllocationProp prop = device_allocation(device);
	r = driver->cuMemGetAllocationGranularity(&bytes, &prop, CU_MEM_ALLOC_GRANULARITY_MINIMUM);
	if (r != CUDA_SUCCESS && device->rdma) {
		device->rdma = false;
		prop = device_allocation(device);
		r = driver->cuMemGetAllocationGranularity(&bytes, &prop,
							  CU_MEM_ALLOC_GRANULARITY_MINIMUM);
	}

	device->granularity = bytes;

	return r;
}

CUresult device_facts_ask(struct device *device, const char **call)
{
	const struct driver *driver = device->driver;

	*call = "cuDeviceGet";
	CUresult r = driver->cuDeviceGet(&device->handle, (int)device->index);
	if (r != CUDA_SUCCESS)
		return r;

	*call = "cuDeviceGetName";
	r = driver->cuDeviceGetName(device->name, (int)sizeof(device->name), device->handle);
	if (r != CUDA_SUCCESS)
		return r;

	*call = "cuDeviceGetUuid";
	r = driver->cuDeviceGetUuid(&device->uuid, device->handle);
	if (r != CUDA_SUCCESS)
		return r;

	size_t bytes;
	*call = "cuDeviceTotalMem";
	r = driver->cuDeviceTotalMem(&bytes, device->handle);
	if (r != CUDA_SUCCESS)
		return r;

	device->total = bytes;
	*call = "cuMemGetAllocationGranularity";
	r = device_facts_ask_granularity(device);
	if (r != CUDA_SUCCESS)
		return r;

	int pitch = 0;
	*call = "cuDeviceGetAttribute";
	r = driver->cuDeviceGetAttribute(&pitch, CU_DEVICE_ATTRIBUTE_MAX_PITCH, device->handle);
	device->max_pitch = pitch > 0 ? (uint64_t)pitch : 0;

	return r;
}

void device_facts_ask_node(struct device *device)
{
	static const CUdevice_attribute attributes[] = {CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID,
							CU_DEVICE_ATTRIBUTE_PCI_BUS_ID,
							CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID};
	int at[3];

	device->node = -1;
	for (unsigned i = 0; i < 3; i++)
		if (device->driver->cuDeviceGetAttribute(&at[i], attributes[i], device->handle) !=
		    CUDA_SUCCESS)
			return;

	device->node = numa_of_pci(device->numa, (unsigned)at[0], (unsigned)at[1], (unsigned)at[2]);
}

/* Without this check a device that lacks one of these would open, and fail later with a
 * less clear error. */
static int device_facts_check_abilities(const struct device *device, char *error, size_t error_size)
{
	static const struct {
		CUdevice_attribute attribute;
		const char *what;
	} needs[] = {
		{CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING, "unified addressing"},
		{CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED,
		 "virtual memory management"},
		{CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED,
		 "memory as file descriptors"},
		{CU_DEVICE_ATTRIBUTE_HOST_REGISTER_SUPPORTED, "registering host memory"},
	};
	for (size_t i = 0; i < sizeof(needs) / sizeof(needs[0]); i++) {
		int value = 0;

		/* An attribute unknown to the driver is one that its devices lack. */
		CUresult r = device->driver->cuDeviceGetAttribute(&value, needs[i].attribute,
								  device->handle);
		if (r == CUDA_SUCCESS && value != 0)
			continue;

		snprintf(error, error_size, "device %u (%s) cannot be used: it has no %s (%s)",
			 device->index, device->name, needs[i].what,
			 r == CUDA_SUCCESS ? "the driver says so"
					   : driver_error_name(device->driver, r));

		return r == CUDA_SUCCESS || r == CUDA_ERROR_INVALID_VALUE ? -EOPNOTSUPP : -EIO;
	}

	return 0;
}

int device_check(const struct device *device, char *error, size_t error_size)
{
	int mode = CU_COMPUTEMODE_DEFAULT;
	int r = device_facts_check_abilities(device, error, error_size);
	if (r < 0 || device->driver->cuDeviceGetAttribute(&mode, CU_DEVICE_ATTRIBUTE_COMPUTE_MODE,
							  device->handle) != CUDA_SUCCESS)
		return r;

	if (mode == CU_COMPUTEMODE_PROHIBITED) {
		snprintf(error, error_size,
			 "device %u (%s) cannot be used: its compute mode is PROHIBITED; change it "
			 "with nvidia-smi -c DEFAULT",
			 device->index, device->name);
		return -EACCES;
	}

	if (mode != CU_COMPUTEMODE_DEFAULT)
		log_warning("device %u: compute mode EXCLUSIVE_PROCESS admits one process: clients "
			    "will be refused unless all processes, hbmd too, run under MPS; change "
			    "it with nvidia-smi -c DEFAULT",
			    device->index);

	return 0;
}
