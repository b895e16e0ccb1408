/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/cache/block_restore.h"

#include "daemon/cache/restore_order.h"

#include <errno.h>
#include <stdlib.h>

#define AHEAD_LOOKED_AT 1024 /* blocks that came later, for one that is there */
#define LOOKS 16u            /* at entries, in a step for each block */

enum { OF_DDR, OF_HBM, KINDS };

/* Entries, through entry.next; 0: none. */
struct restore_queue {
	uint32_t first, last;
};

struct block_restore {
	struct cache *cache;
	struct block_records *records;
	struct restore_entry *list; /* [count + 1], from 1: the last to be evicted first */
	uint32_t *by_unit;          /* [by_unit_count]: entries, by tier and unit */
	uint32_t count, by_unit_count;
	struct restore_queue ready; /* entries that can be restored */
	struct restore_queue late;  /* once what is too much for their tier can go down */
	uint32_t next;              /* after all tiers have grown: the entry to look at */
	bool grown[TIER_NUMBERS];   /* all of that tier */
	bool in_service;            /* all tiers are */
	uint64_t looks;             /* that are left of the step */
	uint32_t left;
	struct block_restore_figures figures[KINDS];
};

static const struct block_record *block_restore_record(const struct block_restore *restore,
						       const struct restore_entry *entry)
{
	return block_records_at(restore->records, entry->record);
}

static struct tier *block_restore_tier(const struct block_restore *restore,
				       const struct restore_entry *entry)
{
	return &restore->cache->tiers[entry->tier];
}

/* Of the memory that a record, or an entry, says. */
static struct block_restore_figures *block_restore_count(struct block_restore *restore,
							 enum hbm_tier kind)
{
	return &restore->figures[kind == HBM_TIER_HBM ? OF_HBM : OF_DDR];
}

uint64_t block_restore_bytes_for(uint64_t max_blocks)
{
	return (max_blocks + 1) * (sizeof(struct restore_entry) + sizeof(uint32_t)) +
	       restore_order_bytes_for(max_blocks);
}

/* ---- reading the records ---- */

/* The number of the tier that has that memory now; 0: none has it. */
static uint32_t block_restore_tier_of(const struct block_restore *restore, uint32_t memory)
{
	uint32_t tier = memory != 0 ? restore->cache->tier_count : 0;

	while (tier > 0 && restore->records->memories[tier].number != memory)
		tier--;

	return tier;
}

/* What a block takes in the tier; 0: its namespace is gone, or it cannot be there. */
static uint64_t block_restore_units(const struct block_restore *restore,
				    const struct block_record *record, uint32_t tier)
{
	const struct namespace *ns = namespaces_get(restore->cache->namespaces, record->ns);
	const struct block_memory *memory = &restore->records->memories[tier];
	uint64_t units = ns ? extent_bytes(ns->block_bytes) / EXTENT_UNIT : 0;

	if (tier == 0 || restore->cache->tiers[tier].kind != record->tier ||
	    record->unit < memory->first_unit || units > memory->units ||
	    record->unit - memory->first_unit > memory->units - units)
		return 0;

	return units;
}

static void block_restore_read_one(struct block_restore *restore, uint32_t index)
{
	struct block_records *records = restore->records;
	const struct block_record *record = block_records_at(records, index);
	uint32_t tier = block_restore_tier_of(restore, record->memory);
	uint64_t units = block_restore_units(restore, record, tier);

	if (record->came >= records->came)
		records->came = record->came + 1;
	if (units == 0 || state_word(records->state, STATE_BLOCKS, index) == 0) {
		struct block_restore_figures *figures = block_restore_count(restore, record->tier);

		figures->refused += units == 0;
		figures->unsummed += units > 0;
		state_drop(records->state, STATE_BLOCKS, index);
		return;
	}

	restore->list[++restore->count] =
		(struct restore_entry){.record = index,
				       .unit = record->unit - records->memories[tier].first_unit,
				       .units = (uint32_t)units,
				       .tier = tier};
}

static void block_restore_read(struct block_restore *restore)
{
	struct state *state = restore->records->state;

	for (uint32_t i = 0; (i = state_next(state, STATE_BLOCKS, i)) != STATE_NONE; i++)
		block_restore_read_one(restore, i);
}

