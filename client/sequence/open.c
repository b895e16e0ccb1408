/* SPDX-License-Identifier: Apache-2.0 */
/* open: sequences with memory promised for what is expected of them, all or none. */
#include "client/sequence/copies.h"
#include "client/sequence/credit.h"
#include "client/sequence/event.h"
#include "client/sequence/pool.h"
#include "client/sequence/sequence.h"
#include "client/sequence/slot.h"

static int open_check_one(struct hbm_pool *pool, const struct hbm_sequence_options *options)
{
	if (options->max > pool->max_tokens)
		return hbm_pool_fail(
			pool, HBM_INVALID, "a sequence of at most %llu tokens: the layout has %llu",
			(unsigned long long)options->max, (unsigned long long)pool->max_tokens);
	if (options->max && options->expected > options->max)
		return hbm_pool_fail(pool, HBM_INVALID, "%llu tokens are expected and %llu allowed",
				     (unsigned long long)options->expected,
				     (unsigned long long)options->max);

	return 0;
}

/* What a slot should have mapped for it; unknown: as much as there is. */
static uint64_t open_expected_slabs(const struct hbm_pool *pool,
				    const struct hbm_sequence_options *options)
{
	struct hbm_layout_use use;

	if (!options->expected || hbm_layout_use(pool->layout, options->expected, &use) != 0)
		return UINT64_MAX;

	return use.slabs;
}

static int open_check(struct hbm_pool *pool, const struct hbm_sequence_options *options,
		      size_t count)
{
	for (size_t i = 0; i < count; i++) {
		int r = open_check_one(pool, &options[i]);

		if (r)
			return r;
	}
	if (count > pool->max_sequences - pool->open_count)
		return hbm_pool_fail(pool, HBM_LIMIT,
				     "%zu sequences: the pool has %u, and %u are open", count,
				     pool->max_sequences, pool->open_count);

	/* Some may be on their way to what is free. */
	return hbm_copies_settle(pool) ? 0 : hbm_copies_fail(pool);
}

/* They have their slots while the memory is waited for, so that no other call takes these. */
static int open_all(struct hbm_pool *pool, const struct hbm_sequence_options *options, size_t count,
		    uint32_t timeout_ms, struct hbm_sequence **out)
{
	for (size_t i = 0; i < count; i++) {
		struct slot *slot = hbm_slot_take(pool, open_expected_slabs(pool, &options[i]));

		out[i] = hbm_sequence_start(pool, slot, &options[i]);
		out[i]->is_opening = true;
		if (options[i].expected)
			out[i]->account.promised =
				hbm_credit_bytes(pool, pool->layout, 0, options[i].expected);
	}

	int r = hbm_credit_open(pool, out, count, timeout_ms);

	for (size_t i = 0; i < count; i++) {
		if (r == 0) {
			hbm_event_opened(out[i]);
			continue;
		}
		hbm_sequence_end(pool, out[i]);
		out[i] = NULL;
	}

	return r;
}

int hbm_sequences_open(struct hbm_pool *pool, const struct hbm_sequence_options *options,
		       size_t count, uint32_t timeout_ms, struct hbm_sequence **out)
{
	hbm_pool_lock(pool);
	int r = open_check(pool, options, count);
	if (r == 0)
		r = open_all(pool, options, count, timeout_ms, out);
	hbm_pool_unlock(pool);

	return r;
}

int hbm_sequence_open(struct hbm_pool *pool, const struct hbm_sequence_options *options,
		      struct hbm_sequence **out)
{
	static const struct hbm_sequence_options defaults;
	struct hbm_sequence *opened;
	int r = hbm_sequences_open(pool, options ? options : &defaults, 1, 0, &opened);

	if (r == 0)
		*out = opened;

	return r;
}
