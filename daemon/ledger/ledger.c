/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/ledger/ledger.h"

#include <assert.h>
#include <stdio.h>

#include "daemon/config/config.h"

#define NO_LIMIT UINT64_MAX
#define LIMIT(key, resource, payer, unit)                                                          \
	{                                                                                          \
		"limits." #key, LEDGER_##resource, PAYER_##payer, HBM_UNIT_##unit,                 \
			offsetof(struct config, limit_##key)                                       \
	}

/* clang-format off */
const struct ledger_limit ledger_limits[LEDGER_LIMITS] = {
	LIMIT(sessions, SESSIONS, HOST, COUNT),
	LIMIT(requests_in_flight, REQUESTS, SESSION, COUNT),
	LIMIT(request_bytes, REQUEST_BYTES, SESSION, BYTES),
	LIMIT(request_bytes_total, REQUEST_BYTES, HOST, BYTES),
	LIMIT(regions, REGIONS, SESSION, COUNT),
	LIMIT(address_space, ADDRESS_SPACE, SESSION, BYTES),
	LIMIT(commit_slabs, COMMIT_SLABS, HOST, COUNT),
	LIMIT(namespaces, NAMESPACES, HOST, COUNT),
	LIMIT(namespace_opens, NAMESPACE_OPENS, SESSION, COUNT),
	LIMIT(blocks, BLOCKS, HOST, COUNT),
	LIMIT(block_bytes, BLOCK_BYTES, HOST, BYTES),
	LIMIT(pinned, PINNED, TIER, BYTES), /* a share of the tier: set by ledger_set_limit() */
	LIMIT(pins, PINS, SESSION, COUNT),
	LIMIT(moves, MOVES, MOVER, COUNT),
	LIMIT(ready_ms, READY_MS, HOST, MS),
	LIMIT(hello_ms, HELLO_MS, HOST, MS),
};
/* clang-format on */

static bool ledger_is_charged(enum ledger_resource resource)
{
	return resource < LEDGER_COMMIT_SLABS;
}

/* Whether only amounts are added and subtracted, without a charge. */
static bool ledger_is_by_amount(enum ledger_resource resource)
{
	return resource == LEDGER_BLOCKS || resource == LEDGER_PINNED;
}

/* ---- payers ---- */

static void ledger_init_payer(struct payer *payer, struct ledger *ledger, enum payer_kind kind)
{
	*payer = (struct payer){.ledger = ledger, .kind = kind};
	list_init(&payer->link);
	list_init(&payer->children);
	list_init(&payer->charges);

	for (unsigned i = 0; i < LEDGER_RESOURCES; i++)
		payer->limits[i] = NO_LIMIT;
	for (unsigned i = 0; i < LEDGER_LIMITS; i++)
		if (ledger_limits[i].payer == kind)
			payer->limits[ledger_limits[i].resource] = ledger->configured[i];
}

void ledger_open(struct ledger *ledger, const struct config *config)
{
	*ledger = (struct ledger){0};

	for (unsigned i = 0; i < LEDGER_LIMITS; i++) {
		const char *member = (const char *)config + ledger_limits[i].member;
		ledger->configured[i] = ledger_limits[i].resource == LEDGER_PINNED
						? NO_LIMIT
						: *(const uint64_t *)(const void *)member;
	}

	ledger_init_payer(&ledger->host, ledger, PAYER_HOST);
}

void payer_open(struct payer *payer, struct ledger *ledger, enum payer_kind kind)
{
	ledger_init_payer(payer, ledger, kind);
	payer->parent = &ledger->host;
	list_push_back(&ledger->host.children, &payer->link);
}

void payer_close(struct payer *payer)
{
	if (!payer->ledger)
		return;

	assert(list_empty(&payer->charges) && list_empty(&payer->children));

	for (unsigned i = 0; i < LEDGER_RESOURCES; i++)
		ledger_subtract(payer, (enum ledger_resource)i, payer->used[i]);

	list_remove(&payer->link);
	*payer = (struct payer){0};
}

/* ---- limits ---- */

void ledger_set_limit(struct payer *payer, enum ledger_resource resource, uint64_t limit)
{
	payer->limits[resource] = limit;
}

uint64_t ledger_limit(const struct payer *payer, enum ledger_resource resource)
{
	uint64_t limit = NO_LIMIT;

	for (; payer; payer = payer->parent)
		if (payer->limits[resource] < limit)
			limit = payer->limits[resource];

	return limit;
}

uint64_t ledger_used(const struct payer *payer, enum ledger_resource resource)
{
	return payer->used[resource];
}

static bool ledger_is_full(const struct payer *payer, enum ledger_resource resource,
			   uint64_t amount)
{
	uint64_t used = payer->used[resource], limit = payer->limits[resource];

	return used > limit || amount > limit - used;
}

/* The first payer on the way up that may not have so much more; NULL: none. */
static const struct payer *ledger_find_full(const struct payer *payer,
					    enum ledger_resource resource, uint64_t amount)
{
	while (payer && !ledger_is_full(payer, resource, amount))
		payer = payer->parent;

	return payer;
}

bool ledger_has_room(const struct payer *payer, enum ledger_resource resource, uint64_t amount)
{
	return !ledger_find_full(payer, resource, amount);
}

bool ledger_has_own_room(const struct payer *payer, enum ledger_resource resource, uint64_t amount)
{
	return !ledger_is_full(payer, resource, amount);
}

bool ledger_has_shared_room(const struct payer *session, enum ledger_resource resource)
{
	const struct payer *host = session->parent;
	uint64_t sessions = host->used[LEDGER_SESSIONS];

	return !ledger_is_full(host, resource, 1) ||
	       session->used[resource] < host->limits[resource] / (sessions > 0 ? sessions : 1);
}

/* The number of the limit that payers of that kind have for a resource. */
static unsigned ledger_number_of(enum payer_kind kind, enum ledger_resource resource)
{
	unsigned i = 0;

	while (ledger_limits[i].payer != kind || ledger_limits[i].resource != resource)
		i++;

	return i;
}

bool ledger_check(struct payer *payer, enum ledger_resource resource, uint64_t amount)
{
	const struct payer *full = ledger_find_full(payer, resource, amount);
	if (full)
		payer->ledger->refused[ledger_number_of(full->kind, resource)]++;

	return !full;
}

void ledger_reason(const struct payer *payer, enum ledger_resource resource, uint64_t amount,
		   char *text, size_t size)
{
	static const char *const whose[] = {
		[PAYER_HOST] = "all sessions together have",
		[PAYER_SESSION] = "the session has",
		[PAYER_NAMESPACE] = "the namespace has",
		[PAYER_TIER] = "the tier has",
		[PAYER_MOVER] = "there are",
	};
	const struct payer *full = ledger_find_full(payer, resource, amount);

	if (!full) {
		snprintf(text, size, "no limit is reached any more; retry");
		return;
	}

	const char *name = ledger_limits[ledger_number_of(full->kind, resource)].name;
	unsigned long long limit = full->limits[resource], used = full->used[resource],
			   more = amount;
	if (!ledger_is_charged(resource))
		snprintf(text, size, "%s = %llu: %llu were asked for", name, limit, more);
	else
		snprintf(text, size, "%s = %llu: %s %llu, %llu more were asked for", name, limit,
			 whose[full->kind], used, more);
}

/* ---- charges ---- */

void ledger_add(struct payer *payer, enum ledger_resource resource, uint64_t amount)
{
	assert(ledger_is_charged(resource));

	for (; payer; payer = payer->parent)
		payer->used[resource] += amount;
}

void ledger_subtract(struct payer *payer, enum ledger_resource resource, uint64_t amount)
{
	for (; payer; payer = payer->parent) {
		assert(payer->used[resource] >= amount);
		payer->used[resource] -= amount;
	}
}

void ledger_charge_always(struct charge *charge, struct payer *payer, enum ledger_resource resource,
			  uint64_t amount)
{
	assert(!ledger_is_by_amount(resource));
	assert(!charge->payer || (charge->payer == payer && charge->resource == resource));

	if (!charge->payer) {
		*charge = (struct charge){.payer = payer, .resource = resource};
		list_push_back(&payer->charges, &charge->link);
	}

	charge->amount += amount;
	ledger_add(payer, resource, amount);
}

int ledger_charge(struct charge *charge, struct payer *payer, enum ledger_resource resource,
		  uint64_t amount)
{
	assert(!charge->payer);

	if (!ledger_check(payer, resource, amount))
		return HBM_LIMIT;

	ledger_charge_always(charge, payer, resource, amount);

	return HBM_OK;
}

void ledger_release(struct charge *charge)
{
	if (!charge->payer)
		return;

	list_remove(&charge->link);
	ledger_subtract(charge->payer, charge->resource, charge->amount);
	*charge = (struct charge){0};
}

/* ---- audit ---- */

static void ledger_sum(const struct payer *payer, uint64_t sums[LEDGER_RESOURCES])
{
	list_for_each (node, &payer->charges) {
		const struct charge *charge = container_of(node, struct charge, link);
		sums[charge->resource] += charge->amount;
	}

	list_for_each (node, &payer->children) {
		const struct payer *child = container_of(node, struct payer, link);
		for (unsigned i = 0; i < LEDGER_RESOURCES; i++)
			sums[i] += child->used[i];
	}
}

/* Adds what one payer has of a resource; sum is what its use should be. */
static void ledger_add_to_account(const struct payer *payer, const struct ledger_limit *limit,
				  uint64_t sum, struct ledger_account *account)
{
	uint64_t used = payer->used[limit->resource], most = payer->limits[limit->resource];

	if (payer->kind == limit->payer) {
		account->used += used;
		account->highest = used > account->highest ? used : account->highest;
		if (account->payers++ == 0 || most > account->limit)
			account->limit = most;
	}

	/* What is added without a charge is for its owner to count. */
	if (ledger_is_by_amount(limit->resource) && list_empty(&payer->children))
		return;

	if (sum != used && account->balanced) {
		account->balanced = false;
		account->counted = used;
		account->sum = sum;
	}
}

static void ledger_audit_payer(const struct payer *payer,
			       struct ledger_account accounts[LEDGER_LIMITS])
{
	uint64_t sums[LEDGER_RESOURCES] = {0};

	ledger_sum(payer, sums);
	for (unsigned i = 0; i < LEDGER_LIMITS; i++)
		ledger_add_to_account(payer, &ledger_limits[i], sums[ledger_limits[i].resource],
				      &accounts[i]);
}

void ledger_audit(const struct ledger *ledger, struct ledger_account accounts[LEDGER_LIMITS])
{
	for (unsigned i = 0; i < LEDGER_LIMITS; i++)
		accounts[i] = (struct ledger_account){.limit = ledger->configured[i],
						      .refused = ledger->refused[i],
						      .balanced = true};

	ledger_audit_payer(&ledger->host, accounts);
	list_for_each (node, &ledger->host.children)
		ledger_audit_payer(container_of(node, struct payer, link), accounts);
}
