/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/device/copy_stream.h"

#include <assert.h>

/* After a call that waits for a batch's copies has failed. */
static void copy_stream_fail_parts(struct copy_stream *stream, const struct copy_batch *batch,
				   CUresult r)
{
	bool late = !driver_error_is_sticky(r);

	for (unsigned i = 0; i < batch->count; i++) {
		batch->parts[i].copy->status = HBM_DEVICE;
		batch->parts[i].copy->late |= late;
	}

	if (late)
		device_note_late(stream->device);
}

static struct copy_batch *copy_stream_oldest(struct copy_stream *stream)
{
	return &stream->batches[stream->head];
}

uint64_t copy_stream_cost(const struct copy_stream *stream)
{
	return __atomic_load_n(&stream->cost_in_flight, __ATOMIC_RELAXED);
}

static void copy_stream_add_cost(struct copy_stream *stream, uint64_t cost)
{
	__atomic_fetch_add(&stream->cost_in_flight, cost, __ATOMIC_RELAXED);
}

struct copy_batch *copy_stream_next(struct copy_stream *stream)
{
	assert(stream->in_flight < COPY_STREAM_BATCHES);
	return &stream->batches[(stream->head + stream->in_flight) % COPY_STREAM_BATCHES];
}

void copy_stream_start(struct copy_stream *stream)
{
	const struct driver *driver = stream->device->driver;
	struct copy_batch *batch = copy_stream_next(stream);

	stream->in_flight++;
	copy_stream_add_cost(stream, batch->cost);
	batch->started_ns = link_stats_begin(stream->link_stats, stream->link);
	copy_issue_begin(stream->issue, stream->stream);
	for (unsigned i = 0; i < batch->count; i++)
		copy_issue_piece(stream->issue, batch->parts[i].copy, batch->parts[i].piece);
	copy_issue_end(stream->issue);
	batch->ways = stream->issue->ways;
	batch->ways.direct = stream->direct ? batch->count : 0;

	/* An event that was not recorded again would say at once that it is over. */
	CUresult r = driver->cuEventRecord(batch->event, stream->stream);
	batch->unsure = r != CUDA_SUCCESS;
	if (batch->unsure)
		device_failed(stream->device, "cuEventRecord", r);
}

/* A copy that became urgent has pieces on both streams, and any of them may be done last. */
static void copy_stream_end_parts(struct copy_batch *batch)
{
	for (unsigned i = 0; i < batch->count; i++) {
		struct copy *copy = batch->parts[i].copy;

		batch->parts[i].ends = --copy->parts == 0 && !copy->queued;
	}
}

/* Counts the copies that end in a batch, and the bytes of all its pieces. */
static void copy_stream_count(struct copy_stream *stream, const struct copy_batch *batch)
{
	uint64_t count = 0, bytes = 0, errors = 0;

	for (unsigned i = 0; i < batch->count; i++) {
		const struct copy_part *part = &batch->parts[i];
		count += part->ends;
		errors += part->ends && part->copy->status == HBM_DEVICE;
		bytes += part->piece.to.at - part->piece.from.at;
	}

	link_stats_ways(stream->link_stats, stream->link, &batch->ways);
	link_stats_end(stream->link_stats, stream->link, stream->device->index, batch->started_ns,
		       count, bytes, errors);
}

static void copy_stream_end_copies(struct copy_stream *stream, const struct copy_batch *batch)
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
		completions_add(stream->completions, ended);
}

/* Of the oldest batch it is known that its copies have ended; or the stream says `r` and
 * that is all that can be known. */
static void copy_stream_finish(struct copy_stream *stream, CUresult r)
{
	struct copy_batch *batch = copy_stream_oldest(stream);

	stream->head = (stream->head + 1) % COPY_STREAM_BATCHES;
	stream->in_flight--;
	copy_stream_add_cost(stream, -batch->cost);
	if (r != CUDA_SUCCESS)
		copy_stream_fail_parts(stream, batch, r);

	copy_stream_end_parts(batch);
	copy_stream_count(stream, batch);
	copy_stream_end_copies(stream, batch);
}

bool copy_stream_is_unsure(const struct copy_stream *stream)
{
	return stream->in_flight > 0 && stream->batches[stream->head].unsure;
}

bool copy_stream_reap_sure(struct copy_stream *stream)
{
	unsigned before = stream->in_flight;

	while (stream->in_flight > 0 && !copy_stream_is_unsure(stream)) {
		struct copy_batch *batch = copy_stream_oldest(stream);
		CUresult r = stream->device->driver->cuEventQuery(batch->event);
		if (r == CUDA_ERROR_NOT_READY)
			break;

		batch->unsure = r != CUDA_SUCCESS;
		if (batch->unsure)
			device_failed(stream->device, "cuEventQuery", r);
		else
			copy_stream_finish(stream, CUDA_SUCCESS);
	}

	return stream->in_flight < before;
}

/* The copies may still run: their memory must not be reused before the stream is known to
 * be idle. */
bool copy_stream_reap(struct copy_stream *stream)
{
	const struct driver *driver = stream->device->driver;
	bool any = copy_stream_reap_sure(stream);

	while (copy_stream_is_unsure(stream)) {
		copy_stream_finish(stream, driver->cuStreamSynchronize(stream->stream));
		copy_stream_reap_sure(stream);
		any = true;
	}

	return any;
}

uint64_t copy_stream_oldest_ns(const struct copy_stream *stream)
{
	return stream->in_flight > 0 ? stream->batches[stream->head].started_ns : UINT64_MAX;
}

CUresult copy_stream_open(struct copy_stream *stream)
{
	const struct driver *driver = stream->device->driver;
	CUresult r = driver->cuStreamCreate(&stream->stream, CU_STREAM_NON_BLOCKING);

	for (unsigned i = 0; i < COPY_STREAM_BATCHES && r == CUDA_SUCCESS; i++)
		r = driver->cuEventCreate(&stream->batches[i].event, CU_EVENT_DISABLE_TIMING);

	return r;
}

void copy_stream_close(struct copy_stream *stream)
{
	const struct driver *driver = stream->device->driver;

	for (unsigned i = 0; i < COPY_STREAM_BATCHES; i++)
		if (stream->batches[i].event)
			driver->cuEventDestroy(stream->batches[i].event);

	if (stream->stream)
		driver->cuStreamDestroy(stream->stream);
}