/* ---- states ---- */

static void block_restore_push(struct block_restore *restore, struct restore_queue *queue,
			       uint32_t number)
{
	if (queue->last != 0)
		restore->list[queue->last].next = number;
	else
		queue->first = number;

	restore->list[number].next = 0;
	queue->last = number;
}

static uint32_t block_restore_pop(struct block_restore *restore, struct restore_queue *queue)
{
	uint32_t number = queue->first;

	queue->first = restore->list[number].next;
	if (queue->first == 0)
		queue->last = 0;

	return number;
}

/* What waits for it waits no more. */
static void block_restore_settle(struct block_restore *restore, uint32_t number,
				 enum restore_state state)
{
	struct restore_entry *entry = &restore->list[number];
	uint32_t waiting = entry->waiting;

	entry->state = state;
	entry->waiting = 0;
	restore->left--;
	while (waiting != 0) {
		uint32_t next = restore->list[waiting].next;
		block_restore_push(restore, &restore->ready, waiting);
		waiting = next;
	}
}

/* All its bytes are claimed. */
static void block_restore_claimed(struct block_restore *restore, uint32_t number)
{
	struct restore_entry *entry = &restore->list[number];
	struct restore_entry *parent = &restore->list[entry->parent];

	entry->state = RESTORE_CLAIMED;
	if (entry->parent == 0 || parent->state >= RESTORE_DONE) {
		block_restore_push(restore, &restore->ready, number);
		return;
	}

	entry->next = parent->waiting;
	parent->waiting = number;
}

/* The record first: it is not to name what another has. */
static void block_restore_let_go(struct block_restore *restore, uint32_t number)
{
	struct restore_entry *entry = &restore->list[number];
	struct tier *tier = block_restore_tier(restore, entry);
	uint32_t claimed = entry->claimed;

	state_drop(restore->records->state, STATE_BLOCKS, entry->record);
	entry->claimed = 0;
	block_restore_count(restore, tier->kind)->refused++;
	block_restore_settle(restore, number, RESTORE_LET_GO);
	if (claimed > 0)
		tier_free(tier, entry->claimed_unit, (uint64_t)claimed * EXTENT_UNIT);
}

/* ---- claiming ---- */

/* Whether those are next to what is claimed of the extent. */
static bool block_restore_touches(const struct restore_entry *entry, uint64_t from, uint64_t end)
{
	return entry->claimed == 0 || end == entry->claimed_unit ||
	       from == (uint64_t)entry->claimed_unit + entry->claimed;
}

/* An extent whose bytes come into service one after the other stays one. */
static void block_restore_claim(struct block_restore *restore, uint32_t number, uint64_t low,
				uint64_t high)
{
	struct restore_entry *entry = &restore->list[number];
	uint64_t from = entry->unit > low ? entry->unit : low,
		 end = (uint64_t)entry->unit + entry->units;
	end = end < high ? end : high;
	if (entry->state != RESTORE_MISSING || from >= end)
		return;

	if (!block_restore_touches(entry, from, end) ||
	    !tier_claim(block_restore_tier(restore, entry), (uint32_t)from,
			(end - from) * EXTENT_UNIT, entry->claimed == 0)) {
		block_restore_let_go(restore, number);
		return;
	}

	if (entry->claimed == 0 || from < entry->claimed_unit)
		entry->claimed_unit = (uint32_t)from;
	entry->claimed += (uint32_t)(end - from);
	if (entry->claimed == entry->units)
		block_restore_claimed(restore, number);
}

/* The first of a tier that ends behind that unit, as a place in by_unit: none overlap. */
static uint32_t block_restore_first_at(const struct block_restore *restore, uint32_t tier,
				       uint64_t unit)
{
	uint32_t low = 0, high = restore->by_unit_count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		const struct restore_entry *entry = &restore->list[restore->by_unit[middle]];

		if (entry->tier < tier ||
		    (entry->tier == tier && (uint64_t)entry->unit + entry->units <= unit))
			low = middle + 1;
		else
			high = middle;
	}

	return low;
}

