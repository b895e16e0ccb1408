/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fork: sequences that begin with the tokens of another. What it takes does not depend on how
 * many these are: the slabs that hold its last tokens are copied, as both go on writing
 * there; all slabs in front of them are shared, and mapped later (prefix.h).
 */
#include "client/layout.h"
#include "client/sequence/ahead.h"
#include "client/sequence/backing.h"
#include "client/sequence/copies.h"
#include "client/sequence/credit.h"
#include "client/sequence/growth.h"
#include "client/sequence/mark.h"
#include "client/sequence/pool.h"
#include "client/sequence/prefix.h"
#include "client/sequence/sequence.h"
#include "client/sequence/slot.h"
#include "client/sequence/tail.h"

#include <errno.h>

struct fork {
	struct hbm_sequence *parent;
	struct hbm_sequence **out;
	size_t count; /* of them that have been started */
};

static void fork_start(struct fork *fork)
{
	const struct hbm_sequence *parent = fork->parent;
	struct hbm_pool *pool = parent->pool;
	const struct hbm_sequence_options options = {
		.expected = parent->expected,
		.max = parent->max,
		.priority = parent->priority,
		.next_use = parent->next_use,
	};
	struct hbm_sequence *child = hbm_sequence_start(pool, hbm_slot_take_empty(pool), &options);

	child->layout = hbm_layout_ref(parent->layout);
	child->overrun = parent->overrun;
	child->target = parent->tokens;
	fork->out[fork->count++] = child;
}

static void fork_undo(struct fork *fork)
{
	while (fork->count > 0)
		hbm_sequence_end(fork->parent->pool, fork->out[--fork->count]);
}

/* Memory for the last slabs of all of them. */
static int fork_grow(struct fork *fork)
{
	struct hbm_pool *pool = fork->parent->pool;

	hbm_ranges_begin(&pool->grow);
	for (size_t i = 0; i < fork->count; i++)
		hbm_tail_gather(fork->parent, fork->out[i]->slot);
	if (pool->grow.failed)
		return hbm_pool_fail(pool, -ENOMEM, "cannot allocate the ranges of a fork");

	int r = hbm_growth_map(pool);

	return r ? hbm_pool_fail_call(pool, r, "memory for the last tokens of a fork") : 0;
}

static int fork_copy(struct fork *fork)
{
	struct hbm_pool *pool = fork->parent->pool;

	for (size_t i = 0; i < fork->count; i++)
		if (!hbm_tail_copy(fork->parent, pool->region->address +
							 hbm_slot_offset(pool, fork->out[i]->slot)))
			return hbm_copies_fail(pool);

	return hbm_copies_finish(pool) ? 0 : hbm_copies_fail(pool);
}

/* Gives back what was committed for the copies. */
static void fork_shrink(struct fork *fork)
{
	struct hbm_pool *pool = fork->parent->pool;

	(void)hbm_copies_wait(pool);
	hbm_ranges_begin(&pool->shrink);
	for (size_t i = 0; i < pool->grow.count; i++)
		hbm_ranges_add(&pool->shrink, pool->region, pool->grow.list[i].offset,
			       pool->grow.list[i].bytes);
	hbm_backing_decommit(pool);
	hbm_credit_settle(pool, NULL, 0);
}

static void fork_finish(struct fork *fork)
{
	struct hbm_sequence *parent = fork->parent;
	struct hbm_sequence *source = parent->source ? parent->source : parent;

	for (size_t i = 0; i < fork->count; i++) {
		struct hbm_sequence *child = fork->out[i];

		child->first = parent->first;
		child->tokens = (uint64_t)parent->tokens;
		child->before[0] = (uint64_t)parent->before[0];
		child->before[1] = (uint64_t)parent->before[1];
		child->slid = parent->slid;
		hbm_prefix_record(child, source);
		hbm_mark_set(parent->pool, child->index);
	}
	hbm_ahead_wake(parent->pool);
}

static int fork_check(struct hbm_sequence *parent, size_t count)
{
	struct hbm_pool *pool = parent->pool;
	const uint32_t free = pool->max_sequences - pool->open_count;
	int r = hbm_sequence_check(pool, parent);

	if (r)
		return r;
	if (count > free)
		return hbm_pool_fail(pool, HBM_LIMIT,
				     "%zu forks: the pool has %u sequences, and %u are open", count,
				     pool->max_sequences, pool->open_count);

	/* Some may be on their way to what is free. */
	return hbm_copies_settle(pool) ? 0 : hbm_copies_fail(pool);
}

static int fork_all(struct hbm_sequence *parent, size_t count, struct hbm_sequence **out)
{
	struct fork fork = {.parent = parent, .out = out};
	int r = fork_check(parent, count);

	if (r)
		return r;

	while (fork.count < count)
		fork_start(&fork);
	r = fork_grow(&fork);
	if (r == 0 && (r = fork_copy(&fork)) != 0)
		fork_shrink(&fork);
	if (r == 0)
		fork_finish(&fork);
	else
		fork_undo(&fork);

	return r;
}

int hbm_sequence_fork(struct hbm_sequence *sequence, size_t count, struct hbm_sequence **out)
{
	if (!sequence)
		return HBM_INVALID;

	hbm_pool_lock(sequence->pool);
	int r = fork_all(sequence, count, out);
	hbm_pool_unlock(sequence->pool);

	return r;
}
