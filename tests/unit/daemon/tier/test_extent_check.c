/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Does extent_check() find what it looks for? Nothing that can be called makes a pool
 * unsound, so this test breaks one by hand. And in steps, between which the pool is used?
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/tier/extent.h"
#include "daemon/tier/extent_pool.h"
#include "tests/support/seed.h"

#define U ((uint64_t)EXTENT_UNIT)

/* Of 40 units 1, 3, 4, 7, 9, 11, ... 37 are free: 18 ranges. */
enum { UNITS = 40, RANGES = 18, FREE = 19 };

static struct extent_pool *fragments(void)
{
	struct extent_pool *pool = NULL;

	assert_int_equal(extent_pool_new(&pool, UNITS), 0);
	assert_int_equal(extent_pool_grow(pool, 0, UNITS * U), 0);
	for (uint64_t i = 0; i < UNITS; i++)
		assert_int_equal(extent_alloc(pool, U), i * U);

	extent_free(pool, 1 * U, U);
	extent_free(pool, 3 * U, U);
	extent_free(pool, 4 * U, U);
	for (uint64_t i = 7; i < 38; i += 2)
		extent_free(pool, i * U, U);
	assert_null(extent_check(pool));

	return pool;
}

/* The fault that is found at once. In steps one is found when there is one. */
static const char *fault_of(struct extent_pool *pool)
{
	const char *fault = extent_check(pool);

	for (uint32_t max = 1; max < 4; max++) {
		struct extent_check check;

		extent_check_begin(&check, pool);
		while (extent_check_some(&check, max))
			;
		assert_int_equal(extent_check_end(&check) != NULL, fault != NULL);
	}

	return fault;
}

static struct node *range_at(struct extent_pool *pool, uint32_t start)
{
	uint32_t at = 1;
	while (pool->nodes[at].start != start)
		at++;
	return &pool->nodes[at];
}

static void a_range(void **state)
{
	(void)state;
	static const struct {
		uint32_t range, start, units;
		const char *fault;
	} cases[] = {
		{7, 7, 0, "a free range is empty"},
		{3, 1, 2, "free ranges overlap or are out of order"},
		{3, 0, 2, "free ranges overlap or are out of order"},
		{3, 2, 2, "two free ranges touch and were not joined"},
		{37, 40, 1, "a free range lies outside the capacity"},
		{37, 37, 4, "a free range lies outside the capacity"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct extent_pool *pool = fragments();
		struct node *node = range_at(pool, cases[i].range);

		node->start = cases[i].start;
		node->units = cases[i].units;
		assert_string_equal(fault_of(pool), cases[i].fault);
		extent_pool_free(pool);
	}
}

static void the_largest_range_of_each_node(void **state)
{
	(void)state;
	struct extent_pool *pool = fragments();

	for (uint32_t at = 1; at < pool->touched; at++) {
		uint32_t *largest = &pool->nodes[at].largest, right = *largest;

		*largest = right + 1;
		assert_string_equal(fault_of(pool),
				    "a node does not know the largest range below it");
		*largest = right - 1;
		assert_string_equal(fault_of(pool),
				    "a node does not know the largest range below it");
		*largest = right;
	}

	assert_null(fault_of(pool));
	extent_pool_free(pool);
}

/* A child, left or right, may have the priority of its parent and no higher one. */
static void the_priority_of_each_node(void **state)
{
	(void)state;
	struct extent_pool *pool = fragments();

	for (uint32_t at = 1; at < pool->touched; at++) {
		const struct node *node = &pool->nodes[at];
		const uint32_t children[] = {node->left, node->right};

		for (size_t i = 0; i < 2; i++) {
			uint32_t *priority = &pool->nodes[children[i]].priority, right = *priority;
			if (!children[i])
				continue;

			*priority = node->priority;
			assert_null(fault_of(pool));
			*priority = node->priority + 1;
			assert_string_equal(fault_of(pool),
					    "a node's priority is above its parent's");
			*priority = right;
		}
	}

	extent_pool_free(pool);
}

static void the_counts(void **state)
{
	(void)state;
	struct extent_pool *pool = fragments();
	uint64_t allocated = pool->allocated;

	pool->available++;
	assert_string_equal(fault_of(pool), "the free ranges do not add up to what is available");
	pool->available--;

	pool->ranges++;
	assert_string_equal(fault_of(pool), "a node was lost");
	pool->ranges--;

	pool->allocated = RANGES - 2;
	assert_string_equal(fault_of(pool),
			    "there are more free ranges than allocated ones can part");
	pool->allocated = RANGES - 1;
	assert_null(fault_of(pool));
	pool->allocated = allocated;

	pool->capacity = FREE - 1;
	assert_string_equal(fault_of(pool), "more is available than the capacity");
	pool->capacity = FREE;
	assert_null(fault_of(pool));
	extent_pool_free(pool);
}

/* Whatever is allocated and freed between two steps, a sound pool is found sound, and one
 * that is not is found out. */
static void a_pool_in_use(void **state)
{
	enum { ALLOCATED = 400, PLACES = 2000 };

	(void)state;
	struct seed seed;
	struct extent_pool *pool = NULL;
	struct {
		uint64_t offset, bytes;
	} places[ALLOCATED] = {{0}};
	seed_open(&seed, __func__);
	assert_int_equal(extent_pool_new(&pool, ALLOCATED), 0);
	assert_int_equal(extent_pool_grow(pool, 0, PLACES * U), 0);

	for (unsigned round = 0; round < 300; round++) {
		struct extent_check check;
		bool broken = seed_below(&seed, 4) == 0, more = true;
		extent_check_begin(&check, pool);

		while (more) {
			for (uint64_t uses = seed_below(&seed, 8); uses > 0; uses--) {
				uint64_t i = seed_below(&seed, ALLOCATED);
				if (places[i].bytes != 0)
					extent_free(pool, places[i].offset, places[i].bytes);

				places[i].bytes = seed_below(&seed, 10) * U;
				places[i].offset = extent_alloc(pool, places[i].bytes);
				if (places[i].offset == EXTENT_NONE)
					places[i].bytes = 0;
			}

			more = extent_check_some(&check, 1 + (uint32_t)seed_below(&seed, 12));
		}

		pool->available += broken;
		assert_int_equal(extent_check_end(&check) != NULL, broken);
		pool->available -= broken;
	}

	extent_pool_free(pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_range),
		cmocka_unit_test(the_largest_range_of_each_node),
		cmocka_unit_test(the_priority_of_each_node),
		cmocka_unit_test(the_counts),
		cmocka_unit_test(a_pool_in_use),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
