/* SPDX-License-Identifier: Apache-2.0 */
/*
 * extent_check: walks the free ranges of a pool by their offset, some at a time. Each is
 * looked at with its neighbour before it and its children in the treap. What has been walked
 * is summed up, and extent.c keeps the sums right while it changes.
 */
#include "daemon/tier/extent.h"

#include <assert.h>

#include "daemon/tier/extent_pool.h"

/* One step. */
struct walk {
	uint64_t from; /* ranges that start before it were checked by earlier steps */
	uint64_t end;  /* of the range checked last; 0: none */
	uint32_t left; /* ranges that may still be looked at */
};

static const char *extent_check_fault(const struct extent_pool *pool, const struct walk *walk,
				      uint32_t at)
{
	const struct node *node = &pool->nodes[at];
	const struct node *left = &pool->nodes[node->left], *right = &pool->nodes[node->right];

	if (node->units == 0)
		return "a free range is empty";
	if (node->start < walk->end)
		return "free ranges overlap or are out of order";
	if (walk->end > 0 && node->start == walk->end && !extent_is_bound(pool, node->start))
		return "two free ranges touch and were not joined";
	if (!extent_is_grown(pool, node->start, node->units))
		return "a free range lies outside the capacity";
	if (node->largest !=
	    extent_max_of(node->units, extent_max_of(left->largest, right->largest)))
		return "a node does not know the largest range below it";
	if ((node->left && left->priority > node->priority) ||
	    (node->right && right->priority > node->priority))
		return "a node's priority is above its parent's";

	return NULL;
}

static void extent_check_node(struct extent_pool *pool, struct walk *walk, uint32_t at)
{
	const struct node *node = &pool->nodes[at];
	struct extent_check *check = pool->check;

	check->fault = extent_check_fault(pool, walk, at);
	walk->end = (uint64_t)node->start + node->units;
	walk->left--;
	check->next = (uint64_t)node->start + 1;
	check->units += node->units;
	check->ranges++;
}

static bool extent_check_is_over(const struct extent_pool *pool, const struct walk *walk)
{
	return walk->left == 0 || pool->check->fault;
}

static void extent_check_below(struct extent_pool *pool, struct walk *walk, uint32_t at)
{
	if (!at || extent_check_is_over(pool, walk))
		return;

	const struct node *node = &pool->nodes[at];
	bool checked = node->start < walk->from;

	if (!checked)
		extent_check_below(pool, walk, node->left);
	if (!checked && !extent_check_is_over(pool, walk))
		extent_check_node(pool, walk, at);
	extent_check_below(pool, walk, node->right);
}

/* The end of the last range that has been checked; 0: none. */
static uint64_t extent_check_end_before(const struct extent_pool *pool, uint64_t next)
{
	uint64_t end = 0;

	for (uint32_t at = pool->root; at;) {
		const struct node *node = &pool->nodes[at];
		bool before = node->start < next;

		if (before)
			end = (uint64_t)node->start + node->units;
		at = before ? node->right : node->left;
	}

	return end;
}

void extent_check_begin(struct extent_check *check, struct extent_pool *pool)
{
	assert(!pool->check);
	*check = (struct extent_check){.pool = pool};
	pool->check = check;
}

bool extent_check_some(struct extent_check *check, uint32_t max)
{
	struct walk walk = {.from = check->next,
			    .end = extent_check_end_before(check->pool, check->next),
			    .left = max};

	extent_check_below(check->pool, &walk, check->pool->root);

	return walk.left == 0 && !check->fault;
}

/* The most ranges of both kinds. Where some are not sorted yet, it is what there are nodes for. */
static uint64_t extent_check_most(const struct extent_pool *pool)
{
	bool sorted = pool->retired_count == 0 && pool->away.ranges == 0;

	return pool->allocated + pool->pieces + pool->bound_count +
	       (sorted ? 0 : 2 * EXTENT_RETIRED);
}

const char *extent_check_end(struct extent_check *check)
{
	struct extent_pool *pool = check->pool;

	pool->check = NULL;
	if (check->fault)
		return check->fault;
	if (check->units != pool->available)
		return "the free ranges do not add up to what is available";
	if (check->ranges != pool->ranges)
		return "a node was lost";
	if (check->ranges + pool->away.ranges > extent_check_most(pool))
		return "there are more free ranges than allocated ones can part";
	if ((pool->away.units > 0) != (pool->away.ranges > 0))
		return "units are away without ranges, or ranges without units";
	if (pool->available > pool->capacity)
		return "more is available than the capacity";

	return NULL;
}

const char *extent_check(struct extent_pool *pool)
{
	struct extent_check check;

	extent_check_begin(&check, pool);
	while (extent_check_some(&check, UINT32_MAX))
		;

	return extent_check_end(&check);
}
