/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/device/copy_queue.h"

#include "daemon/base/clock.h"
#include "daemon/base/list.h"
#include "daemon/device/copy_direct.h"
#include "daemon/device/copy_stream.h"
#include "daemon/loop/completions.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>

#define BATCH_COST (512ull << 10)
#define QUERY_NS UINT64_C(1000)      /* between two questions: each takes the context's lock */
#define NAP_NS UINT64_C(10000)       /* the shortest sleep while copies are in flight */
#define NAP_MAX_NS UINT64_C(1000000) /* the longest */
#define NAP_PART 8                   /* a batch is seen done late by so small a part of its time */
#define TIMER_SLACK_NS 1000          /* the usual 50 us are more than a nap */
#define QUANTUM (1ull << 20)         /* of a payer's turn */
#define FAIR 8                       /* one piece in so many is not urgent */

/* Copies that a request waits for, or others. */
struct class
{
	struct fair_queue waiting; /* under the queue's lock */
	struct copy_stream stream;
};

struct copy_queue {
	struct device *device;
	enum copy_direction kind;
	struct copy_queue_options options;
	struct completions completions;
	struct copy_issue issue;
	struct class urgent, background;
	struct copy_direct direct; /* the loop's */
	bool entered;              /* the context is current on the thread */

	pthread_t thread;
	bool started;
	pthread_mutex_t lock; /* for what follows */
	pthread_cond_t wake;
	unsigned urgent_taken; /* pieces since one that is not */
	bool asleep, stop;
	uint64_t posted; /* copies ever; atomic */
	uint64_t seen;   /* of them, when the thread last took some; the thread's */
};

#define NAME(name, value, text) [value] = text,
static const char *const link_names[HBM_LINKS] = {HBM_LINK_LIST(NAME)};

static enum hbm_link copy_queue_link_of(const struct copy_queue *queue)
{
	static const enum hbm_link links[] = {HBM_LINK_D2D, HBM_LINK_D2H, HBM_LINK_H2D};
	return queue->device->index == HBM_WIRE_DEVICE_HOST ? HBM_LINK_HOST : links[queue->kind];
}

/* ---- on the queue's thread ---- */

/* Retried per batch until it succeeds: a transient failure must not disable the queue. */
static void copy_queue_enter(struct copy_queue *queue)
{
	if (queue->entered)
		return;
	device_run_near(queue->device);
	CUresult r = device_enter(queue->device);
	queue->entered = r == CUDA_SUCCESS;
	if (!queue->entered)
		device_failed(queue->device, "cuCtxSetCurrent",
			      r); /* every copy of the batch will fail with it */
}

static bool copy_queue_in_flight(const struct copy_queue *queue)
{
	return queue->urgent.stream.in_flight + queue->background.stream.in_flight > 0 ||
	       copy_direct_is_lent(&queue->direct);
}

static bool copy_queue_reap(struct copy_queue *queue)
{
	if (!copy_queue_in_flight(queue))
		return false;

	gate_enter(&queue->device->gate);
	copy_queue_enter(queue);
	bool urgent = copy_stream_reap(&queue->urgent.stream);
	bool background = copy_stream_reap(&queue->background.stream);
	bool direct = copy_direct_reap(&queue->direct);
	gate_leave(&queue->device->gate);

	return urgent || background || direct;
}

static void copy_queue_start(struct copy_queue *queue, struct class *class)
{
	gate_enter(&queue->device->gate);
	copy_queue_enter(queue);
	copy_stream_start(&class->stream);
	gate_leave(&queue->device->gate);
}

/* Under the lock. Returns whether the thread is to be woken: once. */
static bool copy_queue_note_post(struct copy_queue *queue)
{
	bool asleep = queue->asleep;

	queue->asleep = false;
	__atomic_fetch_add(&queue->posted, 1, __ATOMIC_RELAXED);

	return asleep;
}

static bool copy_queue_has_new(const struct copy_queue *queue)
{
	return __atomic_load_n(&queue->posted, __ATOMIC_RELAXED) != queue->seen;
}

