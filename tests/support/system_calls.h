/* SPDX-License-Identifier: Apache-2.0 */
/*
 * system_calls: counts the system calls of a thread between two points, for what is to make
 * none: the kernel hands each to a handler of this process instead (syscall user dispatch,
 * Linux 5.11; here for x86-64), which counts it and makes it.
 *
 * 	if (!system_calls_begin())
 * 		skip();
 * 	hbm_device_memory(hbm, 0, &memory);
 * 	assert_int_equal(system_calls_end(), 0);
 *
 * Calls of the vDSO, as of clock_gettime(), are none. Nothing but the code to be counted
 * belongs between the two: no assertion and no output.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* From now on those of this thread are counted. False: the kernel cannot do that. Not to be
 * nested. */
bool system_calls_begin(void);
/* How many there were. */
uint64_t system_calls_end(void);
