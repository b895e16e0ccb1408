/* SPDX-License-Identifier: Apache-2.0 */
/*
 * slab: see slab.h. Requests are slab_request.c's, the check slab_check.c's. The counts
 * change on the loop thread, before a device call is posted (creation) or after it has
 * succeeded (release), so that they never promise bytes the device does not have.
 *
 * Background creation makes one slab per job, so that a request never waits for more than
 * one. If the device refuses (a process still maps retired memory), it retries later,
 * with a growing delay.
 */
#include "daemon/region/slab.h"

#include <assert.h>
#include <errno.h>
#include <sched.h>
#include <stdlib.h>

#include "daemon/base/checked.h"
#include "daemon/base/log.h"
#include "daemon/device/scrub.h"
#include "daemon/region/region_kept.h"
#include "daemon/region/slab_pool.h"

#define RELEASES 8         /* that wait at the worker */
#define AHEAD (1ull << 30) /* bytes kept ready, or two default slabs if that is more */
#define RETRY_FIRST_NS 100000000ull
#define RETRY_LAST_NS 10000000000ull

static_assert(SLAB_BYTES_MIN << (SLAB_SIZES - 1) == SLAB_BYTES_MAX, "the number of sizes");

bool slabs_is_size(uint64_t bytes)
{
	return is_power_of_two(bytes) && bytes >= SLAB_BYTES_MIN && bytes <= SLAB_BYTES_MAX;
}

struct slab *slab_new(struct slabs *slabs, uint64_t bytes)
{
	struct slab *slab = calloc(1, sizeof(*slab));
	if (!slab)
		return NULL;

	slab->slabs = slabs;
	slab->bytes = bytes;
	list_init(&slab->left);

	return slab;
}

CUresult slab_create(struct slab *slab)
{
	struct slabs *slabs = slab->slabs;
	CUresult r = held_create(&slabs->held, &slab->handle, slab->bytes);
	if (r != CUDA_SUCCESS || !slabs->device->scrubs)
		return r;

	r = scrub_memory(slabs->device, slab->handle, slab->bytes);
	if (r != CUDA_SUCCESS)
		(void)held_release(&slabs->held, slab->handle, slab->bytes, NULL);

	return r;
}

/* ---- Return ---- */

void slab_begin_return(struct slab *slab)
{
	if (!slab->returning)
		slab->slabs->returning += slab->bytes;
	slab->returning = true;
}

static void slab_end_return(struct slab *slab)
{
	if (slab->returning)
		slab->slabs->returning -= slab->bytes;
	slab->returning = false;
}

/* ---- Retire ---- */

static void slab_release_run(struct job *job)
{
	struct slab *slab = container_of(job, struct slab, job);
	slab->result = held_release(&slab->slabs->held, slab->handle, slab->bytes,
				    slab->exported ? &slab->part : NULL);
}

static void slab_keep_stuck(struct slabs *slabs, struct slab *slab)
{
	slab_end_return(slab);
	slab_unpark(slab);
	slab_unkeep(slab);
	slabs->books.quarantined += slab->bytes;
	if (slab->promise)
		promise_lose(slab->promise, slab->bytes);
	slab->promise = NULL;
	tally_push(&slabs->lost, &slab->link, &slab->mark);
	if (device_is_lost(slabs->device))
		return; /* already logged */
	log_error("device %u: cannot unmap or release %llu MiB; quarantined until hbmd restarts",
		  slabs->device->index, (unsigned long long)(slab->bytes >> 20));
}

/* Some at a time: a commit that is posted later waits for no more of them. */
static void slab_release_next(struct slabs *slabs)
{
	while (slabs->releases < RELEASES && !list_empty(&slabs->retiring)) {
		struct slab *slab =
			container_of(list_pop_front(&slabs->retiring), struct slab, link);

		slab_unpark(slab);
		slabs->releases++;
		slabs->posted += slab->bytes;
		worker_post(slabs->device->control, &slab->job);
	}
}

static void slab_release_done(struct job *job)
{
	struct slab *slab = container_of(job, struct slab, job);
	struct slabs *slabs = slab->slabs;

	slab_end_return(slab);
	slabs->releases--;
	slabs->posted -= slab->bytes;
	slabs->books.retiring -= slab->bytes;
	if (!slab->exported)
		slabs->releasing -= slab->bytes;
	bool held = slab->exported &&
		    held_release_ended(&slabs->held, &slab->part, slab->result == CUDA_SUCCESS);
	if (slab->result == CUDA_SUCCESS && held) {
		slabs->books.held += slab->bytes;
	} else if (slab->result == CUDA_SUCCESS) {
		slabs->books.uncreated += slab->bytes;
		slab_unuse(slab);
		slab_unkeep(slab);
		free(slab);
	} else {
		device_failed(slabs->device, "cuMemRelease", slab->result);
		slab_keep_stuck(slabs, slab);
	}

	slab_release_next(slabs);
	slab_pump(slabs);
}

