/* SPDX-License-Identifier: Apache-2.0 */
/* window: see window.h. */
#include "client/sequence/window.h"

#include "client/sequence/backing.h"
#include "client/sequence/credit.h"
#include "client/sequence/pool.h"
#include "client/sequence/prefix.h"
#include "client/sequence/sequence.h"
#include "client/sequence/slot.h"

static uint64_t window_front(const struct hbm_sequence *sequence, uint32_t index, uint32_t window,
			     uint64_t tokens)
{
	return hbm_sequence_begin(sequence, index, tokens > window ? tokens - window : 0);
}

/* Gathers what windows at `tokens` leave behind, and did not at sequence->slid. */
static void window_gather(struct hbm_sequence *sequence, uint64_t tokens)
{
	struct hbm_pool *pool = sequence->pool;

	hbm_ranges_begin(&pool->shrink);
	for (uint32_t i = 0; i < pool->buffer_count; i++) {
		struct hbm_buffer buffer;

		hbm_layout_buffer(hbm_sequence_layout(sequence), i, &buffer);
		if (buffer.window == 0 || buffer.token_bytes == 0)
			continue;

		const uint64_t from = window_front(sequence, i, buffer.window, sequence->slid);
		const uint64_t to = window_front(sequence, i, buffer.window, tokens);

		hbm_slot_runs(pool, sequence->slot, from, to - from, true, &pool->shrink);
	}
}

int hbm_window_slide(struct hbm_sequence *sequence)
{
	struct hbm_pool *pool = sequence->pool;
	const uint64_t tokens = sequence->before[1];

	if (!pool->has_windows || tokens <= sequence->slid)
		return 0;

	window_gather(sequence, tokens);
	if (pool->shrink.count == 0 || pool->shrink.failed)
		return 0;

	int r = hbm_prefix_map_forks(sequence);
	if (r)
		return r;

	/* The forks have used the ranges. What stays mapped does no harm. */
	window_gather(sequence, tokens);
	sequence->slid = tokens;
	r = hbm_backing_decommit(pool);
	if (r >= 0)
		r = hbm_credit_mend(pool, &sequence, 1);

	return r < 0 ? hbm_pool_fail_call(pool, r, "slabs in front of a window") : 0;
}
