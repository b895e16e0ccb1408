/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device: one GPU as the daemon uses it: its primary context, its facts, the control
 * worker that runs VMM calls, and the copy queues. Only opening it distinguishes real
 * devices from soft ones. Host memory that regions are of is a device, too (host_device.h).
 *
 * A failed device call is not our bug: it becomes HBM_DEVICE for the caller, a count and
 * a log line.
 */
#pragma once

#include "daemon/base/gate.h"
#include "daemon/base/log.h"
#include "daemon/base/numa.h"
#include "daemon/loop/loop.h"
#include "daemon/loop/worker.h"
#include "kernels/driver/driver.h"

#include <hbm/wire.h>
#include <stdint.h>

struct config;
struct copy_queue;
struct lend;
struct slabs;

/* What the control thread is asked about the device. */
struct device_question {
	struct job job;
	bool asked; /* and not answered yet; atomic */
};

/* Told when it is known of more marks that their copies are over, or that this will never be
 * known. */
struct late_listener {
	struct list link;
	void (*settled)(struct late_listener *listener);
};

/* Late copies: device_late.c. The loop thread's, except where named. */
struct device_late {
	uint64_t marks;  /* made so far */
	uint64_t over;   /* the copies of the first so many are */
	uint64_t asking; /* the question in flight is about the first so many; 0: there is none */
	bool never;      /* of the rest it will not be known */
	bool logged;     /* that there are some; atomic */
	struct job job;
	CUresult result; /* the job's */
	struct list listeners;
};

struct device {
	const struct driver *driver;
	uint32_t index;
	CUdevice handle;
	CUcontext context; /* the primary context, retained */
	char name[HBM_WIRE_NAME_BYTES];
	CUuuid uuid;
	uint64_t total;               /* bytes the device has */
	uint64_t granularity;         /* of VMM allocations */
	uint64_t max_pitch;           /* between the rows of a copy */
	bool scrubs;                  /* new memory is overwritten (scrub.h) */
	bool rdma;                    /* its memory can be made for GPUDirect RDMA */
	const struct numa *numa;      /* the host's */
	int node;                     /* of numa, near it; -1: unknown */
	struct worker *control;       /* VMM calls; the context is current there */
	struct copy_queue *queues[3]; /* enum copy_direction */
	struct slabs *slabs;          /* the slabs that back regions */
	struct lend *lend;            /* what of them holds blocks for clients to map */
	uint64_t tier_bytes;          /* of the HBM tier; the control worker's once it has jobs */
	uint64_t errors;              /* failed device calls; atomic */
	bool lost;                    /* after a sticky error, or without an answer; atomic */
	bool broken;                  /* after a sticky error; atomic */
	struct device_late late;      /* copies whose end is not known */
	struct device_question probe; /* does it still answer? */
	struct device_question look;  /* how much memory is free? */
	uint64_t free_bytes;          /* when last looked at; atomic */
	uint64_t read_ns;             /* when that was last asked for */
	struct log_quota log;         /* of transient errors */
	struct list handles;          /* struct guest, whose handles are open; control's */
	struct gate gate;             /* its copy threads are inside while they call the driver */
	struct gate *all;             /* of all devices: control threads and registrations are */
	struct gate host_gate;        /* host_device.h: its own for all */
};

/* The devices of this host. */
struct devices {
	struct driver *driver;
	enum hbm_driver kind;
	struct numa numa;
	struct gate gate; /* see struct device */
	uint32_t count;
	struct device *list; /* [count] */
	struct device *host; /* host memory as one more (host_device.h); NULL: there is none */
};

/* The device of a number on the wire, HBM_WIRE_DEVICE_HOST included; NULL: there is none. */
static inline struct device *devices_get(const struct devices *devices, uint32_t number)
{
	if (number == HBM_WIRE_DEVICE_HOST)
		return devices->host;

	return number < devices->count ? &devices->list[number] : NULL;
}

/* The n-th of all, the one of host memory being the last; NULL: there are no more. */
static inline struct device *devices_nth(const struct devices *devices, uint32_t n)
{
	return n < devices->count ? &devices->list[n] : n == devices->count ? devices->host : NULL;
}

/* Opens the driver the config asks for and every device, with their control workers (no
 * copy queues, no slabs yet). loop NULL: asks the driver for the devices and whether they
 * can be used, and opens none. On failure negative errno and one line in error. */
int devices_open(struct devices **out, const struct config *config, struct loop *loop, char *error,
		 size_t error_size);
/* Starts the control threads of all devices, whose facts are known, and retains the contexts
 * there, all at the same time. On failure negative errno and one line in error; what has been
 * started is for devices_close(). devices_open() calls this. */
int devices_start(struct devices *devices, struct loop *loop, char *error, size_t error_size);
struct devices *devices_close(struct devices *devices);
/* Whether the device, whose name and handle are known, supports what hbmd needs: 0, or
 * negative errno and one line in error. A compute mode that keeps clients out is only
 * logged as a warning. devices_open() calls this. */
