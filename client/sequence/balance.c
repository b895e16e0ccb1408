/* SPDX-License-Identifier: Apache-2.0 */
/*
 * balance: suspends sequences before memory is needed. Only those that their user has said are
 * idle: nothing on the device uses them. The lowest priority goes first, of these the one
 * that is used last, of these the one in the highest slot.
 */
#include "client/sequence/pool.h"
#include "client/sequence/sequence.h"
#include "client/sequence/slot.h"
#include "client/sequence/warm.h"

int hbm_sequence_idle(struct hbm_sequence *sequence, bool idle, uint64_t next_use)
{
	if (!sequence)
		return HBM_INVALID;

	struct hbm_pool *pool = sequence->pool;

	hbm_pool_lock(pool);
	int r = hbm_sequence_check_open(pool, sequence);
	if (r == 0) {
		sequence->is_idle = idle;
		sequence->next_use = next_use;
	}
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

/* What only it has. */
static uint64_t balance_bytes(const struct hbm_sequence *sequence)
{
	const struct hbm_pool *pool = sequence->pool;
	uint64_t bytes = 0;

	for (uint64_t at = 0; at < pool->slot_bytes; at += pool->slab)
		if (hbm_slot_owns(pool, sequence->slot, at))
			bytes += pool->slab;

	return bytes;
}

/* The next to go; NULL: there is none. */
static struct hbm_sequence *balance_choose(struct hbm_pool *pool, uint64_t *bytes)
{
	struct hbm_sequence *best = NULL;

	hbm_pool_lock(pool);
	list_for_each (node, &pool->open) {
		struct hbm_sequence *one = container_of(node, struct hbm_sequence, link);

		if (one->is_idle && !one->lost && one->state == HBM_SEQUENCE_OPEN &&
		    one->slot->slabs > 0 && balance_is_before(one, best))
			best = one;
	}
	if (best)
		*bytes = balance_bytes(best);
	hbm_pool_unlock(pool);

	return best;
}

/* How much too little is free, or on its way back. */
static int balance_shortage(struct hbm_pool *pool, uint64_t bytes, uint64_t *shortage)
{
	struct hbm_device_memory memory;
	int r = hbm_device_memory(pool->hbm, hbm_region_device(pool->region), &memory);

	if (r)
		return hbm_pool_fail_call(pool, r, "how much device memory is free");

	const uint64_t free = memory.available + memory.returning;

	*shortage = free < bytes ? bytes - free : 0;
	if (*shortage > 0) {
		const uint64_t slabs =
			hbm_warm_release(pool, (*shortage + pool->slab - 1) / pool->slab);
		const uint64_t released = slabs * pool->slab;

		*shortage -= released < *shortage ? released : *shortage;
	}

	return 0;
}

int hbm_pool_balance(struct hbm_pool *pool, uint64_t free_bytes, enum hbm_tier tier, size_t *count)
{
	uint64_t shortage = 0, bytes = 0;
	struct hbm_sequence *sequence;

	hbm_pool_lock(pool);
	int r = balance_shortage(pool, free_bytes, &shortage);
	hbm_pool_unlock(pool);

	*count = 0;
	while (r == 0 && shortage > 0 && (sequence = balance_choose(pool, &bytes)) != NULL) {
		r = hbm_sequences_suspend(pool, &sequence, 1, tier);
		shortage -= bytes < shortage ? bytes : shortage;
		*count += r == 0;
	}

	return r;
}
