/* SPDX-License-Identifier: Apache-2.0 */
/* The table of devices, and queries about them. */
#include "kernels/soft/device.h"

#include "kernels/soft/fault.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static struct device devices[SOFT_DEVICES_MAX];
static unsigned count;

void device_fail(struct device *device, CUresult fault)
{
	CUresult none = CUDA_SUCCESS;

	atomic_compare_exchange_strong(&device->fault, &none, fault);
}

void device_go(struct device *device)
{
	atomic_store(&device->gone, true);
	device_fail(device, CUDA_ERROR_UNKNOWN);
}

/* Of this thread's context, or the first. */
static void device_go_of_thread(void)
{
	struct device *device = device_of_thread();

	device_go(device != NULL ? device : &devices[0]);
}

void devices_setup(const struct options *options)
{
	fault_on_gone(device_go_of_thread);
	count = options->devices;
	for (unsigned i = 0; i < count; i++) {
		devices[i].index = i;
		devices[i].total = options->memory;
		devices[i].call_ns = (uint64_t)(options->call_us * 1e3);
		devices[i].unmap_waits = options->unmap_waits;
		devices[i].dirt = options->dirt;
		pthread_mutex_init(&devices[i].call_lock, NULL);
		devices[i].context_bytes = options->context_bytes;
		pthread_mutex_init(&devices[i].engines[ENGINE_D2H].lock, NULL);
		pthread_mutex_init(&devices[i].engines[ENGINE_H2D].lock, NULL);
		engine_setup(&devices[i].engines[ENGINE_D2H], options->d2h_gib_s,
			     options->latency_us);
		engine_setup(&devices[i].engines[ENGINE_H2D], options->h2d_gib_s,
			     options->latency_us);
	}
}

void devices_reset(void)
{
	for (unsigned i = 0; i < count; i++)
		if (devices[i].retained != 0 && devices[i].context_fd > 0)
			close(devices[i].context_fd);
	count = 0;
	memset(devices, 0, sizeof(devices));
}

unsigned devices_count(void)
{
	return count;
}

struct device *device_at(int ordinal)
{
	return ordinal >= 0 && (unsigned)ordinal < count ? &devices[ordinal] : NULL;
}

CUresult device_fault(const struct device *device)
{
	return atomic_load(&device->fault);
}

CUresult device_answers(const struct device *device)
{
	return atomic_load(&device->gone) ? CUDA_ERROR_UNKNOWN : CUDA_SUCCESS;
}

int hbm_soft_gone(unsigned device)
{
	struct device *found = device_at((int)device);

	if (found == NULL)
		return -EINVAL;

	device_go(found);

	return 0;
}

uint64_t devices_retained(void)
{
	uint64_t retained = 0;

	for (unsigned i = 0; i < count; i++)
		retained += devices[i].retained != 0;
	return retained;
}

CUresult cuDriverGetVersion(int *version)
{
	CALL_ENTER(cuDriverGetVersion);
	if (version == NULL)
		return CUDA_ERROR_INVALID_VALUE;
	*version = SOFT_DRIVER_VERSION;
	return CUDA_SUCCESS;
}

CUresult cuDeviceGetCount(int *out)
{
	CALL_ENTER(cuDeviceGetCount);
	if (out == NULL)
		return CUDA_ERROR_INVALID_VALUE;
	*out = (int)count;
	return CUDA_SUCCESS;
}

CUresult cuDeviceGet(CUdevice *device, int ordinal)
{
	CALL_ENTER(cuDeviceGet);
	if (device == NULL)
		return CUDA_ERROR_INVALID_VALUE;
	if (device_at(ordinal) == NULL)
		return CUDA_ERROR_INVALID_DEVICE;

	*device = ordinal;

	return CUDA_SUCCESS;
}

