/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams: creating, waiting, destroying, and the thread.
 *
 * A destroyed stream stays in the list until its thread has ended and nothing waits for
 * it. Then the next call reaps it: joins the thread and frees the stream.
 */
#include "kernels/soft/stream.h"

#include "kernels/soft/lock.h"
#include "kernels/soft/park.h"
#include "kernels/soft/slots.h"
#include "kernels/soft/stream_state.h"

#include <stdlib.h>
#include <sys/prctl.h>

/* how often a waiting call checks whether its context has failed */
#define FAULT_CHECK_NS 20000000u

static struct slots names = {.kind = 2};
static struct stream *streams;

static struct stream *stream_find(CUstream handle)
{
	return slots_find(&names, (uint64_t)(uintptr_t)handle);
}

bool stream_is_aborted(const struct stream *stream)
{
	return atomic_load(&stream->aborted) || device_fault(stream->device) != CUDA_SUCCESS;
}

bool stream_is_torn_down(const struct stream *stream)
{
	return atomic_load(&stream->aborted);
}

uint64_t *stream_due(struct stream *stream)
{
	return &stream->due;
}

uint64_t streams_live(void)
{
	return names.live;
}

/* ---- The thread ---- */

/* The next operation, in *op; table_lock is held. */
static bool stream_pop(struct stream *stream, struct op *op)
{
	if (stream->queued == 0 || stream->borrowed)
		return false;

	*op = stream->ring[stream->head];
	stream->head = (stream->head + 1) & (stream->capacity - 1);
	stream->queued--;

	return true;
}

static void stream_wait_for_work(struct stream *stream, uint32_t seen)
{
	if (park_spin(&stream->pushed, seen))
		return;
	atomic_store(&stream->asleep, true);
	if (atomic_load(&stream->pushed) == seen)
		park_sleep(&stream->pushed, seen, 0);
	atomic_store(&stream->asleep, false);
}

/* Waits for the next operation; false: the stream is destroyed and there is none. */
static bool stream_next(struct stream *stream, struct op *op)
{
	for (;;) {
		uint32_t seen = atomic_load(&stream->pushed);
		bool end;

		pthread_mutex_lock(&table_lock);

		if (stream_pop(stream, op)) {
			pthread_mutex_unlock(&table_lock);
			return true;
		}

		end = stream->ended = stream->destroyed && !stream->borrowed;
		pthread_mutex_unlock(&table_lock);
		if (end)
			return false;

		stream_wait_for_work(stream, seen);
	}
}

void stream_finish(struct stream *stream, struct op *op)
{
	if (op->kind->drop != NULL) {
		LOCKED(table_lock);
		op->kind->drop(op);
	}

	atomic_fetch_add(&stream->finished, 1);
	if (atomic_load(&stream->waiters) != 0)
		park_wake(&stream->finished);
}

static void *stream_main(void *argument)
{
	struct stream *stream = argument;
	struct op op;

	/* Timed copies sleep for microseconds; the default slack of 50 would show. */
	prctl(PR_SET_TIMERSLACK, 1000, 0, 0, 0);

	while (stream_next(stream, &op)) {
		if (!stream_is_aborted(stream))
			op.kind->run(&op, stream);
		stream_finish(stream, &op);
	}

	return NULL;
}

/* ---- Creating and destroying ---- */

static void stream_free(struct stream *stream)
{
	free(stream->ring);
	free(stream);
}

/* Unlinks one stream that can be reaped; NULL if there is none. table_lock is held. */
static struct stream *stream_unlink_ended(void)
{
	for (struct stream **at = &streams; *at != NULL; at = &(*at)->next) {
		struct stream *stream = *at;

		if (stream->ended && stream->references == 0) {
			*at = stream->next;
			return stream;
		}
	}
	return NULL;
}

/* Joins and frees all streams that have ended. No lock is held, because an ending thread
 * may still need one. */
static void stream_reap(void)
{
	for (;;) {
		struct stream *stream;

		pthread_mutex_lock(&table_lock);
		stream = stream_unlink_ended();
		pthread_mutex_unlock(&table_lock);
		if (stream == NULL)
			return;

		pthread_join(stream->thread, NULL);
		stream_free(stream);
	}
}

void stream_wake(struct stream *stream)
{
	atomic_fetch_add(&stream->pushed, 1);
	park_wake(&stream->pushed);
}

static struct stream *stream_new(struct device *device)
{
	struct stream *stream = calloc(1, sizeof(*stream));

	if (stream == NULL)
		return NULL;

	stream->device = device;
	stream->capacity = 64;
	stream->ring = calloc(stream->capacity, sizeof(*stream->ring));
	stream->name = stream->ring == NULL ? 0 : slots_add(&names, stream);
	if (stream->name == 0) {
		stream_free(stream);
		return NULL;
	}

	return stream;
}

/* Creates a stream of the current context; table_lock is held. */
static CUresult stream_create(CUstream *out)
{
	struct device *device;
	struct stream *stream;
	CUresult result = device_current(&device);

	if (result != CUDA_SUCCESS)
		return result;

	stream = stream_new(device);
	if (stream == NULL)
		return CUDA_ERROR_OUT_OF_MEMORY;

	if (pthread_create(&stream->thread, NULL, stream_main, stream) != 0) {
		slots_remove(&names, stream->name);
		stream_free(stream);
		return CUDA_ERROR_OPERATING_SYSTEM;
	}

	stream->next = streams;
	streams = stream;
	device->children++;
	*out = (CUstream)(uintptr_t)stream->name;

	return CUDA_SUCCESS;
}

