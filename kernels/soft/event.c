/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Events. Each recording of an event is a mark of its own, with a reference from the
 * event (the latest only), from the recording operation, and from each operation that
 * waits for it: a later recording does not change what an earlier wait waits for. An
 * event never recorded counts as done.
 */
#include "kernels/soft/event.h"

#include "kernels/soft/lock.h"
#include "kernels/soft/park.h"
#include "kernels/soft/slots.h"
#include "kernels/soft/stream.h"

#include <stdatomic.h>
#include <stdlib.h>

#define EVENT_FLAGS ((unsigned)CU_EVENT_BLOCKING_SYNC | CU_EVENT_DISABLE_TIMING)
/* how often a waiting stream checks whether it is being aborted */
#define ABORT_CHECK_NS 20000000u

struct mark {
	_Atomic uint32_t done;
	_Atomic uint32_t references;
	_Atomic uint32_t waiters; /* threads that may sleep on done */
	uint64_t ns;              /* when it was done; before done is set */
};

struct event {
	uint64_t name;
	struct device *device;
	unsigned flags;
	struct mark *mark; /* of the latest recording, or NULL */
};

static struct slots names = {.kind = 3};

uint64_t events_live(void)
{
	return names.live;
}

static struct mark *mark_ref(struct mark *mark)
{
	atomic_fetch_add(&mark->references, 1);
	return mark;
}

static struct mark *mark_unref(struct mark *mark)
{
	if (mark != NULL && atomic_fetch_sub(&mark->references, 1) == 1)
		free(mark);
	return NULL;
}

static bool mark_is_done(struct mark *mark)
{
	return atomic_load(&mark->done) != 0;
}

static void mark_set(struct mark *mark)
{
	if (mark_is_done(mark))
		return;
	mark->ns = clock_now();
	atomic_store(&mark->done, 1);
	if (atomic_load(&mark->waiters) != 0)
		park_wake(&mark->done);
}

/* Waits for the mark, or until the stream is aborted; without one, until the context of a
 * device has failed. */
static void mark_wait(struct mark *mark, const struct stream *stream, const struct device *device)
{
	if (park_spin(&mark->done, 0))
		return;

	atomic_fetch_add(&mark->waiters, 1);
	while (!mark_is_done(mark) &&
	       !(stream != NULL ? stream_is_aborted(stream) : device_fault(device) != CUDA_SUCCESS))
		park_sleep(&mark->done, 0, ABORT_CHECK_NS);
	atomic_fetch_sub(&mark->waiters, 1);
}

/* An event of the current context, in *out; table_lock is held. */
static CUresult event_current(CUevent handle, struct event **out)
{
	struct event *event = slots_find(&names, (uint64_t)(uintptr_t)handle);
	struct device *device;
	CUresult result = device_current(&device);

	if (result != CUDA_SUCCESS)
		return result;
	if (event == NULL || event->device != device)
		return CUDA_ERROR_INVALID_HANDLE;

	*out = event;

	return CUDA_SUCCESS;
}

CUresult cuEventCreate(CUevent *out, unsigned int flags)
{
	struct event *event;
	CUresult result;

	CALL_ENTER(cuEventCreate);
	if (out == NULL || (flags & ~EVENT_FLAGS) != 0)
		return CUDA_ERROR_INVALID_VALUE;

	event = calloc(1, sizeof(*event));
	if (event == NULL)
		return CUDA_ERROR_OUT_OF_MEMORY;

	event->flags = flags;
	LOCKED(table_lock);
	result = device_current(&event->device);
	if (result == CUDA_SUCCESS) {
		event->name = slots_add(&names, event);
		result = event->name == 0 ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_SUCCESS;
	}

	if (result != CUDA_SUCCESS) {
		free(event);
		return result;
	}

	event->device->children++;
	*out = (CUevent)(uintptr_t)event->name;

	return CUDA_SUCCESS;
}

CUresult cuEventDestroy(CUevent handle)
{
	struct event *event;
	CUresult result;

	CALL_ENTER(cuEventDestroy);
	LOCKED(table_lock);
	result = event_current(handle, &event);
	if (result != CUDA_SUCCESS)
		return result;

	slots_remove(&names, event->name);
	event->device->children--;
	mark_unref(event->mark);
	free(event);

	return CUDA_SUCCESS;
}

/* ---- Operations ---- */

/* op->value: the event's name. */
static CUresult event_record_hold(struct op *op, struct device *device)
{
	struct event *event = slots_find(&names, op->value);
	struct mark *mark = op->object;

	if (event == NULL || event->device != device)
		return CUDA_ERROR_INVALID_HANDLE;

	mark_unref(event->mark);
	event->mark = mark_ref(mark);

	return CUDA_SUCCESS;
}

static void event_record_run(struct op *op, struct stream *stream)
{
	(void)stream;
	mark_set(op->object);
}

