/* SPDX-License-Identifier: Apache-2.0 */
/* manifest: see manifest.h. */
#include "client/sequence/manifest.h"

#include "client/error.h"
#include "client/sequence/pool.h"
#include "client/sequence/saved_key.h"

#include <errno.h>
#include <string.h>

#define MANIFEST_TEXTS (ARCHIVE_MANIFEST - sizeof(struct manifest)) /* bytes */
#define MANIFEST_TEXT (MANIFEST_TEXTS - HBM_SAVED_NAME_MAX - 1)     /* the layout */

static const char manifest_magic[8] = "hbmsave";

/* ---- Bytes ---- */

/* FNV-1a of 64 bits. */
static uint64_t manifest_sum(const char *page, const struct manifest *manifest)
{
	const size_t begin = offsetof(struct manifest, generation);
	const size_t end = sizeof(*manifest) + manifest->text_bytes + manifest->name_bytes;
	uint64_t sum = 0xcbf29ce484222325;

	for (size_t i = begin; i < end; i++)
		sum = (sum ^ (unsigned char)page[i]) * 0x100000001b3;

	return sum;
}

/* Between the archive and a place in its page of device memory. */
static int manifest_copy(struct archive *archive, uint64_t place, bool to_device)
{
	struct hbm_pool *pool = archive->pool;
	struct gpu *gpu = &pool->hbm->gpu;
	const uint64_t address = hbm_region_address(archive->page) + place * ARCHIVE_MANIFEST;

	if (hbm_gpu_enter(gpu, pool->region->device)) {
		const bool done = to_device ? GPU_CALL(gpu, cuMemcpyHtoD, address,
						       archive->manifest, ARCHIVE_MANIFEST)
					    : GPU_CALL(gpu, cuMemcpyDtoH, archive->manifest,
						       address, ARCHIVE_MANIFEST);

		hbm_gpu_leave(gpu);
		if (done)
			return 0;
	}

	hbm_fail_device(pool->hbm, gpu->failed_call, (int)gpu->failed_result);

	return hbm_pool_fail_call(pool, HBM_DEVICE, "a manifest");
}

static bool manifest_is_valid(const char *page, const struct manifest *manifest)
{
	const char *text = page + sizeof(*manifest), *name = text + manifest->text_bytes;

	return manifest->none == 0 && manifest->text_bytes > 0 &&
	       manifest->text_bytes <= MANIFEST_TEXT && text[manifest->text_bytes - 1] == '\0' &&
	       manifest->name_bytes > 1 && manifest->name_bytes <= HBM_SAVED_NAME_MAX + 1 &&
	       strnlen(name, manifest->name_bytes) == manifest->name_bytes - 1 &&
	       manifest->first <= manifest->tokens && manifest->least <= manifest->tokens &&
	       manifest->slid <= manifest->tokens && manifest_sum(page, manifest) == manifest->sum;
}

static const char *manifest_name(const char *page, const struct manifest *manifest)
{
	return page + sizeof(*manifest) + manifest->text_bytes;
}

/* ---- Read ---- */

int hbm_manifest_load_keys(struct archive *archive, const hbm_key *keys, size_t count,
			   struct manifest_places *places)
{
	struct hbm_segment segments[MANIFEST_PLACES];
	struct hbm_block blocks[MANIFEST_PLACES];
	int r = hbm_archive_page(archive);

	if (r)
		return r;
	for (size_t i = 0; i < count; i++) {
		segments[i] =
			(struct hbm_segment){archive->page, i * ARCHIVE_MANIFEST, ARCHIVE_MANIFEST};
		blocks[i] = (struct hbm_block){
			.key = keys[i], .segments = &segments[i], .segment_count = 1};
	}
	r = hbm_load(archive->pool->hbm, archive->manifests, blocks, count, places->results);

	return r ? hbm_pool_fail_call(archive->pool, r, "a manifest was not loaded") : 0;
}

/* All places in one request: they are looked up at one moment. */
int hbm_manifest_load(struct archive *archive, const char *name, struct manifest_places *places)
{
	hbm_key keys[MANIFEST_PLACES];

	for (uint64_t i = 0; i < MANIFEST_PLACES; i++)
		keys[i] = hbm_saved_key_manifest(name, i);

	return hbm_manifest_load_keys(archive, keys, MANIFEST_PLACES, places);
}

