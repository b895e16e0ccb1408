/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/catalog/catalog_recovery.h"

#include <errno.h>
#include <stdlib.h>

#define CLAIMED_AT_ONCE 64u /* blocks, of one step */
#define AHEAD 8u            /* blocks whose entries are fetched before they are looked for */

/* ---- namespaces ---- */

/* Whether the daemon encodes so, and clients may. */
static bool catalog_recovery_is_known(const struct hbm_wire_encoding *encoding)
{
	uint32_t element = encoding->element_bytes;
	bool lossless = encoding->encoding == HBM_ENCODING_LOSSLESS;

	return encoding->encoding < HBM_ENCODINGS &&
	       (lossless ? element == 1 || element == 2 || element == 4 : element == 0);
}

/* Opens it, so that it stays while its blocks come. 0: it is refused. */
static uint16_t catalog_recovery_open_namespace(struct catalog_recovery *recovery,
						const struct catalog_namespace *record)
{
	struct cache *cache = recovery->cache;
	const struct namespace_identity identity = {.spec = &record->spec,
						    .encoding = &record->encoding,
						    .wipe_on_free =
							    record->flags & CATALOG_WIPE_ON_FREE,
						    .group = record->group};
	struct tenant *tenant = tenant_find(cache->ledger, record->tenant);
	bool paid = tenant || record->tenant[0] == '\0'; /* else its section is gone */
	struct user *user = NULL;
	uint16_t number = 0;

	if (paid && catalog_recovery_is_known(&record->encoding) &&
	    recovery->fits(recovery->fits_arg, &identity))
		user = user_open_of(cache->ledger, record->uid, tenant);
	if (user)
		number = namespaces_open(cache->namespaces, &identity, user);
	user_close(user);
	if (number != 0 && catalog_ids_of(recovery->ids, number) == 0)
		catalog_ids_set(recovery->ids, number, record->id);

	return number;
}

static void catalog_recovery_close_namespace(struct catalog_recovery *recovery, uint32_t i)
{
	uint16_t number = recovery->numbers[i];

	recovery->numbers[i] = 0;
	if (number != 0)
		namespaces_unref(recovery->cache->namespaces, number);
}

/* Blocks that follow each other are mostly of one. */
static uint16_t catalog_recovery_number_of(struct catalog_recovery *recovery, uint64_t id)
{
	if (recovery->near_id == id)
		return recovery->near;

	const struct catalog_namespace *ns = catalog_contents_namespace(recovery->contents, id);

	recovery->near_id = id;
	recovery->near = ns ? recovery->numbers[ns - recovery->contents->namespaces] : 0;

	return recovery->near;
}

/* ---- blocks ---- */

/* How many blocks, from that one on, lie side by side; at most `max`. */
static uint32_t catalog_recovery_run(const struct catalog_contents *contents, uint32_t i,
				     uint32_t max)
{
	const struct catalog_block *blocks = &contents->blocks[i];
	uint32_t count = 1;

	while (count < max && i + count < contents->count &&
	       blocks[count].unit == blocks[count - 1].unit + blocks[count - 1].units)
		count++;

	return count;
}

/* What is between those blocks and the ones before them, of a tier that is dirty. */
static void catalog_recovery_wipe_before(struct catalog_recovery *recovery, uint32_t i)
{
	const struct catalog_block *blocks = recovery->contents->blocks;
	uint64_t from = i > 0 ? (uint64_t)blocks[i - 1].unit + blocks[i - 1].units : 0;
	uint64_t to = i < recovery->contents->count ? blocks[i].unit : UINT32_MAX;

	if (recovery->cache->nvme->dirty)
		tier_wipe_gap(recovery->cache->nvme, from, to);
}

static bool catalog_recovery_claim_run(struct catalog_recovery *recovery, uint32_t i,
				       uint32_t count)
{
	const struct catalog_block *first = &recovery->contents->blocks[i],
				   *last = &first[count - 1];
	uint64_t units = (uint64_t)last->unit + last->units - first->unit;

	return tier_claim(recovery->cache->nvme, first->unit, units * EXTENT_UNIT, count);
}

/* What lies side by side is claimed at once: how many blocks that was. What is beyond the bytes
 * that are formatted is free, and not to be let go. */
static uint32_t catalog_recovery_claim(struct catalog_recovery *recovery, uint32_t i)
{
	uint32_t count = catalog_recovery_run(recovery->contents, i, CLAIMED_AT_ONCE);

	catalog_recovery_wipe_before(recovery, i);
	if (catalog_recovery_claim_run(recovery, i, count))
		return count;
	if (!catalog_recovery_claim_run(recovery, i, 1))
		recovery->contents->blocks[i].units = 0;

	return 1;
}

/* Its key, and so its entry in the index, is anywhere in memory. */
static void catalog_recovery_look_ahead(struct catalog_recovery *recovery, uint32_t at,
					uint32_t ahead)
{
	const struct catalog_contents *contents = recovery->contents;
	if (at + 2 * AHEAD < contents->count && ahead == AHEAD)
		__builtin_prefetch(&contents->blocks[contents->order[at + 2 * AHEAD]]);
	if (at + ahead >= contents->count)
		return;

	const struct catalog_block *next = &contents->blocks[contents->order[at + ahead]];
	uint16_t ns = catalog_recovery_number_of(recovery, next->ns);

	if (ns != 0)
		index_expect(recovery->cache->index, ns, &next->key, ahead < AHEAD);
}