/* When the batch that is waited for was started: the oldest, of urgent ones if there are. */
static uint64_t copy_queue_awaited_ns(const struct copy_queue *queue)
{
	uint64_t urgent = copy_stream_oldest_ns(&queue->urgent.stream);
	uint64_t direct = copy_direct_is_lent(&queue->direct)
				  ? copy_stream_oldest_ns(&queue->direct.stream)
				  : UINT64_MAX;
	uint64_t oldest = urgent < direct ? urgent : direct;

	return oldest != UINT64_MAX ? oldest : copy_stream_oldest_ns(&queue->background.stream);
}

/* Sleeps for a part of what that batch has taken so far, or until a copy is posted. */
static void copy_queue_nap(struct copy_queue *queue)
{
	uint64_t now = clock_now(), length = (now - copy_queue_awaited_ns(queue)) / NAP_PART;

	length = length < NAP_NS ? NAP_NS : length > NAP_MAX_NS ? NAP_MAX_NS : length;
	const struct timespec until = {.tv_sec = (time_t)((now + length) / 1000000000),
				       .tv_nsec = (long)((now + length) % 1000000000)};

	pthread_mutex_lock(&queue->lock);
	queue->asleep = true;
	for (int r = 0; !copy_queue_has_new(queue) && r != ETIMEDOUT;)
		r = pthread_cond_timedwait(&queue->wake, &queue->lock, &until);
	queue->asleep = false;
	pthread_mutex_unlock(&queue->lock);
}

/* Waits for a while, until a batch is done or a copy is posted. */
static void copy_queue_await(struct copy_queue *queue)
{
	uint64_t end = copy_queue_awaited_ns(queue) + COPY_SPIN_NS;

	for (uint64_t next = clock_now(); next < end; next += QUERY_NS) {
		if (copy_queue_reap(queue) || copy_queue_has_new(queue))
			return;
		do
			sched_yield();
		while (clock_now() < next + QUERY_NS && !copy_queue_has_new(queue));
	}

	copy_queue_nap(queue);
}

static bool copy_queue_may_start(const struct copy_queue *queue, const struct class *class)
{
	return !fair_queue_empty(&class->waiting) &&
	       class->stream.in_flight < COPY_STREAM_BATCHES &&
	       class->stream.cost_in_flight < queue->options.in_flight;
}

/* The class to serve next; NULL: none waits that may be started. */
static struct class *copy_queue_next_class(struct copy_queue *queue)
{
	struct class *urgent = &queue->urgent, *background = &queue->background;
	bool background_first = queue->urgent_taken + 1 >= FAIR;

	if (!background_first && !fair_queue_empty(&urgent->waiting))
		return copy_queue_may_start(queue, urgent) ? urgent : NULL;
	if (copy_queue_may_start(queue, background))
		return background;
	return copy_queue_may_start(queue, urgent) ? urgent : NULL;
}

/* Takes the piece whose turn it is. Returns what it costs. */
static uint64_t copy_queue_take_part(struct fair_queue *class, struct copy_part *part)
{
	struct fair_item *item = fair_queue_next(class);
	struct copy *copy = container_of(item, struct copy, item);
	uint64_t cost = item->cost;

	*part = (struct copy_part){.copy = copy, .piece = copy->piece};
	copy->parts++;
	copy->queued = !copy_piece_is_last(&copy->piece, copy->span_count);
	if (!copy->queued)
		fair_queue_take(class, item);
	else
		fair_queue_take_piece(
			class, item,
			copy_piece_advance(&copy->piece, copy->spans, copy->span_count));

	return cost;
}

static bool copy_queue_is_idle(const struct copy_queue *queue)
{
	return fair_queue_empty(&queue->urgent.waiting) &&
	       fair_queue_empty(&queue->background.waiting);
}

/* Fills the next batch of the class whose turn it is. */
static struct class *copy_queue_fill_batch(struct copy_queue *queue)
{
	struct class *class = copy_queue_next_class(queue);
	if (!class)
		return NULL;

