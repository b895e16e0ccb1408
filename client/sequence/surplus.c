/* SPDX-License-Identifier: Apache-2.0 */
/* surplus: see surplus.h. */
#include "client/sequence/surplus.h"

#include "client/sequence/backing.h"
#include "client/sequence/copies.h"
#include "client/sequence/gate.h"
#include "client/sequence/pool.h"
#include "client/sequence/sequence.h"
#include "client/sequence/slot.h"
#include "client/sequence/tree.h"

/* Tokens whose slabs a sequence keeps. */
static uint64_t surplus_kept(const struct hbm_sequence *sequence)
{
	const uint64_t tokens = sequence->tokens, left = sequence->max - tokens;
	const uint64_t ahead = sequence->pool->ahead_tokens;
	const uint64_t drafts = hbm_tree_count(sequence->tree);
	const uint64_t more = ahead > drafts ? ahead : drafts;
	const uint64_t kept = tokens + (more < left ? more : left);

	return kept > sequence->target ? kept : sequence->target;
}

/* One that has credit keeps what others have, too: to give it up frees nothing, and what it would
 * need to get as far again is not reserved. */
static bool surplus_is_there(struct hbm_sequence *sequence)
{
	struct hbm_pool *pool = sequence->pool;
	const struct hbm_layout *layout = hbm_sequence_layout(sequence);
	const uint64_t kept = surplus_kept(sequence);
	struct ranges *ranges = &pool->shrink;

	hbm_ranges_begin(ranges);
	if (sequence->account.credit > 0)
		hbm_slot_owned_beyond(pool, layout, sequence->slot, kept, ranges);
	else
		hbm_slot_beyond(pool, layout, sequence->slot, kept, ranges);

	return ranges->count > 0;
}

/* Its steps wait for the lock from now on, so its tokens stay what they are. */
static void surplus_stop(struct hbm_sequence *sequence)
{
	sequence->limit = sequence->calm = 0;
	hbm_gate_close(sequence->pool);
}

static uint64_t surplus_take(struct hbm_sequence *sequence)
{
	const uint64_t before = sequence->slot->slabs, target = sequence->target;

	surplus_stop(sequence);
	/* Drafts that were accepted may still be on their way from there. */
	if (surplus_is_there(sequence) && hbm_copies_wait(sequence->pool))
		hbm_backing_decommit(sequence->pool);
	hbm_sequence_refresh(sequence);
	sequence->target = target;

	return before - sequence->slot->slabs;
}

uint64_t hbm_surplus_release(struct hbm_pool *pool)
{
	uint64_t slabs = 0;

	list_for_each (node, &pool->open) {
		struct hbm_sequence *sequence = container_of(node, struct hbm_sequence, link);

		if (surplus_is_there(sequence))
			slabs += surplus_take(sequence);
	}

	return slabs;
}
