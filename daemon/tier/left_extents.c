/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/tier/left_extents.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

int left_extents_open(struct left_extents *left, void (*call)(void *arg), void *arg)
{
	struct left_extent *list = calloc(LEFT_EXTENTS_MOST, sizeof(*list));
	if (!list)
		return -ENOMEM;

	*left = (struct left_extents){.list = list, .left = call, .arg = arg};

	return 0;
}

void left_extents_close(struct left_extents *left)
{
	free(left->list);
	*left = (struct left_extents){0};
}

bool left_extents_have_room(const struct left_extents *left, uint64_t moves)
{
	return !left->list || moves <= LEFT_EXTENTS_MOST - left->count;
}

static uint32_t left_extents_slot(const struct left_extents *left, uint32_t i)
{
	return (left->first + i) % LEFT_EXTENTS_MOST;
}

void left_extents_add(struct left_extents *left, const struct left_extent *extent)
{
	assert(left->count < LEFT_EXTENTS_MOST);
	left->list[left_extents_slot(left, left->count++)] = *extent;
	left->bytes += extent->bytes;
}

bool left_extents_take(struct left_extents *left, struct left_extent *extent)
{
	if (left->count == 0)
		return false;

	*extent = left->list[left->first];
	left->first = left_extents_slot(left, 1);
	left->count--;
	left->bytes -= extent->bytes;

	return true;
}

bool left_extents_have_wiped(const struct left_extents *left)
{
	bool wiped = false;

	for (uint32_t i = 0; i < left->count; i++)
		wiped |= left->list[left_extents_slot(left, i)].wipe;

	return wiped;
}
