/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/serve/audit_limits.h"

#include "daemon/cache/cache.h"
#include "daemon/cache/recount.h"
#include "daemon/device/device.h"
#include "daemon/ledger/ledger.h"
#include "daemon/move/mover.h"
#include "daemon/region/lend.h"
#include "daemon/region/publication.h"
#include "daemon/serve/hbmd.h"
#include "daemon/serve/server.h"

#include <stdio.h>

/* What there is of each resource, found by a walk. The memory of requests is known only
 * to their charges. */
struct inventory {
	uint64_t amounts[LEDGER_RESOURCES];
	bool walked[LEDGER_RESOURCES];
};

static void inventory_add(struct inventory *inventory, enum ledger_resource resource,
			  uint64_t amount)
{
	inventory->amounts[resource] += amount;
	inventory->walked[resource] = true;
}

static void inventory_walk_session(struct inventory *inventory, const struct session *session)
{
	const struct regions *regions = &session->regions;

	inventory_add(inventory, LEDGER_SILENT, session->state == SESSION_GREETING);
	inventory_add(inventory, LEDGER_REGIONS, list_length(&regions->all));
	inventory_add(inventory, LEDGER_ADDRESS_SPACE, regions_reserved(regions));
	inventory_add(inventory, LEDGER_NAMESPACE_OPENS, list_length(&session->opens));
	inventory_add(inventory, LEDGER_SEQUENCES, boards_charged(&session->boards));
}

static void inventory_add_lent(struct inventory *inventory, const struct devices *devices)
{
	inventory_add(inventory, LEDGER_REPLICAS, 0);
	inventory_add(inventory, LEDGER_LENT, 0);
	for (uint32_t i = 0; i < devices->count; i++) {
		const struct lend *lend = devices->list[i].lend;
		if (!lend)
			continue;

		inventory_add(inventory, LEDGER_REPLICAS, lend->replicas);
		inventory_add(inventory, LEDGER_LENT, lend->bytes);
	}
}

static void inventory_add_published(struct inventory *inventory,
				    const struct publications *publications)
{
	if (!publications)
		return;

	inventory_add(inventory, LEDGER_PUBLICATIONS, list_length(&publications->all));
	inventory_add(inventory, LEDGER_PUBLISHED, regions_reserved(&publications->regions));
}

static void inventory_add_blocks(struct inventory *inventory, const struct recount *recount)
{
	inventory_add(inventory, LEDGER_BLOCKS, recount->entries);
	inventory_add(inventory, LEDGER_PINS, recount->pins);
	for (uint32_t i = 1; i <= recount->cache->tier_count; i++) {
		inventory_add(inventory, LEDGER_PINNED, recount->tiers[i].pinned);
		inventory_add(inventory, LEDGER_TENANT_PINNED, recount->tiers[i].pinned);
	}
}

static void inventory_walk(struct inventory *inventory, const struct hbmd *hbmd,
			   const struct recount *recount)
{
	const struct cache *cache = hbmd->cache;
	uint64_t namespaces = ledger_limit(&hbmd->ledger->host, LEDGER_NAMESPACES);

	*inventory = (struct inventory){0};
	if (hbmd->server)
		list_for_each (node, server_sessions(hbmd->server))
			inventory_walk_session(inventory, container_of(node, struct session, link));

	inventory_add(inventory, LEDGER_MOVES, mover_moves(hbmd->mover));
	inventory_add(inventory, LEDGER_NAMESPACES, 0);
	for (uint32_t i = 1; i <= namespaces; i++)
		if (namespaces_get(cache->namespaces, i))
			inventory_add(inventory, LEDGER_NAMESPACES, 1);

	inventory_add_blocks(inventory, recount);
	inventory_add_lent(inventory, hbmd->devices);
	inventory_add_published(inventory, hbmd->publications);
}

static void audit_limits_fill(struct hbm_wire_limit *record, const struct ledger_limit *limit,
			      const struct ledger_account *account)
{
	*record = (struct hbm_wire_limit){.limit = account->limit,
					  .used = account->used,
					  .highest = account->highest,
					  .refused = account->refused,
					  .unit = limit->unit,
					  .balanced = account->balanced};
	snprintf(record->name, sizeof(record->name), "%s", limit->name);
	if (!account->balanced)
		snprintf(record->problem, sizeof(record->problem),
			 "counted %llu, the charges add up to %llu",
			 (unsigned long long)account->counted, (unsigned long long)account->sum);
}

static void audit_limits_compare(struct hbm_wire_limit *record, const struct ledger *ledger,
				 enum ledger_resource resource, const struct inventory *inventory)
{
	uint64_t counted = ledger_used(&ledger->host, resource);

	if (!inventory->walked[resource] || inventory->amounts[resource] == counted ||
	    !record->balanced)
		return;

	record->balanced = 0;
	snprintf(record->problem, sizeof(record->problem), "counted %llu, found %llu",
		 (unsigned long long)counted, (unsigned long long)inventory->amounts[resource]);
}

/* What one user may retain in the tier where that is most, if no client retains anything. */
static void audit_limits_bound_retained(const struct hbmd *hbmd, struct ledger_account *accounts)
{
	for (uint32_t i = 0; i < LEDGER_LIMITS; i++) {
		if (ledger_limits[i].resource != LEDGER_RETAINED || accounts[i].payers > 0)
			continue;

		accounts[i].limit = 0;
		for (uint32_t t = 1; t <= hbmd->cache->tier_count; t++) {
			uint64_t most = cache_retain_limit(hbmd->cache, t);

			if (most > accounts[i].limit)
				accounts[i].limit = most;
		}
	}
}

uint32_t audit_limits(struct hbmd *hbmd, const struct recount *recount,
		      struct hbm_wire_limit *limits, uint32_t room)
{
	struct ledger_account accounts[LEDGER_LIMITS];
	struct inventory inventory;
	uint32_t count = room < LEDGER_LIMITS ? room : LEDGER_LIMITS;

	for (uint32_t i = 1; i <= hbmd->cache->tier_count; i++)
		cache_limit_pins(hbmd->cache, &hbmd->cache->tiers[i]);

	ledger_audit(hbmd->ledger, accounts);
	audit_limits_bound_retained(hbmd, accounts);
	inventory_walk(&inventory, hbmd, recount);

	for (uint32_t i = 0; i < count; i++) {
		audit_limits_fill(&limits[i], &ledger_limits[i], &accounts[i]);
		audit_limits_compare(&limits[i], hbmd->ledger, ledger_limits[i].resource,
				     &inventory);
		if (ledger_limits[i].resource == LEDGER_PINNED)
			audit_limits_compare(&limits[i], hbmd->ledger, LEDGER_TENANT_PINNED,
					     &inventory);
	}

	return count;
}