/* Validates the arguments of a query. */
static CUresult device_check_question(const void *out, CUdevice device)
{
	if (device_at(device) == NULL)
		return CUDA_ERROR_INVALID_DEVICE;
	return out == NULL ? CUDA_ERROR_INVALID_VALUE : device_answers(device_at(device));
}

CUresult cuDeviceGetName(char *name, int length, CUdevice device)
{
	CUresult result;

	CALL_ENTER(cuDeviceGetName);
	result = device_check_question(name, device);
	if (result != CUDA_SUCCESS)
		return result;
	if (length < 1)
		return CUDA_ERROR_INVALID_VALUE;

	snprintf(name, (size_t)length, "soft device %d", device);

	return CUDA_SUCCESS;
}

CUresult cuDeviceGetUuid(CUuuid *uuid, CUdevice device)
{
	CUresult result;

	CALL_ENTER(cuDeviceGetUuid);
	result = device_check_question(uuid, device);
	if (result != CUDA_SUCCESS)
		return result;

	memcpy(uuid->bytes, "hbm soft device", sizeof(uuid->bytes));
	uuid->bytes[15] = (char)device;

	return CUDA_SUCCESS;
}

CUresult cuDeviceTotalMem(size_t *bytes, CUdevice device)
{
	CUresult result;

	CALL_ENTER(cuDeviceTotalMem);
	result = device_check_question(bytes, device);
	if (result == CUDA_SUCCESS)
		*bytes = device_at(device)->total;

	return result;
}

/* A bus number that no real device is expected to have. */
CUresult cuDeviceGetPCIBusId(char *id, int length, CUdevice device)
{
	CUresult result;

	CALL_ENTER(cuDeviceGetPCIBusId);
	result = device_check_question(id, device);
	if (result != CUDA_SUCCESS)
		return result;
	if (length < 13)
		return CUDA_ERROR_INVALID_VALUE;

	snprintf(id, (size_t)length, "ffff:ff:%02x.0", (unsigned)device & 0x1fu);

	return CUDA_SUCCESS;
}

static int device_attribute_value(CUdevice_attribute attribute, CUdevice device, int *value)
{
	switch (attribute) {
	case CU_DEVICE_ATTRIBUTE_COMPUTE_MODE:
	case CU_DEVICE_ATTRIBUTE_CAN_FLUSH_REMOTE_WRITES:
	case CU_DEVICE_ATTRIBUTE_CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM:
		*value = 0;
		return 0;
	case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR:
		*value = SOFT_CAPABILITY / 10;
		return 0;
	case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR:
		*value = SOFT_CAPABILITY % 10;
		return 0;
	case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT:
	case CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING:
	case CU_DEVICE_ATTRIBUTE_HOST_REGISTER_SUPPORTED:
	case CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED:
	case CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED:
	case CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WITH_CUDA_VMM_SUPPORTED:
	case CU_DEVICE_ATTRIBUTE_READ_ONLY_HOST_REGISTER_SUPPORTED:
	case CU_DEVICE_ATTRIBUTE_CAN_USE_64_BIT_STREAM_MEM_OPS:
	case CU_DEVICE_ATTRIBUTE_CAN_USE_STREAM_WAIT_VALUE_NOR:
		*value = 1;
		return 0;
	case CU_DEVICE_ATTRIBUTE_MAX_PITCH:
		*value = DEVICE_PITCH_MAX;
		return 0;
	case CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT:
		*value = ENGINES;
		return 0;
	case CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID:
		*value = 0xffff;
		return 0;
	case CU_DEVICE_ATTRIBUTE_PCI_BUS_ID:
		*value = 0xff;
		return 0;
	case CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID:
		*value = device;
		return 0;
	}
	return -1;
}

CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice device)
{
	CUresult result;

	CALL_ENTER(cuDeviceGetAttribute);
	result = device_check_question(value, device);
	if (result == CUDA_SUCCESS && device_attribute_value(attribute, device, value) < 0)
		return CUDA_ERROR_INVALID_VALUE;

	return result;
}
