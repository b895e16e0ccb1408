/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fault: which calls fail. A fault names an entry point or all of them, the count at which
 * it fails, whether later calls fail too, and the result.
 */
#pragma once

#include "kernels/soft/calls.h"

/* The result with which this call fails, or CUDA_SUCCESS. nth_of_all 0: faults on "*" do
 * not apply to it. */
CUresult fault_hit(enum call call, uint64_t nth, uint64_t nth_of_all);
/* What a fault calls that takes the device of the thread away. */
void fault_on_gone(void (*gone)(void));
void fault_forget(void);
