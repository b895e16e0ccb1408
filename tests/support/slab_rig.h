/* SPDX-License-Identifier: Apache-2.0 */
/*
 * slab_rig: the pool of slabs of soft_pool's device 0, and requests for slabs made blocking. Its books
 * are checked after each step.
 */
#pragma once

#include "daemon/region/slab.h"
#include "tests/support/soft_pool.h"

#define SLAB_RIG_BUDGET (32 * MIB) /* of each device */

struct slab_rig {
	struct soft_pool pool;
	struct slabs *slabs; /* of device 0 */
};

/* A request for slabs, which has them when it is over. */
struct slab_wanted {
	struct slab_request request;
	bool over;
};

/* cmocka's setup and teardown. */
int slab_rig_setup(void **state);
int slab_rig_teardown(void **state);
/* Requests count slabs: what slabs_request() says. */
int slab_rig_begin(struct slab_rig *rig, struct slab_wanted *wanted, uint64_t bytes,
		   uint64_t count);
/* The same, and waits until it is over: the status. */
int slab_rig_take(struct slab_rig *rig, struct slab_wanted *wanted, uint64_t bytes, uint64_t count);
/* Gives back what it has. */
void slab_rig_give(struct slab_rig *rig, struct slab_wanted *wanted, bool exported,
		   bool quarantined);
/* For pool_run(): that request is over. */
bool slab_rig_is_over(void *wanted);
/* The same, of the rig: all is made ahead, on both devices, as the soft driver counts the calls of
 * both; and nothing is on its way back. */
bool slab_rig_all_ready(void *rig);
bool slab_rig_nothing_retires(void *rig);
