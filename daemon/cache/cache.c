/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/cache/cache.h"

#include "daemon/cache/event_ring.h"
#include "daemon/cache/tree.h"
#include "daemon/config/config.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

/* ---- traffic between tiers, and none within one ---- */

/* The clients that watch its namespace. Without a tier: no place. */
static void cache_tell(const struct cache *cache, uint32_t number, enum hbm_cache_event event,
		       const struct tier *from, const struct tier *to)
{
	const struct block *block = cache_block(cache, number);

	event_ring_add(namespaces_get(cache->namespaces, block->ns)->events, &block->key, event,
		       from ? from->kind : HBM_TIER_NONE, to ? to->kind : HBM_TIER_NONE);
}

static void cache_count_in(struct block_listener *listener, uint32_t number, struct tier *to,
			   struct tier *from)
{
	const struct cache *cache = container_of(listener, struct cache, traffic);
	if (from == to)
		return;

	cache_tell(cache, number, from ? HBM_CACHE_MOVED : HBM_CACHE_STORED, from, to);
	if (!from)
		return;

	to->in_blocks++;
	to->in_bytes += block_bytes_in(&cache->blocks, number, to);
}

static void cache_count_out(struct block_listener *listener, uint32_t number, struct tier *from,
			    struct tier *to)
{
	const struct cache *cache = container_of(listener, struct cache, traffic);
	if (!to || to == from)
		return;

	from->out_blocks++;
	from->out_bytes += block_bytes_in(&cache->blocks, number, from);
}

static void cache_dropped(struct block_listener *listener, uint32_t number)
{
	struct cache *cache = container_of(listener, struct cache, traffic);
	const struct tier *place = block_place(&cache->blocks, number).tier;

	/* One that was never complete was never told of. */
	if (place)
		cache_tell(cache, number, HBM_CACHE_DROPPED, place, NULL);
	cache_retain_forget(cache, number);
}

/* ---- opening ---- */

static int cache_open_orders(struct cache *cache, const struct order_ops *ops)
{
	cache->order_ops = ops;
	for (uint32_t i = 1; i <= cache->tier_count; i++) {
		cache->orders[i] =
			ops->open(index_table(cache->index), namespaces_owners(cache->namespaces));
		if (!cache->orders[i])
			return -ENOMEM;
	}

	return 0;
}

struct tier *cache_add_tier(struct cache *cache)
{
	uint32_t number = cache->tier_count + 1;
	struct order *order = NULL;

	if (number < TIER_NUMBERS)
		order = cache->order_ops->open(index_table(cache->index),
					       namespaces_owners(cache->namespaces));
	if (!order)
		return NULL;

	cache->orders[number] = order;
	payer_open(&cache->pinned[number], cache->ledger, PAYER_TIER);
	owners_init(&cache->owners[number]);
	cache->tiers[cache->tier_count].below = &cache->tiers[number];
	cache->tier_count = cache->retention.tiers = number;

	return &cache->tiers[number];
}

void cache_bound_owners(struct cache *cache)
{
	for (uint32_t i = 1; i <= cache->tier_count; i++)
		owners_bound(&cache->owners[i], cache->ledger, cache->tiers[i].kind);

	cache->unsettled = true;
}

uint64_t cache_owner_bytes(const struct cache *cache, enum hbm_tier kind, uint32_t owner)
{
	uint64_t bytes = 0;

	for (uint32_t i = 1; i <= cache->tier_count; i++)
		if (cache->tiers[i].kind == kind)
			bytes += cache->owners[i].list[owner].bytes;

	return bytes;
}

struct tier *cache_tier(struct cache *cache, enum hbm_tier kind, uint32_t device)
{
	for (uint32_t i = 1; i <= cache->tier_count; i++) {
		struct tier *tier = &cache->tiers[i];
		if (tier->kind == kind && (kind != HBM_TIER_HBM || tier->device_index == device))
			return tier;
	}
	return NULL;
}

struct tier *cache_top(struct cache *cache, uint32_t device)
{
	return device == HBM_WIRE_DEVICE_HOST ? cache->ddr : cache_hbm(cache, device);
}

