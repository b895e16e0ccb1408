/* SPDX-License-Identifier: Apache-2.0 */
/* compaction: see compaction.h. */
#include "client/sequence/compaction.h"

#include "client/sequence/copies.h"
#include "client/sequence/pool.h"

/* A copy must not overlap itself: parts are as long as the way they go. */
static bool compaction_queue_one(struct hbm_pool *pool, const struct move *move, bool *moved)
{
	const uint64_t way = move->source - move->target;

	for (uint64_t at = 0; at < move->bytes; at += way) {
		const uint64_t left = move->bytes - at, part = left < way ? left : way;

		if (!hbm_copies_queue(pool, move->target + at, move->source + at, part) &&
		    !hbm_copies_queue(pool, move->target + at, move->source + at, part))
			return false;
		*moved = true;
	}

	return true;
}

bool hbm_compaction_queue(struct hbm_pool *pool, bool *moved)
{
	const struct moves *moves = &pool->moves;

	*moved = false;
	for (size_t i = 0; i < moves->count; i++)
		if (!compaction_queue_one(pool, &moves->list[i], moved))
			return false;

	return true;
}
