/* SPDX-License-Identifier: Apache-2.0 */
/* ahead: see ahead.h. */
#include "client/sequence/ahead.h"

#include "client/sequence/growth.h"
#include "client/sequence/mark.h"
#include "client/sequence/pool.h"
#include "client/sequence/prefix.h"
#include "client/sequence/sequence.h"
#include "client/sequence/window.h"

#include <errno.h>
#include <signal.h>
#include <time.h>

#define AHEAD_BATCH 32    /* sequences of one request: how long a step may wait for the lock */
#define AHEAD_WATCH_MS 10 /* between two looks at what is free, where there is a watermark */
#define AHEAD_LOOK_MS 1   /* and at a suspend that is under way */

/* How far it is mapped; within what it is promised if nothing is to be asked for beyond. */
static uint64_t ahead_target(const struct hbm_sequence *sequence, bool beyond)
{
	const uint64_t tokens = sequence->tokens, left = sequence->max - tokens;
	const uint64_t ahead = sequence->pool->ahead_tokens;
	const uint64_t target = tokens + (ahead < left ? ahead : left);
	const uint64_t expected = sequence->account.promised ? sequence->expected : 0;

	if (beyond || target <= expected)
		return target;

	return expected > tokens ? expected : tokens;
}

/* Takes up to AHEAD_BATCH sequences that are due. */
static size_t ahead_take(struct hbm_pool *pool, struct hbm_sequence **taken)
{
	size_t count = 0;

	for (uint32_t i; count < AHEAD_BATCH && hbm_mark_take(pool, &i);)
		taken[count++] = &pool->sequences[i];

	return count;
}

/* A slab that others have, too, is not exchanged here: kernels may be reading its tokens. The
 * call that grows the sequence does that. */
static int ahead_map_all(struct hbm_pool *pool, struct hbm_sequence *const *taken, size_t count,
			 bool beyond)
{
	int r = 0;

	for (size_t i = 0; i < count && r == 0; i++) {
		r = hbm_prefix_map(taken[i]);
		if (r == 0)
			r = hbm_window_slide(taken[i]);
	}
	if (r)
		return r;

	hbm_ranges_begin(&pool->grow);
	for (size_t i = 0; i < count; i++)
		hbm_sequence_gather(taken[i], ahead_target(taken[i], beyond));

	return pool->grow.failed ? -ENOMEM : hbm_growth_map(pool);
}

static bool ahead_is_short(int status)
{
	return status == HBM_NO_SPACE || status == HBM_LIMIT;
}

/* Those first that have the fewest tokens left. These are read once: steps go on. */
static void ahead_sort(struct hbm_sequence **taken, size_t count)
{
	uint64_t left[AHEAD_BATCH];

	for (size_t i = 0; i < count; i++) {
		struct hbm_sequence *sequence = taken[i];
		const uint64_t tokens = sequence->tokens, ready = sequence->ready;
		const uint64_t own = ready > tokens ? ready - tokens : 0;
		size_t at = i;

		for (; at > 0 && left[at - 1] > own; at--) {
			left[at] = left[at - 1];
			taken[at] = taken[at - 1];
		}
		left[at] = own;
		taken[at] = sequence;
	}
}

/* Memory is short for all of them together: as many as it is there for, the most urgent first;
 * each time for half as many more. */
static void ahead_map_part(struct hbm_pool *pool, struct hbm_sequence **taken, size_t count)
{
	size_t mapped = 0;

	ahead_sort(taken, count);
	for (size_t step = count; step > 1;) {
		step = (step + 1) / 2;
		const size_t part = step < count - mapped ? step : count - mapped;

		if (part > 0 && ahead_map_all(pool, taken + mapped, part, true) == 0)
			mapped += part;
	}
}

/* One request's worth; *more if others are due. Who is refused is due again at its next
 * step. */
