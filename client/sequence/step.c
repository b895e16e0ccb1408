/* SPDX-License-Identifier: Apache-2.0 */
/*
 * step: the lengths of a batch, once an iteration. Where everything is mapped it reads one
 * cache line a sequence, writes the tokens there and on the board, and takes no lock. The look
 * goes first and changes nothing; the lengths are written when all of them are good.
 */
#include "client/sequence/ahead.h"
#include "client/sequence/event.h"
#include "client/sequence/gate.h"
#include "client/sequence/growth.h"
#include "client/sequence/mark.h"
#include "client/sequence/own.h"
#include "client/sequence/pool.h"
#include "client/sequence/prefix.h"
#include "client/sequence/sequence.h"
#include "client/sequence/show.h"
#include "client/sequence/slot.h"
#include "client/sequence/tree.h"
#include "client/sequence/window.h"

#include <errno.h>

struct batch {
	struct hbm_pool *pool;
	struct hbm_sequence *const *sequences;
	const uint64_t *lengths;
	size_t count;
	uint64_t step; /* its number: a sequence that has it already is named twice */
};

static uint64_t batch_load(const _Atomic uint64_t *value)
{
	return atomic_load_explicit(value, memory_order_relaxed);
}

static void batch_number(struct batch *batch)
{
	batch->step = atomic_fetch_add_explicit(&batch->pool->steps, 1, memory_order_relaxed) + 1;
}

/* Whether all lengths are good and mapped. */
static bool batch_is_ready(const struct batch *batch)
{
	for (size_t i = 0; i < batch->count; i++) {
		struct hbm_sequence *sequence = batch->sequences[i];
		const uint64_t length = batch->lengths[i];

		if (!sequence || sequence->pool != batch->pool ||
		    length > atomic_load(&sequence->limit) ||
		    length < batch_load(&sequence->tokens) ||
		    batch_load(&sequence->step) == batch->step)
			return false;
		atomic_store_explicit(&sequence->step, batch->step, memory_order_relaxed);
	}

	return true;
}

/* For windows: how many tokens there were before this step, and before the last. */
static void batch_shift(struct hbm_sequence *sequence)
{
	atomic_store_explicit(&sequence->before[1], batch_load(&sequence->before[0]),
			      memory_order_relaxed);
	atomic_store_explicit(&sequence->before[0], batch_load(&sequence->tokens),
			      memory_order_relaxed);
}

static void batch_write(const struct batch *batch)
{
	for (size_t i = 0; i < batch->count; i++) {
		struct hbm_sequence *sequence = batch->sequences[i];

		if (batch->pool->has_windows)
			batch_shift(sequence);
		atomic_store_explicit(&sequence->tokens, batch->lengths[i], memory_order_relaxed);
		hbm_show_tokens(batch->pool, (size_t)(sequence - batch->pool->sequences),
				batch->lengths[i]);
	}
}

static void batch_mark(const struct batch *batch)
{
	bool due = false;

	for (size_t i = 0; i < batch->count; i++)
		if (batch->lengths[i] > batch_load(&batch->sequences[i]->calm)) {
			hbm_mark_set(batch->pool, batch->sequences[i]->index);
			due = true;
		}

	if (due)
		hbm_ahead_wake(batch->pool);
}

/* ---- Where something is to be done ---- */

static int batch_check_one(const struct batch *batch, size_t i)
{
	struct hbm_pool *pool = batch->pool;
	struct hbm_sequence *sequence = batch->sequences[i];
	const uint64_t length = batch->lengths[i];
	int r = hbm_sequence_check(pool, sequence);

	if (r)
		return r;
	if (batch_load(&sequence->step) == batch->step)
		return hbm_pool_fail(pool, HBM_INVALID, "sequence %zu of the step is in it twice",
				     i);
	if (length < sequence->tokens)
		return hbm_pool_fail(
			pool, HBM_INVALID,
			"sequence %zu of the step has %llu tokens, and a step to %llu would drop "
			"some: hbm_sequence_truncate() does",
			i, (unsigned long long)sequence->tokens, (unsigned long long)length);
	if (length > sequence->max)
		return hbm_pool_fail(pool, HBM_INVALID,
				     "sequence %zu of the step: %llu tokens, of at most %llu", i,
				     (unsigned long long)length, (unsigned long long)sequence->max);
	if (length > sequence->tokens && hbm_tree_count(sequence->tree) > 0)
		return hbm_pool_fail(pool, HBM_INVALID,
				     "sequence %zu of the step has drafts: they are accepted or "
				     "pruned before it grows",
				     i);
	sequence->step = batch->step;

	return 0;
}

