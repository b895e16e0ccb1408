/* SPDX-License-Identifier: Apache-2.0 */
/*
 * prefetch: moves what suspended sequences have in the stash to another tier, by a deadline. Of
 * several, those of the highest priority move first, as the tier may not take all. What several of
 * them have is moved for the first of them: its other moves are none.
 */
#include "client/sequence/pool.h"
#include "client/sequence/sequence.h"

#include <errno.h>
#include <stdlib.h>

#define PREFETCH_KEYS 512u /* of a request */

static int prefetch_check(struct hbm_pool *pool, struct hbm_sequence *const *sequences,
			  size_t count, enum hbm_tier tier)
{
	if (tier != HBM_TIER_DDR && tier != HBM_TIER_NVME)
		return hbm_pool_fail(pool, HBM_INVALID,
				     "what is suspended moves to DDR or NVMe, not to tier %d",
				     (int)tier);

	for (size_t i = 0; i < count; i++) {
		int r = hbm_sequence_check_open(pool, sequences[i]);

		if (r == 0 && sequences[i]->state != HBM_SEQUENCE_SUSPENDED)
			r = hbm_pool_fail(pool, HBM_INVALID, "a sequence that is not suspended");
		if (r)
			return r;
	}

	return 0;
}

/* The first that was not moved. */
static int prefetch_status(const hbm_result *results, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (results[i].status != HBM_OK)
			return results[i].status;

	return 0;
}

static int prefetch_part(struct hbm_pool *pool, const struct stash *stash, size_t first,
			 enum hbm_tier tier, uint64_t deadline_us)
{
	hbm_key keys[PREFETCH_KEYS];
	hbm_result results[PREFETCH_KEYS];
	size_t count = 0;

	for (; count < PREFETCH_KEYS && first + count < stash->count; count++)
		keys[count] = stash->list[first + count].block->key;

	int r = hbm_move_by(pool->hbm, pool->stashes.ns, tier, 0, deadline_us, keys, count,
			    results);
	if (r)
		return hbm_pool_fail_call(pool, r, "what is suspended");

	r = prefetch_status(results, count);

	return r ? hbm_pool_fail(pool, r, "what is suspended was not moved: %s", hbm_strerror(r))
		 : 0;
}

static int prefetch_one(struct hbm_sequence *sequence, enum hbm_tier tier, uint64_t deadline_us)
{
	struct stash *stash = &sequence->stash;
	int r = 0;

	for (size_t i = 0; r == 0 && i < stash->count; i += PREFETCH_KEYS)
		r = prefetch_part(sequence->pool, stash, i, tier, deadline_us);
	if (r == 0)
		stash->tier = tier;

	return r;
}

struct turn {
	struct hbm_sequence *sequence;
	size_t index; /* as it was given */
};

/* The highest priority first, of these the nearest use; of equals, as they were given. */
static int prefetch_by_rank(const void *a, const void *b)
{
	const struct turn *x = a, *y = b;
	const struct hbm_sequence *p = x->sequence, *q = y->sequence;

	if (p->priority != q->priority)
		return p->priority > q->priority ? -1 : 1;
	if (p->next_use != q->next_use)
		return p->next_use < q->next_use ? -1 : 1;

	return x->index < y->index ? -1 : x->index > y->index;
}

static int prefetch_all(struct hbm_pool *pool, struct hbm_sequence *const *sequences, size_t count,
			enum hbm_tier tier, uint64_t deadline_us)
{
	struct turn *turns = calloc(count ? count : 1, sizeof(*turns));
	int r = 0;

	if (!turns)
		return hbm_pool_fail(pool, -ENOMEM, "cannot allocate the order of a prefetch");

	for (size_t i = 0; i < count; i++)
		turns[i] = (struct turn){sequences[i], i};
	qsort(turns, count, sizeof(*turns), prefetch_by_rank);
	for (size_t i = 0; r == 0 && i < count; i++)
		r = prefetch_one(turns[i].sequence, tier, deadline_us);
	free(turns);

	return r;
}

int hbm_sequences_prefetch(struct hbm_pool *pool, struct hbm_sequence *const *sequences,
			   size_t count, enum hbm_tier tier, uint64_t deadline_us)
{
	hbm_pool_lock(pool);
	int r = prefetch_check(pool, sequences, count, tier);
	if (r == 0)
		r = prefetch_all(pool, sequences, count, tier, deadline_us);
	hbm_pool_unlock(pool);

	return r;
}
