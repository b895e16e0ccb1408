/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/session/turns.h"

#include <errno.h>
#include <stdlib.h>

/* ---- Teams and players ---- */

static uint64_t turns_team_quantum(const struct turn *turn)
{
	const struct team *team = container_of(turn, struct team, turn);

	return (uint64_t)TURNS_QUANTUM_NS * (team->weight > 0 ? team->weight : 1);
}

static uint64_t turns_player_quantum(const struct turn *turn)
{
	(void)turn;

	return TURNS_QUANTUM_NS;
}

static struct team *turns_find_team(const struct turns *turns, uint64_t tenant)
{
	list_for_each (node, &turns->teams) {
		struct team *team = container_of(node, struct team, link);
		if (team->tenant == tenant)
			return team;
	}

	return NULL;
}

static struct team *turns_new_team(struct turns *turns, uint64_t tenant)
{
	struct team *team = calloc(1, sizeof(*team));
	if (!team)
		return NULL;

	team->tenant = tenant;
	rounds_open(&team->players);
	rounds_join(&turns->rounds, &team->turn);
	list_push_back(&turns->teams, &team->link);

	return team;
}

int turns_join(struct turns *turns, struct player *player, uint64_t tenant, uint32_t weight)
{
	struct team *team = turns_find_team(turns, tenant);
	if (!team)
		team = turns_new_team(turns, tenant);
	if (!team)
		return -ENOMEM;

	team->weight = weight;
	team->size++;
	player->team = team;
	rounds_join(&team->players, &player->turn);

	return 0;
}

void turns_weigh(struct player *player, uint32_t weight)
{
	player->team->weight = weight;
}

static void turns_leave_team(struct turns *turns, struct team *team)
{
	if (rounds_is_empty(&team->players))
		list_remove(&team->turn.link);
	if (--team->size > 0)
		return;

	if (turns->running_team == team)
		turns->running_team = NULL;
	list_remove(&team->link);
	free(team);
}

void turns_stop(struct turns *turns, struct player *player)
{
	if (!player->team)
		return;

	if (turns->running == player)
		turns->running = NULL;
	list_remove(&player->turn.link);
	turns_leave_team(turns, player->team);
	player->team = NULL;
}

/* ---- Turns ---- */

static void turns_post(struct turns *turns)
{
	if (turns->posted)
		return;

	turns->posted = true;
	loop_post(turns->loop, &turns->post);
}

void turns_wake(struct turns *turns, struct player *player)
{
	struct team *team = player->team;
	if (turns->running == player || !list_empty(&player->turn.link))
		return;

	rounds_wake(&team->players, &player->turn, TURNS_QUANTUM_NS);
	if (turns->running_team != team && list_empty(&team->turn.link))
		rounds_wake(&turns->rounds, &team->turn, turns_team_quantum(&team->turn));
	turns_post(turns);
}

bool turns_is_awake(const struct player *player)
{
	return !list_empty(&player->turn.link);
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

/* The time that a player, and its team, have taken, of which either may be gone. */
static void turns_charge(struct turns *turns, int64_t cost, bool more)
{
	struct player *player = turns->running;
	struct team *team = turns->running_team;

	turns->running = NULL;
	turns->running_team = NULL;
	if (player)
		player->turn.left_ns -= cost;
	if (player && more)
		rounds_put_back(&team->players, &player->turn);
	if (team)
		team->turn.left_ns -= cost;
	if (team && !rounds_is_empty(&team->players))
		rounds_put_back(&turns->rounds, &team->turn);
}

/* Lets the next player of a team play until its slice is over; the time then. */
static uint64_t turns_play(struct turns *turns, struct team *team, uint64_t start)
{
	struct turn *turn = rounds_next(&team->players, turns_player_quantum);
	struct player *player = container_of(turn, struct player, turn);
	uint64_t length = (uint64_t)player->turn.left_ns;
	struct slice slice = {.until_ns = start + length};
	bool alone = rounds_is_empty(&turns->rounds) && rounds_is_empty(&team->players);

	turns->running = player;
	turns->running_team = team;
	if (!alone)
		turns->sampled = turns->spent();

	bool more = player->play(player, &slice);
	uint64_t end = turns->now();
	uint64_t cost = turns_cost(turns, alone, end - start, length);

	turns_charge(turns, (int64_t)cost, more);

	return end;
}

static void turns_run(struct post *post)
{
	struct turns *turns = container_of(post, struct turns, post);
	uint64_t now = turns->now(), until = now + TURNS_BUDGET_NS;
	struct turn *turn;

	turns->posted = false;

	while (now < until && (turn = rounds_next(&turns->rounds, turns_team_quantum)))
		now = turns_play(turns, container_of(turn, struct team, turn), now);

	if (!rounds_is_empty(&turns->rounds))
		turns_post(turns);
}

void turns_open(struct turns *turns, struct loop *loop)
{
	*turns = (struct turns){
		.loop = loop, .now = clock_now, .spent = clock_thread, .post.run = turns_run};
	rounds_open(&turns->rounds);
	list_init(&turns->teams);
}
