/* SPDX-License-Identifier: Apache-2.0 */
/* clock: the daemon's clock, which never jumps and never goes back. Any thread. */
#pragma once

#include <stdint.h>

uint64_t clock_now(void);    /* CLOCK_MONOTONIC in ns */
uint64_t clock_thread(void); /* CPU time of this thread in ns; a system call */
