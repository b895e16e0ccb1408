/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/serve/audit.h"

#include "daemon/cache/cache.h"
#include "daemon/cache/recount.h"
#include "daemon/device/device.h"
#include "daemon/ledger/ledger.h"
#include "daemon/region/lend.h"
#include "daemon/region/publication.h"
#include "daemon/region/slab.h"
#include "daemon/region/slot_recount.h"
#include "daemon/serve/hbmd.h"
#include "daemon/serve/server.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct audit {
	struct hbmd *hbmd;
	struct recount *recount;
	struct extent_check check;
	uint32_t pool; /* the tier whose extents are checked; beyond the last: done */
	const char *faults[TIER_NUMBERS]; /* of the extents of each tier */
};

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

/* Whether the order has exactly the blocks without references whose target this is. */
static void audit_order(const struct recount_tier *found, struct hbm_wire_account *account)
{
	if (found->broken != 0)
		audit_problem(account, "the eviction order is broken at block %u", found->broken);
	else
		audit_expect(account, "blocks in the eviction order", found->seen, found->ordered);
}

static void audit_blocks(const struct cache *cache, const struct tier *tier,
			 const struct recount_tier *found, struct hbm_wire_account *account)
{
	audit_expect(account, "placed bytes", tier->placed, found->placed);

	if (tier->moving < found->source)
		audit_problem(account,
			      "moving bytes: counted %llu, at least %llu are being moved out",
			      (unsigned long long)tier->moving, (unsigned long long)found->source);

	audit_expect(account, "bytes of copies", tier->copies, found->copies);
	audit_expect(account, "bytes with this target", tier->bytes, found->belongs);
	audit_expect(account, "bytes of all owners with this target",
		     owners_bytes(&cache->owners[tier->number]), found->belongs);
	audit_expect(account, "blocks with this target", tier->blocks, found->blocks);
	audit_expect(account, "logical bytes with this target", tier->logical_bytes,
		     found->logical);
	audit_expect(account, "pinned bytes", cache_pinned(cache, tier), found->pinned);

	if (!tier->lost && tier->bytes > tier->usable && cache->touching == 0 && !cache->unsettled)
		audit_problem(account, "%llu bytes have this target, %llu are usable",
			      (unsigned long long)tier->bytes, (unsigned long long)tier->usable);
}

static void audit_tier(const struct audit *audit, const struct tier *tier,
		       struct hbm_wire_account *account)
{
	const struct cache *cache = audit->hbmd->cache;
	const struct recount_tier *found = &audit->recount->tiers[tier->number];

	if (tier->device)
		snprintf(account->pool, sizeof(account->pool), "hbm %u cache", tier->device_index);
	else
		snprintf(account->pool, sizeof(account->pool), "%s", tier_name(tier->kind));

	account->balanced = 1;
	account->capacity = extent_capacity(tier->extents);
	account->free = extent_available(tier->extents);
	account->placed = tier->placed;
	account->moving = tier->moving;
	account->failed = tier->failed;
	account->copies = tier->copies;
	audit_expect(account, "free + placed + moving + failed + copies",
		     account->free + account->placed + account->moving + account->failed +
			     account->copies,
		     account->capacity);
	audit_blocks(cache, tier, found, account);
	if (cache->orders[tier->number])
		audit_order(found, account);

	if (audit->faults[tier->number])
		audit_problem(account, "extents: %s", audit->faults[tier->number]);

	if (tier->number == 1 && audit->recount->orphans > 0)
		audit_problem(account, "%llu blocks have no parent in the index",
			      (unsigned long long)audit->recount->orphans);
}

/* Each attached region keeps its publication. */
static void audit_publications(const struct hbmd *hbmd, const struct device *device,
			       struct hbm_wire_account *account)
{
	uint64_t attached = 0;

	if (!hbmd->publications || !hbmd->server)
		return;

	list_for_each (node, server_sessions(hbmd->server))
		attached += regions_attached(&container_of(node, struct session, link)->regions,
					     device);
	audit_expect(account, "attached regions", publications_attached(hbmd->publications, device),
		     attached);
}

static void audit_slabs(const struct hbmd *hbmd, const struct device *device,
			struct hbm_wire_account *account)
{
	struct slabs_books books = slabs_books(device->slabs);

