/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/serve/unpin.h"

#include <assert.h>
#include <stdlib.h>

struct unpin *unpin_new(struct list *pins, struct hbm_wire_results *reply)
{
	struct unpin *unpin = malloc(sizeof(*unpin));
	if (!unpin)
		return NULL;

	unpin->pins = pins;
	unpin->reply = reply;
	pin_walk_init(&unpin->walk);
	unpin->unref = unpin->count = 0;

	return unpin;
}

struct unpin *unpin_free(struct unpin *unpin)
{
	assert(!unpin || !pin_walk_is_on(&unpin->walk));
	free(unpin);

	return NULL;
}

bool unpin_is_full(const struct unpin *unpin)
{
	return unpin->count == UNPIN_BLOCKS;
}

void unpin_add(struct unpin *unpin, uint32_t number, uint32_t index)
{
	assert(!unpin_is_full(unpin));

	unpin->reply->results[index].status = HBM_NOT_FOUND;
	unpin->blocks[unpin->count++] = (struct unpin_block){.number = number, .index = index};
}

static int unpin_compare(const void *one, const void *other)
{
	const struct unpin_block *a = one, *b = other;
	uint64_t left = (uint64_t)a->number << 32 | a->index,
		 right = (uint64_t)b->number << 32 | b->index;
	return (left > right) - (left < right);
}

void unpin_begin(struct unpin *unpin)
{
	if (unpin->count == 0)
		return;

	qsort(unpin->blocks, unpin->count, sizeof(unpin->blocks[0]), unpin_compare);
	pin_walk_begin(&unpin->walk, unpin->pins);
}

/* The first of the sorted blocks with that number; NULL: none. */
static struct unpin_block *unpin_find(struct unpin *unpin, uint32_t number)
{
	uint32_t low = 0, high = unpin->count;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (unpin->blocks[middle].number < number)
			low = middle + 1;
		else
			high = middle;
	}

	return low < unpin->count && unpin->blocks[low].number == number ? &unpin->blocks[low]
									 : NULL;
}

/* Removes a pin if its block is among ours, and has not found a pin as often as it was
 * added. */
static void unpin_try(struct unpin *unpin, struct cache *cache, struct pin *pin)
{
	struct unpin_block *first = unpin_find(unpin, pin->number);
	if (!first)
		return;

	const struct unpin_block *block = first + first->taken;
	if (block == unpin->blocks + unpin->count || block->number != pin->number)
		return;

	unpin->reply->results[block->index].status = HBM_OK;
	unpin->reply->done++;
	first->taken++;
	unpin->unref = pins_take(cache, pin);
}

bool unpin_some(struct unpin *unpin, struct cache *cache, struct slice *slice)
{
	while (pin_walk_is_on(&unpin->walk)) {
		if (!cache_unref_some(cache, &unpin->unref, slice))
			return false;

		struct pin *pin = pin_walk_next(&unpin->walk);
		if (!pin) {
			unpin->count = 0;
			break;
		}

		unpin_try(unpin, cache, pin);
		if (slice_is_over(slice))
			return false;
	}

	return true;
}
