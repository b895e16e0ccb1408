/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Launches. A launch references its module from the call on. Memory that its kernel asks
 * for is held until the launch ends. The first error of a launch becomes the error of the
 * context.
 */
#include "kernels/soft/host.h"
#include "kernels/soft/lock.h"
#include "kernels/soft/mapping.h"
#include "kernels/soft/module.h"
#include "kernels/soft/reservation.h"
#include "kernels/soft/sm.h"
#include "kernels/soft/stream.h"

#include <stdlib.h>
#include <string.h>

/* The limits of all current devices. */
#define THREADS_MAX 1024u
#define BLOCK_Z_MAX 64u
#define GRID_X_MAX 0x7fffffffu
#define GRID_YZ_MAX 65535u
#define SHARED_MAX (48u << 10) /* more would need a call that the driver table does not have */
#define PARAM_ALIGNMENT 16u

/* A range the kernel asked for. */
struct held {
	struct held *next;
	uint64_t address, bytes;
};

struct launch {
	struct hbm_soft_launch
		seen; /* what the kernel gets; first, so that a pointer to it is one to the launch */
	struct device *device;
	struct function *function;
	struct held *held;
	CUresult fault;
	void *params[HBM_SOFT_PARAMS_MAX];
	_Alignas(PARAM_ALIGNMENT) unsigned char copies[]; /* of the parameters */
};

/* ---- While it runs ---- */

static CUresult held_acquire(struct held *held, struct device *device, bool writes)
{
	if (host_is_alias(held->address))
		return host_hold_alias(held->address, held->bytes, device, writes);
	return mapping_hold_range(held->address, held->bytes, device,
				  writes ? CU_MEM_ACCESS_FLAGS_PROT_READWRITE
					 : CU_MEM_ACCESS_FLAGS_PROT_READ);
}

static void *launch_memory(struct hbm_soft_launch *seen, CUdeviceptr address, size_t bytes,
			   bool writes)
{
	static unsigned char nothing[1];
	struct launch *launch = (struct launch *)(void *)seen;
	struct held *held;
	CUresult result;

	if (bytes == 0)
		return nothing;

	held = malloc(sizeof(*held));
	if (held == NULL) {
		launch->fault = CUDA_ERROR_OUT_OF_MEMORY;
		return NULL;
	}

	*held = (struct held){launch->held, address, bytes};
	LOCKED(table_lock);
	result = held_acquire(held, launch->device, writes);
	if (result != CUDA_SUCCESS) {
		launch->fault = CUDA_ERROR_ILLEGAL_ADDRESS;
		free(held);
		return NULL;
	}

	launch->held = held;

	return host_is_alias(address) ? (void *)(uintptr_t)host_of_alias(address)
				      : reservation_place(address);
}

static void launch_run(struct op *op, struct stream *stream)
{
	struct launch *launch = op->object;
	CUresult result;

	(void)stream;
	launch->device = op->device;
	sm_wait(op->device->index);
	sm_kernel_begins(op->device->index);
	call_forbid(true);
	result = launch->function->kernel->run(&launch->seen, launch->params);
	call_forbid(false);
	sm_kernel_ends(op->device->index);
	if (launch->fault != CUDA_SUCCESS)
		result = launch->fault; /* whatever the kernel returns */
	if (result != CUDA_SUCCESS)
		device_fail(op->device, result);
}

static void launch_drop(struct op *op)
{
	struct launch *launch = op->object;

	while (launch->held != NULL) {
		struct held *held = launch->held;

		launch->held = held->next;
		if (host_is_alias(held->address))
			host_drop(host_of_alias(held->address));
		else
			mapping_drop_range(held->address, held->bytes);

		free(held);
	}

	function_drop(launch->function);
	free(launch);
}

/* ---- The call ---- */

