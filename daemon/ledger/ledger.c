/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/ledger/ledger.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "daemon/config/config.h"

#define NO_LIMIT UINT64_MAX
#define LIMIT(key, resource, payer, unit)                                                          \
	{                                                                                          \
		"limits." #key, LEDGER_##resource, PAYER_##payer, HBM_UNIT_##unit,                 \
			offsetof(struct config, limit_##key), false                                \
	}
#define SHARE(key, resource, payer, unit)                                                          \
	{                                                                                          \
		"limits." #key, LEDGER_##resource, PAYER_##payer, HBM_UNIT_##unit,                 \
			offsetof(struct config, limit_##key), true                                 \
	}

/* clang-format off */
const struct ledger_limit ledger_limits[LEDGER_LIMITS] = {
	LIMIT(sessions, SESSIONS, HOST, COUNT),
	SHARE(sessions_unprivileged, SESSIONS, UNPRIVILEGED, COUNT),
	SHARE(sessions_per_user, SESSIONS, USER, COUNT),
	LIMIT(silent, SILENT, HOST, COUNT),
	SHARE(silent_per_user, SILENT, USER, COUNT),
	LIMIT(descriptors, DESCRIPTORS, UNPRIVILEGED, COUNT), /* 0: set by ledger_set_limit() */
	SHARE(descriptors_per_user, DESCRIPTORS, USER, COUNT),
	LIMIT(requests_in_flight, REQUESTS, SESSION, COUNT),
	LIMIT(request_bytes, REQUEST_BYTES, SESSION, BYTES),
	LIMIT(request_bytes_total, REQUEST_BYTES, HOST, BYTES),
	LIMIT(regions, REGIONS, SESSION, COUNT),
	LIMIT(regions_total, REGIONS, HOST, COUNT),
	SHARE(regions_per_user, REGIONS, USER, COUNT),
	LIMIT(address_space, ADDRESS_SPACE, SESSION, BYTES),
	LIMIT(address_space_total, ADDRESS_SPACE, HOST, BYTES),
	SHARE(address_space_per_user, ADDRESS_SPACE, USER, BYTES),
	LIMIT(commit_slabs, COMMIT_SLABS, HOST, COUNT),
	LIMIT(unread_descriptors, UNREAD_FDS, SESSION, COUNT),
	LIMIT(unread_descriptors_total, UNREAD_FDS, UNPRIVILEGED, COUNT), /* 0: as descriptors */
	SHARE(unread_descriptors_per_user, UNREAD_FDS, USER, COUNT),
	LIMIT(namespaces, NAMESPACES, HOST, COUNT),
	SHARE(namespaces_per_user, NAMESPACES, USER, COUNT),
	LIMIT(namespace_opens, NAMESPACE_OPENS, SESSION, COUNT),
	LIMIT(blocks, BLOCKS, HOST, COUNT),
	LIMIT(block_bytes, BLOCK_BYTES, HOST, BYTES),
	LIMIT(block_segments, BLOCK_SEGMENTS, HOST, COUNT),
	SHARE(pinned, PINNED, TIER, BYTES), /* of the tier: set by ledger_set_limit() */
	LIMIT(pins, PINS, SESSION, COUNT),
	LIMIT(pins_total, PINS, HOST, COUNT),
	SHARE(pins_per_user, PINS, USER, COUNT),
	SHARE(retained, RETAINED, RETAINER, BYTES), /* of the tier: set by ledger_set_limit() */
	LIMIT(retained_total, RETAINED_BLOCKS, HOST, COUNT),
	SHARE(retained_per_user, RETAINED_BLOCKS, USER, COUNT),
	LIMIT(watched, WATCHED, HOST, COUNT),
	SHARE(watched_per_user, WATCHED, USER, COUNT),
	SHARE(held, HELD, SESSION, BYTES), /* of the devices: the host's by ledger_set_limit() */
	LIMIT(loans, LOANS, SESSION, COUNT),
	LIMIT(loans_total, LOANS, HOST, COUNT),
	SHARE(loans_per_user, LOANS, USER, COUNT),
	LIMIT(replicas, REPLICAS, HOST, COUNT),
	SHARE(lent_per_user, LENT, USER, BYTES), /* of device.lend: the host's by
						    ledger_set_limit() */
	SHARE(reserved, RESERVED, HOST, BYTES), /* of the devices: set by ledger_set_limit() */
	SHARE(reserved_per_user, RESERVED, USER, BYTES),
	LIMIT(reserves_waiting, RESERVES, HOST, COUNT),
	SHARE(reserves_waiting_per_user, RESERVES, USER, COUNT),
	LIMIT(sequences, SEQUENCES, SESSION, COUNT),
	LIMIT(sequences_total, SEQUENCES, HOST, COUNT),
	SHARE(sequences_per_user, SEQUENCES, USER, COUNT),
	LIMIT(notices, NOTICES, SESSION, COUNT),
	LIMIT(publications, PUBLICATIONS, HOST, COUNT),
	SHARE(publications_per_user, PUBLICATIONS, USER, COUNT),
	SHARE(published_per_user, PUBLISHED, USER, BYTES), /* of the memory for regions: the
							      host's by ledger_set_limit() */
	LIMIT(moves, MOVES, MOVER, COUNT),
	LIMIT(ready_ms, READY_MS, HOST, MS),
	LIMIT(reserve_ms, RESERVE_MS, HOST, MS),
	LIMIT(retain_ms, RETAIN_MS, HOST, MS),
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
	return resource == LEDGER_BLOCKS || resource == LEDGER_PINNED ||
	       resource == LEDGER_TENANT_PINNED || resource == LEDGER_RETAINED;
}

/* Whether a limit stands at payers of that kind: at tenants those of users. */
static bool ledger_is_of(const struct ledger_limit *limit, enum payer_kind kind)
{
	return limit->payer == (kind == PAYER_TENANT ? PAYER_USER : kind);
}

/* ---- payers ---- */

/* The number of the limit that payers of that kind have for a resource; LEDGER_LIMITS: none. */
static unsigned ledger_number_of(enum payer_kind kind, enum ledger_resource resource)
{
	unsigned i = 0;

	while (i < LEDGER_LIMITS &&
	       (!ledger_is_of(&ledger_limits[i], kind) || ledger_limits[i].resource != resource))
		i++;

	return i;
}

/* 0: unless it is set, it is what RLIMIT_NOFILE leaves. */
static bool ledger_is_of_files(const struct ledger_limit *limit)
{
	return limit->payer == PAYER_UNPRIVILEGED &&
	       (limit->resource == LEDGER_DESCRIPTORS || limit->resource == LEDGER_UNREAD_FDS);
}

/* A share is no less: each message can be sent when those before have been read. */
static uint64_t ledger_least_share(enum ledger_resource resource)
{
	return resource == LEDGER_UNREAD_FDS ? HBM_WIRE_FDS_MAX : 1;
}

/* Of a payer of that kind below this one, before anything else is known. */
static uint64_t ledger_initial_limit(const struct ledger *ledger, unsigned number,
				     const struct payer *parent)
{
	const struct ledger_limit *limit = &ledger_limits[number];
	struct config_size configured = ledger->configured[number];

	if (limit->resource == LEDGER_PINNED || limit->resource == LEDGER_RETAINED ||
	    (ledger_is_of_files(limit) && configured.bytes == 0))
		return NO_LIMIT;

	if (!limit->is_share || configured.percent <= 0)
		return configured.bytes;

	uint64_t whole = ledger_limit(parent, limit->resource);
	uint64_t share = whole == NO_LIMIT ? NO_LIMIT : config_size_of(configured, whole);
	uint64_t least = ledger_least_share(limit->resource);

	return share > least ? share : least;
}

static void ledger_init_payer(struct payer *payer, struct ledger *ledger, struct payer *parent,
			      enum payer_kind kind)
{
	*payer = (struct payer){.ledger = ledger, .parent = parent, .kind = kind};
	list_init(&payer->link);
	list_init(&payer->children);

	for (unsigned i = 0; i < LEDGER_RESOURCES; i++)
		ledger_reset_limit(payer, (enum ledger_resource)i);
}

void ledger_open(struct ledger *ledger, const struct config *config)
{
	*ledger = (struct ledger){.share_namespaces = config->share_namespaces};
	list_init(&ledger->users);
	list_init(&ledger->tenants);
	list_init(&ledger->charges);

	for (unsigned i = 0; i < LEDGER_LIMITS; i++) {
		const void *member = (const char *)config + ledger_limits[i].member;

		if (ledger_limits[i].is_share)
			ledger->configured[i] = *(const struct config_size *)member;
		else
			ledger->configured[i].bytes = *(const uint64_t *)member;
	}

	ledger_init_payer(&ledger->host, ledger, NULL, PAYER_HOST);
	payer_open(&ledger->unprivileged, ledger, PAYER_UNPRIVILEGED);
}

void payer_open_below(struct payer *payer, struct payer *parent, enum payer_kind kind)
{
	ledger_init_payer(payer, parent->ledger, parent, kind);
	list_push_back(&parent->children, &payer->link);
}

void payer_open(struct payer *payer, struct ledger *ledger, enum payer_kind kind)
{
	payer_open_below(payer, &ledger->host, kind);
}

void payer_close(struct payer *payer)
{
	if (!payer->ledger)
		return;

	assert(payer->charges == 0 && list_empty(&payer->children));

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

void ledger_reset_limit(struct payer *payer, enum ledger_resource resource)
{
	unsigned number = ledger_number_of(payer->kind, resource);

	payer->limits[resource] =
		number < LEDGER_LIMITS ? ledger_initial_limit(payer->ledger, number, payer->parent)
				       : NO_LIMIT;
}

uint64_t ledger_own_limit(const struct payer *payer, enum ledger_resource resource)
{
	return payer->limits[resource];
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

/* What is right below the host, or below all users that are no operators. */
static bool ledger_is_tenant(const struct payer *payer)
{
	const struct payer *parent = payer->parent;

	return parent == &payer->ledger->host || parent == &payer->ledger->unprivileged;
}

const struct payer *ledger_tenant(const struct payer *payer)
{
	while (payer->parent && !ledger_is_tenant(payer))
		payer = payer->parent;

	return payer;
}

bool ledger_has_tenant_room(const struct payer *payer, enum ledger_resource resource,
			    uint64_t amount)
{
	while (!ledger_is_full(payer, resource, amount) && !ledger_is_tenant(payer))
		payer = payer->parent;

	return !ledger_is_full(payer, resource, amount);
}

bool ledger_has_shared_room(const struct payer *session, enum ledger_resource resource)
{
	const struct ledger *ledger = session->ledger;
	const struct payer *tenant = ledger_tenant(session->parent);
	uint64_t sessions = tenant->used[LEDGER_SESSIONS];
	uint64_t share = ledger->host.limits[resource];

	if (tenant != &ledger->host && ledger_is_full(tenant, resource, 1))
		return false;

	share /= ledger->connected > 0 ? ledger->connected : 1;
	share /= sessions > 0 ? sessions : 1;

	return !ledger_is_full(&ledger->host, resource, 1) || session->used[resource] < share;
}

void ledger_set_whole(struct ledger *ledger, enum ledger_resource resource, uint64_t whole)
{
	unsigned number = ledger_number_of(PAYER_HOST, resource);

	assert(ledger_limits[number].is_share);

	ledger_set_limit(&ledger->host, resource,
			 config_size_of(ledger->configured[number], whole));
}

bool ledger_check(struct payer *payer, enum ledger_resource resource, uint64_t amount)
{
	const struct payer *full = ledger_find_full(payer, resource, amount);
	unsigned number = full ? ledger_number_of(full->kind, resource) : LEDGER_LIMITS;

	if (number < LEDGER_LIMITS)
		payer->ledger->refused[number]++;
	if (full && full->section)
		full->section->refused[resource]++;

	return !full;
}

/* As in the configuration. */
static void ledger_name_limit(const struct payer *payer, enum ledger_resource resource, char *name,
			      size_t size)
{
	const struct ledger_section *section = payer->section;
	unsigned number = ledger_number_of(payer->kind, resource);

	if (section && section->keys[resource])
		snprintf(name, size, "tenant %s.%s", section->name, section->keys[resource]);
	else
		snprintf(name, size, "%s", ledger_limits[number].name);
}

void ledger_reason(const struct payer *payer, enum ledger_resource resource, uint64_t amount,
		   char *text, size_t size)
{
	static const char *const whose[] = {
		[PAYER_HOST] = "all sessions together have",
		[PAYER_UNPRIVILEGED] = "all users that are no operators together have",
		[PAYER_TENANT] = "it has",
		[PAYER_DEVICE] = "it has there",
		[PAYER_USER] = "the user has",
		[PAYER_SESSION] = "the session has",
		[PAYER_NAMESPACE] = "the namespace has",
		[PAYER_TIER] = "the tier has",
		[PAYER_RETAINER] = "the user has in the tier",
		[PAYER_MOVER] = "there are",
	};
	const struct payer *full = ledger_find_full(payer, resource, amount);

	if (!full) {
		snprintf(text, size, "no limit is reached any more; retry");
		return;
	}

	char name[64];
	ledger_name_limit(full, resource, name, sizeof(name));
	unsigned long long limit = full->limits[resource], used = full->used[resource],
			   more = amount;
	if (!ledger_is_charged(resource))
		snprintf(text, size, "%s = %llu: %llu were asked for", name, limit, more);
	else
		snprintf(text, size, "%s = %llu: %s %llu, %llu more were asked for", name, limit,
			 whose[full->kind], used, more);
}

/* ---- charges ---- */

/* Counts the tenants that have sessions. */
static void ledger_count_tenant(const struct payer *payer, enum ledger_resource resource,
				uint64_t before)
{
	bool counts = payer->kind == PAYER_TENANT || payer->kind == PAYER_USER;

	if (resource != LEDGER_SESSIONS || !counts || !ledger_is_tenant(payer))
		return;

	payer->ledger->connected += payer->used[resource] > 0;
	payer->ledger->connected -= before > 0;
}

void ledger_add(struct payer *payer, enum ledger_resource resource, uint64_t amount)
{
	assert(ledger_is_charged(resource));

	for (; payer; payer = payer->parent) {
		payer->used[resource] += amount;
		ledger_count_tenant(payer, resource, payer->used[resource] - amount);
	}
}

void ledger_subtract(struct payer *payer, enum ledger_resource resource, uint64_t amount)
{
	for (; payer; payer = payer->parent) {
		assert(payer->used[resource] >= amount);
		payer->used[resource] -= amount;
		ledger_count_tenant(payer, resource, payer->used[resource] + amount);
	}
}

/* Adds to what the recount has for a payer, if it has come to that charge. */
static void ledger_count_again(const struct charge *charge, uint64_t amount)
{
	struct payer *payer = charge->payer;
	uint32_t recount = payer->ledger->recounts;
	if (!payer->ledger->recount || charge->recount != recount)
		return;

	if (payer->recount != recount)
		memset(payer->recounted, 0, sizeof(payer->recounted));

	payer->recount = recount;
	payer->recounted[charge->resource] += amount;
}

void ledger_charge_always(struct charge *charge, struct payer *payer, enum ledger_resource resource,
			  uint64_t amount)
{
	assert(!ledger_is_by_amount(resource));
	assert(!charge->payer || (charge->payer == payer && charge->resource == resource));

	if (!charge->payer) {
		*charge = (struct charge){.payer = payer, .resource = resource};
		list_push_front(&payer->ledger->charges, &charge->link);
		charge->recount = payer->ledger->recounts; /* it has been passed */
		payer->charges++;
	}

	charge->amount += amount;
	ledger_count_again(charge, amount);
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

	struct ledger *ledger = charge->payer->ledger;

	if (ledger->recount == &charge->link)
		ledger->recount = charge->link.next;
	ledger_count_again(charge, -charge->amount);
	list_remove(&charge->link);
	charge->payer->charges--;
	ledger_subtract(charge->payer, charge->resource, charge->amount);
	*charge = (struct charge){0};
}

/* ---- audit ---- */

bool ledger_recount(struct ledger *ledger, uint64_t max)
{
	if (!ledger->recount) {
		ledger->recount = ledger->charges.next;
		ledger->recounts++;
	}

	for (; max > 0 && ledger->recount != &ledger->charges; max--) {
		struct charge *charge = container_of(ledger->recount, struct charge, link);

		ledger->recount = charge->link.next;
		charge->recount = ledger->recounts;
		ledger_count_again(charge, charge->amount);
	}

	return ledger->recount != &ledger->charges;
}

void ledger_end_recount(struct ledger *ledger)
{
	ledger->recount = NULL;
}

static void ledger_sum(const struct payer *payer, uint64_t sums[LEDGER_RESOURCES])
{
	if (payer->recount == payer->ledger->recounts)
		memcpy(sums, payer->recounted, sizeof(payer->recounted));

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

	/* An operator is a user that no share bounds. */
	if (ledger_is_of(limit, payer->kind) && (payer->kind != PAYER_USER || most != NO_LIMIT)) {
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

	list_for_each (node, &payer->children)
		ledger_audit_payer(container_of(node, struct payer, link), accounts);
}

/* What a payer would have that is opened now. */
static uint64_t ledger_limit_of_next(const struct ledger *ledger, unsigned number)
{
	const struct payer *parent =
		ledger_limits[number].payer == PAYER_USER ? &ledger->unprivileged : &ledger->host;

	return ledger_initial_limit(ledger, number, parent);
}

void ledger_audit(struct ledger *ledger, struct ledger_account accounts[LEDGER_LIMITS])
{
	(void)ledger_recount(ledger, UINT64_MAX);

	for (unsigned i = 0; i < LEDGER_LIMITS; i++)
		accounts[i] = (struct ledger_account){.limit = ledger_limit_of_next(ledger, i),
						      .refused = ledger->refused[i],
						      .balanced = true};

	ledger_audit_payer(&ledger->host, accounts);
}