static int cache_open_parts(struct cache *cache, const struct order_ops *ops)
{
	const uint64_t blocks = ledger_limit(&cache->ledger->host, LEDGER_BLOCKS);
	int r = index_new(&cache->index, blocks);
	if (r == 0)
		r = namespaces_new(&cache->namespaces, cache->ledger);
	if (r == 0)
		r = cache_open_orders(cache, ops);
	if (r == 0)
		r = retention_open(&cache->retention, cache->ledger);
	if (r < 0)
		return r;

	cache->retention.tiers = cache->tier_count;

	blocks_init(&cache->blocks, cache->index, cache->namespaces, cache->tiers, cache->pinned,
		    cache->owners);
	cache->traffic = (struct block_listener){
		.placed = cache_count_in, .unplaced = cache_count_out, .dropped = cache_dropped};
	block_listen(&cache->blocks, &cache->traffic);

	return usage_open(&cache->usage, &cache->blocks, blocks);
}

int cache_open_ordered(struct cache **out, const struct config *config, struct ledger *ledger,
		       uint32_t devices, const struct order_ops *ops)
{
	struct cache *cache = calloc(1, sizeof(*cache));
	if (!cache)
		return -ENOMEM;

	for (unsigned i = 0; i < TIER_NUMBERS; i++)
		cache->tiers[i].number = (uint8_t)i;

	list_init(&cache->kept_pins);
	list_init(&cache->drops.waits);
	cache->devices = devices;
	for (uint32_t i = 0; i < devices; i++) {
		cache_hbm(cache, i)->kind = HBM_TIER_HBM;
		cache_hbm(cache, i)->device_index = i;
	}

	cache->ddr = &cache->tiers[1 + devices];
	cache->nvme = &cache->tiers[2 + devices];
	cache->staging = &cache->tiers[0];
	cache->tier_count = 2 + devices;
	cache->ddr->kind = HBM_TIER_DDR;
	cache->nvme->kind = HBM_TIER_NVME;
	cache->ledger = ledger;
	cache->pinned_limit = config->limit_pinned;
	cache->retained_limit = config->limit_retained;
	for (uint32_t i = 1; i <= cache->tier_count; i++) {
		payer_open(&cache->pinned[i], ledger, PAYER_TIER);
		owners_init(&cache->owners[i]);
	}

	int r = cache_open_parts(cache, ops);
	if (r < 0) {
		cache_close(cache);
		return r;
	}

	*out = cache;

	return 0;
}

int cache_open(struct cache **out, const struct config *config, struct ledger *ledger,
	       uint32_t devices)
{
	return cache_open_ordered(out, config, ledger, devices, &order_lru);
}

struct cache *cache_close(struct cache *cache)
{
	if (!cache)
		return NULL;

	for (unsigned i = 0; i < TIER_NUMBERS; i++) {
		cache->orders[i] = order_close(cache->orders[i]);
		payer_close(&cache->pinned[i]);
		tier_clear(&cache->tiers[i]);
	}

	usage_close(&cache->usage);
	retention_close(&cache->retention);
	blocks_clear(&cache->blocks);
	cache->namespaces = namespaces_free(cache->namespaces);
	cache->index = index_free(cache->index);
	free(cache);

	return NULL;
}

uint32_t cache_find(const struct cache *cache, uint16_t ns, const struct hbm_wire_key *key)
{
	if (namespaces_get(cache->namespaces, ns)->drop)
		return 0;

	uint32_t number = index_find(cache->index, ns, key);
	return number != 0 && cache_is_readable(cache, number) ? number : 0;
}

uint32_t cache_find_entry(struct cache *cache, uint16_t ns, const struct hbm_wire_key *key)
{
	uint32_t number = index_find(cache->index, ns, key);
	if (number == 0 || !cache_is_lost(cache, number))
		return number;

	cache_drop(cache, number);
	return 0;
}

uint32_t cache_find_for_store(struct cache *cache, uint16_t ns, const struct hbm_wire_key *key)
{
	uint32_t number = cache_find_entry(cache, ns, key);
	const struct block *block = cache_block(cache, number);
	if (number == 0 || block->refs > 0 || !block_is_complete(block) ||
	    cache_is_loadable(cache, number))
		return number;

	cache_drop(cache, number);
	return 0;
}

