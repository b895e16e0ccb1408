/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device: see device.h. Devices close in the opposite order of opening, and a half-opened
 * set closes like a whole one. The daemon uses every device the driver shows;
 * CUDA_VISIBLE_DEVICES makes the driver hide some.
 */
#include "daemon/device/device.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/base/checked.h"
#include "daemon/base/clock.h"
#include "daemon/base/list.h"
#include "daemon/base/log.h"
#include "daemon/config/config.h"
#include "kernels/driver/hardware.h"

#define FREE_NS 1000000000u /* between two looks at a device's free memory */

enum { CU_COMPUTEMODE_DEFAULT = 0, CU_COMPUTEMODE_PROHIBITED = 2 };

static enum driver_choice device_choice_of(const struct config *config)
{
	switch (config->driver) {
	case CONFIG_DRIVER_CUDA:
		return DRIVER_CUDA;
	case CONFIG_DRIVER_SOFT:
		return DRIVER_SOFT;
	default:
		return DRIVER_AUTO;
	}
}

static int device_open_driver(struct devices *devices, const struct config *config, char *error,
			      size_t error_size)
{
	struct driver_soft_options soft = {
		.devices = (uint32_t)config->soft_devices,
		.memory = config->soft_memory,
		.d2h_gib_s = config->soft_d2h_gib_s,
		.h2d_gib_s = config->soft_h2d_gib_s,
		.latency_us = config->soft_latency_us,
		.fail = config->soft_fail && *config->soft_fail ? config->soft_fail : NULL,
	};
	struct driver *driver;
	int r = driver_open(&driver, device_choice_of(config), &soft, error, error_size);
	size_t length = r == -EIO ? strlen(error) : 0;
	if (r == -EIO)
		snprintf(error + length, error_size - length,
			 ": the kernel's log and nvidia-smi may say why; hbmd.driver = soft would "
			 "do without");

	if (r < 0)
		return r;

	devices->driver = driver;
	devices->kind = driver->kind;
	const char *note =
		driver->kind == HBM_DRIVER_CUDA ? "" : " (host memory in place of a GPU)";
	const char *why = config->driver != CONFIG_DRIVER_AUTO ? "as configured"
			  : driver->kind == HBM_DRIVER_CUDA    ? "auto: a CUDA device answers"
							       : "auto: ";
	log_notice("device driver: %s%s, %s%s", driver_kind_name(driver->kind), note, why,
		   driver->passed_over);

	return 0;
}

static int device_refuse(const struct devices *devices, const char *call, CUresult result,
			 char *error, size_t error_size)
{
	snprintf(error, error_size, "%s failed: %s", call,
		 driver_error_name(devices->driver, result));
	return result == CUDA_ERROR_OUT_OF_MEMORY ? -ENOMEM : -EIO;
}

/* Also whether there is memory for GPUDirect RDMA: a driver that refuses it, whatever the
 * attribute says, is asked for plain memory. */
static CUresult device_query_granularity(struct device *device)
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

static CUresult device_query_facts(struct device *device, const char **call)
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
	r = device_query_granularity(device);
	if (r != CUDA_SUCCESS)
		return r;

	int pitch = 0;
	*call = "cuDeviceGetAttribute";
	r = driver->cuDeviceGetAttribute(&pitch, CU_DEVICE_ATTRIBUTE_MAX_PITCH, device->handle);
	device->max_pitch = pitch > 0 ? (uint64_t)pitch : 0;

	return r;
}

/* Where the driver does not say at which place of the bus it is, all of the host is alike. */
static void device_query_node(struct device *device)
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
static int device_check_abilities(const struct device *device, char *error, size_t error_size)
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
	int r = device_check_abilities(device, error, error_size);
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

/* ---- failures ---- */

static void device_lose(struct device *device, const char *call, CUresult result, const char *why)
{
	if (!__atomic_exchange_n(&device->lost, true, __ATOMIC_RELAXED))
		log_error("device %u: %s failed: %s: %s, the device is lost until hbmd restarts "
			  "(look for Xid in the kernel log)",
			  device->index, call, driver_error_name(device->driver, result), why);
}

/* Counts and logs it. */
static void device_note_failure(struct device *device, const char *call, CUresult result)
{
	__atomic_fetch_add(&device->errors, 1, __ATOMIC_RELAXED);
	if (driver_error_is_sticky(result))
		device_lose(device, call, result, "sticky error");
	else if (log_quota(&device->log))
		log_error("device %u: %s failed: %s", device->index, call,
			  driver_error_name(device->driver, result));
}

