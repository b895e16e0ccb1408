/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/serve/admit.h"

#include <string.h>

static bool admit_is_zero_key(const struct hbm_wire_key *key)
{
	static const struct hbm_wire_key zero;
	return memcmp(key, &zero, sizeof(zero)) == 0;
}

static int admit_pin(struct cache *cache, struct admission *admission)
{
	uint32_t walk = CACHE_WALK_MAX;
	struct pin *pin = pin_new(&admission->session->payer);
	if (!pin)
		return HBM_LIMIT;

	int status = cache_pin(cache, admission->number, &walk);
	if (status != HBM_OK) {
		pin_free(pin);
		return status;
	}

	pin->number = admission->number;
	admission->pin = pin;

	return HBM_OK;
}

/* Puts a new block where its client wants it, and pins it there. */
static int admit_place(struct cache *cache, struct admission *admission)
{
	const struct hbm_wire_block *wanted = admission->wanted;
	bool durable = wanted->flags & HBM_WIRE_BLOCK_DURABLE;
	struct tier *tier = durable ? cache->nvme
			    : wanted->tier != HBM_TIER_NONE
				    ? cache_tier(cache, wanted->tier, admission->device)
				    : cache_top(cache, admission->device);
	int status = cache_place(cache, admission->number, tier);
	if (durable)
		block_set_durable(&cache->blocks, admission->number);
	if (status == HBM_OK && wanted->flags & HBM_WIRE_BLOCK_PIN)
		status = admit_pin(cache, admission);

	if (status == HBM_OK)
		admission->placed = true;
	else
		cache_abandon_store(cache, admission->number);

	return status;
}

static int admit_insert(struct cache *cache, struct admission *admission, uint32_t parent)
{
	const struct hbm_wire_block *wanted = admission->wanted;

	admission->number = cache_insert(cache, admission->ns, &wanted->key, parent);
	if (admission->number == 0)
		return HBM_LIMIT;

	return wanted->tier != HBM_TIER_NONE || wanted->flags != 0 ? admit_place(cache, admission)
								   : HBM_OK;
}

/* Of a block that exists a store can still make sure that it is durable. */
static int admit_again(struct cache *cache, struct admission *admission)
{
	if (!(admission->wanted->flags & HBM_WIRE_BLOCK_DURABLE))
		return HBM_EXISTS;

	int status = cache_make_durable(cache, admission->number);
	admission->placed |= status == HBM_OK;

	return status == HBM_OK ? HBM_EXISTS : status;
}

int admit_block(struct cache *cache, struct admission *admission)
{
	const struct hbm_wire_block *wanted = admission->wanted;
	uint32_t parent = 0;

	cache_drop_for_store(cache);
	admission->number = cache_find_for_store(cache, admission->ns, &wanted->key);

	if (namespaces_get(cache->namespaces, admission->ns)->drop)
		return HBM_NOT_FOUND;
	if (admission->number != 0)
		return admit_again(cache, admission);

	if (!admit_is_zero_key(&wanted->parent)) {
		parent = cache_find_entry(cache, admission->ns, &wanted->parent);
		if (parent == 0)
			return HBM_NO_PARENT;
	}

	return admit_insert(cache, admission, parent);
}

void admit_end_pin(struct cache *cache, struct session *session, struct pin *pin, bool stored)
{
	uint32_t number = pin->number;

	if (stored && session->state < SESSION_CLOSING) {
		list_push_back(&session->pins, &pin->link);
		return;
	}

	pin_free(pin);
	cache_unpin(cache, number);
}