/* The entry there, if its extent begins before that unit of the tier; else 0. */
static uint32_t block_restore_entry_before(const struct block_restore *restore, uint32_t at,
					   uint32_t tier, uint64_t unit)
{
	uint32_t number = at < restore->by_unit_count ? restore->by_unit[at] : 0;
	const struct restore_entry *entry = &restore->list[number];

	return number != 0 && entry->tier == tier && entry->unit < unit ? number : 0;
}

void block_restore_grown(void *arg, const struct tier *tier, uint64_t from, uint64_t bytes)
{
	struct block_restore *restore = arg;
	uint64_t low = from / EXTENT_UNIT, high = (from + bytes) / EXTENT_UNIT;
	uint32_t at = block_restore_first_at(restore, tier->number, low), number;

	for (; (number = block_restore_entry_before(restore, at, tier->number, high)) != 0; at++)
		block_restore_claim(restore, number, low, high);
}

void block_restore_cut(struct block_restore *restore, const struct tier *tier, uint64_t bytes)
{
	uint32_t at = block_restore_first_at(restore, tier->number, bytes / EXTENT_UNIT), number;

	for (; (number = block_restore_entry_before(restore, at, tier->number, UINT64_MAX)) != 0;
	     at++)
		if (restore->list[number].state == RESTORE_MISSING)
			block_restore_let_go(restore, number);
}

/* ---- restoring ---- */

static void block_restore_look(struct block_restore *restore)
{
	restore->looks -= restore->looks > 0;
}

/* Whether it is in the order where it was put. */
static bool block_restore_is_ahead(const struct block_restore *restore,
				   const struct restore_entry *entry, uint32_t tier, uint16_t ns)
{
	const struct block *block = cache_block(restore->cache, entry->number);
	const uint16_t *owners = namespaces_owners(restore->cache->namespaces);

	return entry->state == RESTORE_DONE &&
	       block_records_of(restore->records, entry->number) == entry->record &&
	       block->target == tier && block->refs == 0 && block->level == 0 &&
	       block->touched == 0 && owners[block->ns] == owners[ns];
}

/* Sets the block of those that are evicted later which is nearest; none if it is the last of all
 * to be evicted. False: none is near. */
static bool block_restore_find_ahead(struct block_restore *restore, uint32_t number,
				     uint32_t *ahead)
{
	uint32_t tier = restore->list[number].tier;
	uint16_t ns = block_restore_record(restore, &restore->list[number])->ns;

	for (uint32_t looked = 1; looked < AHEAD_LOOKED_AT; looked++) {
		const struct restore_entry *entry = &restore->list[number - looked];

		block_restore_look(restore);
		*ahead = entry->number;
		if (looked == number || block_restore_is_ahead(restore, entry, tier, ns))
			return true;
	}

	return false;
}

static void block_restore_one(struct block_restore *restore, uint32_t number)
{
	struct restore_entry *entry = &restore->list[number];
	struct block_records *records = restore->records;
	const struct block_record *record = block_restore_record(restore, entry);
	struct cache_recovered found = {
		.tier = block_restore_tier(restore, entry),
		.ns = record->ns,
		.checksummed = true,
		.unverified = true,
		.incompressible = record->flags & BLOCK_RECORD_INCOMPRESSIBLE,
		.key = record->key,
		.parent = record->parent,
		.checksum = state_word(records->state, STATE_BLOCKS, entry->record),
		.unit = entry->unit,
		.units = record->stored_units};

	found.ordered = block_restore_find_ahead(restore, number, &found.ahead);
	records->restoring = entry->record;
	int status = cache_recover(restore->cache, &found, &entry->number);
	records->restoring = STATE_NONE;
	if (status != HBM_OK) {
		block_restore_let_go(restore, number);
		return;
	}

	block_restore_count(restore, found.tier->kind)->restored++;
	block_restore_settle(restore, number, RESTORE_DONE);
}

/* Whether the policy has room for it in its tier. */
static bool block_restore_fits(const struct block_restore *restore, uint32_t number)
{
	const struct restore_entry *entry = &restore->list[number];
	const struct tier *tier = block_restore_tier(restore, entry);

	return tier->bytes + (uint64_t)entry->units * EXTENT_UNIT <= tier->usable;
}

