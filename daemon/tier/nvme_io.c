/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/tier/nvme_io.h"

#include "daemon/base/list.h"
#include "daemon/base/log.h"
#include "daemon/tier/nvme_hold.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PIECES 512 /* buffers of one I/O: fewer than IOV_MAX, and 2 MiB of 4 KiB blocks */
#define RETRIES 3  /* of an I/O that failed with EINTR or EAGAIN */

/* One I/O: operations that are neighbours, in the order of their offsets; or a piece of one
 * that is larger than an I/O. */
struct run {
	struct loop_io io;
	struct nvme_io *nvme_io;
	struct run *next_free;
	struct nvme_op *first, *last; /* by next */
	uint64_t skip;                /* bytes of the first before the piece */
	uint64_t offset, bytes, moved;
	unsigned retries, ops;
	uint64_t started_ns;
	struct nvme_watched watched;
	struct nvme_held held;
	int64_t result; /* while it is held */
	struct iovec iov[PIECES];
};

struct nvme_io {
	struct nvme_io_options options;
	void (*batch_done)(void *arg);
	void *arg;
	struct nvme_queue queue;
	struct nvme_op *retries; /* of a failed run, each alone: they go before the queue */
	struct nvme_flight flight;
	struct run *runs, *free_runs; /* as many as may ever be in flight */
	struct nvme_faults faults;
	struct nvme_hold hold;
	struct nvme_watch watch;
	struct log_quota log;
};

/* ---- one I/O ---- */

/* Points the vector at the bytes that are not moved yet. */
static void nvme_io_set_vector(struct run *run)
{
	uint64_t skip = run->moved;
	unsigned count = 0;

	for (struct nvme_op *op = run->first; op; op = op->next) {
		uint64_t op_bytes = run->ops == 1 ? run->bytes : op->bytes;
		if (skip >= op_bytes) {
			skip -= op_bytes;
			continue;
		}

		char *memory = op->memory + run->skip + skip;
		uint64_t bytes = op_bytes - skip;
		skip = 0;
		struct iovec *last = count > 0 ? &run->iov[count - 1] : NULL;
		if (last && (char *)last->iov_base + last->iov_len == memory)
			last->iov_len += bytes;
		else
			run->iov[count++] = (struct iovec){memory, bytes};
	}

	run->io.iov_count = count;
	run->io.offset = run->nvme_io->options.start + run->offset + run->moved;
}

static void nvme_io_issue(struct run *run)
{
	nvme_io_set_vector(run);
	run->watched.write = run->io.write;
	nvme_watch_begin(&run->nvme_io->watch, &run->watched);
	loop_io(run->nvme_io->options.loop, &run->io);
}

static enum hbm_link nvme_io_link_of(const struct run *run)
{
	return run->io.write ? HBM_LINK_NVME_WRITE : HBM_LINK_NVME_READ;
}

/* An I/O of the operation has ended. */
static void nvme_io_end_part(struct nvme_op *op, int error)
{
	op->runs--;
	if (op->error == 0)
		op->error = error;
	if (op->runs == 0 && op->begun == op->bytes)
		op->done(op);
}

static void nvme_io_end_run(struct run *run, int error)
{
	struct nvme_io *nvme_io = run->nvme_io;
	struct nvme_op *op = run->first;

	link_stats_end(nvme_io->options.link_stats, nvme_io_link_of(run), 0, run->started_ns,
		       run->ops, run->bytes, error < 0);
	nvme_flight_end(&nvme_io->flight, run->bytes, error < 0 ? 0 : run->bytes, clock_now());
	run->next_free = nvme_io->free_runs;
	nvme_io->free_runs = run;

	while (op) {
		struct nvme_op *next = op->next;
		nvme_io_end_part(op, error);
		op = next;
	}

	if (nvme_io->batch_done)
		nvme_io->batch_done(nvme_io->arg);
}

/* Splits a failed run: each of its operations is retried alone. The first keeps this run,
 * the rest are queued again. */
static void nvme_io_split(struct run *run)
{
	struct nvme_io *nvme_io = run->nvme_io;
	struct nvme_op *rest = run->first->next;

	for (struct nvme_op *op = rest; op; op = op->next) {
		op->alone = true;
		op->begun = 0;
		op->runs--;
	}

	run->last->next = nvme_io->retries;
	nvme_io->retries = rest;
	nvme_flight_shorten(&nvme_io->flight, run->bytes - run->first->bytes);
	run->first->next = NULL;
	run->last = run->first;
	run->ops = 1;
	run->bytes = run->first->bytes;
	run->moved = 0;
	run->retries = 0;
	nvme_io_issue(run);
}

