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
#define BATCHES 8                   /* in flight at once */
#define IN_FLIGHT_COST (8ull << 20) /* no batch is begun beyond that */
#define QUANTUM (1ull << 20)        /* of a payer's turn */
#define FAIR 8                      /* one piece in so many is not urgent */

/* A piece of a copy that has left its queue. */
struct part {
	struct copy *copy;
	struct copy_piece piece;
	bool last; /* of the copy */
};

struct batch {
	struct part parts[BATCH_PIECES];
	unsigned count;
	uint64_t cost;
	struct link_ways ways; /* how they were issued */
	CUevent event;
	uint64_t started_ns;
};

struct copy_queue {
	struct device *device;
	const struct driver *driver;
	enum copy_direction kind;
	struct copy_queue_options options;
	struct completions completions;
	struct copy_issue issue;
	CUstream stream;
	struct batch batches[BATCHES]; /* a ring: [head, head + in_flight) */
	unsigned head, in_flight;
	uint64_t cost_in_flight;
	bool entered; /* the context is current on the thread */

	pthread_t thread;
	bool started;
	pthread_mutex_t lock; /* for what follows */
	pthread_cond_t wake;
	struct fair_queue urgent, background;
	unsigned taken;
	bool stop;
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

static void copy_queue_start_batch(struct copy_queue *queue, struct batch *batch)
{
	copy_queue_enter(queue);
	queue->in_flight++;
	queue->cost_in_flight += batch->cost;
	batch->started_ns = link_stats_begin(queue->options.link_stats, copy_queue_link_of(queue));
	copy_issue_begin(&queue->issue, queue->stream);
	for (unsigned i = 0; i < batch->count; i++)
		copy_issue_piece(&queue->issue, batch->parts[i].copy, batch->parts[i].piece);
	copy_issue_end(&queue->issue);
	batch->ways = queue->issue.ways;

	CUresult r = queue->driver->cuEventRecord(batch->event, queue->stream);
	if (r == CUDA_SUCCESS)
		return;

	/* Without the event, waiting for the stream is the only way to know that the
	 * copies have completed; waiting for an event that was not recorded again returns
	 * at once. */
	device_failed(queue->device, "cuEventRecord", r);
	r = queue->driver->cuStreamSynchronize(queue->stream);
	if (r != CUDA_SUCCESS)
		copy_queue_fail_parts(queue, batch, r);
}

/* Counts the copies that end in a batch, and the bytes of all its pieces. */
static void copy_queue_count_batch(struct copy_queue *queue, const struct batch *batch)
{
	uint64_t count = 0, bytes = 0, errors = 0;

	for (unsigned i = 0; i < batch->count; i++) {
		const struct part *part = &batch->parts[i];
		count += part->last;
		errors += part->last && part->copy->status == HBM_DEVICE;
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
		if (!batch->parts[i].last)
			continue;

		post->next = NULL;
		*last = post;
		last = &post->next;
	}

	if (ended)
		completions_add(&queue->completions, ended);
}

static void copy_queue_finish_batch(struct copy_queue *queue)
{
	struct batch *batch = &queue->batches[queue->head];

	queue->head = (queue->head + 1) % BATCHES;
	queue->in_flight--;
	queue->cost_in_flight -= batch->cost;
	CUresult r = queue->driver->cuEventSynchronize(batch->event);
	if (r != CUDA_SUCCESS) {
		device_failed(queue->device, "cuEventSynchronize", r);
		/* The copies may still run: their memory must not be reused before the
		 * stream is known to be idle. */
		r = queue->driver->cuStreamSynchronize(queue->stream);
	}

	if (r != CUDA_SUCCESS)
		copy_queue_fail_parts(queue, batch, r);

	copy_queue_count_batch(queue, batch);
	copy_queue_end_copies(queue, batch);
}

/* The queue to serve next; NULL: both are empty. */
static struct fair_queue *copy_queue_next_class(struct copy_queue *queue)
{
	bool background_first = ++queue->taken % FAIR == 0;
	struct fair_queue *first = background_first ? &queue->background : &queue->urgent;
	struct fair_queue *second = background_first ? &queue->urgent : &queue->background;

