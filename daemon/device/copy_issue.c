/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/device/copy_issue.h"

#include "daemon/base/log.h"

void copy_issue_open(struct copy_issue *issue, struct device *device, enum copy_direction kind,
		     const struct copy_issue_options *options)
{
	issue->device = device;
	issue->kind = kind;
	issue->options = *options;
	issue->batches = options->batch_least > 0 && driver_has_batch(device->driver);
	issue->count = 0;
}

static bool copy_issue_gathers(const struct copy_issue *issue, const struct copy *copy)
{
	return issue->kind == COPY_D2H || (issue->kind == COPY_D2D && copy->gather);
}

static void copy_issue_tally(struct copy_issue *issue, enum link_way way, uint64_t pieces,
			     uint64_t bytes)
{
	issue->ways.pieces[way] += pieces;
	issue->ways.bytes[way] += bytes;
}

static void copy_issue_fail(struct copy_issue *issue, struct copy *copy, const char *call,
			    CUresult result)
{
	device_failed(issue->device, call, result);
	copy->status = HBM_DEVICE;
}

/* ---- rows ---- */

static CUDA_MEMCPY2D copy_issue_rows_of(const struct copy_issue *issue, const struct copy *copy,
					const struct copy_run *run)
{
	CUmemorytype flat = issue->kind == COPY_D2D ? CU_MEMORYTYPE_DEVICE : CU_MEMORYTYPE_HOST;
	char *host = copy->host ? copy->host + run->at : NULL;
	CUDA_MEMCPY2D rows = {.WidthInBytes = run->bytes, .Height = run->rows};

	if (copy_issue_gathers(issue, copy)) {
		rows.srcMemoryType = CU_MEMORYTYPE_DEVICE;
		rows.srcDevice = run->address;
		rows.srcPitch = run->stride;
		rows.dstMemoryType = flat;
		rows.dstHost = host;
		rows.dstDevice = copy->flat + run->at;
		rows.dstPitch = run->bytes;
	} else {
		rows.srcMemoryType = flat;
		rows.srcHost = host;
		rows.srcDevice = copy->flat + run->at;
		rows.srcPitch = run->bytes;
		rows.dstMemoryType = CU_MEMORYTYPE_DEVICE;
		rows.dstDevice = run->address;
		rows.dstPitch = run->stride;
	}

	return rows;
}

static void copy_issue_rows(struct copy_issue *issue, struct copy *copy, const struct copy_run *run)
{
	CUDA_MEMCPY2D rows = copy_issue_rows_of(issue, copy, run);
	CUresult r = issue->device->driver->cuMemcpy2DAsync(&rows, issue->stream);

	if (r == CUDA_SUCCESS)
		copy_issue_tally(issue, LINK_WAY_ROWS, run->rows, run->rows * run->bytes);
	else
		copy_issue_fail(issue, copy, "cuMemcpy2DAsync", r);
}

/* ---- single copies and batches, of what waits ---- */

static CUresult copy_issue_one(const struct copy_issue *issue, uint32_t i)
{
	const struct driver *driver = issue->device->driver;
	CUdeviceptr target = issue->targets[i], source = issue->sources[i];
	size_t bytes = issue->sizes[i];

	switch (issue->kind) {
	case COPY_D2H:
		return driver->cuMemcpyDtoHAsync((void *)(uintptr_t)target, source, bytes,
						 issue->stream);
	case COPY_H2D:
		return driver->cuMemcpyHtoDAsync(target, (const void *)(uintptr_t)source, bytes,
						 issue->stream);
	case COPY_D2D:
		break;
	}

	return driver->cuMemcpyDtoDAsync(target, source, bytes, issue->stream);
}

/* Returns whether each could be issued. */
static bool copy_issue_singly(struct copy_issue *issue)
{
	bool all = true;

	for (uint32_t i = 0; i < issue->count; i++) {
		struct copy *copy = issue->copies[i];
		if (copy->status != HBM_OK)
			continue;

		CUresult r = copy_issue_one(issue, i);
		if (r == CUDA_SUCCESS)
			copy_issue_tally(issue, LINK_WAY_SINGLE, 1, issue->sizes[i]);
		else
			copy_issue_fail(issue, copy, "cuMemcpyAsync", r);
		all = all && r == CUDA_SUCCESS;
	}

	return all;
}

static CUresult copy_issue_batch(struct copy_issue *issue)
{
	unsigned flags = issue->kind == COPY_D2D ? CU_MEMCPY_FLAG_PREFER_OVERLAP_WITH_COMPUTE
						 : CU_MEMCPY_FLAG_DEFAULT;
	CUresult r = driver_copy_batch(issue->device->driver, issue->targets, issue->sources,
				       issue->sizes, issue->count, flags, issue->stream);

	for (uint32_t i = 0; i < issue->count && r == CUDA_SUCCESS; i++)
		copy_issue_tally(issue, LINK_WAY_BATCH, 1, issue->sizes[i]);

	return r;
}