/* The caller has subtracted its bytes from the count they were in. */
static void slab_retire(struct slabs *slabs, struct slab *slab)
{
	slabs->books.retiring += slab->bytes;
	slab->job.run = slab_release_run;
	slab->job.done = slab_release_done;
	if (slab->exported) {
		slabs->retired_ns = clock_now();
		slab->part.bytes = slab->bytes;
		held_release_begins(&slabs->held, &slab->part);
	} else {
		slabs->releasing += slab->bytes;
	}

	list_push_back(&slabs->retiring, &slab->link);
	slab_release_next(slabs);
}

static void slab_returned(struct held_part *part)
{
	struct slab *slab = container_of(part, struct slab, part);
	struct slabs *slabs = slab->slabs;

	slabs->books.held -= slab->bytes;
	slabs->books.uncreated += slab->bytes;
	slab_unuse(slab);
	slab_unkeep(slab);
	free(slab);
}

static void slab_probed(struct held *held)
{
	slab_pump(container_of(held, struct slabs, held));
}

void slab_push_ready(struct slabs *slabs, struct slab *slab)
{
	slab_unuse(slab);
	slab_end_return(slab);
	slabs->books.ready += slab->bytes;
	tally_push(&slabs->ready, &slab->link, &slab->mark);
}

void slab_remove_ready(struct slabs *slabs, struct slab *slab)
{
	slabs->books.ready -= slab->bytes;
	tally_remove(&slabs->ready, &slab->link, slab->mark, slab->bytes);
}

bool slab_retire_others(struct slabs *slabs, uint64_t bytes, uint64_t enough)
{
	bool any = false;
	list_for_each_safe (node, after, &slabs->ready.list) {
		struct slab *slab = container_of(node, struct slab, link);

		if (slabs->books.uncreated + slabs->books.retiring >= enough)
			break;
		if (slab->bytes == bytes)
			continue;

		slab_remove_ready(slabs, slab);
		slab_retire(slabs, slab);
		any = true;
	}

	return any;
}

/* ---- Create ahead ---- */

static void slab_precreate_run(struct job *job)
{
	struct slab *slab = container_of(job, struct slab, job);
	slab->result = slab_create(slab);
}

static void slab_precreate_later(struct slabs *slabs, CUresult result)
{
	/* Logged once per series of failures. */
	if (slabs->retry_ns == RETRY_FIRST_NS)
		device_failed(slabs->device, "cuMemCreate (pre-creating slabs)", result);

	loop_timer_set(slabs->loop, &slabs->retry, clock_now() + slabs->retry_ns);
	slabs->retry_ns = slabs->retry_ns * 2 < RETRY_LAST_NS ? slabs->retry_ns * 2 : RETRY_LAST_NS;
}

static void slab_precreate_done(struct job *job)
{
	struct slab *slab = container_of(job, struct slab, job);
	struct slabs *slabs = slab->slabs;

	slabs->making = NULL;
	slabs->books.ready -= slab->bytes;
	if (slab->result == CUDA_SUCCESS) {
		slabs->retry_ns = RETRY_FIRST_NS;
		slab_push_ready(slabs, slab);
	} else {
		slabs->books.uncreated += slab->bytes;
		if (!slabs->draining)
			slab_precreate_later(slabs, slab->result);
		free(slab);
	}

	slab_pump(slabs);
}

static void slab_precreate(struct slabs *slabs)
{
	uint64_t bytes = slabs->default_slab;
	if (slabs->making || timer_is_set(&slabs->retry) || slabs->books.uncreated < bytes ||
	    slabs->books.ready + bytes > slabs->ahead)
		return;

	struct slab *slab = slab_new(slabs, bytes);
	if (!slab)
		return;

	slabs->making = slab;
	slabs->books.uncreated -= bytes;
	slabs->books.ready += bytes;
	slab->job.run = slab_precreate_run;
	slab->job.done = slab_precreate_done;
	worker_post(slabs->device->control, &slab->job);
}

static void slab_retry_fire(struct timer *timer)
{
	slab_pump(container_of(timer, struct slabs, retry));
}

static void slab_tell(const struct slabs *slabs)
{
	if (slabs->changed)
		slabs->changed(slabs->changed_arg);
}

/* It is lent, and in no slot any more. */
static void slab_leave(struct slab *slab)
{
	list_push_back(&slab->slabs->left, &slab->left);
	promise_leave(slab->promise, slab->bytes);
}

