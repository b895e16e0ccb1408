/* SPDX-License-Identifier: Apache-2.0 */
/* archive: see archive.h. */
#include "client/sequence/archive.h"

#include "client/sequence/backing.h"
#include "client/sequence/books.h"
#include "client/sequence/copies.h"
#include "client/sequence/growth.h"
#include "client/sequence/pool.h"
#include "client/sequence/saved_key.h"

#include <errno.h>
#include <stdlib.h>

static int archive_namespace(const struct archive *archive, const char *layout,
			     uint64_t block_bytes, uint32_t *ns)
{
	struct hbm_pool *pool = archive->pool;
	const struct hbm_namespace_options options = {
		.model = archive->space->model,
		.salt = archive->space->salt,
		.weights = archive->space->weights,
		.memory_only = archive->space->memory_only,
		.wipe_on_free = archive->space->wipe_on_free,
		.layout = layout,
		.block_bytes = block_bytes,
	};
	int r = hbm_namespace_open(pool->hbm, &options, ns);

	return r ? hbm_pool_fail_call(pool, r, "the namespace of what is saved") : 0;
}

static void archive_free(struct hbm_pool *pool, struct hbm_region *region)
{
	if (!region)
		return;

	hbm_books_count(pool, -hbm_backing_mapped(region, 0, hbm_region_bytes(region)));
	hbm_region_destroy(pool->hbm, region);
}

/* *out stays NULL if there is none, so that it is asked for again. */
static int archive_region(struct archive *archive, uint64_t bytes, struct hbm_region **out)
{
	struct hbm_pool *pool = archive->pool;
	const struct hbm_region_options options = {
		.device = pool->region->device,
		.address_space = bytes,
		.slab = HBM_LAYOUT_SLAB,
	};
	struct hbm_region *region;
	int r = hbm_region_create(pool->hbm, &options, &region);

	if (r)
		return hbm_pool_fail_call(pool, r, "memory to save or restore through");

	hbm_ranges_begin(&pool->grow);
	hbm_ranges_add(&pool->grow, region, 0, hbm_region_bytes(region));
	r = pool->grow.failed ? -ENOMEM : hbm_growth_map(pool);
	if (r) {
		hbm_pool_fail_call(pool, r, "memory to save or restore through");
		archive_free(pool, region);
		return r;
	}
	*out = region;

	return 0;
}

int hbm_archive_open(struct hbm_pool *pool, const struct hbm_saved_space *space, const char *schema,
		     struct archive **out)
{
	char layout[HBM_WIRE_NAME_BYTES];
	struct archive *archive = *out = calloc(1, sizeof(*archive));

	if (!archive)
		return hbm_pool_fail(pool, -ENOMEM, "cannot allocate what saving needs");

	archive->pool = pool;
	archive->space = space;
	archive->schema = schema;
	hbm_saved_key_text(layout, "saved:", schema, "");

	return archive_namespace(archive, layout, ARCHIVE_MANIFEST, &archive->manifests);
}

bool hbm_archive_slabs(const struct archive *archive, uint64_t block_tokens, uint32_t *ns)
{
	struct hbm_pool *pool = archive->pool;
	char fingerprint[HBM_WIRE_NAME_BYTES], name[HBM_WIRE_NAME_BYTES];
	struct hbm_layout_facts facts;

	hbm_layout_facts(pool->layout, &facts);
	hbm_layout_fingerprint(pool->layout, fingerprint);
	hbm_saved_key_text(name, "slabs:", archive->schema, fingerprint);
	if (archive_namespace(archive, name, block_tokens * facts.token_bytes, ns) != 0)
		return false;

	hbm_spaces_keep(&pool->spaces, pool->hbm, *ns);

	return true;
}

int hbm_archive_page(struct archive *archive)
{
	return archive->page ? 0 : archive_region(archive, ARCHIVE_PAGE, &archive->page);
}

/* What it has for pieces goes. */
static void archive_clear(struct archive *archive)
{
	struct hbm *hbm = archive->pool->hbm;

	hbm_copies_wait(archive->pool);
	archive_free(archive->pool, archive->landing);
	if (archive->pieces)
		hbm_namespace_close(hbm, archive->pieces);
	archive->landing = NULL;
	archive->pieces = 0;
	archive->chunk = (struct chunk){0};
	archive->kept = hbm_layout_free(archive->kept);
}

int hbm_archive_use(struct archive *archive, const struct hbm_layout *layout)
{
	char fingerprint[HBM_WIRE_NAME_BYTES], name[HBM_WIRE_NAME_BYTES];

	if (archive->chunk.layout == layout)
		return 0;

	archive_clear(archive);
	hbm_chunk_init(&archive->chunk, layout);
	hbm_layout_fingerprint(layout, fingerprint);
	hbm_saved_key_text(name, "pieces:", archive->schema, fingerprint);

	return archive_namespace(archive, name, archive->chunk.bytes, &archive->pieces);
}

/* Layers and heads that were kept are where they were in the pool's layout. Pieces have none of
 * its gaps. */
int hbm_archive_use_of(struct archive *archive, const struct hbm_sequence *sequence)
{
	const struct hbm_layout *layout = hbm_sequence_layout(sequence);
	struct hbm_layout *kept;

	if (layout == archive->pool->layout)
		return hbm_archive_use(archive, layout);
	if (hbm_layout_new(&kept, hbm_layout_options(layout), NULL, 0) != 0)
		return hbm_pool_fail(archive->pool, -ENOMEM,
				     "cannot allocate the layout of what is kept");

	int r = hbm_archive_use(archive, kept);
	archive->kept = kept;

	return r;
}

int hbm_archive_land(struct archive *archive)
{
	return archive->landing
		       ? 0
		       : archive_region(archive, (ARCHIVE_FLIGHTS + 1) * archive->chunk.bytes,
					&archive->landing);
}

uint64_t hbm_archive_offset(const struct archive *archive, uint64_t nth)
{
	return nth * archive->chunk.bytes;
}

void hbm_archive_close(struct archive *archive)
{
	if (!archive)
		return;

	struct hbm *hbm = archive->pool->hbm;

	archive_clear(archive);
	archive_free(archive->pool, archive->page);
	if (archive->manifests)
		hbm_namespace_close(hbm, archive->manifests);
	free(archive);
}
