/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/cache/marks.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static_assert(STATE_NONE + 1u == 0, "no record is named 0");

static uint32_t marks_capacity(uint64_t limit)
{
	return limit < STATE_CAPACITY_MAX ? (uint32_t)limit : STATE_CAPACITY_MAX;
}

void marks_shapes(const struct ledger *ledger, struct state_shape shapes[STATE_TABLES])
{
	const struct payer *host = &ledger->host;

	shapes[STATE_PINS] = (struct state_shape){sizeof(struct mark_pin),
						  marks_capacity(ledger_limit(host, LEDGER_PINS))};
	/* one more while one is replaced */
	shapes[STATE_RETAINED] = (struct state_shape){
		sizeof(struct mark_retained),
		marks_capacity(ledger_limit(host, LEDGER_RETAINED_BLOCKS)) + 1};
}

/* ---- Live ---- */

uint32_t mark_pin_add(const struct cache *cache, uint32_t number)
{
	const struct block *block = cache_block(cache, number);
	const struct mark_pin pin = {.key = block->key, .ns = block->ns};

	return cache->kept ? state_add(cache->kept, STATE_PINS, &pin, 0) + 1u : 0;
}

void mark_pin_drop(const struct cache *cache, uint32_t mark)
{
	if (cache->kept && mark != 0)
		state_drop(cache->kept, STATE_PINS, mark - 1);
}

static struct mark_retained marks_of_retained(const struct cache *cache,
					      const struct retained *retained)
{
	const struct block *block = cache_block(cache, retained->number);
	const struct user *user = retained->retainer->user;
	struct mark_retained record = {
		.key = block->key,
		.until_ns = retained->until_ns,
		.uid = user->uid,
		.ns = block->ns,
		.priority = retained->priority,
	};

	if (user->tenant)
		snprintf(record.tenant, sizeof(record.tenant), "%s", user->tenant->rule.name);

	return record;
}

/* The new record is there before the old one goes: of two the higher priority counts, and the
 * later end. */
void mark_retain(const struct cache *cache, const struct retained *retained, uint32_t *mark)
{
	if (!cache->kept)
		return;

	const struct mark_retained record = marks_of_retained(cache, retained);
	uint32_t before = *mark;
	if (before != 0 && memcmp(state_body(cache->kept, STATE_RETAINED, before - 1), &record,
				  sizeof(record)) == 0)
		return;

	*mark = state_add(cache->kept, STATE_RETAINED, &record, 0) + 1u;
	if (before != 0)
		state_drop(cache->kept, STATE_RETAINED, before - 1);
}

void mark_release(const struct cache *cache, uint32_t *mark)
{
	if (cache->kept && *mark != 0)
		state_drop(cache->kept, STATE_RETAINED, *mark - 1);
	*mark = 0;
}

/* ---- What was left ---- */

static int marks_compare_blocks(const struct mark *mark, uint16_t ns,
				const struct hbm_wire_key *key)
{
	return mark->ns != ns ? (mark->ns > ns) - (mark->ns < ns)
			      : memcmp(&mark->key, key, sizeof(*key));
}

static int marks_compare(const void *one, const void *other)
{
	const struct mark *a = one, *b = other;
	int by_block = marks_compare_blocks(a, b->ns, &b->key);

	return by_block != 0                ? by_block
	       : a->retained != b->retained ? b->retained - a->retained
					    : (a->record > b->record) - (a->record < b->record);
}

static void marks_read(struct marks *marks)
{
	struct state *state = marks->state;

	for (uint32_t i = 0; (i = state_next(state, STATE_PINS, i)) != STATE_NONE; i++) {
		const struct mark_pin *pin = state_body(state, STATE_PINS, i);
		marks->list[marks->count++] =
			(struct mark){.key = pin->key, .ns = pin->ns, .record = i};
	}
	for (uint32_t i = 0; (i = state_next(state, STATE_RETAINED, i)) != STATE_NONE; i++) {
		const struct mark_retained *retained = state_body(state, STATE_RETAINED, i);
		marks->list[marks->count++] = (struct mark){
			.key = retained->key, .ns = retained->ns, .record = i, .retained = true};
	}

	qsort(marks->list, marks->count, sizeof(*marks->list), marks_compare);
}

int marks_open(struct marks *marks, struct state *state)
{
	uint64_t count =
		(uint64_t)state_count(state, STATE_PINS) + state_count(state, STATE_RETAINED);

	*marks = (struct marks){.state = state, .list = calloc(count + 1, sizeof(*marks->list))};
	if (!marks->list)
		return -ENOMEM;

	marks_read(marks);

	return 0;
}

void marks_close(struct marks *marks)
{
	free(marks->list);
	*marks = (struct marks){.state = NULL};
}

/* The place of the first that is not before that block. */
static uint32_t marks_place(const struct marks *marks, uint16_t ns, const struct hbm_wire_key *key)
{
	uint32_t low = 0, high = marks->count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (marks_compare_blocks(&marks->list[middle], ns, key) < 0)
			low = middle + 1;
		else
			high = middle;
	}

	return low;
}

static void marks_push(struct marks *marks, uint32_t place)
{
	marks->list[place].is_due = true;
	if (marks->last != 0)
		marks->list[marks->last - 1].next = place + 1;
	else
		marks->first = place + 1;
	marks->last = place + 1;
}

void marks_found(struct marks *marks, uint16_t ns, const struct hbm_wire_key *key)
{
	for (uint32_t i = marks_place(marks, ns, key);
	     i < marks->count && marks_compare_blocks(&marks->list[i], ns, key) == 0; i++)
		if (!marks->list[i].is_due)
			marks_push(marks, i);
}

struct mark *marks_next(struct marks *marks)
{
	if (marks->first == 0)
		return NULL;

	struct mark *mark = &marks->list[marks->first - 1];
	marks->first = mark->next;
	if (marks->first == 0)
		marks->last = 0;

	return mark;
}

struct mark *marks_rest(struct marks *marks)
{
	while (marks->rest < marks->count) {
		struct mark *mark = &marks->list[marks->rest++];
		if (!mark->is_due)
			return mark;
	}

	return NULL;
}

uint64_t marks_bytes_for(uint64_t count)
{
	return (count + 1) * sizeof(struct mark);
}