static void slab_unleave(struct slab *slab)
{
	if (list_empty(&slab->left))
		return;

	list_remove(&slab->left);
	promise_unleave(slab->promise, slab->bytes);
}

/* Whether it is without a session from now on. */
static bool slab_disown(struct slab *slab)
{
	struct slabs *slabs = slab->slabs;

	if (!promise_may_disown(slab->promise, slab_free_bytes(slabs), slab->bytes))
		return false;

	list_remove(&slab->left);
	promise_disown(slab->promise, slab->bytes);
	slab->promise = &slabs->promises.unowned;

	return true;
}

static void slab_disown_left(struct slabs *slabs)
{
	for (unsigned left = SLABS_DISOWNED; left > 0 && !list_empty(&slabs->left); left--)
		if (!slab_disown(container_of(slabs->left.next, struct slab, left)))
			return;
}

void slab_pump(struct slabs *slabs)
{
	slab_disown_left(slabs);
	while (!list_empty(&slabs->requests) && slab_request_serve_first(slabs))
		;
	slab_budget_leave(slabs);
	if (!slabs->draining && list_empty(&slabs->requests) && slabs->leaving.bytes == 0)
		slab_precreate(slabs);
	slab_tell(slabs);
}

/* ---- The pool ---- */

int slabs_open(struct slabs **out, struct device *device, struct loop *loop, uint64_t budget,
	       uint64_t default_slab, const struct region_kept *kept)
{
	assert(slabs_is_size(default_slab));
	struct slabs *slabs = calloc(1, sizeof(*slabs));
	if (!slabs)
		return -ENOMEM;

	slabs->device = device;
	slabs->loop = loop;
	slabs->default_slab = default_slab;
	slabs->ahead = default_slab * 2 > AHEAD ? default_slab * 2 : AHEAD;
	slabs->books.budget = slabs->books.uncreated = budget;
	tally_init(&slabs->ready);
	tally_init(&slabs->placed);
	tally_init(&slabs->lost);
	promises_init(&slabs->promises);
	list_init(&slabs->requests);
	tally_init(&slabs->recount.regions);
	list_init(&slabs->left);
	list_init(&slabs->retiring);
	held_open(&slabs->held, device, loop, &slabs->books.uncreated, &slabs->posted);
	slabs->held.returned = slab_returned;
	slabs->held.probed = slab_probed;
	slabs->retry.fire = slab_retry_fire;
	slabs->retry_ns = RETRY_FIRST_NS;
	slabs->kept = kept;
	held_keep(&slabs->held, kept);
	int r = slab_adopt_all(slabs);
	if (r < 0) {
		slabs_close(slabs);
		return r;
	}

	*out = slabs;
	held_begin(&slabs->held);
	slab_pump(slabs);

	return 0;
}

struct pause {
	struct job job;
	bool over;
};

static void pause_run(struct job *job)
{
	(void)job;
}

static void pause_done(struct job *job)
{
	container_of(job, struct pause, job)->over = true;
}

/* Waits until the control worker has run all its jobs and their completions have been
 * handled, and all that is retiring is released. */
static void slab_wait_for_worker(struct slabs *slabs)
{
	struct pause pause = {.job = {.run = pause_run, .done = pause_done}};
	worker_post(slabs->device->control, &pause.job);
	while (loop_flush(slabs->loop), !pause.over || slabs->releases > 0)
		sched_yield();
}

void slabs_drain(struct slabs *slabs)
{
	slabs->draining = true;
	loop_timer_stop(slabs->loop, &slabs->retry);
}

struct slabs *slabs_close(struct slabs *slabs)
{
	if (!slabs)
		return NULL;

	/* The start has failed before it knew whose they are: the next one finds them as they are. */
	if (slabs->adopted)
		slabs->kept = NULL;
	slabs_adopted(slabs);
	slabs_drain(slabs);
	slabs->leaving.bytes = 0; /* its resize is over */
	slabs->leaving.done = NULL;
	held_close(&slabs->held);
	slab_wait_for_worker(slabs);
	assert(list_empty(&slabs->requests));
	while (!list_empty(&slabs->ready.list)) {
		struct slab *slab = container_of(slabs->ready.list.next, struct slab, link);
		slab_remove_ready(slabs, slab);
		slab_retire(slabs, slab);
	}

	slab_wait_for_worker(slabs);
	for (struct list *node; (node = list_pop_front(&slabs->lost.list));)
		free(container_of(node, struct slab, link));
	for (struct held_part *part; (part = held_pop(&slabs->held));) {
		struct slab *slab = container_of(part, struct slab, part);

		slab_unuse(slab);
		free(slab);
	}

