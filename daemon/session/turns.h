/* SPDX-License-Identifier: Apache-2.0 */
/*
 * turns: whose work the loop thread does next, and for how long. Each player has
 * TURNS_QUANTUM_NS of the thread's CPU time in a round; a round ends when no player that has
 * work has time left. Heavy are those whose work was longer than a round's time; the light
 * ones go first, so that one that asks little does not wait for those that ask much, however
 * many these are.
 *
 * The players' work runs from a post, for TURNS_BUDGET_NS at most before the loop looks for
 * events again: what has just arrived waits for that, and not for what others have queued.
 * Time that a player takes beyond its slice is taken off its next rounds. Who plays alone, and
 * not beyond its slice, pays nothing.
 *
 * 	         wake, time left            more to do, time left
 * 	 idle -------------------> light <-------------------.
 * 	  | ^                        |                       |
 * 	  | |  nothing left to do    v                       |
 * 	  | '-------------------- running -------------------'
 * 	  |                        ^ |
 * 	  |                        | | more to do, no time left
 * 	  |                  heavy-' '-> next_heavy
 * 	  | wake, no time left
 * 	  '----------------------------> next_light
 *
 * 	With the next round, next_light becomes light and next_heavy becomes heavy.
 *
 * It knows no session and no request. All on the loop thread.
 */
#pragma once

#include "daemon/base/list.h"
#include "daemon/base/slice.h"
#include "daemon/loop/loop.h"

#define TURNS_QUANTUM_NS 50000u /* of a player in a round; also its longest slice */
#define TURNS_BUDGET_NS 100000u /* of all between two looks at the loop's events */

/* Embedded in who has work. */
struct player {
	struct list link; /* turns.c's, as are the others */
	uint64_t round;
	int64_t left_ns; /* of that round */
	/* Does some of its work. False: there is none left, until turns_wake(); work that has
	 * come while it played counts. It may stop and free the player. */
	bool (*play)(struct player *player, struct slice *slice);
};

struct turns {
	struct loop *loop;
	uint64_t (*now)(void),
		(*spent)(void);             /* clock_now() and clock_thread(); tests set theirs */
	uint64_t sampled;                   /* what spent() was when it was last asked */
	struct list light, heavy;           /* time left */
	struct list next_light, next_heavy; /* none, in this round */
	struct player *running;
	uint64_t round;
	struct post post;
	bool posted;
};

void turns_open(struct turns *turns, struct loop *loop);
/* Makes a player of one whose play() is set. Its first time comes with the next round: were
 * it there at once, those that come one after the other would all go before the others. */
void turns_join(const struct turns *turns, struct player *player);
/* It has work. */
void turns_wake(struct turns *turns, struct player *player);
/* Forgets the player. */
void turns_stop(struct turns *turns, struct player *player);
