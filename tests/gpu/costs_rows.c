/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A block as an engine has it: one row in each of its layers, at a constant stride in
 * device memory; on the host it is flat. By each way there is to copy it: a call for each
 * row, one cuMemcpy2DAsync, one batch, and one copy of the whole to a landing place on the
 * device, with a kernel between that and the rows. What each has copied is compared with
 * what single copies make of it.
 */
#include "tests/gpu/costs.h"

#include "kernels/device/gather.h"
#include "tests/gpu/link.h"
#include "tests/gpu/record.h"

#include <stdio.h>

#define ROWS_MOST 160
#define ROWS_STRIDE_MOST (100 * MIB)
#define ROWS_IN_FLIGHT (16 * MIB)
#define ROWS_POINT_S 0.06

enum rows_way { LOOP, RECTANGLE, BATCHED, KERNEL, ROWS_WAYS };
static const char *const rows_way_names[ROWS_WAYS] = {"loop", "2D", "batch", "kernel"};

struct rows {
	const struct link *link;
	struct slab_map slab; /* with the rows */
	struct kernels kernels;
	size_t stride, bytes; /* of a row */
	unsigned count;
	bool up; /* H2D */
};

/* Where a block lies: beside the one before it, in each layer; on the host and in the landing
 * place behind it. */
struct rows_block {
	CUdeviceptr device, landing;
	char *host;
};

static CUresult rows_one(const struct rows *rows, CUdeviceptr device, char *host, size_t bytes)
{
	const struct driver *driver = rows->link->rig->driver;

	return rows->up ? driver->cuMemcpyHtoDAsync(device, host, bytes, rows->link->streams[1])
			: driver->cuMemcpyDtoHAsync(host, device, bytes, rows->link->streams[1]);
}

static CUresult rows_loop(struct rows *rows, const struct rows_block *block)
{
	CUresult result = CUDA_SUCCESS;

	for (size_t i = 0; i < rows->count && result == CUDA_SUCCESS; i++)
		result = rows_one(rows, block->device + i * rows->stride,
				  block->host + i * rows->bytes, rows->bytes);
	return result;
}

static CUresult rows_rectangle(struct rows *rows, const struct rows_block *block)
{
	CUDA_MEMCPY2D copy = {.WidthInBytes = rows->bytes, .Height = rows->count};

	if (rows->up) {
		copy.srcMemoryType = CU_MEMORYTYPE_HOST;
		copy.srcHost = block->host;
		copy.srcPitch = rows->bytes;
		copy.dstMemoryType = CU_MEMORYTYPE_DEVICE;
		copy.dstDevice = block->device;
		copy.dstPitch = rows->stride;
	} else {
		copy.srcMemoryType = CU_MEMORYTYPE_DEVICE;
		copy.srcDevice = block->device;
		copy.srcPitch = rows->stride;
		copy.dstMemoryType = CU_MEMORYTYPE_HOST;
		copy.dstHost = block->host;
		copy.dstPitch = rows->bytes;
	}

	return rows->link->rig->driver->cuMemcpy2DAsync(&copy, rows->link->streams[1]);
}

static CUresult rows_batched(struct rows *rows, const struct rows_block *block)
{
	static CUdeviceptr device[ROWS_MOST], host[ROWS_MOST];
	static size_t sizes[ROWS_MOST];

	for (size_t i = 0; i < rows->count; i++) {
		device[i] = block->device + i * rows->stride;
		host[i] = (CUdeviceptr)(uintptr_t)(block->host + i * rows->bytes);
		sizes[i] = rows->bytes;
	}

	return driver_copy_batch(rows->link->rig->driver, rows->up ? device : host,
				 rows->up ? host : device, sizes, rows->count,
				 CU_MEMCPY_FLAG_DEFAULT, rows->link->streams[1]);
}

static CUresult rows_kernel(struct rows *rows, const struct rows_block *block)
{
	const struct gather_rows_job job = {.flat = block->landing,
					    .base = block->device,
					    .stride = rows->stride,
					    .row_bytes = rows->bytes,
					    .count = rows->count,
					    .scatter = rows->up};
	const size_t bytes = rows->count * rows->bytes;
	CUresult result = CUDA_SUCCESS;

	if (rows->up)
		result = rows_one(rows, block->landing, block->host, bytes);
	if (result == CUDA_SUCCESS)
		result = gather_rows_launch(&rows->kernels, rows->link->rig->driver,
					    rows->link->streams[1], &job);
	if (result == CUDA_SUCCESS && !rows->up)
		result = rows_one(rows, block->landing, block->host, bytes);

	return result;
}

static CUresult (*const rows_ways[ROWS_WAYS])(struct rows *rows, const struct rows_block *block) = {
	[LOOP] = rows_loop,
	[RECTANGLE] = rows_rectangle,
	[BATCHED] = rows_batched,
	[KERNEL] = rows_kernel,
};

static struct rows_block rows_place(const struct rows *rows, size_t nth)
{
	const size_t at = nth * rows->count * rows->bytes;

	return (struct rows_block){.device = rows->slab.address + nth * rows->bytes,
				   .landing = rows->link->up.address + at,
				   .host = rows->link->host + at};
}

