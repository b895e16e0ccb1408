/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Grids. Memory of a device is mapped by granules, so that one check answers for all
 * accesses to a granule. Of host memory, whose registrations begin and end anywhere, each
 * access is checked.
 */
#include "kernels/soft/grid.h"

#include "kernels/device/jobs.h"
#include "kernels/soft/host.h"

#include <string.h>

#define PLACES 64

/* A granule that was checked: where the host sees it. */
struct place {
	uint64_t granule;
	unsigned char *bytes; /* NULL: none */
};

/* Of the launch that runs on this thread. */
struct grid {
	struct hbm_soft_launch *launch;
	CUresult fault;
	struct place places[2][PLACES]; /* to read, to write */
};

_Thread_local struct grid_thread grid_thread;
static _Thread_local struct grid *grid_now;

static void *grid_refuse(CUresult fault)
{
	static _Thread_local _Alignas(16) unsigned char nothing[16];

	if (grid_now->fault == CUDA_SUCCESS)
		grid_now->fault = fault;
	memset(nothing, 0, sizeof(nothing));

	return nothing;
}

static void *grid_place(uint64_t address, bool writes)
{
	const uint64_t granule = address / SOFT_GRANULARITY;
	struct place *place = &grid_now->places[writes][granule % PLACES];

	if (!place->bytes || place->granule != granule) {
		place->granule = granule;
		place->bytes = hbm_soft_memory(grid_now->launch, granule * SOFT_GRANULARITY,
					       SOFT_GRANULARITY, writes);
	}

	return place->bytes ? place->bytes + address % SOFT_GRANULARITY : NULL;
}

void *grid_memory(uint64_t address, uint64_t bytes, bool writes)
{
	void *place;

	if (address % bytes != 0)
		return grid_refuse(CUDA_ERROR_MISALIGNED_ADDRESS);

	place = host_is_alias(address) ? hbm_soft_memory(grid_now->launch, address, bytes, writes)
				       : grid_place(address, writes);

	return place ? place : grid_refuse(CUDA_ERROR_ILLEGAL_ADDRESS);
}

CUresult grid_run(struct hbm_soft_launch *launch, void (*body)(const void *job), const void *job)
{
	struct grid grid = {.launch = launch};
	const uint64_t count = (uint64_t)launch->grid[0] * launch->block[0];

	grid_now = &grid;
	for (uint64_t row = 0; row < launch->grid[1]; row++) {
		for (uint64_t at = 0; at < count && grid.fault == CUDA_SUCCESS; at++) {
			grid_thread = (struct grid_thread){at, count, row, launch->grid[1]};
			body(job);
		}
	}

	grid_now = NULL;

	return grid.fault;
}

int grid_register(void)
{
#define KERNEL_DECLARED(kernel, module) extern const struct hbm_soft_kernel kernel##_on_soft;
	DEVICE_KERNELS(KERNEL_DECLARED)
#undef KERNEL_DECLARED
#define KERNEL_LISTED(kernel, module) &kernel##_on_soft,
	static const struct hbm_soft_kernel *const kernels[] = {DEVICE_KERNELS(KERNEL_LISTED)};
#undef KERNEL_LISTED
	int result = 0;

	for (size_t i = 0; result == 0 && i < sizeof(kernels) / sizeof(kernels[0]); i++)
		result = hbm_soft_kernel(kernels[i]);

	return result;
}
