/* SPDX-License-Identifier: Apache-2.0 */
/*
 * restore_order: see restore_order.h. Entries are sorted by when they came, then put behind their
 * parents by climbing from each to the first ancestor that has its place already. Keys are the
 * clients' to choose, so the hash that finds parents has a secret. Two blocks may name each other
 * as parents, when one of them has been dropped and stored again below the other: the circle is
 * cut where it is met.
 */
#include "daemon/cache/restore_order.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

struct restore_order {
	const struct block_records *records;
	struct restore_entry *list;
	uint32_t count;
	uint64_t secret, slots; /* slots: a power of two */
	uint32_t *table;        /* [slots]: entries by key; 0: none */
	uint32_t *place;        /* [count + 1]: of each entry in the result; 0: none yet */
	uint32_t *branch;       /* [count + 1]: of one climb */
	struct restore_entry *sorted;
};

static const struct block_record *restore_order_record(const struct restore_order *order,
						       uint32_t entry)
{
	return block_records_at(order->records, order->list[entry].record);
}

static uint64_t restore_order_slots(uint64_t count)
{
	uint64_t slots = 2;

	while (slots < 2 * count)
		slots *= 2;

	return slots;
}

uint64_t restore_order_bytes_for(uint64_t count)
{
	return restore_order_slots(count) * sizeof(uint32_t) +
	       (count + 1) * (2 * sizeof(uint32_t) + sizeof(struct restore_entry));
}

/* ---- keys ---- */

/* The slot of that key: of an entry, or where one would be. */
static uint32_t *restore_order_slot(const struct restore_order *order, uint16_t ns,
				    const struct hbm_wire_key *key)
{
	uint64_t at = XXH3_64bits_withSeed(key->bytes, sizeof(key->bytes),
					   order->secret ^ ((uint64_t)ns << 48));

	for (;; at++) {
		uint32_t *slot = &order->table[at & (order->slots - 1)];
		if (*slot == 0)
			return slot;

		const struct block_record *record = restore_order_record(order, *slot);
		if (record->ns == ns && memcmp(&record->key, key, sizeof(*key)) == 0)
			return slot;
	}
}

/* The first with a key has it: they are sorted. */
static void restore_order_hash(const struct restore_order *order)
{
	for (uint32_t i = 1; i <= order->count; i++) {
		const struct block_record *record = restore_order_record(order, i);
		uint32_t *slot = restore_order_slot(order, record->ns, &record->key);

		if (*slot == 0)
			*slot = i;
		else
			order->list[i].state = RESTORE_CLASHES;
	}
}

static void restore_order_find_parents(const struct restore_order *order)
{
	for (uint32_t i = 1; i <= order->count; i++) {
		const struct block_record *record = restore_order_record(order, i);
		uint32_t parent = *restore_order_slot(order, record->ns, &record->parent);

		if (parent != i)
			order->list[i].parent = parent;
	}
}

/* ---- sorting ---- */

static int restore_order_by_coming(const void *a, const void *b, void *arg)
{
	const struct block_records *records = arg;
	const struct restore_entry *one = a, *two = b;
	uint64_t came = block_records_at(records, one->record)->came,
		 other = block_records_at(records, two->record)->came;

	return (came < other) - (came > other);
}

/* Gives places to an entry and to its ancestors that have none. */
static uint32_t restore_order_climb(const struct restore_order *order, uint32_t entry,
				    uint32_t placed)
{
	static const uint32_t on_branch = UINT32_MAX;
	uint32_t length = 0, at = entry;

	while (at != 0 && order->place[at] == 0) {
		order->place[at] = on_branch;
		order->branch[length++] = at;
		at = order->list[at].parent;
	}
	if (length > 0 && at != 0 && order->place[at] == on_branch)
		order->list[order->branch[length - 1]].parent = 0; /* a circle */

	while (length > 0)
		order->place[order->branch[--length]] = ++placed;

	return placed;
}

static void restore_order_place(const struct restore_order *order)
{
	uint32_t placed = 0;

	for (uint32_t i = 1; i <= order->count; i++)
		placed = restore_order_climb(order, i, placed);

	for (uint32_t i = 1; i <= order->count; i++) {
		struct restore_entry *entry = &order->sorted[order->place[i]];

		*entry = order->list[i];
		entry->parent = order->place[entry->parent];
	}

	memcpy(&order->list[1], &order->sorted[1], order->count * sizeof(*order->list));
}

static int restore_order_by_unit(const void *a, const void *b, void *arg)
{
	const struct restore_entry *list = arg;
	const struct restore_entry *one = &list[*(const uint32_t *)a],
				   *two = &list[*(const uint32_t *)b];
	bool one_clashes = one->state == RESTORE_CLASHES,
	     two_clashes = two->state == RESTORE_CLASHES;

	if (one_clashes != two_clashes)
		return one_clashes - two_clashes;
	if (one->tier != two->tier)
		return one->tier > two->tier ? 1 : -1;

	return (one->unit > two->unit) - (one->unit < two->unit);
}

/* Of two that overlap the one that begins first stays. */
static bool restore_order_mark_overlaps(struct restore_entry *list, const uint32_t *by_unit,
					uint32_t count)
{
	uint64_t end = 0;
	uint32_t tier = 0;
	bool some = false;

	for (uint32_t i = 0; i < count; i++) {
		struct restore_entry *entry = &list[by_unit[i]];
		if (entry->state == RESTORE_CLASHES)
			break;

		if (entry->tier == tier && entry->unit < end) {
			entry->state = RESTORE_CLASHES;
			some = true;
		} else {
			tier = entry->tier;
			end = (uint64_t)entry->unit + entry->units;
		}
	}

	return some;
}

static void restore_order_units(struct restore_entry *list, uint32_t *by_unit, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		by_unit[i] = i + 1;

	do
		qsort_r(by_unit, count, sizeof(*by_unit), restore_order_by_unit, list);
	while (restore_order_mark_overlaps(list, by_unit, count));
}

int restore_order(const struct block_records *records, struct restore_entry *list,
		  uint32_t *by_unit, uint32_t count)
{
	struct restore_order order = {.records = records,
				      .list = list,
				      .count = count,
				      .slots = restore_order_slots(count)};
	int r = 0;

	order.table = calloc(order.slots, sizeof(*order.table));
	order.place = calloc((size_t)count + 1, sizeof(*order.place));
	order.branch = calloc((size_t)count + 1, sizeof(*order.branch));
	order.sorted = calloc((size_t)count + 1, sizeof(*order.sorted));
	if (!order.table || !order.place || !order.branch || !order.sorted ||
	    getrandom(&order.secret, sizeof(order.secret), 0) != sizeof(order.secret))
		r = -ENOMEM;

	if (r == 0) {
		qsort_r(&list[1], count, sizeof(*list), restore_order_by_coming, (void *)records);
		restore_order_hash(&order);
		restore_order_find_parents(&order);
		restore_order_place(&order);
		restore_order_units(list, by_unit, count);
	}

	free(order.table);
	free(order.place);
	free(order.branch);
	free(order.sorted);

	return r;
}
