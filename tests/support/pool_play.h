/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pool_play: every call on sequences once, in a fixed order, while something fails: what is
 * refused has changed nothing, and works when it is tried again.
 */
#pragma once

#include "tests/support/pool_rig.h"

struct pool_play {
	unsigned refused; /* calls that were, and were tried again */
	bool ended;       /* the connection has: the rest was not played */
};

/* Opens a pool, plays, closes it. Fails the test if bytes are not what they should be, or a
 * call is refused twice. */
void pool_play(const struct spawn *spawn, struct pool_play *play);
/* The pool is open and its first sequence has tokens: for what is to fail from here on. */
extern void (*pool_play_begins)(const struct pool_rig *rig);
/* A call follows, which is made again if it is refused. NULL: nothing is done. */
extern void (*pool_play_calls)(void);
extern void (*pool_play_ends)(void);