const char *hbm_manifest_name(struct archive *archive, const struct manifest_places *places,
			      uint64_t place, const hbm_key *key)
{
	const char *page = archive->manifest;
	struct manifest manifest;

	if (places->results[place].status != HBM_OK || manifest_copy(archive, place, false) != 0)
		return NULL;

	memcpy(&manifest, page, sizeof(manifest));
	if (memcmp(manifest.magic, manifest_magic, sizeof(manifest.magic)) != 0 ||
	    manifest.format != MANIFEST_FORMAT || !manifest_is_valid(page, &manifest))
		return NULL;

	const char *name = manifest_name(page, &manifest);
	const hbm_key own = hbm_saved_key_manifest(name, manifest.generation % MANIFEST_PLACES);

	return memcmp(&own, key, sizeof(own)) == 0 ? name : NULL;
}

int hbm_manifest_read(struct archive *archive, const char *name,
		      const struct manifest_places *places, uint64_t place, struct manifest *out)
{
	struct hbm_pool *pool = archive->pool;
	const int status = places->results[place].status;

	if (status == HBM_MISS)
		return HBM_NOT_FOUND;
	if (status != HBM_OK)
		return hbm_pool_fail(pool, status, "the manifest of \"%s\": %s", name,
				     hbm_strerror(status));

	int r = manifest_copy(archive, place, false);
	if (r)
		return r;

	memcpy(out, archive->manifest, sizeof(*out));
	if (memcmp(out->magic, manifest_magic, sizeof(out->magic)) != 0)
		return HBM_NOT_FOUND;
	if (out->format != MANIFEST_FORMAT)
		return hbm_pool_fail(pool, HBM_UNSUPPORTED,
				     "\"%s\" was saved in format %u, which is not known", name,
				     out->format);

	return manifest_is_valid(archive->manifest, out) &&
			       strcmp(manifest_name(archive->manifest, out), name) == 0
		       ? 0
		       : HBM_NOT_FOUND;
}

static bool manifest_is_newer(const struct manifest *a, const struct manifest *b)
{
	return a->version != b->version ? a->version > b->version : a->generation > b->generation;
}

int hbm_manifest_newest(struct archive *archive, const char *name,
			const struct manifest_places *places, uint64_t *place)
{
	struct manifest best = {0};
	bool found = false;

	for (uint64_t i = 0; i < MANIFEST_PLACES; i++) {
		struct manifest manifest;
		int r = hbm_manifest_read(archive, name, places, i, &manifest);

		if (r && r != HBM_NOT_FOUND)
			return r;
		if (r == 0 && (!found || manifest_is_newer(&manifest, &best))) {
			best = manifest;
			*place = i;
			found = true;
		}
	}

	return found ? 0 : HBM_NOT_FOUND;
}

int hbm_manifest_find(struct archive *archive, const char *name, struct manifest *out)
{
	struct manifest_places places;
	uint64_t place;
	int r = hbm_manifest_load(archive, name, &places);

	if (r == 0)
		r = hbm_manifest_newest(archive, name, &places, &place);

	return r ? r : hbm_manifest_read(archive, name, &places, place, out);
}

int hbm_manifest_layout(struct archive *archive, const struct manifest *manifest,
			struct hbm_layout **out)
{
	char error[200];
	int r = hbm_layout_parse(out, archive->manifest + sizeof(*manifest), error, sizeof(error));

	return r ? hbm_pool_fail(archive->pool, r, "the layout of what was saved: %s",
				 r > 0 ? error : hbm_strerror(r))
		 : 0;
}

/* ---- Write ---- */

int hbm_manifest_check_room(struct hbm_pool *pool, const struct hbm_sequence *sequence)
{
	return hbm_layout_print(hbm_sequence_layout(sequence), NULL, 0) < MANIFEST_TEXT
		       ? 0
		       : hbm_pool_fail(pool, HBM_LIMIT,
				       "the layout's text is longer than a manifest");
}

static void manifest_fill(struct archive *archive, const char *name, struct manifest *manifest)
{
	char *page = archive->manifest, *text = page + sizeof(*manifest);

	memset(page, 0, ARCHIVE_MANIFEST);
	memcpy(manifest->magic, manifest_magic, sizeof(manifest->magic));
	manifest->format = MANIFEST_FORMAT;
	manifest->text_bytes =
		1 + (uint32_t)hbm_layout_print(archive->chunk.layout, text, MANIFEST_TEXT);
	manifest->name_bytes = 1 + (uint32_t)strlen(name);
	memcpy(text + manifest->text_bytes, name, manifest->name_bytes);
	memcpy(page, manifest, sizeof(*manifest));
	manifest->sum = manifest_sum(page, manifest);
	memcpy(page, manifest, sizeof(*manifest));
}

