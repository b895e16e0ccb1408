/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hardware: whether this machine has NVIDIA's, as the kernel sees it. The driver's library
 * also says that there is no device where its nodes are missing, where they may not be
 * opened, or where CUDA_VISIBLE_DEVICES hides them all.
 *
 * HBM_HARDWARE_ROOT in the environment, for tests, comes before the paths that are looked at.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* HBM_HARDWARE_ROOT, or "". */
const char *hardware_root(void);
/* Writes where it was seen. False: there is none. */
bool hardware_has_nvidia(char *where, size_t size);
/* How many GPUs the kernel's driver has; 0: it is not loaded. */
unsigned hardware_gpus(void);
