/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/tier/late_extents.h"

#include <stdlib.h>

#include "daemon/device/device.h"

#define CAPACITY_FIRST 16

static bool late_extents_grow(struct late_extents *late)
{
	size_t capacity = late->capacity > 0 ? late->capacity * 2 : CAPACITY_FIRST;
	struct late_extent *list = late->count < late->capacity
					   ? late->list
					   : reallocarray(late->list, capacity, sizeof(*list));
	if (!list)
		return false;

	if (late->count == late->capacity)
		late->capacity = capacity;
	late->list = list;

	return true;
}

static void late_extents_forget(struct late_extents *late, uint32_t unit)
{
	for (size_t i = late->count; i-- > 0;)
		if (late->list[i].unit == unit)
			late->list[i] = late->list[--late->count];
}

/* Whether all copies that use the extent are over. */
static bool late_extents_is_over(const struct late_extents *late, uint32_t unit)
{
	for (size_t i = 0; i < late->count; i++) {
		const struct late_extent *entry = &late->list[i];
		if (entry->unit == unit && !device_late_is_over(entry->device, entry->mark))
			return false;
	}

	return true;
}

void late_extents_add(struct late_extents *late, uint32_t unit, struct device *device)
{
	uint64_t mark = device_late_mark(device);

	for (size_t i = 0; i < late->count; i++) {
		if (late->list[i].unit == unit && late->list[i].device == device) {
			late->list[i].mark = mark;
			return;
		}
	}

	if (late_extents_grow(late))
		late->list[late->count++] =
			(struct late_extent){.unit = unit, .device = device, .mark = mark};
	else
		late->all = true;
}

static bool late_extents_free_as(struct late_extents *late, uint32_t unit, uint64_t bytes,
				 bool wipe)
{
	if (late_extents_is_over(late, unit)) {
		late_extents_forget(late, unit);
		return late->all;
	}

	for (size_t i = 0; i < late->count; i++) {
		struct late_extent *entry = &late->list[i];
		if (entry->unit != unit)
			continue;
		entry->bytes = bytes;
		entry->wipe = wipe;
	}

	return true;
}

bool late_extents_free(struct late_extents *late, uint32_t unit, uint64_t bytes)
{
	return late_extents_free_as(late, unit, bytes, false);
}

bool late_extents_free_wiped(struct late_extents *late, uint32_t unit, uint64_t bytes)
{
	return late_extents_free_as(late, unit, bytes, true);
}

uint64_t late_extents_take_over(struct late_extents *late, uint32_t *unit, bool *wipe)
{
	for (size_t i = 0; i < late->count; i++) {
		struct late_extent entry = late->list[i];
		if (entry.bytes == 0 || !late_extents_is_over(late, entry.unit))
			continue;

		late_extents_forget(late, entry.unit);
		*unit = entry.unit;
		*wipe = entry.wipe;
		return entry.bytes;
	}

	return 0;
}

bool late_extents_have_wiped(const struct late_extents *late)
{
	bool wiped = late->all;

	for (size_t i = 0; i < late->count && !wiped; i++)
		wiped = late->list[i].wipe;

	return wiped;
}

void late_extents_clear(struct late_extents *late)
{
	free(late->list);
	*late = (struct late_extents){0};
}