/* ---- questions, for the control thread ---- */

/* Asked while it still is, it is not asked again. */
static void device_ask(struct device *device, struct device_question *question,
		       void (*run)(struct job *job))
{
	if (!device->control || device_is_lost(device) ||
	    __atomic_exchange_n(&question->asked, true, __ATOMIC_ACQUIRE))
		return;

	question->job.run = run;
	worker_post(device->control, &question->job);
}

/* The last that run() does. */
static void device_answered(struct device_question *question)
{
	__atomic_store_n(&question->asked, false, __ATOMIC_RELEASE);
}

static void device_run_probe(struct job *job)
{
	struct device *device = container_of(job, struct device, probe.job);
	CUresult r = device->driver->cuCtxSynchronize();

	if (r != CUDA_SUCCESS)
		device_lose(device, "cuCtxSynchronize", r, "no answer after another failure");
	device_answered(&device->probe);
}

static void device_read_free(struct device *device)
{
	size_t bytes, total;

	if (device->driver->cuMemGetInfo(&bytes, &total) == CUDA_SUCCESS)
		__atomic_store_n(&device->free_bytes, bytes, __ATOMIC_RELAXED);
}

static void device_run_read_free(struct job *job)
{
	struct device *device = container_of(job, struct device, look.job);

	device_read_free(device);
	device_answered(&device->look);
}

uint64_t device_free(struct device *device)
{
	uint64_t now = clock_now();

	if (now - device->read_ns >= FREE_NS) {
		device->read_ns = now;
		device_ask(device, &device->look, device_run_read_free);
	}

	return __atomic_load_n(&device->free_bytes, __ATOMIC_RELAXED);
}

/* A device that is gone says CUDA_ERROR_UNKNOWN or the like, as one that failed once does:
 * after any failure it is asked whether it still answers. */
int device_failed(struct device *device, const char *call, CUresult result)
{
	device_note_failure(device, call, result);
	if (result == CUDA_ERROR_OUT_OF_MEMORY)
		return HBM_NO_SPACE;

	device_ask(device, &device->probe, device_run_probe);

	return HBM_DEVICE;
}

void device_note_late(struct device *device)
{
	if (!__atomic_exchange_n(&device->late, true, __ATOMIC_RELAXED))
		log_error("device %u: cannot tell whether copies have ended: their memory is not "
			  "used again until hbmd restarts (failed, and quarantined, in hbmctl)",
			  device->index);
}

static void device_enter_control(void *arg)
{
	struct device *device = arg;

	device_run_near(device);
	CUresult r = device_enter(device);
	if (r != CUDA_SUCCESS)
		r = device_enter(
			device); /* retried: a transient failure would cost every region of this device */

	if (r != CUDA_SUCCESS)
		device_note_failure(device, "cuCtxSetCurrent", r);
}

static int device_open_device(struct devices *devices, uint32_t index, struct loop *loop,
			      char *error, size_t error_size)
{
	struct device *device = &devices->list[index];

	device->driver = devices->driver;
	device->index = index;
	device->numa = &devices->numa;
	list_init(&device->handles);
	const char *call;
	CUresult result = device_query_facts(device, &call);
	if (result != CUDA_SUCCESS)
		return device_refuse(devices, call, result, error, error_size);

	int r = device_check(device, error, error_size);
	if (r < 0 || !loop)
		return r;

	device_query_node(device);

	result = device->driver->cuDevicePrimaryCtxRetain(&device->context, device->handle);
	if (result != CUDA_SUCCESS)
		return device_refuse(devices, "cuDevicePrimaryCtxRetain", result, error,
				     error_size);
	device->read_ns = clock_now();
	if (device_enter(device) == CUDA_SUCCESS)
		device_read_free(device);

	char name[24]; /* large enough for any number, though a thread name shows 15 bytes */
	snprintf(name, sizeof(name), "control-%u", index);
	r = worker_new(&device->control, loop, name, device_enter_control, device);
	if (r < 0)
		snprintf(error, error_size, "no thread for device %u", index);
	else
		log_info("device %u: %s, %s, %llu MiB", index, device->name,
			 driver_uuid_text((char[DRIVER_UUID_TEXT]){0}, &device->uuid),
			 (unsigned long long)(device->total >> 20));

	return r;
}

