/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loop_timers: the loop's timers, a pairing heap of structs that the callers own, earliest
 * first. The links are in the timers themselves: setting one allocates nothing, so that it
 * cannot fail, and takes one comparison. Timers set to the same time fire in any order.
 */
#pragma once

#include "daemon/loop/event.h"

/* Zeroed: none is set. */
struct timers {
	struct timer *root; /* the earliest */
};

void timers_set(struct timers *timers, struct timer *timer, uint64_t at_ns); /* sets or moves */
void timers_stop(struct timers *timers, struct timer *timer); /* no-op when not set */
/* The time at which the first one is due; UINT64_MAX if none is set. */
uint64_t timers_next(const struct timers *timers);
/* Fires those due at `now`. One that a callback sets waits for the next call, even if
 * already due. */
void timers_fire(struct timers *timers, uint64_t now);
void timers_clear(struct timers *timers); /* stops all */
