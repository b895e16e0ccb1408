/* SPDX-License-Identifier: Apache-2.0 */
/* Modules and functions. Their handles are names that are not reused soon, so that stale
 * ones are detected. */
#include "kernels/soft/module.h"

#include "kernels/soft/lock.h"
#include "kernels/soft/ptx.h"
#include "kernels/soft/slots.h"

#include <assert.h>
#include <stdlib.h>

struct module {
	uint64_t name;
	struct device *device;
	uint64_t uses; /* launches queued or running */
	struct ptx ptx;
	struct function *functions; /* one for each entry */
};

static struct slots modules = {.kind = 4};
static struct slots functions = {.kind = 5};

uint64_t modules_live(void)
{
	return modules.live;
}

static struct module *module_free(struct module *module)
{
	if (module != NULL) {
		free(module->functions);
		ptx_clear(&module->ptx);
	}

	free(module);
	return NULL;
}

static CUresult module_new(const char *text, struct module **out)
{
	struct module *module = calloc(1, sizeof(*module));
	CUresult result;

	if (module == NULL)
		return CUDA_ERROR_OUT_OF_MEMORY;

	result = ptx_read(&module->ptx, text, SOFT_CAPABILITY);
	if (result == CUDA_SUCCESS && module->ptx.count != 0) {
		module->functions = calloc(module->ptx.count, sizeof(*module->functions));
		result = module->functions == NULL ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_SUCCESS;
	}

	if (result != CUDA_SUCCESS) {
		module_free(module);
		return result;
	}

	*out = module;

	return CUDA_SUCCESS;
}

/* Names the module and adds it to the current context; table_lock is held. */
static CUresult module_enter(struct module *module)
{
	CUresult result = device_current(&module->device);

	if (result != CUDA_SUCCESS)
		return result;

	module->name = slots_add(&modules, module);
	if (module->name == 0)
		return CUDA_ERROR_OUT_OF_MEMORY;

	module->device->children++;

	return CUDA_SUCCESS;
}

CUresult cuModuleLoadData(CUmodule *out, const void *image)
{
	struct module *module;
	CUresult result;

	CALL_ENTER(cuModuleLoadData);
	if (out == NULL || image == NULL)
		return CUDA_ERROR_INVALID_VALUE;

	result = module_new(image, &module);
	if (result != CUDA_SUCCESS)
		return result;

	LOCKED(table_lock);
	result = module_enter(module);
	if (result == CUDA_SUCCESS)
		*out = (CUmodule)(uintptr_t)module->name;
	else
		module_free(module);

	return result;
}

/* A module of the current context, in *out; table_lock is held. */
static CUresult module_current(CUmodule handle, struct module **out)
{
	struct module *module = slots_find(&modules, (uint64_t)(uintptr_t)handle);
	struct device *device;
	CUresult result = device_current(&device);

	if (result != CUDA_SUCCESS)
		return result;
	if (module == NULL || module->device != device)
		return CUDA_ERROR_INVALID_HANDLE;

	*out = module;

	return CUDA_SUCCESS;
}

static void module_leave(struct module *module)
{
	for (size_t i = 0; i < module->ptx.count; i++)
		if (module->functions[i].name != 0)
			slots_remove(&functions, module->functions[i].name);
	slots_remove(&modules, module->name);
	module->device->children--;
}

CUresult cuModuleUnload(CUmodule handle)
{
	struct module *module;
	CUresult result;

	CALL_ENTER(cuModuleUnload);
	LOCKED(table_lock);
	result = module_current(handle, &module);
	if (result != CUDA_SUCCESS)
		return result;
	if (module->uses != 0)
		return CUDA_ERROR_ILLEGAL_STATE;

	module_leave(module);
	module_free(module);

	return CUDA_SUCCESS;
}

/* The entry's function, which is named on first use; table_lock is held. */
static CUresult module_function(struct module *module, const struct ptx_entry *entry,
				struct function **out)
{
	struct function *function = &module->functions[entry - module->ptx.entries];

	if (function->name == 0) {
		const struct kernel *kernel = kernel_find(entry);
		uint64_t name = kernel == NULL ? 0 : slots_add(&functions, function);

		if (kernel == NULL)
			return CUDA_ERROR_NO_BINARY_FOR_GPU;
		if (name == 0)
			return CUDA_ERROR_OUT_OF_MEMORY;

		*function = (struct function){name, module, entry, kernel};
	}

	*out = function;
	return CUDA_SUCCESS;
}

CUresult cuModuleGetFunction(CUfunction *out, CUmodule handle, const char *name)
{
	const struct ptx_entry *entry;
	struct function *function;
	struct module *module;
	CUresult result;

	CALL_ENTER(cuModuleGetFunction);
	if (out == NULL || name == NULL)
		return CUDA_ERROR_INVALID_VALUE;

	LOCKED(table_lock);
	result = module_current(handle, &module);
	if (result != CUDA_SUCCESS)
		return result;

	entry = ptx_find(&module->ptx, name);
	if (entry == NULL)
		return CUDA_ERROR_NOT_FOUND;

	result = module_function(module, entry, &function);
	if (result == CUDA_SUCCESS)
		*out = (CUfunction)(uintptr_t)function->name;

	return result;
}

CUresult function_hold(CUfunction handle, struct function **out)
{
	struct function *function = slots_find(&functions, (uint64_t)(uintptr_t)handle);
	struct device *device;
	CUresult result = device_current(&device);

	if (result != CUDA_SUCCESS)
		return result;
	if (function == NULL || function->module->device != device)
		return CUDA_ERROR_INVALID_HANDLE;

	function->module->uses++;
	*out = function;

	return CUDA_SUCCESS;
}

void function_drop(struct function *function)
{
	assert(function->module->uses > 0);
	function->module->uses--;
}

void modules_reset(void)
{
	struct module *module;
	uint32_t at = 0;

	while ((module = slots_next(&modules, &at)) != NULL)
		module_free(module);
	slots_clear(&modules);
	slots_clear(&functions);
}