/* Handles every result of an I/O. */
static void nvme_io_answered(struct run *run, int64_t result)
{
	nvme_watch_end(&run->nvme_io->watch, &run->watched);

	bool transient = result == -EINTR || result == -EAGAIN;
	if (transient && run->retries++ < RETRIES) {
		nvme_io_issue(run);
		return;
	}

	if (result > 0) {
		run->moved += (uint64_t)result;

		/* O_DIRECT can continue only at an aligned offset: the rest beyond it is
		 * moved again. */
		run->moved -= run->moved % 4096;
		if (run->moved >= run->bytes) {
			nvme_io_end_run(run, 0);
			return;
		}

		if (result >= 4096 || run->retries++ < RETRIES) {
			nvme_io_issue(run);
			return;
		}
	}

	int error = result < 0 ? (int)result : -EIO; /* 0: the file ends before its size */

	if (run->ops > 1) {
		nvme_io_split(run);
		return;
	}

	if (log_quota(&run->nvme_io->log))
		log_error("nvme: %s of %llu bytes at offset %llu failed: %s",
			  run->io.write ? "write" : "read", (unsigned long long)run->bytes,
			  (unsigned long long)run->offset, strerror(-error));

	nvme_io_end_run(run, error);
}

static void nvme_io_released(struct nvme_held *held)
{
	struct run *run = container_of(held, struct run, held);
	nvme_io_answered(run, run->result);
}

static void nvme_io_completed(struct loop_io *io)
{
	struct run *run = container_of(io, struct run, io);
	struct nvme_io *nvme_io = run->nvme_io;
	struct nvme_outcome outcome = nvme_faults_apply(&nvme_io->faults, io->write, io->result);

	run->result = outcome.result;
	if (!nvme_hold_back(&nvme_io->hold, &run->held, &outcome))
		nvme_io_answered(run, run->result);
}

/* ---- from queues to I/Os ---- */

/* Whether an operation is the run's neighbour and may join it. */
static bool nvme_io_joins(const struct run *run, const struct nvme_op *op, uint64_t merge)
{
	if (!op || op->alone || run->first->alone || run->bytes + op->bytes > merge ||
	    run->bytes < run->first->bytes || run->skip > 0 || run->ops == PIECES)
		return false;
	return op->offset == run->offset + run->bytes || op->offset + op->bytes == run->offset;
}

static void nvme_io_join(struct run *run, struct nvme_op *op)
{
	if (op->offset > run->offset) {
		run->last->next = op;
		run->last = op;
	} else {
		op->next = run->first;
		run->first = op;
		run->offset = op->offset;
	}

	run->bytes += op->bytes;
	run->ops++;
}

/* A run of one operation, or of the piece of it that begins at `skip`. */
static struct run *nvme_io_new_run(struct nvme_io *nvme_io, struct nvme_op *op, uint64_t skip,
				   uint64_t bytes)
{
	struct run *run = nvme_io->free_runs;

	nvme_io->free_runs = run->next_free;
	op->next = NULL;
	run->first = run->last = op;
	run->ops = 1;
	run->skip = skip;
	run->offset = op->offset + skip;
	run->bytes = bytes;
	run->moved = 0;
	run->retries = 0;
	run->io.write = op->write;

	return run;
}

static void nvme_io_start_run(struct run *run)
{
	struct nvme_io *nvme_io = run->nvme_io;

	nvme_flight_begin(&nvme_io->flight, run->bytes);
	run->started_ns = link_stats_begin(nvme_io->options.link_stats, nvme_io_link_of(run));
	nvme_io_issue(run);
}

static void nvme_io_start_retry(struct nvme_io *nvme_io)
{
	struct nvme_op *op = nvme_io->retries;

	nvme_io->retries = op->next;
	op->begun = op->bytes;
	op->runs++;
	nvme_io_start_run(nvme_io_new_run(nvme_io, op, 0, op->bytes));
}

/* Starts an I/O of the operation whose turn it is and, as long as they are its neighbours, of
 * those that follow. */
static void nvme_io_start_next(struct nvme_io *nvme_io, struct fair_queue *waiting)
{
	struct nvme_queue *queue = &nvme_io->queue;
	struct nvme_op *op = nvme_queue_first(waiting);
	uint64_t skip = op->begun;
	struct run *run = nvme_io_new_run(nvme_io, op, skip, nvme_queue_take(queue, waiting, op));

	while (nvme_io_joins(run, op = nvme_queue_first(waiting), nvme_io->options.merge)) {
		nvme_queue_take(queue, waiting, op);
		op->next = NULL;
		nvme_io_join(run, op);
	}

	nvme_io_start_run(run);
}

