/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/cache/owners.h"

#include <assert.h>

void owners_init(struct owners *owners)
{
	*owners = (struct owners){.highest = 0};
	for (uint32_t i = 0; i < TENANT_NUMBERS; i++)
		owners->list[i].most = UINT64_MAX;
}

static void owners_know(struct owners *owners, uint32_t owner)
{
	if (owner > owners->highest)
		owners->highest = owner;
}

void owners_add(struct owners *owners, uint32_t owner, uint64_t bytes)
{
	owners_know(owners, owner);
	owners->list[owner].bytes += bytes;
}

void owners_subtract(struct owners *owners, uint32_t owner, uint64_t bytes)
{
	assert(owners->list[owner].bytes >= bytes);
	owners->list[owner].bytes -= bytes;
}

void owners_bound(struct owners *owners, const struct ledger *ledger, enum hbm_tier kind)
{
	for (uint32_t i = 0; i <= owners->highest; i++) {
		owners->list[i].most = UINT64_MAX;
		owners->list[i].least = 0;
	}
	owners->bounded = false;

	list_for_each (node, &ledger->tenants) {
		const struct tenant *tenant = container_of(node, struct tenant, link);
		struct owner *owner = &owners->list[tenant->number];

		owners_know(owners, tenant->number);
		owner->most = tenant_most(tenant, kind);
		owner->least = tenant_least(tenant, kind);
		owners->bounded |= owner->most != UINT64_MAX || owner->least > 0;
	}
}

uint64_t owners_bytes(const struct owners *owners)
{
	uint64_t bytes = 0;

	for (uint32_t i = 0; i <= owners->highest; i++)
		bytes += owners->list[i].bytes;

	return bytes;
}
