/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cache_recover: makes blocks of what a daemon before this one has left in the NVMe tier, or in
 * DDR.
 *
 * They come in the order in which they are to be evicted last, each behind those that are
 * there, so that whatever clients do meanwhile is in front; or each says before which it goes. A block whose parent is not
 * there was below one in memory that is gone. It is kept as a root: a client that stores
 * the parent again finds the rest of its prefix.
 */
#include "daemon/cache/cache.h"

#include <string.h>

static bool cache_recover_is_root(const struct cache_recovered *found)
{
	static const struct hbm_wire_key zero;

	return memcmp(&found->parent, &zero, sizeof(zero)) == 0;
}

/* Only where the daemon encodes blocks they take less than their namespace says. */
static bool cache_recover_has_size(const struct namespace *ns, const struct cache_recovered *found)
{
	uint64_t bytes = (uint64_t)found->units * EXTENT_UNIT,
		 whole = extent_bytes(ns->block_bytes);

	return bytes == whole || (bytes < whole && ns->encoding.element_bytes != 0);
}

static void cache_recover_stored(struct cache *cache, const struct cache_recovered *found,
				 uint32_t number)
{
	uint64_t bytes = (uint64_t)found->units * EXTENT_UNIT;

	if (!tier_is_memory(found->tier) || found->incompressible ||
	    bytes < block_memory_bytes(&cache->blocks, number))
		block_settle_stored(&cache->blocks, number, bytes);
}

/* The block that it goes before. */
static uint32_t cache_recover_ahead(const struct cache *cache, const struct cache_recovered *found)
{
	uint16_t owner = namespaces_owners(cache->namespaces)[found->ns];

	return found->ordered ? found->ahead
			      : order_victim(cache->orders[found->tier->number], owner);
}

/* A number may have become another block's since. */
static bool cache_recover_is_near(const struct cache *cache, const struct cache_recovered *found)
{
	const struct block *near = cache_block(cache, found->near);

	return found->near != 0 && index_used(cache->index, found->near) &&
	       !block_is_dropped(near) && near->ns == found->ns &&
	       memcmp(&near->key, &found->parent, sizeof(near->key)) == 0;
}

static uint32_t cache_recover_parent(const struct cache *cache, const struct cache_recovered *found)
{
	if (cache_recover_is_root(found))
		return 0;

	uint32_t parent = cache_recover_is_near(cache, found)
				  ? found->near
				  : index_find(cache->index, found->ns, &found->parent);

	return parent != 0 && !cache_is_lost(cache, parent) ? parent : 0;
}

int cache_recover(struct cache *cache, const struct cache_recovered *found, uint32_t *number)
{
	struct tier *tier = found->tier;
	struct order *order = cache->orders[tier->number];
	const struct namespace *ns = namespaces_get(cache->namespaces, found->ns);
	uint64_t bytes = (uint64_t)found->units * EXTENT_UNIT;

	if (!cache_recover_has_size(ns, found))
		return HBM_INVALID;
	if (ns->drops > 0)
		return HBM_NOT_FOUND;
	if (index_find(cache->index, found->ns, &found->key) != 0)
		return HBM_EXISTS;
	if (!tier_is_memory(tier) && tier->bytes + bytes > tier->usable)
		return HBM_NO_SPACE;

	*number = cache_insert(cache, found->ns, &found->key, cache_recover_parent(cache, found));
	if (*number == 0)
		return HBM_LIMIT;

	if (found->checksummed)
		block_settle_checksum(&cache->blocks, *number, found->checksum);
	if (found->durable)
		block_set_durable(&cache->blocks, *number);
	cache_recover_stored(cache, found, *number);
	block_set_target(&cache->blocks, *number, tier);
	order_insert(order, *number, cache_recover_ahead(cache, found));
	block_stored(&cache->blocks, *number, (struct place){tier, found->unit});
	if (found->unverified)
		block_set_unverified(&cache->blocks, *number);
	if (cache->recovered)
		cache->recovered(cache->recovered_arg, *number);

	return HBM_OK;
}
