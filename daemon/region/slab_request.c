/* SPDX-License-Identifier: Apache-2.0 */
/*
 * slab_request: how a pool serves requests: first come, first served. One that fits only
 * after a slab retires, after a ready slab of another size is released, or if what was held
 * has become free, waits for that. The bytes it still misses are asked for in its session's
 * promise: later requests and reservations see a smaller budget. It takes nothing before it
 * can have all of it without what is promised to others.
 */
#include "daemon/region/slab.h"

#include <stdlib.h>

#include "daemon/base/checked.h"
#include "daemon/base/clock.h"
#include "daemon/base/fdpass.h"
#include "daemon/region/slab_pool.h"

/* How long a request waits for memory that the books call free and the device has not: a
 * process that was killed takes a second to end, rarely more. Each pause is as long as
 * those before it together. */
#define WAIT_FIRST_NS 10000000ull
#define WAIT_NS 1000000000ull
/* and how long after its release such memory is waited for */
#define RETURN_NS 10000000000ull

static void slab_request_fail(struct slabs *slabs, struct slab_request *request, int status)
{
	for (struct list *node; (node = list_pop_front(&request->taken));) {
		struct slab *slab = container_of(node, struct slab, link);
		slabs->books.leased -= slab->bytes;
		slabs->unplaced -= slab->bytes;
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
	for (unsigned made = 0; request->missing > 0; request->missing--, made++) {
		if (made == SLABS_PER_TURN) {
			job->more = true;
			return;
		}

		struct slab *slab = slab_new(request->slabs, request->bytes);

		request->result = slab ? slab_create(slab) : CUDA_ERROR_OUT_OF_MEMORY;
		if (request->result != CUDA_SUCCESS) {
			request->lacks_fds = fdpass_exhausted();
			free(slab);
			return;
		}

		slab->refs = 1;
		slab->promise = request->promise;
		list_push_back(&request->taken, &slab->link);
	}
}

/* Puts it first in turn; its bytes are set aside. */
static void slab_request_again(struct slabs *slabs, struct slab_request *request)
{
	list_push_front(&slabs->requests, &request->link);
}

static void slab_request_fire(struct timer *timer)
{
	struct slab_request *request = container_of(timer, struct slab_request, timer);
	struct slabs *slabs = request->slabs;

	slab_request_again(slabs, request);
	slab_pump(slabs);
}

/* Whether memory that clients gave back may not be free yet. */
static bool slab_request_memory_may_return(const struct slabs *slabs)
{
	const struct slabs_books *books = &slabs->books;

	return books->held + books->retiring + books->quarantined > 0 ||
	       (slabs->retired_ns != 0 && clock_now() - slabs->retired_ns < RETURN_NS);
}

/* Later requests are served meanwhile. */
static bool slab_request_wait(struct slabs *slabs, struct slab_request *request)
{
	if (request->waited_ns >= WAIT_NS || !slab_request_memory_may_return(slabs))
		return false;

	uint64_t ns = request->waited_ns > 0 ? request->waited_ns : WAIT_FIRST_NS;
	request->waited_ns += ns;
	request->timer.fire = slab_request_fire;
	loop_timer_set(slabs->loop, &request->timer, clock_now() + ns);

	return true;
}

/* The budget says it fits, so a process still maps retired memory: the ready slabs of other
 * sizes may free enough, or that process ends. */
static bool slab_request_retries(struct slabs *slabs, struct slab_request *request)
{
	if (request->lacks_fds || request->result != CUDA_ERROR_OUT_OF_MEMORY)
		return false;

	if (!request->retried && slab_retire_others(slabs, request->bytes, UINT64_MAX)) {
		request->retried = true;
		slab_request_again(slabs, request);
	} else if (!slab_request_wait(slabs, request)) {
		return false;
	}

	return true;
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
	slabs->unplaced -= bytes;
	slabs->books.uncreated += bytes;
	promise_ask_again(request->promise, bytes);
	if (!slab_request_retries(slabs, request)) {
		promise_unask(request->promise, bytes);
		slab_request_fail(
			slabs, request,
			request->lacks_fds
				? device_lacks_fds(slabs->device, "cuMemCreate")
				: device_failed(slabs->device, "cuMemCreate", request->result));
	}

	slab_pump(slabs);
}

static void slab_request_take_ready(struct slabs *slabs, struct slab_request *request)
{
	list_for_each_safe (node, after, &slabs->ready.list) {
		struct slab *slab = container_of(node, struct slab, link);

		if (request->missing == 0)
			break;
		if (slab->bytes != request->bytes)
			continue;

		slab_remove_ready(slabs, slab);
		slab->refs = 1;
		slab->promise = request->promise;
		list_push_back(&request->taken, node);
		slabs->books.leased += slab->bytes;
		slabs->unplaced += slab->bytes;
		promise_use(request->promise, slab->bytes);
		request->missing--;
	}
}

static void slab_request_create_missing(struct slabs *slabs, struct slab_request *request)
{
	uint64_t bytes = request->missing * request->bytes;

	slabs->books.uncreated -= bytes;
	slabs->books.leased += bytes;
	slabs->unplaced += bytes;
	promise_use(request->promise, bytes);
	request->job.run = slab_request_run;
	request->job.done = slab_request_done;
	worker_post(slabs->device->control, &request->job);
}

/* While slabs retire, what their client gave back a moment ago counts like what it holds:
 * whether it does is not known yet. */
static bool slab_request_holds_too_much(const struct slabs *slabs,
					const struct slab_request *request)
{
	const struct holder *holder = request->holder;
	uint64_t unknown = holder && slabs->books.retiring > 0 ? holder->releasing : 0;

	return holder && !ledger_has_tenant_room(holder->payer, LEDGER_HELD, unknown + 1);
}

/* What keeps the request from being served: HBM_OK: nothing. Takes what is ready if it can
 * have the rest, too. */
static int slab_request_obstacle(struct slabs *slabs, struct slab_request *request)
{
	if (slab_request_holds_too_much(slabs, request))
		return HBM_LIMIT;
	if (!promise_allows(request->promise, slab_free_bytes(slabs),
			    request->missing * request->bytes))
		return HBM_NO_SPACE;

	slab_request_take_ready(slabs, request);
	if (request->missing * request->bytes <= slabs->books.uncreated)
		return HBM_OK;

	slab_retire_others(slabs, request->bytes, request->missing * request->bytes);
	return HBM_NO_SPACE;
}

/* Whether what is under way may remove the obstacle. */
static bool slab_request_may_improve(struct slabs *slabs, struct slab_request *request)
{
	if (slabs->books.retiring > 0 || slabs->making || slabs->held.probing ||
	    slabs_is_reclaiming(slabs))
		return true;
	if (slabs->books.held == 0 || request->probed)
		return false;

	request->probed = true;
	held_probe(&slabs->held);

	return true;
}

bool slab_request_serve_first(struct slabs *slabs)
{
	struct slab_request *request =
		container_of(slabs->requests.next, struct slab_request, link);

	int status = slab_request_obstacle(slabs, request);
	if (status != HBM_OK && slab_request_may_improve(slabs, request))
		return false;

	/* a client that died gives back what it held when its last process ends */
	list_remove(&request->link);
	if (status == HBM_NO_SPACE && held_has_orphans(&slabs->held) &&
	    slab_request_wait(slabs, request)) {
		request->probed = false;
		return true;
	}

	if (status != HBM_OK) {
		promise_unask(request->promise, request->missing * request->bytes);
		if (status == HBM_LIMIT)
			(void)ledger_check(request->holder->payer, LEDGER_HELD, 1); /* counts it */
		slab_request_fail(slabs, request, status);
		return true;
	}

	if (request->missing > 0) {
		slab_request_create_missing(slabs, request);
	} else {
		request->status = HBM_OK;
		request->done(request);
	}

	return true;
}

void slab_reclaim(struct slabs *slabs, uint64_t need)
{
	const struct slabs_books *books = &slabs->books;
	uint64_t have = books->ready + books->uncreated + books->retiring;

	if (slabs->reclaim && need > have && need <= books->budget)
		slabs->reclaiming = slabs->reclaim(slabs->reclaim_arg, need - have);
}

int slabs_request(struct slabs *slabs, struct slab_request *request)
{
	uint64_t need;
	const struct slabs_books *books = &slabs->books;
	if (!request->promise)
		request->promise = &slabs->promises.unowned;
	if (checked_mul(request->bytes, request->count, &need))
		slab_reclaim(slabs, promise_due_asking(request->promise, need));
	if (!checked_mul(request->bytes, request->count, &need) || need > books->budget)
		return HBM_NO_SPACE;
	if (promise_due_asking(request->promise, need) >
		    books->ready + books->uncreated + books->retiring + books->held &&
	    !slabs_is_reclaiming(slabs))
		return HBM_NO_SPACE;
	if (!promise_is_paid(request->promise, need))
		return HBM_LIMIT;

	list_init(&request->taken);
	request->slabs = slabs;
	request->missing = request->count;
	request->retried = request->probed = false;
	request->waited_ns = 0;
	request->timer = (struct timer){0};
	promise_ask(request->promise, need);
	list_push_back(&slabs->requests, &request->link);
	slab_pump(slabs);

	return HBM_OK;
}
