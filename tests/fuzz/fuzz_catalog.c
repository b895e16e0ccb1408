/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_catalog: what a daemon finds in its catalog. The input makes rows, most of them sealed as
 * records are, some with bytes that a disk has changed: namespaces, and blocks in the order of
 * their units. Each row is kept or refused; what is kept overlaps nothing, has a namespace, and
 * comes behind its parent, the durable ones first. It is then made blocks of a small cache,
 * in slices, while other blocks are stored: each is what its record says, and when all have
 * been dropped the tier is as it was.
 */
#include "tests/fuzz/fuzz.h"

#include "daemon/base/log.h"
#include "daemon/cache/cache.h"
#include "daemon/catalog/catalog_recovery.h"
#include "daemon/config/config.h"
#include "daemon/ledger/ledger.h"

#include <stdlib.h>
#include <string.h>

#define UNITS 2048u /* of the tier */
#define ROWS 256u   /* at most */
#define KEYS 24u
#define NAMESPACES 4u

static struct config config;
static struct ledger ledger;
static struct cache *cache;
static struct catalog_ids ids;
static struct catalog_contents contents;
static struct catalog_recovery recovery;
static uint32_t numbers[ROWS]; /* of the blocks of contents that were recovered */

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	log_open(LOG_CRIT);
	fuzz_check(config_defaults(&config) == 0);
	config.limit_blocks = 2 * ROWS;

	return 0;
}

/* ---- rows ---- */

/* Now and then the disk has another byte. */
static void spoil(struct fuzz_input *input, void *bytes, size_t size)
{
	if (fuzz_below(input, 16) == 1)
		((uint8_t *)bytes)[fuzz_below(input, (uint32_t)size)] ^=
			(uint8_t)(1 + fuzz_below(input, 255));
}

static void add_namespace(struct fuzz_input *input, int64_t id)
{
	static const char *const tenants[] = {"", "", "", "gone"};
	struct catalog_namespace ns = {
		.id = (uint64_t)id,
		.spec = {.model = "m",
			 .weights = fuzz_below(input, 3),
			 .block_bytes = fuzz_below(input, 5) * (uint64_t)EXTENT_UNIT},
		.encoding = {.encoding = (uint8_t)fuzz_below(input, HBM_ENCODINGS + 1),
			     .element_bytes = (uint8_t)fuzz_below(input, 5)},
		.uid = fuzz_below(input, 2)};

	strcpy(ns.tenant, tenants[fuzz_below(input, 4)]);
	if (fuzz_below(input, 4) == 1)
		fuzz_take_bytes(input, &ns.spec, sizeof(ns.spec));
	catalog_namespace_seal(&ns);
	spoil(input, &ns, sizeof(ns));
	fuzz_check(catalog_contents_add_namespace(&contents, id, &ns,
						  sizeof(ns) - (fuzz_below(input, 32) == 1)) == 0);
}

static struct hbm_wire_key key_of(uint32_t n)
{
	struct hbm_wire_key key = {{0}};

	memcpy(key.bytes, &n, sizeof(n));

	return key;
}

/* No two have the same stamp. */
static void add_block(struct fuzz_input *input, const struct catalog_bounds *bounds, int64_t unit)
{
	struct catalog_block block = {.ns = fuzz_below(input, NAMESPACES + 1),
				      .key = key_of(1 + fuzz_below(input, KEYS)),
				      .parent = key_of(fuzz_below(input, KEYS + 1)),
				      .checksum = fuzz_take(input, 1),
				      .stamp = fuzz_take(input, 1) << 32 | (uint64_t)unit,
				      .unit = (uint32_t)unit,
				      .units = fuzz_below(input, 6),
				      .flags = fuzz_below(input, 5)};

	catalog_block_seal(&block);
	spoil(input, &block, sizeof(block));
	fuzz_check(catalog_contents_add_block(&contents, bounds, unit, &block, sizeof(block)) == 0);
}

static uint32_t add_rows(struct fuzz_input *input, const struct catalog_bounds *bounds)
{
	uint32_t count = 0;
	int64_t unit = -1;

	for (int64_t id = 1; id <= (int64_t)NAMESPACES; id++)
		if (fuzz_below(input, 4) != 1)
			add_namespace(input, id);
	for (; input->left > 0 && count < ROWS; count++) {
		unit += 1 + fuzz_below(input, fuzz_below(input, 64) == 1 ? UNITS : 6);
		add_block(input, bounds, unit);
	}

	return count;
}

