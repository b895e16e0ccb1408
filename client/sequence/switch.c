/* SPDX-License-Identifier: Apache-2.0 */
/* switch: see switch.h. */
#include "client/sequence/switch.h"

#include "client/sequence/credit.h"
#include "client/sequence/passage.h"
#include "client/sequence/pool.h"
#include "client/sequence/resume.h"
#include "client/sequence/sequence.h"
#include "client/sequence/suspend.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <time.h>

#define SWITCH_LOOK_MS 1 /* replies may arrive in calls of other threads */

/* ---- What is refused ---- */

static int switch_check_out(struct hbm_pool *pool, const struct hbm_sequence *sequence)
{
	return hbm_sequence_check(pool, sequence);
}

static int switch_check_in(struct hbm_pool *pool, const struct hbm_sequence *sequence)
{
	int r = hbm_sequence_check_open(pool, sequence);

	if (r == 0 && sequence->state == HBM_SEQUENCE_OPEN)
		return hbm_pool_fail(pool, HBM_INVALID, "a sequence that is not suspended");
	if (r == 0 && sequence->state != HBM_SEQUENCE_SUSPENDED)
		r = hbm_sequence_check(pool, sequence);

	return r;
}

/* Each gets a name of its own, so the name of one that is there twice is not the first. */
static int switch_check_group(struct hbm_pool *pool, struct hbm_sequence *const *sequences,
			      size_t count,
			      int (*check)(struct hbm_pool *pool, const struct hbm_sequence *one))
{
	const uint64_t first = pool->last_name + 1;

	for (size_t i = 0; i < count; i++) {
		int r = check(pool, sequences[i]);

		if (r)
			return r;
		sequences[i]->named = ++pool->last_name;
	}
	for (size_t i = 0; i < count; i++)
		if (sequences[i]->named != first + i)
			return hbm_pool_fail(pool, HBM_INVALID, "a sequence is in a group twice");

	return 0;
}

static uint64_t switch_fences(const struct hbm_pool *pool, const struct hbm_switch_options *options)
{
	struct hbm_layout_facts facts;

	hbm_layout_facts(pool->layout, &facts);

	return (uint64_t)options->fence_slot + facts.groups;
}

static int switch_check(struct hbm_pool *pool, const struct hbm_switch_options *options)
{
	int r = 0;

	if (options->out_count > 0 && options->tier != HBM_TIER_DDR &&
	    options->tier != HBM_TIER_NVME)
		return hbm_pool_fail(pool, HBM_INVALID,
				     "sequences are suspended to DDR or NVMe, not to tier %d",
				     (int)options->tier);

	if (options->has_fences && switch_fences(pool, options) > HBM_WIRE_FENCES)
		return hbm_pool_fail(pool, HBM_INVALID,
				     "a fence for each layer from %u on: there are %d",
				     options->fence_slot, HBM_WIRE_FENCES);

	r = switch_check_group(pool, options->out, options->out_count, switch_check_out);
	if (r == 0)
		r = switch_check_group(pool, options->in, options->in_count, switch_check_in);

	return r;
}

/* ---- Submit ---- */

/* Those in that state. One that was called back to be resumed is open by now: all of it is
 * where it was. */
static bool switch_copy_group(struct passage_group *group, struct hbm_sequence *const *list,
			      size_t count, enum hbm_sequence_state state)
{
	if (count == 0)
		return true;

	group->list = malloc(count * sizeof(struct hbm_sequence *));
	if (!group->list)
		return false;
	for (size_t i = 0; i < count; i++)
		if (list[i]->state == state)
			group->list[group->count++] = list[i];

	return true;
}

/* Memory for what comes in and will not be handed over: from here on none is needed. */
static int switch_acquire(struct hbm_switch *change)
{
	struct hbm_pool *pool = change->pool;
	const size_t needed = change->arrival.carry.count;
	size_t slabs;

	if (!hbm_handover_plan(pool, &change->handover, &change->departure, &slabs))
		return hbm_pool_fail(pool, -ENOMEM, "cannot allocate what is handed over");

	const size_t acquired = needed > slabs ? needed - slabs : 0;

	hbm_credit_unhold(pool, &change->held, acquired * pool->slab);

	return hbm_arrival_acquire(pool, &change->arrival, acquired);
}

static int switch_plan(struct hbm_switch *change)
{
	struct hbm_pool *pool = change->pool;
	int r = hbm_stash_open(&pool->stashes, pool->hbm, pool->slab, pool->memory_only,
			       pool->wipe_on_free);

	if (r)
		return hbm_pool_fail_call(pool, r, "a namespace for suspended sequences");

	r = hbm_suspend_plan(pool, change->out.list, change->out.count, change->tier,
			     &change->departure);
	if (r) {
		hbm_suspend_undo(pool, change->out.list, change->out.count, false);
		return r;
	}

	r = hbm_resume_plan(pool, change->in.list, change->in.count, &change->arrival);
	if (r == 0)
		r = hbm_credit_hold(pool, change->out.list, change->out.count, change->in.list,
				    change->in.count, &change->held);
	if (r == 0)
		r = switch_acquire(change);
	if (r)
		hbm_passage_end(change, r);

	return r;
}

