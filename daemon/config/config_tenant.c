/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/config/config_tenant.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/config/config_error.h"
#include "daemon/config/match.h"

#include <hbm/wire.h>

#define TIB (UINT64_C(1) << 40)

static const struct value_choice defaults[] = {{"default", CONFIG_DEFAULT}, {NULL, 0}};

#define AT(member) offsetof(struct config_tenant, member)
#define KEY(name) "tenant", #name, AT(name)
#define TEXT                                                                                       \
	{                                                                                          \
		.type = VALUE_TEXT                                                                 \
	}
#define COUNT(least, most)                                                                         \
	{                                                                                          \
		.type = VALUE_COUNT, .min = (least), .max = (most), .choices = defaults            \
	}
#define SIZE(least, most)                                                                          \
	{                                                                                          \
		.type = VALUE_SIZE, .min = (least), .max = (most), .choices = defaults             \
	}
#define WEIGHT                                                                                     \
	{                                                                                          \
		.type = VALUE_COUNT, .min = 1, .max = CONFIG_TENANT_WEIGHT                         \
	}

/* clang-format off */
const struct config_key config_tenant_keys[] = {
	{KEY(match), TEXT, "", "the clients it is for: unit:PATTERN, uid:NAME, gid:NAME or any, several with spaces between"},
	{KEY(share), TEXT, "", "tenants with the same word share namespaces; empty: its namespaces are its own"},
	{KEY(weight), WEIGHT, "1", "how much more of links, disk and the daemon's time it gets than a tenant of weight 1, while both want more"},
	{KEY(sessions), COUNT(0, 1000000), "default", "connected clients"},
	{KEY(requests_in_flight), COUNT(1, 100000000), "default", "requests in flight"},
	{KEY(request_bytes), SIZE(4096, TIB), "default", "memory of its requests in flight"},
	{KEY(regions), COUNT(0, 100000000), "default", "regions"},
	{KEY(address_space), SIZE(0, 4096 * TIB), "default", "address space of its regions"},
	{KEY(memory), SIZE(0, 16 * TIB), "default", "device memory of its regions, until it is free again"},
	{"tenant", "memory@0", AT(memory_on), SIZE(0, 16 * TIB), "default", "the same of device 0, or what is reserved there if that is more; so also memory@1 and on, by the number of the device"},
	{KEY(host_memory), SIZE(0, 16 * TIB), "default", "host memory of its regions, until it is free again"},
	{KEY(reserved), SIZE(0, 16 * TIB), "default", "device memory that it has reserved"},
	{KEY(published), SIZE(0, 16 * TIB), "default", "device memory that it has published"},
	{KEY(lent), SIZE(0, 16 * TIB), "default", "device memory for what is lent to it"},
	{KEY(loans), COUNT(0, 100000000), "default", "blocks on loan"},
	{KEY(sequences), COUNT(0, 100000000), "default", "sequences on its boards"},
	{KEY(namespaces), COUNT(0, 65534), "default", "namespaces that it has made"},
	{KEY(pins), COUNT(0, 100000000), "default", "pins"},
	{KEY(silent), COUNT(1, 100000000), "default", "connections that have not said HELLO"},
	{KEY(descriptors), COUNT(0, 100000000), "default", "descriptors that its sessions and commits need"},
	{KEY(unread_descriptors), COUNT(HBM_WIRE_FDS_MAX, 100000000), "default", "descriptors sent to it and not read"},
	{KEY(held), SIZE(0, 16 * TIB), "default", "device memory that it has given back and still holds"},
	{KEY(reserves_waiting), COUNT(0, 100000000), "default", "reservations that wait"},
	{KEY(publications), COUNT(0, 100000000), "default", "ranges that it has published"},
	{KEY(replicas), COUNT(0, 100000000), "default", "blocks in what is lent to it"},
	{KEY(notices), COUNT(0, 100000000), "default", "messages to it that wait until it reads"},
	{KEY(namespace_opens), COUNT(0, 100000000), "default", "namespaces that its sessions have open"},
	{KEY(watched), COUNT(0, 65534), "default", "namespaces whose events are kept"},
	{KEY(blocks), COUNT(1, 4294967295), "default", "blocks in all tiers; its own least recently used ones make way"},
	{KEY(pinned), SIZE(0, 4096 * TIB), "default", "bytes of its blocks that are pinned, with their ancestors, in all tiers"},
	{KEY(retained), SIZE(0, 4096 * TIB), "default", "bytes that it retains, in all tiers"},
	{KEY(retained_blocks), COUNT(0, 4294967295), "default", "blocks that it retains"},
	{KEY(hbm_max), SIZE(0, 16 * TIB), "default", "blocks in the HBM tier of each device, at most; its own least recently used ones make way"},
	{KEY(hbm_min), SIZE(0, 16 * TIB), "0", "blocks there that make way to no other tenant's"},
	{KEY(ddr_max), SIZE(0, 16 * TIB), "default", "the same in the DDR tier, at most"},
	{KEY(ddr_min), SIZE(0, 16 * TIB), "0", "at least"},
	{KEY(nvme_max), SIZE(0, 16 * TIB), "default", "the same in the NVMe tier, at most"},
	{KEY(nvme_min), SIZE(0, 16 * TIB), "0", "at least"},
	{KEY(guesses), COUNT(1, 1000000), "256", "namespaces that it may open with a new salt at once, and one more each second"},
	{KEY(log_lines), COUNT(0, 1000000), "10", "log lines a second that its clients may cause, for each cause"},
};
/* clang-format on */
const size_t config_tenant_keys_count = sizeof(config_tenant_keys) / sizeof(config_tenant_keys[0]);
static_assert(sizeof(config_tenant_keys) / sizeof(config_tenant_keys[0]) <= 64, "tenant->seen");
static_assert((int)CONFIG_TENANT_DEVICES == HBM_WIRE_DEVICES_MAX && CONFIG_TENANT_DEVICES <= 64,
	      "tenant->seen_on");

