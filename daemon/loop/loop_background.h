/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loop_background: the loop's work that goes on in slices. One post, pending while any of
 * it is on, gives all of it together a share of each turn, a slice each in rotation: however
 * much there is to do, a turn takes no longer for it. The post is loop.c's.
 *
 * It is apart from sessions' turns (turns.h) so that it goes on however many sessions have
 * work: it drops what makes room for them. No session pays for it, so no time is kept, and a
 * slice is a number of steps, which its work knows best.
 */
#pragma once

#include "daemon/loop/event.h"

struct backgrounds {
	struct post post;
	bool posted;
	struct list list; /* struct background: those that are on, the next first */
};

void backgrounds_init(struct backgrounds *backgrounds, void (*run)(struct post *post));
/* Turns one on. True: the post is to be posted. */
bool backgrounds_add(struct backgrounds *backgrounds, struct background *background);
void backgrounds_remove(struct background *background); /* no-op when it is off */
/* Runs slices for one turn. True: the post is to be posted again. */
bool backgrounds_run(struct backgrounds *backgrounds);