/* Also for a discarded recording, so that no waiter waits forever. */
static void event_record_drop(struct op *op)
{
	mark_set(op->object);
	mark_unref(op->object);
}

CUresult cuEventRecord(CUevent event, CUstream stream)
{
	static const struct op_kind kind = {event_record_hold, event_record_run, event_record_drop};
	struct op op = {.kind = &kind, .value = (uint64_t)(uintptr_t)event, .brief = true};
	struct mark *mark;
	CUresult result;

	CALL_ENTER(cuEventRecord);
	mark = calloc(1, sizeof(*mark));
	if (mark == NULL)
		return CUDA_ERROR_OUT_OF_MEMORY;

	atomic_store(&mark->references, 1); /* the operation's */
	op.object = mark;
	result = stream_submit(stream, &op);
	if (result != CUDA_SUCCESS)
		mark_unref(mark);

	return result;
}

static CUresult event_wait_hold(struct op *op, struct device *device)
{
	struct event *event = slots_find(&names, op->value);

	if (event == NULL || event->device != device)
		return CUDA_ERROR_INVALID_HANDLE;
	op->object = event->mark == NULL ? NULL : mark_ref(event->mark);
	return CUDA_SUCCESS;
}

static void event_wait_run(struct op *op, struct stream *stream)
{
	if (op->object != NULL)
		mark_wait(op->object, stream, NULL);
}

static void event_wait_drop(struct op *op)
{
	op->object = mark_unref(op->object);
}

CUresult cuStreamWaitEvent(CUstream stream, CUevent event, unsigned int flags)
{
	static const struct op_kind kind = {event_wait_hold, event_wait_run, event_wait_drop};
	struct op op = {.kind = &kind, .value = (uint64_t)(uintptr_t)event};

	CALL_ENTER(cuStreamWaitEvent);
	if (flags != 0)
		return CUDA_ERROR_INVALID_VALUE;

	return stream_submit(stream, &op);
}

/* ---- Queries ---- */

/* The latest mark of an event, referred to, in *out; NULL: never recorded. */
static CUresult event_mark(CUevent handle, struct mark **out)
{
	struct event *event;
	CUresult result;

	LOCKED(table_lock);

	result = event_current(handle, &event);
	if (result == CUDA_SUCCESS)
		*out = event->mark == NULL ? NULL : mark_ref(event->mark);

	return result;
}

/* The error of the current context, checked after a mark was seen done, because the marks
 * of a failed context are set too. */
static CUresult event_context_fault(void)
{
	struct device *device;

	LOCKED(table_lock);
	return device_current(&device);
}

CUresult cuEventQuery(CUevent event)
{
	struct mark *mark;
	CUresult result;

	CALL_ENTER(cuEventQuery);
	result = event_mark(event, &mark);
	if (result != CUDA_SUCCESS || mark == NULL)
		return result;

	result = mark_is_done(mark) ? event_context_fault() : CUDA_ERROR_NOT_READY;
	mark_unref(mark);

	return result;
}

CUresult cuEventSynchronize(CUevent event)
{
	struct mark *mark;
	CUresult result;

	CALL_ENTER(cuEventSynchronize);
	result = event_mark(event, &mark);
	if (result != CUDA_SUCCESS || mark == NULL)
		return result;

	mark_wait(mark, NULL, device_of_thread());
	mark_unref(mark);

	return event_context_fault();
}

/* When an event with timing was done, in *ns; table_lock is held. */
static CUresult event_time(CUevent handle, uint64_t *ns)
{
	struct event *event;
	CUresult result = event_current(handle, &event);

	if (result != CUDA_SUCCESS)
		return result;
	if ((event->flags & CU_EVENT_DISABLE_TIMING) != 0 || event->mark == NULL)
		return CUDA_ERROR_INVALID_HANDLE;
	if (!mark_is_done(event->mark))
		return CUDA_ERROR_NOT_READY;

	*ns = event->mark->ns;

	return device_fault(event->device);
}

CUresult cuEventElapsedTime(float *milliseconds, CUevent start, CUevent end)
{
	uint64_t from = 0, to = 0;
	CUresult result;

	CALL_ENTER(cuEventElapsedTime);
	if (milliseconds == NULL)
		return CUDA_ERROR_INVALID_VALUE;

	LOCKED(table_lock);
	result = event_time(start, &from);
	if (result == CUDA_SUCCESS)
		result = event_time(end, &to);
	if (result == CUDA_SUCCESS)
		*milliseconds = (float)((double)(int64_t)(to - from) / 1e6);

	return result;
}

void events_reset(void)
{
	struct event *event;
	uint32_t at = 0;

	while ((event = slots_next(&names, &at)) != NULL) {
		mark_unref(event->mark);
		free(event);
	}

	slots_clear(&names);
}
