/* SPDX-License-Identifier: Apache-2.0 */
#include "client/python/native/opening.h"

#include "client/python/native/core.h"

#include <stdlib.h>

struct opening *opening_new(struct core *core, const struct hbm_namespace_options *options)
{
	struct opening *opening = calloc(1, sizeof(*opening));
	struct call call;
	uint32_t ns = 0;

	if (!opening)
		PyErr_NoMemory();
	if (!opening || !core_enter(&call, core) ||
	    core_leave(&call, hbm_namespace_open(call.hbm, options, &ns)) < 0) {
		free(opening);
		return NULL;
	}

	opening->core = core;
	opening->refs = 1;
	opening->ns = ns;
	opening->block_bytes = options->block_bytes;

	return opening;
}

int opening_unref(struct opening *opening)
{
	struct call call;
	int r = 0;

	if (--opening->refs > 0)
		return 0;

	if (!opening->core->closed)
		r = core_enter(&call, opening->core)
			    ? core_leave(&call, hbm_namespace_close(call.hbm, opening->ns))
			    : -1;
	free(opening);

	return r;
}
