/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loop_timers: see loop_timers.h. heap[0] is the earliest; the children of heap[i] are
 * heap[2i + 1] and heap[2i + 2], and heap[i]->position is i + 1.
 */
#include "daemon/loop/loop_timers.h"

#include <errno.h>
#include <stdlib.h>

static void loop_timers_put(struct timers *timers, size_t at, struct timer *timer)
{
	timers->heap[at] = timer;
	timer->position = at + 1;
}

static void loop_timers_rise(struct timers *timers, size_t at)
{
	struct timer *timer = timers->heap[at];
	while (at > 0 && timers->heap[(at - 1) / 2]->at_ns > timer->at_ns) {
		loop_timers_put(timers, at, timers->heap[(at - 1) / 2]);
		at = (at - 1) / 2;
	}

	loop_timers_put(timers, at, timer);
}

static void loop_timers_sink(struct timers *timers, size_t at)
{
	struct timer *timer = timers->heap[at];
	for (size_t child = 2 * at + 1; child < timers->count; child = 2 * at + 1) {
		if (child + 1 < timers->count &&
		    timers->heap[child + 1]->at_ns < timers->heap[child]->at_ns)
			child++;

		if (timers->heap[child]->at_ns >= timer->at_ns)
			break;
		loop_timers_put(timers, at, timers->heap[child]);
		at = child;
	}

	loop_timers_put(timers, at, timer);
}

static int loop_timers_make_room(struct timers *timers)
{
	if (timers->count < timers->room)
		return 0;

	size_t room = timers->room ? timers->room * 2 : 64;
	struct timer **heap = reallocarray(timers->heap, room, sizeof(*heap));
	if (!heap)
		return -ENOMEM;

	timers->heap = heap;
	timers->room = room;

	return 0;
}

int timers_set(struct timers *timers, struct timer *timer, uint64_t at_ns)
{
	if (!timer_is_set(timer)) {
		int r = loop_timers_make_room(timers);
		if (r < 0)
			return r;
		loop_timers_put(timers, timers->count++, timer);
	}

	timer->at_ns = at_ns;
	loop_timers_rise(timers, timer->position - 1);
	loop_timers_sink(timers, timer->position - 1);

	return 0;
}

void timers_stop(struct timers *timers, struct timer *timer)
{
	if (!timer_is_set(timer))
		return;

	size_t at = timer->position - 1;
	timer->position = 0;
	struct timer *last = timers->heap[--timers->count];
	if (last == timer)
		return;

	loop_timers_put(timers, at, last);
	loop_timers_rise(timers, at);
	loop_timers_sink(timers, last->position - 1);
}

uint64_t timers_next(const struct timers *timers)
{
	return timers->count ? timers->heap[0]->at_ns : UINT64_MAX;
}

void timers_fire(struct timers *timers, uint64_t now)
{
	/*
	 * Bounded by the current number of timers: a callback that sets its timer to the
	 * past must not keep the loop here.
	 */
	for (size_t left = timers->count; left > 0 && timers_next(timers) <= now; left--) {
		struct timer *timer = timers->heap[0];
		timers_stop(timers, timer);
		timer->fire(timer);
	}
}

void timers_clear(struct timers *timers)
{
	for (size_t i = 0; i < timers->count; i++)
		timers->heap[i]->position = 0;
	free(timers->heap);
	*timers = (struct timers){0};
}
