/* SPDX-License-Identifier: Apache-2.0 */
/*
 * slab: see slab.h. The counts change on the loop thread, before a device call is posted
 * (creation) or after it has succeeded (release), so that they never promise bytes the
 * device does not have.
 *
 * Requests are served first come, first served. One that fits only after a slab retires,
 * after a ready slab of another size is released, or if what was held has become free,
 * waits for that. The bytes it still
 * misses are set aside: later requests see a smaller budget.
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
#include "daemon/base/fdpass.h"
#include "daemon/base/log.h"

#define SLAB_MIN (2ull << 20)
#define SLAB_MAX (1ull << 30)
#define AHEAD (1ull << 30) /* bytes kept ready, or two default slabs if that is more */
#define RETRY_FIRST_NS 100000000ull
#define RETRY_LAST_NS 10000000000ull

struct slabs {
	struct device *device;
	struct loop *loop;
	uint64_t default_slab, ahead;
	struct slabs_books books; /* ready includes the slab being created */
	struct list ready, lost;
	struct list requests; /* waiting, in order */
	struct slab *making;
	struct held held;
	struct timer retry;
	uint64_t retry_ns;
	bool draining; /* no slab is created ahead */
};

static void slab_pump(struct slabs *slabs);

bool slabs_is_size(uint64_t bytes)
{
	return is_power_of_two(bytes) && bytes >= SLAB_MIN && bytes <= SLAB_MAX;
}

static struct slab *slab_new(struct slabs *slabs, uint64_t bytes)
{
	struct slab *slab = calloc(1, sizeof(*slab));
	if (!slab)
		return NULL;

	slab->slabs = slabs;
	slab->bytes = bytes;

	return slab;
}

/* Runs on the control worker. */
static CUresult slab_create(struct slab *slab)
{
	return held_create(&slab->slabs->held, &slab->handle, slab->bytes);
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
	slabs->books.quarantined += slab->bytes;
	list_push_back(&slabs->lost, &slab->link);
	if (device_is_lost(slabs->device))
		return; /* already logged */
	log_error("device %u: cannot unmap or release %llu MiB; quarantined until hbmd restarts",
		  slabs->device->index, (unsigned long long)(slab->bytes >> 20));
}

static void slab_release_done(struct job *job)
{
	struct slab *slab = container_of(job, struct slab, job);
	struct slabs *slabs = slab->slabs;

	slabs->books.retiring -= slab->bytes;
	bool held = slab->exported &&
		    held_release_ended(&slabs->held, &slab->part, slab->result == CUDA_SUCCESS);
	if (slab->result == CUDA_SUCCESS && held) {
		slabs->books.held += slab->bytes;
	} else if (slab->result == CUDA_SUCCESS) {
		slabs->books.uncreated += slab->bytes;
		free(slab);
	} else {
		device_failed(slabs->device, "cuMemRelease", slab->result);
		slab_keep_stuck(slabs, slab);
	}

	slab_pump(slabs);
}

/* The caller has subtracted its bytes from the count they were in. */
static void slab_retire(struct slabs *slabs, struct slab *slab)
{
	slabs->books.retiring += slab->bytes;
	slab->job.run = slab_release_run;
	slab->job.done = slab_release_done;
	if (slab->exported) {
		slab->part.bytes = slab->bytes;
		held_release_begins(&slab->part);
	}

	worker_post(slabs->device->control, &slab->job);
}

static void slab_returned(struct held_part *part)
{
	struct slab *slab = container_of(part, struct slab, part);
	struct slabs *slabs = slab->slabs;

	slabs->books.held -= slab->bytes;
	slabs->books.uncreated += slab->bytes;
	free(slab);
}

static void slab_probed(struct held *held)
{
	slab_pump(container_of(held, struct slabs, held));
}

/* Retires ready slabs of other sizes until `enough` bytes are uncreated or will be. False
 * if there was none. */
static bool slab_retire_others(struct slabs *slabs, uint64_t bytes, uint64_t enough)
{
	bool any = false;
	list_for_each_safe (node, after, &slabs->ready) {
		struct slab *slab = container_of(node, struct slab, link);

		if (slabs->books.uncreated + slabs->books.retiring >= enough)
			break;
		if (slab->bytes == bytes)
			continue;

		list_remove(node);
		slabs->books.ready -= slab->bytes;
		slab_retire(slabs, slab);
		any = true;
	}

	return any;
}

/* ---- Requests ---- */

static void slab_push_ready(struct slabs *slabs, struct slab *slab)
{
	slabs->books.ready += slab->bytes;
	list_push_back(&slabs->ready, &slab->link);
}