	free(slabs);

	return NULL;
}

void slabs_can_reclaim(const struct slabs *slabs)
{
	slab_tell(slabs);
}

void slabs_reclaimed(struct slabs *slabs)
{
	slabs->reclaiming = false;
	slab_pump(slabs);
}

bool slabs_is_reclaiming(const struct slabs *slabs)
{
	return slabs->reclaiming || slabs->returning > 0;
}

void slabs_on_shortage(struct slabs *slabs, bool (*reclaim)(void *arg, uint64_t bytes), void *arg)
{
	slabs->reclaiming = false;
	slabs->reclaim = reclaim;
	slabs->reclaim_arg = arg;
}

struct slabs_books slabs_books(const struct slabs *slabs)
{
	struct slabs_books books = slabs->books;

	if (slabs->making) { /* no handle yet, whatever the pool reckons with */
		books.ready -= slabs->making->bytes;
		books.uncreated += slabs->making->bytes;
	}
	books.free = slab_free_bytes(slabs);
	books.promised = slabs->promises.promised;
	books.due = slabs->promises.due;

	return books;
}

void slabs_watch(struct slabs *slabs, void (*changed)(void *arg), void *arg)
{
	slabs->changed = changed;
	slabs->changed_arg = arg;
}

uint64_t slabs_default(const struct slabs *slabs)
{
	return slabs->default_slab;
}

void slab_place(struct slab *slab)
{
	struct slabs *slabs = slab->slabs;

	assert(slab->refs == 1 && !slab->placed && slabs->unplaced >= slab->bytes);
	slab->placed = true;
	slab->slots = 1;
	slabs->unplaced -= slab->bytes;
	tally_push(&slabs->placed, &slab->link, &slab->mark);
}

struct slab *slab_ref(struct slab *slab)
{
	assert(slab->refs > slab->quarantined && slab->refs < UINT32_MAX);
	slab->refs++;
	return slab;
}

/* A slab is counted by its references: leased while one of them is not quarantined. */
static void slab_recount(struct slab *slab, bool was_quarantined)
{
	struct slabs_books *books = &slab->slabs->books;

	if (was_quarantined || slab->quarantined < slab->refs)
		return;

	assert(books->leased >= slab->bytes);
	books->leased -= slab->bytes;
	books->quarantined += slab->bytes;
}

static bool slab_is_quarantined(const struct slab *slab)
{
	return slab->quarantined == slab->refs;
}

void slab_quarantine(struct slab *slab)
{
	assert(slab->quarantined < slab->refs);
	slab->quarantined++;
	slab_recount(slab, false);
}

/* The last reference is gone: subtracts the slab from its count, then retires or keeps
 * it. */
static void slab_leave_region(struct slab *slab, bool quarantined)
{
	struct slabs *slabs = slab->slabs;
	uint64_t *from = quarantined ? &slabs->books.quarantined : &slabs->books.leased;

	assert(*from >= slab->bytes);
	*from -= slab->bytes;

	slab_unleave(slab);
	if (slab->placed)
		tally_remove(&slabs->placed, &slab->link, slab->mark, slab->bytes);
	else
		slabs->unplaced -= slab->bytes;
	slab->placed = false;

	if (slab->stuck)
		slab_keep_stuck(slabs, slab);
	else if (slab->exported)
		slab_retire(slabs, slab);
	else
		slab_push_ready(slabs, slab);

	slab_pump(slabs);
}

void slab_unref(struct slab *slab, bool quarantined)
{
	bool was_quarantined = slab_is_quarantined(slab);

	assert(slab->refs > 0 && (!quarantined || slab->quarantined > 0));
	slab->refs--;
	slab->quarantined -= quarantined;
	if (slab->refs == 0)
		slab_leave_region(slab, was_quarantined);
	else
		slab_recount(slab, was_quarantined);
}

/* Whether the check has passed it, and so counts its slots. */
static bool slab_is_counted(const struct slab *slab)
{
	return slab->placed && slab->mark == slab->slabs->placed.round;
}

void slab_add_slot(struct slab *slab)
{
	slab_ref(slab)->slots++;
	if (slab_is_counted(slab))
		slab->slabs->slots += slab->bytes;
}

void slab_drop_slot(struct slab *slab, bool quarantined)
{
	assert(slab->slots > 0);
	slab->slots--;
	if (slab_is_counted(slab))
		slab->slabs->slots -= slab->bytes;

	if (slab->slots == 0 && slab->refs > 1) {
		slab_leave(slab);
		(void)slab_disown(slab);
	}

	slab_unref(slab, quarantined);
}