static bool config_tenant_is_owned(const struct config_key *key)
{
	return key->kind.type == VALUE_TEXT;
}

/* ---- One ---- */

static bool config_tenant_is_of_device(const struct config_key *key)
{
	return key->offset == AT(memory_on);
}

/* The number of the device in "KEY@NUMBER", as it is written; CONFIG_TENANT_DEVICES: it is none. */
static unsigned config_tenant_device(const struct config_key *key, const char *name)
{
	const size_t length = strcspn(key->name, "@") + 1;
	unsigned device = 0;
	char expected[32];

	while (device < CONFIG_TENANT_DEVICES) {
		snprintf(expected, sizeof(expected), "%.*s%u", (int)length, key->name, device);
		if (strcmp(expected, name) == 0)
			break;
		device++;
	}

	return device;
}

const struct config_key *config_tenant_key(struct config_tenant *tenant, const char *name,
					   void **field)
{
	for (size_t i = 0; i < config_tenant_keys_count; i++) {
		const struct config_key *key = &config_tenant_keys[i];
		unsigned device = 0;

		if (config_tenant_is_of_device(key))
			device = config_tenant_device(key, name);
		else if (strcmp(key->name, name) != 0)
			continue;
		if (device == CONFIG_TENANT_DEVICES)
			continue;

		*field = (uint64_t *)config_tenant_field(tenant, key) + device;
		return key;
	}

	return NULL;
}

void config_tenant_clear(struct config_tenant *tenant)
{
	for (size_t i = 0; i < config_tenant_keys_count; i++)
		if (config_tenant_is_owned(&config_tenant_keys[i]))
			free(*(char **)config_tenant_field(tenant, &config_tenant_keys[i]));

	*tenant = (struct config_tenant){0};
}

