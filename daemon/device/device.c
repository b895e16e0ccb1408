/* SPDX-License-Identifier: Apache-2.0 */
/* device: see device.h. How a device is used once it is open: its failures, what its control
 * thread is asked, and the calls that every user of its memory makes. */
#include "daemon/device/device.h"

#include <stdio.h>

#include "daemon/base/clock.h"
#include "daemon/base/list.h"
#include "daemon/base/log.h"
#include "daemon/base/log_event.h"

#define FREE_NS 1000000000u /* between two looks at a device's free memory */

/* ---- failures ---- */

void device_lose(struct device *device, const char *call, CUresult result, const char *why)
{
	if (__atomic_exchange_n(&device->lost, true, __ATOMIC_RELAXED))
		return;

	char fields[128];
	const char *error = driver_error_name(device->driver, result);
	snprintf(fields, sizeof(fields), "HBMD_DEVICE=%u\nHBMD_ERROR=%s", device->index, error);
	log_event(LOG_EVENT_DEVICE_LOST, LOG_ERR, fields,
		  "device %u: %s failed: %s: %s, the device is lost until hbmd restarts "
		  "(look for Xid in the kernel log)",
		  device->index, call, error, why);
}

void device_note_failure(struct device *device, const char *call, CUresult result)
{
	__atomic_fetch_add(&device->errors, 1, __ATOMIC_RELAXED);
	if (driver_error_is_sticky(result)) {
		device_lose(device, call, result, "sticky error");
		__atomic_store_n(&device->broken, true, __ATOMIC_RELAXED);
	} else if (log_quota(&device->log)) {
		log_error("device %u: %s failed: %s", device->index, call,
			  driver_error_name(device->driver, result));
	}
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

void device_read_free(struct device *device)
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

/* ---- calls ---- */

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

bool device_is_broken(const struct device *device)
{
	return __atomic_load_n(&device->broken, __ATOMIC_RELAXED);
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
