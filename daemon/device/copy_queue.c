/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/device/copy_queue.h"

#include "daemon/base/clock.h"
#include "daemon/base/list.h"
#include "daemon/loop/completions.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define BATCH_PIECES 32
#define BATCH_COST (512ull << 10)
#define BATCHES 32              /* of a class: events; what is in flight bounds them long before */
#define SPIN_NS UINT64_C(20000) /* about what a sleep and an interrupt cost */
#define QUERY_NS UINT64_C(1000) /* between two questions: each takes the context's lock */
#define QUANTUM (1ull << 20)    /* of a payer's turn */
#define FAIR 8                  /* one piece in so many is not urgent */

/* A piece of a copy that has left its queue. */
struct part {
	struct copy *copy;
	struct copy_piece piece;
	bool ends; /* no other of the copy is in flight or to come; when its batch is done */
};

struct batch {
	struct part parts[BATCH_PIECES];
	unsigned count;
	uint64_t cost;
	struct link_ways ways; /* how they were issued */
	CUevent event;
	uint64_t started_ns;
};

/* Copies that a request waits for, or others. */
struct class
{
	struct fair_queue waiting; /* under the queue's lock */
	CUstream stream;
	struct batch batches[BATCHES]; /* a ring: [head, head + in_flight) */
	unsigned head, in_flight;
	uint64_t cost_in_flight;
};

struct copy_queue {
	struct device *device;
	const struct driver *driver;
	enum copy_direction kind;
	struct copy_queue_options options;
	struct completions completions;
	struct copy_issue issue;
	struct class urgent, background;
	bool entered; /* the context is current on the thread */

	pthread_t thread;
	bool started;
	pthread_mutex_t lock; /* for what follows */
	pthread_cond_t wake;
	unsigned urgent_taken; /* pieces since one that is not */
	bool stop;
	uint64_t posted; /* copies ever; atomic */
	uint64_t seen;   /* of them, when the thread last took some; the thread's */
};

#define NAME(name, value, text) [value] = text,
static const char *const link_names[HBM_LINKS] = {HBM_LINK_LIST(NAME)};

