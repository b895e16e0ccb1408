/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copies and fills. An asynchronous copy needs device memory that is mapped with access,
 * and host memory that is registered. The stream's thread copies with memcpy; if the
 * device's engine has a bandwidth limit, the operation ends when the engine's clock says
 * so. A copy of 0 bytes does nothing and checks no address.
 *
 * Copies between device memories are not limited, and their ranges may not overlap.
 */
#include "kernels/soft/host.h"
#include "kernels/soft/lock.h"
#include "kernels/soft/mapping.h"
#include "kernels/soft/park.h"
#include "kernels/soft/reservation.h"
#include "kernels/soft/stream.h"

#include <errno.h>
#include <string.h>

static void *copy_host_place(uint64_t address)
{
	return (void *)(uintptr_t)address;
}

/* Copies like the engine: `ready` is when the copy could have started. Returns the time at
 * which it ended, by the engine's clock. */
static uint64_t copy_timed(struct engine *engine, uint64_t ready, void *target, const void *source,
			   uint64_t bytes)
{
	uint64_t due;

	if (!engine_is_limited(engine)) {
		memcpy(target, source, bytes);
		return ready;
	}

	due = engine_schedule(engine, ready, bytes);
	memcpy(target, source, bytes);
	clock_wait_until(due);

	return due;
}

static void copy_run(struct op *op, struct stream *stream, enum engine_direction direction,
		     void *target, const void *source)
{
	uint64_t *stream_time = stream_due(stream);

	if (op->bytes == 0)
		return;
	if (op->ready < *stream_time)
		op->ready = *stream_time;
	*stream_time =
		copy_timed(&op->device->engines[direction], op->ready, target, source, op->bytes);
}

/* When an operation submitted now can start; 0 if copies are not timed. */
static uint64_t copy_ready_now(void)
{
	const struct device *any = device_at(0);

	/* All devices are configured alike. */
	return engine_is_limited(&any->engines[ENGINE_D2H]) ||
			       engine_is_limited(&any->engines[ENGINE_H2D])
		       ? clock_now()
		       : 0;
}

/* ---- Host to device ---- */

