/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gate: steps read the limits of their sequences without the lock. Who lowers a limit to take
 * memory away, holding the lock, closes the gate: it waits for the steps that may have read
 * the limit before. A step that comes later reads the new one.
 *
 * Either the step's entry comes first, and who closes sees it, or the lowered limit does, and
 * the step sees that: both are sequentially consistent. A pool without a lock has one user,
 * and nothing to wait for.
 */
#pragma once

#include "client/sequence/pool.h"

static inline void hbm_gate_enter(struct hbm_pool *pool)
{
	if (pool->own_connection)
		atomic_fetch_add(&pool->stepping, 1);
}

static inline void hbm_gate_leave(struct hbm_pool *pool)
{
	if (pool->own_connection)
		atomic_fetch_sub_explicit(&pool->stepping, 1, memory_order_release);
}

void hbm_gate_close(struct hbm_pool *pool);