/* How many blocks are queued before they are waited for; they lie within one stride. */
static size_t rows_blocks(const struct rows *rows)
{
	const size_t blocks = ROWS_IN_FLIGHT / (rows->count * rows->bytes);
	const size_t fit = rows->stride / rows->bytes;

	return blocks == 0 ? 1 : blocks < fit ? blocks : fit;
}

static CUresult rows_wait(const struct rows *rows, CUresult result)
{
	const CUresult waited =
		rows->link->rig->driver->cuStreamSynchronize(rows->link->streams[1]);

	return result != CUDA_SUCCESS ? result : waited;
}

/* There and back, one of them by the way that is tried, the other one by single copies. */
static CUresult rows_try(struct rows *rows, enum rows_way way, bool *same)
{
	const bool up = rows->up;
	const size_t bytes = rows->count * rows->bytes;
	struct rows_block there = rows_place(rows, 0), back = there;
	CUresult result;

	back.host += LINK_SPAN;
	pattern_fill(there.host, bytes, bytes + way);
	pattern_fill(back.host, bytes, 0);
	rows->up = true;
	result = rows_wait(rows, rows_ways[up ? way : LOOP](rows, &there));
	rows->up = false;
	if (result == CUDA_SUCCESS)
		result = rows_wait(rows, rows_ways[up ? LOOP : way](rows, &back));

	rows->up = up;
	*same = pattern_holds(back.host, bytes, bytes + way);

	return result;
}

/* GB/s; 0: a copy was refused. */
static double rows_rate(struct rows *rows, enum rows_way way, double seconds)
{
	const size_t blocks = rows_blocks(rows);
	const double began = clock_s();
	double ended = began, copied = 0;

	do {
		CUresult result = CUDA_SUCCESS;

		for (size_t i = 0; i < blocks && result == CUDA_SUCCESS; i++) {
			const struct rows_block block = rows_place(rows, i);

			result = rows_ways[way](rows, &block);
		}

		if (rows_wait(rows, result) != CUDA_SUCCESS)
			return 0;

		copied += (double)(blocks * rows->count * rows->bytes);
		ended = clock_s();
	} while (ended - began < seconds);

	return copied / (ended - began) / 1e9;
}

static void rows_point(struct rows *rows, enum rows_way way, double seconds)
{
	const struct rig *rig = rows->link->rig;
	char name[80];
	bool same = false;
	CUresult result;
	double rate;

	snprintf(name, sizeof(name), "%u rows of %s, %s, %s", rows->count, size_text(rows->bytes),
		 rows->up ? "H2D" : "D2H", rows_way_names[way]);
	result = rows_try(rows, way, &same);

	if (result == CUDA_ERROR_NOT_SUPPORTED && way == BATCHED) {
		record(name, OUTCOME_UNSUPPORTED, "the driver has no cuMemcpyBatchAsync");
	} else if (result != CUDA_SUCCESS) {
		record(name, OUTCOME_FAIL, "%s", driver_error_name(rig->driver, result));
	} else if (!same) {
		record(name, OUTCOME_FAIL, "other bytes came than were sent");
	} else {
		rate = rows_rate(rows, way, seconds);
		record_number(name, rate, "GB/s", "every byte compared; a stride of %zu KiB",
			      rows->stride >> 10);
	}
}

static void rows_points(struct rows *rows, double seconds)
{
	static const unsigned counts[] = {64, 160};
	static const size_t sizes[] = {4096, 16384, 32768, 131072};

	for (size_t c = 0; c < sizeof(counts) / sizeof(counts[0]); c++) {
		for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
			rows->count = counts[c];
			rows->bytes = sizes[s];

			for (int way = 0; way < 2 * ROWS_WAYS; way++) {
				rows->up = way < ROWS_WAYS;
				rows_point(rows, (enum rows_way)(way % ROWS_WAYS), seconds);
			}
		}
	}
}

/* The layers are as far apart as there is memory for. */
static bool rows_open(struct rows *rows, struct link *link, uint64_t hbm)
{
	size_t bytes = ROWS_MOST * ROWS_STRIDE_MOST;

	while (bytes > hbm / 2)
		bytes /= 2;

	bytes -= bytes % (ROWS_MOST * 2 * MIB);
	*rows = (struct rows){.link = link, .stride = bytes / ROWS_MOST};

	return link_open(link) &&
	       costs_did(link->rig, "a slab", rig_slab(link->rig, bytes, &rows->slab));
}

void costs_rows(const struct rig *rig, const struct limits *limits)
{
	struct link link = {.rig = rig};
	struct rows rows;

	if (limits->hbm < GIB || limits->ddr < 2 * LINK_SPAN) {
		record("rows", OUTCOME_UNSUPPORTED,
		       "they take 1 GiB of device memory and 256 MiB of host memory");
		return;
	}

	if (rows_open(&rows, &link, limits->hbm))
		rows_points(&rows, limits->quick ? 0 : ROWS_POINT_S);
	else
		costs_blame("rows");

	kernels_unload(&rows.kernels, rig->driver);
	rig_drop(rig, &rows.slab);
	link_close(&link);
}
