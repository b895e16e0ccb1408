/* SPDX-License-Identifier: Apache-2.0 */
/* saved: see saved.h. */
#include "client/sequence/saved.h"

#include "client/cache.h"
#include "client/sequence/pool.h"
#include "client/sequence/saved_key.h"
#include "client/sequence/variant.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int hbm_saved_check_name(struct hbm_pool *pool, const char *name)
{
	if (!name || !*name)
		return hbm_pool_fail(pool, HBM_INVALID, "no name to save or restore by");
	if (strnlen(name, HBM_SAVED_NAME_MAX + 1) > HBM_SAVED_NAME_MAX)
		return hbm_pool_fail(pool, HBM_INVALID, "a name of more than %u bytes",
				     HBM_SAVED_NAME_MAX);

	return 0;
}

static struct chain saved_chain(struct archive *archive, const char *name,
				const struct manifest *manifest)
{
	return (struct chain){
		.archive = archive,
		.name = name,
		.save = manifest->save,
		.first = manifest->first,
		.tokens = manifest->tokens,
		.least = manifest->least,
		.slid = manifest->slid,
	};
}

int hbm_saved_open(struct hbm_pool *pool, const struct hbm_saved_space *space, const char *schema,
		   const char *name, struct saved *saved)
{
	*saved = (struct saved){0};
	int r = hbm_saved_check_name(pool, name);
	if (r == 0)
		r = hbm_archive_open(pool, space, schema, &saved->archive);
	if (r)
		return r;

	r = hbm_manifest_find(saved->archive, name, &saved->manifest);
	if (r == HBM_NOT_FOUND)
		hbm_pool_fail(pool, r, "nothing is saved by the name \"%s\"", name);
	if (r == 0)
		r = hbm_manifest_layout(saved->archive, &saved->manifest, &saved->layout);
	if (r == 0 && saved->manifest.tokens > hbm_layout_options(saved->layout)->max_tokens)
		r = hbm_pool_fail(pool, HBM_NOT_FOUND, "the manifest of \"%s\" is not valid", name);
	if (r == 0)
		r = hbm_archive_use(saved->archive, saved->layout);
	if (r)
		return r;

	saved->chain = saved_chain(saved->archive, name, &saved->manifest);

	return hbm_chain_present(&saved->chain, &saved->present);
}

void hbm_saved_close(struct saved *saved)
{
	hbm_archive_close(saved->archive);
	hbm_layout_free(saved->layout);
}

/* ---- What is missing ---- */

int hbm_saved_missing(const struct saved *saved, const char *name, bool *replaced)
{
	struct hbm_pool *pool = saved->archive->pool;
	struct manifest now;
	int r = hbm_manifest_find(saved->archive, name, &now);

	*replaced = r == 0 && now.save != saved->manifest.save;
	if (r == HBM_NOT_FOUND)
		return hbm_pool_fail(pool, r, "\"%s\" was dropped", name);

	return *replaced ? hbm_pool_fail(pool, HBM_NOT_FOUND,
					 "\"%s\" is saved again and again, or was dropped", name)
			 : r;
}

int hbm_saved_evicted(const struct saved *saved, const char *name)
{
	hbm_saved_remove(saved->archive, name, saved->manifest.save);

	return hbm_pool_fail(saved->archive->pool, HBM_NOT_FOUND,
			     "what was saved as \"%s\" was evicted", name);
}

/* ---- Uses ---- */

/* Of the handle: it goes with the manifest, and nothing else counts there. */
int hbm_saved_count(const struct saved *saved, const char *name, bool one_more, uint64_t *uses)
{
	struct hbm_pool *pool = saved->archive->pool;
	const hbm_key handle = hbm_saved_key_handle(name, saved->manifest.save);
	int r = hbm_count_use(pool->hbm, saved->archive->manifests, &handle, one_more, uses);

	return r < 0 ? hbm_pool_fail_call(pool, r, "uses were not counted") : 0;
}

/* ---- Find ---- */

int hbm_saved_find_in(struct hbm_pool *pool, const struct hbm_saved_space *space,
		      const char *schema, const char *name, struct hbm_saved *out)
{
	struct saved saved;
	uint64_t uses = 0;
	int r = hbm_saved_open(pool, space, schema, name, &saved);

	if (r == 0 && saved.manifest.version)
		r = hbm_saved_count(&saved, name, false, &uses);
	if (r == 0) {
		*out = (struct hbm_saved){
			.first = saved.manifest.first,
			.tokens = saved.manifest.tokens,
			.present = hbm_chain_tokens(&saved.chain, saved.present),
			.committed = saved.manifest.committed,
			.version = saved.manifest.version,
			.uses = uses,
			.layers = saved.layout->options.layer_count,
		};
		hbm_layout_fingerprint(saved.layout, out->layout);
	}
	hbm_saved_close(&saved);

	return r;
}

