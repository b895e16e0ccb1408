/* SPDX-License-Identifier: Apache-2.0 */
/* key_list: see key_list.h. */
#include "client/ctl/key_list.h"
#include "client/ctl/block_key.h"
#include "client/ctl/query.h"
#include "client/ctl/units.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

int key_list(const struct ctl *ctl, char *const *words, size_t count, hbm_key **out)
{
	hbm_key *keys = calloc(count, sizeof(*keys));
	if (!keys)
		return ctl_fail("out of memory");

	for (size_t i = 0; i < count; i++) {
		if (block_key_parse(words[i], &keys[i]) == 0)
			continue;
		free(keys);
		return ctl_usage(ctl, "\"%s\" is no key: expected 32 hex digits, not all zero",
				 words[i]);
	}

	*out = keys;

	return CTL_DONE;
}

static bool key_list_has_model(const void *record, const void *arg)
{
	const struct hbm_wire_namespace *ns = record;
	const char *model = arg;
	return strlen(model) < sizeof(ns->model) &&
	       strncmp(ns->model, model, sizeof(ns->model)) == 0;
}

/* The number of the one namespace with this model. */
static int key_list_namespace_of_model(struct ctl *ctl, const char *model, uint32_t *number)
{
	struct query namespaces;
	int r = query_some(ctl->hbm, HBM_QUERY_NAMESPACES, key_list_has_model, model, 0,
			   &namespaces);
	if (r != 0)
		return ctl_refused(ctl->hbm, "namespaces", r);

	size_t count = namespaces.count;
	if (count == 1)
		*number = ((const struct hbm_wire_namespace *)namespaces.records)->ns;

	query_clear(&namespaces);
	if (count == 0)
		return ctl_fail("no namespace has the model \"%s\": see hbmctl namespaces", model);

	if (count > 1)
		return ctl_fail("%zu namespaces have the model \"%s\": give the number that hbmctl "
				"namespaces shows",
				count, model);

	return CTL_DONE;
}

int namespace_named(struct ctl *ctl, const char *name, uint32_t *ns)
{
	uint64_t number, block_bytes;
	uint32_t found = 0;

	if (units_parse_count(name, &number) == 0 && number <= UINT32_MAX) {
		found = (uint32_t)number;
	} else {
		int r = key_list_namespace_of_model(ctl, name, &found);
		if (r != CTL_DONE)
			return r;
	}

	int status = hbm_namespace_attach(ctl->hbm, found, &block_bytes);
	if (status == HBM_NOT_FOUND)
		return ctl_fail("there is no namespace %" PRIu32 ": see hbmctl namespaces", found);
	if (status != 0)
		return ctl_refused(ctl->hbm, "namespace", status);

	*ns = found;

	return CTL_DONE;
}
