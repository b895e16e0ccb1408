/* SPDX-License-Identifier: Apache-2.0 */
/* slab_budget: a pool whose budget changes: what leaves it has no handle, so ready slabs are released
 * first, and none is created ahead meanwhile. */
#include "daemon/region/slab.h"

#include "daemon/region/slab_pool.h"

static void slab_budget_end(struct slabs *slabs)
{
	void (*done)(void *arg, uint64_t bytes) = slabs->leaving.done;
	uint64_t gone = slabs->leaving.gone;

	slabs->leaving.bytes = slabs->leaving.gone = 0;
	slabs->leaving.done = NULL;
	if (done)
		done(slabs->leaving.arg, gone);
}

void slab_budget_leave(struct slabs *slabs)
{
	struct slabs_books *books = &slabs->books;
	uint64_t bytes = slabs->leaving.bytes;
	if (bytes == 0)
		return;
	if (bytes > books->uncreated)
		bytes = books->uncreated;

	books->budget -= bytes;
	books->uncreated -= bytes;
	slabs->leaving.bytes -= bytes;
	slabs->leaving.gone += bytes;
	if (slabs->leaving.bytes == 0 || (!slab_retire_others(slabs, 0, slabs->leaving.bytes) &&
					  books->retiring == 0 && !slabs->making))
		slab_budget_end(slabs);
}

bool slabs_take_budget(struct slabs *slabs, uint64_t bytes, void (*done)(void *arg, uint64_t bytes),
		       void *arg)
{
	uint64_t free = slab_free_bytes(slabs);
	if (free < slabs->promises.due || bytes > free - slabs->promises.due)
		return false;

	slabs->leaving.bytes = bytes;
	slabs->leaving.gone = 0;
	slabs->leaving.done = done;
	slabs->leaving.arg = arg;
	slab_pump(slabs);

	return true;
}

void slabs_add_budget(struct slabs *slabs, uint64_t bytes)
{
	slabs->books.budget += bytes;
	slabs->books.uncreated += bytes;
	slab_pump(slabs);
}

bool slabs_loses_budget(const struct slabs *slabs)
{
	return slabs->leaving.bytes > 0;
}
