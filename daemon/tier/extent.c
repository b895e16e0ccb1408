/* SPDX-License-Identifier: Apache-2.0 */
/*
 * extent: see extent.h. All arithmetic here is in units of EXTENT_UNIT, which fit 32
 * bits, so that a node is 24 bytes.
 *
 * Node 0 of the table stands for "none": it is never linked and its `largest` is 0, so
 * reading through an absent child needs no test. A node's priority is random and fixed
 * when it is inserted; parents have priorities at least as high as their children's,
 * which keeps the expected depth logarithmic whatever the order of calls.
 *
 * While a pool is being checked, each range that changes is taken off the check's sums
 * before, and added again after.
 */
#include "daemon/tier/extent.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "daemon/base/checked.h"
#include "daemon/tier/extent_pool.h"

uint64_t extent_table_bytes(uint64_t max_allocated)
{
	return (1 + max_allocated + EXTENT_PIECES + EXTENT_BOUNDS + 2 * EXTENT_RETIRED) *
	       sizeof(struct node);
}

int extent_pool_new(struct extent_pool **out, uint64_t max_allocated)
{
	if (max_allocated == 0 ||
	    max_allocated > UINT32_MAX - 1 - EXTENT_PIECES - EXTENT_BOUNDS - 2 * EXTENT_RETIRED)
		return -EINVAL;

	struct extent_pool *pool = calloc(1, sizeof(*pool));
	if (!pool)
		return -ENOMEM;

	pool->max_allocated = max_allocated;
	pool->table_bytes = (size_t)extent_table_bytes(max_allocated);
	void *table = mmap(NULL, pool->table_bytes, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (table == MAP_FAILED) {
		free(pool);
		return -ENOMEM;
	}

	pool->nodes = table;
	pool->touched = 1;
	pool->random = 0x9e3779b97f4a7c15u;
	*out = pool;

	return 0;
}

struct extent_pool *extent_pool_free(struct extent_pool *pool)
{
	if (!pool)
		return NULL;
	munmap(pool->nodes, pool->table_bytes);
	free(pool);
	return NULL;
}

static uint32_t extent_next_priority(struct extent_pool *pool)
{
	pool->random ^= pool->random << 13;
	pool->random ^= pool->random >> 7;
	pool->random ^= pool->random << 17;
	return (uint32_t)(pool->random >> 32);
}

/* Around every change of a range: before, and after. */
static void extent_uncount(struct extent_pool *pool, uint32_t at)
{
	const struct node *node = &pool->nodes[at];
	if (!pool->check || node->start >= pool->check->next)
		return;

	pool->check->units -= node->units;
	pool->check->ranges--;
}

static void extent_count(struct extent_pool *pool, uint32_t at)
{
	const struct node *node = &pool->nodes[at];
	if (!pool->check || node->start >= pool->check->next)
		return;

	pool->check->units += node->units;
	pool->check->ranges++;
}

static uint32_t extent_node_new(struct extent_pool *pool, uint32_t start, uint32_t units)
{
	uint32_t at = pool->spare;
	if (at)
		pool->spare = pool->nodes[at].left;
	else
		at = pool->touched++;

	assert((size_t)at * sizeof(struct node) < pool->table_bytes);
	pool->nodes[at] = (struct node){.start = start,
					.units = units,
					.largest = units,
					.priority = extent_next_priority(pool)};
	pool->ranges++;
	extent_count(pool, at);

	return at;
}

static void extent_node_drop(struct extent_pool *pool, uint32_t at)
{
	extent_uncount(pool, at);
	pool->nodes[at].left = pool->spare;
	pool->spare = at;
	pool->ranges--;
}

static void extent_refresh(struct extent_pool *pool, uint32_t at)
{
	struct node *node = &pool->nodes[at];
	uint32_t below =
		extent_max_of(pool->nodes[node->left].largest, pool->nodes[node->right].largest);
	node->largest = extent_max_of(node->units, below);
}

/* Joins two treaps, all of `low` before all of `high`. Returns the new root. */
static uint32_t extent_merge(struct extent_pool *pool, uint32_t low, uint32_t high)
{
	if (!low || !high)
		return low ? low : high;

	struct node *nodes = pool->nodes;
	uint32_t root = low;
	if (nodes[low].priority >= nodes[high].priority) {
		nodes[low].right = extent_merge(pool, nodes[low].right, high);
	} else {
		nodes[high].left = extent_merge(pool, low, nodes[high].left);
		root = high;
	}

	extent_refresh(pool, root);

	return root;
}

/* Splits a treap into the ranges before `start` and those after it. */
static void extent_split(struct extent_pool *pool, uint32_t at, uint32_t start, uint32_t *low,
			 uint32_t *high)
{
	if (!at) {
		*low = *high = 0;
		return;
	}

	struct node *node = &pool->nodes[at];
	if (node->start < start) {
		extent_split(pool, node->right, start, &node->right, high);
		*low = at;
	} else {
		extent_split(pool, node->left, start, low, &node->left);
		*high = at;
	}

	extent_refresh(pool, at);
}

void extent_insert(struct extent_pool *pool, uint32_t start, uint32_t units)
{
	uint32_t fresh = extent_node_new(pool, start, units);
	struct node *node = &pool->nodes[fresh];
	uint32_t *link = &pool->root;

	while (*link && pool->nodes[*link].priority >= node->priority) {
		struct node *above = &pool->nodes[*link];
		above->largest = extent_max_of(above->largest, units);
		link = start < above->start ? &above->left : &above->right;
	}

	extent_split(pool, *link, start, &node->left, &node->right);
	extent_refresh(pool, fresh);
	*link = fresh;
}

/* Removes the range that starts at `start` from the treap at `at`. Returns the new
 * root. */
uint32_t extent_erase(struct extent_pool *pool, uint32_t at, uint32_t start)
{
	struct node *node = &pool->nodes[at];

	assert(at);
	if (node->start == start) {
		uint32_t rest = extent_merge(pool, node->left, node->right);
		extent_node_drop(pool, at);
		return rest;
	}

	if (start < node->start)
		node->left = extent_erase(pool, node->left, start);
	else
		node->right = extent_erase(pool, node->right, start);

	extent_refresh(pool, at);

	return at;
}

/* Replaces the range that starts at `old` by the larger [start, start + units), which
 * overlaps no other range. */
static void extent_enlarge(struct extent_pool *pool, uint32_t old, uint32_t start, uint32_t units)
{
	uint32_t at = pool->root;

	while (pool->nodes[at].start != old) {
		struct node *above = &pool->nodes[at];
		above->largest = extent_max_of(above->largest, units);
		at = old < above->start ? above->left : above->right;
	}

	struct node *node = &pool->nodes[at];

	extent_uncount(pool, at);
	node->start = start;
	node->units = units;
	node->largest = extent_max_of(node->largest, units);
	extent_count(pool, at);
}

/* Frees [start, start + units). It must not overlap a free range: that would be a double
 * free. */
void extent_release(struct extent_pool *pool, uint32_t start, uint32_t units)
{
	const struct node *before = NULL, *after = NULL;

	for (uint32_t at = pool->root; at;) {
		const struct node *node = &pool->nodes[at];
		if (node->start <= start)
			before = node;
		else
			after = node;

		at = node->start <= start ? node->right : node->left;
	}

	assert(!before || before->units <= start - before->start);
	assert(!after || units <= after->start - start);
	bool joins_before =
		before && before->start + before->units == start && !extent_is_bound(pool, start);
	bool joins_after =
		after && start + units == after->start && !extent_is_bound(pool, start + units);

	pool->available += units;
	if (joins_before && joins_after) {
		units += before->units + after->units;
		start = before->start;
		pool->root = extent_erase(pool, pool->root, after->start);
		extent_enlarge(pool, start, start, units);
	} else if (joins_before) {
		extent_enlarge(pool, before->start, before->start, before->units + units);
	} else if (joins_after) {
		extent_enlarge(pool, after->start, start, after->units + units);
	} else {
		extent_insert(pool, start, units);
	}
}

/* Adds a piece to the ordered list and joins it with the neighbours it touches. */
static int extent_add_piece(struct extent_pool *pool, uint32_t start, uint32_t units)
{
	uint32_t at = 0;

	while (at < pool->pieces && pool->piece[at].start < start)
		at++;
	struct piece *before = at > 0 ? &pool->piece[at - 1] : NULL;
	struct piece *after = at < pool->pieces ? &pool->piece[at] : NULL;
	if ((before && before->units > start - before->start) ||
	    (after && units > after->start - start))
		return -EINVAL;

	bool joins_before = before && before->start + before->units == start;
	bool joins_after = after && start + units == after->start;
	if (!joins_before && !joins_after) {
		if (pool->pieces == EXTENT_PIECES)
			return -ENOSPC;

		memmove(&pool->piece[at + 1], &pool->piece[at],
			(pool->pieces - at) * sizeof(struct piece));
		pool->piece[at] = (struct piece){.start = start, .units = units};
		pool->pieces++;

		return 0;
	}

	if (!joins_before) {
		*after = (struct piece){.start = start, .units = after->units + units};
		return 0;
	}

	before->units += units;
	if (joins_after) {
		before->units += after->units;
		memmove(&pool->piece[at], &pool->piece[at + 1],
			(pool->pieces - at - 1) * sizeof(struct piece));
		pool->pieces--;
	}

	return 0;
}

int extent_pool_grow(struct extent_pool *pool, uint64_t from, uint64_t bytes)
{
	if (!is_aligned(from, EXTENT_UNIT) || !is_aligned(bytes, EXTENT_UNIT))
		return -EINVAL;
	if (!checked_range(from, bytes, EXTENT_END))
		return -EINVAL;

	uint32_t start = (uint32_t)(from / EXTENT_UNIT), units = (uint32_t)(bytes / EXTENT_UNIT);
	int r = extent_add_piece(pool, start, units);
	if (r < 0)
		return r;

	pool->capacity += units;
	for (uint32_t i = 0; i < pool->bound_count && units > 0; i++) {
		uint32_t bound = pool->bounds[i];
		if (bound <= start || bound - start >= units)
			continue;
		extent_release(pool, start, bound - start);
		units -= bound - start;
		start = bound;
	}

	extent_release(pool, start, units);

	return 0;
}

void extent_pool_divide(struct extent_pool *pool, uint64_t offset)
{
	uint32_t bound = (uint32_t)(offset / EXTENT_UNIT);

	assert(is_aligned(offset, EXTENT_UNIT) && offset < EXTENT_END);
	assert(pool->pieces == 0 && pool->bound_count < EXTENT_BOUNDS);
	assert(pool->bound_count == 0 || pool->bounds[pool->bound_count - 1] < bound);
	pool->bounds[pool->bound_count++] = bound;
}

/* Allocates `units` from the front of the lowest range that is large enough; one exists.
 * Returns the new root. */
static uint32_t extent_first_fit(struct extent_pool *pool, uint32_t at, uint32_t units,
				 uint32_t *start)
{
	struct node *node = &pool->nodes[at];
	if (pool->nodes[node->left].largest >= units) {
		node->left = extent_first_fit(pool, node->left, units, start);
	} else if (node->units >= units) {
		*start = node->start;
		extent_uncount(pool, at);
		node->start += units;
		node->units -= units;
		extent_count(pool, at);
		if (node->units == 0) {
			uint32_t rest = extent_merge(pool, node->left, node->right);
			extent_node_drop(pool, at);
			return rest;
		}
	} else {
		node->right = extent_first_fit(pool, node->right, units, start);
	}

	extent_refresh(pool, at);
	return at;
}

/* The same of the ranges that begin at `from` or after it, else of those before. */
static uint32_t extent_fit_from(struct extent_pool *pool, uint32_t from, uint32_t units)
{
	uint32_t low, high, start = 0;

	if (from == 0) {
		pool->root = extent_first_fit(pool, pool->root, units, &start);
		return start;
	}

	extent_split(pool, pool->root, from, &low, &high);
	if (pool->nodes[high].largest >= units)
		high = extent_first_fit(pool, high, units, &start);
	else
		low = extent_first_fit(pool, low, units, &start);
	pool->root = extent_merge(pool, low, high);

	return start;
}

uint64_t extent_alloc_from(struct extent_pool *pool, uint64_t bytes, uint64_t from)
{
	if (bytes == 0 || bytes > EXTENT_END || pool->allocated == pool->max_allocated)
		return EXTENT_NONE;

	uint32_t units = (uint32_t)((bytes + EXTENT_UNIT - 1) / EXTENT_UNIT);
	if (pool->nodes[pool->root].largest < units)
		return EXTENT_NONE;

	uint32_t start = extent_fit_from(pool, (uint32_t)(from / EXTENT_UNIT), units);
	pool->available -= units;
	pool->allocated++;

	return (uint64_t)start * EXTENT_UNIT;
}

uint64_t extent_alloc(struct extent_pool *pool, uint64_t bytes)
{
	return extent_alloc_from(pool, bytes, 0);
}

/* The free range that begins at `start` or is the last one to begin before it; 0: none. */
uint32_t extent_range_at(const struct extent_pool *pool, uint32_t start)
{
	uint32_t found = 0;

	for (uint32_t at = pool->root; at;) {
		const struct node *node = &pool->nodes[at];
		if (node->start <= start)
			found = at;
		at = node->start <= start ? node->right : node->left;
	}

	return found;
}

bool extent_take(struct extent_pool *pool, uint64_t offset, uint64_t bytes, uint32_t ranges)
{
	if (bytes == 0 || !checked_range(offset, bytes, EXTENT_END) ||
	    !is_aligned(offset | bytes, EXTENT_UNIT) ||
	    pool->max_allocated - pool->allocated < ranges)
		return false;

	uint32_t start = (uint32_t)(offset / EXTENT_UNIT), units = (uint32_t)(bytes / EXTENT_UNIT);
	struct node range = pool->nodes[extent_range_at(pool, start)];
	if (range.units == 0 || start - range.start >= range.units ||
	    units > range.units - (start - range.start))
		return false;

	uint32_t end = start + units, range_end = range.start + range.units;

	pool->root = extent_erase(pool, pool->root, range.start);
	if (range.start < start)
		extent_insert(pool, range.start, start - range.start);
	if (end < range_end)
		extent_insert(pool, end, range_end - end);
	pool->available -= units;
	pool->allocated += ranges;

	return true;
}

void extent_free(struct extent_pool *pool, uint64_t offset, uint64_t bytes)
{
	assert(bytes > 0 && bytes <= EXTENT_END && is_aligned(offset, EXTENT_UNIT) &&
	       offset < EXTENT_END);
	assert(pool->allocated > 0);
	uint32_t start = (uint32_t)(offset / EXTENT_UNIT);
	uint32_t units = (uint32_t)((bytes + EXTENT_UNIT - 1) / EXTENT_UNIT);
	assert(extent_is_grown(pool, start, units));
	pool->allocated--;
	extent_give(pool, start, units);
}

void extent_shrink(struct extent_pool *pool, uint64_t offset, uint64_t bytes, uint64_t kept)
{
	uint32_t units = (uint32_t)((bytes + EXTENT_UNIT - 1) / EXTENT_UNIT);
	uint32_t left = (uint32_t)((kept + EXTENT_UNIT - 1) / EXTENT_UNIT);
	uint32_t start = (uint32_t)(offset / EXTENT_UNIT);

	assert(kept > 0 && kept <= bytes && is_aligned(offset, EXTENT_UNIT));
	assert(extent_is_grown(pool, start, units));
	if (left < units)
		extent_give(pool, start + left, units - left);
}

uint64_t extent_capacity(const struct extent_pool *pool)
{
	return pool->capacity * EXTENT_UNIT;
}

uint64_t extent_available(const struct extent_pool *pool)
{
	return pool->available * EXTENT_UNIT;
}

uint64_t extent_largest(const struct extent_pool *pool)
{
	return (uint64_t)pool->nodes[pool->root].largest * EXTENT_UNIT;
}

uint64_t extent_memory(const struct extent_pool *pool)
{
	return sizeof(*pool) + (uint64_t)pool->touched * sizeof(struct node);
}
