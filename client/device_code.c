/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device_code: see device_code.h. Launches the library's kernels on a stream of the caller. What a kernel
 * that cannot be loaded would have done, plain copies do where they can. Lists are checked
 * whole before the first launch.
 */
#include "client/device_code.h"

#include "client/connection.h"
#include "client/device.h"
#include "client/error.h"
#include "daemon/base/checked.h"
#include "kernels/device/checksum.h"
#include "kernels/device/gather.h"

#include <errno.h>

/* One copy in either direction, on the caller's stream. */
struct copier {
	struct gpu *gpu;
	struct kernels *kernels;
	CUstream stream;
	uint64_t flat;
	bool scatter;
};

static bool copier_copy(const struct copier *copier, uint64_t at, uint64_t address, uint64_t bytes)
{
	const uint64_t flat = copier->flat + at;

	return bytes == 0 ||
	       GPU_CALL(copier->gpu, cuMemcpyDtoDAsync, copier->scatter ? address : flat,
			copier->scatter ? flat : address, bytes, copier->stream);
}

/* Whether the kernel is there, after the first try to load it. A context that is broken
 * says so here, and again to the copies. */
static bool copier_has(const struct copier *copier, enum kernel kernel)
{
	return kernels_load(copier->kernels, copier->gpu->driver, kernel) == CUDA_SUCCESS;
}

/* ---- Pieces ---- */

static bool device_code_copy_pieces(const struct copier *copier, const struct hbm_piece *pieces,
				    size_t count)
{
	uint64_t at = 0;

	for (size_t i = 0; i < count; i++) {
		if (!copier_copy(copier, at, pieces[i].address, pieces[i].bytes))
			return false;
		at += pieces[i].bytes;
	}

	return true;
}

static bool device_code_launch_pieces(const struct copier *copier, const struct hbm_piece *pieces,
				      size_t count)
{
	struct gather_piece list[GATHER_PIECES];
	uint64_t at = 0;

	for (size_t done = 0; done < count;) {
		size_t some = 0;

		for (; some < GATHER_PIECES && done < count; done++) {
			list[some++] =
				(struct gather_piece){pieces[done].address, pieces[done].bytes, at};
			at += pieces[done].bytes;
		}

		if (!hbm_gpu_check(copier->gpu, "cuLaunchKernel",
				   gather_pieces_launch(copier->kernels, copier->gpu->driver,
							copier->stream, copier->flat, list, some,
							copier->scatter)))
			return false;
	}

	return true;
}

static bool device_code_move_pieces(const struct copier *copier, const void *pieces, size_t count)
{
	return copier_has(copier, KERNEL_gather_pieces)
		       ? device_code_launch_pieces(copier, pieces, count)
		       : device_code_copy_pieces(copier, pieces, count);
}

static int device_code_check_pieces(struct hbm *hbm, const struct hbm_piece *pieces, size_t count,
				    uint64_t flat)
{
	uint64_t end = flat, ignored;

	for (size_t i = 0; i < count; i++)
		if (!checked_add(pieces[i].address, pieces[i].bytes, &ignored) ||
		    !checked_add(end, pieces[i].bytes, &end))
			return hbm_fail(hbm, HBM_INVALID,
					"piece %zu: %llu bytes go beyond the last address", i,
					(unsigned long long)pieces[i].bytes);

	return 0;
}

/* ---- Rows ---- */

/* The driver refuses a stride below the size of a row, or beyond a limit of the device. */
static bool device_code_copy_2d(const struct copier *copier, const struct hbm_rows *rows)
{
	const uint64_t to = copier->scatter ? rows->address : copier->flat;
	const uint64_t from = copier->scatter ? copier->flat : rows->address;
	const CUDA_MEMCPY2D copy = {
		.srcMemoryType = CU_MEMORYTYPE_DEVICE,
		.srcDevice = from,
		.srcPitch = copier->scatter ? rows->row_bytes : rows->stride,
		.dstMemoryType = CU_MEMORYTYPE_DEVICE,
		.dstDevice = to,
		.dstPitch = copier->scatter ? rows->stride : rows->row_bytes,
		.WidthInBytes = rows->row_bytes,
		.Height = rows->count,
	};

	return copier->gpu->driver->cuMemcpy2DAsync(&copy, copier->stream) == CUDA_SUCCESS;
}

