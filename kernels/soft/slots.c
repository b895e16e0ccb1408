/* SPDX-License-Identifier: Apache-2.0 */
/* Slots: an array that grows by doubling, with a free list threaded through it. */
#include "kernels/soft/slots.h"

#include <assert.h>
#include <stddef.h>
#include <stdlib.h>

#define GENERATIONS (1u << 24)

struct slot {
	void *object; /* NULL: free */
	uint32_t generation;
	uint32_t next; /* of a free slot: the next free one, as index + 1 */
};

/* Allocates a slot; its index goes to *index. */
static int slots_alloc(struct slots *slots, uint32_t *index)
{
	if (slots->free != 0) {
		*index = slots->free - 1;
		slots->free = slots->list[*index].next;
		return 0;
	}

	if (slots->used == slots->capacity) {
		uint32_t capacity = slots->capacity == 0 ? 64 : slots->capacity * 2;
		struct slot *list = reallocarray(slots->list, capacity, sizeof(*list));

		if (list == NULL)
			return -1;

		slots->list = list;
		slots->capacity = capacity;
	}

	*index = slots->used++;
	slots->list[*index].generation = 0;

	return 0;
}

uint64_t slots_add(struct slots *slots, void *object)
{
	struct slot *slot;
	uint32_t index;

	if (slots_alloc(slots, &index) < 0)
		return 0;

	slot = &slots->list[index];
	slot->object = object;
	slot->generation = (slot->generation + 1) % GENERATIONS;
	slots->live++;

	return (uint64_t)slots->kind << 56 | (uint64_t)slot->generation << 32 | (index + 1);
}

void *slots_find(const struct slots *slots, uint64_t name)
{
	uint32_t index = (uint32_t)name - 1;

	if (name >> 56 != slots->kind || index >= slots->used)
		return NULL;
	if (slots->list[index].generation != (name >> 32) % GENERATIONS)
		return NULL;
	return slots->list[index].object;
}

void slots_remove(struct slots *slots, uint64_t name)
{
	uint32_t index = (uint32_t)name - 1;

	assert(slots_find(slots, name) != NULL);
	slots->list[index].object = NULL;
	slots->list[index].next = slots->free;
	slots->free = index + 1;
	slots->live--;
}

void *slots_next(const struct slots *slots, uint32_t *at)
{
	while (*at < slots->used) {
		void *object = slots->list[(*at)++].object;

		if (object != NULL)
			return object;
	}
	return NULL;
}

void slots_clear(struct slots *slots)
{
	free(slots->list);
	*slots = (struct slots){.kind = slots->kind};
}