/* ---- what is kept ---- */

/* The newest block of that key; count: none. */
static uint32_t newest(uint64_t ns, const struct hbm_wire_key *key)
{
	uint32_t best = contents.count;

	for (uint32_t i = 0; i < contents.count; i++) {
		const struct catalog_block *block = &contents.blocks[i];

		if (block->ns == ns && memcmp(&block->key, key, sizeof(*key)) == 0 &&
		    (best == contents.count || block->stamp > contents.blocks[best].stamp))
			best = i;
	}

	return best;
}

static uint32_t parent_of(uint32_t i)
{
	return newest(contents.blocks[i].ns, &contents.blocks[i].parent);
}

/* Whether a walk up from it comes back to it. */
static bool is_on_circle(uint32_t i)
{
	uint32_t at = parent_of(i);

	for (uint32_t steps = 0; at != contents.count && at != i && steps < contents.count; steps++)
		at = parent_of(at);

	return at == i;
}

static void check_kept(const struct catalog_bounds *bounds, uint32_t rows)
{
	uint64_t end = 0;

	fuzz_check(contents.count + contents.refused_count == rows);
	fuzz_check(contents.count <= bounds->blocks);
	for (uint32_t i = 0; i < contents.count; i++) {
		const struct catalog_block *block = &contents.blocks[i];

		fuzz_check(bounds->trust_any && block->units > 0 && block->unit >= end);
		end = (uint64_t)block->unit + block->units;
		fuzz_check(end <= bounds->units);
		fuzz_check(catalog_contents_namespace(&contents, block->ns) != NULL);
		fuzz_check(bounds->trust_unchecked || block->flags & CATALOG_CHECKSUMMED);
		fuzz_check(block->stamp <= contents.stamp);
	}
}

/* Whether a block of the parent's key has been placed before it: the newest, or one beside it. */
static bool is_behind_a_parent(const uint32_t place[ROWS], uint32_t i)
{
	const struct catalog_block *block = &contents.blocks[i];

	for (uint32_t at = 0; at < contents.count; at++)
		if (contents.blocks[at].ns == block->ns && place[at] < place[i] &&
		    memcmp(&contents.blocks[at].key, &block->parent, sizeof(block->parent)) == 0)
			return true;

	return false;
}

static void check_order(void)
{
	uint32_t place[ROWS] = {0}, durable = 0;

	for (uint32_t i = 0; i < contents.count; i++) {
		fuzz_check(contents.order[i] < contents.count && place[contents.order[i]] == 0);
		place[contents.order[i]] = i + 1;
	}

	/* One with a newer one of its key need not be: one of them comes back. */
	for (uint32_t i = 0; i < contents.count; i++) {
		uint32_t parent = parent_of(i);
		const struct catalog_block *block = &contents.blocks[i];

		if (parent != contents.count && !is_on_circle(i) &&
		    newest(block->ns, &block->key) == i)
			fuzz_check(is_behind_a_parent(place, i));
	}

	/* Behind the last durable one that is the newest of its key, and before it only what is
	 * above such a one. */
	bool first[ROWS] = {false};
	for (uint32_t i = 0; i < contents.count; i++) {
		const struct catalog_block *block = &contents.blocks[i];
		uint32_t at = i, steps = 0;

		if (!(block->flags & CATALOG_DURABLE) || newest(block->ns, &block->key) != i)
			continue;
		durable = place[i] > durable ? place[i] : durable;
		for (; at != contents.count && steps <= contents.count; steps++) {
			first[at] = true;
			at = parent_of(at);
		}
	}
	for (uint32_t i = 0; i < contents.count; i++)
		if (!first[i])
			fuzz_check(place[i] > durable);
}

/* ---- what comes back ---- */

static bool fits(void *arg, const struct namespace_identity *identity)
{
	uint64_t bytes = identity->spec->block_bytes;

	(void)arg;

	return bytes > 0 && bytes % EXTENT_UNIT == 0 && bytes <= 8ull * EXTENT_UNIT;
}

static void recovered(void *arg, uint32_t number, const struct catalog_block *record)
{
	const struct block *block = cache_block(cache, number);

	(void)arg;
	numbers[record - contents.blocks] = number;
	fuzz_check(memcmp(&block->key, &record->key, sizeof(block->key)) == 0);
	fuzz_check(block->unit == record->unit && block->stored_units == record->units);
	fuzz_check(block->checksummed == (record->flags & CATALOG_CHECKSUMMED) &&
		   (!block->checksummed || block->checksum == record->checksum));
	fuzz_check(block->durable == ((record->flags & CATALOG_DURABLE) != 0));
}

