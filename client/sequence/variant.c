/* SPDX-License-Identifier: Apache-2.0 */
/* variant: see variant.h. */
#include "client/sequence/variant.h"

#include "client/sequence/blocks.h"
#include "client/sequence/pool.h"
#include "client/sequence/saved_key.h"
#include "client/sequence/sequence.h"
#include "client/sequence/store.h"

#include <errno.h>
#include <stdlib.h>

#define VARIANT_KEYS 4096u /* in one request */

/* Tokens of a block; 0: there can be none. */
static uint64_t variant_block(const struct hbm_pool *pool)
{
	const struct hbm_token_blocks blocks = {.block_tokens =
							hbm_layout_block_tokens(pool->layout)};
	const uint64_t slabs = hbm_blocks_bytes(pool, &blocks) / pool->slab;

	return slabs <= HBM_WIRE_FDS_MAX ? blocks.block_tokens : 0;
}

/* ---- Open ---- */

static void variant_name(struct variant *variant, const struct chain *chain, uint64_t at)
{
	const uint64_t lead = variant->first * variant->blocks.block_tokens - at;

	for (size_t i = variant->first; i < variant->blocks.count; i++)
		variant->keys[i] =
			hbm_saved_key_slabs(chain->name, chain->save, lead, i - variant->first);
}

int hbm_variant_open(struct variant *variant, struct hbm_sequence *sequence,
		     const struct chain *chain, uint64_t at)
{
	struct hbm_pool *pool = sequence->pool;
	const uint64_t size = variant_block(pool), end = at + chain->tokens - chain->first;
	const uint64_t first = size ? (at + size - 1) / size : 0, count = size ? end / size : 0;

	*variant = (struct variant){0};
	if (pool->lends_nothing || hbm_sequence_layout(sequence) != pool->layout ||
	    first >= count || !hbm_archive_slabs(chain->archive, size, &variant->blocks.ns))
		return 0;

	/* Those in front of the first are zero: it has no parent. */
	variant->keys = calloc(count, sizeof(*variant->keys));
	if (!variant->keys)
		return hbm_pool_fail(pool, -ENOMEM, "cannot allocate the keys of a module's slabs");

	variant->first = first;
	variant->blocks.block_tokens = size;
	variant->blocks.count = count;
	variant->blocks.keys = variant->keys;
	variant_name(variant, chain, at);
	if (!hbm_borrowing_open(&variant->borrowing, sequence, &variant->blocks, first, count))
		return hbm_pool_fail(pool, -ENOMEM, "cannot allocate what is borrowed");

	return 0;
}

void hbm_variant_close(struct variant *variant)
{
	if (variant->borrowing.loans)
		hbm_borrowing_close(&variant->borrowing);
	free(variant->keys);
	*variant = (struct variant){0};
}

/* ---- Borrow ---- */

void hbm_variant_borrow(struct variant *variant)
{
	struct borrowing *borrowing = &variant->borrowing;
	size_t end = variant->first;

	if (variant->first < variant->blocks.count) {
		hbm_borrowing_borrow(borrowing);
		borrowing->sequence->pool->lends_nothing = !borrowing->is_lent;
	}
	variant->missing = borrowing->end;

	/* One piece of the module: what is borrowed behind a gap is not mapped. */
	while (end < borrowing->end && borrowing->loans[end])
		end++;
	borrowing->end = end;
}

/* What cannot be mapped is copied. */
int hbm_variant_map(struct variant *variant)
{
	int r = hbm_borrowing_map(&variant->borrowing);

	if (r)
		variant->borrowing.end = variant->first;

	return r < 0 ? r : 0;
}

uint64_t hbm_variant_begin(const struct variant *variant)
{
	return variant->first * variant->blocks.block_tokens;
}

uint64_t hbm_variant_end(const struct variant *variant)
{
	return variant->borrowing.end * variant->blocks.block_tokens;
}

/* ---- Lend ---- */

void hbm_variant_lend(struct variant *variant, enum hbm_tier tier)
{
	struct borrowing *borrowing = &variant->borrowing;
	if (!borrowing->is_lent || variant->missing == variant->blocks.count)
		return;

	struct hbm_pool *pool = borrowing->sequence->pool;
	const bool was_quiet = pool->is_quiet;

	/* The caller has what it wanted. */
	pool->is_quiet = true;
	hbm_store_tokens(borrowing->sequence, &variant->blocks, variant->missing, tier, NULL);
	pool->is_quiet = was_quiet;
}

/* ---- Remove ---- */

/* The first block of each lead: the others go with it. */
void hbm_variants_remove(struct archive *archive, const char *name, uint64_t save, uint64_t tokens)
{
	struct hbm_pool *pool = archive->pool;
	const uint64_t size = variant_block(pool);
	const uint64_t leads = size && tokens >= size ? tokens - size + 1 : 0;
	const uint64_t count = leads < size ? leads : size;
	uint32_t ns;
	hbm_key *keys = count ? malloc(VARIANT_KEYS * sizeof(*keys)) : NULL;

	if (!keys || !hbm_archive_slabs(archive, size, &ns)) {
		free(keys);
		return;
	}

	for (uint64_t lead = 0; lead < count;) {
		size_t n = 0;

		while (n < VARIANT_KEYS && lead < count)
			keys[n++] = hbm_saved_key_slabs(name, save, lead++, 0);
		hbm_keys(pool->hbm, HBM_WIRE_REMOVE, ns, 0, keys, n, NULL);
	}
	free(keys);
}

void hbm_variants_drop(struct archive *archive)
{
	const uint64_t size = variant_block(archive->pool);
	uint32_t ns;

	if (size && hbm_archive_slabs(archive, size, &ns))
		hbm_namespace_drop(archive->pool->hbm, ns, 0, NULL);
}
