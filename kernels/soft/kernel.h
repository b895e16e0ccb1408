/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kernel: the host functions that were given for the names of entries (hbm_soft_kernel()
 * in soft.h).
 *
 * Changed and read with table_lock held; a kernel that was found stays until
 * kernels_reset().
 */
#pragma once

#include "kernels/soft/ptx.h"

struct kernel {
	struct kernel *next;
	char *name;
	CUresult (*run)(struct hbm_soft_launch *launch, void *const *params);
	uint32_t params;
	uint32_t param_bytes[HBM_SOFT_PARAMS_MAX];
};

/* The kernel for an entry, by name and parameters; NULL: none. */
const struct kernel *kernel_find(const struct ptx_entry *entry);
void kernels_reset(void); /* forgets all; takes no lock, nothing may be running */