static bool device_code_copy_rows(const struct copier *copier, const struct hbm_rows *rows)
{
	if (rows->count == 0 || rows->row_bytes == 0 || device_code_copy_2d(copier, rows))
		return true;

	for (uint64_t i = 0; i < rows->count; i++)
		if (!copier_copy(copier, i * rows->row_bytes, rows->address + i * rows->stride,
				 rows->row_bytes))
			return false;

	return true;
}

static bool device_code_move_rows(const struct copier *copier, const void *list, size_t count)
{
	const struct hbm_rows *rows = list;
	const struct gather_rows_job job = {.flat = copier->flat,
					    .base = rows->address,
					    .stride = rows->stride,
					    .row_bytes = rows->row_bytes,
					    .count = rows->count,
					    .scatter = copier->scatter};

	(void)count;
	if (!copier_has(copier, KERNEL_gather_rows))
		return device_code_copy_rows(copier, rows);

	return hbm_gpu_check(
		copier->gpu, "cuLaunchKernel",
		gather_rows_launch(copier->kernels, copier->gpu->driver, copier->stream, &job));
}

static int device_code_check_rows(struct hbm *hbm, const struct hbm_rows *rows, uint64_t flat)
{
	const uint64_t last = rows->count == 0 ? 0 : rows->count - 1;
	uint64_t all, end;

	if (checked_mul(rows->row_bytes, rows->count, &all) && checked_add(flat, all, &end) &&
	    checked_mul(rows->stride, last, &all) && checked_add(all, rows->row_bytes, &all) &&
	    checked_add(rows->address, all, &end))
		return 0;

	return hbm_fail(hbm, HBM_INVALID, "%llu rows of %llu bytes go beyond the last address",
			(unsigned long long)rows->count, (unsigned long long)rows->row_bytes);
}

/* ---- Checksums ---- */

static bool device_code_sum(const struct copier *copier, const void *list, size_t count)
{
	const struct hbm_piece *pieces = list;
	struct checksum_piece some[CHECKSUM_PIECES];
	CUresult result = CUDA_SUCCESS;
	uint64_t at = 0;

	for (size_t i = 0, used = 0; i <= count && result == CUDA_SUCCESS; i++) {
		if (i == count || used == CHECKSUM_PIECES) {
			/* The first launch clears the sum. */
			result = checksum_launch(copier->kernels, copier->gpu->driver,
						 copier->stream, copier->flat, i <= CHECKSUM_PIECES,
						 some, used);
			used = 0;
		}

		if (i < count) {
			some[used++] =
				(struct checksum_piece){pieces[i].address, pieces[i].bytes, at, 0};
			at += pieces[i].bytes;
		}
	}

	return hbm_gpu_check(copier->gpu, "cuLaunchKernel", result);
}

static int device_code_check_units(struct hbm *hbm, const struct hbm_piece *pieces, size_t count,
				   uint64_t sum)
{
	if (sum % sizeof(uint64_t) != 0)
		return hbm_fail(hbm, HBM_INVALID, "the sum is not aligned to 8 bytes");

	for (size_t i = 0; i < count; i++)
		if ((pieces[i].address | pieces[i].bytes) % 16 != 0)
			return hbm_fail(hbm, HBM_INVALID,
					"piece %zu: not a multiple of 16 bytes, or not aligned so",
					i);

	return 0;
}

/* ---- The calls ---- */

int hbm_device_code_run(struct hbm *hbm, uint32_t device, device_code_fn *fn, const void *arg)
{
	struct gpu *gpu = &hbm->gpu;
	int r = hbm_use_device(hbm, device);
	bool entered;

	if (r)
		return r;

	entered = hbm_gpu_enter(gpu, device);
	if (!entered || !fn(gpu, device, arg))
		r = hbm_fail_device(hbm, gpu->failed_call, gpu->failed_result);
	if (entered)
		hbm_gpu_leave(gpu);

	return r;
}

struct code_needed {
	enum kernel kernel;
	device_code_fn *fn;
	const void *arg;
};

