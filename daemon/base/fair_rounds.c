/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/base/fair_rounds.h"

#include <assert.h>

void fair_rounds_open(struct fair_rounds *rounds)
{
	rounds->now = 0;
	list_init(&rounds->order);
}

bool fair_rounds_empty(const struct fair_rounds *rounds)
{
	return list_empty(&rounds->order);
}

struct fair_turn *fair_rounds_first(const struct fair_rounds *rounds)
{
	return container_of(rounds->order.next, struct fair_turn, round_link);
}

void fair_rounds_begin_first(struct fair_rounds *rounds)
{
	rounds->now = fair_rounds_first(rounds)->round;
}

static uint64_t fair_rounds_charge(const struct fair_turn *turn, uint64_t cost)
{
	uint64_t most = FAIR_ROUNDS * turn->share;

	return cost < most ? cost : most;
}

/* Behind those of its round, or as the first of it. */
static void fair_rounds_insert(struct fair_rounds *rounds, struct fair_turn *turn)
{
	struct list *before = rounds->order.prev;
	struct fair_turn *leader = container_of(before, struct fair_turn, round_link);

	list_init(&turn->round_link);
	list_init(&turn->ring);
	for (; before != &rounds->order && leader->round > turn->round;
	     leader = container_of(before, struct fair_turn, round_link))
		before = before->prev;

	if (before != &rounds->order && leader->round == turn->round)
		list_push_back(&leader->ring, &turn->ring);
	else
		list_insert_after(before, &turn->round_link);
}

/* Joins the first round, not this one, in which there is credit for that. */
static void fair_rounds_join_next(struct fair_rounds *rounds, struct fair_turn *turn,
				  uint64_t charge)
{
	uint64_t missing = charge > turn->credit ? charge - turn->credit : 0;
	uint64_t more = missing > turn->share ? (missing + turn->share - 1) / turn->share : 1;

	turn->round = rounds->now + more;
	turn->credit += more * turn->share;
	fair_rounds_insert(rounds, turn);
}

void fair_rounds_join(struct fair_rounds *rounds, struct fair_turn *turn, uint64_t share,
		      uint64_t cost)
{
	*turn = (struct fair_turn){.share = share};
	fair_rounds_join_next(rounds, turn, fair_rounds_charge(turn, cost));
}

void fair_rounds_leave(struct fair_turn *turn)
{
	bool leads = !list_empty(&turn->round_link); /* the head of the order is in its list */
	struct fair_turn *next = container_of(turn->ring.next, struct fair_turn, ring);

	if (leads && next != turn)
		list_replace(&turn->round_link, &next->round_link);
	else
		list_remove(&turn->round_link);
	list_remove(&turn->ring);
}

/* Out of its round, without the credit of rounds that have not come. */
static void fair_rounds_give_back(const struct fair_rounds *rounds, struct fair_turn *turn)
{
	fair_rounds_leave(turn);
	turn->credit -= (turn->round - rounds->now) * turn->share;
}

void fair_rounds_rejoin(struct fair_rounds *rounds, struct fair_turn *turn, uint64_t cost)
{
	uint64_t charge = fair_rounds_charge(turn, cost);
	if (turn->round == rounds->now && turn->credit >= charge)
		return;

	fair_rounds_give_back(rounds, turn);
	fair_rounds_join_next(rounds, turn, charge);
}

void fair_rounds_set_share(struct fair_rounds *rounds, struct fair_turn *turn, uint64_t share,
			   uint64_t cost)
{
	if (turn->round == rounds->now) {
		turn->share = share;
		return;
	}

	fair_rounds_give_back(rounds, turn);
	turn->share = share;
	fair_rounds_join_next(rounds, turn, fair_rounds_charge(turn, cost));
}

void fair_rounds_pay(const struct fair_rounds *rounds, struct fair_turn *turn, uint64_t cost)
{
	uint64_t charge = fair_rounds_charge(turn, cost);

	assert(turn->round == rounds->now);
	turn->credit -= charge < turn->credit ? charge : turn->credit;
}

void fair_rounds_hand_over(struct fair_turn *from, struct fair_turn *to)
{
	*to = *from;
	list_replace(&from->round_link, &to->round_link);
	list_replace(&from->ring, &to->ring);
}
