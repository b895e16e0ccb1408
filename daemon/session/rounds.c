/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/session/rounds.h"

void rounds_open(struct rounds *rounds)
{
	*rounds = (struct rounds){0};
	list_init(&rounds->light);
	list_init(&rounds->heavy);
	list_init(&rounds->next_light);
	list_init(&rounds->next_heavy);
}

bool rounds_is_empty(const struct rounds *rounds)
{
	return list_empty(&rounds->light) && list_empty(&rounds->heavy) &&
	       list_empty(&rounds->next_light) && list_empty(&rounds->next_heavy);
}

void rounds_join(const struct rounds *rounds, struct turn *turn)
{
	*turn = (struct turn){.round = rounds->round};
	list_init(&turn->link);
}

/* Whether it has time left in this round; a new round brings its quantum. */
static bool rounds_has_time(const struct rounds *rounds, struct turn *turn, uint64_t quantum)
{
	if (turn->round != rounds->round) {
		turn->round = rounds->round;
		turn->left_ns = (turn->left_ns < 0 ? turn->left_ns : 0) + (int64_t)quantum;
	}

	return turn->left_ns > 0;
}

static void rounds_move(struct list *from, struct list *to)
{
	for (struct list *node; (node = list_pop_front(from));)
		list_push_back(to, node);
}

static void rounds_begin(struct rounds *rounds)
{
	rounds->round++;
	rounds_move(&rounds->next_light, &rounds->light);
	rounds_move(&rounds->next_heavy, &rounds->heavy);
}

/* Takes out the first of those in this round; NULL: there is none. */
static struct turn *rounds_pop(struct rounds *rounds)
{
	struct list *node = list_pop_front(&rounds->light);
	if (!node)
		node = list_pop_front(&rounds->heavy);

	return node ? container_of(node, struct turn, link) : NULL;
}

struct turn *rounds_next(struct rounds *rounds, uint64_t (*quantum)(const struct turn *turn))
{
	while (!rounds_is_empty(rounds)) {
		struct turn *turn = rounds_pop(rounds);

		if (!turn)
			rounds_begin(rounds);
		else if (rounds_has_time(rounds, turn, quantum(turn)))
			return turn;
		else
			list_push_back(&rounds->next_heavy, &turn->link);
	}

	return NULL;
}

void rounds_wake(struct rounds *rounds, struct turn *turn, uint64_t quantum)
{
	list_push_back(rounds_has_time(rounds, turn, quantum) ? &rounds->light
							      : &rounds->next_light,
		       &turn->link);
}

void rounds_put_back(struct rounds *rounds, struct turn *turn)
{
	list_push_back(turn->left_ns > 0 ? &rounds->light : &rounds->next_heavy, &turn->link);
}
