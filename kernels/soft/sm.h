/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sm: the multiprocessors of a device, which processes use in turns, for the option
 * `slice_us` on a card that they share (card.h). Kernels, fills and copies within a device
 * need them. While a kernel of one process runs, such work of another waits for its slice:
 * each piece of it begins so many microseconds later. Copy engines do not wait.
 *
 * All functions: on a stream's thread, without a lock.
 */
#pragma once

#include <stdint.h>

/* No folder or 0 us: nothing waits. */
void sm_configure(const char *folder, double slice_us);
void sm_reset(void);
void sm_kernel_begins(unsigned device);
void sm_kernel_ends(unsigned device);
/* Before work of this process: waits for its slice. */
void sm_wait(unsigned device);
uint64_t sm_waited(void); /* how often work has waited */