static CUresult launch_check_sizes(const struct hbm_soft_launch *seen,
				   const struct ptx_entry *entry)
{
	const uint32_t *grid = seen->grid, *block = seen->block, *exact = entry->exact_threads;
	uint64_t threads = (uint64_t)block[0] * block[1] *
			   block[2]; /* each is below 2^16 when this is called */

	if (grid[0] == 0 || grid[1] == 0 || grid[2] == 0 || grid[0] > GRID_X_MAX ||
	    grid[1] > GRID_YZ_MAX || grid[2] > GRID_YZ_MAX)
		return CUDA_ERROR_INVALID_VALUE;

	if (block[0] == 0 || block[1] == 0 || block[2] == 0 || block[0] > THREADS_MAX ||
	    block[1] > THREADS_MAX || block[2] > BLOCK_Z_MAX || threads > THREADS_MAX ||
	    seen->shared_bytes > SHARED_MAX)
		return CUDA_ERROR_INVALID_VALUE;

	if (exact[0] != 0 && memcmp(exact, block, sizeof(seen->block)) != 0)
		return CUDA_ERROR_INVALID_VALUE;
	if (entry->most_threads != 0 && threads > entry->most_threads)
		return CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES;

	return CUDA_SUCCESS;
}

/* Validates the parameters of the call. `extra`, the other way to pass them, is not
 * supported. */
static CUresult launch_check_params(const struct kernel *kernel, void **params, void **extra)
{
	if (extra != NULL)
		return params != NULL ? CUDA_ERROR_INVALID_VALUE : CUDA_ERROR_NOT_SUPPORTED;
	for (uint32_t i = 0; i < kernel->params; i++)
		if (params == NULL || params[i] == NULL)
			return CUDA_ERROR_INVALID_VALUE;

	return CUDA_SUCCESS;
}

static size_t launch_param_room(uint32_t bytes)
{
	return (bytes + PARAM_ALIGNMENT - 1) / PARAM_ALIGNMENT * PARAM_ALIGNMENT;
}

/* A launch of a held function, with copies of its parameters; NULL: out of memory. */
static struct launch *launch_new(const struct hbm_soft_launch *seen, struct function *function,
				 void **params)
{
	const struct kernel *kernel = function->kernel;
	struct launch *launch;
	size_t room = 0, at = 0;

	for (uint32_t i = 0; i < kernel->params; i++)
		room += launch_param_room(kernel->param_bytes[i]);
	room = (sizeof(*launch) + room + _Alignof(struct launch) - 1) / _Alignof(struct launch) *
	       _Alignof(struct launch);
	launch = aligned_alloc(_Alignof(struct launch), room);
	if (launch == NULL)
		return NULL;

	*launch = (struct launch){.seen = *seen, .function = function};
	for (uint32_t i = 0; i < kernel->params; i++) {
		launch->params[i] = memcpy(&launch->copies[at], params[i], kernel->param_bytes[i]);
		at += launch_param_room(kernel->param_bytes[i]);
	}

	return launch;
}

/* Queues a launch of a held function; on failure it is still held. */
static CUresult launch_submit(const struct hbm_soft_launch *seen, struct function *function,
			      CUstream stream, void **params, void **extra)
{
	static const struct op_kind kind = {NULL, launch_run, launch_drop};
	struct op op = {.kind = &kind};
	CUresult result = launch_check_sizes(seen, function->entry);

	if (result == CUDA_SUCCESS)
		result = launch_check_params(function->kernel, params, extra);
	if (result != CUDA_SUCCESS)
		return result;

	op.object = launch_new(seen, function, params);
	if (op.object == NULL)
		return CUDA_ERROR_OUT_OF_MEMORY;

	result = stream_submit(stream, &op);
	if (result != CUDA_SUCCESS)
		free(op.object);

	return result;
}

CUresult cuLaunchKernel(CUfunction handle, unsigned int grid_x, unsigned int grid_y,
			unsigned int grid_z, unsigned int block_x, unsigned int block_y,
			unsigned int block_z, unsigned int shared_bytes, CUstream stream,
			void **params, void **extra)
{
	const struct hbm_soft_launch seen = {
		{grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, shared_bytes, launch_memory};
	struct function *function;
	CUresult result;

	CALL_ENTER(cuLaunchKernel);
	pthread_mutex_lock(&table_lock);
	result = function_hold(handle, &function);
	pthread_mutex_unlock(&table_lock);
	if (result != CUDA_SUCCESS)
		return result;

	result = launch_submit(&seen, function, stream, params, extra);
	if (result != CUDA_SUCCESS) {
		LOCKED(table_lock);
		function_drop(function);
	}

	return result;
}
