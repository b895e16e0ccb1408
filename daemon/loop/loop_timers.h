/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loop_timers: the loop's timers, a binary heap of pointers to what the callers own,
 * earliest first. A timer knows its place in the heap, so that it can be moved and
 * removed without a search. Timers set to the same time fire in any order.
 */
#pragma once

#include "daemon/loop/event.h"

struct timers {
	struct timer **heap;
	size_t count, room;
};

/* -ENOMEM: nothing has changed. */
int timers_set(struct timers *timers, struct timer *timer, uint64_t at_ns);
void timers_stop(struct timers *timers, struct timer *timer);
/* The time at which the first one is due; UINT64_MAX if none is set. */
uint64_t timers_next(const struct timers *timers);
/* Fires those due at `now`. One that is set again from its callback waits for the next
 * call, even if already due. */
void timers_fire(struct timers *timers, uint64_t now);
void timers_clear(struct timers *timers);
