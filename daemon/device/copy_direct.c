/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/device/copy_direct.h"

#include "daemon/base/clock.h"
#include "daemon/base/list.h"
#include "daemon/base/log.h"
#include "daemon/loop/loop.h"

#include <sys/resource.h>

/* ---- on the loop thread ---- */

static bool copy_direct_pass(struct copy_direct *direct)
{
	struct device *device = direct->stream.device;

	if (!gate_try(device->all))
		return false;
	if (gate_try(&device->gate))
		return true;

	gate_leave(device->all);

	return false;
}

/* Makes the context current. A failure is counted; the thread tries for itself. */
static bool copy_direct_enter(struct copy_direct *direct)
{
	CUresult r = device_enter(direct->stream.device);

	if (r != CUDA_SUCCESS)
		device_failed(direct->stream.device, "cuCtxSetCurrent", r);

	return r == CUDA_SUCCESS;
}

static void copy_direct_leave(struct copy_direct *direct)
{
	struct device *device = direct->stream.device;

	gate_leave(&device->gate);
	gate_leave(device->all);
}

static void copy_direct_hand_over(struct copy_direct *direct)
{
	__atomic_store_n(&direct->lent, true, __ATOMIC_RELEASE);
	direct->handed(direct);
}

static bool copy_direct_is_over(const struct copy_direct *direct)
{
	return direct->stream.in_flight == 0;
}

/* Whether to ask again: something is in flight and may be over soon. */
static bool copy_direct_asks_on(const struct copy_direct *direct)
{
	return !copy_direct_is_over(direct) && !copy_stream_is_unsure(&direct->stream) &&
	       clock_now() < copy_stream_oldest_ns(&direct->stream) + COPY_SPIN_NS;
}

static bool copy_direct_poll(struct background *background)
{
	struct copy_direct *direct = container_of(background, struct copy_direct, poll);

	if (copy_direct_pass(direct)) {
		if (copy_direct_enter(direct))
			copy_stream_reap_sure(&direct->stream);
		copy_direct_leave(direct);
	}

	if (copy_direct_asks_on(direct))
		return true;
	if (!copy_direct_is_over(direct))
		copy_direct_hand_over(direct);

	return false;
}

/* The calls of one copy. */
struct copy_direct_watch {
	uint64_t started_ns;
	struct rusage usage; /* of the thread, before them */
};

static struct copy_direct_watch copy_direct_begin_watch(void)
{
	struct copy_direct_watch watch = {.started_ns = clock_now()};

	getrusage(RUSAGE_THREAD, &watch.usage);

	return watch;
}

/* Whether they slept, or took so long by themselves: others did not run in between. What
 * the kernel says of processor time is too coarse to ask for. */
static bool copy_direct_waited(const struct copy_direct_watch *watch)
{
	struct rusage usage;

	getrusage(RUSAGE_THREAD, &usage);

	return usage.ru_nvcsw > watch->usage.ru_nvcsw || usage.ru_nivcsw == watch->usage.ru_nivcsw;
}

static void copy_direct_end_watch(struct copy_direct *direct, const struct copy_direct_watch *watch)
{
	const struct device *device = direct->stream.device;
	uint64_t now = clock_now(), took = now - watch->started_ns;
	if (took <= direct->slow_ns || !copy_direct_waited(watch))
		return;

	direct->paused_until_ns = now + took * COPY_DIRECT_PAUSE;
	if (!direct->slow)
		log_notice("device %u (%s): issuing a copy took %llu us: copies are left to their "
			   "threads for a while, and whenever that happens again",
			   device->index, device->name, (unsigned long long)took / 1000);
	direct->slow = true;
}

static void copy_direct_start(struct copy_direct *direct, struct copy *copy)
{
	struct copy_batch *batch = copy_stream_next(&direct->stream);

	batch->parts[0] = (struct copy_part){.copy = copy, .piece = copy->piece};
	batch->count = 1;
	batch->cost = copy_piece_cost_of_all(copy->bytes, copy->span_count);
	copy->parts = 1;
	copy->queued = false;
	copy->urgent = true;
	copy_stream_start(&direct->stream);
}

static bool copy_direct_may_issue(const struct copy_direct *direct, const struct copy *copy,
				  uint64_t cost)
{
	bool small = copy->bytes <= direct->most && copy->span_count > 0 &&
		     copy->span_count <= COPY_DIRECT_SPANS;

	cost += copy_piece_cost_of_all(copy->bytes, copy->span_count);

	return small && !device_is_lost(direct->stream.device) && !copy_direct_is_lent(direct) &&
	       direct->stream.in_flight < COPY_STREAM_BATCHES &&
	       cost + copy_stream_cost(&direct->stream) <= COPY_DIRECT_IN_FLIGHT &&
	       (direct->paused_until_ns == 0 || clock_now() >= direct->paused_until_ns);
}

bool copy_direct_issue(struct copy_direct *direct, struct copy *copy, uint64_t cost)
{
	if (!copy_direct_may_issue(direct, copy, cost) || !copy_direct_pass(direct))
		return false;

	const struct copy_direct_watch watch = copy_direct_begin_watch();
	bool entered = copy_direct_enter(direct);
	if (entered) {
		copy_direct_start(direct, copy);
		copy_stream_reap_sure(&direct->stream);
	}

	copy_direct_leave(direct);
	copy_direct_end_watch(direct, &watch);
	if (!copy_direct_is_over(direct))
		loop_background(direct->loop, &direct->poll);

	return entered;
}

/* ---- on the queue's thread ---- */

bool copy_direct_is_lent(const struct copy_direct *direct)
{
	return __atomic_load_n(&direct->lent, __ATOMIC_ACQUIRE);
}

bool copy_direct_reap(struct copy_direct *direct)
{
	if (!copy_direct_is_lent(direct))
		return false;

	bool any = copy_stream_reap(&direct->stream);
	if (copy_direct_is_over(direct))
		__atomic_store_n(&direct->lent, false, __ATOMIC_RELEASE);

	return any;
}

/* ---- opening ---- */

CUresult copy_direct_open(struct copy_direct *direct, enum copy_direction kind,
			  const struct copy_issue_options *options)
{
	copy_issue_open(&direct->issue, direct->stream.device, kind, options);
	direct->stream.issue = &direct->issue;
	direct->stream.direct = true;
	direct->poll.run = copy_direct_poll;

	return direct->most > 0 ? copy_stream_open(&direct->stream) : CUDA_SUCCESS;
}

void copy_direct_close(struct copy_direct *direct)
{
	loop_background_stop(&direct->poll);
	copy_stream_close(&direct->stream);
}