static bool device_code_load_and_run(struct gpu *gpu, uint32_t device, const void *arg)
{
	const struct code_needed *needed = arg;

	return hbm_gpu_check(gpu, "cuModuleLoadData",
			     kernels_load(&gpu->kernels[device], gpu->driver, needed->kernel)) &&
	       needed->fn(gpu, device, needed->arg);
}

int hbm_device_code_need(struct hbm *hbm, uint32_t device, enum kernel kernel, const char *what,
			 device_code_fn *fn, const void *arg)
{
	const struct code_needed needed = {kernel, fn, arg};
	int r = hbm_device_code_run(hbm, device, device_code_load_and_run, &needed);
	CUresult why;

	if (r != HBM_DEVICE)
		return r;

	why = kernels_refused(&hbm->gpu.kernels[device], kernel);

	return why == CUDA_SUCCESS ? r
				   : hbm_fail(hbm, HBM_UNSUPPORTED,
					      "the driver refuses the device code of %s: %s", what,
					      driver_error_name(hbm->gpu.driver, why));
}

struct code_move {
	const struct copier *how;
	bool (*move)(const struct copier *, const void *, size_t);
	const void *list;
	size_t count;
};

static bool device_code_move_on(struct gpu *gpu, uint32_t device, const void *arg)
{
	const struct code_move *move = arg;
	struct copier copier = *move->how;

	copier.gpu = gpu;
	copier.kernels = &gpu->kernels[device];

	return move->move(&copier, move->list, move->count);
}

static int device_code_pieces(struct hbm *hbm, uint32_t device, const struct hbm_piece *pieces,
			      size_t count, const struct copier *how)
{
	int r = hbm_check_owner(hbm);

	if (r == 0)
		r = device_code_check_pieces(hbm, pieces, count, how->flat);

	return r ? r
		 : hbm_device_code_run(
			   hbm, device, device_code_move_on,
			   &(struct code_move){how, device_code_move_pieces, pieces, count});
}

static int device_code_rows(struct hbm *hbm, uint32_t device, const struct hbm_rows *rows,
			    const struct copier *how)
{
	int r = hbm_check_owner(hbm);

	if (r == 0)
		r = device_code_check_rows(hbm, rows, how->flat);

	return r ? r
		 : hbm_device_code_run(hbm, device, device_code_move_on,
				       &(struct code_move){how, device_code_move_rows, rows, 1});
}

int hbm_gather(struct hbm *hbm, uint32_t device, const struct hbm_piece *pieces, size_t count,
	       uint64_t flat, void *stream)
{
	const struct copier how = {.stream = stream, .flat = flat};

	return device_code_pieces(hbm, device, pieces, count, &how);
}

int hbm_scatter(struct hbm *hbm, uint32_t device, const struct hbm_piece *pieces, size_t count,
		uint64_t flat, void *stream)
{
	const struct copier how = {.stream = stream, .flat = flat, .scatter = true};

	return device_code_pieces(hbm, device, pieces, count, &how);
}

int hbm_gather_rows(struct hbm *hbm, uint32_t device, const struct hbm_rows *rows, uint64_t flat,
		    void *stream)
{
	const struct copier how = {.stream = stream, .flat = flat};

	return device_code_rows(hbm, device, rows, &how);
}

int hbm_scatter_rows(struct hbm *hbm, uint32_t device, const struct hbm_rows *rows, uint64_t flat,
		     void *stream)
{
	const struct copier how = {.stream = stream, .flat = flat, .scatter = true};

	return device_code_rows(hbm, device, rows, &how);
}

int hbm_checksum(struct hbm *hbm, uint32_t device, const struct hbm_piece *pieces, size_t count,
		 uint64_t sum, void *stream)
{
	const struct copier how = {.stream = stream, .flat = sum};
	int r = hbm_check_owner(hbm);

	if (r == 0)
		r = device_code_check_pieces(hbm, pieces, count, 0);
	if (r == 0)
		r = device_code_check_units(hbm, pieces, count, sum);

	return r ? r
		 : hbm_device_code_need(hbm, device, KERNEL_checksum_pieces, "checksums",
					device_code_move_on,
					&(struct code_move){&how, device_code_sum, pieces, count});
}
