/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Does extent_check() find what it looks for? Nothing that can be called makes a pool
 * unsound, so this test includes the module and breaks a pool by hand.
 */
#include "daemon/tier/extent.c"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

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
		assert_string_equal(extent_check(pool), cases[i].fault);
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
		assert_string_equal(extent_check(pool),
				    "a node does not know the largest range below it");
		*largest = right - 1;
		assert_string_equal(extent_check(pool),
				    "a node does not know the largest range below it");
		*largest = right;
	}

	assert_null(extent_check(pool));
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
			assert_null(extent_check(pool));
			*priority = node->priority + 1;
			assert_string_equal(extent_check(pool),
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
	assert_string_equal(extent_check(pool),
			    "the free ranges do not add up to what is available");
	pool->available--;

	pool->ranges++;
	assert_string_equal(extent_check(pool), "a node was lost");
	pool->ranges--;

	pool->allocated = RANGES - 2;
	assert_string_equal(extent_check(pool),
			    "there are more free ranges than allocated ones can part");
	pool->allocated = RANGES - 1;
	assert_null(extent_check(pool));
	pool->allocated = allocated;

	pool->capacity = FREE - 1;
	assert_string_equal(extent_check(pool), "more is available than the capacity");
	pool->capacity = FREE;
	assert_null(extent_check(pool));
	extent_pool_free(pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_range),
		cmocka_unit_test(the_largest_range_of_each_node),
		cmocka_unit_test(the_priority_of_each_node),
		cmocka_unit_test(the_counts),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
