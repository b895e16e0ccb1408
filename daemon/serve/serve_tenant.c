/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/serve/serve_tenant.h"

#include "daemon/base/log.h"
#include "daemon/base/reason.h"
#include "daemon/cache/cache.h"
#include "daemon/ledger/tenant.h"
#include "daemon/ledger/user.h"
#include "daemon/serve/server.h"
#include "daemon/session/session.h"
#include "daemon/session/validate.h"

#include <stdio.h>

/* ---- TENANT_SET ---- */

void serve_tenant_set(struct hbmd *hbmd, struct request *request)
{
	const struct hbm_wire_tenant_set *set = (const void *)request->message;
	struct refusal refusal;
	const struct reason why = refusal_reason(&refusal);

	if (!session_is_operator(request->session)) {
		request_refuse(request, HBM_DENIED,
			       "only uid 0 and the daemon's uid change what tenants may have");
		return;
	}

	int status = tenant_set(hbmd->ledger, set->tenant, set->key, set->value, &why);
	if (status != HBM_OK) {
		request_refuse(request, status, "%s", refusal.reason);
		return;
	}

	log_notice("tenant %s: %s = %s, until the configuration is read again", set->tenant,
		   set->key, set->value);
	server_tenants_changed(hbmd->server);
	request_reply(request, HBM_OK, NULL, 0);
}

/* ---- Records ---- */

/* A payer that has limits as a tenant; its blocks count as those of that owner. */
struct shown {
	const struct payer *payer;
	const struct tenant *tenant; /* NULL: a user alone */
	const struct cache *cache;
	char name[CONFIG_TENANT_BYTES];
};

enum { RATES = 3, TIER_KEYS = 2 * (HBM_TIERS - 1) };

static void serve_tenant_record(const struct shown *shown, const struct tenant_limit *limit,
				struct hbm_wire_tenant *record)
{
	const struct ledger_section *section = shown->payer->section;

	*record = (struct hbm_wire_tenant){
		.limit = ledger_own_limit(shown->payer, limit->resource),
		.used = ledger_used(shown->payer, limit->resource),
		.refused = section ? section->refused[limit->resource] : 0,
		.unit = limit->unit,
		.configured = section != NULL,
	};
	snprintf(record->tenant, sizeof(record->tenant), "%s", shown->name);
	snprintf(record->key, sizeof(record->key), "%s", limit->key);
}

/* What is no count of the ledger. */
static void serve_tenant_rate(const struct shown *shown, unsigned i, struct hbm_wire_tenant *record)
{
	static const char *const keys[RATES] = {"weight", "guesses", "log_lines"};
	const struct config_tenant *rule = shown->tenant ? &shown->tenant->rule : NULL;
	const uint64_t values[RATES] = {rule ? rule->weight : 1,
					rule ? rule->guesses : GUESSES_BURST,
					rule ? rule->log_lines : LOG_PEERS_LINES};

	*record = (struct hbm_wire_tenant){.limit = values[i],
					   .unit = HBM_UNIT_COUNT,
					   .configured = shown->payer->section != NULL};
	snprintf(record->tenant, sizeof(record->tenant), "%s", shown->name);
	snprintf(record->key, sizeof(record->key), "%s", keys[i]);
}

/* What its blocks may take of the tiers of a kind, and keep of them. */
static void serve_tenant_tier(const struct shown *shown, unsigned i, struct hbm_wire_tenant *record)
{
	static const char *const keys[] = {"hbm_max", "hbm_min",  "ddr_max",
					   "ddr_min", "nvme_max", "nvme_min"};
	enum hbm_tier kind = (enum hbm_tier)(HBM_TIER_HBM + i / 2);
	const struct tenant *tenant = shown->tenant;

	*record = (struct hbm_wire_tenant){
		.limit = i % 2 == 0 ? tenant_most(tenant, kind) : tenant_least(tenant, kind),
		.used = cache_owner_bytes(shown->cache, kind, tenant->number),
		.unit = HBM_UNIT_BYTES,
		.configured = 1,
	};
	snprintf(record->tenant, sizeof(record->tenant), "%s", shown->name);
	snprintf(record->key, sizeof(record->key), "%s", keys[i]);
}

/* What its regions may have of a device. */
static void serve_tenant_device(const struct shown *shown, unsigned i,
				struct hbm_wire_tenant *record)
{
	const struct tenant_device *device = shown->tenant->devices[i];

	*record = (struct hbm_wire_tenant){
		.limit = shown->tenant->rule.memory_on[i],
		.used = device ? ledger_used(&device->payer, LEDGER_DEVICE_MEMORY) : 0,
		.refused = device ? device->section.refused[LEDGER_DEVICE_MEMORY] : 0,
		.unit = HBM_UNIT_BYTES,
		.configured = 1,
	};
	snprintf(record->tenant, sizeof(record->tenant), "%s", shown->name);
	snprintf(record->key, sizeof(record->key), "memory@%u", i);
}

static void serve_tenant_fill(const struct shown *shown, unsigned i, struct hbm_wire_tenant *record)
{
	const unsigned tiers = RATES + TENANT_LIMITS, devices = tiers + TIER_KEYS;

	if (i < RATES)
		serve_tenant_rate(shown, i, record);
	else if (i < tiers)
		serve_tenant_record(shown, &tenant_limits[i - RATES], record);
	else if (i < devices)
		serve_tenant_tier(shown, i - tiers, record);
	else
		serve_tenant_device(shown, i - devices, record);
}

/* How many records there are of it: the rates, the limits, two for each kind of tier, and one for
 * each device. */
static unsigned serve_tenant_records(const struct shown *shown)
{
	return RATES + TENANT_LIMITS + (shown->tenant ? TIER_KEYS + shown->cache->devices : 0);
}

/* Its records from the cursor on, which counts those of all; *at is the number of its first, and
 * then that of the next. False: the page is full, and the cursor is where the next one begins. */
static bool serve_tenant_show(struct page *page, const struct shown *shown, uint64_t *at)
{
	struct hbm_wire_tenant *records = (struct hbm_wire_tenant *)(void *)page->records;
	unsigned count = serve_tenant_records(shown);

	for (unsigned i = 0; i < count; i++, ++*at) {
		if (*at < page->cursor)
			continue;
		if (page->count == page->room) {
			page->cursor = *at;
			return false;
		}

		serve_tenant_fill(shown, i, &records[page->count++]);
	}

	return true;
}

void inspect_tenants(struct page *page)
{
	const struct ledger *ledger = page->hbmd->ledger;
	uint64_t at = 0;

	list_for_each (node, &ledger->tenants) {
		const struct tenant *tenant = container_of(node, struct tenant, link);
		struct shown shown = {
			.payer = &tenant->payer, .tenant = tenant, .cache = page->hbmd->cache};

		snprintf(shown.name, sizeof(shown.name), "%s", tenant->rule.name);
		if (!serve_tenant_show(page, &shown, &at))
			return;
	}

	list_for_each (node, &ledger->users) {
		const struct user *user = container_of(node, struct user, link);
		struct shown shown = {.payer = &user->payer};
		if (user->tenant)
			continue;

		snprintf(shown.name, sizeof(shown.name), "uid:%u", (unsigned)user->uid);
		if (!serve_tenant_show(page, &shown, &at))
			return;
	}

	page->cursor = 0;
}
