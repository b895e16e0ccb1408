/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loop_timers: see loop_timers.h. No timer is earlier than its parent. `child` is a timer's
 * first child, `next` its next sibling, and `link` the pointer to it: its parent's `child`,
 * its sibling's `next`, or the root. The root has no sibling.
 */
#include "daemon/loop/loop_timers.h"

/* Points *link to `timer`, which may be NULL. */
static void loop_timers_put(struct timer **link, struct timer *timer)
{
	*link = timer;
	if (timer)
		timer->link = link;
}

/* Joins two heaps, each without siblings, and maybe NULL: the later root becomes a child
 * of the earlier. */
static struct timer *loop_timers_meld(struct timer *a, struct timer *b)
{
	if (!a || !b)
		return a ? a : b;

	struct timer *first = b->at_ns < a->at_ns ? b : a;
	struct timer *later = first == a ? b : a;
	loop_timers_put(&later->next, first->child);
	loop_timers_put(&first->child, later);

	return first;
}

static struct timer *loop_timers_pop(struct timer **stack)
{
	struct timer *timer = *stack;
	if (timer) {
		*stack = timer->next;
		timer->next = NULL;
	}

	return timer;
}

/* Joins siblings, in two passes: pairs, then the pairs from the last to the first. This
 * is what makes taking the earliest out logarithmic on average. */
static struct timer *loop_timers_meld_all(struct timer *siblings)
{
	struct timer *pairs = NULL, *all = NULL;
	while (siblings) {
		struct timer *one = loop_timers_pop(&siblings);
		struct timer *pair = loop_timers_meld(one, loop_timers_pop(&siblings));
		pair->next = pairs;
		pairs = pair;
	}

	while (pairs)
		all = loop_timers_meld(all, loop_timers_pop(&pairs));

	return all;
}

static void loop_timers_add(struct timers *timers, struct timer *heap)
{
	loop_timers_put(&timers->root, loop_timers_meld(timers->root, heap));
}

void timers_set(struct timers *timers, struct timer *timer, uint64_t at_ns)
{
	timers_stop(timers, timer);
	timer->at_ns = at_ns;
	loop_timers_add(timers, timer);
}

void timers_stop(struct timers *timers, struct timer *timer)
{
	if (!timer_is_set(timer))
		return;

	struct timer *children = timer->child;
	loop_timers_put(timer->link, timer->next);
	timer->child = timer->next = NULL;
	timer->link = NULL;
	loop_timers_add(timers, loop_timers_meld_all(children));
}

uint64_t timers_next(const struct timers *timers)
{
	return timers->root ? timers->root->at_ns : UINT64_MAX;
}

/* Takes those due at `now` out of the heap, to a list that is linked as siblings are. */
static void loop_timers_take_due(struct timers *timers, uint64_t now, struct timer **due)
{
	struct timer **end = due;
	*due = NULL;
	while (timers->root && timers->root->at_ns <= now) {
		struct timer *timer = timers->root;
		timers_stop(timers, timer);
		loop_timers_put(end, timer);
		end = &timer->next;
	}
}

void timers_fire(struct timers *timers, uint64_t now)
{
	struct timer *due;

	/* All before the first is fired: a callback may set and stop any timer, and one
	 * that sets its own to the past must not keep the loop, or the others, here. */
	loop_timers_take_due(timers, now, &due);
	while (due) {
		struct timer *timer = due;
		timers_stop(timers, timer);
		timer->fire(timer);
	}
}

void timers_clear(struct timers *timers)
{
	while (timers->root)
		timers_stop(timers, timers->root);
}