static void copy_issue_without_batches(struct copy_issue *issue, CUresult result)
{
	issue->batches = false;
	log_notice("device %u (%s): the driver refuses batches of copies (%s): each is copied "
		   "with a call of its own",
		   issue->device->index, issue->device->name,
		   driver_error_name(issue->device->driver, result));
}

/* Some may have been queued: they are the same bytes. */
static void copy_issue_refused(struct copy_issue *issue, CUresult result)
{
	bool refusal = result == CUDA_ERROR_NOT_SUPPORTED || result == CUDA_ERROR_INVALID_VALUE;

	if (!refusal)
		device_failed(issue->device, "cuMemcpyBatchAsync", result);
	for (uint32_t i = 0; i < issue->count && driver_error_is_sticky(result); i++)
		issue->copies[i]->status = HBM_DEVICE;
	if (copy_issue_singly(issue) && refusal)
		copy_issue_without_batches(issue, result);
}

static bool copy_issue_wants_batch(const struct copy_issue *issue)
{
	return issue->batches &&
	       (issue->kind == COPY_D2D || issue->count >= issue->options.batch_least);
}

void copy_issue_end(struct copy_issue *issue)
{
	if (issue->count == 0)
		return;

	if (copy_issue_wants_batch(issue)) {
		CUresult r = copy_issue_batch(issue);
		if (r != CUDA_SUCCESS)
			copy_issue_refused(issue, r);
	} else {
		copy_issue_singly(issue);
	}

	issue->count = 0;
}

/* ---- from pieces to rows ---- */

static void copy_issue_add(struct copy_issue *issue, struct copy *copy, const struct copy_run *row)
{
	CUdeviceptr flat =
		issue->kind == COPY_D2D ? copy->flat + row->at : (uintptr_t)copy->host + row->at;
	bool gathers = copy_issue_gathers(issue, copy);
	uint32_t i = issue->count++;

	issue->copies[i] = copy;
	issue->targets[i] = gathers ? flat : row->address;
	issue->sources[i] = gathers ? row->address : flat;
	issue->sizes[i] = row->bytes;
	if (issue->count == COPY_ISSUE_PIECES)
		copy_issue_end(issue);
}

/* Bytes from host + at to the end of the registration that contains it. */
static uint64_t copy_issue_to_chunk_end(const struct copy_issue *issue, const struct copy *copy,
					uint64_t at)
{
	if (issue->kind == COPY_D2D)
		return UINT64_MAX;
	uint64_t offset = (uint64_t)(copy->host + at - issue->options.ddr_base);
	return issue->options.host_chunk - offset % issue->options.host_chunk;
}

/* The first row of a run, in parts where registrations end. */
static void copy_issue_row(struct copy_issue *issue, struct copy *copy, const struct copy_run *run)
{
	struct copy_run part = {.address = run->address, .at = run->at, .rows = 1};

	for (uint64_t left = run->bytes; left > 0; left -= part.bytes) {
		uint64_t room = copy_issue_to_chunk_end(issue, copy, part.at);

		part.bytes = left < room ? left : room;
		copy_issue_add(issue, copy, &part);
		part.address += part.bytes;
		part.at += part.bytes;
	}
}

/* How many rows of a run are issued as rows: those before a registration's end. */
static uint32_t copy_issue_row_count(const struct copy_issue *issue, const struct copy *copy,
				     const struct copy_run *run)
{
	uint64_t fitting = copy_issue_to_chunk_end(issue, copy, run->at) / run->bytes;
	uint32_t rows = fitting < run->rows ? (uint32_t)fitting : run->rows;
	bool many = issue->options.rows_least > 0 && rows >= issue->options.rows_least && rows > 1;

	return many && !(issue->kind == COPY_D2D && issue->batches) ? rows : 0;
}

/* Issues the first rows of a run and takes them off it. */
static void copy_issue_some(struct copy_issue *issue, struct copy *copy, struct copy_run *run)
{
	struct copy_run some = *run;

	some.rows = copy_issue_row_count(issue, copy, run);
	if (some.rows > 0)
		copy_issue_rows(issue, copy, &some);
	else
		copy_issue_row(issue, copy, run);
	if (some.rows == 0)
		some.rows = 1;

	run->address += some.rows * run->stride;
	run->at += some.rows * run->bytes;
	run->rows -= some.rows;
}

void copy_issue_begin(struct copy_issue *issue, CUstream stream)
{
	issue->stream = stream;
	issue->ways = (struct link_ways){0};
}

void copy_issue_piece(struct copy_issue *issue, struct copy *copy, struct copy_piece piece)
{
	struct copy_run run;

	while (copy->status == HBM_OK &&
	       copy_piece_cut_run(&piece, copy->spans, issue->device->max_pitch, &run)) {
		while (run.rows > 0 && copy->status == HBM_OK)
			copy_issue_some(issue, copy, &run);
	}
}
