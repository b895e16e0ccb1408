/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device: one GPU as the daemon uses it: its primary context, its facts, the control
 * worker that runs VMM calls, and the lanes that copy. Opening it is the only place that
 * decides between real and soft.
 *
 * Failures of device calls are the world's: they become HBM_DEVICE for whoever asked, a
 * count and a log line.
 */
#pragma once

#include "daemon/base/log.h"
#include "daemon/loop/loop.h"
#include "daemon/loop/worker.h"
#include "kernels/driver/driver.h"

#include <hbm/wire.h>
#include <stdint.h>

struct config;
struct copy_queue;
struct slabs;

struct device {
	const struct driver *driver;
	uint32_t index;
	CUdevice handle;
	CUcontext context; /* the primary context, retained */
	char name[HBM_WIRE_NAME_BYTES];
	CUuuid uuid;
	uint64_t total;               /* bytes the device has */
	uint64_t granularity;         /* of VMM allocations */
	struct worker *control;       /* VMM calls; the context is current there */
	struct copy_queue *queues[3]; /* enum copy_direction */
	struct slabs *slabs;          /* the memory lent to regions */
	uint64_t errors;              /* failed device calls; atomic */
	bool lost; /* one of them was of those after which nothing works any more; atomic */
	struct log_quota log; /* of errors that may pass */
};

/* The devices of this host. */
struct devices {
	struct driver *driver;
	enum hbm_driver kind;
	uint32_t count;
	struct device *list; /* [count] */
};

/* Opens the driver the config asks for and every device, with their control workers (no
 * lanes, no slabs yet). loop NULL: asks the driver for the devices and whether they can be
 * used, and opens none. On failure negative errno and one line in error. */
int devices_open(struct devices **out, const struct config *config, struct loop *loop, char *error,
		 size_t error_size);
struct devices *devices_close(struct devices *devices);
/* Whether the device, whose name and handle are known, can do what hbmd asks of it: 0, or
 * negative errno and one line in error. A compute mode that keeps clients out is a
 * warning in the log. devices_open() has asked. */
int device_check(const struct device *device, char *error, size_t error_size);
/* Makes the device's context current on the calling thread: a CUresult. */
CUresult device_enter(const struct device *device);
/* Whether an error came that does not pass: nothing works on this device until the
 * process starts anew. Any thread. */
bool device_is_lost(const struct device *device);
/* What to ask cuMemCreate for: memory of this device that can be exported as an fd. */
CUmemAllocationProp device_allocation(const struct device *device);
/* Gives the device read and write access to a mapped range. */
CUresult device_allow(const struct device *device, CUdeviceptr address, uint64_t bytes);
/* Undoing, which must not fail: what the device refuses is tried once more, as a passing
 * failure would lose memory; but not after an error that does not pass. */
CUresult device_unmap(const struct device *device, CUdeviceptr address, uint64_t bytes);
CUresult device_release(const struct device *device, CUmemGenericAllocationHandle handle);
CUresult device_unreserve(const struct device *device, CUdeviceptr address, uint64_t bytes);
uint64_t device_errors(const struct device *device); /* any thread */
/* Any thread. Logs a failed call and counts it; returns HBM_DEVICE, or HBM_NO_SPACE for
 * CUDA_ERROR_OUT_OF_MEMORY. An error after which every call fails is logged once a
 * device, others within a quota. */
int device_failed(struct device *device, const char *call, CUresult result);
/* The same for a call that failed while fdpass_exhausted(), which is no fault of the
 * device: HBM_LIMIT. */
int device_lacks_fds(struct device *device, const char *call);

/* A range of the daemon's own device address space, mapped read-write: one handle per
 * `slab` bytes, and a few smaller ones for what is left at the end. */
struct device_memory {
	struct device *device;
	CUdeviceptr address;
	uint64_t bytes, slab;
	uint64_t mapped; /* bytes mapped so far, from the start */
};

/* bytes: a multiple of the granularity; slab: a power of two of them. A CUresult; on
 * failure nothing is left. Blocking: at start only. */
CUresult device_memory_open(struct device_memory *memory, struct device *device, uint64_t bytes,
			    uint64_t slab);
void device_memory_close(struct device_memory *memory); /* takes a zeroed one */
