/* SPDX-License-Identifier: Apache-2.0 */
/* Turns: who goes first, how long anybody may take, and that everybody gets a turn. Players
 * use up the time of a clock of the test's own: what the machine does meanwhile, a host that
 * takes the processor away included, changes no order. All are of one tenant, but where the
 * test is of several. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "daemon/loop/loop.h"
#include "daemon/session/turns.h"

enum { PLAYERS = 4, TRACE = 64 };

struct rig {
	struct loop *loop;
	struct turns turns;
	struct played {
		struct player player;
		struct rig *rig;
		char name;
		unsigned plays, until; /* so many; it has work until `until` */
		uint64_t takes_ns;     /* in each */
		uint64_t sleeps_ns;    /* in each, besides */
		char wakes;            /* the name of one that it wakes, in its first four plays */
		unsigned wakes_after;  /* so many of these */
		bool joins;            /* that one is a new player each time */
		bool stops;            /* itself */
		bool overrun;          /* a slice was longer than a quantum */
	} players[PLAYERS];
	struct post between;
	unsigned plays_between;
	char trace[TRACE + 1]; /* the names of those that have played */
};

static struct played *played_of(struct rig *rig, char name)
{
	return &rig->players[name - 'a'];
}

static uint64_t spent_ns, slept_ns;

static uint64_t spent(void)
{
	return spent_ns;
}

static uint64_t now(void)
{
	return spent_ns + slept_ns;
}

/* Makes a player a new one, of that tenant. */
static void join(struct rig *rig, struct player *player, uint64_t tenant)
{
	turns_stop(&rig->turns, player);
	assert_int_equal(turns_join(&rig->turns, player, tenant, 1), 0);
}

static bool play(struct player *player, struct slice *slice)
{
	struct played *played = container_of(player, struct played, player);
	struct rig *rig = played->rig;
	size_t length = strlen(rig->trace);

	if (length < TRACE)
		rig->trace[length] = played->name;
	played->overrun |= slice->until_ns > now() + TURNS_QUANTUM_NS;
	spent_ns += played->takes_ns;
	slept_ns += played->sleeps_ns;
	played->plays++;
	if (played->joins)
		join(rig, &played_of(rig, played->wakes)->player, 0);
	if (played->wakes && played->plays > played->wakes_after && played->plays < 5)
		turns_wake(&rig->turns, &played_of(rig, played->wakes)->player);
	if (played->stops)
		turns_stop(&rig->turns, player);

	return played->plays < played->until;
}

static int setup(void **state)
{
	static struct rig rig;

	memset(&rig, 0, sizeof(rig));
	assert_int_equal(loop_new(&rig.loop, &(struct loop_options){.io_depth = 1}), 0);
	turns_open(&rig.turns, rig.loop);
	rig.turns.now = now;
	rig.turns.spent = spent;
	for (int i = 0; i < PLAYERS; i++) {
		rig.players[i] = (struct played){
			.player.play = play, .rig = &rig, .name = (char)('a' + i), .until = 1};
		join(&rig, &rig.players[i].player, 0);
	}
	*state = &rig;

	return 0;
}

static int teardown(void **state)
{
	struct rig *rig = *state;

	for (int i = 0; i < PLAYERS; i++) {
		assert_false(rig->players[i].overrun);
		turns_stop(&rig->turns, &rig->players[i].player);
	}

	assert_true(list_empty(&rig->turns.teams));
	loop_free(rig->loop);

	return 0;
}

static void wake(struct rig *rig, const char *names)
{
	for (; *names; names++)
		turns_wake(&rig->turns, &played_of(rig, *names)->player);
}

static void each_plays_once_for_any_number_of_wakes(void **state)
{
	struct rig *rig = *state;

	wake(rig, "abcaab");
	loop_flush(rig->loop);
	assert_string_equal(rig->trace, "abc");
	wake(rig, "b");
	loop_flush(rig->loop);
	assert_string_equal(rig->trace, "abcb");
}

/* Two that always have work and use up what they get, and one that asks for little: it plays
 * as soon as it has something to do. */
static void who_asks_little_goes_first(void **state)
{
	struct rig *rig = *state;
	struct played *a = played_of(rig, 'a'), *b = played_of(rig, 'b');

	a->until = b->until = 4;
	a->takes_ns = b->takes_ns = 2 * TURNS_QUANTUM_NS;
	b->wakes = 'c';
	wake(rig, "ab");
	loop_flush(rig->loop);
	assert_int_equal(a->plays, 4);
	assert_int_equal(b->plays, 4);
	for (const char *at = rig->trace; (at = strchr(at, 'b')); at++)
		assert_int_equal(at[1], 'c');
}