static void catalog_recovery_recover(struct catalog_recovery *recovery, uint32_t i)
{
	const struct catalog_block *block = &recovery->contents->blocks[i];
	struct cache_recovered found = {.tier = recovery->cache->nvme,
					.ns = catalog_recovery_number_of(recovery, block->ns),
					.checksummed = block->flags & CATALOG_CHECKSUMMED,
					.durable = block->flags & CATALOG_DURABLE,
					.key = block->key,
					.parent = block->parent,
					.near = recovery->last,
					.checksum = block->checksum,
					.unit = block->unit,
					.units = block->units};
	uint32_t number = 0;

	if (block->units == 0 || found.ns == 0 ||
	    cache_recover(recovery->cache, &found, &number) != HBM_OK) {
		recovery->refused[recovery->refused_count++] = i;
		return;
	}

	recovery->restored++;
	recovery->last = number;
	recovery->recovered(recovery->arg, number, block);
}

static void catalog_recovery_let_go(struct catalog_recovery *recovery, uint32_t i)
{
	const struct catalog_block *block = &recovery->contents->blocks[recovery->refused[i]];
	const struct catalog_namespace *ns =
		catalog_contents_namespace(recovery->contents, block->ns);
	struct tier *nvme = recovery->cache->nvme;
	uint64_t bytes = (uint64_t)block->units * EXTENT_UNIT;

	if (block->units == 0)
		return;
	if (recovery->wiped || (ns && ns->flags & CATALOG_WIPE_ON_FREE))
		tier_wipe(nvme, block->unit, bytes, (struct fair_payer){0});
	else
		tier_free(nvme, block->unit, bytes);
}

/* ---- the phases ---- */

/* How many of the phase there are. */
static uint32_t catalog_recovery_count(const struct catalog_recovery *recovery)
{
	switch (recovery->phase) {
	case CATALOG_OPENING:
	case CATALOG_CLOSING:
		return recovery->contents->namespace_count;
	case CATALOG_LETTING_GO:
		return recovery->refused_count;
	default:
		return recovery->contents->count;
	}
}

/* How many are done with that. */
static uint32_t catalog_recovery_step(struct catalog_recovery *recovery, uint32_t i)
{
	switch (recovery->phase) {
	case CATALOG_OPENING:
		recovery->numbers[i] = catalog_recovery_open_namespace(
			recovery, &recovery->contents->namespaces[i]);
		return 1;
	case CATALOG_CLAIMING:
		return catalog_recovery_claim(recovery, i);
	case CATALOG_RECOVERING:
		catalog_recovery_look_ahead(recovery, i, AHEAD);
		catalog_recovery_look_ahead(recovery, i, AHEAD / 2);
		catalog_recovery_recover(recovery, recovery->contents->order[i]);
		return 1;
	case CATALOG_LETTING_GO:
		catalog_recovery_let_go(recovery, i);
		return 1;
	default:
		catalog_recovery_close_namespace(recovery, i);
		return 1;
	}
}

static void catalog_recovery_end_phase(struct catalog_recovery *recovery)
{
	recovery->next = 0;
	if (recovery->phase == CATALOG_CLAIMING) {
		catalog_recovery_wipe_before(recovery, recovery->contents->count);
		tier_end_claims(recovery->cache->nvme);
	}
	recovery->phase++;
}

bool catalog_recovery_some(struct catalog_recovery *recovery, uint32_t max)
{
	uint32_t count = catalog_recovery_count(recovery);

	for (; max > 0 && recovery->next < count; max--)
		recovery->next += catalog_recovery_step(recovery, recovery->next);
	if (recovery->next < count)
		return true;

	catalog_recovery_end_phase(recovery);

	return false;
}

int catalog_recovery_begin(struct catalog_recovery *recovery)
{
	const struct catalog_contents *contents = recovery->contents;

	recovery->numbers = calloc(contents->namespace_count + 1, sizeof(*recovery->numbers));
	recovery->refused = calloc(contents->count + 1, sizeof(*recovery->refused));
	if (!recovery->numbers || !recovery->refused) {
		catalog_recovery_end(recovery);
		return -ENOMEM;
	}

	recovery->phase = CATALOG_OPENING;
	recovery->wiped = recovery->cache->nvme->dirty;
	recovery->ids->last = contents->ns;
	index_expect_many(recovery->cache->index, contents->count);

	return 0;
}

int64_t *catalog_recovery_units(const struct catalog_recovery *recovery)
{
	int64_t *units = calloc(recovery->refused_count + 1, sizeof(*units));

	for (uint32_t i = 0; units && i < recovery->refused_count; i++)
		units[i] = recovery->contents->blocks[recovery->refused[i]].unit;

	return units;
}

void catalog_recovery_end(struct catalog_recovery *recovery)
{
	for (uint32_t i = 0; recovery->numbers && i < recovery->contents->namespace_count; i++)
		catalog_recovery_close_namespace(recovery, i);

	free(recovery->numbers);
	free(recovery->refused);
	recovery->numbers = NULL;
	recovery->refused = NULL;
}
