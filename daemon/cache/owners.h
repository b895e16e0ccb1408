/* SPDX-License-Identifier: Apache-2.0 */
/*
 * owners: of the blocks of one tier, how much each tenant has, and what it may have at most and
 * keep at least. Those of all that have no tenant have the number 0 together, without bounds.
 *
 * Bytes are those that blocks with that target take there, pinned ones included. block.c counts
 * them; cache_evict.c keeps the bounds: beyond its most a tenant's own least recently used blocks
 * are evicted, and what others need is not taken from one that would have less than its least,
 * as long as there is something else.
 */
#pragma once

#include "daemon/ledger/tenant.h"

#include <stdbool.h>
#include <stdint.h>

struct owner {
	uint64_t bytes;
	uint64_t most, least; /* UINT64_MAX, 0: unbounded */
};

struct owners {
	struct owner list[TENANT_NUMBERS];
	uint32_t highest; /* the highest number that has had blocks, or bounds */
	bool bounded;     /* one of them is */
};

void owners_init(struct owners *owners);
void owners_add(struct owners *owners, uint32_t owner, uint64_t bytes);
void owners_subtract(struct owners *owners, uint32_t owner, uint64_t bytes);
/* Takes the bounds of all tenants from the ledger, for a tier of that kind. */
void owners_bound(struct owners *owners, const struct ledger *ledger, enum hbm_tier kind);
uint64_t owners_bytes(const struct owners *owners); /* of all together */

static inline bool owner_has_too_much(const struct owner *owner)
{
	return owner->bytes > owner->most;
}

/* Whether it would have less than it is to keep. */
static inline bool owner_keeps(const struct owner *owner, uint64_t bytes)
{
	return owner->least > 0 && owner->bytes < owner->least + bytes;
}
