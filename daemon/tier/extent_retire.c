/* SPDX-License-Identifier: Apache-2.0 */
/*
 * extent_retire: ranges of a pool that go out of service, or come back.
 *
 * What is away is a treap of its own, of the same nodes. extent.c works on the free ranges; to
 * have it work on those that are away, the two change places for the time of a call.
 *
 * A free range that is retired and has not been sorted yet can still be allocated; the caller
 * sorts before it relies on anything. There are never more ranges of both kinds than ranges and
 * bounds can part: where one is freed, what touches it and is to be of the same kind is sorted
 * first, so that they are joined.
 */
#include "daemon/tier/extent.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "daemon/base/checked.h"
#include "daemon/tier/extent_pool.h"

static uint32_t extent_retire_low(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

static uint32_t extent_retire_end(const struct piece *piece)
{
	return piece->start + piece->units;
}

static uint32_t extent_retire_after(const struct extent_pool *pool, uint32_t at)
{
	return pool->nodes[at].start + pool->nodes[at].units;
}

static void extent_retire_exchange(struct extent_pool *pool)
{
	const struct away away = pool->away;

	pool->away = (struct away){pool->root, pool->ranges, pool->available, pool->check};
	pool->root = away.root;
	pool->ranges = away.ranges;
	pool->available = away.units;
	pool->check = away.check;
}

/* Whether a unit is retired; *end is where that ends to be so. */
static bool extent_retire_at(const struct extent_pool *pool, uint32_t unit, uint32_t *end)
{
	for (uint32_t i = 0; i < pool->retired_count; i++) {
		const struct piece *piece = &pool->retired[i];
		bool inside = unit >= piece->start && unit < extent_retire_end(piece);

		*end = inside ? extent_retire_end(piece) : piece->start;
		if (inside || unit < piece->start)
			return inside;
	}

	*end = UINT32_MAX;

	return false;
}

/* ---- from one kind to the other ---- */

/* Takes [start, end) out of the free range that has it. */
static void extent_retire_take(struct extent_pool *pool, uint32_t start, uint32_t end)
{
	struct node range = pool->nodes[extent_range_at(pool, start)];
	uint32_t range_end = range.start + range.units;

	assert(range.units > 0 && range.start <= start && end <= range_end);
	pool->root = extent_erase(pool, pool->root, range.start);
	if (range.start < start)
		extent_insert(pool, range.start, start - range.start);
	if (end < range_end)
		extent_insert(pool, end, range_end - end);
	pool->available -= end - start;
}

/* The free range that has a unit of [low, high), the first one; 0: none has. */
static uint32_t extent_retire_first(const struct extent_pool *pool, uint32_t low, uint32_t high)
{
	uint32_t before = extent_range_at(pool, low), found = 0;
	if (before && pool->nodes[before].units > low - pool->nodes[before].start)
		return before;

	for (uint32_t at = pool->root; at;) {
		const struct node *node = &pool->nodes[at];

		if (node->start >= low)
			found = at;
		at = node->start >= low ? node->left : node->right;
	}

	return found && pool->nodes[found].start < high ? found : 0;
}

/* Moves the first free range of [low, high), or what of it lies there, to the other kind. False:
 * there is none. */
static bool extent_retire_move(struct extent_pool *pool, uint32_t low, uint32_t high)
{
	uint32_t at = extent_retire_first(pool, low, high);
	if (!at)
		return false;

	uint32_t end = extent_retire_low(high, extent_retire_after(pool, at));
	uint32_t start = extent_max_of(low, pool->nodes[at].start);

	extent_retire_take(pool, start, end);
	extent_retire_exchange(pool);
	extent_release(pool, start, end - start);
	extent_retire_exchange(pool);

	return true;
}

/* The same of what is retired; or with `away`, of what is away and not retired: at most *left. */
static void extent_retire_sort(struct extent_pool *pool, bool away, uint32_t *left)
{
	uint64_t before = pool->available;

	for (uint32_t unit = 0, end; unit<UINT32_MAX && * left> 0; unit = end)
		if (extent_retire_at(pool, unit, &end) != away)
			while (*left > 0 && extent_retire_move(pool, unit, end))
				--*left;

	pool->capacity += away ? before - pool->available : pool->available - before;
}

bool extent_sort_some(struct extent_pool *pool, uint32_t max)
{
	extent_retire_sort(pool, false, &max);
	extent_retire_exchange(pool);
	extent_retire_sort(pool, true, &max);
	extent_retire_exchange(pool);

	return max == 0;
}

/* The free range that has a unit; 0: none. */
static uint32_t extent_retire_holder(const struct extent_pool *pool, uint32_t unit)
{
	uint32_t at = extent_range_at(pool, unit);
	const struct node *node = &pool->nodes[at];

	return at && unit - node->start < node->units ? at : 0;
}

/* Sorts the free ranges that touch [start, end) and lie with it in [low, high). */
static void extent_retire_join(struct extent_pool *pool, uint32_t low, uint32_t start, uint32_t end,
			       uint32_t high)
{
	uint32_t before = start > low ? extent_retire_holder(pool, start - 1) : 0;
	uint32_t after = end < high ? extent_retire_holder(pool, end) : 0;

	if (before)
		(void)extent_retire_move(pool, extent_max_of(low, pool->nodes[before].start),
					 start);
	if (after)
		(void)extent_retire_move(pool, end, high);
}

/* Where the run of one kind begins that has that unit. */
static uint32_t extent_retire_begin(const struct extent_pool *pool, uint32_t unit)
{
	uint32_t begin = 0;

	for (uint32_t i = 0; i < pool->retired_count; i++) {
		if (pool->retired[i].start <= unit)
			begin = pool->retired[i].start;
		if (extent_retire_end(&pool->retired[i]) <= unit)
			begin = extent_retire_end(&pool->retired[i]);
	}

	return begin;
}

static void extent_retire_give(struct extent_pool *pool, uint32_t start, uint32_t end, bool retired,
			       uint32_t high)
{
	uint32_t low = extent_retire_begin(pool, start);

	if (!retired)
		extent_retire_exchange(pool);
	extent_retire_join(pool, low, start, end, high); /* of the wrong kind */
	extent_retire_exchange(pool);
	extent_release(pool, start, end - start); /* to the right one */
	if (retired)
		extent_retire_exchange(pool);
}

void extent_give(struct extent_pool *pool, uint32_t start, uint32_t units)
{
	if (pool->retired_count == 0 && pool->away.ranges == 0) {
		extent_release(pool, start, units);
		return;
	}

	uint64_t away = pool->away.units;

	for (uint32_t end = start + units, next; start < end; start = next) {
		uint32_t high;
		bool retired = extent_retire_at(pool, start, &high);

		next = extent_retire_low(end, high);
		extent_retire_give(pool, start, next, retired, high);
	}

	pool->capacity -= pool->away.units - away;
}

/* ---- lists of ranges ---- */

struct retire_list {
	uint32_t count;
	struct piece list[EXTENT_RETIRED + 1];
};

static_assert(EXTENT_PIECES <= EXTENT_RETIRED, "retire_list");

static void extent_retire_append(struct retire_list *to, uint32_t start, uint32_t end)
{
	struct piece *last = to->count > 0 ? &to->list[to->count - 1] : NULL;
	if (start >= end)
		return;

	if (last && extent_retire_end(last) >= start) {
		last->units = extent_max_of(extent_retire_end(last), end) - last->start;
		return;
	}

	assert(to->count <= EXTENT_RETIRED);
	to->list[to->count++] = (struct piece){.start = start, .units = end - start};
}

/* A list with [start, end), or without it. */
static void extent_retire_edit(struct retire_list *to, const struct piece *list, uint32_t count,
			       uint32_t start, uint32_t end, bool with)
{
	bool added = !with;

	to->count = 0;
	for (uint32_t i = 0; i < count; i++) {
		uint32_t piece_end = extent_retire_end(&list[i]);

		if (with && !added && start <= list[i].start) {
			extent_retire_append(to, start, end);
			added = true;
		}

		if (with) {
			extent_retire_append(to, list[i].start, piece_end);
			continue;
		}

		extent_retire_append(to, list[i].start, extent_retire_low(piece_end, start));
		extent_retire_append(to, extent_max_of(list[i].start, end), piece_end);
	}

	if (!added)
		extent_retire_append(to, start, end);
}

static int extent_retire_set(struct extent_pool *pool, uint64_t from, uint64_t bytes, bool retired)
{
	if (bytes == 0 || !is_aligned(from | bytes, EXTENT_UNIT) ||
	    !checked_range(from, bytes, EXTENT_END))
		return -EINVAL;

	uint32_t start = (uint32_t)(from / EXTENT_UNIT), units = (uint32_t)(bytes / EXTENT_UNIT);
	if (!extent_is_grown(pool, start, units))
		return -EINVAL;

	struct retire_list edited;
	extent_retire_edit(&edited, pool->retired, pool->retired_count, start, start + units,
			   retired);
	if (edited.count > EXTENT_RETIRED)
		return -ENOSPC;

	pool->retired_count = edited.count;
	memcpy(pool->retired, edited.list, edited.count * sizeof(struct piece));

	return 0;
}

int extent_retire(struct extent_pool *pool, uint64_t from, uint64_t bytes)
{
	return extent_retire_set(pool, from, bytes, true);
}

int extent_recall(struct extent_pool *pool, uint64_t from, uint64_t bytes)
{
	return extent_retire_set(pool, from, bytes, false);
}

int extent_cut(struct extent_pool *pool, uint64_t from, uint64_t bytes)
{
	uint32_t start = (uint32_t)(from / EXTENT_UNIT),
		 end = start + (uint32_t)(bytes / EXTENT_UNIT);
	struct retire_list pieces;

	assert(extent_is_away(pool, from, bytes));
	extent_retire_edit(&pieces, pool->piece, pool->pieces, start, end, false);
	if (pieces.count > EXTENT_PIECES)
		return -ENOSPC;

	int r = extent_recall(pool, from, bytes);
	if (r < 0)
		return r;

	pool->pieces = pieces.count;
	memcpy(pool->piece, pieces.list, pieces.count * sizeof(struct piece));
	extent_retire_exchange(pool);
	for (uint32_t at; (at = extent_retire_first(pool, start, end));)
		extent_retire_take(pool, extent_max_of(start, pool->nodes[at].start),
				   extent_retire_low(end, extent_retire_after(pool, at)));
	extent_retire_exchange(pool);

	return 0;
}

/* ---- questions ---- */

bool extent_is_away(const struct extent_pool *pool, uint64_t from, uint64_t bytes)
{
	uint32_t unit = (uint32_t)(from / EXTENT_UNIT),
		 end = unit + (uint32_t)(bytes / EXTENT_UNIT);

	while (unit < end) {
		uint32_t at = 0;

		for (uint32_t next = pool->away.root; next;) {
			const struct node *node = &pool->nodes[next];

			if (node->start <= unit)
				at = next;
			next = node->start <= unit ? node->right : node->left;
		}

		if (!at || unit - pool->nodes[at].start >= pool->nodes[at].units)
			return false;
		unit = extent_retire_after(pool, at);
	}

	return true;
}

bool extent_is_retired(const struct extent_pool *pool, uint64_t from, uint64_t bytes)
{
	uint64_t end = from + bytes;

	for (uint32_t i = 0; i < pool->retired_count; i++) {
		const struct piece *piece = &pool->retired[i];

		if (from < (uint64_t)extent_retire_end(piece) * EXTENT_UNIT &&
		    end > (uint64_t)piece->start * EXTENT_UNIT)
			return true;
	}

	return false;
}

uint64_t extent_retired_of(const struct extent_pool *pool, uint64_t from, uint64_t bytes)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < pool->retired_count; i++) {
		const struct piece *piece = &pool->retired[i];
		uint64_t low = (uint64_t)piece->start * EXTENT_UNIT;
		uint64_t high = (uint64_t)extent_retire_end(piece) * EXTENT_UNIT;

		low = low > from ? low : from;
		high = high < from + bytes ? high : from + bytes;
		sum += high > low ? high - low : 0;
	}

	return sum;
}

bool extent_piece(const struct extent_pool *pool, uint32_t n, uint64_t *from, uint64_t *bytes)
{
	if (n >= pool->pieces)
		return false;

	*from = (uint64_t)pool->piece[n].start * EXTENT_UNIT;
	*bytes = (uint64_t)pool->piece[n].units * EXTENT_UNIT;

	return true;
}

uint64_t extent_retiring(const struct extent_pool *pool)
{
	uint64_t units = 0;

	for (uint32_t i = 0; i < pool->retired_count; i++)
		units += pool->retired[i].units;

	return (units > pool->away.units ? units - pool->away.units : 0) * EXTENT_UNIT;
}
