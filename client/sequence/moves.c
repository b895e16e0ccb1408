/* SPDX-License-Identifier: Apache-2.0 */
/* moves: see moves.h. */
#include "client/sequence/moves.h"

#include <assert.h>
#include <stdlib.h>

void hbm_moves_begin(struct moves *moves)
{
	moves->count = 0;
}

bool hbm_moves_prepare(struct moves *moves, size_t count)
{
	if (count <= moves->room)
		return true;

	struct move *list = realloc(moves->list, count * sizeof(*list));
	if (!list)
		return false;

	moves->list = list;
	moves->room = count;

	return true;
}

void hbm_moves_add(struct moves *moves, uint64_t target, uint64_t source, uint64_t bytes)
{
	struct move *last = moves->count ? &moves->list[moves->count - 1] : NULL;

	assert(target <= source);
	if (target == source || bytes == 0)
		return;

	if (last && last->target + last->bytes == target && last->source + last->bytes == source) {
		last->bytes += bytes;
		return;
	}
	assert(moves->count < moves->room);
	moves->list[moves->count++] = (struct move){target, source, bytes};
}

void hbm_moves_clear(struct moves *moves)
{
	free(moves->list);
	*moves = (struct moves){0};
}