static CUresult copy_h2d_hold(struct op *op, struct device *device)
{
	CUresult result;

	if (op->bytes == 0)
		return CUDA_SUCCESS;

	result = host_hold(op->source, op->bytes, device, false);
	if (result != CUDA_SUCCESS)
		return result;

	result = mapping_hold_range(op->target, op->bytes, device,
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
	mapping_drop_range(op->target, op->bytes);
	host_drop(op->source);
}

CUresult cuMemcpyHtoDAsync(CUdeviceptr target, const void *source, size_t bytes, CUstream stream)
{
	static const struct op_kind kind = {copy_h2d_hold, copy_h2d_run, copy_h2d_drop};
	struct op op = {.kind = &kind,
			.target = target,
			.source = (uint64_t)(uintptr_t)source,
			.bytes = bytes};

	CALL_ENTER(cuMemcpyHtoDAsync);
	op.ready = copy_ready_now();

	return stream_submit(stream, &op);
}

/* ---- Device to host ---- */

static CUresult copy_d2h_hold(struct op *op, struct device *device)
{
	CUresult result;

	if (op->bytes == 0)
		return CUDA_SUCCESS;

	result = host_hold(op->target, op->bytes, device, true);
	if (result != CUDA_SUCCESS)
		return result;

	result = mapping_hold_range(op->source, op->bytes, device, CU_MEM_ACCESS_FLAGS_PROT_READ);
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
	mapping_drop_range(op->source, op->bytes);
	host_drop(op->target);
}

CUresult cuMemcpyDtoHAsync(void *target, CUdeviceptr source, size_t bytes, CUstream stream)
{
	static const struct op_kind kind = {copy_d2h_hold, copy_d2h_run, copy_d2h_drop};
	struct op op = {.kind = &kind,
			.target = (uint64_t)(uintptr_t)target,
			.source = source,
			.bytes = bytes};

	CALL_ENTER(cuMemcpyDtoHAsync);
	op.ready = copy_ready_now();

	return stream_submit(stream, &op);
}

/* ---- Device to device ---- */

static CUresult copy_d2d_hold(struct op *op, struct device *device)
{
	CUresult result;

	if (op->bytes == 0)
		return CUDA_SUCCESS;

	if ((op->target >= op->source ? op->target - op->source : op->source - op->target) <
	    op->bytes)
		return CUDA_ERROR_INVALID_VALUE;

	result = mapping_hold_range(op->source, op->bytes, device, CU_MEM_ACCESS_FLAGS_PROT_READ);
	if (result != CUDA_SUCCESS)
		return result;

	result = mapping_hold_range(op->target, op->bytes, device,
				    CU_MEM_ACCESS_FLAGS_PROT_READWRITE);
	if (result != CUDA_SUCCESS)
		mapping_drop_range(op->source, op->bytes);

	return result;
}

static void copy_d2d_run(struct op *op, struct stream *stream)
{
	(void)stream;
	if (op->bytes != 0)
		memcpy(reservation_place(op->target), reservation_place(op->source), op->bytes);
}

static void copy_d2d_drop(struct op *op)
{
	if (op->bytes == 0)
		return;
	mapping_drop_range(op->target, op->bytes);
	mapping_drop_range(op->source, op->bytes);
}

CUresult cuMemcpyDtoDAsync(CUdeviceptr target, CUdeviceptr source, size_t bytes, CUstream stream)
{
	static const struct op_kind kind = {copy_d2d_hold, copy_d2d_run, copy_d2d_drop};
	struct op op = {.kind = &kind, .target = target, .source = source, .bytes = bytes};

	CALL_ENTER(cuMemcpyDtoDAsync);
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
	if (op->bytes != 0)
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

/* ---- Synchronous copies: any host memory, no stream, this thread ---- */

/* Holds device memory for a copy on this thread; *device: of the current context. */
static CUresult copy_sync_hold(CUdeviceptr address, uint64_t bytes, CUmemAccess_flags wanted,
			       struct device **device)
{
	CUresult result;

	LOCKED(table_lock);
	result = device_current(device);
	return result != CUDA_SUCCESS ? result
				      : mapping_hold_range(address, bytes, *device, wanted);
}

static void copy_sync_drop(CUdeviceptr address, uint64_t bytes)
{
	LOCKED(table_lock);
	mapping_drop_range(address, bytes);
}

/* A device address where a host address is expected would crash this process. */
static bool copy_is_of_host(const void *place)
{
	return place != NULL && (uintptr_t)place < SOFT_ALIASES;
}

CUresult cuMemcpyHtoD(CUdeviceptr target, const void *source, size_t bytes)
{
	struct device *device;
	CUresult result;

	CALL_ENTER(cuMemcpyHtoD);
	if (bytes != 0 && !copy_is_of_host(source))
		return CUDA_ERROR_INVALID_VALUE;

	result = copy_sync_hold(target, bytes, CU_MEM_ACCESS_FLAGS_PROT_READWRITE, &device);
	if (result != CUDA_SUCCESS)
		return result;

	if (bytes != 0)
		copy_timed(&device->engines[ENGINE_H2D], clock_now(), reservation_place(target),
			   source, bytes);

	copy_sync_drop(target, bytes);

	return CUDA_SUCCESS;
}

CUresult cuMemcpyDtoH(void *target, CUdeviceptr source, size_t bytes)
{
	struct device *device;
	CUresult result;

	CALL_ENTER(cuMemcpyDtoH);
	if (bytes != 0 && !copy_is_of_host(target))
		return CUDA_ERROR_INVALID_VALUE;

	result = copy_sync_hold(source, bytes, CU_MEM_ACCESS_FLAGS_PROT_READ, &device);
	if (result != CUDA_SUCCESS)
		return result;

	if (bytes != 0)
		copy_timed(&device->engines[ENGINE_D2H], clock_now(), target,
			   reservation_place(source), bytes);

	copy_sync_drop(source, bytes);

	return CUDA_SUCCESS;
}

/* ---- For tests ---- */

static int copy_test_hold(unsigned device, CUdeviceptr address, uint64_t bytes,
			  CUmemAccess_flags wanted)
{
	const struct device *found = device_at((int)device);

	LOCKED(table_lock);
	if (found == NULL || mapping_hold_range(address, bytes, found, wanted) != CUDA_SUCCESS)
		return -EFAULT;
	return 0;
}

int hbm_soft_peek(void *target, unsigned device, CUdeviceptr source, size_t bytes)
{
	if (copy_test_hold(device, source, bytes, CU_MEM_ACCESS_FLAGS_PROT_READ) < 0)
		return -EFAULT;
	memcpy(target, reservation_place(source), bytes);
	copy_sync_drop(source, bytes);
	return 0;
}

int hbm_soft_poke(unsigned device, CUdeviceptr target, const void *source, size_t bytes)
{
	if (copy_test_hold(device, target, bytes, CU_MEM_ACCESS_FLAGS_PROT_READWRITE) < 0)
		return -EFAULT;
	memcpy(reservation_place(target), source, bytes);
	copy_sync_drop(target, bytes);
	return 0;
}