/* What the host is set up for that the driver's calls do not tell. */
static void device_warn_of_host(const struct devices *devices)
{
	char folder[PATH_MAX];

	if (devices->kind != HBM_DRIVER_CUDA)
		return;

	if (hardware_leaves_memory())
		log_warning("the NVIDIA driver does not clear memory that is given back "
			    "(RMDisableScrubOnFree): clients may see bytes of other clients");

	if (hardware_has_mps(folder, sizeof(folder)))
		log_warning("MPS pipes in %s: hbmd and all engines must be clients of one MPS "
			    "server, which serves several users with -multiuser-server only",
			    folder);
}

static int device_open_all(struct devices *devices, struct loop *loop, char *error,
			   size_t error_size)
{
	int count;
	CUresult result = devices->driver->cuDeviceGetCount(&count);
	if (result != CUDA_SUCCESS)
		return device_refuse(devices, "cuDeviceGetCount", result, error, error_size);

	if (count < 1 || count > HBM_WIRE_DEVICES_MAX) {
		snprintf(error, error_size, "the driver reports %d devices, expected 1 to %d",
			 count, HBM_WIRE_DEVICES_MAX);
		return -ENODEV;
	}

	unsigned gpus = hardware_gpus();
	if (devices->kind == HBM_DRIVER_CUDA && (unsigned)count < gpus)
		log_error("the driver shows %d of %u GPUs: is each /dev/nvidia<N> there, and may "
			  "hbmd open it? does CUDA_VISIBLE_DEVICES hide any?",
			  count, gpus);
	device_warn_of_host(devices);

	devices->list = calloc((size_t)count, sizeof(*devices->list));
	if (!devices->list) {
		snprintf(error, error_size, "out of memory");
		return -ENOMEM;
	}

	devices->count = (uint32_t)count;
	for (uint32_t i = 0; i < devices->count; i++) {
		int r = device_open_device(devices, i, loop, error, error_size);
		if (r < 0)
			return r;
	}

	return 0;
}

int devices_open(struct devices **out, const struct config *config, struct loop *loop, char *error,
		 size_t error_size)
{
	struct devices *devices = calloc(1, sizeof(*devices));
	if (!devices) {
		snprintf(error, error_size, "out of memory");
		return -ENOMEM;
	}

	numa_read(&devices->numa, hardware_root());
	int r = device_open_driver(devices, config, error, error_size);
	if (r == 0)
		r = device_open_all(devices, loop, error, error_size);

	if (r < 0) {
		devices_close(devices);
		return r;
	}

	*out = devices;

	return 0;
}

struct devices *devices_close(struct devices *devices)
{
	if (!devices)
		return NULL;

	for (uint32_t i = 0; i < devices->count; i++) {
		struct device *device = &devices->list[i];
		device->control = worker_free(device->control);
		if (device->context)
			device->driver->cuDevicePrimaryCtxRelease(device->handle);
	}

	free(devices->list);
	driver_close(devices->driver);
	free(devices);

	return NULL;
}

void device_run_near(const struct device *device)
{
	if (device->numa)
		numa_run_on(device->numa, device->node);
}

CUresult device_enter(const struct device *device)
{
	return device->driver->cuCtxSetCurrent(device->context);
}

int device_lacks_fds(struct device *device, const char *call)
{
	if (log_quota(&device->log))
		log_error("device %u: %s failed: no file descriptors left; raise LimitNOFILE=",
			  device->index, call);
	return HBM_LIMIT;
}

uint64_t device_errors(const struct device *device)
{
	return __atomic_load_n(&device->errors, __ATOMIC_RELAXED);
}

bool device_is_lost(const struct device *device)
{
	return __atomic_load_n(&device->lost, __ATOMIC_RELAXED);
}

CUmemAllocationProp device_allocation(const struct device *device)
{
	return (CUmemAllocationProp){
		.type = CU_MEM_ALLOCATION_TYPE_PINNED,
		.requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
		.location = {CU_MEM_LOCATION_TYPE_DEVICE, (int)device->handle},
		/* memory made without it cannot be registered with a network card later */
		.allocFlags.gpuDirectRDMACapable = device->rdma,
	};
}

