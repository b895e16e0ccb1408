/* SPDX-License-Identifier: Apache-2.0 */
/* kernels: see kernels.h. */
#include "kernels/device/kernels.h"

#define MODULE_DECLARED(module) extern const char module##_ptx[];
DEVICE_MODULES(MODULE_DECLARED)
#undef MODULE_DECLARED

/* The module and the entry of each. */
static const struct {
	enum kernel_module module;
	const char *entry;
} kernel_list[] = {
#define KERNEL_LISTED(kernel, module) [KERNEL_##kernel] = {MODULE_##module, #kernel},
	DEVICE_KERNELS(KERNEL_LISTED)
#undef KERNEL_LISTED
};

static const char *const module_texts[] = {
#define MODULE_TEXT(module) [MODULE_##module] = module##_ptx,
	DEVICE_MODULES(MODULE_TEXT)
#undef MODULE_TEXT
};

/* Whether the answer is about the code, and will be the same the next time. */
static bool kernels_is_refusal(CUresult result)
{
	switch (result) {
	case CUDA_ERROR_INVALID_IMAGE:
	case CUDA_ERROR_NO_BINARY_FOR_GPU:
	case CUDA_ERROR_INVALID_PTX:
	case CUDA_ERROR_JIT_COMPILER_NOT_FOUND:
	case CUDA_ERROR_UNSUPPORTED_PTX_VERSION:
	case CUDA_ERROR_NOT_FOUND:
		return true;
	default:
		return false;
	}
}

CUresult kernels_load(struct kernels *kernels, const struct driver *driver, enum kernel kernel)
{
	const enum kernel_module module = kernel_list[kernel].module;
	CUresult result = kernels->refused[module];

	if (result == CUDA_SUCCESS && !kernels->modules[module])
		result = driver->cuModuleLoadData(&kernels->modules[module], module_texts[module]);
	if (result == CUDA_SUCCESS && !kernels->functions[kernel])
		result = driver->cuModuleGetFunction(&kernels->functions[kernel],
						     kernels->modules[module],
						     kernel_list[kernel].entry);

	if (kernels_is_refusal(result))
		kernels->refused[module] = result;

	return result;
}

CUresult kernels_refused(const struct kernels *kernels, enum kernel kernel)
{
	return kernels->refused[kernel_list[kernel].module];
}

CUresult kernels_launch(struct kernels *kernels, const struct driver *driver, CUstream stream,
			enum kernel kernel, struct kernel_grid grid, void *job)
{
	CUresult result = kernels_load(kernels, driver, kernel);

	if (result != CUDA_SUCCESS)
		return result;

	return driver->cuLaunchKernel(kernels->functions[kernel], grid.blocks, grid.rows, 1,
				      KERNEL_THREADS, 1, 1, 0, stream, (void *[]){job}, NULL);
}

bool kernels_are_loaded(const struct kernels *kernels)
{
	for (size_t i = 0; i < KERNEL_MODULES; i++)
		if (kernels->modules[i])
			return true;
	return false;
}

void kernels_unload(struct kernels *kernels, const struct driver *driver)
{
	for (size_t i = 0; i < KERNEL_MODULES; i++)
		if (kernels->modules[i])
			driver->cuModuleUnload(kernels->modules[i]);

	*kernels = (struct kernels){0};
}