static CUresult stream_create_checked(CUstream *stream, unsigned flags, int priority)
{
	/* On the real driver a stream of CU_STREAM_DEFAULT waits for stream 0, which
	 * there is none of here. */
	if (stream == NULL || flags > CU_STREAM_NON_BLOCKING || priority > STREAM_PRIORITY_LEAST ||
	    priority < STREAM_PRIORITY_GREATEST)
		return CUDA_ERROR_INVALID_VALUE;

	stream_reap();
	LOCKED(table_lock);
	return stream_create(stream);
}

CUresult cuStreamCreate(CUstream *stream, unsigned int flags)
{
	CALL_ENTER(cuStreamCreate);
	return stream_create_checked(stream, flags, STREAM_PRIORITY_LEAST);
}

CUresult cuStreamCreateWithPriority(CUstream *stream, unsigned int flags, int priority)
{
	CALL_ENTER(cuStreamCreateWithPriority);
	return stream_create_checked(stream, flags, priority);
}

CUresult stream_current(CUstream handle, struct stream **out)
{
	struct stream *stream = stream_find(handle);
	struct device *device;
	CUresult result = device_current(&device);

	if (result != CUDA_SUCCESS)
		return result;
	if (stream == NULL || stream->device != device)
		return CUDA_ERROR_INVALID_HANDLE;

	*out = stream;

	return CUDA_SUCCESS;
}

/* From now on the stream cannot be found; its thread ends when the queue is empty.
 * table_lock is held. */
static void stream_mark_destroyed(struct stream *stream)
{
	slots_remove(&names, stream->name);
	stream->device->children--;
	stream->destroyed = true;
	stream_wake(stream);
}

/* Waits until `target` operations were finished, or the context has failed: what runs may
 * then go on. The caller holds a reference. */
static void stream_wait(struct stream *stream, uint32_t target)
{
	for (;;) {
		uint32_t finished = atomic_load(&stream->finished);

		if ((int32_t)(finished - target) >= 0)
			return;
		if (park_spin(&stream->finished, finished))
			continue;

		if (device_fault(stream->device) != CUDA_SUCCESS)
			return;

		atomic_fetch_add(&stream->waiters, 1);
		park_sleep(&stream->finished, finished, FAULT_CHECK_NS);
		atomic_fetch_sub(&stream->waiters, 1);
	}
}

bool stream_is_idle(const struct stream *stream)
{
	return stream->submitted == atomic_load(&stream->finished);
}

/* table_lock is held. */
static void stream_unlink(struct stream *stream)
{
	struct stream **at = &streams;

	while (*at != stream)
		at = &(*at)->next;
	*at = stream->next;
}

/* Unlinks an idle stream, which the caller then joins and frees, so that its thread and
 * its mappings are gone when cuStreamDestroy() returns. */
static bool stream_unlink_idle(struct stream *stream)
{
	if (!stream_is_idle(stream) || stream->references != 0)
		return false;
	stream_unlink(stream);
	return true;
}

CUresult cuStreamDestroy(CUstream handle)
{
	struct stream *stream;
	CUresult result;
	bool taken = false;

	CALL_ENTER(cuStreamDestroy);
	pthread_mutex_lock(&table_lock);
	result = stream_current(handle, &stream);
	if (result == CUDA_SUCCESS) {
		taken = stream_unlink_idle(stream);
		stream_mark_destroyed(stream);
	}

	pthread_mutex_unlock(&table_lock);

	if (taken) {
		pthread_join(stream->thread, NULL);
		stream_free(stream);
	}

	stream_reap();

	return result;
}

CUresult cuStreamQuery(CUstream handle)
{
	struct stream *stream;
	CUresult result;

	CALL_ENTER(cuStreamQuery);
	LOCKED(table_lock);
	result = stream_current(handle, &stream);
	if (result != CUDA_SUCCESS)
		return result;

	/* In this order: the streams of a failed context become idle too. */
	return stream_is_idle(stream) ? device_fault(stream->device) : CUDA_ERROR_NOT_READY;
}

/* Waits for what is submitted to the stream now; table_lock is held, and released
 * meanwhile. */
static void stream_drain(struct stream *stream)
{
	uint32_t target = stream->submitted;

	stream->references++;
	pthread_mutex_unlock(&table_lock);
	stream_wait(stream, target);
	pthread_mutex_lock(&table_lock);
	stream->references--;
}

CUresult cuStreamSynchronize(CUstream handle)
{
	struct stream *stream;
	CUresult result;

	CALL_ENTER(cuStreamSynchronize);
	LOCKED(table_lock);
	result = stream_current(handle, &stream);
	if (result != CUDA_SUCCESS)
		return result;

	stream_drain(stream);

	return device_fault(stream->device);
}

void streams_drain(const struct device *device)
{
	LOCKED(table_lock);
	/* A stream that is waited for stays in the list, so this pointer stays valid. */
	for (struct stream *stream = streams; stream != NULL; stream = stream->next)
		if (stream->device == device)
			stream_drain(stream);
}

/* ---- Tearing down ---- */

static void stream_abort_all(void)
{
	LOCKED(table_lock);
	for (struct stream *stream = streams; stream != NULL; stream = stream->next) {
		atomic_store(&stream->aborted, true);
		if (!stream->destroyed)
			stream_mark_destroyed(stream);
	}
}

void streams_reset(void)
{
	struct stream *stream, *next;

	stream_abort_all();

	for (stream = streams; stream != NULL; stream = next) {
		next = stream->next;
		pthread_join(stream->thread, NULL);
		stream_free(stream);
	}

	streams = NULL;
	slots_clear(&names);
}