	struct copy_batch *batch = copy_stream_next(&class->stream);
	batch->count = 0;
	batch->cost = 0;
	do {
		batch->cost += copy_queue_take_part(&class->waiting, &batch->parts[batch->count++]);
		queue->urgent_taken = class == &queue->urgent ? queue->urgent_taken + 1 : 0;
	} while (batch->count < COPY_STREAM_PIECES && batch->cost < BATCH_COST &&
		 copy_queue_next_class(queue) == class);

	return class;
}

/* Takes a batch of pieces; NULL: there are none, or too much is in flight. Waits only if
 * nothing is. */
static struct class *copy_queue_take_batch(struct copy_queue *queue, bool *stopped)
{
	pthread_mutex_lock(&queue->lock);

	while (copy_queue_is_idle(queue) && !copy_queue_in_flight(queue) && !queue->stop) {
		queue->asleep = true;
		pthread_cond_wait(&queue->wake, &queue->lock);
		queue->asleep = false;
	}

	queue->seen = __atomic_load_n(&queue->posted, __ATOMIC_RELAXED);
	struct class *class = copy_queue_fill_batch(queue);
	*stopped = queue->stop && !class;
	pthread_mutex_unlock(&queue->lock);

	return class;
}

static void *copy_queue_thread(void *arg)
{
	struct copy_queue *queue = arg;

	prctl(PR_SET_TIMERSLACK, TIMER_SLACK_NS, 0, 0, 0);
	for (bool stopped = false; !stopped || copy_queue_in_flight(queue);) {
		copy_queue_reap(queue);
		struct class *class = copy_queue_take_batch(queue, &stopped);
		if (class)
			copy_queue_start(queue, class);
		else if (copy_queue_in_flight(queue))
			copy_queue_await(queue);
	}

	return NULL;
}

/* ---- on the loop thread ---- */

static void copy_queue_copy_done(struct post *post)
{
	struct copy *copy = container_of(post, struct copy, post);
	copy->done(copy);
}

void copy_queue_on_batch(struct copy_queue *queue, void (*batch_done)(void *arg), void *arg)
{
	completions_on_batch(&queue->completions, batch_done, arg);
}

static void copy_queue_wake(struct copy_queue *queue, bool asleep)
{
	if (asleep)
		pthread_cond_signal(&queue->wake);
}

/* The thread has the stream of the loop's copies from now on. */
static void copy_queue_handed(struct copy_direct *direct)
{
	struct copy_queue *queue = container_of(direct, struct copy_queue, direct);

	pthread_mutex_lock(&queue->lock);
	bool asleep = copy_queue_note_post(queue);
	pthread_mutex_unlock(&queue->lock);
	copy_queue_wake(queue, asleep);
}

/* Issues it here and now: no other waits for its turn. */
static bool copy_queue_issue_directly(struct copy_queue *queue, struct copy *copy)
{
	uint64_t cost = copy_stream_cost(&queue->urgent.stream) +
			copy_stream_cost(&queue->background.stream);

	pthread_mutex_lock(&queue->lock);
	bool first = fair_queue_empty(&queue->urgent.waiting);
	pthread_mutex_unlock(&queue->lock);

	return first && copy_direct_issue(&queue->direct, copy, cost);
}

void copy_queue_post(struct copy_queue *queue, struct copy *copy, bool urgent)
{
	struct class *class = urgent ? &queue->urgent : &queue->background;
	uint64_t whole = copy_piece_cost_of_all(copy->bytes, copy->span_count);

	copy->status = HBM_OK;
	copy->late = false;
	copy->parts = 0;
	copy->post.run = copy_queue_copy_done;
	copy->piece = (struct copy_piece){0};
	uint64_t cost = copy->span_count > 0
				? copy_piece_advance(&copy->piece, copy->spans, copy->span_count)
				: whole;

	if (urgent && copy_queue_issue_directly(queue, copy))
		return;

	pthread_mutex_lock(&queue->lock);
	copy->queued = true;
	copy->urgent = urgent;
	fair_queue_push(&class->waiting, &copy->item, copy->payer, cost, whole);
	bool asleep = copy_queue_note_post(queue);
	pthread_mutex_unlock(&queue->lock);
	copy_queue_wake(queue, asleep);
}

