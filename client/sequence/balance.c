/* SPDX-License-Identifier: Apache-2.0 */
/* balance: see balance.h. */
#include "client/sequence/balance.h"

#include "client/sequence/passage.h"
#include "client/sequence/pool.h"
#include "client/sequence/sequence.h"
#include "client/sequence/show.h"
#include "client/sequence/slot.h"
#include "client/sequence/switch.h"
#include "client/sequence/warm.h"

static void balance_rank(struct hbm_sequence *sequence, int32_t priority, uint64_t next_use)
{
	sequence->priority = priority;
	sequence->next_use = next_use;
	hbm_show_priority(sequence->pool, sequence->index, priority, next_use);
}

int hbm_sequence_idle(struct hbm_sequence *sequence, bool idle, uint64_t next_use)
{
	if (!sequence)
		return HBM_INVALID;

	struct hbm_pool *pool = sequence->pool;

	hbm_pool_lock(pool);
	int r = hbm_sequence_check_open(pool, sequence);
	if (r == 0) {
		sequence->is_idle = idle;
		balance_rank(sequence, sequence->priority, next_use);
		if (!idle)
			hbm_passage_call_back(pool, sequence);
	}
	hbm_pool_unlock(pool);

	return r;
}

int hbm_sequence_set_priority(struct hbm_sequence *sequence, int32_t priority, uint64_t next_use)
{
	if (!sequence)
		return HBM_INVALID;

	struct hbm_pool *pool = sequence->pool;

	hbm_pool_lock(pool);
	int r = hbm_sequence_check_open(pool, sequence);
	if (r == 0)
		balance_rank(sequence, priority, next_use);
	hbm_pool_unlock(pool);

	return r;
}

/* Whether `one` goes before `other`. */
static bool balance_is_before(const struct hbm_sequence *one, const struct hbm_sequence *other)
{
	if (!other)
		return true;
	if (one->priority != other->priority)
		return one->priority < other->priority;
	if (one->next_use != other->next_use)
		return one->next_use > other->next_use;

	return one->slot > other->slot;
}

/* The next to go; NULL: there is none. */
static struct hbm_sequence *balance_choose(struct hbm_pool *pool)
{
	struct hbm_sequence *best = NULL;

	list_for_each (node, &pool->open) {
		struct hbm_sequence *one = container_of(node, struct hbm_sequence, link);

		if (one->is_idle && !one->lost && one->state == HBM_SEQUENCE_OPEN &&
		    one->slot->slabs > 0 && balance_is_before(one, best))
			best = one;
	}

	return best;
}

int hbm_balance_begin(struct hbm_pool *pool, enum hbm_tier tier, struct hbm_switch **change,
		      uint64_t *bytes)
{
	struct hbm_sequence *sequence = balance_choose(pool);
	const struct hbm_switch_options options = {.out = &sequence, .out_count = 1, .tier = tier};

	*change = NULL;
	if (!sequence)
		return 0;
	*bytes = hbm_slot_owned_bytes(pool, sequence->slot);

	int r = hbm_switch_begin(pool, &options, change);
	if (r == 0)
		(*change)->may_be_called_back = true;

	return r;
}

int hbm_balance_free(struct hbm_pool *pool, uint64_t bytes, uint64_t *shortage)
{
	struct hbm_device_memory memory;
	int r = hbm_device_memory(pool->hbm, hbm_region_device(pool->region), &memory);

	if (r)
		return hbm_pool_fail_call(pool, r, "how much device memory is free");

	const uint64_t free = memory.available + memory.returning;

	*shortage = free < bytes ? bytes - free : 0;

	return 0;
}

int hbm_balance_shortage(struct hbm_pool *pool, uint64_t bytes, uint64_t *shortage)
{
	int r = hbm_balance_free(pool, bytes, shortage);

	if (r == 0 && *shortage > 0) {
		const uint64_t slabs =
			hbm_warm_release(pool, (*shortage + pool->slab - 1) / pool->slab);
		const uint64_t released = slabs * pool->slab;

		*shortage -= released < *shortage ? released : *shortage;
	}

	return r;
}

/* Suspends the next to go, and waits. `more`: there was one. `done`: it is suspended, and was not
 * called back; it may have freed 0 bytes, if others have all its slabs. */
static int balance_one(struct hbm_pool *pool, enum hbm_tier tier, bool *more, bool *done,
		       uint64_t *bytes)
{
	struct hbm_switch *change;

	hbm_pool_lock(pool);
	int r = hbm_balance_begin(pool, tier, &change, bytes);
	hbm_pool_unlock(pool);

	*more = change;
	if (change)
		r = hbm_switch_wait(change, -1);
	*done = change && r == 0;

	return r == HBM_CANCELLED ? 0 : r;
}

int hbm_pool_balance(struct hbm_pool *pool, uint64_t free_bytes, enum hbm_tier tier, size_t *count)
{
	uint64_t shortage = 0, bytes = 0;
	bool more = true, done;

	hbm_pool_lock(pool);
	int r = hbm_balance_shortage(pool, free_bytes, &shortage);
	hbm_pool_unlock(pool);

	*count = 0;
	while (r == 0 && shortage > 0) {
		r = balance_one(pool, tier, &more, &done, &bytes);
		if (!more)
			break;
		if (!done)
			continue;
		shortage -= bytes < shortage ? bytes : shortage;
		++*count;
	}

	return r;
}
