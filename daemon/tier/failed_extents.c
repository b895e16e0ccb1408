/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/tier/failed_extents.h"

#include <stdlib.h>

#define CAPACITY_FIRST 16

void failed_extents_add(struct failed_extents *failed, uint32_t unit, uint64_t bytes)
{
	if (failed->count == failed->capacity) {
		size_t capacity = failed->capacity > 0 ? failed->capacity * 2 : CAPACITY_FIRST;
		struct failed_extent *list = reallocarray(failed->list, capacity, sizeof(*list));
		if (!list) {
			failed->unknown += bytes;
			return;
		}

		failed->list = list;
		failed->capacity = capacity;
	}

	failed->list[failed->count++] = (struct failed_extent){.unit = unit, .bytes = bytes};
}

void failed_extents_remove(struct failed_extents *failed, uint32_t unit, uint64_t bytes)
{
	for (size_t i = 0; i < failed->count; i++) {
		if (failed->list[i].unit != unit)
			continue;

		failed->list[i] = failed->list[--failed->count];
		return;
	}

	failed->unknown -= bytes;
}

void failed_extents_clear(struct failed_extents *failed)
{
	free(failed->list);
	*failed = (struct failed_extents){0};
}
