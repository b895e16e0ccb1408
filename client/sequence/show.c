/* SPDX-License-Identifier: Apache-2.0 */
/* show: see show.h. */
#include "client/sequence/show.h"

#include <string.h>
#include <time.h>

/* Release: who sees what is written for the next sequence sees the number 0 before it. */
#define SHOW(record, member, value) __atomic_store_n(&(record)->member, (value), __ATOMIC_RELEASE)

int hbm_show_open(struct hbm_pool *pool)
{
	int r = hbm_board_open(pool->hbm, &pool->board, pool->max_sequences);

	return r > 0 ? 0 : r;
}

void hbm_show_close(struct hbm_pool *pool)
{
	hbm_board_close(pool->hbm, &pool->board);
}

/* ---- Events ---- */

static uint64_t show_time(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);

	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

void hbm_show_event(const struct hbm_pool *pool, uint32_t index, enum hbm_sequence_event event)
{
	const struct board *board = &pool->board;

	if (!board->events)
		return;

	const struct hbm_wire_board_record *record = &board->records[index];
	const uint64_t number = board->head->events;
	struct hbm_wire_board_event *to = &board->events[number % HBM_WIRE_BOARD_EVENTS];

	SHOW(to, time_ns, show_time());
	SHOW(to, sequence, record->number);
	SHOW(to, tokens, record->tokens);
	SHOW(to, bytes, record->suspended);
	SHOW(to, event, (uint32_t)event);

	/* Release: who sees the number sees the event. */
	__atomic_store_n(&board->head->events, number + 1, __ATOMIC_RELEASE);
}

/* In place of a state before it. 0: nothing that has a name. */
static enum hbm_sequence_event show_turn(uint32_t before, enum hbm_sequence_state state)
{
	static const enum hbm_sequence_event turns[HBM_SEQUENCE_STATES] = {
		[HBM_SEQUENCE_OPEN] = HBM_SEQUENCE_NOW_RESUMED,
		[HBM_SEQUENCE_SUSPENDING] = HBM_SEQUENCE_NOW_SUSPENDING,
		[HBM_SEQUENCE_SUSPENDED] = HBM_SEQUENCE_NOW_SUSPENDED,
		[HBM_SEQUENCE_RESUMING] = HBM_SEQUENCE_NOW_RESUMING,
	};

	if (before == HBM_SEQUENCE_SUSPENDING && state == HBM_SEQUENCE_OPEN)
		return HBM_SEQUENCE_NOT_SUSPENDED;
	if (before == HBM_SEQUENCE_RESUMING && state == HBM_SEQUENCE_SUSPENDED)
		return HBM_SEQUENCE_NOT_RESUMED;

	return turns[state];
}

/* ---- Sequences ---- */

/* NULL: empty. Word by word, as another process may read it. */
static void show_name(struct hbm_wire_board_record *record, const char *name)
{
	uint64_t words[sizeof(record->name) / sizeof(uint64_t)] = {0};
	uint64_t *to = (uint64_t *)(void *)record->name;

	if (name)
		memcpy(words, name, strnlen(name, sizeof(record->name) - 1));
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		__atomic_store_n(&to[i], words[i], __ATOMIC_RELEASE);
}

void hbm_show_begin(const struct hbm_pool *pool, uint32_t index, const struct shown *shown)
{
	if (!pool->board.records)
		return;

	struct hbm_wire_board_record *record = &pool->board.records[index];

	SHOW(record, state, (uint32_t)HBM_SEQUENCE_OPEN);
	SHOW(record, device, pool->region->device);
	SHOW(record, expected, shown->expected);
	SHOW(record, max, shown->max);
	SHOW(record, suspended, UINT64_C(0));
	SHOW(record, next_use, shown->next_use);
	SHOW(record, priority, shown->priority);
	show_name(record, shown->name);

	/* Release: who sees the number sees all of that. */
	__atomic_store_n(&record->number, shown->number, __ATOMIC_RELEASE);
	hbm_show_event(pool, index, HBM_SEQUENCE_NOW_OPEN);
}

void hbm_show_end(const struct hbm_pool *pool, uint32_t index)
{
	if (!pool->board.records)
		return;

	hbm_show_event(pool, index, HBM_SEQUENCE_NOW_CLOSED);
	SHOW(&pool->board.records[index], number, UINT64_C(0));
}

void hbm_show_priority(const struct hbm_pool *pool, uint32_t index, int32_t priority,
		       uint64_t next_use)
{
	if (!pool->board.records)
		return;

	SHOW(&pool->board.records[index], priority, priority);
	SHOW(&pool->board.records[index], next_use, next_use);
}

void hbm_show_bytes(const struct hbm_pool *pool, uint32_t index, uint64_t own, uint64_t shared)
{
	if (!pool->board.records)
		return;

	SHOW(&pool->board.records[index], own, own);
	SHOW(&pool->board.records[index], shared, shared);
}

void hbm_show_state(const struct hbm_pool *pool, uint32_t index, enum hbm_sequence_state state,
		    uint64_t suspended)
{
	if (!pool->board.records)
		return;

	struct hbm_wire_board_record *record = &pool->board.records[index];
	const uint32_t before = record->state;

	SHOW(record, suspended, suspended);
	SHOW(record, state, (uint32_t)state);
	if (before != (uint32_t)state)
		hbm_show_event(pool, index, show_turn(before, state));
}
