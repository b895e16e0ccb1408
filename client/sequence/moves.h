/* SPDX-License-Identifier: Apache-2.0 */
/*
 * moves: ranges of device memory that go to lower addresses, one after the other. A range may
 * overlap its target, and targets may overlap the ranges of moves before them: each is read
 * before it is overwritten, as long as the moves are made in order.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct move {
	uint64_t target, source, bytes; /* target <= source */
};

struct moves {
	struct move *list;
	size_t count, room;
};

/* Makes room for so many. False: no memory. */
bool hbm_moves_prepare(struct moves *moves, size_t count);
void hbm_moves_begin(struct moves *moves);
/* Adds a move; joins it to the last one where both ranges go on. Nothing, where it is in its
 * place already. There is room for it. */
void hbm_moves_add(struct moves *moves, uint64_t target, uint64_t source, uint64_t bytes);
void hbm_moves_clear(struct moves *moves);
