/* SPDX-License-Identifier: Apache-2.0 */
/*
 * copy_stream: a stream of a copy queue, and the batches of pieces that are in flight on it,
 * in order. It belongs to one thread at a time. Nothing here waits for the device but
 * copy_stream_reap(), and that only when the driver has failed.
 *
 * When the driver fails to say that copies have ended, they are late: it may write their
 * targets and read their sources at any time, so that neither may be used before they are
 * known to be over (device_late.c). A sticky error says so: it has ended all work of the
 * context.
 */
#pragma once

#include "daemon/base/link_stats.h"
#include "daemon/device/copy.h"
#include "daemon/device/copy_issue.h"
#include "daemon/device/device.h"
#include "daemon/loop/completions.h"

#define COPY_STREAM_PIECES 32        /* of a batch */
#define COPY_STREAM_BATCHES 32       /* events; what is in flight bounds them long before */
#define COPY_SPIN_NS UINT64_C(20000) /* about what a sleep and an interrupt cost */

/* A piece of a copy that has left its queue. */
struct copy_part {
	struct copy *copy;
	struct copy_piece piece;
	bool ends; /* no other of the copy is in flight or to come; when its batch is done */
};

struct copy_batch {
	struct copy_part parts[COPY_STREAM_PIECES];
	unsigned count;
	uint64_t cost;
	struct link_ways ways; /* how they were issued */
	CUevent event;
	bool unsure; /* the driver has failed to say whether its copies have ended */
	uint64_t started_ns;
};

struct copy_stream {
	struct device *device;
	enum hbm_link link;
	struct link_stats *link_stats;
	struct copy_issue *issue; /* of both streams of the queue */
	struct completions *completions;
	bool direct; /* it is the loop's (copy_direct.h), for the figures */
	CUstream stream;
	struct copy_batch batches[COPY_STREAM_BATCHES]; /* a ring: [head, head + in_flight) */
	unsigned head, in_flight;
	uint64_t cost_in_flight; /* atomic: others look at it */
};

/* The members before `stream` are set. On the thread, where the context is current. */
CUresult copy_stream_open(struct copy_stream *stream);
void copy_stream_close(struct copy_stream *stream); /* also when opening failed */
/* The batch to fill and start next, if in_flight is less than COPY_STREAM_BATCHES. */
struct copy_batch *copy_stream_next(struct copy_stream *stream);
void copy_stream_start(struct copy_stream *stream);
/* Finishes the batches that are done, up to one that is unsure. Returns whether there were
 * any. */
bool copy_stream_reap_sure(struct copy_stream *stream);
bool copy_stream_is_unsure(const struct copy_stream *stream); /* of the oldest batch */
/* Finishes those too: it waits for the stream. */
bool copy_stream_reap(struct copy_stream *stream);
/* When the oldest batch in flight was started; UINT64_MAX: there is none. */
uint64_t copy_stream_oldest_ns(const struct copy_stream *stream);
uint64_t copy_stream_cost(const struct copy_stream *stream); /* in flight; any thread */
