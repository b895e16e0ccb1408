/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loop_background: the loop's work that goes on in slices. One post, pending while any of
 * it is on, gives all of it together a share of each turn, a slice each in rotation: however
 * much there is to do, a turn takes no longer for it.
 */
#pragma once

#include "daemon/loop/event.h"

struct backgrounds {
	struct loop *loop;
	struct post post;
	bool posted;
	struct list list; /* struct background: those that are on, the next first */
};

void backgrounds_init(struct backgrounds *backgrounds, struct loop *loop);
