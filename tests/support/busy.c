/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/busy.h"

#include "tests/support/device_code.h"

#include <time.h>

#define BLOCKS 64
#define THREADS 256
#define BLOCKS_OF_ONE 8 /* that a multiprocessor runs at a time: 2048 threads */

extern const char busy_ptx[];
DEVICE_CODE(busy_ptx);

/* ---- For the soft device ---- */

static uint64_t now_ns(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

/* Device code: what the host reads meanwhile is a race by intention. */
__attribute__((no_sanitize("thread"))) static CUresult run(struct hbm_soft_launch *launch,
							   void *const *params)
{
	const CUdeviceptr *memory = params[0];
	const uint64_t *count = params[1], *value = params[2], *nanoseconds = params[3];
	const uint64_t start = now_ns();
	volatile uint64_t *words = hbm_soft_memory(launch, *memory, *count * sizeof(*words), true);

	if (!words)
		return CUDA_ERROR_ILLEGAL_ADDRESS;

	do {
		for (uint64_t i = 0; i < *count; i++)
			words[i] = *value;
	} while (now_ns() - start < *nanoseconds);

	return CUDA_SUCCESS;
}

static CUresult give_to_soft(const struct driver *driver)
{
	static const uint32_t param_bytes[] = {8, 8, 8, 8};
	static const struct hbm_soft_kernel kernel = {"busy", param_bytes, 4, run};

	return device_code_give(driver, &kernel) ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}

/* ---- For both ---- */

CUresult busy_open(struct busy *busy, const struct driver *driver)
{
	CUresult result = give_to_soft(driver);

	*busy = (struct busy){.driver = driver};
	if (result == CUDA_SUCCESS)
		result = driver->cuModuleLoadData(&busy->module, busy_ptx);
	if (result == CUDA_SUCCESS)
		result = driver->cuModuleGetFunction(&busy->kernel, busy->module, "busy");

	return result;
}

static CUresult busy_launch_blocks(const struct busy *busy, CUstream stream, CUdeviceptr memory,
				   uint64_t bytes, uint64_t value, uint64_t milliseconds,
				   unsigned blocks)
{
	uint64_t count = bytes / sizeof(uint64_t), nanoseconds = milliseconds * 1000000;
	void *params[] = {&memory, &count, &value, &nanoseconds};

	return busy->driver->cuLaunchKernel(busy->kernel, blocks, 1, 1, THREADS, 1, 1, 0, stream,
					    params, NULL);
}

CUresult busy_launch(const struct busy *busy, CUstream stream, CUdeviceptr memory, uint64_t bytes,
		     uint64_t value, uint64_t milliseconds)
{
	return busy_launch_blocks(busy, stream, memory, bytes, value, milliseconds, BLOCKS);
}

CUresult busy_launch_on_all(const struct busy *busy, CUstream stream, CUdeviceptr memory,
			    uint64_t bytes, uint64_t value, uint64_t milliseconds)
{
	int multiprocessors = 1;
	CUresult result = busy->driver->cuDeviceGetAttribute(
		&multiprocessors, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, 0);

	if (result != CUDA_SUCCESS)
		return result;

	return busy_launch_blocks(busy, stream, memory, bytes, value, milliseconds,
				  (unsigned)multiprocessors * BLOCKS_OF_ONE);
}

CUresult busy_close(struct busy *busy)
{
	CUresult result = busy->module ? busy->driver->cuModuleUnload(busy->module) : CUDA_SUCCESS;

	busy->module = NULL;
	return result;
}
