/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/device/copy_queue.h"

#include "daemon/base/checksum.h"
#include "daemon/base/list.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define BATCH_COPIES 32
#define BATCH_BYTES                                                                                \
	(512ull << 10) /* small enough to be in the CPU cache when its checksums are computed */
#define BATCHES 8      /* in flight at once */
#define FAIR 8         /* one copy in so many is not urgent */

struct queue {
	struct copy *first, **last;
};

struct batch {
	struct copy *copies;
	CUevent event;
	uint64_t count, bytes, errors, started_ns;
};

struct copy_queue {
	struct device *device;
	const struct driver *driver;
	enum copy_direction kind;
	struct copy_queue_options options;
	void (*batch_done)(void *arg);
	void *arg;
	CUstream stream;
	struct batch batches[BATCHES]; /* a ring: [head, head + in_flight) */
	unsigned head, in_flight;
	bool entered; /* the context is current on the thread */

	pthread_t thread;
	bool started;
	pthread_mutex_t lock; /* for what follows */
	pthread_cond_t wake;
	struct queue urgent, background;
	unsigned taken;
	bool stop;
	struct copy *finished, **finished_last;
	struct post post; /* posted while finished is not empty */
};

static void queue_init(struct queue *queue)
{
	queue->first = NULL;
	queue->last = &queue->first;
}

static void queue_push(struct queue *queue, struct copy *copy)
{
	copy->next = NULL;
	*queue->last = copy;
	queue->last = &copy->next;
}

static struct copy *queue_pop(struct queue *queue)
{
	struct copy *copy = queue->first;
	if (copy) {
		queue->first = copy->next;
		if (!queue->first)
			queue->last = &queue->first;
	}

	return copy;
}

#define NAME(name, value, text) [value] = text,
static const char *const link_names[HBM_LINKS] = {HBM_LINK_LIST(NAME)};

static enum hbm_link copy_queue_link_of(const struct copy_queue *queue)
{
	static const enum hbm_link links[] = {HBM_LINK_D2D, HBM_LINK_D2H, HBM_LINK_H2D};
	return links[queue->kind];
}

/* ---- on the queue's thread ---- */

static CUresult copy_queue_issue_piece(struct copy_queue *queue, const struct copy *copy,
				       uint64_t address, uint64_t at, uint64_t bytes)
{
	const struct driver *driver = queue->driver;
	switch (queue->kind) {
	case COPY_D2H:
		return driver->cuMemcpyDtoHAsync(copy->host + at, address, bytes, queue->stream);
	case COPY_H2D:
		return driver->cuMemcpyHtoDAsync(address, copy->host + at, bytes, queue->stream);
	case COPY_D2D:
		break;
	}

	if (copy->gather)
		return driver->cuMemcpyDtoDAsync(copy->flat + at, address, bytes, queue->stream);
	return driver->cuMemcpyDtoDAsync(address, copy->flat + at, bytes, queue->stream);
}

/* Bytes from host + at to the end of the registration that contains it. */
static uint64_t copy_queue_to_chunk_end(const struct copy_queue *queue, const struct copy *copy,
					uint64_t at)
{
	if (queue->kind == COPY_D2D)
		return UINT64_MAX;
	uint64_t offset = (uint64_t)(copy->host + at - queue->options.ddr_base);
	return queue->options.host_chunk - offset % queue->options.host_chunk;
}

static CUresult copy_queue_issue(struct copy_queue *queue, const struct copy *copy)
{
	uint64_t at = 0;
	for (uint32_t i = 0; i < copy->span_count; i++) {
		uint64_t address = copy->spans[i].address, left = copy->spans[i].bytes;
		while (left > 0) {
			uint64_t bytes = copy_queue_to_chunk_end(queue, copy, at);

			bytes = bytes < left ? bytes : left;
			CUresult r = copy_queue_issue_piece(queue, copy, address, at, bytes);
			if (r != CUDA_SUCCESS)
				return r;

			address += bytes;
			at += bytes;
			left -= bytes;
		}
	}

	return CUDA_SUCCESS;
}

static void copy_queue_start_copy(struct copy_queue *queue, struct copy *copy)
{
	copy->status = HBM_OK;
	if (copy->verify_checksum && checksum(copy->host, copy->bytes) != copy->checksum) {
		copy->status = HBM_MISS;
		return;
	}

	CUresult r = copy_queue_issue(queue, copy);
	if (r != CUDA_SUCCESS) {
		device_failed(queue->device, "cuMemcpyAsync", r);
		copy->status = HBM_DEVICE;
	}
}

/* Retried per batch until it succeeds: a transient failure must not disable the queue. */
static void copy_queue_enter(struct copy_queue *queue)
{
	if (queue->entered)
		return;
	CUresult r = device_enter(queue->device);
	queue->entered = r == CUDA_SUCCESS;
	if (!queue->entered)
		device_failed(queue->device, "cuCtxSetCurrent",
			      r); /* every copy of the batch will fail with it */
}

/* Fails all copies but those that copy nothing: a verification does not need the
 * device. */
static void copy_queue_fail_copies(struct copy *copies)
{
	for (struct copy *copy = copies; copy; copy = copy->next)
		if (copy->span_count > 0)
			copy->status = HBM_DEVICE;
}