/* Not after its first step only: it goes on before those that use up what they get. */
static void who_asks_little_goes_on_first(void **state)
{
	struct rig *rig = *state;
	struct played *a = played_of(rig, 'a'), *b = played_of(rig, 'b');

	a->until = b->until = 2;
	a->takes_ns = b->takes_ns = 2 * TURNS_QUANTUM_NS;
	a->wakes = 'c';
	a->wakes_after = 1;
	played_of(rig, 'c')->until = 3;
	wake(rig, "ab");
	loop_flush(rig->loop);
	assert_non_null(strstr(rig->trace, "accc"));
}

/* Before those that had it and used it up. */
static void who_had_no_time_begins_the_next_round(void **state)
{
	struct rig *rig = *state;
	struct played *a = played_of(rig, 'a'), *b = played_of(rig, 'b');

	a->until = 3;
	b->until = 2;
	a->takes_ns = b->takes_ns = TURNS_QUANTUM_NS;
	b->wakes = 'c';
	b->wakes_after = 1;
	wake(rig, "ab");
	played_of(rig, 'c')->player.turn.left_ns = -3 * (int64_t)TURNS_QUANTUM_NS / 2;
	loop_flush(rig->loop);
	assert_non_null(strstr(rig->trace, "bc"));
}

/* What a player takes beyond its quantum is taken off its next rounds. */
static void who_takes_too_much_pays_it_back(void **state)
{
	struct rig *rig = *state;
	struct played *a = played_of(rig, 'a');

	a->takes_ns = 10 * TURNS_QUANTUM_NS;
	wake(rig, "a");
	loop_flush(rig->loop);
	assert_true(a->player.turn.left_ns <= -9 * (int64_t)TURNS_QUANTUM_NS);

	/* so much that no other's play takes as long */
	a->player.turn.left_ns = -100000 * (int64_t)TURNS_QUANTUM_NS;
	a->takes_ns = 0;
	played_of(rig, 'b')->until = 8;
	wake(rig, "ab");
	loop_flush(rig->loop);
	assert_string_equal(rig->trace, "abbbbbbbba");
}

/* Nobody waited for it; beside others it pays for what it takes. */
static void who_plays_alone_pays_nothing(void **state)
{
	struct rig *rig = *state;
	struct played *a = played_of(rig, 'a');

	a->takes_ns = TURNS_QUANTUM_NS / 4;
	wake(rig, "a");
	loop_flush(rig->loop);
	wake(rig, "a");
	loop_flush(rig->loop);
	assert_int_equal(a->player.turn.left_ns, TURNS_QUANTUM_NS);

	wake(rig, "ab");
	loop_flush(rig->loop);
	assert_int_equal(a->player.turn.left_ns, TURNS_QUANTUM_NS - TURNS_QUANTUM_NS / 4);
}

/* The processor may be others' in the middle of a play. */
static void nobody_pays_for_an_interruption(void **state)
{
	struct rig *rig = *state;
	struct played *a = played_of(rig, 'a');

	a->sleeps_ns = 1000 * (uint64_t)TURNS_QUANTUM_NS;
	wake(rig, "a");
	loop_flush(rig->loop);
	assert_true(a->player.turn.left_ns > -500 * (int64_t)TURNS_QUANTUM_NS);
}

/* One that has used up its time, and new ones all the time: its next round comes. */
static void new_players_do_not_go_before_all_others(void **state)
{
	struct rig *rig = *state;
	struct played *a = played_of(rig, 'a'), *b = played_of(rig, 'b'), *c = played_of(rig, 'c');

	a->takes_ns = 2 * TURNS_QUANTUM_NS;
	a->until = 2;
	b->wakes = 'c';
	c->wakes = 'b';
	b->joins = c->joins = true;
	wake(rig, "ab");
	loop_flush(rig->loop);
	assert_int_equal(a->plays, 2);
	assert_int_equal(b->plays, 5);
	assert_int_equal(rig->trace[strlen(rig->trace) - 1], 'b');
}

/* Everybody gets a turn, however many always have work. */
static void no_player_starves(void **state)
{
	struct rig *rig = *state;

	for (int i = 0; i < PLAYERS; i++) {
		rig->players[i].until = 8;
		rig->players[i].takes_ns = TURNS_QUANTUM_NS / 2 * (uint64_t)(i + 1);
	}
	wake(rig, "abcd");
	loop_flush(rig->loop);
	for (int i = 0; i < PLAYERS; i++)
		assert_int_equal(rig->players[i].plays, 8);
	assert_memory_equal(rig->trace, "abcd", 4);
}

static void look_between(struct post *post)
{
	struct rig *rig = container_of(post, struct rig, between);
	rig->plays_between = played_of(rig, 'a')->plays;
}

/* The loop does other things before all work is done. */
static void the_loop_comes_between(void **state)
{
	struct rig *rig = *state;
	struct played *a = played_of(rig, 'a');

	rig->between.run = look_between;
	a->until = 40;
	a->sleeps_ns = TURNS_BUDGET_NS / 4;
	wake(rig, "a");
	loop_post(rig->loop, &rig->between);
	loop_flush(rig->loop);
	assert_in_range(rig->plays_between, 1, 4);
	assert_int_equal(a->plays, 40);
}