int config_tenant_copy(struct config_tenant *out, const struct config_tenant *from)
{
	struct config_tenant copy = *from;
	bool complete = true;

	for (size_t i = 0; i < config_tenant_keys_count; i++) {
		if (!config_tenant_is_owned(&config_tenant_keys[i]))
			continue;

		char **text = config_tenant_field(&copy, &config_tenant_keys[i]);
		*text = strdup(*text);
		complete = complete && *text;
	}

	if (!complete) {
		config_tenant_clear(&copy);
		return -ENOMEM;
	}

	*out = copy;

	return 0;
}

static int config_tenant_defaults(struct config_tenant *tenant, const char *name)
{
	struct config_tenant fresh = {0};
	int r = 0;

	strcpy(fresh.name, name);
	for (size_t i = 0; r == 0 && i < config_tenant_keys_count; i++)
		r = value_parse(&config_tenant_keys[i].kind, config_tenant_keys[i].value,
				config_tenant_field(&fresh, &config_tenant_keys[i]));
	for (unsigned device = 1; device < CONFIG_TENANT_DEVICES; device++)
		fresh.memory_on[device] = fresh.memory_on[0];

	if (r < 0)
		config_tenant_clear(&fresh);
	else
		*tenant = fresh;

	return r;
}

bool config_tenant_see(struct config_tenant *tenant, const struct config_key *key,
		       const void *field)
{
	bool of_device = config_tenant_is_of_device(key);
	uint64_t *all = of_device ? &tenant->seen_on : &tenant->seen;
	uint64_t bit = UINT64_C(1) << (of_device ? (const uint64_t *)field - tenant->memory_on
						 : key - config_tenant_keys);
	bool seen = *all & bit;

	*all |= bit;

	return seen;
}

/* ---- All ---- */

void config_tenants_unsee(struct config *config)
{
	for (size_t i = 0; i < config->tenant_count; i++)
		config->tenants[i].seen = config->tenants[i].seen_on = 0;
}

bool config_tenant_is_section(const char *section)
{
	return strncmp(section, CONFIG_TENANT_SECTION, strlen(CONFIG_TENANT_SECTION)) == 0;
}

static bool config_tenant_is_name(const char *name)
{
	size_t length = strlen(name);

	for (const char *c = name; *c; c++)
		if (!isalnum((unsigned char)*c) && *c != '-' && *c != '_')
			return false;

	return length > 0 && length < CONFIG_TENANT_BYTES;
}

static struct config_tenant *config_tenant_add(struct config *config, const char *name)
{
	struct config_tenant *tenants =
		realloc(config->tenants, (config->tenant_count + 1) * sizeof(*config->tenants));
	if (!tenants)
		return NULL;

	config->tenants = tenants;
	if (config_tenant_defaults(&tenants[config->tenant_count], name) < 0)
		return NULL;

	return &tenants[config->tenant_count++];
}

struct config_tenant *config_tenant_of(struct config *config, const char *section,
				       const char *where, char *error, size_t error_size)
{
	const char *name = section + strlen(CONFIG_TENANT_SECTION);

	for (size_t i = 0; i < config->tenant_count; i++)
		if (strcmp(config->tenants[i].name, name) == 0)
			return &config->tenants[i];

	if (!config_tenant_is_name(name)) {
		config_refuse(error, error_size,
			      "%s: section [%s]: got the name '%s', expected at most %d letters, "
			      "digits, '-' and '_'",
			      where, section, name, CONFIG_TENANT_BYTES - 1);
		return NULL;
	}

	if (config->tenant_count == CONFIG_TENANTS_MAX) {
		config_refuse(error, error_size, "%s: section [%s]: expected at most %d tenants",
			      where, section, CONFIG_TENANTS_MAX);
		return NULL;
	}

	struct config_tenant *tenant = config_tenant_add(config, name);
	if (!tenant)
		config_refuse(error, error_size, "%s: out of memory", where);

	return tenant;
}

