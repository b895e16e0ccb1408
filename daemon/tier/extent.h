/* SPDX-License-Identifier: Apache-2.0 */
/*
 * extent: the free-space allocator of every tier. It allocates contiguous ranges of [0,
 * capacity) in units of EXTENT_UNIT, lowest address first, so that blocks stored together
 * lie together and can be moved in one I/O. It never touches the memory it manages and
 * never rounds up beyond the unit.
 *
 * Free ranges are nodes of a treap ordered by offset. Each node knows the largest range
 * of its subtree, so allocating, freeing and coalescing cost O(log free ranges). Nodes
 * come from one table reserved at creation (untouched pages cost nothing), so freeing
 * cannot fail: a contiguous piece of capacity has at most one free range more than it has
 * allocated ones and bounds.
 *
 * Invariants: free ranges do not overlap, and touch at a bound alone; each lies within the
 * capacity that was added; free + allocated = capacity.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define EXTENT_UNIT 4096u /* bytes: what O_DIRECT needs */
#define EXTENT_NONE UINT64_MAX
/* the end of the highest range: 16 TiB less one unit */
#define EXTENT_END ((uint64_t)UINT32_MAX * EXTENT_UNIT)

/* What so many bytes take: whole units. */
static inline uint64_t extent_bytes(uint64_t bytes)
{
	return (bytes + EXTENT_UNIT - 1) / EXTENT_UNIT * EXTENT_UNIT;
}

struct extent_pool;

/*
 * Creates an empty pool for at most max_allocated ranges at a time: -ENOMEM, -EINVAL
 * (zero). Capacity comes from extent_pool_grow.
 */
int extent_pool_new(struct extent_pool **out, uint64_t max_allocated);
uint64_t extent_table_bytes(uint64_t max_allocated); /* its table, when full */
struct extent_pool *extent_pool_free(struct extent_pool *pool);
/* Adds [from, from + bytes), whole units not added before, as free. Pieces that touch
 * become one, so the order of calls is free. -EINVAL if empty, misaligned, overlapping or
 * beyond EXTENT_END; -ENOSPC for one piece too many: a pool may have
 * EXTENT_PIECES (extent_pool.h). */
int extent_pool_grow(struct extent_pool *pool, uint64_t from, uint64_t bytes);

/* No range crosses that offset, a multiple of the unit: before the first extent_pool_grow(),
 * from low to high, at most EXTENT_BOUNDS times (extent_pool.h). */
void extent_pool_divide(struct extent_pool *pool, uint64_t offset);

/*
 * Takes ranges out of service, and into it again (extent_retire.c). What is free of a retired range
 * goes away, some at a time; what is allocated goes when it is freed. What is away is neither free
 * nor of the capacity.
 *
 * 	        extent_retire            sorted, or freed               extent_cut
 * 	in use ---------------> retired -----------------> away, all -------------> as never grown
 * 	   ^                       |                         |
 * 	   +-----------------------+-------------------------+
 * 	               extent_recall, and sorted
 *
 * All of [from, from + bytes) must have been grown; it may be retired, or not, in part. -EINVAL: it
 * is not grown, misaligned or empty; -ENOSPC: there would be too many ranges that are retired apart
 * from each other (extent_pool.h), and nothing has changed.
 */
int extent_retire(struct extent_pool *pool, uint64_t from, uint64_t bytes);
int extent_recall(struct extent_pool *pool, uint64_t from, uint64_t bytes);
/* To be called after either until it is false: sorts at most so many free ranges, or some that are
 * away. */
bool extent_sort_some(struct extent_pool *pool, uint32_t max);
bool extent_is_away(const struct extent_pool *pool, uint64_t from, uint64_t bytes); /* all of it */
/* Whether any of it is retired. */
bool extent_is_retired(const struct extent_pool *pool, uint64_t from, uint64_t bytes);
/* How many bytes of it are. */
uint64_t extent_retired_of(const struct extent_pool *pool, uint64_t from, uint64_t bytes);
/* Forgets a range that is away. -ENOSPC: of what is left there would be too many pieces, or too
 * many that are retired. */
int extent_cut(struct extent_pool *pool, uint64_t from, uint64_t bytes);
/* The n-th contiguous piece that was grown, retired or not, from low to high. False: there are not
 * so many. */
bool extent_piece(const struct extent_pool *pool, uint32_t n, uint64_t *from, uint64_t *bytes);
/* Of what is retired: bytes that are not away yet. */
uint64_t extent_retiring(const struct extent_pool *pool);

/* Allocates the lowest free range of `bytes` (rounded up to a unit) and returns its
 * offset. EXTENT_NONE if there is none, if max_allocated ranges are allocated, or for 0
 * bytes. */
uint64_t extent_alloc(struct extent_pool *pool, uint64_t bytes);
/* The same, of the free ranges that begin at `from` or after it if one is large enough. */
uint64_t extent_alloc_from(struct extent_pool *pool, uint64_t bytes, uint64_t from);
/* Allocates exactly [offset, offset + bytes), both multiples of the unit, as so many ranges that
 * touch and are freed one by one. False: it is not all free, or more than max_allocated ranges
 * would be allocated, and nothing has changed. */
bool extent_take(struct extent_pool *pool, uint64_t offset, uint64_t bytes, uint32_t ranges);
/* Frees exactly what extent_alloc returned for `bytes`. A double free is our bug and
 * asserts. */
void extent_free(struct extent_pool *pool, uint64_t offset, uint64_t bytes);

/* Frees the end of a range that was allocated for `bytes`: `kept` are left, at least one. */
void extent_shrink(struct extent_pool *pool, uint64_t offset, uint64_t bytes, uint64_t kept);

uint64_t extent_capacity(const struct extent_pool *pool);  /* bytes added so far */
uint64_t extent_available(const struct extent_pool *pool); /* free bytes */
uint64_t extent_largest(const struct extent_pool *pool);   /* largest free range in bytes */
uint64_t extent_memory(const struct extent_pool *pool);    /* bytes of bookkeeping touched so far */

/* A check of a pool in steps, between which it may be used. The members are extent.c's. */
struct extent_check {
	struct extent_pool *pool;
	uint64_t next;          /* ranges that start before it have been checked */
	uint64_t units, ranges; /* of those */
	const char *fault;
};

/* Begins the check of a pool, which must have none: of order, coalescing, sums and the
 * treap's invariants. */
void extent_check_begin(struct extent_check *check, struct extent_pool *pool);
/* Checks at most `max` free ranges. False when there are no more, at this moment. */
bool extent_check_some(struct extent_check *check, uint32_t max);
/* Right after that, or to give up. Returns the first fault as a static sentence, or NULL. */
const char *extent_check_end(struct extent_check *check);
/* The same at once. */
const char *extent_check(struct extent_pool *pool);
