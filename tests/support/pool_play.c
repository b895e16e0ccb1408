/* SPDX-License-Identifier: Apache-2.0 */
/* pool_play: see pool_play.h. */
#include "tests/support/pool_play.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#define PLAYERS 4

void (*pool_play_begins)(const struct pool_rig *rig);
void (*pool_play_calls)(void);
void (*pool_play_ends)(void);

/* What the sequences should hold. */
static struct {
	struct hbm_sequence *sequence; /* NULL: not open */
	uint64_t first, tokens, values[RIG_MAX];
} players[PLAYERS];

static struct pool_rig rig;
static uint64_t last_value;
static struct pool_play *playing;

static bool play_is_readable(const struct hbm_sequence_facts *facts)
{
	return facts->state == HBM_SEQUENCE_OPEN && facts->ready >= facts->tokens;
}

/* Forks that are not mapped yet cannot be read. */
static void play_check(void)
{
	for (size_t i = 0; i < PLAYERS; i++) {
		if (!players[i].sequence)
			continue;
		const struct hbm_sequence_facts facts = pool_rig_facts(players[i].sequence);

		assert_int_equal(facts.tokens, players[i].tokens);
		for (uint64_t n = players[i].first; play_is_readable(&facts) && n < facts.tokens;
		     n++)
			pool_rig_expect(&rig, players[i].sequence, n, players[i].values[n]);
	}
}

/* Whether a call that said `r` is to be made again. */
static bool play_again(int r, unsigned *tries)
{
	if (r == 0)
		return false;
	if (r == -ENOTCONN || r == -EPROTO || r == -EPIPE) {
		playing->ended = true;
		return false;
	}
	playing->refused++;
	play_check();
	if (++*tries == 3)
		fail_msg("refused %u times: %d, %s", *tries, r, hbm_pool_error(rig.pool));

	return true;
}

#define PLAY(call)                                                                                 \
	do {                                                                                       \
		unsigned tries = 0;                                                                \
		if (playing->ended)                                                                \
			return;                                                                    \
		if (pool_play_calls)                                                               \
			pool_play_calls();                                                         \
		while (play_again(call, &tries))                                                   \
			;                                                                          \
		if (playing->ended)                                                                \
			return;                                                                    \
	} while (0)

static void play_grow(size_t i, uint64_t length)
{
	PLAY(hbm_step(rig.pool, &players[i].sequence, &length, 1));
	for (; players[i].tokens < length; players[i].tokens++) {
		players[i].values[players[i].tokens] = ++last_value;
		pool_rig_write(&rig, players[i].sequence, players[i].tokens, last_value);
	}
}

static void play_fork(size_t parent, size_t count)
{
	struct hbm_sequence *forks[PLAYERS];

	PLAY(hbm_sequence_fork(players[parent].sequence, count, forks));
	for (size_t i = 0; i < count; i++) {
		players[parent + 1 + i] = players[parent];
		players[parent + 1 + i].sequence = forks[i];
	}
}

static void play_truncate(size_t i, uint64_t tokens)
{
	PLAY(hbm_sequence_truncate(players[i].sequence, tokens));
	players[i].tokens = tokens;
}

static void play_reorder(const uint32_t *from, size_t count)
{
	struct hbm_sequence *sequences[PLAYERS];
	uint64_t values[PLAYERS][RIG_MAX], tokens[PLAYERS];

	for (size_t i = 0; i < count; i++) {
		sequences[i] = players[i].sequence;
		tokens[i] = players[i].tokens;
		memcpy(values[i], players[i].values, sizeof(values[i]));
	}
	PLAY(hbm_sequences_reorder(rig.pool, sequences, from, count));
	for (size_t i = 0; i < count; i++) {
		players[i].tokens = tokens[from[i]];
		memcpy(players[i].values, values[from[i]], sizeof(values[i]));
	}
}