int config_tenants_copy(struct config *out, const struct config *from)
{
	struct config copy = {.tenant_count = 0};

	out->tenants = NULL;
	out->tenant_count = 0;
	if (from->tenant_count == 0)
		return 0;

	copy.tenants = calloc(from->tenant_count, sizeof(*copy.tenants));
	if (!copy.tenants)
		return -ENOMEM;

	for (; copy.tenant_count < from->tenant_count; copy.tenant_count++) {
		if (config_tenant_copy(&copy.tenants[copy.tenant_count],
				       &from->tenants[copy.tenant_count]) < 0) {
			config_tenants_clear(&copy);
			return -ENOMEM;
		}
	}

	out->tenants = copy.tenants;
	out->tenant_count = copy.tenant_count;

	return 0;
}

void config_tenants_clear(struct config *config)
{
	for (size_t i = 0; i < config->tenant_count; i++)
		config_tenant_clear(&config->tenants[i]);

	free(config->tenants);
	config->tenants = NULL;
	config->tenant_count = 0;
}

const char *config_tenant_contradiction(const struct config_tenant *tenant)
{
	return tenant->hbm_min > tenant->hbm_max     ? "hbm"
	       : tenant->ddr_min > tenant->ddr_max   ? "ddr"
	       : tenant->nvme_min > tenant->nvme_max ? "nvme"
						     : NULL;
}

int config_tenants_check(const struct config *config, char *error, size_t error_size)
{
	struct match matches[CONFIG_TENANT_MATCHES];
	int r = 0;

	for (size_t i = 0; i < config->tenant_count; i++) {
		const struct config_tenant *tenant = &config->tenants[i];
		const char *tier = config_tenant_contradiction(tenant);

		if (tier)
			r = config_refuse(error, error_size,
					  "tenant %s.%s_min: expected at most %s_max", tenant->name,
					  tier, tier);
		if (match_read(tenant->match, matches, CONFIG_TENANT_MATCHES) < 0)
			r = config_refuse(error, error_size,
					  "tenant %s.match: got '%s', expected unit:PATTERN, "
					  "uid:NAME, gid:NAME or any, 1 to %d of them, of users "
					  "and groups that exist",
					  tenant->name, tenant->match, CONFIG_TENANT_MATCHES);
	}

	return r;
}

void config_tenant_print_reference(FILE *out)
{
	fputs("\n#[tenant NAME]\n", out);
	for (size_t i = 0; i < config_tenant_keys_count; i++)
		fprintf(out, "# %s\n#%s = %s\n", config_tenant_keys[i].help,
			config_tenant_keys[i].name, config_tenant_keys[i].value);
}

/* Of the devices after the first, those that are set. */
static void config_tenant_print_devices(const struct config_tenant *tenant,
					const struct config_key *key, FILE *out)
{
	for (unsigned device = 1; device < CONFIG_TENANT_DEVICES; device++) {
		const uint64_t *value = &tenant->memory_on[device];
		if (*value == CONFIG_DEFAULT)
			continue;

		fprintf(out, "%.*s%u = ", (int)strcspn(key->name, "@") + 1, key->name, device);
		value_print(&key->kind, value, out);
		putc('\n', out);
	}
}

void config_tenants_print(const struct config *config, FILE *out)
{
	for (size_t i = 0; i < config->tenant_count; i++) {
		const struct config_tenant *tenant = &config->tenants[i];

		fprintf(out, "\n[tenant %s]\n", tenant->name);
		for (size_t k = 0; k < config_tenant_keys_count; k++) {
			const struct config_key *key = &config_tenant_keys[k];

			fprintf(out, "%s = ", key->name);
			value_print(&key->kind, (const char *)tenant + key->offset, out);
			putc('\n', out);
			if (config_tenant_is_of_device(key))
				config_tenant_print_devices(tenant, key, out);
		}
	}
}