int hbm_saved_find(struct hbm_pool *pool, const struct hbm_saved_space *space, const char *name,
		   struct hbm_saved *out)
{
	hbm_pool_lock(pool);
	int r = hbm_saved_find_in(pool, space, "", name, out);
	hbm_pool_unlock(pool);

	return r;
}

/* ---- Drop ---- */

/* A namespace is open once in a session: what the archive has open as well stays so. */
static int saved_remove_pieces(struct archive *archive, const char *name,
			       const struct manifest *manifest, const struct hbm_layout *layout)
{
	struct archive *own = calloc(1, sizeof(*own));

	if (!own)
		return hbm_pool_fail(archive->pool, -ENOMEM, "cannot allocate what dropping needs");

	own->pool = archive->pool;
	own->space = archive->space;
	own->schema = archive->schema;
	int r = hbm_archive_use(own, layout);
	if (r == 0) {
		const struct chain chain = saved_chain(own, name, manifest);

		r = hbm_chain_remove(&chain);
	}
	if (own->pieces == archive->pieces)
		own->pieces = 0;
	hbm_archive_close(own);

	return r;
}

/* The pieces first: a manifest without them is found, and dropped, by the next call. */
static int saved_remove(struct archive *archive, const char *name, const struct manifest *manifest)
{
	struct hbm_layout *layout;
	int r = hbm_manifest_layout(archive, manifest, &layout);

	if (r == 0 && manifest->version)
		hbm_variants_remove(archive, name, manifest->save,
				    manifest->tokens - manifest->first);
	if (r == 0) {
		r = saved_remove_pieces(archive, name, manifest, layout);
		hbm_layout_free(layout);
	}

	return r ? r : hbm_manifest_remove(archive, name, manifest);
}

int hbm_saved_tidy(struct archive *archive, const char *name)
{
	struct manifest_places places;
	uint64_t newest;
	int r = hbm_manifest_load(archive, name, &places);
	if (r == 0)
		r = hbm_manifest_newest(archive, name, &places, &newest);

	for (uint64_t i = 0; r == 0 && i < MANIFEST_PLACES; i++) {
		struct manifest manifest;

		if (i != newest && hbm_manifest_read(archive, name, &places, i, &manifest) == 0)
			saved_remove(archive, name, &manifest);
	}

	return r;
}

/* Looks at all again: another has saved it meanwhile, perhaps. */
int hbm_saved_remove(struct archive *archive, const char *name, uint64_t save)
{
	struct manifest_places places;
	struct manifest manifest;
	int r = hbm_manifest_load(archive, name, &places);
	if (r)
		return r;

	for (uint64_t i = 0; i < MANIFEST_PLACES; i++)
		if (hbm_manifest_read(archive, name, &places, i, &manifest) == 0 &&
		    manifest.save == save)
			return saved_remove(archive, name, &manifest);

	return 0;
}

int hbm_saved_drop_in(struct hbm_pool *pool, const struct hbm_saved_space *space,
		      const char *schema, const char *name)
{
	struct archive *archive = NULL;
	struct manifest manifest;
	int r = hbm_saved_check_name(pool, name);
	if (r == 0)
		r = hbm_archive_open(pool, space, schema, &archive);
	if (r == 0)
		r = hbm_manifest_find(archive, name, &manifest);
	if (r == HBM_NOT_FOUND)
		hbm_pool_fail(pool, r, "nothing is saved by the name \"%s\"", name);

	if (r == 0) {
		hbm_saved_tidy(archive, name);
		r = hbm_saved_remove(archive, name, manifest.save);
		if (r > 0)
			hbm_pool_fail(pool, r, "\"%s\" was not dropped: %s", name, hbm_strerror(r));
	}
	hbm_archive_close(archive);

	return r;
}

int hbm_saved_drop(struct hbm_pool *pool, const struct hbm_saved_space *space, const char *name)
{
	hbm_pool_lock(pool);
	int r = hbm_saved_drop_in(pool, space, "", name);
	hbm_pool_unlock(pool);

	return r;
}
