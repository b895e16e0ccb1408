/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kernels: the device code of one context, each module loaded when a kernel of it is first
 * launched. A module that the driver refuses is not tried again: the caller does without.
 * A failure that passes, as for want of memory, is no refusal.
 *
 * All calls are made with the context current, and by one thread at a time.
 */
#pragma once

#include "kernels/device/jobs.h"
#include "kernels/driver/driver.h"

#define KERNEL_NUMBER(kernel, module) KERNEL_##kernel,
enum kernel { DEVICE_KERNELS(KERNEL_NUMBER) KERNELS };
#undef KERNEL_NUMBER
#define MODULE_NUMBER(module) MODULE_##module,
enum kernel_module { DEVICE_MODULES(MODULE_NUMBER) KERNEL_MODULES };
#undef MODULE_NUMBER

/* All zero: nothing was loaded. */
struct kernels {
	CUmodule modules[KERNEL_MODULES];
	CUresult refused[KERNEL_MODULES]; /* why one is not there */
	CUfunction functions[KERNELS];
};

/* The form of a launch: blocks of KERNEL_THREADS threads in a row, and rows. */
#define KERNEL_THREADS 256u
#define KERNEL_ROWS_MAX 65535u

struct kernel_grid {
	uint32_t blocks, rows; /* > 0 */
};

/* Enough blocks for so many threads, at most `most`. */
static inline uint32_t kernel_blocks(uint64_t threads, uint32_t most)
{
	const uint64_t blocks = threads / KERNEL_THREADS + (threads % KERNEL_THREADS != 0);

	return blocks == 0 ? 1 : blocks < most ? (uint32_t)blocks : most;
}

/* Loads the kernel's module unless that was tried before; the driver's answer. */
CUresult kernels_load(struct kernels *kernels, const struct driver *driver, enum kernel kernel);
/* Why the driver refuses the kernel's module; CUDA_SUCCESS: it does not, as far as is
 * known. */
CUresult kernels_refused(const struct kernels *kernels, enum kernel kernel);
/* Launches it, loaded or not; `job` is its struct of jobs.h, and is copied. */
CUresult kernels_launch(struct kernels *kernels, const struct driver *driver, CUstream stream,
			enum kernel kernel, struct kernel_grid grid, void *job);
bool kernels_are_loaded(const struct kernels *kernels); /* any of them */
/* Unloads all modules. No launch of them may be in flight. */
void kernels_unload(struct kernels *kernels, const struct driver *driver);
