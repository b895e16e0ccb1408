/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device: the soft devices of this process, their primary contexts and copy engines.
 * There are only primary contexts. A CUcontext numbers one lifetime of its device's context,
 * from the first retain to the last release. Devices do not move between setup and reset.
 */
#pragma once

#include "kernels/soft/call.h"
#include "kernels/soft/engine.h"
#include "kernels/soft/options.h"

#include <stdatomic.h>

/* The reported versions: the oldest that kernels have to support. */
#define SOFT_DRIVER_VERSION 12000
#define SOFT_PTX_VERSION 80         /* the latest that the driver accepts, 8.0 */
#define SOFT_CAPABILITY 70          /* sm_70 */
#define DEVICE_PITCH_MAX 0x7fffffff /* between rows of a copy */

enum engine_direction { ENGINE_D2H, ENGINE_H2D, ENGINES };

struct device {
	unsigned index;
	uint64_t total;
	uint64_t used;          /* bytes of allocations made here; vmm_lock */
	uint64_t context_bytes; /* that a context takes; as long as one is retained */
	int context_fd;         /* of those, on a shared card; vmm_lock */
	unsigned retained;      /* how often the primary context was; changed with both locks */
	uint64_t life; /* the context's number, different for each in this process; table_lock */
	/* streams, events, modules and registrations of the context; table_lock */
	uint64_t children;
	/* the error of a kernel, which makes the context unusable; or CUDA_SUCCESS */
	_Atomic CUresult fault;
	atomic_bool gone;          /* it answers nothing any more; `fault` is set, too */
	pthread_mutex_t call_lock; /* of the context, held by each call to a stream */
	uint64_t call_ns;          /* for so long */
	bool unmap_waits;
	uint64_t dirt; /* each word of new memory */
	struct engine engines[ENGINES];
};

void devices_setup(const struct options *options);
void devices_reset(void);
unsigned devices_count(void);
struct device *device_at(int ordinal); /* NULL: no such device */
uint64_t devices_retained(void);       /* how many have a context; table_lock held */

/*
 * Ends the use of a device's context: its streams drop what is queued, and calls return
 * the fault. The first fault is kept.
 */
void device_fail(struct device *device, CUresult fault);
CUresult device_fault(const struct device *device); /* CUDA_SUCCESS: none */
void device_go(struct device *device);              /* away: it answers nothing from now on */
/* CUDA_ERROR_UNKNOWN of a device that is gone, else CUDA_SUCCESS: for calls that need no
 * context. */
CUresult device_answers(const struct device *device);
struct device *device_of_thread(void); /* of its current context; NULL: none. No lock. */

/* The device of this thread's current context, in *out; CUDA_ERROR_INVALID_CONTEXT,
 * CUDA_ERROR_CONTEXT_IS_DESTROYED, or the fault of the context. table_lock is held. */
CUresult device_current(struct device **out);