static void open_cache(uint64_t units)
{
	ledger_open(&ledger, &config);
	fuzz_check(cache_open(&cache, &config, &ledger, 1) == 0);
	fuzz_check(tier_init(cache->nvme, HBM_TIER_NVME, cache->nvme->number, UNITS * EXTENT_UNIT,
			     0, config.limit_blocks) == 0);
	cache->nvme->ops = &tier_nvme_ops;
	cache->nvme->claiming = true;
	fuzz_check(tier_grow(cache->nvme, 0, units * EXTENT_UNIT) == 0);
	cache_hbm(cache, 0)->below = cache->ddr;
	cache->ddr->below = cache->nvme;
	fuzz_check(catalog_ids_open(&ids, cache->namespaces) == 0);
}

/* A client is faster with one of the keys. */
static void store_one(struct fuzz_input *input)
{
	struct hbm_wire_key key = key_of(1 + fuzz_below(input, KEYS));
	uint16_t ns = recovery.numbers && contents.namespace_count > 0
			      ? recovery.numbers[fuzz_below(input, contents.namespace_count)]
			      : 0;

	if (ns == 0 || index_find(cache->index, ns, &key) != 0)
		return;

	uint32_t number = cache_insert(cache, ns, &key, 0);
	if (number != 0)
		block_stored(&cache->blocks, number, (struct place){0});
}

static void recover(struct fuzz_input *input)
{
	recovery = (struct catalog_recovery){.cache = cache,
					     .ids = &ids,
					     .contents = &contents,
					     .fits = fits,
					     .recovered = recovered};
	fuzz_check(catalog_recovery_begin(&recovery) == 0);
	while (recovery.phase != CATALOG_RECOVERED) {
		(void)catalog_recovery_some(&recovery, 1 + fuzz_below(input, 64));
		if (fuzz_below(input, 3) == 1)
			store_one(input);
	}
}

/* All that was claimed is a block's now, or free. */
static void check_books(void)
{
	const struct tier *nvme = cache->nvme;
	uint64_t bytes = 0, restored = 0;

	for (uint32_t i = 0; i < contents.count; i++) {
		if (numbers[i] == 0)
			continue;
		restored++;
		bytes += (uint64_t)contents.blocks[i].units * EXTENT_UNIT;
	}

	fuzz_check(restored == recovery.restored);
	fuzz_check(restored + recovery.refused_count == contents.count);
	fuzz_check(nvme->placed == bytes && nvme->bytes == bytes && nvme->bytes <= nvme->usable);
	fuzz_check(nvme->moving == 0);
	fuzz_check(extent_available(nvme->extents) == extent_capacity(nvme->extents) - bytes);
}

static void drop_all(void)
{
	const struct tier *nvme = cache->nvme;

	for (uint32_t number = 1; number <= index_highest(cache->index); number++)
		if (index_used(cache->index, number) &&
		    !block_is_dropped(cache_block(cache, number)))
			cache_drop(cache, number);
	while (cache_drop_pending(cache, 64))
		;

	fuzz_check(index_count(cache->index) == 0 && nvme->blocks == 0 && nvme->bytes == 0 &&
		   nvme->placed == 0 && nvme->moving == 0);
	fuzz_check(extent_available(nvme->extents) == extent_capacity(nvme->extents));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input input = {data, size};
	uint32_t how = (uint32_t)fuzz_take(&input, 1);
	const struct catalog_bounds bounds = {.units = how & 1 ? UNITS / 2 : UNITS,
					      .blocks = how & 2 ? 8 : ROWS,
					      .trust_unchecked = how & 4,
					      .trust_any = (how & 24) != 24};

	memset(numbers, 0, sizeof(numbers));
	contents = (struct catalog_contents){0};
	uint32_t rows = add_rows(&input, &bounds);
	check_kept(&bounds, rows);
	fuzz_check(catalog_contents_sort(&contents) == 0);
	check_order();

	input = (struct fuzz_input){data, size};
	open_cache(how & 32 ? UNITS / 4 : UNITS);
	recover(&input);
	check_books();
	catalog_recovery_end(&recovery);
	catalog_contents_clear(&contents);
	drop_all();
	catalog_ids_close(&ids);
	cache = cache_close(cache);

	return 0;
}