int hbm_switch_begin(struct hbm_pool *pool, const struct hbm_switch_options *options,
		     struct hbm_switch **out)
{
	int r = switch_check(pool, options);
	if (r)
		return r;

	struct hbm_switch *change = calloc(1, sizeof(*change));

	if (!change)
		return hbm_pool_fail(pool, -ENOMEM, "cannot allocate a switch");
	change->pool = pool;
	change->tier = options->tier;
	list_push_back(&pool->switches, &change->link);

	r = switch_copy_group(&change->out, options->out, options->out_count, HBM_SEQUENCE_OPEN) &&
			    switch_copy_group(&change->in, options->in, options->in_count,
					      HBM_SEQUENCE_SUSPENDED)
		    ? switch_plan(change)
		    : hbm_pool_fail(pool, -ENOMEM, "cannot allocate a switch");
	if (r) {
		hbm_passage_free(change);
		return r;
	}

	/* From here on: a refusal sets none. */
	change->has_fences = options->has_fences;
	change->fence_slot = options->fence_slot;
	change->fence_value = options->fence_value;
	hbm_passage_go(change);
	*out = change;

	return 0;
}

int hbm_submit_switch(struct hbm_pool *pool, const struct hbm_switch_options *options,
		      struct hbm_switch **out)
{
	hbm_pool_lock(pool);
	int r = hbm_switch_begin(pool, options, out);
	hbm_pool_unlock(pool);

	return r;
}

/* ---- Until it has ended ---- */

static bool switch_look(struct hbm_switch *change)
{
	hbm_pool_lock(change->pool);
	hbm_dispatch(change->pool->hbm, 0);
	hbm_passage_go(change);
	const bool has_ended = change->has_ended;
	hbm_pool_unlock(change->pool);

	return has_ended;
}

static uint64_t switch_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);

	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* Until there may be something to look at. A thread that sleeps does not hold the lock. */
static void switch_sleep(const struct hbm_switch *change, int64_t left_ms)
{
	const struct hbm_pool *pool = change->pool;
	struct pollfd fd = {.fd = hbm_fd(pool->hbm), .events = POLLIN};
	int64_t most = pool->own_connection ? SWITCH_LOOK_MS : 1000;

	poll(&fd, 1, (int)(left_ms >= 0 && left_ms < most ? left_ms : most));
}

int hbm_switch_poll(struct hbm_switch *change)
{
	return switch_look(change) ? change->status : -EAGAIN;
}

int hbm_switch_wait(struct hbm_switch *change, int timeout_ms)
{
	struct hbm_pool *pool = change->pool;
	const uint64_t until = switch_now() + (uint64_t)(timeout_ms < 0 ? 0 : timeout_ms) * 1000000;

	while (!switch_look(change)) {
		const uint64_t now = switch_now();

		if (timeout_ms >= 0 && now >= until)
			return -ETIMEDOUT;
		switch_sleep(change,
			     timeout_ms < 0 ? -1 : (int64_t)((until - now + 999999) / 1000000));
	}

	hbm_pool_lock(pool);
	int r = change->status;
	hbm_passage_free(change);
	hbm_pool_unlock(pool);

	return r;
}

int hbm_switch_cancel(struct hbm_switch *change)
{
	int r = HBM_NOT_FOUND;

	if (switch_look(change))
		return r;

	hbm_pool_lock(change->pool);
	if (!change->has_ended) {
		hbm_passage_end(change, HBM_CANCELLED);
		r = 0;
	}
	hbm_pool_unlock(change->pool);

	return r;
}

/* ---- Calls that wait ---- */

static int switch_run(struct hbm_pool *pool, const struct hbm_switch_options *options)
{
	struct hbm_switch *change;
	int r = hbm_submit_switch(pool, options, &change);

	return r ? r : hbm_switch_wait(change, -1);
}

int hbm_sequences_switch(struct hbm_pool *pool, struct hbm_sequence *const *out, size_t out_count,
			 enum hbm_tier tier, struct hbm_sequence *const *in, size_t in_count)
{
	const struct hbm_switch_options options = {
		.out = out, .out_count = out_count, .tier = tier, .in = in, .in_count = in_count};

	return switch_run(pool, &options);
}

int hbm_sequences_suspend(struct hbm_pool *pool, struct hbm_sequence *const *sequences,
			  size_t count, enum hbm_tier tier)
{
	const struct hbm_switch_options options = {
		.out = sequences, .out_count = count, .tier = tier};

	return switch_run(pool, &options);
}

int hbm_sequences_resume(struct hbm_pool *pool, struct hbm_sequence *const *sequences, size_t count)
{
	const struct hbm_switch_options options = {.in = sequences, .in_count = count};

	return switch_run(pool, &options);
}
