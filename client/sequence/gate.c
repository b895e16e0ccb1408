/* SPDX-License-Identifier: Apache-2.0 */
/* gate: see gate.h. */
#include "client/sequence/gate.h"

#include <sched.h>

void hbm_gate_close(struct hbm_pool *pool)
{
	/* A step is a matter of microseconds, and never waits inside. */
	while (atomic_load(&pool->stepping) > 0)
		sched_yield();
}
