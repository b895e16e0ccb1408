/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/serve/pins.h"

#include <stdlib.h>

struct pin *pin_new(struct payer *payer)
{
	struct pin *pin = calloc(1, sizeof(*pin));
	if (!pin)
		return NULL;

	list_init(&pin->link);
	if (ledger_charge(&pin->charge, payer, LEDGER_PINS, 1) != HBM_OK)
		return pin_free(pin);

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

uint64_t pins_count_in(const struct cache *cache, const struct list *pins, uint16_t ns)
{
	uint64_t count = 0;
	list_for_each (node, pins) {
		uint32_t number = container_of(node, struct pin, link)->number;
		const struct block *block = cache_block(cache, number);
		count += number != 0 && block->ns == ns && !block_is_dropped(block);
	}

	return count;
}

void pins_forget_lost(struct cache *cache, struct list *pins)
{
	list_for_each_safe (node, after, pins) {
		struct pin *pin = container_of(node, struct pin, link);
		if (pin->number != 0 && block_is_dropped(cache_block(cache, pin->number)))
			cache_unref_branch(cache, pins_take(cache, pin));
	}
}