void copy_queue_hasten(struct copy_queue *queue, struct copy *copy, struct fair_payer payer)
{
	pthread_mutex_lock(&queue->lock);

	if (copy->queued && !copy->urgent) {
		uint64_t whole = copy_piece_cost_of_all(copy->bytes, copy->span_count);

		fair_queue_remove(&queue->background.waiting, &copy->item);
		fair_queue_push(&queue->urgent.waiting, &copy->item, payer, copy->item.cost, whole);
		copy->urgent = true;
	}

	pthread_mutex_unlock(&queue->lock);
}

static void copy_queue_init_stream(struct copy_queue *queue, struct copy_stream *stream)
{
	stream->device = queue->device;
	stream->link = copy_queue_link_of(queue);
	stream->link_stats = queue->options.link_stats;
	stream->issue = &queue->issue;
	stream->completions = &queue->completions;
}

static void copy_queue_init_class(struct copy_queue *queue, struct class *class)
{
	fair_queue_open(&class->waiting, QUANTUM);
	copy_queue_init_stream(queue, &class->stream);
}

static void copy_queue_init_direct(struct copy_queue *queue)
{
	copy_queue_init_stream(queue, &queue->direct.stream);
	queue->direct.loop = queue->options.loop;
	queue->direct.most = queue->options.direct;
	queue->direct.slow_ns = queue->options.direct_ns;
	queue->direct.handed = copy_queue_handed;
}

static void copy_queue_init_locks(struct copy_queue *queue)
{
	pthread_condattr_t attributes;

	pthread_mutex_init(&queue->lock, NULL);
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&queue->wake, &attributes);
	pthread_condattr_destroy(&attributes);
}

static CUresult copy_queue_open_streams(struct copy_queue *queue)
{
	CUresult r = device_enter(queue->device);
	if (r == CUDA_SUCCESS)
		r = copy_stream_open(&queue->urgent.stream);
	if (r == CUDA_SUCCESS)
		r = copy_stream_open(&queue->background.stream);
	if (r == CUDA_SUCCESS)
		r = copy_direct_open(&queue->direct, queue->kind, &queue->options.issue);

	return r;
}

int copy_queue_new(struct copy_queue **out, struct device *device, enum copy_direction kind,
		   const struct copy_queue_options *options)
{
	struct copy_queue *queue = calloc(1, sizeof(*queue));
	if (!queue)
		return -ENOMEM;

	queue->device = device;
	queue->kind = kind;
	queue->options = *options;
	copy_issue_open(&queue->issue, device, kind, &options->issue);
	completions_open(&queue->completions, options->loop);
	copy_queue_init_class(queue, &queue->urgent);
	copy_queue_init_class(queue, &queue->background);
	copy_queue_init_direct(queue);
	copy_queue_init_locks(queue);
	CUresult r = copy_queue_open_streams(queue);
	if (r != CUDA_SUCCESS) {
		device_failed(device, "creating a copy stream", r);
		copy_queue_free(queue);
		return -EIO;
	}

	int error = pthread_create(&queue->thread, NULL, copy_queue_thread, queue);
	if (error != 0) {
		copy_queue_free(queue);
		return -error;
	}

	queue->started = true;
	pthread_setname_np(queue->thread, link_names[copy_queue_link_of(queue)]);
	*out = queue;

	return 0;
}

struct device *copy_queue_device(const struct copy_queue *queue)
{
	return queue->device;
}

struct copy_queue *copy_queue_free(struct copy_queue *queue)
{
	if (!queue)
		return NULL;

	if (queue->started) {
		pthread_mutex_lock(&queue->lock);
		queue->stop = true;
		pthread_mutex_unlock(&queue->lock);
		pthread_cond_signal(&queue->wake);
		pthread_join(queue->thread, NULL);
	}

	device_enter(queue->device);

	copy_stream_close(&queue->urgent.stream);
	copy_stream_close(&queue->background.stream);
	copy_direct_close(&queue->direct);
	completions_close(&queue->completions);
	pthread_cond_destroy(&queue->wake);
	pthread_mutex_destroy(&queue->lock);
	free(queue);

	return NULL;
}
