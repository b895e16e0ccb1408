/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/session/turns.h"

static bool turns_is_empty(const struct turns *turns)
{
	return list_empty(&turns->light) && list_empty(&turns->heavy) &&
	       list_empty(&turns->next_light) && list_empty(&turns->next_heavy);
}

static void turns_post(struct turns *turns)
{
	if (turns->posted)
		return;

	turns->posted = true;
	loop_post(turns->loop, &turns->post);
}

/* Whether the player has time left in this round; a new round brings its quantum. */
static bool turns_has_time(const struct turns *turns, struct player *player)
{
	if (player->round != turns->round) {
		player->round = turns->round;
		player->left_ns =
			(player->left_ns < 0 ? player->left_ns : 0) + (int64_t)TURNS_QUANTUM_NS;
	}

	return player->left_ns > 0;
}

static void turns_move(struct list *from, struct list *to)
{
	for (struct list *node; (node = list_pop_front(from));)
		list_push_back(to, node);
}

static void turns_begin_round(struct turns *turns)
{
	turns->round++;
	turns_move(&turns->next_light, &turns->light);
	turns_move(&turns->next_heavy, &turns->heavy);
}

/* The next player that has work and time, or NULL: none has work. */
static struct player *turns_next(struct turns *turns)
{
	while (!turns_is_empty(turns)) {
		struct list *node = list_pop_front(&turns->light);
		if (!node)
			node = list_pop_front(&turns->heavy);

		if (!node) {
			turns_begin_round(turns);
			continue;
		}

		struct player *player = container_of(node, struct player, link);
		if (turns_has_time(turns, player))
			return player;

		list_push_back(&turns->next_heavy, &player->link);
	}

	return NULL;
}

/* What a play that took so long costs its player: not what others ran meanwhile, of whom the
 * client may be the first: the reply wakes it, often in our place. The thread's clock is a
 * system call, and who kept no other waiting and was no longer than it may be is not asked
 * for it. What `sampled` is too old for is charged by the time that passed. */
static uint64_t turns_cost(struct turns *turns, bool alone, uint64_t took, uint64_t slice)
{
	if (alone && took <= slice)
		return 0;

	uint64_t spent = turns->spent(), since = spent - turns->sampled;

	turns->sampled = spent;

	return since < took ? since : took;
}

/* Lets it play until its slice is over; the time then. */
static uint64_t turns_play(struct turns *turns, struct player *player, uint64_t start)
{
	uint64_t length = (uint64_t)player->left_ns;
	struct slice slice = {.until_ns = start + length};
	bool alone = turns_is_empty(turns);

	turns->running = player;
	if (!alone)
		turns->sampled = turns->spent();

	bool more = player->play(player, &slice);
	uint64_t end = turns->now();
	if (turns->running != player)
		return end; /* it was stopped, and may have been freed */

	turns->running = NULL;
	player->left_ns -= (int64_t)turns_cost(turns, alone, end - start, length);
	if (more)
		list_push_back(player->left_ns > 0 ? &turns->light : &turns->next_heavy,
			       &player->link);

	return end;
}

static void turns_run(struct post *post)
{
	struct turns *turns = container_of(post, struct turns, post);
	uint64_t now = turns->now(), until = now + TURNS_BUDGET_NS;
	struct player *player;

	turns->posted = false;

	while (now < until && (player = turns_next(turns)))
		now = turns_play(turns, player, now);

	if (!turns_is_empty(turns))
		turns_post(turns);
}

void turns_open(struct turns *turns, struct loop *loop)
{
	*turns = (struct turns){
		.loop = loop, .now = clock_now, .spent = clock_thread, .post.run = turns_run};
	list_init(&turns->light);
	list_init(&turns->heavy);
	list_init(&turns->next_light);
	list_init(&turns->next_heavy);
}

void turns_join(const struct turns *turns, struct player *player)
{
	list_init(&player->link);
	player->round = turns->round;
	player->left_ns = 0;
}

void turns_wake(struct turns *turns, struct player *player)
{
	if (turns->running == player || !list_empty(&player->link))
		return;

	list_push_back(turns_has_time(turns, player) ? &turns->light : &turns->next_light,
		       &player->link);
	turns_post(turns);
}

void turns_stop(struct turns *turns, struct player *player)
{
	list_remove(&player->link);

	if (turns->running == player)
		turns->running = NULL;
}
