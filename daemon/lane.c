/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/lane.h"

#include "daemon/checksum.h"
#include "daemon/list.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define BATCH_COPIES 32
#define BATCH_BYTES (512ull << 10) /* still in the cache when its checksums are taken */
#define BATCHES 8                  /* under way at once */
#define FAIR 8                     /* one copy in so many is taken from those nobody waits for */

struct queue {
	struct copy *first, **last;
};

struct batch {
	struct copy *copies;
	CUevent event;
	uint64_t count, bytes, errors, started_ns;
};

struct lane {
	struct device *device;
	const struct driver *driver;
	enum lane_kind kind;
	struct lane_options options;
	void (*batch_done)(void *arg);
	void *arg;
	CUstream stream;
	struct batch batches[BATCHES]; /* a ring: [head, head + under_way) */
	unsigned head, under_way;
	bool entered; /* the context is current on the thread */

	pthread_t thread;
	bool started;
	pthread_mutex_t lock; /* for what follows */
	pthread_cond_t wake;
	struct queue urgent, patient;
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

static enum hbm_hop hop_of(const struct lane *lane)
{
	static const enum hbm_hop hops[] = {HBM_HOP_D2D, HBM_HOP_D2H, HBM_HOP_H2D};
	return hops[lane->kind];
}

/* ---- on the lane's thread ---- */

static CUresult issue_piece(struct lane *lane, const struct copy *copy, uint64_t address, uint64_t at, uint64_t bytes)
{
	const struct driver *driver = lane->driver;
	switch (lane->kind) {
	case LANE_D2H:
		return driver->cuMemcpyDtoHAsync(copy->host + at, address, bytes, lane->stream);
	case LANE_H2D:
		return driver->cuMemcpyHtoDAsync(address, copy->host + at, bytes, lane->stream);
	case LANE_D2D:
		break;
	}
	if (copy->gather)
		return driver->cuMemcpyDtoDAsync(copy->flat + at, address, bytes, lane->stream);
	return driver->cuMemcpyDtoDAsync(address, copy->flat + at, bytes, lane->stream);
}

/* Bytes from host + at to the end of the registration it lies in. */
static uint64_t to_chunk_end(const struct lane *lane, const struct copy *copy, uint64_t at)
{
	if (lane->kind == LANE_D2D)
		return UINT64_MAX;
	uint64_t offset = (uint64_t)(copy->host + at - lane->options.host_base);
	return lane->options.host_chunk - offset % lane->options.host_chunk;
}

static CUresult issue(struct lane *lane, const struct copy *copy)
{
	uint64_t at = 0;
	for (uint32_t i = 0; i < copy->span_count; i++) {
		uint64_t address = copy->spans[i].address, left = copy->spans[i].bytes;
		while (left > 0) {
			uint64_t bytes = to_chunk_end(lane, copy, at);
			bytes = bytes < left ? bytes : left;
			CUresult r = issue_piece(lane, copy, address, at, bytes);
			if (r != CUDA_SUCCESS)
				return r;
			address += bytes;
			at += bytes;
			left -= bytes;
		}
	}
	return CUDA_SUCCESS;
}

static void start_copy(struct lane *lane, struct copy *copy)
{
	copy->status = HBM_OK;
	if (copy->verify_checksum && checksum(copy->host, copy->bytes) != copy->checksum) {
		copy->status = HBM_MISS;
		return;
	}
	CUresult r = issue(lane, copy);
	if (r != CUDA_SUCCESS) {
		device_failed(lane->device, "cuMemcpyAsync", r);
		copy->status = HBM_DEVICE;
	}
}

/* Until it has succeeded once, each batch tries: a passing failure must not cost the lane. */
static void enter(struct lane *lane)
{
	if (lane->entered)
		return;
	CUresult r = device_enter(lane->device);
	lane->entered = r == CUDA_SUCCESS;
	if (!lane->entered)
		device_failed(lane->device, "cuCtxSetCurrent", r); /* every copy of the batch will say so too */
}

/* All but those that copy nothing: a verification has no need of the device. */
static void fail_copies(struct copy *copies)
{
	for (struct copy *copy = copies; copy; copy = copy->next)
		if (copy->span_count > 0)
			copy->status = HBM_DEVICE;
}

static void start_batch(struct lane *lane, struct copy *copies)
{
	enter(lane);
	struct batch *batch = &lane->batches[(lane->head + lane->under_way++) % BATCHES];
	batch->copies = copies;
	batch->count = batch->bytes = batch->errors = 0;
	batch->started_ns = activity_begin(lane->options.activity, hop_of(lane));
	for (struct copy *copy = copies; copy; copy = copy->next) {
		start_copy(lane, copy);
		batch->count++;
		batch->bytes += copy->span_count > 0 ? copy->bytes : 0;
	}
	CUresult r = lane->driver->cuEventRecord(batch->event, lane->stream);
	if (r == CUDA_SUCCESS)
		return;
	/* Without the event the only way to know that the copies are over is to wait for the stream; waiting for an
	 * event that was not recorded again returns at once. */
	device_failed(lane->device, "cuEventRecord", r);
	if (lane->driver->cuStreamSynchronize(lane->stream) != CUDA_SUCCESS)
		fail_copies(copies);
}

static void hand_over(struct lane *lane, struct copy *copies)
{
	pthread_mutex_lock(&lane->lock);
	bool was_empty = lane->finished == NULL;
	*lane->finished_last = copies;
	while (*lane->finished_last)
		lane->finished_last = &(*lane->finished_last)->next;
	pthread_mutex_unlock(&lane->lock);
	if (was_empty)
		loop_post(lane->options.loop, &lane->post);
}

static void finish_batch(struct lane *lane)
{
	struct batch *batch = &lane->batches[lane->head];
	lane->head = (lane->head + 1) % BATCHES;
	lane->under_way--;
	CUresult r = lane->driver->cuEventSynchronize(batch->event);
	if (r != CUDA_SUCCESS) {
		device_failed(lane->device, "cuEventSynchronize", r);
		/* The copies may still be running: their memory must not be reused before the stream is known idle. */
		r = lane->driver->cuStreamSynchronize(lane->stream);
	}
	if (r != CUDA_SUCCESS)
		fail_copies(batch->copies);
	for (const struct copy *copy = batch->copies; copy; copy = copy->next)
		batch->errors += copy->status == HBM_DEVICE;
	activity_end(lane->options.activity, hop_of(lane), lane->device->index, batch->started_ns, batch->count,
		     batch->bytes, batch->errors);
	for (struct copy *copy = batch->copies; copy; copy = copy->next)
		if (copy->take_checksum && copy->status == HBM_OK)
			copy->checksum = checksum(copy->host, copy->bytes);
	hand_over(lane, batch->copies);
}

static struct copy *next_copy(struct lane *lane)
{
	bool patient_first = ++lane->taken % FAIR == 0;
	struct copy *copy = queue_pop(patient_first ? &lane->patient : &lane->urgent);
	return copy ? copy : queue_pop(patient_first ? &lane->urgent : &lane->patient);
}

/* A batch's worth of copies, or NULL when there is none; waits only if nothing is under way. */
static struct copy *take_batch(struct lane *lane, bool *stopped)
{
	struct queue taken;
	queue_init(&taken);
	uint64_t bytes = 0;
	pthread_mutex_lock(&lane->lock);
	while (!lane->urgent.first && !lane->patient.first && lane->under_way == 0 && !lane->stop)
		pthread_cond_wait(&lane->wake, &lane->lock);
	for (unsigned i = 0; i < BATCH_COPIES && bytes < BATCH_BYTES; i++) {
		struct copy *copy = next_copy(lane);
		if (!copy)
			break;
		bytes += copy->bytes;
		queue_push(&taken, copy);
	}
	*stopped = lane->stop && !taken.first;
	pthread_mutex_unlock(&lane->lock);
	return taken.first;
}

static void *lane_thread(void *arg)
{
	struct lane *lane = arg;
	for (bool stopped = false; !stopped || lane->under_way > 0;) {
		struct copy *copies = lane->under_way < BATCHES ? take_batch(lane, &stopped) : NULL;
		if (copies)
			start_batch(lane, copies);
		else if (lane->under_way > 0)
			finish_batch(lane);
	}
	return NULL;
}

/* ---- on the loop thread ---- */

static void deliver(struct post *post)
{
	struct lane *lane = container_of(post, struct lane, post);
	pthread_mutex_lock(&lane->lock);
	struct copy *copy = lane->finished;
	lane->finished = NULL;
	lane->finished_last = &lane->finished;
	pthread_mutex_unlock(&lane->lock);
	while (copy) {
		struct copy *next = copy->next;
		copy->done(copy);
		copy = next;
	}
	if (lane->batch_done)
		lane->batch_done(lane->arg);
}

void lane_on_batch(struct lane *lane, void (*batch_done)(void *arg), void *arg)
{
	lane->batch_done = batch_done;
	lane->arg = arg;
}

void lane_post(struct lane *lane, struct copy *copy, bool urgent)
{
	pthread_mutex_lock(&lane->lock);
	bool idle = !lane->urgent.first && !lane->patient.first;
	queue_push(urgent ? &lane->urgent : &lane->patient, copy);
	pthread_mutex_unlock(&lane->lock);
	if (idle)
		pthread_cond_signal(&lane->wake);
}

static CUresult open_stream(struct lane *lane)
{
	const struct driver *driver = lane->driver;
	CUresult r = device_enter(lane->device);
	if (r == CUDA_SUCCESS)
		r = driver->cuStreamCreate(&lane->stream, CU_STREAM_NON_BLOCKING);
	for (unsigned i = 0; i < BATCHES && r == CUDA_SUCCESS; i++)
		r = driver->cuEventCreate(&lane->batches[i].event, CU_EVENT_DISABLE_TIMING);
	return r;
}

int lane_new(struct lane **out, struct device *device, enum lane_kind kind, const struct lane_options *options)
{
	struct lane *lane = calloc(1, sizeof(*lane));
	if (!lane)
		return -ENOMEM;
	lane->device = device;
	lane->driver = device->driver;
	lane->kind = kind;
	lane->options = *options;
	lane->post.run = deliver;
	lane->finished_last = &lane->finished;
	queue_init(&lane->urgent);
	queue_init(&lane->patient);
	pthread_mutex_init(&lane->lock, NULL);
	pthread_cond_init(&lane->wake, NULL);
	CUresult r = open_stream(lane);
	if (r != CUDA_SUCCESS) {
		device_failed(device, "creating a copy stream", r);
		lane_free(lane);
		return -EIO;
	}
	int error = pthread_create(&lane->thread, NULL, lane_thread, lane);
	if (error != 0) {
		lane_free(lane);
		return -error;
	}
	lane->started = true;
	static const char *const names[] = {"d2d", "d2h", "h2d"};
	pthread_setname_np(lane->thread, names[kind]);
	*out = lane;
	return 0;
}

struct lane *lane_free(struct lane *lane)
{
	if (!lane)
		return NULL;
	if (lane->started) {
		pthread_mutex_lock(&lane->lock);
		lane->stop = true;
		pthread_mutex_unlock(&lane->lock);
		pthread_cond_signal(&lane->wake);
		pthread_join(lane->thread, NULL);
	}
	device_enter(lane->device);
	for (unsigned i = 0; i < BATCHES; i++)
		if (lane->batches[i].event)
			lane->driver->cuEventDestroy(lane->batches[i].event);
	if (lane->stream)
		lane->driver->cuStreamDestroy(lane->stream);
	pthread_cond_destroy(&lane->wake);
	pthread_mutex_destroy(&lane->lock);
	free(lane);
	return NULL;
}
