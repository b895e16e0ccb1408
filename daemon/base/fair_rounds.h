/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fair_rounds: deficit round robin. A turn gets credit in each round: its share. It comes in the
 * first round in which its credit covers the cost of what is served next. That is paid for, and
 * credit that is left is kept for the rounds to come; it is forgotten when the turn leaves. A
 * turn that joins comes in the next round, behind those that are in it.
 *
 * Nothing costs more than FAIR_ROUNDS rounds of credit, so that no turn is further away. What
 * is known of a turn is embedded in it, and every operation takes constant time: the rounds to
 * come, FAIR_ROUNDS at most, are in order, and the turns of one round are a ring that one of
 * them leads.
 *
 * It knows nothing of what is served: see fair_queue.h, which has two levels of these.
 */
#pragma once

#include "daemon/base/list.h"

#include <stdbool.h>
#include <stdint.h>

enum { FAIR_ROUNDS = 63 };

struct fair_turn {
	struct list round_link; /* in rounds->order, if it leads its round; else empty */
	struct list ring;       /* of those of its round; the leader is their head */
	uint64_t round;
	uint64_t credit; /* that it will have then */
	uint64_t share;  /* of each round */
};

struct fair_rounds {
	uint64_t now;
	struct list order;
};

void fair_rounds_open(struct fair_rounds *rounds);
bool fair_rounds_empty(const struct fair_rounds *rounds);
/* The turn that comes first; there is one. */
struct fair_turn *fair_rounds_first(const struct fair_rounds *rounds);
/* Its round is the present one. */
void fair_rounds_begin_first(struct fair_rounds *rounds);

/* `cost`: of what would be served next. */
void fair_rounds_join(struct fair_rounds *rounds, struct fair_turn *turn, uint64_t share,
		      uint64_t cost);
void fair_rounds_leave(struct fair_turn *turn);
/* What would be served next is another thing. The turn keeps its place if it is there and can
 * pay for it. */
void fair_rounds_rejoin(struct fair_rounds *rounds, struct fair_turn *turn, uint64_t cost);
/* Another share from now on. A turn that has come stays. */
void fair_rounds_set_share(struct fair_rounds *rounds, struct fair_turn *turn, uint64_t share,
			   uint64_t cost);
/* Pays for what has been served; the turn is that of fair_rounds_begin_first(). */
void fair_rounds_pay(const struct fair_rounds *rounds, struct fair_turn *turn, uint64_t cost);
/* `to` takes the place of `from`. */
void fair_rounds_hand_over(struct fair_turn *from, struct fair_turn *to);
