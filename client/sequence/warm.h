/* SPDX-License-Identifier: Apache-2.0 */
/*
 * warm: slabs that stay mapped in free slots, for the next sequence of the pool, and are
 * given back when there are too many or none are left. The slot that was closed first gives
 * its slabs first, from the end of its buffers: their beginning is what any sequence needs.
 */
#pragma once

#include <stdint.h>

struct hbm_pool;

/* Gives back at least so many, or all; how many. */
uint64_t hbm_warm_release(struct hbm_pool *pool, uint64_t slabs);
/* Gives back what is more than the pool keeps, or all where others wait for memory. 0, or why not. */
int hbm_warm_trim(struct hbm_pool *pool);
