/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copies and fills. An asynchronous copy needs device memory that is mapped with access,
 * and host memory that is registered, in one piece. The stream's thread copies with memcpy;
 * if the device's engine has a bandwidth limit, the operation ends when the engine's clock
 * says so. A copy of 0 bytes does nothing and checks no address.
 *
 * With the option `at_once`, copies between host and device of at most so many bytes are done
 * within the call, if nothing is before them on their stream: about as soon as a copy engine
 * would be done, which no thread has to be woken for. Without it no call waits for a copy,
 * so that one who takes an asynchronous copy for done is seen to be wrong.
 *
 * A copy has rows: cuMemcpy2DAsync as many as it says, the others one. Of the gaps between
 * them nothing is read, written or checked.
 *
 * Copies between device memories are not limited, and their ranges may not overlap.
 */
#include "kernels/soft/copy.h"

#include "kernels/soft/hold.h"
#include "kernels/soft/host.h"
#include "kernels/soft/lock.h"
#include "kernels/soft/mapping.h"
#include "kernels/soft/park.h"
#include "kernels/soft/reservation.h"
#include "kernels/soft/sm.h"
#include "kernels/soft/stream.h"

#include <string.h>

static void *copy_host_place(uint64_t address)
{
	return (void *)(uintptr_t)address;
}

/* From the beginning of the first row to the end of the last. */
static uint64_t copy_extent(const struct op *op, uint64_t pitch)
{
	return (op->rows - 1) * pitch + op->bytes;
}

/* ---- On the stream's thread ---- */

static void copy_rows(const struct op *op, char *target, const char *source)
{
	for (uint64_t i = 0; i < op->rows; i++)
		memcpy(target + i * op->target_pitch, source + i * op->source_pitch, op->bytes);
}

static void copy_run(struct op *op, struct stream *stream, enum engine_direction direction,
		     void *target, const void *source)
{
	struct engine *engine = &op->device->engines[direction];
	uint64_t *stream_time = stream_due(stream);

	if (op->bytes == 0)
		return;
	if (op->ready < *stream_time)
		op->ready = *stream_time;

	*stream_time = op->ready;
	if (engine_is_limited(engine))
		*stream_time = engine_schedule(engine, op->ready, op->rows * op->bytes);
	if (!hold_wait(stream))
		return;
	copy_rows(op, target, source);
	if (engine_is_limited(engine))
		clock_wait_until(*stream_time);
}

static bool copy_is_timed(void)
{
	const struct device *any = device_at(0);

	/* All devices are configured alike. */
	return engine_is_limited(&any->engines[ENGINE_D2H]) ||
	       engine_is_limited(&any->engines[ENGINE_H2D]);
}

uint64_t copy_ready_now(void)
{
	return copy_is_timed() ? clock_now() : 0;
}

static uint64_t at_once; /* bytes */

void copies_configure(uint64_t bytes)
{
	at_once = bytes;
}

/* Whether a copy between host and device is done within the call that asks for it. */
static bool copy_is_brief(uint64_t bytes)
{
	return bytes <= at_once && at_once > 0 && !hold_is_on() && !copy_is_timed();
}

/* ---- What a copy holds ---- */

static void copy_drop_rows(const struct op *op, uint64_t address, uint64_t pitch, uint64_t rows)
{
	for (uint64_t i = 0; i < rows; i++)
		mapping_drop_range(address + i * pitch, op->bytes);
}

static CUresult copy_hold_rows(const struct op *op, uint64_t address, uint64_t pitch,
			       const struct device *device, CUmemAccess_flags wanted)
{
	for (uint64_t i = 0; i < op->rows; i++) {
		CUresult result =
			mapping_hold_range(address + i * pitch, op->bytes, device, wanted);
		if (result != CUDA_SUCCESS) {
			copy_drop_rows(op, address, pitch, i);
			return result;
		}
	}

	return CUDA_SUCCESS;
}

/* ---- Host to device ---- */

static CUresult copy_h2d_hold(struct op *op, struct device *device)
{
	CUresult result;

	if (op->bytes == 0)
		return CUDA_SUCCESS;

	result = host_hold(op->source, copy_extent(op, op->source_pitch), device, false);
	if (result != CUDA_SUCCESS)
		return result;

	result = copy_hold_rows(op, op->target, op->target_pitch, device,
				CU_MEM_ACCESS_FLAGS_PROT_READWRITE);
	if (result != CUDA_SUCCESS)
		host_drop(op->source);

	return result;
}

