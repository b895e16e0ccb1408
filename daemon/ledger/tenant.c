/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/ledger/tenant.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* X(key, resource, unit): all that is charged, but LEDGER_DEVICE_MEMORY, which has a limit for each
 * device, LEDGER_PINNED, which is counted by tier and once
 * more by tenant, and LEDGER_MOVES, which payers take turns for (waiting_loads.h, due_moves.h). */
#define LIMITS(X)                                                                                  \
	X(sessions, SESSIONS, COUNT)                                                               \
	X(requests_in_flight, REQUESTS, COUNT)                                                     \
	X(request_bytes, REQUEST_BYTES, BYTES)                                                     \
	X(regions, REGIONS, COUNT)                                                                 \
	X(address_space, ADDRESS_SPACE, BYTES)                                                     \
	X(memory, MEMORY, BYTES)                                                                   \
	X(host_memory, HOST_MEMORY, BYTES)                                                         \
	X(reserved, RESERVED, BYTES)                                                               \
	X(published, PUBLISHED, BYTES)                                                             \
	X(lent, LENT, BYTES)                                                                       \
	X(loans, LOANS, COUNT)                                                                     \
	X(sequences, SEQUENCES, COUNT)                                                             \
	X(namespaces, NAMESPACES, COUNT)                                                           \
	X(pins, PINS, COUNT)                                                                       \
	X(silent, SILENT, COUNT)                                                                   \
	X(descriptors, DESCRIPTORS, COUNT)                                                         \
	X(unread_descriptors, UNREAD_FDS, COUNT)                                                   \
	X(held, HELD, BYTES)                                                                       \
	X(reserves_waiting, RESERVES, COUNT)                                                       \
	X(publications, PUBLICATIONS, COUNT)                                                       \
	X(replicas, REPLICAS, COUNT)                                                               \
	X(notices, NOTICES, COUNT)                                                                 \
	X(namespace_opens, NAMESPACE_OPENS, COUNT)                                                 \
	X(watched, WATCHED, COUNT)                                                                 \
	X(blocks, BLOCKS, COUNT)                                                                   \
	X(pinned, TENANT_PINNED, BYTES)                                                            \
	X(retained, RETAINED, BYTES)                                                               \
	X(retained_blocks, RETAINED_BLOCKS, COUNT)