static void copy_queue_start_batch(struct copy_queue *queue, struct copy *copies)
{
	copy_queue_enter(queue);
	struct batch *batch = &queue->batches[(queue->head + queue->in_flight++) % BATCHES];
	batch->copies = copies;
	batch->count = batch->bytes = batch->errors = 0;
	batch->started_ns = link_stats_begin(queue->options.link_stats, copy_queue_link_of(queue));
	for (struct copy *copy = copies; copy; copy = copy->next) {
		copy_queue_start_copy(queue, copy);
		batch->count++;
		batch->bytes += copy->span_count > 0 ? copy->bytes : 0;
	}

	CUresult r = queue->driver->cuEventRecord(batch->event, queue->stream);
	if (r == CUDA_SUCCESS)
		return;

	/* Without the event, waiting for the stream is the only way to know that the
	 * copies have completed; waiting for an event that was not recorded again returns
	 * at once. */
	device_failed(queue->device, "cuEventRecord", r);
	if (queue->driver->cuStreamSynchronize(queue->stream) != CUDA_SUCCESS)
		copy_queue_fail_copies(copies);
}

static void copy_queue_hand_over(struct copy_queue *queue, struct copy *copies)
{
	pthread_mutex_lock(&queue->lock);
	bool was_empty = queue->finished == NULL;
	*queue->finished_last = copies;
	while (*queue->finished_last)
		queue->finished_last = &(*queue->finished_last)->next;
	pthread_mutex_unlock(&queue->lock);
	if (was_empty)
		loop_post(queue->options.loop, &queue->post);
}

static void copy_queue_finish_batch(struct copy_queue *queue)
{
	struct batch *batch = &queue->batches[queue->head];

	queue->head = (queue->head + 1) % BATCHES;
	queue->in_flight--;
	CUresult r = queue->driver->cuEventSynchronize(batch->event);
	if (r != CUDA_SUCCESS) {
		device_failed(queue->device, "cuEventSynchronize", r);
		/* The copies may still run: their memory must not be reused before the
		 * stream is known to be idle. */
		r = queue->driver->cuStreamSynchronize(queue->stream);
	}

	if (r != CUDA_SUCCESS)
		copy_queue_fail_copies(batch->copies);

	for (const struct copy *copy = batch->copies; copy; copy = copy->next)
		batch->errors += copy->status == HBM_DEVICE;
	link_stats_end(queue->options.link_stats, copy_queue_link_of(queue), queue->device->index,
		       batch->started_ns, batch->count, batch->bytes, batch->errors);

	for (struct copy *copy = batch->copies; copy; copy = copy->next)
		if (copy->take_checksum && copy->status == HBM_OK)
			copy->checksum = checksum(copy->host, copy->bytes);

	copy_queue_hand_over(queue, batch->copies);
}

static struct copy *copy_queue_next_copy(struct copy_queue *queue)
{
	bool background_first = ++queue->taken % FAIR == 0;
	struct copy *copy = queue_pop(background_first ? &queue->background : &queue->urgent);
	return copy ? copy : queue_pop(background_first ? &queue->urgent : &queue->background);
}

/* Takes a batch of copies, or returns NULL if there are none. Waits only if nothing is in
 * flight. */
static struct copy *copy_queue_take_batch(struct copy_queue *queue, bool *stopped)
{
	struct queue taken;

	queue_init(&taken);
	uint64_t bytes = 0;
	pthread_mutex_lock(&queue->lock);

	while (!queue->urgent.first && !queue->background.first && queue->in_flight == 0 &&
	       !queue->stop)
		pthread_cond_wait(&queue->wake, &queue->lock);

	for (unsigned i = 0; i < BATCH_COPIES && bytes < BATCH_BYTES; i++) {
		struct copy *copy = copy_queue_next_copy(queue);
		if (!copy)
			break;
		bytes += copy->bytes;
		queue_push(&taken, copy);
	}

	*stopped = queue->stop && !taken.first;
	pthread_mutex_unlock(&queue->lock);

	return taken.first;
}

static void *copy_queue_thread(void *arg)
{
	struct copy_queue *queue = arg;
	for (bool stopped = false; !stopped || queue->in_flight > 0;) {
		struct copy *copies =
			queue->in_flight < BATCHES ? copy_queue_take_batch(queue, &stopped) : NULL;
		if (copies)
			copy_queue_start_batch(queue, copies);
		else if (queue->in_flight > 0)
			copy_queue_finish_batch(queue);
	}

	return NULL;
}

/* ---- on the loop thread ---- */

static void copy_queue_deliver(struct post *post)
{
	struct copy_queue *queue = container_of(post, struct copy_queue, post);

	pthread_mutex_lock(&queue->lock);
	struct copy *copy = queue->finished;
	queue->finished = NULL;
	queue->finished_last = &queue->finished;
	pthread_mutex_unlock(&queue->lock);

	while (copy) {
		struct copy *next = copy->next;
		copy->done(copy);
		copy = next;
	}

	if (queue->batch_done)
		queue->batch_done(queue->arg);
}

void copy_queue_on_batch(struct copy_queue *queue, void (*batch_done)(void *arg), void *arg)
{
	queue->batch_done = batch_done;
	queue->arg = arg;
}

void copy_queue_post(struct copy_queue *queue, struct copy *copy, bool urgent)
{
	pthread_mutex_lock(&queue->lock);
	bool idle = !queue->urgent.first && !queue->background.first;
	queue_push(urgent ? &queue->urgent : &queue->background, copy);
	pthread_mutex_unlock(&queue->lock);
	if (idle)
		pthread_cond_signal(&queue->wake);
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
	queue->post.run = copy_queue_deliver;
	queue->finished_last = &queue->finished;
	queue_init(&queue->urgent);
	queue_init(&queue->background);
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

	pthread_cond_destroy(&queue->wake);
	pthread_mutex_destroy(&queue->lock);
	free(queue);

	return NULL;
}