static bool nvme_io_may_start(const struct nvme_io *nvme_io)
{
	return nvme_flight_has_room(&nvme_io->flight) && !nvme_io->watch.silent;
}

void nvme_io_on_batch(struct nvme_io *nvme_io, void (*batch_done)(void *arg), void *arg)
{
	nvme_io->batch_done = batch_done;
	nvme_io->arg = arg;
}

const struct nvme_watch *nvme_io_watch(const struct nvme_io *nvme_io)
{
	return &nvme_io->watch;
}

const struct nvme_flight *nvme_io_flight(const struct nvme_io *nvme_io)
{
	return &nvme_io->flight;
}

void nvme_io_submit(struct nvme_io *nvme_io, struct nvme_op *op, bool urgent)
{
	op->error = 0;
	op->begun = 0;
	op->runs = 0;
	op->alone = false;
	nvme_queue_push(&nvme_io->queue, op, urgent);
}

void nvme_io_hasten(struct nvme_io *nvme_io, struct nvme_op *op, struct fair_payer payer)
{
	if (!op->urgent && !op->alone && op->begun < op->bytes)
		nvme_queue_hasten(&nvme_io->queue, op, payer);
}

/* Ends an operation that is not to be begun, or not further: now, or with its last I/O. */
static void nvme_io_cancel(struct nvme_op *op)
{
	op->error = -ECANCELED;
	op->begun = op->bytes;
	if (op->runs == 0)
		op->done(op);
}

/* Fails what is queued: the disk is silent. */
static void nvme_io_cancel_queued(struct nvme_io *nvme_io)
{
	bool any = nvme_io->retries;

	while (nvme_io->retries) {
		struct nvme_op *op = nvme_io->retries;
		nvme_io->retries = op->next;
		nvme_io_cancel(op);
	}

	for (struct nvme_op *op; (op = nvme_queue_cancel(&nvme_io->queue)); any = true)
		nvme_io_cancel(op);

	if (any && nvme_io->batch_done)
		nvme_io->batch_done(nvme_io->arg);
}

static void nvme_io_start_what_may(struct nvme_io *nvme_io)
{
	while (nvme_io_may_start(nvme_io)) {
		if (nvme_io->retries) {
			nvme_io_start_retry(nvme_io);
			continue;
		}

		struct fair_queue *waiting = nvme_queue_next(&nvme_io->queue);
		if (!waiting)
			return;
		nvme_io_start_next(nvme_io, waiting);
	}
}

void nvme_io_dispatch(struct nvme_io *nvme_io)
{
	if (nvme_io->watch.silent)
		nvme_io_cancel_queued(nvme_io);

	nvme_io_start_what_may(nvme_io);
	nvme_flight_look(&nvme_io->flight, clock_now());
}

int nvme_io_new(struct nvme_io **out, const struct nvme_io_options *options)
{
	struct nvme_io *nvme_io = calloc(1, sizeof(*nvme_io));
	if (!nvme_io)
		return -ENOMEM;

	nvme_io->options = *options;
	nvme_queue_open(&nvme_io->queue, options->merge);
	nvme_watch_open(&nvme_io->watch, &options->watch);
	nvme_flight_open(&nvme_io->flight, options->depth, options->depth_max, options->merge);
	unsigned runs = options->depth > 0 ? options->depth : options->depth_max;
	nvme_io->runs = calloc(runs, sizeof(struct run));
	int r = nvme_hold_open(&nvme_io->hold, options->loop,
			       options->hang_file ? options->hang_file : "");
	if (!nvme_io->runs || r < 0) {
		nvme_io_free(nvme_io);
		return -ENOMEM;
	}

	if (options->faults)
		nvme_io->faults = *options->faults;

	for (unsigned i = 0; i < runs; i++) {
		struct run *run = &nvme_io->runs[i];

		run->nvme_io = nvme_io;
		run->held.answer = nvme_io_released;
		run->io = (struct loop_io){
			.fd = options->fd, .iov = run->iov, .done = nvme_io_completed};
		run->next_free = nvme_io->free_runs;
		nvme_io->free_runs = run;
	}

	*out = nvme_io;

	return 0;
}

struct nvme_io *nvme_io_free(struct nvme_io *nvme_io)
{
	if (!nvme_io)
		return NULL;

	nvme_watch_close(&nvme_io->watch);
	nvme_hold_close(&nvme_io->hold);
	free(nvme_io->runs);
	free(nvme_io);

	return NULL;
}