uint32_t cache_parent(const struct cache *cache, uint32_t number)
{
	uint32_t parent = cache_block(cache, number)->parent;
	return parent != 0 && !block_is_dropped(cache_block(cache, parent)) ? parent : 0;
}

bool cache_is_loadable(const struct cache *cache, uint32_t number)
{
	return cache_is_readable(cache, number) &&
	       !cache->tiers[cache_block(cache, number)->actual].silent;
}

uint32_t cache_find_loadable(const struct cache *cache, uint16_t ns, const struct hbm_wire_key *key)
{
	uint32_t number = cache_find(cache, ns, key);
	return number != 0 && cache_is_loadable(cache, number) ? number : 0;
}

uint32_t cache_insert(struct cache *cache, uint16_t ns, const struct hbm_wire_key *key,
		      uint32_t parent)
{
	uint32_t number = block_begin_store(&cache->blocks, ns, key);
	if (number != 0)
		tree_link(cache->blocks.table, number, parent);
	return number;
}

/* ---- use ---- */

static bool cache_may_be_in(const struct cache *cache, uint32_t number, const struct tier *tier)
{
	if (tier->silent || tier->usable < block_bytes_in(&cache->blocks, number, tier))
		return false;

	const struct namespace *ns =
		namespaces_get(cache->namespaces, cache_block(cache, number)->ns);

	return tier_is_memory(tier) ||
	       (!ns->memory_only && (!ns->wipe_on_free || cache->nvme_wiped));
}

struct tier *cache_tier_for(const struct cache *cache, struct tier *tier, uint32_t number)
{
	while (tier && !cache_may_be_in(cache, number, tier))
		tier = tier->below;
	return tier;
}

int cache_place(struct cache *cache, uint32_t number, struct tier *tier)
{
	struct tier *to = cache_tier_for(cache, tier, number);
	if (!to)
		return HBM_NO_SPACE;

	block_set_target(&cache->blocks, number, to);
	cache_enter(cache, number, 0);

	return HBM_OK;
}

int cache_move(struct cache *cache, uint32_t number, struct tier *tier)
{
	const struct block *block = cache_block(cache, number);
	struct tier *from = block_target(&cache->blocks, number),
		    *to = cache_tier_for(cache, tier, number);
	if (!to)
		return HBM_NO_SPACE;
	if (from == to)
		return HBM_OK;
	if (block->durable && to != cache->nvme)
		return HBM_DENIED;

	if (block->refs > 0 && !cache_may_pin(cache, number, to))
		return HBM_LIMIT;
	if (block->refs == 0)
		cache_leave(cache, number);

	block_set_target(&cache->blocks, number, to);
	if (block->refs == 0)
		cache_enter(cache, number, 0);

	return HBM_OK;
}

int cache_make_durable(struct cache *cache, uint32_t number)
{
	int status = cache_tier_for(cache, cache->nvme, number) == cache->nvme
			     ? cache_move(cache, number, cache->nvme)
			     : HBM_NO_SPACE;

	if (status == HBM_OK)
		block_set_durable(&cache->blocks, number);

	return status;
}

/* `ahead` if it is in the order of that tier, else 0. */
static uint32_t cache_ahead_in(const struct cache *cache, uint32_t ahead, const struct tier *tier)
{
	const struct block *block = cache_block(cache, ahead);
	return ahead != 0 && block->target == tier->number && block->refs == 0 ? ahead : 0;
}

static void cache_use(struct cache *cache, struct cache_touch *touch, uint32_t number,
		      uint32_t ahead)
{
	const struct block *block = cache_block(cache, number);

	cache->blocks.table[number].touched = touch->pass;
	if (block->refs > 0 || cache->tiers[block->actual].silent)
		return;

	struct tier *from = block_target(&cache->blocks, number);
	struct tier *top = block->durable ? cache->nvme : cache_top(cache, touch->device);
	if (from && from->kind == HBM_TIER_HBM && top == cache->ddr)
		top = from;
	struct tier *to = cache_tier_for(cache, top, number);
	if (!to)
		to = from; /* too large for every tier of this device: it stays on its own */
	if (!to)
		return;

	ahead = cache_ahead_in(cache, ahead, to);
	if (from == to) {
		cache_reuse(cache, number, ahead);
		return;
	}

	if (from)
		cache_leave(cache, number);

	touch->moved = true;
	block_set_target(&cache->blocks, number, to);
	cache_enter(cache, number, ahead);
}

