/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/tier/bad_extents.h"

#include <stddef.h>

#define READS 2 /* that fail make an extent bad */

static struct bad_extent *bad_extents_find(struct bad_extents *bad, uint32_t unit)
{
	for (unsigned i = 0; i < BAD_EXTENTS_MAX; i++)
		if (bad->list[i].reads > 0 && bad->list[i].unit == unit)
			return &bad->list[i];
	return NULL;
}

void bad_extents_read_failed(struct bad_extents *bad, uint32_t unit)
{
	struct bad_extent *extent = bad_extents_find(bad, unit);
	if (!extent) {
		extent = &bad->list[bad->next++ % BAD_EXTENTS_MAX];
		bad->count -= extent->reads >= READS;
		*extent = (struct bad_extent){.unit = unit};
	}

	extent->reads++;
	bad->count += extent->reads == READS;
}

bool bad_extents_take(struct bad_extents *bad, uint32_t unit)
{
	struct bad_extent *extent = bad->count > 0 ? bad_extents_find(bad, unit) : NULL;
	if (!extent || extent->reads < READS)
		return false;

	*extent = (struct bad_extent){0};
	bad->count--;

	return true;
}
