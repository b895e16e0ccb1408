/* SPDX-License-Identifier: Apache-2.0 */
/* extent_pool: what a pool is made of. Only extent.c, extent_check.c and extent_retire.c include
 * this. */
#pragma once

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EXTENT_PIECES 64 /* contiguous pieces of capacity a pool may have at a time */
#define EXTENT_BOUNDS 63 /* offsets that no range crosses */
/* ranges that are out of service (extent_retire.c): one in each piece and between two bounds */
#define EXTENT_RETIRED (EXTENT_PIECES + EXTENT_BOUNDS)

struct extent_check;

struct node {
	uint32_t left, right; /* in a spare node, left is the next spare */
	uint32_t start, units;
	uint32_t largest; /* the most units of any node of this subtree */
	uint32_t priority;
};

static_assert(sizeof(struct node) == 24, "what one free range costs");

struct piece {
	uint32_t start, units;
};

/* Of ranges that are away, what a pool has of its free ones: units are those available. */
struct away {
	uint32_t root, ranges;
	uint64_t units;
	struct extent_check *check; /* NULL, but while the two have changed places */
};

struct extent_pool {
	struct node *nodes;
	size_t table_bytes;
	uint32_t root, spare;
	uint32_t touched; /* nodes ever used, including node 0: [0, touched) */
	uint32_t ranges;  /* free ranges: nodes in the treap */
	uint64_t allocated, max_allocated;
	uint64_t capacity, available; /* units, without those that are away */
	uint64_t random;
	struct extent_check *check; /* the check that is going on, or NULL */
	uint32_t bound_count;
	uint32_t bounds[EXTENT_BOUNDS]; /* in order */
	uint32_t pieces;
	struct piece piece[EXTENT_PIECES]; /* in order; they neither overlap nor touch */
	uint32_t retired_count;
	struct piece retired[EXTENT_RETIRED]; /* the same; each within one of them */
	struct away away;
};

/* extent.c's, for extent_retire.c: they work on the free ranges. */
void extent_insert(struct extent_pool *pool, uint32_t start, uint32_t units);
uint32_t extent_erase(struct extent_pool *pool, uint32_t at, uint32_t start);
void extent_release(struct extent_pool *pool, uint32_t start, uint32_t units);
uint32_t extent_range_at(const struct extent_pool *pool, uint32_t start);
/* extent_retire.c's, for extent.c: frees what was allocated, of which some may be retired. */
void extent_give(struct extent_pool *pool, uint32_t start, uint32_t units);

/* Whether ranges that touch there stay two. */
static inline bool extent_is_bound(const struct extent_pool *pool, uint32_t unit)
{
	for (uint32_t i = 0; i < pool->bound_count; i++)
		if (pool->bounds[i] == unit)
			return true;
	return false;
}

static inline uint32_t extent_max_of(uint32_t a, uint32_t b)
{
	return a > b ? a : b;
}

/* Whether all of [start, start + units) was added by growing. */
static inline bool extent_is_grown(const struct extent_pool *pool, uint32_t start, uint32_t units)
{
	for (uint32_t i = 0; i < pool->pieces; i++) {
		const struct piece *piece = &pool->piece[i];
		if (start >= piece->start && start - piece->start <= piece->units)
			return units <= piece->units - (start - piece->start);
	}
	return false;
}