static int batch_check(struct batch *batch)
{
	int r = 0;

	batch_number(batch);
	for (size_t i = 0; i < batch->count && r == 0; i++)
		r = batch_check_one(batch, i);

	return r;
}

/* The line of a refusal: which sequences wanted how much. */
static int batch_refuse(const struct batch *batch, int status, size_t first, size_t growing)
{
	struct hbm_pool *pool = batch->pool;
	const struct hbm_sequence *sequence = batch->sequences[first];

	return hbm_pool_fail(
		pool, status,
		"sequence %zu of the step (slot %u, %llu to %llu tokens)%s needs "
		"memory, together %llu MiB: %s",
		first, hbm_slot_index(pool, sequence->slot), (unsigned long long)sequence->tokens,
		(unsigned long long)batch->lengths[first], growing > 1 ? " and others" : "",
		(unsigned long long)(pool->grow.bytes >> 20), hbm_error(pool->hbm));
}

static int batch_map(const struct batch *batch)
{
	struct hbm_pool *pool = batch->pool;
	size_t growing = 0, first = 0;
	bool any_beyond = false;

	for (size_t i = 0; i < batch->count; i++) {
		int r = hbm_prefix_map(batch->sequences[i]);

		if (r == 0)
			r = hbm_window_slide(batch->sequences[i]);
		if (r == 0 && batch->lengths[i] > batch->sequences[i]->tokens)
			r = hbm_own(batch->sequences[i], batch->sequences[i]->tokens,
				    batch->lengths[i]);
		if (r)
			return r;
	}

	hbm_ranges_begin(&pool->grow);
	for (size_t i = 0; i < batch->count; i++) {
		const uint64_t before = pool->grow.bytes;

		hbm_sequence_gather(batch->sequences[i], batch->lengths[i]);

		const uint64_t bytes = pool->grow.bytes - before;
		const bool is_beyond = bytes > batch->sequences[i]->account.unused;

		if (bytes > 0 && growing++ == 0)
			first = i;
		/* Who is refused is who has more than was expected, if there is one. */
		if (is_beyond && !any_beyond)
			first = i;
		any_beyond |= is_beyond;
	}
	if (pool->grow.failed)
		return hbm_pool_fail(pool, -ENOMEM, "cannot allocate the ranges of a step");

	int r = hbm_growth_map(pool);

	return r ? batch_refuse(batch, r, first, growing) : 0;
}

static void batch_finish(const struct batch *batch)
{
	batch_write(batch);
	for (size_t i = 0; i < batch->count; i++) {
		struct hbm_sequence *sequence = batch->sequences[i];

		if (!sequence->overrun && sequence->tokens > sequence->expected) {
			sequence->overrun = true;
			hbm_event_overrun(sequence);
		}
		hbm_sequence_refresh(sequence);
	}
	batch_mark(batch);
}

static int step_slow(struct batch *batch)
{
	int r = batch_check(batch);
	if (r == 0)
		r = batch_map(batch);
	if (r == 0)
		batch_finish(batch);

	return r;
}

int hbm_step(struct hbm_pool *pool, struct hbm_sequence *const *sequences, const uint64_t *lengths,
	     size_t count)
{
	struct batch batch = {pool, sequences, lengths, count, 0};

	batch_number(&batch);
	hbm_gate_enter(pool);
	bool ready = batch_is_ready(&batch);
	if (ready) {
		batch_write(&batch);
		batch_mark(&batch);
	}
	hbm_gate_leave(pool);
	if (ready)
		return 0;

	hbm_pool_lock(pool);
	int r = step_slow(&batch);
	hbm_pool_unlock(pool);

	return r;
}