static void slab_fail_request(struct slabs *slabs, struct slab_request *request, int status)
{
	for (struct list *node; (node = list_pop_front(&request->taken));) {
		struct slab *slab = container_of(node, struct slab, link);
		slabs->books.leased -= slab->bytes;
		slab->refs = 0;
		slab_push_ready(slabs, slab);
	}

	request->status = status;
	request->done(request);
}

static void slab_request_run(struct job *job)
{
	struct slab_request *request = container_of(job, struct slab_request, job);
	request->result = CUDA_SUCCESS;
	request->lacks_fds = false;
	for (; request->missing > 0; request->missing--) {
		struct slab *slab = slab_new(request->slabs, request->bytes);

		request->result = slab ? slab_create(slab) : CUDA_ERROR_OUT_OF_MEMORY;
		if (request->result != CUDA_SUCCESS) {
			request->lacks_fds = fdpass_exhausted();
			free(slab);
			return;
		}

		slab->refs = 1;
		list_push_back(&request->taken, &slab->link);
	}
}

static void slab_request_done(struct job *job)
{
	struct slab_request *request = container_of(job, struct slab_request, job);
	struct slabs *slabs = request->slabs;

	if (request->result == CUDA_SUCCESS) {
		request->status = HBM_OK;
		request->done(request);
		slab_pump(slabs);
		return;
	}

	uint64_t bytes = request->missing * request->bytes;
	slabs->books.leased -= bytes;
	slabs->books.uncreated += bytes;
	int status = request->lacks_fds
			     ? device_lacks_fds(slabs->device, "cuMemCreate")
			     : device_failed(slabs->device, "cuMemCreate", request->result);

	/* The budget says it fits, so a process still maps retired memory; the ready
	 * slabs of other sizes may free enough. */
	if (status == HBM_NO_SPACE && !request->retried &&
	    slab_retire_others(slabs, request->bytes, UINT64_MAX)) {
		request->retried = true;
		list_push_front(&slabs->requests, &request->link);
	} else {
		slab_fail_request(slabs, request, status);
	}

	slab_pump(slabs);
}

static void slab_take_ready(struct slabs *slabs, struct slab_request *request)
{
	list_for_each_safe (node, after, &slabs->ready) {
		struct slab *slab = container_of(node, struct slab, link);

		if (request->missing == 0)
			break;
		if (slab->bytes != request->bytes)
			continue;

		list_remove(node);
		slab->refs = 1;
		list_push_back(&request->taken, node);
		slabs->books.ready -= slab->bytes;
		slabs->books.leased += slab->bytes;
		request->missing--;
	}
}

static void slab_create_missing(struct slabs *slabs, struct slab_request *request)
{
	uint64_t bytes = request->missing * request->bytes;

	slabs->books.uncreated -= bytes;
	slabs->books.leased += bytes;
	request->job.run = slab_request_run;
	request->job.done = slab_request_done;
	worker_post(slabs->device->control, &request->job);
}

/* While slabs retire, what their client gave back a moment ago counts like what it holds:
 * whether it does is not known yet. */
static bool slab_holds_too_much(const struct slabs *slabs, const struct slab_request *request)
{
	const struct holder *holder = request->holder;
	uint64_t unknown = holder && slabs->books.retiring > 0 ? holder->releasing : 0;

	return holder && !ledger_has_own_room(holder->payer, LEDGER_HELD, unknown + 1);
}

/* What keeps the request from being served: HBM_OK: nothing. */
static int slab_obstacle(struct slabs *slabs, const struct slab_request *request)
{
	uint64_t bytes = request->missing * request->bytes;

	if (slab_holds_too_much(slabs, request))
		return HBM_LIMIT;
	if (bytes <= slabs->books.uncreated)
		return HBM_OK;

	slab_retire_others(slabs, request->bytes, bytes);
	return HBM_NO_SPACE;
}

/* Whether what is under way may remove the obstacle. */
static bool slab_may_improve(struct slabs *slabs, struct slab_request *request)
{
	if (slabs->books.retiring > 0 || slabs->making || slabs->held.probing)
		return true;
	if (slabs->books.held == 0 || request->probed)
		return false;

	request->probed = true;
	held_probe(&slabs->held);

	return true;
}

