/* SPDX-License-Identifier: Apache-2.0 */
/*
 * catalog: the names that are saved in a space. There is no list of them, which those who save
 * would have to change together: every manifest has its name, and they are in a namespace of
 * their own.
 */
#include "client/sequence/manifest.h"
#include "client/sequence/pool.h"
#include "client/sequence/saved.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct catalog {
	struct archive *archive;
	hbm_key *keys; /* of blocks that may be manifests */
	size_t key_count, key_room;
	char **names;
	size_t name_count;
};

/* ---- Keys ---- */

static int catalog_key(const void *record, size_t bytes, void *arg)
{
	static const struct hbm_wire_key root;
	struct hbm_wire_block_info block = {0};
	struct catalog *catalog = arg;

	memcpy(&block, record, bytes < sizeof(block) ? bytes : sizeof(block));
	if (block.ns != catalog->archive->manifests ||
	    memcmp(&block.parent, &root, sizeof(root)) == 0)
		return 0;

	if (catalog->key_count == catalog->key_room) {
		const size_t room = catalog->key_room ? 2 * catalog->key_room : 64;
		hbm_key *keys = reallocarray(catalog->keys, room, sizeof(*keys));

		if (!keys)
			return -ENOMEM;
		catalog->keys = keys;
		catalog->key_room = room;
	}
	memcpy(&catalog->keys[catalog->key_count++], &block.key, sizeof(block.key));

	return 0;
}

static int catalog_find_keys(struct catalog *catalog)
{
	struct hbm_pool *pool = catalog->archive->pool;
	int r = hbm_query(pool->hbm, HBM_QUERY_BLOCKS, catalog_key, catalog);

	if (r == -ENOMEM)
		return hbm_pool_fail(pool, r, "cannot allocate keys");

	return r ? hbm_pool_fail_call(pool, r, "what is saved was not looked at") : 0;
}

/* ---- Names ---- */

static int catalog_find_names(struct catalog *catalog)
{
	struct archive *archive = catalog->archive;
	int r = 0;

	catalog->names = calloc(catalog->key_count + 1, sizeof(*catalog->names));
	if (!catalog->names)
		return hbm_pool_fail(archive->pool, -ENOMEM, "cannot allocate names");

	for (size_t at = 0; r == 0 && at < catalog->key_count; at += MANIFEST_PLACES) {
		const size_t left = catalog->key_count - at;
		const size_t count = left < MANIFEST_PLACES ? left : MANIFEST_PLACES;
		const hbm_key *keys = &catalog->keys[at];
		struct manifest_places places;

		r = hbm_manifest_load_keys(archive, keys, count, &places);
		for (size_t i = 0; r == 0 && i < count; i++) {
			const char *name = hbm_manifest_name(archive, &places, i, &keys[i]);

			if (name && !(catalog->names[catalog->name_count++] = strdup(name)))
				r = hbm_pool_fail(archive->pool, -ENOMEM, "cannot allocate a name");
		}
	}

	return r;
}

static int catalog_compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int catalog_make(struct catalog *catalog, struct hbm_pool *pool,
			const struct hbm_saved_space *space, const char *schema)
{
	int r = hbm_archive_open(pool, space, schema, &catalog->archive);
	if (r == 0)
		r = catalog_find_keys(catalog);
	if (r == 0)
		r = catalog_find_names(catalog);
	if (r == 0)
		qsort(catalog->names, catalog->name_count, sizeof(*catalog->names),
		      catalog_compare);
	hbm_archive_close(catalog->archive);

	return r;
}

static void catalog_clear(struct catalog *catalog)
{
	for (size_t i = 0; i < catalog->name_count; i++)
		free(catalog->names[i]);
	free(catalog->names);
	free(catalog->keys);
}

/* ---- List ---- */

/* A name can have several manifests for a moment, and none a moment later. */
static int catalog_show(const struct catalog *catalog, struct hbm_pool *pool,
			const struct hbm_saved_space *space, const char *schema, hbm_saved_fn *each,
			void *arg)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < catalog->name_count; i++) {
		const char *name = catalog->names[i];
		struct hbm_saved saved;

		if (i > 0 && strcmp(name, catalog->names[i - 1]) == 0)
			continue;
		r = hbm_saved_find_in(pool, space, schema, name, &saved);
		if (r == 0)
			r = each(name, &saved, arg);
		else if (r == HBM_NOT_FOUND)
			r = 0;
	}

	return r;
}

static int catalog_list(struct hbm_pool *pool, const struct hbm_saved_space *space,
			const char *schema, hbm_saved_fn *each, void *arg)
{
	struct catalog catalog = {0};
	int r = *schema ? hbm_saved_check_name(pool, schema) : 0;
	if (r)
		return r;

	r = catalog_make(&catalog, pool, space, schema);
	if (r == 0)
		r = catalog_show(&catalog, pool, space, schema, each, arg);
	catalog_clear(&catalog);

	return r;
}

int hbm_saved_list(struct hbm_pool *pool, const struct hbm_saved_space *space, const char *schema,
		   hbm_saved_fn *each, void *arg)
{
	hbm_pool_lock(pool);
	int r = catalog_list(pool, space, schema ? schema : "", each, arg);
	hbm_pool_unlock(pool);

	return r;
}
