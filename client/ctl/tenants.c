/* SPDX-License-Identifier: Apache-2.0 */
/* tenants: see tenants.h. `set` stops at the first key that is refused; those before it stay. */
#include "client/ctl/tenants.h"
#include "client/ctl/ctl.h"
#include "client/ctl/inspect.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* KEY=VALUE: parts of it; false: it is none. */
static bool tenants_split(const char *word, char key[HBM_WIRE_NAME_BYTES], const char **value)
{
	const char *equals = strchr(word, '=');
	if (!equals || equals == word || equals - word >= HBM_WIRE_NAME_BYTES)
		return false;

	snprintf(key, HBM_WIRE_NAME_BYTES, "%.*s", (int)(equals - word), word);
	*value = equals + 1;

	return true;
}

static int tenants_set_one(struct ctl *ctl, const char *name, const char *word)
{
	char key[HBM_WIRE_NAME_BYTES];
	const char *value;

	(void)tenants_split(word, key, &value);
	int status = hbm_tenant_set(ctl->hbm, name, key, value);
	if (status != 0)
		return ctl_refused(ctl->hbm, "tenants set", status);
	if (!ctl->json)
		printf("tenant %s: %s\n", name, word);

	return CTL_DONE;
}

static int tenants_set(struct ctl *ctl)
{
	const char *name = ctl->words[1], *value;
	char key[HBM_WIRE_NAME_BYTES];
	json_t *array = json_array();
	size_t count = ctl->word_count;

	for (size_t i = 2; i < count; i++) {
		if (!tenants_split(ctl->words[i], key, &value)) {
			json_decref(array);
			return ctl_usage(ctl, "\"%s\" is no KEY=VALUE", ctl->words[i]);
		}
		json_array_append_new(array, json_string(ctl->words[i]));
	}

	int r = ctl_connect(ctl);
	for (size_t i = 2; r == CTL_DONE && i < count; i++)
		r = tenants_set_one(ctl, name, ctl->words[i]);

	if (r == CTL_DONE && ctl->json)
		return ctl_print_json(json_pack("{s:s,s:o}", "tenant", name, "set", array));
	json_decref(array);

	return r;
}

int tenants_run(struct ctl *ctl)
{
	if (ctl->word_count == 0)
		return inspect_tenants(ctl);
	if (strcmp(ctl->words[0], "set") != 0)
		return ctl_usage(ctl, "\"%s\" is unknown: expected set", ctl->words[0]);
	if (ctl->word_count < 3)
		return ctl_usage(ctl, "set takes a NAME and at least one KEY=VALUE");

	return tenants_set(ctl);
}
