/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/catalog/catalog_ids.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int catalog_ids_open(struct catalog_ids *ids, struct namespaces *namespaces)
{
	*ids = (struct catalog_ids){.namespaces = namespaces,
				    .list = calloc(UINT16_MAX + 1, sizeof(*ids->list))};

	return ids->list ? 0 : -ENOMEM;
}

void catalog_ids_close(struct catalog_ids *ids)
{
	free(ids->list);
	*ids = (struct catalog_ids){0};
}

uint64_t catalog_ids_of(const struct catalog_ids *ids, uint16_t number)
{
	return namespaces_get(ids->namespaces, number)->catalog;
}

void catalog_ids_set(struct catalog_ids *ids, uint16_t number, uint64_t id)
{
	namespaces_get(ids->namespaces, number)->catalog = id;
	ids->list[number] = id;
	if (id > ids->last)
		ids->last = id;
}

void catalog_ids_give(struct catalog_ids *ids, uint16_t number, struct catalog_id_change *change)
{
	const struct namespace *ns = namespaces_get(ids->namespaces, number);

	*change = (struct catalog_id_change){
		.number = number,
		.forgotten = ids->list[number],
		.record = {.id = ids->last + 1,
			   .encoding = ns->encoding,
			   .uid = ns->user->uid,
			   .flags = ns->wipe_on_free ? CATALOG_WIPE_ON_FREE : 0}};
	memcpy(change->record.group, ns->group, sizeof(ns->group));
	if (ns->user->tenant)
		strcpy(change->record.tenant, ns->user->tenant->rule.name);
	namespaces_spec(ids->namespaces, number, &change->record.spec);
	catalog_namespace_seal(&change->record);
	catalog_ids_set(ids, number, change->record.id);
}

void catalog_ids_take_back(struct catalog_ids *ids, const struct catalog_id_change *change)
{
	struct namespace *ns = namespaces_get(ids->namespaces, change->number);

	if (ids->list[change->number] == change->record.id)
		ids->list[change->number] = change->forgotten;
	if (ns && ns->catalog == change->record.id)
		ns->catalog = 0;
}
