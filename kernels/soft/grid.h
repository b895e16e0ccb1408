/* SPDX-License-Identifier: Apache-2.0 */
/*
 * grid: runs the kernels of kernels/device/, compiled as C: the body once for each thread
 * of the grid, one after the other, on the stream's thread. Every access of a kernel is
 * checked: a device's memory must be mapped with access for the launch's device, and
 * registered host memory be the kernel's to read or write. An access that is refused reads
 * or writes nothing, and fails the launch.
 *
 * The build includes this header before each .cu file.
 */
#pragma once

#include "kernels/soft/soft.h"

struct grid_thread {
	uint64_t at, count; /* the thread in its row of the grid, threads of a row */
	uint64_t row, rows;
};

/* The thread that runs now. */
extern _Thread_local struct grid_thread grid_thread;

/* Calls `body` for every thread of a launch whose z sizes are 1, and whose blocks are
 * rows: y of a block is 1. CUDA_ERROR_MISALIGNED_ADDRESS: an access was not aligned. */
CUresult grid_run(struct hbm_soft_launch *launch, void (*body)(const void *job), const void *job);
/* For a body: where the host sees [address, address + bytes), at most 16 bytes and aligned
 * to their number. Never NULL. */
void *grid_memory(uint64_t address, uint64_t bytes, bool writes);
/* Registers all of them. 0 or -ENOMEM. */
int grid_register(void);