	if (!fair_queue_empty(first))
		return first;
	return fair_queue_empty(second) ? NULL : second;
}

/* Takes the piece whose turn it is. Returns what it costs. */
static uint64_t copy_queue_take_part(struct fair_queue *class, struct part *part)
{
	struct fair_item *item = fair_queue_next(class);
	struct copy *copy = container_of(item, struct copy, item);
	uint64_t cost = item->cost;

	*part = (struct part){.copy = copy,
			      .piece = copy->piece,
			      .last = copy_piece_is_last(&copy->piece, copy->span_count)};
	copy->queued = !part->last;
	if (part->last)
		fair_queue_take(class, item);
	else
		fair_queue_take_piece(
			class, item,
			copy_piece_advance(&copy->piece, copy->spans, copy->span_count));

	return cost;
}

static bool copy_queue_is_idle(const struct copy_queue *queue)
{
	return fair_queue_empty(&queue->urgent) && fair_queue_empty(&queue->background);
}

/* Takes a batch of pieces, or returns NULL if there are none. Waits only if nothing is in
 * flight. */
static struct batch *copy_queue_take_batch(struct copy_queue *queue, bool *stopped)
{
	struct batch *batch = &queue->batches[(queue->head + queue->in_flight) % BATCHES];

	batch->count = 0;
	batch->cost = 0;
	pthread_mutex_lock(&queue->lock);

	while (copy_queue_is_idle(queue) && queue->in_flight == 0 && !queue->stop)
		pthread_cond_wait(&queue->wake, &queue->lock);

	while (batch->count < BATCH_PIECES && batch->cost < BATCH_COST) {
		struct fair_queue *class = copy_queue_next_class(queue);
		if (!class)
			break;
		batch->cost += copy_queue_take_part(class, &batch->parts[batch->count++]);
	}

	*stopped = queue->stop && batch->count == 0;
	pthread_mutex_unlock(&queue->lock);

	return batch->count > 0 ? batch : NULL;
}

static bool copy_queue_may_start(const struct copy_queue *queue)
{
	return queue->in_flight < BATCHES && queue->cost_in_flight < IN_FLIGHT_COST;
}

static void *copy_queue_thread(void *arg)
{
	struct copy_queue *queue = arg;
	for (bool stopped = false; !stopped || queue->in_flight > 0;) {
		struct batch *batch =
			copy_queue_may_start(queue) ? copy_queue_take_batch(queue, &stopped) : NULL;
		if (batch)
			copy_queue_start_batch(queue, batch);
		else if (queue->in_flight > 0)
			copy_queue_finish_batch(queue);
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
	struct fair_queue *class = urgent ? &queue->urgent : &queue->background;
	uint64_t whole = copy_piece_cost_of_all(copy->bytes, copy->span_count);

	copy->status = HBM_OK;
	copy->late = false;
	copy->post.run = copy_queue_copy_done;
	copy->piece = (struct copy_piece){0};
	uint64_t cost = copy->span_count > 0
				? copy_piece_advance(&copy->piece, copy->spans, copy->span_count)
				: whole;

	pthread_mutex_lock(&queue->lock);
	bool idle = copy_queue_is_idle(queue);
	copy->queued = true;
	copy->urgent = urgent;
	fair_queue_push(class, &copy->item, copy->payer, cost, whole);
	pthread_mutex_unlock(&queue->lock);
	if (idle)
		pthread_cond_signal(&queue->wake);
}

void copy_queue_hasten(struct copy_queue *queue, struct copy *copy, struct fair_payer payer)
{
	pthread_mutex_lock(&queue->lock);

	if (copy->queued && !copy->urgent) {
		uint64_t whole = copy_piece_cost_of_all(copy->bytes, copy->span_count);

		fair_queue_remove(&queue->background, &copy->item);
		fair_queue_push(&queue->urgent, &copy->item, payer, copy->item.cost, whole);
		copy->urgent = true;
	}

	pthread_mutex_unlock(&queue->lock);
}

static CUresult copy_queue_open_stream(struct copy_queue *queue)
{
	const struct driver *driver = queue->driver;
	CUresult r = device_enter(queue->device);
	if (r == CUDA_SUCCESS)
		r = driver->cuStreamCreate(&queue->stream, CU_STREAM_NON_BLOCKING);

	for (unsigned i = 0; i < BATCHES && r == CUDA_SUCCESS; i++)
		r = driver->cuEventCreate(&queue->batches[i].event, CU_EVENT_DISABLE_TIMING);

	return r;
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
	fair_queue_open(&queue->urgent, QUANTUM);
	fair_queue_open(&queue->background, QUANTUM);
	pthread_mutex_init(&queue->lock, NULL);
	pthread_cond_init(&queue->wake, NULL);
	CUresult r = copy_queue_open_stream(queue);
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

	for (unsigned i = 0; i < BATCHES; i++)
		if (queue->batches[i].event)
			queue->driver->cuEventDestroy(queue->batches[i].event);

	if (queue->stream)
		queue->driver->cuStreamDestroy(queue->stream);

	completions_close(&queue->completions);
	pthread_cond_destroy(&queue->wake);
	pthread_mutex_destroy(&queue->lock);
	free(queue);

	return NULL;
}