CUresult device_allow(const struct device *device, CUdeviceptr address, uint64_t bytes)
{
	CUmemAccessDesc access = {
		.location = {CU_MEM_LOCATION_TYPE_DEVICE, (int)device->handle},
		.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE,
	};
	return device->driver->cuMemSetAccess(address, bytes, &access, 1);
}

/* A sticky error may belong to an earlier call; this one may have succeeded, so a release
 * is never retried after it. */
static bool device_may_retry(CUresult result)
{
	return result != CUDA_SUCCESS && !driver_error_is_sticky(result);
}

CUresult device_unmap(const struct device *device, CUdeviceptr address, uint64_t bytes)
{
	CUresult r = device->driver->cuMemUnmap(address, bytes);
	return device_may_retry(r) ? device->driver->cuMemUnmap(address, bytes) : r;
}

CUresult device_release(const struct device *device, CUmemGenericAllocationHandle handle)
{
	CUresult r = device->driver->cuMemRelease(handle);
	return device_may_retry(r) ? device->driver->cuMemRelease(handle) : r;
}

CUresult device_unreserve(const struct device *device, CUdeviceptr address, uint64_t bytes)
{
	CUresult r = device->driver->cuMemAddressFree(address, bytes);
	return device_may_retry(r) ? device->driver->cuMemAddressFree(address, bytes) : r;
}

/* Bytes of the handle mapped at an offset: a slab, or a smaller part that still fits. */
static uint64_t device_piece_at(const struct device_memory *memory, uint64_t offset)
{
	uint64_t piece = memory->slab;
	while (piece > memory->bytes - offset)
		piece /= 2;
	return piece;
}

/* Maps the next part after the mapped ones. The mapping alone keeps the memory: the
 * handle is released. */
static CUresult device_map_next(struct device_memory *memory)
{
	const struct driver *driver = memory->device->driver;
	CUmemAllocationProp prop = device_allocation(memory->device);
	uint64_t piece = device_piece_at(memory, memory->mapped);
	CUmemGenericAllocationHandle handle;
	CUresult r = driver->cuMemCreate(&handle, piece, &prop, 0);
	if (r != CUDA_SUCCESS)
		return r;

	r = driver->cuMemMap(memory->address + memory->mapped, piece, 0, handle, 0);
	if (r == CUDA_SUCCESS)
		memory->mapped += piece;

	CUresult released = device_release(memory->device, handle);

	return r != CUDA_SUCCESS ? r : released;
}

CUresult device_memory_open(struct device_memory *memory, struct device *device, uint64_t bytes,
			    uint64_t slab)
{
	assert(slab % device->granularity == 0 && bytes % device->granularity == 0);
	assert(is_power_of_two(slab / device->granularity));
	struct device_memory made = {.device = device, .bytes = bytes, .slab = slab};
	CUresult r = CUDA_SUCCESS;
	if (bytes > 0) {
		r = device_enter(device);
		if (r == CUDA_SUCCESS)
			r = device->driver->cuMemAddressReserve(&made.address, bytes, 0, 0, 0);
		while (r == CUDA_SUCCESS && made.mapped < bytes)
			r = device_map_next(&made);
		if (r == CUDA_SUCCESS)
			r = device_allow(device, made.address, bytes);
	}

	if (r != CUDA_SUCCESS) {
		device_memory_close(&made);
		return r;
	}

	*memory = made;

	return CUDA_SUCCESS;
}

/* Unmaps part by part, so that a failure of one call does not keep the others mapped. */
static void device_unmap_all(const struct device_memory *memory)
{
	for (uint64_t at = 0; at < memory->mapped;) {
		uint64_t piece = device_piece_at(memory, at);
		CUresult r = device_unmap(memory->device, memory->address + at, piece);
		if (r != CUDA_SUCCESS)
			device_failed(memory->device, "cuMemUnmap", r);
		at += piece;
	}
}

void device_memory_close(struct device_memory *memory)
{
	if (!memory->address)
		return;

	/* On failure the context may be current all the same, and unmapping may work
	 * without it. */
	(void)device_enter(memory->device);
	device_unmap_all(memory);
	CUresult r = device_unreserve(memory->device, memory->address, memory->bytes);
	if (r != CUDA_SUCCESS)
		device_failed(memory->device, "cuMemAddressFree", r);

	*memory = (struct device_memory){0};
}
