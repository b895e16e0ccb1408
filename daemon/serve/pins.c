/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/serve/pins.h"

#include "daemon/cache/marks.h"

#include <stdlib.h>

static struct pin *pins_allocate(void)
{
	struct pin *pin = calloc(1, sizeof(*pin));
	if (pin)
		list_init(&pin->link);

	return pin;
}

struct pin *pin_new(struct payer *payer)
{
	struct pin *pin = pins_allocate();
	if (pin && ledger_charge(&pin->charge, payer, LEDGER_PINS, 1) != HBM_OK)
		return pin_free(pin);

	return pin;
}

struct pin *pin_new_always(struct payer *payer)
{
	struct pin *pin = pins_allocate();
	if (pin)
		ledger_charge_always(&pin->charge, payer, LEDGER_PINS, 1);

	return pin;
}

struct pin *pin_free(struct pin *pin)
{
	if (!pin)
		return NULL;

	list_remove(&pin->link);
	ledger_release(&pin->charge);
	free(pin);

	return NULL;
}

uint32_t pins_take(struct cache *cache, struct pin *pin)
{
	uint32_t number = pin->number;

	mark_pin_drop(cache, pin->mark);
	pin_free(pin);
	cache_unpin_begin(cache, number);

	return number;
}

uint32_t pins_take_first(struct cache *cache, struct list *pins)
{
	list_for_each (node, pins) {
		struct pin *pin = container_of(node, struct pin, link);
		if (pin->number != 0)
			return pins_take(cache, pin);
	}

	return 0;
}

/* ---- walks ---- */

void pin_walk_init(struct pin_walk *walk)
{
	*walk = (struct pin_walk){0};
	list_init(&walk->place.link);
}

void pin_walk_begin(struct pin_walk *walk, struct list *pins)
{
	walk->pins = pins;
	list_push_front(pins, &walk->place.link);
}

void pin_walk_end(struct pin_walk *walk)
{
	list_remove(&walk->place.link);
}

bool pin_walk_is_on(const struct pin_walk *walk)
{
	return !list_empty(&walk->place.link);
}

struct pin *pin_walk_next(struct pin_walk *walk)
{
	struct list *place = &walk->place.link;

	while (pin_walk_is_on(walk)) {
		struct list *next = place->next;

		list_remove(place);
		if (next == walk->pins)
			break;

		list_insert_after(next, place);
		struct pin *pin = container_of(next, struct pin, link);
		if (pin->number != 0)
			return pin;
	}

	return NULL;
}

bool pin_is_in(const struct pin *pin, const struct cache *cache, uint16_t ns)
{
	const struct block *block = cache_block(cache, pin->number);

	return block->ns == ns && !block_is_dropped(block);
}

bool pin_walk_forget_lost(struct pin_walk *walk, struct cache *cache)
{
	struct pin *pin = pin_walk_next(walk);

	if (pin && block_is_dropped(cache_block(cache, pin->number)))
		cache_unref_branch(cache, pins_take(cache, pin)); /* goes no further */

	return pin != NULL;
}