static void copy_h2d_run(struct op *op, struct stream *stream)
{
	copy_run(op, stream, ENGINE_H2D, reservation_place(op->target),
		 copy_host_place(op->source));
}

static void copy_h2d_drop(struct op *op)
{
	if (op->bytes == 0)
		return;
	copy_drop_rows(op, op->target, op->target_pitch, op->rows);
	host_drop(op->source);
}

const struct op_kind copy_h2d = {copy_h2d_hold, copy_h2d_run, copy_h2d_drop};

CUresult cuMemcpyHtoDAsync(CUdeviceptr target, const void *source, size_t bytes, CUstream stream)
{
	struct op op = {.kind = &copy_h2d,
			.target = target,
			.source = (uint64_t)(uintptr_t)source,
			.bytes = bytes,
			.rows = 1};

	CALL_ENTER(cuMemcpyHtoDAsync);
	op.ready = copy_ready_now();
	op.brief = copy_is_brief(bytes);

	return stream_submit(stream, &op);
}

/* ---- Device to host ---- */

static CUresult copy_d2h_hold(struct op *op, struct device *device)
{
	CUresult result;

	if (op->bytes == 0)
		return CUDA_SUCCESS;

	result = host_hold(op->target, copy_extent(op, op->target_pitch), device, true);
	if (result != CUDA_SUCCESS)
		return result;

	result = copy_hold_rows(op, op->source, op->source_pitch, device,
				CU_MEM_ACCESS_FLAGS_PROT_READ);
	if (result != CUDA_SUCCESS)
		host_drop(op->target);

	return result;
}

static void copy_d2h_run(struct op *op, struct stream *stream)
{
	copy_run(op, stream, ENGINE_D2H, copy_host_place(op->target),
		 reservation_place(op->source));
}

static void copy_d2h_drop(struct op *op)
{
	if (op->bytes == 0)
		return;
	copy_drop_rows(op, op->source, op->source_pitch, op->rows);
	host_drop(op->target);
}

const struct op_kind copy_d2h = {copy_d2h_hold, copy_d2h_run, copy_d2h_drop};

CUresult cuMemcpyDtoHAsync(void *target, CUdeviceptr source, size_t bytes, CUstream stream)
{
	struct op op = {.kind = &copy_d2h,
			.target = (uint64_t)(uintptr_t)target,
			.source = source,
			.bytes = bytes,
			.rows = 1};

	CALL_ENTER(cuMemcpyDtoHAsync);
	op.ready = copy_ready_now();
	op.brief = copy_is_brief(bytes);

	return stream_submit(stream, &op);
}

/* ---- Device to device ---- */

static bool copy_overlaps(const struct op *op)
{
	uint64_t target_end = op->target + copy_extent(op, op->target_pitch);
	uint64_t source_end = op->source + copy_extent(op, op->source_pitch);

	return op->target < source_end && op->source < target_end;
}

static CUresult copy_d2d_hold(struct op *op, struct device *device)
{
	CUresult result;

	if (op->bytes == 0)
		return CUDA_SUCCESS;

	/* rows that interleave are none of anybody's business */
	if (op->rows == 1 && copy_overlaps(op))
		return CUDA_ERROR_INVALID_VALUE;

	result = copy_hold_rows(op, op->source, op->source_pitch, device,
				CU_MEM_ACCESS_FLAGS_PROT_READ);
	if (result != CUDA_SUCCESS)
		return result;

	result = copy_hold_rows(op, op->target, op->target_pitch, device,
				CU_MEM_ACCESS_FLAGS_PROT_READWRITE);
	if (result != CUDA_SUCCESS)
		copy_drop_rows(op, op->source, op->source_pitch, op->rows);

	return result;
}

static void copy_d2d_run(struct op *op, struct stream *stream)
{
	if (op->bytes == 0)
		return;

	if (!hold_wait(stream))
		return;
	sm_wait(op->device->index);
	copy_rows(op, reservation_place(op->target), reservation_place(op->source));
}

