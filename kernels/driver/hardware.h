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
/* Whether an option of the kernel's driver, for all GPUs or for one, turns off the clearing
 * of memory that is given back (RMDisableScrubOnFree). */
bool hardware_leaves_memory(void);
/* Writes the folder of MPS's pipes: CUDA_MPS_PIPE_DIRECTORY where it is set, else its
 * default where that exists. False: there is none. */
bool hardware_has_mps(char *folder, size_t size);