#define LIMIT(key, resource, unit)                                                                 \
	{#key, LEDGER_##resource, HBM_UNIT_##unit, offsetof(struct config_tenant, key)},
#define KEY(key, resource, unit) [LEDGER_##resource] = #key,

/* clang-format off */
const struct tenant_limit tenant_limits[TENANT_LIMITS] = {LIMITS(LIMIT)};
/* clang-format on */

static const char *const tenant_keys[LEDGER_RESOURCES] = {LIMITS(KEY)};

/* ---- Rules ---- */

static void tenant_apply(struct tenant *tenant)
{
	for (unsigned i = 0; i < TENANT_LIMITS; i++) {
		const struct tenant_limit *limit = &tenant_limits[i];
		uint64_t value;

		memcpy(&value, (const char *)&tenant->rule + limit->member, sizeof(value));
		if (value == CONFIG_DEFAULT)
			ledger_reset_limit(&tenant->payer, limit->resource);
		else
			ledger_set_limit(&tenant->payer, limit->resource, value);
	}

	for (unsigned i = 0; i < CONFIG_TENANT_DEVICES; i++)
		if (tenant->devices[i])
			ledger_set_limit(&tenant->devices[i]->payer, LEDGER_DEVICE_MEMORY,
					 tenant->rule.memory_on[i]);
}

/* Consumes the rule. */
static void tenant_take_rule(struct tenant *tenant, struct config_tenant *rule)
{
	config_tenant_clear(&tenant->rule);
	tenant->rule = *rule;
	memset(tenant->matches, 0, sizeof(tenant->matches));
	(void)match_read(tenant->rule.match, tenant->matches, CONFIG_TENANT_MATCHES);
	tenant->configured = true;
	tenant_apply(tenant);
}

struct tenant *tenant_find(const struct ledger *ledger, const char *name)
{
	list_for_each (node, &ledger->tenants) {
		struct tenant *tenant = container_of(node, struct tenant, link);
		if (strcmp(tenant->rule.name, name) == 0)
			return tenant;
	}

	return NULL;
}

/* The lowest that none has; 0: all are taken. */
static uint16_t tenant_free_number(const struct ledger *ledger)
{
	bool taken[TENANT_NUMBERS] = {true};
	uint16_t number = 1;

	list_for_each (node, &ledger->tenants)
		taken[container_of(node, struct tenant, link)->number] = true;
	while (number < TENANT_NUMBERS && taken[number])
		number++;

	return number < TENANT_NUMBERS ? number : 0;
}

static struct tenant *tenant_new(struct ledger *ledger)
{
	uint16_t number = tenant_free_number(ledger);
	struct tenant *tenant = number != 0 ? calloc(1, sizeof(*tenant)) : NULL;
	if (!tenant)
		return NULL;

	tenant->number = number;

	list_init(&tenant->link);
	payer_open_below(&tenant->payer, &ledger->unprivileged, PAYER_TENANT);
	tenant->section = (struct ledger_section){.name = tenant->rule.name, .keys = tenant_keys};
	tenant->payer.section = &tenant->section;

	return tenant;
}

static void tenant_free_devices(struct tenant *tenant)
{
	for (unsigned i = 0; i < CONFIG_TENANT_DEVICES; i++) {
		if (tenant->devices[i])
			payer_close(&tenant->devices[i]->payer);
		free(tenant->devices[i]);
	}
}

static void tenant_free_unused(struct tenant *tenant)
{
	if (tenant->configured || tenant->refs > 0)
		return;

	list_remove(&tenant->link);
	tenant_free_devices(tenant);
	payer_close(&tenant->payer);
	config_tenant_clear(&tenant->rule);
	free(tenant);
}

static int tenant_configure(struct ledger *ledger, const struct config_tenant *from)
{
	struct config_tenant rule;
	int r = config_tenant_copy(&rule, from);
	if (r < 0)
		return r;

	struct tenant *tenant = tenant_find(ledger, rule.name);
	if (!tenant)
		tenant = tenant_new(ledger);
	if (!tenant) {
		config_tenant_clear(&rule);
		return -ENOMEM;
	}

	tenant_take_rule(tenant, &rule);
	list_remove(&tenant->link);
	list_push_back(&ledger->tenants, &tenant->link);

	return 0;
}

int tenants_configure(struct ledger *ledger, const struct config *config)
{
	int r = 0;

	list_for_each (node, &ledger->tenants)
		container_of(node, struct tenant, link)->configured = false;

	for (size_t i = 0; r == 0 && i < config->tenant_count; i++)
		r = tenant_configure(ledger, &config->tenants[i]);

	list_for_each_safe (node, after, &ledger->tenants)
		tenant_free_unused(container_of(node, struct tenant, link));

	return r;
}

void tenants_close(struct ledger *ledger)
{
	(void)tenants_configure(ledger, &(struct config){.tenant_count = 0});
	assert(list_empty(&ledger->tenants));
}

/* ---- Clients ---- */

bool tenants_need_unit(const struct ledger *ledger)
{
	list_for_each (node, &ledger->tenants) {
		const struct tenant *tenant = container_of(node, struct tenant, link);
		for (unsigned i = 0; i < CONFIG_TENANT_MATCHES; i++)
			if (tenant->matches[i].kind == MATCH_UNIT)
				return true;
	}

	return false;
}

struct tenant *tenant_match(const struct ledger *ledger, const struct identity *identity)
{
	list_for_each (node, &ledger->tenants) {
		struct tenant *tenant = container_of(node, struct tenant, link);
		for (unsigned i = 0; tenant->configured && i < CONFIG_TENANT_MATCHES; i++)
			if (match_is(&tenant->matches[i], identity))
				return tenant;
	}

	return NULL;
}

struct tenant *tenant_ref(struct tenant *tenant)
{
	if (tenant)
		tenant->refs++;

	return tenant;
}

struct tenant *tenant_close(struct tenant *tenant)
{
	if (!tenant)
		return NULL;

	tenant->refs--;
	tenant_free_unused(tenant);

	return NULL;
}

uint64_t tenant_most(const struct tenant *tenant, enum hbm_tier kind)
{
	const struct config_tenant *rule = &tenant->rule;

	return kind == HBM_TIER_HBM   ? rule->hbm_max
	       : kind == HBM_TIER_DDR ? rule->ddr_max
				      : rule->nvme_max;
}

uint64_t tenant_least(const struct tenant *tenant, enum hbm_tier kind)
{
	const struct config_tenant *rule = &tenant->rule;

	return kind == HBM_TIER_HBM   ? rule->hbm_min
	       : kind == HBM_TIER_DDR ? rule->ddr_min
				      : rule->nvme_min;
}

struct payer *tenant_device(struct tenant *tenant, uint32_t number)
{
	assert(number < CONFIG_TENANT_DEVICES);
	if (tenant->devices[number])
		return &tenant->devices[number]->payer;

	struct tenant_device *device = calloc(1, sizeof(*device));
	if (!device)
		return NULL;

	snprintf(device->key, sizeof(device->key), "memory@%u", (unsigned)number);
	device->keys[LEDGER_DEVICE_MEMORY] = device->key;
	device->section = (struct ledger_section){.name = tenant->rule.name, .keys = device->keys};
	payer_open_below(&device->payer, &tenant->payer, PAYER_DEVICE);
	device->payer.section = &device->section;
	ledger_set_limit(&device->payer, LEDGER_DEVICE_MEMORY, tenant->rule.memory_on[number]);
	tenant->devices[number] = device;

	return &device->payer;
}

/* ---- Changes ---- */

int tenant_set(struct ledger *ledger, const char *name, const char *key_name, const char *value,
	       const struct reason *why)
{
	struct tenant *tenant = tenant_find(ledger, name);
	char expected[256];
	void *field;

	if (!tenant || !tenant->configured)
		return reason_set(why, HBM_NOT_FOUND, "no tenant of that name is configured");

	struct config_tenant changed = tenant->rule; /* its texts are the same */
	const struct config_key *key = config_tenant_key(&changed, key_name, &field);
	if (!key)
		return reason_set(why, HBM_INVALID, "a tenant has no such key; see hbmd.conf(5)");
	if (key->kind.type == VALUE_TEXT)
		return reason_set(why, HBM_INVALID,
				  "%s changes in the configuration alone, and for clients that "
				  "connect after it is read again",
				  key->name);

	int r = value_parse(&key->kind, value, field);
	if (r < 0) {
		value_expected(&key->kind, value, expected, sizeof(expected));
		return reason_set(why, HBM_INVALID, "%s: expected %s", key_name, expected);
	}

	const char *tier = config_tenant_contradiction(&changed);
	if (tier)
		return reason_set(why, HBM_INVALID, "%s_min: expected at most %s_max", tier, tier);

	tenant->rule = changed;
	tenant_apply(tenant);

	return HBM_OK;
}