static int ahead_map(struct hbm_pool *pool, bool *more)
{
	struct hbm_sequence *taken[AHEAD_BATCH];
	const size_t count = ahead_take(pool, taken);
	int r = ahead_map_all(pool, taken, count, true);

	/* One that has more than was expected does not keep the others from what they are
	 * promised. */
	if (ahead_is_short(r)) {
		ahead_map_all(pool, taken, count, false);
		ahead_map_part(pool, taken, count);
	}
	*more = count == AHEAD_BATCH;
	for (size_t i = 0; i < count; i++)
		hbm_sequence_look(taken[i]);

	return r;
}

/* Whether it is to be looked after soon. */
static bool ahead_watch(struct hbm_pool *pool)
{
	if (!pool->watch)
		return false;

	hbm_pool_lock(pool);
	pool->is_quiet = true;
	const bool in_flight = pool->watch(pool);
	pool->is_quiet = false;
	hbm_pool_unlock(pool);

	return in_flight;
}

int hbm_pool_map_ahead(struct hbm_pool *pool)
{
	bool more = true;
	int r = 0;

	if (!pool->has_thread)
		ahead_watch(pool);
	if (!atomic_exchange_explicit(&pool->due, false, memory_order_acquire))
		return 0;

	hbm_pool_lock(pool);
	while (more && (r == 0 || ahead_is_short(r))) {
		int status = ahead_map(pool, &more);

		r = status ? status : r;
	}
	if (r)
		hbm_pool_fail_call(pool, r, "not all was mapped ahead");
	hbm_pool_unlock(pool);

	return r;
}

/* ---- The thread ---- */

/* Until a step wakes it; with a watermark it also looks by itself. */
static void ahead_sleep(struct hbm_pool *pool, bool in_flight)
{
	const long ms = in_flight ? AHEAD_LOOK_MS : AHEAD_WATCH_MS;
	struct timespec until;

	if (!pool->watch) {
		while (sem_wait(&pool->wake) != 0)
			;
		return;
	}

	clock_gettime(CLOCK_MONOTONIC, &until); /* which no one sets */
	until.tv_nsec += ms * 1000000;
	until.tv_sec += until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	while (sem_clockwait(&pool->wake, CLOCK_MONOTONIC, &until) != 0 && errno == EINTR)
		;
}

static void ahead_map_due(struct hbm_pool *pool)
{
	bool more = true;

	while (more) {
		hbm_pool_lock(pool);
		pool->is_quiet = true;
		int r = ahead_map(pool, &more);

		more = more && (r == 0 || ahead_is_short(r));
		pool->is_quiet = false;
		hbm_pool_unlock(pool);
	}
}

static void *ahead_run(void *arg)
{
	struct hbm_pool *pool = arg;
	bool in_flight = false;

	while (!atomic_load(&pool->stop)) {
		if (atomic_exchange_explicit(&pool->due, false, memory_order_acquire))
			ahead_map_due(pool);
		else
			ahead_sleep(pool, in_flight);
		in_flight = ahead_watch(pool);
	}

	return NULL;
}

int hbm_ahead_start(struct hbm_pool *pool)
{
	sigset_t all, before;

	sem_init(&pool->wake, 0, 0);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int r = pthread_create(&pool->thread, NULL, ahead_run, pool);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pool->has_thread = r == 0;
	if (r == 0)
		pthread_setname_np(pool->thread, "hbm-ahead");
	else
		sem_destroy(&pool->wake);

	return -r;
}

void hbm_ahead_stop(struct hbm_pool *pool)
{

	if (!pool->has_thread)
		return;
	atomic_store(&pool->stop, true);
	sem_post(&pool->wake);
	pthread_join(pool->thread, NULL);
	sem_destroy(&pool->wake);
	pool->has_thread = false;
}

void hbm_ahead_wake(struct hbm_pool *pool)
{

	if (!atomic_exchange_explicit(&pool->due, true, memory_order_acq_rel) && pool->has_thread)
		sem_post(&pool->wake);
}
