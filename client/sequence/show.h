/* SPDX-License-Identifier: Apache-2.0 */
/*
 * show: what a pool says of its sequences on its board (hbmctl sequences). The record of a
 * sequence has the index of its handle. Every member is written with one store, where it
 * changes; a step writes the tokens, and makes no call for it.
 *
 * A pool whose daemon has no room for a board works as any other, and is not shown.
 */
#pragma once

#include "client/sequence/pool.h"

/* What a sequence is opened with. */
struct shown {
	uint64_t number, expected, max, next_use;
	int32_t priority;
	const char *name; /* NULL: none */
};

/* Opens the board, whose heard() is set. 0, also if the daemon refuses; or negative errno. */
int hbm_show_open(struct hbm_pool *pool);
void hbm_show_close(struct hbm_pool *pool);
/* What has happened to a sequence, beside what the calls below show. */
void hbm_show_event(const struct hbm_pool *pool, uint32_t record, enum hbm_sequence_event event);
/* A sequence is opened: its tokens and bytes are shown already; or closed. */
void hbm_show_begin(const struct hbm_pool *pool, uint32_t record, const struct shown *shown);
void hbm_show_end(const struct hbm_pool *pool, uint32_t record);
/* How much it matters, and when it is used next. */
void hbm_show_priority(const struct hbm_pool *pool, uint32_t record, int32_t priority,
		       uint64_t next_use);
/* Device memory that it has alone, and that others have, too. */
void hbm_show_bytes(const struct hbm_pool *pool, uint32_t record, uint64_t own, uint64_t shared);
/* How far it is with being suspended, and how many bytes it has in other tiers. */
void hbm_show_state(const struct hbm_pool *pool, uint32_t record, enum hbm_sequence_state state,
		    uint64_t suspended);

static inline void hbm_show_tokens(const struct hbm_pool *pool, size_t record, uint64_t tokens)
{
	if (pool->board.records)
		__atomic_store_n(&pool->board.records[record].tokens, tokens, __ATOMIC_RELAXED);
}