/* Whether the next one has room, or all of its tier is there. */
static bool block_restore_may_go_on(const struct block_restore *restore)
{
	uint32_t next = restore->ready.first;

	return next != 0 &&
	       (restore->grown[restore->list[next].tier] || block_restore_fits(restore, next));
}

/* What is too much for a tier goes down, and is lost where there is no tier below yet. */
static void block_restore_next(struct block_restore *restore)
{
	uint32_t number = block_restore_pop(restore, &restore->ready);

	if (restore->in_service || block_restore_fits(restore, number))
		block_restore_one(restore, number);
	else
		block_restore_push(restore, &restore->late, number);
}

static bool block_restore_late_may(const struct block_restore *restore)
{
	return restore->in_service && restore->late.first != 0;
}

static bool block_restore_all_have_grown(const struct block_restore *restore)
{
	for (uint32_t i = 1; i <= restore->cache->tier_count; i++)
		if (restore->records->memories[i].number != 0 && !restore->grown[i])
			return false;
	return true;
}

/* The next that will never be in service; 0: there is none, or the step is over. */
static uint32_t block_restore_missing(struct block_restore *restore)
{
	if (!block_restore_all_have_grown(restore))
		return 0;

	while (restore->next < restore->count && restore->looks > 0) {
		block_restore_look(restore);
		if (restore->list[++restore->next].state == RESTORE_MISSING)
			return restore->next;
	}

	return 0;
}

/* Whether the step may have one more. */
static bool block_restore_has(const struct block_restore *restore, uint32_t *max)
{
	bool has = *max > 0 && restore->looks > 0;

	*max -= has;

	return has;
}

bool block_restore_some(struct block_restore *restore, uint32_t max)
{
	uint32_t missing;

	restore->looks = (uint64_t)max * LOOKS;
	while (block_restore_late_may(restore) && block_restore_has(restore, &max))
		block_restore_one(restore, block_restore_pop(restore, &restore->late));
	while (block_restore_may_go_on(restore) && block_restore_has(restore, &max))
		block_restore_next(restore);
	while (max > 0 && (missing = block_restore_missing(restore)) != 0) {
		block_restore_let_go(restore, missing);
		max--;
	}

	return max == 0 || restore->looks == 0 || block_restore_late_may(restore) ||
	       block_restore_may_go_on(restore);
}

void block_restore_in_service(struct block_restore *restore)
{
	restore->in_service = true;
}

void block_restore_grown_all(struct block_restore *restore, const struct tier *tier)
{
	restore->grown[tier->number] = true;
}

struct block_restore_figures block_restore_figures(const struct block_restore *restore,
						   enum hbm_tier kind)
{
	struct block_restore_figures figures =
		restore->figures[kind == HBM_TIER_HBM ? OF_HBM : OF_DDR];

	figures.left = restore->left;

	return figures;
}

/* ---- beginning and ending ---- */

static int block_restore_sort(struct block_restore *restore)
{
	int r = restore_order(restore->records, restore->list, restore->by_unit, restore->count);

	restore->left = restore->by_unit_count = restore->count;
	for (uint32_t i = 1; r == 0 && i <= restore->count; i++) {
		if (restore->list[i].state != RESTORE_CLASHES)
			continue;
		restore->by_unit_count--;
		block_restore_let_go(restore, i);
	}

	return r;
}

int block_restore_new(struct block_restore **out, struct block_records *records)
{
	struct block_restore *restore = calloc(1, sizeof(*restore));
	if (!restore)
		return -ENOMEM;

	size_t count = state_count(records->state, STATE_BLOCKS);

	*restore = (struct block_restore){.cache = records->cache,
					  .records = records,
					  .list = calloc(count + 1, sizeof(*restore->list)),
					  .by_unit = calloc(count + 1, sizeof(*restore->by_unit))};
	int r = restore->list && restore->by_unit ? 0 : -ENOMEM;
	if (r == 0) {
		block_restore_read(restore);
		r = block_restore_sort(restore);
	}
	if (r < 0) {
		block_restore_free(restore);
		return r;
	}

	*out = restore;

	return 0;
}

struct block_restore *block_restore_free(struct block_restore *restore)
{
	if (!restore)
		return NULL;

	free(restore->list);
	free(restore->by_unit);
	free(restore);

	return NULL;
}
