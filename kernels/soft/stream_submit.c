/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Submitting operations to streams. A brief one on an idle stream is run by the call, in the
 * place of the stream's thread, which begins nothing meanwhile.
 */
#include "kernels/soft/lock.h"
#include "kernels/soft/park.h"
#include "kernels/soft/stream.h"
#include "kernels/soft/stream_state.h"

#include <stdlib.h>

/* Room for one more; table_lock is held. */
static bool stream_submit_grow(struct stream *stream)
{
	struct op *ring;

	if (stream->queued < stream->capacity)
		return true;

	ring = reallocarray(NULL, (size_t)stream->capacity * 2, sizeof(*ring));
	if (ring == NULL)
		return false;

	for (uint32_t i = 0; i < stream->queued; i++)
		ring[i] = stream->ring[(stream->head + i) & (stream->capacity - 1)];
	free(stream->ring);
	stream->ring = ring;
	stream->capacity *= 2;
	stream->head = 0;

	return true;
}

/* Queues the operation; true: the thread sleeps and must be woken, and no other thread has been
 * told so. table_lock is held. */
static bool stream_submit_push(struct stream *stream, const struct op *op)
{
	stream->ring[(stream->head + stream->queued) & (stream->capacity - 1)] = *op;
	stream->queued++;
	stream->submitted++;
	atomic_fetch_add(&stream->pushed, 1);
	return atomic_exchange(&stream->asleep, false);
}

/* What a call costs the other threads of the context. */
static void stream_submit_hold_context(void)
{
	struct device *device = device_of_thread();

	if (device == NULL || device->call_ns == 0)
		return;

	pthread_mutex_lock(&device->call_lock);
	clock_wait_until(clock_now() + device->call_ns);
	pthread_mutex_unlock(&device->call_lock);
}

/* Whether the call may run the operation itself: nothing is before it. table_lock is held. */
static bool stream_submit_may_be_borrowed(const struct stream *stream, const struct op *op)
{
	return op->brief && stream_is_idle(stream) && !stream->borrowed;
}

static void stream_submit_borrow(struct stream *stream)
{
	stream->submitted++;
	stream->references++;
	stream->borrowed = true;
}

/* Runs an operation in the thread's place. */
static void stream_submit_run_borrowed(struct stream *stream, struct op *op)
{
	if (!stream_is_aborted(stream))
		op->kind->run(op, stream);
	stream_finish(stream, op);

	LOCKED(table_lock);
	stream->borrowed = false;
	stream->references--;
	if (stream->queued > 0 || stream->destroyed)
		stream_wake(stream);
}

CUresult stream_submit(CUstream handle, const struct op *op)
{
	struct op held = *op;
	struct stream *stream;
	bool wake = false, borrowed = false;
	CUresult result;

	stream_submit_hold_context();
	pthread_mutex_lock(&table_lock);
	result = stream_current(handle, &stream);
	if (result == CUDA_SUCCESS && !stream_submit_grow(stream))
		result = CUDA_ERROR_OUT_OF_MEMORY;

	if (result == CUDA_SUCCESS) {
		held.device = stream->device;
		if (held.kind->hold != NULL)
			result = held.kind->hold(&held, stream->device);
	}

	if (result == CUDA_SUCCESS) {
		borrowed = stream_submit_may_be_borrowed(stream, &held);
		if (borrowed)
			stream_submit_borrow(stream);
		else
			wake = stream_submit_push(stream, &held);
	}

	pthread_mutex_unlock(&table_lock);
	if (wake)
		park_wake(&stream->pushed);
	else if (borrowed)
		stream_submit_run_borrowed(stream, &held);

	return result;
}
