/* SPDX-License-Identifier: Apache-2.0 */
/*
 * catalog_ids: which id each namespace has in the catalog. The numbers of namespaces are used
 * again; an id is not, so that a record never says another namespace than it was made for,
 * whatever of the file a power cut leaves.
 *
 * A namespace gets its id, and its record, with its first block. One whose number has another
 * namespace by now has been forgotten: its record goes when the number gets the next id.
 */
#pragma once

#include "daemon/cache/namespace.h"
#include "daemon/catalog/catalog_record.h"

/* What a namespace that gets an id changes in the file. */
struct catalog_id_change {
	uint16_t number;
	uint64_t forgotten; /* the id whose record goes; 0: none */
	struct catalog_namespace record;
};

struct catalog_ids {
	struct namespaces *namespaces;
	uint64_t *list; /* by number; 0: none */
	uint64_t last;  /* that was given */
};

int catalog_ids_open(struct catalog_ids *ids, struct namespaces *namespaces); /* -ENOMEM */
void catalog_ids_close(struct catalog_ids *ids);

/* The id of a namespace; 0: it has none yet. */
uint64_t catalog_ids_of(const struct catalog_ids *ids, uint16_t number);
/* Gives it one that it had before. */
void catalog_ids_set(struct catalog_ids *ids, uint16_t number, uint64_t id);
/* Gives it a new one. */
void catalog_ids_give(struct catalog_ids *ids, uint16_t number, struct catalog_id_change *change);
/* The change has not been made. */
void catalog_ids_take_back(struct catalog_ids *ids, const struct catalog_id_change *change);
