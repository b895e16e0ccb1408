/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device: the soft devices of this process, their primary contexts and copy engines. A CUcontext is the device it
 * belongs to: there are primary contexts only. Between setup and reset of the process's devices nothing here moves.
 */
#pragma once

#include "kernels/soft/call.h"
#include "kernels/soft/engine.h"
#include "kernels/soft/options.h"

enum engine_direction { ENGINE_D2H, ENGINE_H2D, ENGINES };

struct device {
	unsigned index;
	uint64_t total;
	uint64_t used;     /* bytes of allocations made here; vmm_lock */
	unsigned retained; /* how often the primary context was; table_lock */
	uint64_t children; /* streams, events and registrations of the context; table_lock */
	struct engine engines[ENGINES];
};

void devices_setup(const struct options *options);
void devices_reset(void);
unsigned devices_count(void);
struct device *device_at(int ordinal); /* NULL: no such device */
uint64_t devices_retained(void);       /* how many have a context; table_lock held */

/* The device of this thread's current context, in *out; CUDA_ERROR_INVALID_CONTEXT, CUDA_ERROR_CONTEXT_IS_DESTROYED.
 * table_lock is held. */
CUresult device_current(struct device **out);