	if (device == hbmd->devices->host)
		snprintf(account->pool, sizeof(account->pool), "ddr regions");
	else
		snprintf(account->pool, sizeof(account->pool), "hbm %u regions", device->index);
	account->balanced = 1;
	account->capacity = books.budget;
	account->free = books.ready + books.uncreated;
	account->copies = device->lend ? device->lend->own : 0;
	account->placed = books.leased - account->copies;
	account->moving = books.retiring;
	account->quarantined = books.quarantined;
	account->held = books.held;
	audit_expect(account, "free + leased + retiring + quarantined + held",
		     account->free + account->placed + account->copies + account->moving +
			     account->quarantined + account->held,
		     account->capacity);
	audit_expect(account, "slots of slabs", slabs_check_slots(device->slabs),
		     slabs_slots(device->slabs)->backed);
	if (device->lend)
		audit_expect(account, "slots of lent slabs", device->lend->in_slots,
			     slabs_slots(device->slabs)->lent);
	audit_publications(hbmd, device, account);
	const char *fault = slabs_check_end(device->slabs);
	if (!fault && device->lend)
		fault = lend_check_end(device->lend);
	if (fault)
		audit_problem(account, "%s", fault);
}

/* ---- steps ---- */

/* Begins with the extents of the next tier that has any, from audit->pool on. */
static void audit_begin_pool(struct audit *audit)
{
	struct cache *cache = audit->hbmd->cache;

	while (audit->pool <= cache->tier_count && !cache->tiers[audit->pool].extents)
		audit->pool++;
	if (audit->pool <= cache->tier_count)
		extent_check_begin(&audit->check, cache->tiers[audit->pool].extents);
}

static bool audit_pools(struct audit *audit, uint32_t max)
{
	if (audit->pool > audit->hbmd->cache->tier_count)
		return false;

	if (!extent_check_some(&audit->check, max)) {
		audit->faults[audit->pool++] = extent_check_end(&audit->check);
		audit_begin_pool(audit);
	}

	return true;
}

static bool audit_devices(struct audit *audit, uint32_t max)
{
	const struct device *device;

	for (uint32_t i = 0; (device = devices_nth(audit->hbmd->devices, i)); i++)
		if (slabs_check_some(device->slabs, max) ||
		    (device->lend && lend_check_some(device->lend, max)))
			return true;

	return false;
}

bool audit_some(struct audit *audit, uint32_t max)
{
	return audit_devices(audit, max) || audit_pools(audit, max) ||
	       ledger_recount(audit->hbmd->ledger, max) || recount_some(audit->recount, max);
}

int audit_new(struct audit **out, struct hbmd *hbmd)
{
	struct audit *audit = calloc(1, sizeof(*audit));
	if (!audit)
		return -ENOMEM;

	audit->hbmd = hbmd;
	int r = recount_new(&audit->recount, hbmd->cache);
	if (r < 0) {
		free(audit);
		return r;
	}

	const struct device *device;
	for (uint32_t i = 0; (device = devices_nth(hbmd->devices, i)); i++) {
		slabs_check_begin(device->slabs);
		if (device->lend)
			lend_check_begin(device->lend);
	}

	audit_begin_pool(audit);
	*out = audit;

	return 0;
}

struct audit *audit_free(struct audit *audit)
{
	if (!audit)
		return NULL;

	if (audit->pool <= audit->hbmd->cache->tier_count)
		(void)extent_check_end(&audit->check);
	ledger_end_recount(audit->hbmd->ledger);
	recount_free(audit->recount);
	free(audit);

	return NULL;
}

const struct recount *audit_recount(const struct audit *audit)
{
	return audit->recount;
}

uint32_t audit_accounts(const struct audit *audit, struct hbm_wire_account *accounts, uint32_t room)
{
	const struct hbmd *hbmd = audit->hbmd;
	const struct cache *cache = hbmd->cache;
	uint32_t count = 0;

	memset(accounts, 0, room * sizeof(*accounts));
	const struct device *device;
	for (uint32_t i = 0; (device = devices_nth(hbmd->devices, i)) && count < room; i++)
		audit_slabs(hbmd, device, &accounts[count++]);
	for (uint32_t i = 1; i <= cache->tier_count + 1 && count < room; i++) {
		const struct tier *tier =
			i <= cache->tier_count ? &cache->tiers[i] : cache->staging;
		if (tier->extents)
			audit_tier(audit, tier, &accounts[count++]);
	}

	return count;
}