static void copy_d2d_drop(struct op *op)
{
	if (op->bytes == 0)
		return;
	copy_drop_rows(op, op->target, op->target_pitch, op->rows);
	copy_drop_rows(op, op->source, op->source_pitch, op->rows);
}

const struct op_kind copy_d2d = {copy_d2d_hold, copy_d2d_run, copy_d2d_drop};

CUresult cuMemcpyDtoDAsync(CUdeviceptr target, CUdeviceptr source, size_t bytes, CUstream stream)
{
	struct op op = {
		.kind = &copy_d2d, .target = target, .source = source, .bytes = bytes, .rows = 1};

	CALL_ENTER(cuMemcpyDtoDAsync);
	return stream_submit(stream, &op);
}

/* ---- Rows ---- */

/* The address of the first row on one side; 0: refused. A pitch is looked at only where
 * there is a second row. */
static uint64_t copy_side(const CUDA_MEMCPY2D *copy, CUmemorytype type, uint64_t host,
			  uint64_t device, uint64_t pitch, uint64_t x, uint64_t y)
{
	uint64_t address = type == CU_MEMORYTYPE_HOST     ? host
			   : type == CU_MEMORYTYPE_DEVICE ? device
							  : 0;
	bool fits = pitch <= DEVICE_PITCH_MAX && x + copy->WidthInBytes <= pitch;

	if (address == 0 || (!fits && (copy->Height > 1 || y > 0)))
		return 0;
	return address + y * pitch + x;
}

static const struct op_kind *copy_kind(CUmemorytype target, CUmemorytype source)
{
	if (target == CU_MEMORYTYPE_DEVICE)
		return source == CU_MEMORYTYPE_DEVICE ? &copy_d2d : &copy_h2d;
	return source == CU_MEMORYTYPE_DEVICE ? &copy_d2h : NULL;
}

CUresult cuMemcpy2DAsync(const CUDA_MEMCPY2D *copy, CUstream stream)
{
	CALL_ENTER(cuMemcpy2DAsync);
	if (copy == NULL)
		return CUDA_ERROR_INVALID_VALUE;

	struct op op = {
		.kind = copy_kind(copy->dstMemoryType, copy->srcMemoryType),
		.target = copy_side(copy, copy->dstMemoryType, (uint64_t)(uintptr_t)copy->dstHost,
				    copy->dstDevice, copy->dstPitch, copy->dstXInBytes, copy->dstY),
		.source = copy_side(copy, copy->srcMemoryType, (uint64_t)(uintptr_t)copy->srcHost,
				    copy->srcDevice, copy->srcPitch, copy->srcXInBytes, copy->srcY),
		.bytes = copy->Height > 0 ? copy->WidthInBytes : 0,
		.rows = copy->Height,
		.target_pitch = copy->dstPitch,
		.source_pitch = copy->srcPitch,
	};
	if (op.kind == NULL || op.target == 0 || op.source == 0)
		return CUDA_ERROR_INVALID_VALUE;

	if (op.kind != &copy_d2d)
		op.ready = copy_ready_now();

	return stream_submit(stream, &op);
}

/* ---- Fill ---- */

static CUresult copy_fill_hold(struct op *op, struct device *device)
{
	if (op->bytes == 0)
		return CUDA_SUCCESS;
	return mapping_hold_range(op->target, op->bytes, device,
				  CU_MEM_ACCESS_FLAGS_PROT_READWRITE);
}

static void copy_fill_run(struct op *op, struct stream *stream)
{
	(void)stream;
	if (op->bytes == 0)
		return;

	sm_wait(op->device->index);
	memset(reservation_place(op->target), (int)op->value, op->bytes);
}

static void copy_fill_drop(struct op *op)
{
	if (op->bytes != 0)
		mapping_drop_range(op->target, op->bytes);
}

CUresult cuMemsetD8Async(CUdeviceptr target, unsigned char value, size_t bytes, CUstream stream)
{
	static const struct op_kind kind = {copy_fill_hold, copy_fill_run, copy_fill_drop};
	struct op op = {.kind = &kind, .target = target, .bytes = bytes, .value = value};

	CALL_ENTER(cuMemsetD8Async);
	return stream_submit(stream, &op);
}