/* Of work that comes while a player plays it is the player who knows whether it is left. */
static void a_player_wakes_itself(void **state)
{
	struct rig *rig = *state;

	played_of(rig, 'a')->wakes = 'a';
	played_of(rig, 'a')->until = 3;
	wake(rig, "a");
	loop_flush(rig->loop);
	assert_string_equal(rig->trace, "aaa");
	wake(rig, "a");
	loop_flush(rig->loop);
	assert_string_equal(rig->trace, "aaaa");
}

static void a_player_that_stops_is_forgotten(void **state)
{
	struct rig *rig = *state;
	struct played *a = played_of(rig, 'a');

	a->stops = true;
	a->until = 5;
	wake(rig, "ab");
	turns_stop(&rig->turns, &played_of(rig, 'b')->player);
	loop_flush(rig->loop);
	assert_string_equal(rig->trace, "a");
}

/* ---- Several tenants ---- */

/* Three players of one tenant and the only one of another, all with more work than time; how
 * much oftener the one plays than the three together must be its tenant's weight. */
static void check_tenants(struct rig *rig, uint32_t weight)
{
	unsigned plays[2] = {0};

	join(rig, &played_of(rig, 'd')->player, 1);
	turns_weigh(&played_of(rig, 'd')->player, weight);
	for (int i = 0; i < PLAYERS; i++) {
		rig->players[i].takes_ns = TURNS_QUANTUM_NS;
		rig->players[i].until = TRACE;
	}
	wake(rig, "abcd");
	loop_flush(rig->loop);

	assert_int_equal(strlen(rig->trace), TRACE);
	for (const char *at = rig->trace; *at; at++) {
		plays[*at == 'd']++;
		assert_in_range(plays[1], 0, (plays[0] + 1) * weight);
		assert_in_range(plays[0], 0, plays[1] / weight + 1);
	}
	for (char name = 'a'; name < 'd'; name++)
		assert_non_null(memchr(rig->trace, name, 3 * (size_t)(weight + 1)));
}

static void a_tenant_has_no_more_time_for_more_players(void **state)
{
	check_tenants(*state, 1);
}

static void a_tenant_has_time_by_its_weight(void **state)
{
	check_tenants(*state, 3);
}

/* One of another tenant that asks little: all of the tenant that asks for much wait for it. */
static void a_tenant_that_asks_little_goes_first(void **state)
{
	struct rig *rig = *state;

	join(rig, &played_of(rig, 'd')->player, 1);
	for (char name = 'a'; name < 'd'; name++) {
		played_of(rig, name)->until = 4;
		played_of(rig, name)->takes_ns = 2 * TURNS_QUANTUM_NS;
	}
	played_of(rig, 'b')->wakes = 'd';
	wake(rig, "abc");
	loop_flush(rig->loop);
	for (const char *at = rig->trace; (at = strchr(at, 'b')); at++)
		assert_int_equal(at[1], 'd');
	assert_int_equal(played_of(rig, 'd')->plays, 4);
}

/* The last player of a tenant goes in the middle of its play, and one that waits. */
static void a_tenant_goes_with_its_last_player(void **state)
{
	struct rig *rig = *state;
	struct played *c = played_of(rig, 'c'), *d = played_of(rig, 'd');

	join(rig, &c->player, 1);
	join(rig, &d->player, 2);
	c->stops = true;
	c->until = d->until = 5;
	played_of(rig, 'a')->until = 2;
	wake(rig, "adc");
	turns_stop(&rig->turns, &d->player);
	assert_int_equal(list_length(&rig->turns.teams), 2);
	loop_flush(rig->loop);
	assert_int_equal(list_length(&rig->turns.teams), 1);
	assert_int_equal(c->plays, 1);
	assert_int_equal(d->plays, 0);
	assert_int_equal(played_of(rig, 'a')->plays, 2);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(each_plays_once_for_any_number_of_wakes),
		TEST(who_asks_little_goes_first),
		TEST(who_asks_little_goes_on_first),
		TEST(who_had_no_time_begins_the_next_round),
		TEST(who_takes_too_much_pays_it_back),
		TEST(who_plays_alone_pays_nothing),
		TEST(nobody_pays_for_an_interruption),
		TEST(new_players_do_not_go_before_all_others),
		TEST(no_player_starves),
		TEST(the_loop_comes_between),
		TEST(a_player_wakes_itself),
		TEST(a_player_that_stops_is_forgotten),
		TEST(a_tenant_has_no_more_time_for_more_players),
		TEST(a_tenant_has_time_by_its_weight),
		TEST(a_tenant_that_asks_little_goes_first),
		TEST(a_tenant_goes_with_its_last_player),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
