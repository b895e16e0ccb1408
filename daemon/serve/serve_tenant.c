/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/serve/serve_tenant.h"

#include "daemon/base/log.h"
#include "daemon/base/reason.h"
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

/* A payer that has limits as a tenant. */
struct shown {
	const struct payer *payer;
	char name[CONFIG_TENANT_BYTES];
	uint64_t weight;
};

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

static void serve_tenant_weight(const struct shown *shown, struct hbm_wire_tenant *record)
{
	*record = (struct hbm_wire_tenant){.limit = shown->weight,
					   .unit = HBM_UNIT_COUNT,
					   .configured = shown->payer->section != NULL};
	snprintf(record->tenant, sizeof(record->tenant), "%s", shown->name);
	snprintf(record->key, sizeof(record->key), "weight");
}

/* Its records from the cursor on, which counts those of all; at is the number of its first. False:
 * the page is full, and the cursor is where the next one begins. */
static bool serve_tenant_show(struct page *page, const struct shown *shown, uint64_t at)
{
	struct hbm_wire_tenant *records = (struct hbm_wire_tenant *)(void *)page->records;

	for (uint64_t i = 0; i <= TENANT_LIMITS; i++) {
		if (at + i < page->cursor)
			continue;
		if (page->count == page->room) {
			page->cursor = at + i;
			return false;
		}

		struct hbm_wire_tenant *record = &records[page->count++];
		if (i == 0)
			serve_tenant_weight(shown, record);
		else
			serve_tenant_record(shown, &tenant_limits[i - 1], record);
	}

	return true;
}

void inspect_tenants(struct page *page)
{
	const struct ledger *ledger = page->hbmd->ledger;
	uint64_t at = 0;

	list_for_each (node, &ledger->tenants) {
		const struct tenant *tenant = container_of(node, struct tenant, link);
		struct shown shown = {.payer = &tenant->payer, .weight = tenant->rule.weight};

		snprintf(shown.name, sizeof(shown.name), "%s", tenant->rule.name);
		if (!serve_tenant_show(page, &shown, at))
			return;
		at += TENANT_LIMITS + 1;
	}

	list_for_each (node, &ledger->users) {
		const struct user *user = container_of(node, struct user, link);
		struct shown shown = {.payer = &user->payer, .weight = 1};
		if (user->tenant)
			continue;

		snprintf(shown.name, sizeof(shown.name), "uid:%u", (unsigned)user->uid);
		if (!serve_tenant_show(page, &shown, at))
			return;
		at += TENANT_LIMITS + 1;
	}

	page->cursor = 0;
}