/* Serves the first request if possible; false if it must wait. */
static bool slab_serve_first(struct slabs *slabs)
{
	struct slab_request *request =
		container_of(slabs->requests.next, struct slab_request, link);

	slab_take_ready(slabs, request);
	int status = slab_obstacle(slabs, request);
	if (status != HBM_OK && slab_may_improve(slabs, request))
		return false;

	list_remove(&request->link);
	if (status != HBM_OK) {
		if (status == HBM_LIMIT)
			(void)ledger_check(request->holder->payer, LEDGER_HELD, 1); /* counts it */
		slab_fail_request(slabs, request, status);
		return true;
	}

	if (request->missing > 0) {
		slab_create_missing(slabs, request);
	} else {
		request->status = HBM_OK;
		request->done(request);
	}

	return true;
}

static uint64_t slab_requested(const struct slabs *slabs)
{
	uint64_t bytes = 0;
	list_for_each (node, &slabs->requests) {
		const struct slab_request *request = container_of(node, struct slab_request, link);
		bytes += request->missing * request->bytes;
	}

	return bytes;
}

int slabs_request(struct slabs *slabs, struct slab_request *request)
{
	uint64_t need;
	const struct slabs_books *books = &slabs->books;
	if (!checked_mul(request->bytes, request->count, &need) ||
	    !checked_add(need, slab_requested(slabs), &need) ||
	    need > books->ready + books->uncreated + books->retiring + books->held)
		return HBM_NO_SPACE;

	list_init(&request->taken);
	request->slabs = slabs;
	request->missing = request->count;
	request->retried = request->probed = false;
	list_push_back(&slabs->requests, &request->link);
	slab_pump(slabs);

	return HBM_OK;
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

static void slab_pump(struct slabs *slabs)
{
	while (!list_empty(&slabs->requests) && slab_serve_first(slabs))
		;
	if (!slabs->draining && list_empty(&slabs->requests))
		slab_precreate(slabs);
}

/* ---- The pool ---- */

int slabs_open(struct slabs **out, struct device *device, struct loop *loop, uint64_t budget,
	       uint64_t default_slab)
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
	list_init(&slabs->ready);
	list_init(&slabs->lost);
	list_init(&slabs->requests);
	held_open(&slabs->held, device, loop, &slabs->books.uncreated, &slabs->books.retiring);
	slabs->held.returned = slab_returned;
	slabs->held.probed = slab_probed;
	slabs->retry.fire = slab_retry_fire;
	slabs->retry_ns = RETRY_FIRST_NS;
	*out = slabs;
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
 * handled. */
static void slab_wait_for_worker(struct slabs *slabs)
{
	struct pause pause = {.job = {.run = pause_run, .done = pause_done}};
	worker_post(slabs->device->control, &pause.job);
	while (loop_flush(slabs->loop), !pause.over)
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

	slabs_drain(slabs);
	held_close(&slabs->held);
	slab_wait_for_worker(slabs);
	assert(list_empty(&slabs->requests));
	for (struct list *node; (node = list_pop_front(&slabs->ready));) {
		struct slab *slab = container_of(node, struct slab, link);
		slabs->books.ready -= slab->bytes;
		slab_retire(slabs, slab);
	}

	slab_wait_for_worker(slabs);
	for (struct list *node; (node = list_pop_front(&slabs->lost));)
		free(container_of(node, struct slab, link));
	for (struct held_part *part; (part = held_pop(&slabs->held));)
		free(container_of(part, struct slab, part));
	free(slabs);

	return NULL;
}

struct slabs_books slabs_books(const struct slabs *slabs)
{
	return slabs->books;
}

uint64_t slabs_default(const struct slabs *slabs)
{
	return slabs->default_slab;
}

const char *slabs_check(const struct slabs *slabs)
{
	const struct slabs_books *books = &slabs->books;
	if (books->leased + books->quarantined + books->retiring + books->ready + books->uncreated +
		    books->held !=
	    books->budget)
		return "leased, quarantined, retiring, ready, uncreated and held do not add up to "
		       "the budget";
	if (books->held != slabs->held.bytes)
		return "the held bytes are counted twice, differently";

	uint64_t ready = slabs->making ? slabs->making->bytes : 0, lost = 0;
	list_for_each (node, &slabs->ready)
		ready += container_of(node, struct slab, link)->bytes;
	if (ready != books->ready)
		return "the ready slabs do not add up";

	list_for_each (node, &slabs->lost)
		lost += container_of(node, struct slab, link)->bytes;
	if (lost > books->quarantined)
		return "more bytes are lost than quarantined";

	return held_check(&slabs->held);
}

struct slab *slab_ref(struct slab *slab)
{
	assert(slab->refs > slab->quarantined);
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
