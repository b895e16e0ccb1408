/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stream: a queue of operations and the thread that runs them in order. Each kind of
 * operation has three functions:
 *
 * 	hold	when it is submitted: checks it, and holds what it uses; under table_lock
 * 	run	on the stream's thread or, if it is brief, in the call; without a lock
 * 	drop	when it has run or was discarded: drops what it held; under table_lock
 *
 * A brief operation on an idle stream is run by the call that submits it: waking the thread
 * would take longer.
 *
 * An operation is done when it has been dropped, so a caller that has waited for a stream
 * may unmap at once. Destroying a stream does not wait for queued operations; they still
 * run. There is no default stream: a NULL stream is refused. When a kernel has ruined a
 * context, the operations queued on its streams are dropped and not run.
 */
#pragma once

#include "kernels/soft/device.h"

#define STREAM_PRIORITY_LEAST 0
#define STREAM_PRIORITY_GREATEST (-5)

struct op;
struct stream;

struct op_kind {
	CUresult (*hold)(struct op *op, struct device *device);
	void (*run)(struct op *op, struct stream *stream);
	void (*drop)(struct op *op);
};

struct op {
	const struct op_kind *kind;
	struct device *device; /* the stream's; set by stream_submit() */
	uint64_t ready;        /* ns: when it could have started; 0: not used */
	uint64_t target, source, bytes, value;
	uint64_t rows, target_pitch, source_pitch; /* of a copy: of `bytes` each */
	unsigned flags;
	bool brief; /* it waits for nothing: on an idle stream the call that submits it runs it */
	void *object;
	CUhostFn function;
};

/* Queues a copy of op. CUDA_ERROR_INVALID_HANDLE: no such stream, or another context's;
 * else what hold() says. */
CUresult stream_submit(CUstream handle, const struct op *op);
/* Whether the stream is being aborted, or its context is ruined: a run() that waits must
 * return. */
bool stream_is_aborted(const struct stream *stream);
/* Whether the library is being torn down, with all streams. */
bool stream_is_torn_down(const struct stream *stream);
/* For run(): when the stream's last timed operation was done by the clock; settable. */
uint64_t *stream_due(struct stream *stream);

void streams_drain(
	const struct device *device); /* waits for what was submitted to the device's streams */
uint64_t streams_live(void);          /* table_lock is held */
void streams_reset(void);             /* aborts and joins all; no lock is held */

/* ---- For stream_submit.c ---- */

/* A stream of the current context, in *out; table_lock is held. */
CUresult stream_current(CUstream handle, struct stream **out);
bool stream_is_idle(const struct stream *stream);
/* There is new work for the thread, or it is to end. */
void stream_wake(struct stream *stream);
/* An operation has run or was discarded. */
void stream_finish(struct stream *stream, struct op *op);