void cache_touch_begin(struct cache *cache, struct cache_touch *touch)
{
	touch->pass = ++cache->pass;
	touch->walk_left = CACHE_WALK_MAX;
	touch->busy = touch->moved = false;
	cache->touching++;
}

void cache_touch_end(struct cache *cache)
{
	assert(cache->touching > 0);
	cache->touching--;
}

static bool cache_is_there(const struct cache *cache, uint32_t number)
{
	return number != 0 && index_used(cache->index, number) &&
	       !block_is_dropped(cache_block(cache, number));
}

/* Counts the branch up to the first block that has been used already, and remembers the
 * lowest of each stretch. A touch that may visit no more ancestors only loses the exact
 * leaf-first order. */
static bool cache_climb(struct cache *cache, struct cache_touch *touch, struct slice *slice)
{
	while (cache_is_there(cache, touch->at) && !cache_is_touched(cache, touch, touch->at) &&
	       (touch->length == 0 || touch->walk_left > 0)) {
		if (touch->length % CACHE_STRETCH == 0)
			touch->lowest[touch->stretches++] = touch->at;

		touch->walk_left -= touch->length++ > 0;
		touch->at = cache_block(cache, touch->at)->parent;
		if (slice_is_over(slice))
			return false;
	}

	touch->climbing = false;

	return true;
}

/* Uses the uppermost stretch, from the top down: each block goes right behind its parent,
 * and the root to the front. False: the slice is over, and blocks of it are left, as each of a
 * group is as much work as several. */
static bool cache_use_stretch(struct cache *cache, struct cache_touch *touch, struct slice *slice)
{
	uint32_t branch[CACHE_STRETCH], count = 0;
	uint32_t length = (touch->length - 1) % CACHE_STRETCH + 1,
		 at = touch->lowest[touch->stretches - 1];

	for (; count < length && cache_is_there(cache, at) && !cache_is_touched(cache, touch, at);
	     count++) {
		branch[count] = at;
		at = cache_block(cache, at)->parent;
	}

	bool under = cache_is_there(cache, at) && cache_is_touched(cache, touch, at);
	for (uint32_t ahead = under ? at : 0; count > 0; ahead = branch[count]) {
		uint32_t others = cache_group_use(cache, touch, branch[--count]);

		cache_use(cache, touch, branch[count], ahead);
		if (count > 0 && others > 0 && slice_is_past(slice))
			return false;
	}

	touch->stretches--;
	touch->length -= length;

	return true;
}

static bool cache_use_branch(struct cache *cache, struct cache_touch *touch, struct slice *slice)
{
	while (touch->stretches > 0) {
		if (!cache_use_stretch(cache, touch, slice))
			return false;
		if (slice_is_past(slice))
			return touch->stretches == 0;
	}

	return true;
}

/* A block and its ancestors, up to the first that is in front already. This keeps every
 * parent ahead of its children without walking to the root for each branch. */
bool cache_touch_some(struct cache *cache, struct cache_touch *touch, uint32_t number,
		      uint32_t device, struct slice *slice)
{
	if (!touch->busy) {
		touch->device = device;
		touch->at = number;
		touch->length = touch->stretches = 0;
		touch->climbing = true;
	}

	touch->busy = (touch->climbing && !cache_climb(cache, touch, slice)) ||
		      !cache_use_branch(cache, touch, slice);

	return !touch->busy;
}

void cache_touch(struct cache *cache, struct cache_touch *touch, uint32_t number, uint32_t device)
{
	(void)cache_touch_some(cache, touch, number, device,
			       &(struct slice){.until_ns = UINT64_MAX});
}
