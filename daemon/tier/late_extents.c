/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/tier/late_extents.h"

#include <stdlib.h>

#define CAPACITY_FIRST 16

/* The index of a unit, or count. */
static size_t late_extents_find(const struct late_extents *late, uint32_t unit)
{
	size_t i = 0;

	while (i < late->count && late->units[i] != unit)
		i++;
	return i;
}

static bool late_extents_grow(struct late_extents *late)
{
	size_t capacity = late->capacity > 0 ? late->capacity * 2 : CAPACITY_FIRST;
	uint32_t *units = late->count < late->capacity
				  ? late->units
				  : reallocarray(late->units, capacity, sizeof(*units));
	if (!units)
		return false;

	if (late->count == late->capacity)
		late->capacity = capacity;
	late->units = units;

	return true;
}

void late_extents_add(struct late_extents *late, uint32_t unit)
{
	if (late_extents_find(late, unit) < late->count)
		return;

	if (late_extents_grow(late))
		late->units[late->count++] = unit;
	else
		late->all = true;
}

bool late_extents_take(struct late_extents *late, uint32_t unit)
{
	size_t at = late_extents_find(late, unit);
	if (at == late->count)
		return late->all;

	late->units[at] = late->units[--late->count];

	return true;
}

void late_extents_clear(struct late_extents *late)
{
	free(late->units);
	*late = (struct late_extents){0};
}
