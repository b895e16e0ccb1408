/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/serve/audit.h"

#include "daemon/cache/cache.h"
#include "daemon/device/device.h"
#include "daemon/region/slab.h"
#include "daemon/serve/hbmd.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Totals of one walk over the index, per tier. */
struct tally {
	uint64_t placed[TIER_NUMBERS]; /* bytes placed here that no transfer moves away */
	uint64_t source[TIER_NUMBERS]; /* bytes placed here that a transfer moves away */
	uint64_t belongs[TIER_NUMBERS],
		logical[TIER_NUMBERS]; /* stored and logical bytes whose target this is */
	uint64_t blocks[TIER_NUMBERS],
		ordered[TIER_NUMBERS]; /* whose target this is; of them: without references */
	uint64_t pinned[TIER_NUMBERS];
	uint64_t orphans; /* blocks missing from their parent's children */
};

/* Whether a block may have children: it is in the index, or its drop has still to come to
 * them. */
static bool tally_is_parent(const struct cache *cache, uint32_t number)
{
	const struct block *block = cache_block(cache, number);
	return index_used(cache->index, number) && (!block_is_dropped(block) || block->dropping);
}

static void tally_block(const struct cache *cache, uint32_t number, struct tally *tally)
{
	const struct block *block = cache_block(cache, number);
	uint64_t bytes = block_stored_bytes(block);

	if (block->actual != 0)
		*(block->move != 0 ? &tally->source[block->actual]
				   : &tally->placed[block->actual]) += bytes;

	if (block->target == 0)
		return;

	tally->belongs[block->target] += bytes;
	tally->logical[block->target] += block_logical_bytes(&cache->blocks, number);
	tally->blocks[block->target]++;

	if (block->refs > 0)
		tally->pinned[block->target] += bytes;
	else
		tally->ordered[block->target]++;

	if (block->parent != 0 && !tally_is_parent(cache, block->parent))
		tally->orphans++;
}

static void tally_all(const struct cache *cache, struct tally *tally)
{
	*tally = (struct tally){0};
	uint32_t highest = index_highest(cache->index);
	for (uint32_t number = 1; number <= highest; number++)
		if (index_used(cache->index, number))
			tally_block(cache, number, tally);
}

__attribute__((format(printf, 2, 3))) static void audit_problem(struct hbm_wire_account *account,
								const char *format, ...)
{
	va_list args;

	account->balanced = 0;
	if (account->problem[0] != '\0')
		return;

	va_start(args, format);
	vsnprintf(account->problem, sizeof(account->problem), format, args);
	va_end(args);
}

static void audit_expect(struct hbm_wire_account *account, const char *what, uint64_t counted,
			 uint64_t found)
{
	if (counted != found)
		audit_problem(account, "%s: counted %llu, found %llu", what,
			      (unsigned long long)counted, (unsigned long long)found);
}

/* Checks that the order has exactly the blocks without references whose target this is,
 * and that its links agree. */
static void audit_order(const struct order *order, uint64_t expected,
			struct hbm_wire_account *account)
{
	uint64_t length = 0;
	for (uint32_t number = 0; (number = order_walk(order, number)) != 0;) {
		if (!order->ops->is_valid(order, number) || ++length > expected) {
			audit_problem(account, "the eviction order is broken at block %u", number);
			return;
		}
	}

	audit_expect(account, "blocks in the eviction order", length, expected);
}

static void audit_tier(const struct cache *cache, const struct tier *tier,
		       const struct tally *tally, struct hbm_wire_account *account)
{
	uint8_t n = tier->number;

	if (tier->device)
		snprintf(account->pool, sizeof(account->pool), "hbm %u cache", tier->device_index);
	else
		snprintf(account->pool, sizeof(account->pool), "%s", tier_name(tier->kind));

	account->balanced = 1;
	account->capacity = extent_capacity(tier->extents);
	account->free = extent_available(tier->extents);
	account->placed = tier->placed;
	account->moving = tier->moving;
	audit_expect(account, "free + placed + moving",
		     account->free + account->placed + account->moving, account->capacity);
	audit_expect(account, "placed bytes", tier->placed, tally->placed[n]);

	if (tier->moving < tally->source[n])
		audit_problem(
			account, "moving bytes: counted %llu, at least %llu are being moved out",
			(unsigned long long)tier->moving, (unsigned long long)tally->source[n]);

	audit_expect(account, "bytes with this target", tier->bytes, tally->belongs[n]);
	audit_expect(account, "blocks with this target", tier->blocks, tally->blocks[n]);
	audit_expect(account, "logical bytes with this target", tier->logical_bytes,
		     tally->logical[n]);
	audit_expect(account, "pinned bytes", cache_pinned(cache, tier), tally->pinned[n]);

	if (!tier->lost && tier->bytes > tier->usable && cache->touching == 0)
		audit_problem(account, "%llu bytes have this target, %llu are usable",
			      (unsigned long long)tier->bytes, (unsigned long long)tier->usable);

	if (cache->orders[n])
		audit_order(cache->orders[n], tally->ordered[n], account);

	const char *fault = extent_check(tier->extents);
	if (fault)
		audit_problem(account, "extents: %s", fault);

	if (n == 1 && tally->orphans > 0)
		audit_problem(account, "%llu blocks have no parent in the index",
			      (unsigned long long)tally->orphans);
}

static void audit_slabs(const struct device *device, struct hbm_wire_account *account)
{
	struct slabs_books books = slabs_books(device->slabs);

	snprintf(account->pool, sizeof(account->pool), "hbm %u regions", device->index);
	account->balanced = 1;
	account->capacity = books.budget;
	account->free = books.ready + books.uncreated;
	account->placed = books.leased;
	account->moving = books.retiring;
	account->quarantined = books.quarantined;
	account->held = books.held;
	audit_expect(account, "free + leased + retiring + quarantined + held",
		     account->free + account->placed + account->moving + account->quarantined +
			     account->held,
		     account->capacity);
	const char *fault = slabs_check(device->slabs);
	if (fault)
		audit_problem(account, "%s", fault);
}

uint32_t audit(struct hbmd *hbmd, struct hbm_wire_account *accounts, uint32_t room)
{
	const struct cache *cache = hbmd->cache;
	struct tally tally;

	tally_all(cache, &tally);
	uint32_t count = 0;
	memset(accounts, 0, room * sizeof(*accounts));
	for (uint32_t i = 0; i < hbmd->devices->count && count < room; i++)
		audit_slabs(&hbmd->devices->list[i], &accounts[count++]);
	for (uint32_t i = 1; i <= cache->tier_count + 1 && count < room; i++) {
		const struct tier *tier =
			i <= cache->tier_count ? &cache->tiers[i] : cache->staging;
		if (tier->extents)
			audit_tier(cache, tier, &tally, &accounts[count++]);
	}

	return count;
}
