/* SPDX-License-Identifier: Apache-2.0 */
/*
 * module: a PTX text loaded into a context, and its functions: the entries that were
 * requested by name and have a kernel. A module with queued or running launches cannot be
 * unloaded. Unloading it frees its functions.
 *
 * All under table_lock.
 */
#pragma once

#include "kernels/soft/device.h"
#include "kernels/soft/kernel.h"

struct function {
	uint64_t name; /* the handle; 0: not requested yet */
	struct module *module;
	const struct ptx_entry *entry;
	const struct kernel *kernel;
};

/* A function of the current context, held against unloading, in *out;
 * CUDA_ERROR_INVALID_HANDLE. table_lock is held. */
CUresult function_hold(CUfunction handle, struct function **out);
void function_drop(struct function *function); /* of what was held; table_lock is held */
uint64_t modules_live(void);                   /* table_lock is held */
void modules_reset(void);                      /* frees all; the streams are freed before */
