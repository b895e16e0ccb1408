/* SPDX-License-Identifier: Apache-2.0 */
#include "client/python/native/opening.h"

#include "client/python/native/core.h"

#include <errno.h>
#include <stdlib.h>

/* A number that is open so many times here: to the daemon it is open or not. */
struct opened {
	struct opened *next; /* of its connection's, under the lock */
	uint32_t ns;
	unsigned uses;
};

/* ---- Under the lock ---- */

static struct opened **opening_find(struct core *core, uint32_t ns)
{
	struct opened **link = &core->opened;

	while (*link && (*link)->ns != ns)
		link = &(*link)->next;

	return link;
}

static int opening_open(struct core *core, const struct hbm_namespace_options *options,
			struct opening *opening)
{
	struct opened *fresh = calloc(1, sizeof(*fresh)), **found;
	int status = fresh ? hbm_namespace_open(core->hbm, options, &opening->ns) : -ENOMEM;

	if (status) {
		free(fresh);
		return status;
	}

	found = opening_find(core, opening->ns);
	if (*found) {
		free(fresh);
	} else {
		fresh->ns = opening->ns;
		*found = fresh;
	}
	(*found)->uses++;

	return 0;
}

static int opening_close(struct core *core, uint32_t ns)
{
	struct opened **found = opening_find(core, ns), *gone = *found;

	if (--gone->uses > 0)
		return 0;

	*found = gone->next;
	free(gone);

	return hbm_namespace_close(core->hbm, ns);
}

void opening_forget(struct core *core)
{
	while (core->opened) {
		struct opened *next = core->opened->next;

		free(core->opened);
		core->opened = next;
	}
}

/* ---- With the GIL ---- */

struct opening *opening_new(struct core *core, const struct hbm_namespace_options *options)
{
	struct opening *opening = calloc(1, sizeof(*opening));
	struct call call;

	if (!opening)
		PyErr_NoMemory();
	if (!opening || !core_enter(&call, core) ||
	    core_leave(&call, opening_open(core, options, opening)) < 0) {
		free(opening);
		return NULL;
	}

	opening->core = core;
	opening->refs = 1;
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
			    ? core_leave(&call, opening_close(opening->core, opening->ns))
			    : -1;
	free(opening);

	return r;
}
