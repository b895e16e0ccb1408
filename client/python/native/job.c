/* SPDX-License-Identifier: Apache-2.0 */
#include "client/python/native/job.h"

#include "client/python/native/core.h"
#include "client/python/native/op.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LANDINGS 4               /* of blocks of a size, at a time */
#define LANDING_BYTES (8u << 20) /* a size of slabs: it takes no more than that */

struct landing {
	struct landing *next;
	struct hbm_region *region;
	unsigned char *memory;
	uint64_t bytes;
	bool busy;
};

struct job {
	struct job_options options;
	struct hbm_segment *segments;
	size_t next, piece; /* blocks from next on are in the landing, if any */
	struct landing *landing;
	hbm_ticket ticket;
};

struct landing *landing_free(struct landing *landing)
{
	while (landing) {
		struct landing *next = landing->next;

		free(landing);
		landing = next;
	}

	return NULL;
}

struct job *job_new(const struct job_options *options)
{
	struct job *job = calloc(1, sizeof(*job));
	size_t most = LANDING_BYTES / options->block_bytes + 1;
	struct hbm_segment *segments = calloc(most, sizeof(*segments));

	if (!job || !segments) {
		free(job);
		free(segments);
		PyErr_NoMemory();
		return NULL;
	}

	job->options = *options;
	job->segments = segments;

	return job;
}

struct job *job_free(struct job *job)
{
	if (!job)
		return NULL;

	free(job->options.blocks);
	free(job->options.memory);
	free(job->segments);
	free(job);

	return NULL;
}

hbm_ticket job_ticket(const struct job *job)
{
	return job->ticket;
}

/* ---- Landings ---- */

/* Memory that this process and the daemon reach: of the host, or of a soft device. */
static int landing_region(struct core *core, uint64_t bytes, struct hbm_range *range)
{
	struct hbm_region_options options = {
		.device = HBM_DEVICE_HOST, .address_space = bytes, .slab = LANDING_BYTES};
	int status = hbm_region_create(core->hbm, &options, &range->region);

	options.device = 0;
	if (status == HBM_UNSUPPORTED && core->info.driver == HBM_DRIVER_SOFT)
		status = hbm_region_create(core->hbm, &options, &range->region);
	if (status)
		return status;

	range->bytes = hbm_region_bytes(range->region);
	status = hbm_commit(core->hbm, range, 1);
	if (status)
		hbm_region_destroy(core->hbm, range->region);

	return status;
}

static int landing_make(struct core *core, uint64_t bytes, struct landing **out)
{
	struct hbm_range range = {.offset = 0};
	int status = landing_region(core, bytes, &range);
	struct landing *landing = status ? NULL : calloc(1, sizeof(*landing));

	if (status)
		return status;
	if (!landing) {
		hbm_region_destroy(core->hbm, range.region);
		return -ENOMEM;
	}

	landing->region = range.region;
	landing->bytes = range.bytes;
	landing->memory = hbm_region_host(range.region);
	landing->next = core->landing;
	core->landing = landing;
	*out = landing;

	return 0;
}

/* Takes one that has room for a block. -EAGAIN: all are busy. */
static int landing_take(struct core *core, const struct job *job, struct landing **out)
{
	uint64_t bytes = job->options.block_bytes;
	int count = 0, status = 0;

	*out = NULL;
	for (struct landing *landing = core->landing; landing; landing = landing->next) {
		if (landing->bytes < bytes)
			continue;
		count++;
		if (!landing->busy)
			*out = landing;
	}

	if (!*out && count < LANDINGS)
		status = landing_make(core, bytes > LANDING_BYTES ? bytes : LANDING_BYTES, out);
	if (*out)
		(*out)->busy = true;
	else
		status = count > 0 ? -EAGAIN : status;

	return status;
}

/* ---- Going on ---- */

static void job_leave_landing(struct job *job)
{
	if (job->landing)
		job->landing->busy = false;
	job->landing = NULL;
	job->ticket = 0;
}

/* As the daemon counts them: see struct hbm_sync. */
static uint64_t job_failed(const struct op *op, int status)
{
	uint64_t failed = status ? op->count : 0;

	for (size_t i = 0; i < op->count && status == 0; i++)
		failed += op->results[i].status != HBM_OK && op->results[i].status != HBM_EXISTS;

	return failed;
}

