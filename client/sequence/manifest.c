/* SPDX-License-Identifier: Apache-2.0 */
/* manifest: see manifest.h. */
#include "client/sequence/manifest.h"

#include "client/error.h"
#include "client/sequence/pool.h"
#include "client/sequence/saved_key.h"

#include <errno.h>
#include <string.h>

#define MANIFEST_TRIES (2 * MANIFEST_PLACES)
#define MANIFEST_TEXT (ARCHIVE_MANIFEST - sizeof(struct manifest)) /* bytes */

static const char manifest_magic[8] = "hbmsave";

/* ---- Bytes ---- */

/* FNV-1a of 64 bits. */
static uint64_t manifest_sum(const char *page, const struct manifest *manifest)
{
	const size_t begin = offsetof(struct manifest, generation);
	const size_t end = sizeof(*manifest) + manifest->text_bytes;
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
	return manifest->text_bytes > 0 && manifest->text_bytes <= MANIFEST_TEXT &&
	       page[sizeof(*manifest) + manifest->text_bytes - 1] == '\0' &&
	       manifest->first <= manifest->tokens && manifest->least <= manifest->tokens &&
	       manifest->slid <= manifest->tokens && manifest_sum(page, manifest) == manifest->sum;
}

/* ---- Read ---- */

/* All places in one request: they are looked up at one moment. */
static int manifest_load(struct archive *archive, const char *name,
			 hbm_result results[MANIFEST_PLACES])
{
	struct hbm_segment segments[MANIFEST_PLACES];
	struct hbm_block blocks[MANIFEST_PLACES];
	int r = hbm_archive_page(archive);

	if (r)
		return r;
	for (uint64_t i = 0; i < MANIFEST_PLACES; i++) {
		segments[i] =
			(struct hbm_segment){archive->page, i * ARCHIVE_MANIFEST, ARCHIVE_MANIFEST};
		blocks[i] = (struct hbm_block){.key = hbm_saved_key_manifest(name, i),
					       .segments = &segments[i],
					       .segment_count = 1};
	}
	r = hbm_load(archive->pool->hbm, archive->manifests, blocks, MANIFEST_PLACES, results);

	return r ? hbm_pool_fail_call(archive->pool, r, "a manifest was not loaded") : 0;
}

/* What was loaded of a place, to the archive's page. HBM_NOT_FOUND: no manifest. */
static int manifest_read(struct archive *archive, const char *name, uint64_t place,
			 hbm_result result, struct manifest *out)
{
	struct hbm_pool *pool = archive->pool;

	if (result.status == HBM_MISS)
		return HBM_NOT_FOUND;
	if (result.status != HBM_OK)
		return hbm_pool_fail(pool, result.status, "the manifest of \"%s\": %s", name,
				     hbm_strerror(result.status));

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

	return manifest_is_valid(archive->manifest, out) ? 0 : HBM_NOT_FOUND;
}

