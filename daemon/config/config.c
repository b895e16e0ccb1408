/* SPDX-License-Identifier: Apache-2.0 */
/* config: see config.h. Defaults, clearing, copying, printing, and checks between keys;
 * config_file.c reads. */
#include "daemon/config/config.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/base/checked.h"
#include "daemon/config/config_error.h"
#include "daemon/config/config_keys.h"
#include "daemon/config/config_tenant.h"

static bool config_is_owned(const struct config_key *key)
{
	return key->kind.type == VALUE_TEXT || key->kind.type == VALUE_PATH;
}

void config_clear(struct config *config)
{
	for (size_t i = 0; i < config_keys_count; i++)
		if (config_is_owned(&config_keys[i]))
			free(*(char **)config_field(config, &config_keys[i]));
	config_tenants_clear(config);
	*config = (struct config){0};
}

int config_defaults(struct config *config)
{
	struct config fresh = {0};
	for (size_t i = 0; i < config_keys_count; i++) {
		int r = value_parse(&config_keys[i].kind, config_keys[i].value,
				    config_field(&fresh, &config_keys[i]));
		if (r < 0) {
			config_clear(&fresh);
			return r;
		}
	}

	*config = fresh;
	return 0;
}

int config_copy(struct config *out, const struct config *from)
{
	struct config copy = *from;
	bool complete = true;

	for (size_t i = 0; i < config_keys_count; i++) {
		if (!config_is_owned(&config_keys[i]))
			continue;
		char **text = config_field(&copy, &config_keys[i]);
		*text = strdup(*text);
		complete = complete && *text;
	}

	if (config_tenants_copy(&copy, from) < 0 || !complete) {
		config_clear(&copy);
		return -ENOMEM;
	}

	*out = copy;

	return 0;
}

uint64_t config_size_of(struct config_size size, uint64_t whole)
{
	if (size.percent <= 0)
		return size.bytes;
	return (uint64_t)((long double)whole * (long double)size.percent / 100);
}

unsigned config_nvme_depth_max(const struct config *config)
{
	return (unsigned)(config->nvme_depth > 0 ? config->nvme_depth : config->nvme_depth_max);
}

static int config_check_shares(const struct config *config, char *error, size_t error_size)
{
	double shares = config->device_cache.percent + config->device_headroom.percent;
	if (shares > 100)
		return config_refuse(
			error, error_size,
			"device.cache and device.headroom: expected at most 100%% together");

	if (config->device_memory.percent > 0)
		return 0;

	uint64_t memory = config->device_memory.bytes;
	uint64_t cache = config_size_of(config->device_cache, memory), needed;
	if (!checked_add(cache, config_size_of(config->device_headroom, memory), &needed) ||
	    needed > memory)
		return config_refuse(error, error_size,
				     "device.memory: expected at least device.cache and "
				     "device.headroom together");

	return 0;
}

int config_check(const struct config *config, char *error, size_t error_size)
{
	int r = config_check_shares(config, error, error_size);

	if (!is_power_of_two(config->device_slab))
		r = config_refuse(error, error_size,
				  "device.slab: expected 2MiB times a power of two, up to 1GiB");

	bool has_nvme = config->nvme_path[0] != '\0';
	if (config->nvme_size > 0 && !has_nvme)
		r = config_refuse(error, error_size,
				  "nvme.size: expected nvme.path to be set as well");

	if (config->limit_request_bytes_total < config->limit_request_bytes)
		r = config_refuse(error, error_size,
				  "limits.request_bytes_total: expected at least "
				  "limits.request_bytes");

	int tenants = config_tenants_check(config, error, error_size);

	return r < 0 ? r : tenants;
}

static void config_print_keys(const struct config *config, bool with_help, FILE *out)
{
	for (size_t i = 0; i < config_keys_count; i++) {
		const struct config_key *key = &config_keys[i];
		if (i == 0 || strcmp(key->section, config_keys[i - 1].section) != 0)
			fprintf(out, "%s[%s]\n", i ? "\n" : "", key->section);
		if (with_help)
			fprintf(out, "# %s\n", key->help);

		fprintf(out, "%s = ", key->name);

		if (with_help)
			fputs(key->value, out);
		else
			value_print(&key->kind, (const char *)config + key->offset, out);

		putc('\n', out);
	}
}

void config_print_reference(FILE *out)
{
	config_print_keys(NULL, true, out);
	config_tenant_print_reference(out);
}

void config_print(const struct config *config, FILE *out)
{
	config_print_keys(config, false, out);
	config_tenants_print(config, out);
}
