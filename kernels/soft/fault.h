/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fault: which calls are to fail. A fault names an entry point or all of them, the count
 * at which it strikes, whether it goes on striking, and with what result.
 */
#pragma once

#include "kernels/soft/calls.h"

/* The result this call is to fail with, or CUDA_SUCCESS. nth_of_all 0: faults on "*" do
 * not concern it. */
CUresult fault_hit(enum call call, uint64_t nth, uint64_t nth_of_all);
void fault_forget(void);