static enum hbm_link copy_queue_link_of(const struct copy_queue *queue)
{
	static const enum hbm_link links[] = {HBM_LINK_D2D, HBM_LINK_D2H, HBM_LINK_H2D};
	return links[queue->kind];
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

/* After a call that waits for a batch's copies has failed. */
static void copy_queue_fail_parts(struct copy_queue *queue, const struct batch *batch, CUresult r)
{
	bool late = !driver_error_is_sticky(r);

	for (unsigned i = 0; i < batch->count; i++) {
		batch->parts[i].copy->status = HBM_DEVICE;
		batch->parts[i].copy->late |= late;
	}

	if (late)
		device_note_late(queue->device);
}

/* The one to fill and start next. */
static struct batch *copy_queue_next_batch(struct class *class)
{
	return &class->batches[(class->head + class->in_flight) % BATCHES];
}

static void copy_queue_start_batch(struct copy_queue *queue, struct class *class)
{
	struct batch *batch = copy_queue_next_batch(class);

	copy_queue_enter(queue);
	class->in_flight++;
	class->cost_in_flight += batch->cost;
	batch->started_ns = link_stats_begin(queue->options.link_stats, copy_queue_link_of(queue));
	copy_issue_begin(&queue->issue, class->stream);
	for (unsigned i = 0; i < batch->count; i++)
		copy_issue_piece(&queue->issue, batch->parts[i].copy, batch->parts[i].piece);
	copy_issue_end(&queue->issue);
	batch->ways = queue->issue.ways;

	CUresult r = queue->driver->cuEventRecord(batch->event, class->stream);
	if (r == CUDA_SUCCESS)
		return;

	/* Without the event, waiting for the stream is the only way to know that the
	 * copies have completed; waiting for an event that was not recorded again returns
	 * at once. */
	device_failed(queue->device, "cuEventRecord", r);
	r = queue->driver->cuStreamSynchronize(class->stream);
	if (r != CUDA_SUCCESS)
		copy_queue_fail_parts(queue, batch, r);
}

/* A copy that became urgent has pieces on both streams, and any of them may be done last. */
static void copy_queue_end_parts(struct batch *batch)
{
	for (unsigned i = 0; i < batch->count; i++) {
		struct copy *copy = batch->parts[i].copy;

		batch->parts[i].ends = --copy->parts == 0 && !copy->queued;
	}
}

/* Counts the copies that end in a batch, and the bytes of all its pieces. */
static void copy_queue_count_batch(struct copy_queue *queue, const struct batch *batch)
{
	uint64_t count = 0, bytes = 0, errors = 0;

	for (unsigned i = 0; i < batch->count; i++) {
		const struct part *part = &batch->parts[i];
		count += part->ends;
		errors += part->ends && part->copy->status == HBM_DEVICE;
		bytes += part->piece.to.at - part->piece.from.at;
	}

	link_stats_ways(queue->options.link_stats, copy_queue_link_of(queue), &batch->ways);
	link_stats_end(queue->options.link_stats, copy_queue_link_of(queue), queue->device->index,
		       batch->started_ns, count, bytes, errors);
}

static void copy_queue_end_copies(struct copy_queue *queue, const struct batch *batch)
{
	struct post *ended = NULL, **last = &ended;

	for (unsigned i = 0; i < batch->count; i++) {
		struct post *post = &batch->parts[i].copy->post;
		if (!batch->parts[i].ends)
			continue;

		post->next = NULL;
		*last = post;
		last = &post->next;
	}

	if (ended)
		completions_add(&queue->completions, ended);
}

/* Of a class's oldest batch its event says `r`. */
static void copy_queue_finish_batch(struct copy_queue *queue, struct class *class, const char *call,
				    CUresult r)
{
	struct batch *batch = &class->batches[class->head];

	class->head = (class->head + 1) % BATCHES;
	class->in_flight--;
	class->cost_in_flight -= batch->cost;
	if (r != CUDA_SUCCESS) {
		device_failed(queue->device, call, r);
		/* The copies may still run: their memory must not be reused before the
		 * stream is known to be idle. */
		r = queue->driver->cuStreamSynchronize(class->stream);
	}

	if (r != CUDA_SUCCESS)
		copy_queue_fail_parts(queue, batch, r);

	copy_queue_end_parts(batch);
	copy_queue_count_batch(queue, batch);
	copy_queue_end_copies(queue, batch);
}

/* Finishes the batches that are done. Returns whether there were any. */
static bool copy_queue_reap(struct copy_queue *queue, struct class *class)
{
	unsigned before = class->in_flight;

	while (class->in_flight > 0) {
		CUresult r = queue->driver->cuEventQuery(class->batches[class->head].event);
		if (r == CUDA_ERROR_NOT_READY)
			break;
		copy_queue_finish_batch(queue, class, "cuEventQuery", r);
	}

	return class->in_flight < before;
}

static bool copy_queue_reap_all(struct copy_queue *queue)
{
	bool urgent = copy_queue_reap(queue, &queue->urgent);
	bool background = copy_queue_reap(queue, &queue->background);

	return urgent || background;
}

static bool copy_queue_has_new(const struct copy_queue *queue)
{
	return __atomic_load_n(&queue->posted, __ATOMIC_RELAXED) != queue->seen;
}

/* Waits until a batch is done or a copy was posted; once it sleeps, for a batch alone. */
static void copy_queue_await(struct copy_queue *queue)
{
	struct class *class = queue->urgent.in_flight > 0 ? &queue->urgent : &queue->background;
	uint64_t end = clock_now() + SPIN_NS;

	for (uint64_t next = clock_now(); next < end; next += QUERY_NS) {
		if (copy_queue_reap_all(queue) || copy_queue_has_new(queue))
			return;
		while (clock_now() < next + QUERY_NS && !copy_queue_has_new(queue))
			;
	}

	CUresult r = queue->driver->cuEventSynchronize(class->batches[class->head].event);
	copy_queue_finish_batch(queue, class, "cuEventSynchronize", r);
}

static bool copy_queue_may_start(const struct copy_queue *queue, const struct class *class)
{
	return !fair_queue_empty(&class->waiting) && class->in_flight < BATCHES &&
	       class->cost_in_flight < queue->options.in_flight;
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
static uint64_t copy_queue_take_part(struct fair_queue *class, struct part *part)
{
	struct fair_item *item = fair_queue_next(class);
	struct copy *copy = container_of(item, struct copy, item);
	uint64_t cost = item->cost;

	*part = (struct part){.copy = copy, .piece = copy->piece};
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

static bool copy_queue_in_flight(const struct copy_queue *queue)
{
	return queue->urgent.in_flight + queue->background.in_flight > 0;
}

/* Fills the next batch of the class whose turn it is. */
static struct class *copy_queue_fill_batch(struct copy_queue *queue)
{
	struct class *class = copy_queue_next_class(queue);
	if (!class)
		return NULL;

	struct batch *batch = copy_queue_next_batch(class);
	batch->count = 0;
	batch->cost = 0;
	do {
		batch->cost += copy_queue_take_part(&class->waiting, &batch->parts[batch->count++]);
		queue->urgent_taken = class == &queue->urgent ? queue->urgent_taken + 1 : 0;
	} while (batch->count < BATCH_PIECES && batch->cost < BATCH_COST &&
		 copy_queue_next_class(queue) == class);

	return class;
}

/* Takes a batch of pieces; NULL: there are none, or too much is in flight. Waits only if
 * nothing is. */
static struct class *copy_queue_take_batch(struct copy_queue *queue, bool *stopped)
{
	pthread_mutex_lock(&queue->lock);

	while (copy_queue_is_idle(queue) && !copy_queue_in_flight(queue) && !queue->stop)
		pthread_cond_wait(&queue->wake, &queue->lock);

	queue->seen = __atomic_load_n(&queue->posted, __ATOMIC_RELAXED);
	struct class *class = copy_queue_fill_batch(queue);
	*stopped = queue->stop && !class;
	pthread_mutex_unlock(&queue->lock);

	return class;
}

static void *copy_queue_thread(void *arg)
{
	struct copy_queue *queue = arg;
	for (bool stopped = false; !stopped || copy_queue_in_flight(queue);) {
		copy_queue_reap_all(queue);
		struct class *class = copy_queue_take_batch(queue, &stopped);
		if (class)
			copy_queue_start_batch(queue, class);
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

	pthread_mutex_lock(&queue->lock);
	bool idle = copy_queue_is_idle(queue);
	copy->queued = true;
	copy->urgent = urgent;
	fair_queue_push(&class->waiting, &copy->item, copy->payer, cost, whole);
	__atomic_fetch_add(&queue->posted, 1, __ATOMIC_RELAXED);
	pthread_mutex_unlock(&queue->lock);
	if (idle)
		pthread_cond_signal(&queue->wake);
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

static CUresult copy_queue_open_class(const struct driver *driver, struct class *class)
{
	const unsigned flags = CU_EVENT_DISABLE_TIMING | CU_EVENT_BLOCKING_SYNC;
	CUresult r = driver->cuStreamCreate(&class->stream, CU_STREAM_NON_BLOCKING);

	fair_queue_open(&class->waiting, QUANTUM);
	for (unsigned i = 0; i < BATCHES && r == CUDA_SUCCESS; i++)
		r = driver->cuEventCreate(&class->batches[i].event, flags);

	return r;
}

static CUresult copy_queue_open_classes(struct copy_queue *queue)
{
	CUresult r = device_enter(queue->device);
	if (r == CUDA_SUCCESS)
		r = copy_queue_open_class(queue->driver, &queue->urgent);
	if (r == CUDA_SUCCESS)
		r = copy_queue_open_class(queue->driver, &queue->background);

	return r;
}

static void copy_queue_close_class(const struct driver *driver, struct class *class)
{
	for (unsigned i = 0; i < BATCHES; i++)
		if (class->batches[i].event)
			driver->cuEventDestroy(class->batches[i].event);

	if (class->stream)
		driver->cuStreamDestroy(class->stream);
}

int copy_queue_new(struct copy_queue **out, struct device *device, enum copy_direction kind,
		   const struct copy_queue_options *options)
{
	struct copy_queue *queue = calloc(1, sizeof(*queue));
	if (!queue)
		return -ENOMEM;

	queue->device = device;
	queue->driver = device->driver;
	queue->kind = kind;
	queue->options = *options;
	copy_issue_open(&queue->issue, device, kind, &options->issue);
	completions_open(&queue->completions, options->loop);
	pthread_mutex_init(&queue->lock, NULL);
	pthread_cond_init(&queue->wake, NULL);
	CUresult r = copy_queue_open_classes(queue);
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

	copy_queue_close_class(queue->driver, &queue->urgent);
	copy_queue_close_class(queue->driver, &queue->background);
	completions_close(&queue->completions);
	pthread_cond_destroy(&queue->wake);
	pthread_mutex_destroy(&queue->lock);
	free(queue);

	return NULL;
}