int hbm_manifest_find(struct archive *archive, const char *name, struct manifest *out)
{
	hbm_result results[MANIFEST_PLACES];
	uint64_t best = MANIFEST_PLACES, generation = 0;
	struct manifest found;
	int r = manifest_load(archive, name, results);

	for (uint64_t i = 0; r == 0 && i < MANIFEST_PLACES; i++) {
		r = manifest_read(archive, name, i, results[i], &found);
		if (r == 0 && (best == MANIFEST_PLACES || found.generation > generation)) {
			generation = found.generation;
			best = i;
		}
		r = r == HBM_NOT_FOUND ? 0 : r;
	}
	if (r)
		return r;

	return best == MANIFEST_PLACES ? HBM_NOT_FOUND
				       : manifest_read(archive, name, best, results[best], out);
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

static void manifest_fill(struct archive *archive, struct manifest *manifest)
{
	char *page = archive->manifest, *text = page + sizeof(*manifest);

	memset(page, 0, ARCHIVE_MANIFEST);
	memcpy(manifest->magic, manifest_magic, sizeof(manifest->magic));
	manifest->format = MANIFEST_FORMAT;
	manifest->text_bytes =
		1 + (uint32_t)hbm_layout_print(archive->chunk.layout, text, MANIFEST_TEXT);
	memcpy(page, manifest, sizeof(*manifest));
	manifest->sum = manifest_sum(page, manifest);
	memcpy(page, manifest, sizeof(*manifest));
}

static int manifest_keep(struct archive *archive, const hbm_key *key)
{
	hbm_result result;
	int r = hbm_keys(archive->pool->hbm, HBM_WIRE_PIN, archive->manifests, HBM_WIRE_KEEP, key,
			 1, &result);

	return r ? r : result.status;
}

/* At the place of its generation. HBM_EXISTS: that is taken. */
static int manifest_store_at(struct archive *archive, const char *name, struct manifest *manifest,
			     const struct hbm_save_options *options)
{
	struct hbm_pool *pool = archive->pool;
	const struct hbm_segment segment = {archive->page, 0, ARCHIVE_MANIFEST};
	const struct hbm_block block = {
		.key = hbm_saved_key_manifest(name, manifest->generation % MANIFEST_PLACES),
		.segments = &segment,
		.segment_count = 1,
		.tier = options->tier,
		.pin = options->pin && !options->keep,
	};
	hbm_result result;

	manifest_fill(archive, manifest);
	int r = manifest_copy(archive, 0, true);
	if (r)
		return r;

	r = hbm_store(pool->hbm, archive->manifests, &block, 1, &result);
	if (r == 0)
		r = result.status;
	if (r == 0 && options->keep && (r = manifest_keep(archive, &block.key)) != 0)
		hbm_manifest_remove(archive, name, manifest);

	return r;
}

/* A place that is taken has what another has saved since `old` was found; or it has what a save
 * that was cut off has left, older than the one that is valid. */
int hbm_manifest_store(struct archive *archive, const char *name, struct manifest *manifest,
		       const struct manifest *old, const struct hbm_save_options *options)
{
	struct hbm_pool *pool = archive->pool;
	int r = hbm_archive_page(archive);

	if (r)
		return r;
	manifest->generation = old ? old->generation + 1 : 1;
	for (unsigned i = 0; i < MANIFEST_TRIES; i++) {
		struct manifest now;

		r = manifest_store_at(archive, name, manifest, options);
		if (r != HBM_EXISTS)
			break;
		if (hbm_manifest_find(archive, name, &now) == 0 &&
		    now.generation >= manifest->generation)
			manifest->generation = now.generation + 1;
		else if (hbm_manifest_remove(archive, name, manifest) != 0)
			manifest->generation++;
	}

	return r > 0   ? hbm_pool_fail(pool, r, "the manifest of \"%s\" was not stored: %s", name,
				       hbm_strerror(r))
	       : r < 0 ? hbm_pool_fail_call(pool, r, "a manifest was not stored")
		       : 0;
}

static int manifest_remove_at(struct archive *archive, const char *name, uint64_t place)
{
	struct hbm *hbm = archive->pool->hbm;
	const hbm_key key = hbm_saved_key_manifest(name, place);
	hbm_result result;

	/* Pins of this user, if there are any. */
	hbm_keys(hbm, HBM_WIRE_UNPIN, archive->manifests, 0, &key, 1, NULL);
	hbm_keys(hbm, HBM_WIRE_UNPIN, archive->manifests, HBM_WIRE_KEEP, &key, 1, NULL);
	int r = hbm_keys(hbm, HBM_WIRE_REMOVE, archive->manifests, 0, &key, 1, &result);

	return r ? r : result.status;
}

int hbm_manifest_remove(struct archive *archive, const char *name, const struct manifest *manifest)
{
	return manifest_remove_at(archive, name, manifest->generation % MANIFEST_PLACES);
}

int hbm_manifest_drop(struct archive *archive, const char *name, const struct manifest *manifest)
{
	const uint64_t place = manifest->generation % MANIFEST_PLACES;

	for (uint64_t i = 0; i < MANIFEST_PLACES; i++)
		if (i != place)
			manifest_remove_at(archive, name, i);

	return manifest_remove_at(archive, name, place);
}
