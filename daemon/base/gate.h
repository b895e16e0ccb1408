/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gate: lets the loop make a call only while no other thread of the daemon makes one that
 * could keep it waiting. The others are inside together, for as long as they like. The loop
 * never waits: it is inside alone, for a moment, or not at all. A zeroed one is open.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>

struct gate {
	pthread_rwlock_t lock;
};

/* Any thread but the loop's. Waits while the loop is inside. */
static inline void gate_enter(struct gate *gate)
{
	pthread_rwlock_rdlock(&gate->lock);
}

/* The loop thread. Returns whether it is inside. */
static inline bool gate_try(struct gate *gate)
{
	return pthread_rwlock_trywrlock(&gate->lock) == 0;
}

static inline void gate_leave(struct gate *gate)
{
	pthread_rwlock_unlock(&gate->lock);
}