/* Refused after some were copied: there are no drafts, and they are made again. */
static int play_accept(size_t i)
{
	static const int32_t parents[] = {-1, -1, 0, 1, 3, 4}, path[] = {1, 3, 4, 5};
	struct hbm_sequence *sequence = players[i].sequence;
	uint64_t tokens[6];
	int r = 0;

	if (pool_rig_facts(sequence).drafts == 0) {
		r = hbm_sequence_draft(sequence, parents, 6, tokens);
		for (uint64_t n = 0; r == 0 && n < 6; n++)
			pool_rig_write(&rig, sequence, tokens[n], last_value + 1 + n);
	}

	return r ? r : hbm_sequence_accept(sequence, path, 4);
}

static void play_tree(size_t i)
{
	PLAY(play_accept(i));
	for (size_t n = 0; n < 4; n++)
		players[i].values[players[i].tokens++] =
			last_value + 1 + (uint64_t)(const int[]){1, 3, 4, 5}[n];
	last_value += 6;
}

/* Every second token. */
static void play_keep(size_t i)
{
	uint64_t set[RIG_MAX];
	size_t count = 0;

	for (uint64_t n = players[i].first; n < players[i].tokens; n += 2)
		set[count++] = n;
	PLAY(hbm_sequence_keep(players[i].sequence, HBM_AXIS_TOKENS, set, count));
	for (size_t n = 0; n < count; n++)
		players[i].values[players[i].first + n] = players[i].values[set[n]];
	players[i].tokens = players[i].first + count;
}

/* Some go, others come. */
static void play_switch(struct hbm_sequence *const *out, size_t out_count,
			struct hbm_sequence *const *in, size_t in_count)
{
	PLAY(hbm_sequences_switch(rig.pool, out, out_count, HBM_TIER_NVME, in, in_count));
}

/* The pool chooses the one that is idle. */
static void play_balance(size_t i)
{
	size_t count;

	PLAY(hbm_sequence_idle(players[i].sequence, true, 1));
	PLAY(hbm_pool_balance(rig.pool, 1ull << 40, HBM_TIER_NVME, &count));
	assert_int_equal(pool_rig_facts(players[i].sequence).state, HBM_SEQUENCE_SUSPENDED);
	play_switch(NULL, 0, &players[i].sequence, 1);
}

static void play_close(size_t i)
{
	PLAY(hbm_sequence_close(players[i].sequence));
	players[i].sequence = NULL;
}

static void play_calls(void)
{
	play_fork(0, 2);
	PLAY(hbm_pool_map_ahead(rig.pool));
	play_grow(0, 45);
	play_grow(1, 50);
	play_check();
	play_truncate(2, 12);
	play_tree(2);
	play_check();
	play_tree(1);
	play_grow(2, 20); /* a copy of a slab that three have */
	play_check();
	play_switch(&players[0].sequence, 1, NULL, 0);
	play_check();
	play_switch(&players[1].sequence, 1, &players[0].sequence, 1);
	play_check();
	play_switch(NULL, 0, &players[1].sequence, 1);
	play_check();
	play_balance(2);
	play_check();
	play_reorder((const uint32_t[]){1, 2, 0}, 3);
	play_check();
	PLAY(hbm_sequence_slide(players[0].sequence, 15));
	players[0].first = 15;
	play_keep(0);
	play_check();
	play_close(1);
	play_check();
	PLAY(hbm_sequence_open(rig.pool, NULL, &players[3].sequence));
	players[3].first = players[3].tokens = 0;
	play_grow(3, 40);
	play_fork(2, 0);
	play_close(2);
	play_check();
}

void pool_play(const struct spawn *spawn, struct pool_play *play)
{
	const struct hbm_pool_options options = {.max_sequences = PLAYERS,
						 .warm_bytes = 6 * RIG_SLAB};

	memset(players, 0, sizeof(players));
	*play = (struct pool_play){0};
	playing = play;

	pool_rig_open(&rig, spawn, pool_rig_layouts[0], &options);
	players[0].sequence = pool_rig_sequence(&rig);
	play_grow(0, 37);
	pool_play_begins(&rig);
	play_calls();
	pool_play_ends();
	if (play->ended) {
		hbm_pool_close(rig.pool);
		rig.pool = NULL;
	}
	pool_rig_close(&rig);
}