/* The first generation from `least` on whose place has nothing that can be seen. */
static uint64_t manifest_free(const struct manifest_places *places, uint64_t least)
{
	uint64_t generation = least;

	while (generation < least + MANIFEST_PLACES &&
	       places->results[generation % MANIFEST_PLACES].status != HBM_MISS)
		generation++;

	return generation;
}

static int manifest_pin(struct archive *archive, const hbm_key *guard,
			const struct hbm_save_options *options)
{
	hbm_result result;
	int r = hbm_keys(archive->pool->hbm, HBM_WIRE_PIN, archive->manifests,
			 options->keep ? HBM_WIRE_KEEP : 0, guard, 1, &result);

	return r ? r : result.status;
}

/* At the place of its generation. HBM_EXISTS: that is taken. */
static int manifest_store_at(struct archive *archive, const char *name, struct manifest *manifest,
			     const struct hbm_save_options *options)
{
	struct hbm_pool *pool = archive->pool;
	const struct hbm_segment segment = {archive->page, 0, ARCHIVE_MANIFEST};
	const bool pinned = options->pin || options->keep;
	const hbm_key keys[] = {
		hbm_saved_key_handle(name, manifest->save),
		hbm_saved_key_manifest(name, manifest->generation % MANIFEST_PLACES),
		hbm_saved_key_guard(name, manifest->save)};
	struct hbm_block blocks[3] = {0};
	hbm_result results[3];
	const size_t count = pinned ? 3 : 2;

	for (size_t i = 0; i < count; i++) {
		blocks[i] = (struct hbm_block){.key = keys[i],
					       .segments = &segment,
					       .segment_count = 1,
					       .tier = options->tier,
					       .durable = options->durable};
		if (i > 0)
			blocks[i].parent = keys[i - 1];
	}
	manifest_fill(archive, name, manifest);
	int r = manifest_copy(archive, 0, true);
	if (r)
		return r;

	r = hbm_store(pool->hbm, archive->manifests, blocks, count, results);
	for (size_t i = 0; r == 0 && i < count; i++)
		r = results[i].status;
	if (r == 0 && pinned)
		r = manifest_pin(archive, &keys[2], options);
	if (r > 0)
		hbm_manifest_remove(archive, name, manifest);

	return r;
}

int hbm_manifest_store(struct archive *archive, const char *name, struct manifest *manifest,
		       const struct hbm_save_options *options)
{
	struct hbm_pool *pool = archive->pool;
	uint64_t place, least = manifest->generation + 1;
	struct manifest_places places;
	struct manifest now;
	int r = hbm_manifest_load(archive, name, &places);
	if (r)
		return r;

	r = hbm_manifest_newest(archive, name, &places, &place);
	if (r == 0)
		r = hbm_manifest_read(archive, name, &places, place, &now);
	if (r == 0 && now.generation >= least)
		least = now.generation + 1;
	if (r && r != HBM_NOT_FOUND)
		return r;

	manifest->generation = manifest_free(&places, least);
	r = manifest_store_at(archive, name, manifest, options);
	if (r == HBM_EXISTS)
		return hbm_pool_fail(pool, r, "\"%s\": others save it, or pin what was saved",
				     name);

	return r > 0   ? hbm_pool_fail(pool, r, "the manifest of \"%s\" was not stored: %s", name,
				       hbm_strerror(r))
	       : r < 0 ? hbm_pool_fail_call(pool, r, "a manifest was not stored")
		       : 0;
}

/* The guard is not below it, but below another one, if that took the place first. */
int hbm_manifest_remove(struct archive *archive, const char *name, const struct manifest *manifest)
{
	struct hbm *hbm = archive->pool->hbm;
	const hbm_key keys[] = {hbm_saved_key_guard(name, manifest->save),
				hbm_saved_key_handle(name, manifest->save)};
	hbm_result results[2];

	hbm_keys(hbm, HBM_WIRE_UNPIN, archive->manifests, 0, keys, 1, NULL);
	hbm_keys(hbm, HBM_WIRE_UNPIN, archive->manifests, HBM_WIRE_KEEP, keys, 1, NULL);
	int r = hbm_keys(hbm, HBM_WIRE_REMOVE, archive->manifests, 0, keys, 2, results);

	return r ? r : results[1].status == HBM_MISS ? 0 : results[1].status;
}
