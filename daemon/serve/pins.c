/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/serve/pins.h"

#include <stdlib.h>

int pins_add(struct cache *cache, struct list *pins, struct payer *payer, uint32_t number,
	     uint32_t *walk)
{
	struct pin *pin = calloc(1, sizeof(*pin));
	if (!pin)
		return HBM_LIMIT;

	int status = ledger_charge(&pin->charge, payer, LEDGER_PINS, 1);
	if (status == HBM_OK)
		status = cache_pin(cache, number, walk);
	if (status != HBM_OK) {
		ledger_release(&pin->charge);
		free(pin);
		return status;
	}

	pin->number = number;
	list_push_back(pins, &pin->link);

	return HBM_OK;
}

void pins_remove(struct cache *cache, struct pin *pin)
{
	list_remove(&pin->link);
	cache_unpin(cache, pin->number);
	ledger_release(&pin->charge);
	free(pin);
}

bool pins_remove_first(struct cache *cache, struct list *pins)
{
	if (list_empty(pins))
		return false;

	pins_remove(cache, container_of(pins->next, struct pin, link));
	return true;
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
			pins_remove(cache, pin);
	}
}