int device_check(const struct device *device, char *error, size_t error_size);
/* Makes the device's context current on the calling thread: a CUresult. */
CUresult device_enter(const struct device *device);
/* The calling thread runs on processors near the device, where that is known. */
void device_run_near(const struct device *device);
/* True after a sticky CUDA error, or when the device has not answered after another one: it
 * is unusable until the process restarts. Any thread. */
bool device_is_lost(const struct device *device);
/* The first of these: another process may be able to use it. Any thread. */
bool device_is_broken(const struct device *device);
/* The memory that no process has of the device, when its control thread last looked: when it
 * was opened, and after each call that comes a second after another. Loop thread. */
uint64_t device_free(struct device *device);
/* Looks now; on a thread where the device's context is current. */
void device_read_free(struct device *device);
/* The properties for cuMemCreate: memory of this device that can be exported as an fd. */
CUmemAllocationProp device_allocation(const struct device *device);
/* Gives the device read and write access to a mapped range. */
CUresult device_allow(const struct device *device, CUdeviceptr address, uint64_t bytes);
/* Release calls, retried once, because a transient failure would lose memory; never
 * retried after a sticky error. */
CUresult device_unmap(const struct device *device, CUdeviceptr address, uint64_t bytes);
CUresult device_release(const struct device *device, CUmemGenericAllocationHandle handle);
CUresult device_unreserve(const struct device *device, CUdeviceptr address, uint64_t bytes);
uint64_t device_errors(const struct device *device); /* any thread */
/* Any thread. Logs and counts a failed call. Returns HBM_DEVICE, or HBM_NO_SPACE for
 * CUDA_ERROR_OUT_OF_MEMORY. A sticky error is logged once per device, others within a
 * quota; after another error than lack of memory the control thread asks whether the device
 * still answers. */
int device_failed(struct device *device, const char *call, CUresult result);
/* The same for a call that failed while fdpass_exhausted(), which is not the device's
 * fault: HBM_LIMIT. */
int device_lacks_fds(struct device *device, const char *call);
/* Any thread. Counts and logs it only. */
void device_note_failure(struct device *device, const char *call, CUresult result);
/* Any thread. The device is lost, which is logged once, and why. */
void device_lose(struct device *device, const char *call, CUresult result, const char *why);

/* ---- Late copies (device_late.c): of which the driver has not said that they have ended. ---- */

void device_late_open(struct device *device);
/* Any thread. Logs, once until it is known, that copies may go on whose memory is not used. */
void device_note_late(struct device *device);
/* The loop thread, as of the following. A late copy that has been issued uses some memory: a
 * number for it; the device is asked whether it is over. */
uint64_t device_late_mark(struct device *device);
/* Whether it is known that the copy of that number is over. */
bool device_late_is_over(const struct device *device, uint64_t mark);
/* Whether it will never be known of those that are not. */
bool device_late_never(const struct device *device);
/* list_remove() ends it. */
void device_late_listen(struct device *device, struct late_listener *listener);

/* A range of the daemon's own device address space, mapped read-write: one handle per
 * `slab` bytes, and a few smaller ones for the rest at the end. */
struct device_memory {
	struct device *device;
	CUdeviceptr address;
	uint64_t bytes, slab;
	uint64_t mapped; /* bytes mapped so far, from the start */
};

/* Reserves the addresses, with nothing behind them. bytes: a multiple of the granularity;
 * slab: the granularity times a power of two. Returns a CUresult; on failure nothing is
 * left. */
CUresult device_memory_reserve(struct device_memory *memory, struct device *device, uint64_t bytes,
			       uint64_t slab);
/* Puts memory behind the next part; on a thread where the device's context is current. Returns a
 * CUresult; on failure the part is not to be used. */
CUresult device_memory_extend(struct device_memory *memory);
/* The same with a part of that size, a multiple of the granularity, which is there. fd: set to a
 * descriptor of that memory, the caller's, or -1; NULL: it is not wanted. */
CUresult device_memory_extend_by(struct device_memory *memory, uint64_t piece, int *fd);
/* The same with memory of that size that is there already, and whose handle is released, on failure
 * too. */
CUresult device_memory_extend_with(struct device_memory *memory, uint64_t piece,
				   CUmemGenericAllocationHandle handle);
/* Takes the memory away from the last part, which was of that size. Where that fails it is still
 * there. */
CUresult device_memory_cut(struct device_memory *memory, uint64_t piece);
/* Both, until all is there, on the calling thread. Returns a CUresult; on failure nothing is
 * left. */
CUresult device_memory_open(struct device_memory *memory, struct device *device, uint64_t bytes,
			    uint64_t slab);
void device_memory_close(struct device_memory *memory); /* accepts a zeroed one */
