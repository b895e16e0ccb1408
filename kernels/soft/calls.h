/* SPDX-License-Identifier: Apache-2.0 */
/*
 * calls: the entry points of the driver: their prototypes, numbers and names, and how
 * often each was called. A function is written under its plain name and exported under
 * its symbol.
 */
#pragma once

#include "kernels/driver/cuda_abi.h"
#include "kernels/soft/soft.h"

#include <stdint.h>

#define DRIVER_CALL(name, symbol, arguments) SOFT_EXPORT CUresult name arguments __asm__(symbol);
DRIVER_ALL_CALLS(DRIVER_CALL)
#undef DRIVER_CALL

#define DRIVER_CALL(name, symbol, arguments) CALL_##name,
enum call { DRIVER_ALL_CALLS(DRIVER_CALL) CALLS };
#undef DRIVER_CALL

/* The entry point's number; CALLS for "*"; negative: no such entry point. */
int calls_find(const char *name);
/* The number of calls since calls_reset(). CALLS: of all entry points that involve a
 * device. */
uint64_t calls_count(unsigned call);
/* Counts one more and returns the new count. */
uint64_t calls_add(unsigned call);
void calls_reset(void);
