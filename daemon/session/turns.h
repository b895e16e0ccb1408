/* SPDX-License-Identifier: Apache-2.0 */
/*
 * turns: whose work the loop thread does next, and for how long. Tenants take turns, and within
 * a tenant its players: a tenant has no more time for having more players. In a round of the
 * tenants each has TURNS_QUANTUM_NS of the thread's CPU time for each of its weight; in a round
 * of a tenant each of its players has TURNS_QUANTUM_NS. A round ends when no one that has work
 * has time left. Heavy are those whose work was longer than a round's time; the light ones go
 * first, so that one that asks little does not wait for those that ask much, however many these
 * are.
 *
 * The players' work runs from a post, for TURNS_BUDGET_NS at most before the loop looks for
 * events again: what has just arrived waits for that, and not for what others have queued.
 * Time that a player takes beyond its slice is taken off its next rounds, and its tenant's. Who
 * plays alone, and not beyond its slice, pays nothing.
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
 * 	With the next round, next_light becomes light and next_heavy becomes heavy. The states
 * 	are those of a tenant among all, and of a player among those of its tenant.
 *
 * It knows no session and no request. All on the loop thread.
 */
#pragma once

#include "daemon/base/list.h"
#include "daemon/base/slice.h"
#include "daemon/loop/loop.h"
#include "daemon/session/rounds.h"

#include <stdbool.h>
#include <stdint.h>

#define TURNS_QUANTUM_NS 50000u /* of a player in a round; also its longest slice */
#define TURNS_BUDGET_NS 100000u /* of all between two looks at the loop's events */

/* The players of one tenant; turns.c's, as are the others. */
struct team {
	struct list link; /* in turns->teams */
	struct turn turn;
	struct rounds players;
	uint64_t tenant;
	uint32_t weight;
	uint32_t size; /* how many have joined */
};

/* Embedded in who has work; zeroed but for play(): it has not joined. */
struct player {
	struct turn turn;
	struct team *team;
	/* Does some of its work. False: there is none left, until turns_wake(); work that has
	 * come while it played counts. It may stop and free the player. */
	bool (*play)(struct player *player, struct slice *slice);
};

struct turns {
	struct loop *loop;
	uint64_t (*now)(void),
		(*spent)(void); /* clock_now() and clock_thread(); tests set theirs */
	uint64_t sampled;       /* what spent() was when it was last asked */
	struct rounds rounds;   /* of teams */
	struct list teams;
	struct player *running;
	struct team *running_team;
	struct post post;
	bool posted;
};

void turns_open(struct turns *turns, struct loop *loop);
/* Makes a player of one whose play() is set, of that tenant, which has that weight from now on.
 * Its first time comes with the next round: were it there at once, those that come one after the
 * other would all go before the others. -ENOMEM: it has not joined. */
int turns_join(struct turns *turns, struct player *player, uint64_t tenant, uint32_t weight);
/* The weight of its tenant is another. */
void turns_weigh(struct player *player, uint32_t weight);
/* It has work. */
void turns_wake(struct turns *turns, struct player *player);
/* Whether it waits for its turn. */
bool turns_is_awake(const struct player *player);
/* Forgets the player. No-op on one that has not joined. */
void turns_stop(struct turns *turns, struct player *player);
