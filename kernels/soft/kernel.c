/* SPDX-License-Identifier: Apache-2.0 */
/* Kernels: a list, in the order of their registration. */
#include "kernels/soft/kernel.h"

#include "kernels/soft/lock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static struct kernel *kernels;

static struct kernel *kernel_named(const char *name)
{
	for (struct kernel *kernel = kernels; kernel != NULL; kernel = kernel->next)
		if (strcmp(kernel->name, name) == 0)
			return kernel;
	return NULL;
}

static bool kernel_has_params(const struct kernel *kernel, const uint32_t *param_bytes,
			      uint32_t params)
{
	return kernel->params == params &&
	       memcmp(kernel->param_bytes, param_bytes, params * sizeof(*param_bytes)) == 0;
}

const struct kernel *kernel_find(const struct ptx_entry *entry)
{
	const struct kernel *kernel = kernel_named(entry->name);

	return kernel != NULL && kernel_has_params(kernel, entry->param_bytes, entry->params)
		       ? kernel
		       : NULL;
}

static struct kernel *kernel_free(struct kernel *kernel)
{
	if (kernel != NULL)
		free(kernel->name);
	free(kernel);
	return NULL;
}

void kernels_reset(void)
{
	while (kernels != NULL) {
		struct kernel *first = kernels;

		kernels = first->next;
		kernel_free(first);
	}
}

static bool kernel_is_valid(const struct hbm_soft_kernel *given)
{
	uint64_t all = 0;

	if (given == NULL || given->name == NULL || given->run == NULL ||
	    given->params > HBM_SOFT_PARAMS_MAX ||
	    (given->params != 0 && given->param_bytes == NULL))
		return false;

	for (uint32_t i = 0; i < given->params; i++) {
		if (given->param_bytes[i] == 0)
			return false;
		all += given->param_bytes[i];
	}

	return all <= HBM_SOFT_PARAM_BYTES_MAX;
}

static struct kernel *kernel_new(const struct hbm_soft_kernel *given)
{
	struct kernel *kernel = calloc(1, sizeof(*kernel));

	if (kernel == NULL)
		return NULL;

	kernel->name = strdup(given->name);
	kernel->run = given->run;
	kernel->params = given->params;
	if (given->params != 0)
		memcpy(kernel->param_bytes, given->param_bytes,
		       given->params * sizeof(*given->param_bytes));

	return kernel->name == NULL ? kernel_free(kernel) : kernel;
}

int hbm_soft_kernel(const struct hbm_soft_kernel *given)
{
	struct kernel *kernel;

	if (!kernel_is_valid(given))
		return -EINVAL;

	LOCKED(table_lock);
	kernel = kernel_named(given->name);
	if (kernel != NULL)
		return kernel->run == given->run &&
				       kernel_has_params(kernel, given->param_bytes, given->params)
			       ? 0
			       : -EEXIST;

	kernel = kernel_new(given);
	if (kernel == NULL)
		return -ENOMEM;

	kernel->next = kernels;
	kernels = kernel;

	return 0;
}