/* Ends it: sets its fences, as the daemon does for others. */
static int job_end(struct core *core, const struct op *op, int status)
{
	struct job *job = op->job;
	const struct hbm_sync *sync = &job->options.sync;

	job_leave_landing(job);
	if (sync->failed_slot != 0)
		hbm_fence_signal(core->hbm, sync->failed_slot, job_failed(op, status));
	if (sync->fence_slot != HBM_WIRE_NO_FENCE)
		hbm_fence_signal(core->hbm, sync->fence_slot, sync->fence_value);

	return status;
}

/* Copies the next blocks there, of a store, and asks the daemon for them. */
static int job_submit(struct core *core, struct op *op)
{
	struct job *job = op->job;
	const struct job_options *options = &job->options;
	uint64_t bytes = options->block_bytes;
	struct hbm_block *blocks = &options->blocks[job->next];
	const struct hbm_sync sync = {.ready_slot = options->sync.ready_slot,
				      .ready_value = options->sync.ready_value,
				      .fence_slot = HBM_WIRE_NO_FENCE};
	size_t most = bytes > LANDING_BYTES ? 1 : LANDING_BYTES / bytes;

	job->piece = op->count - job->next < most ? op->count - job->next : most;
	for (size_t i = 0; i < job->piece; i++) {
		job->segments[i] = (struct hbm_segment){job->landing->region, i * bytes, bytes};
		blocks[i].segments = &job->segments[i];
		blocks[i].segment_count = 1;
		if (options->store)
			memcpy(job->landing->memory + i * bytes, options->memory[job->next + i],
			       bytes);
	}

	return (options->store ? hbm_submit_store
			       : hbm_submit_load)(core->hbm, options->ns, blocks, job->piece, &sync,
						  &op->results[job->next], &job->ticket);
}

/* Copies what was loaded to where it is to be. */
static void job_receive(struct op *op)
{
	struct job *job = op->job;
	uint64_t bytes = job->options.block_bytes;

	for (size_t i = 0; i < job->piece && !job->options.store; i++)
		if (op->results[job->next + i].status == HBM_OK)
			memcpy(job->options.memory[job->next + i], job->landing->memory + i * bytes,
			       bytes);
	job->next += job->piece;
}

/* HBM_UNSUPPORTED: libhbm does not. */
static int job_hand_over(struct core *core, struct op *op)
{
	const struct job_options *options = &op->job->options;
	struct hbm_segment *segments;
	int status;

	if (options->sync.ready_slot != HBM_WIRE_NO_FENCE ||
	    options->sync.fence_slot != HBM_WIRE_NO_FENCE)
		return HBM_UNSUPPORTED;
	segments = calloc(op->count, sizeof(*segments));
	if (!segments)
		return -ENOMEM;

	for (size_t i = 0; i < op->count; i++) {
		segments[i] = (struct hbm_segment){NULL, HBM_ADDRESS(options->memory[i]),
						   options->block_bytes};
		options->blocks[i].segments = &segments[i];
		options->blocks[i].segment_count = 1;
	}
	status = (options->store ? hbm_submit_store_from : hbm_submit_load_to)(
		core->hbm, options->ns, options->blocks, op->count, op->results, &op->ticket);
	free(segments);

	return status;
}

int job_begin(struct core *core, struct op *op)
{
	int status = job_hand_over(core, op);

	if (status == 0)
		op->job = job_free(op->job);

	/* it begins when it is looked at first, and is refused then if there is no other way */
	return status == HBM_UNSUPPORTED ? 0 : status;
}

int job_go(struct core *core, struct op *op)
{
	struct job *job = op->job;
	int status;

	for (;;) {
		if (job->ticket) {
			status = hbm_poll(core->hbm, job->ticket);
			if (status == -EAGAIN)
				return status;
			if (status)
				return job_end(core, op, status);
			job_receive(op);
			job_leave_landing(job);
		}

		if (job->next == op->count)
			return job_end(core, op, 0);

		status = landing_take(core, job, &job->landing);
		if (status == -EAGAIN)
			return status;
		if (status == 0)
			status = job_submit(core, op);
		if (status)
			return job_end(core, op, status);
	}
}
