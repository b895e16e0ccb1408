/* SPDX-License-Identifier: Apache-2.0 */
/* The free-space allocator, by cases and against a model that is an array with a flag for
 * each unit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/tier/extent.h"
#include "daemon/tier/extent_pool.h"
#include "tests/support/leaks.h"
#include "tests/support/seed.h"

#define U ((uint64_t)EXTENT_UNIT)
#define assert_sound(pool) assert_ptr_equal(extent_check(pool), NULL)

static struct extent_pool *pool_of(uint64_t units, uint64_t ranges)
{
	struct extent_pool *pool = NULL;
	assert_int_equal(extent_pool_new(&pool, ranges), 0);
	if (units)
		assert_int_equal(extent_pool_grow(pool, 0, units * U), 0);
	return pool;
}

static void test_new_refuses_nonsense(void **state)
{
	(void)state;
	struct extent_pool *pool = NULL;
	assert_int_equal(extent_pool_new(&pool, 0), -EINVAL);
	assert_int_equal(extent_pool_new(&pool, UINT64_MAX), -EINVAL);
	assert_null(pool);
	assert_null(extent_pool_free(NULL));
}

static void test_empty_pool(void **state)
{
	(void)state;
	struct extent_pool *pool = pool_of(0, 10);
	assert_int_equal(extent_alloc(pool, U), EXTENT_NONE);
	assert_int_equal(extent_capacity(pool), 0);
	assert_int_equal(extent_largest(pool), 0);
	assert_sound(pool);
	assert_null(extent_pool_free(pool));
}

static void test_lowest_first_and_rounding(void **state)
{
	(void)state;
	struct extent_pool *pool = pool_of(10, 10);
	assert_int_equal(extent_alloc(pool, 1), 0);
	assert_int_equal(extent_alloc(pool, U + 1), U);
	assert_int_equal(extent_alloc(pool, 3 * U), 3 * U);
	assert_int_equal(extent_available(pool), 4 * U);
	extent_free(pool, U, U + 1);
	assert_int_equal(extent_alloc(pool, 3 * U), 6 * U);
	assert_int_equal(extent_alloc(pool, 2 * U), U);
	assert_int_equal(extent_available(pool), U);
	assert_sound(pool);
	extent_pool_free(pool);
}

/* What is freed of it joins what is free behind it; what is kept is one range as before. */
static void test_shrinks(void **state)
{
	(void)state;
	struct extent_pool *pool = pool_of(10, 2);
	assert_int_equal(extent_alloc(pool, 4 * U), 0);
	assert_int_equal(extent_alloc(pool, 4 * U), 4 * U);
	extent_shrink(pool, 0, 4 * U, 4 * U);
	assert_int_equal(extent_available(pool), 2 * U);
	extent_shrink(pool, 4 * U, 4 * U, U + 1);
	assert_int_equal(extent_largest(pool), 4 * U);
	extent_shrink(pool, 0, 4 * U, 1);
	assert_int_equal(extent_available(pool), 7 * U);
	assert_int_equal(extent_alloc(pool, U), EXTENT_NONE); /* there are two already */
	assert_sound(pool);
	extent_free(pool, 0, U);
	assert_int_equal(extent_largest(pool), 4 * U);
	extent_free(pool, 4 * U, 2 * U);
	assert_int_equal(extent_largest(pool), 10 * U);
	assert_sound(pool);
	extent_pool_free(pool);
}

static void test_coalesces_from_both_sides(void **state)
{
	(void)state;
	struct extent_pool *pool = pool_of(3, 3);
	for (uint64_t i = 0; i < 3; i++)
		assert_int_equal(extent_alloc(pool, U), i * U);
	assert_int_equal(extent_largest(pool), 0);
	extent_free(pool, 0, U);
	extent_free(pool, 2 * U, U);
	assert_int_equal(extent_largest(pool), U);
	extent_free(pool, U, U);
	assert_int_equal(extent_largest(pool), 3 * U);
	assert_int_equal(extent_alloc(pool, 3 * U), 0);
	assert_sound(pool);
	extent_pool_free(pool);
}

static void test_refuses_too_many_and_too_large(void **state)
{
	(void)state;
	struct extent_pool *pool = pool_of(10, 2);
	assert_int_equal(extent_alloc(pool, 0), EXTENT_NONE);
	assert_int_equal(extent_alloc(pool, UINT64_MAX), EXTENT_NONE);
	assert_int_equal(extent_alloc(pool, 10 * U + 1), EXTENT_NONE);
	assert_int_equal(extent_alloc(pool, U), 0);
	assert_int_equal(extent_alloc(pool, U), U);
	assert_int_equal(extent_alloc(pool, U), EXTENT_NONE);
	assert_int_equal(extent_available(pool), 8 * U);
	extent_free(pool, 0, U);
	assert_int_equal(extent_alloc(pool, U), 0);
	extent_pool_free(pool);
}

static void test_grow_refuses(void **state)
{
	(void)state;
	struct extent_pool *pool = pool_of(4, 4);
	assert_int_equal(extent_pool_grow(pool, 1, U), -EINVAL);
	assert_int_equal(extent_pool_grow(pool, 8 * U, U - 1), -EINVAL);
	assert_int_equal(extent_pool_grow(pool, 8 * U, 0), -EINVAL);
	assert_int_equal(extent_pool_grow(pool, 3 * U, U), -EINVAL);
	assert_int_equal(extent_pool_grow(pool, 3 * U, 2 * U), -EINVAL);
	assert_int_equal(extent_pool_grow(pool, EXTENT_END, U), -EINVAL);
	assert_int_equal(extent_pool_grow(pool, UINT64_MAX - U + 1, U), -EINVAL);

	/* What is allocated is there as well. */
	assert_int_equal(extent_alloc(pool, 4 * U), 0);
	assert_int_equal(extent_pool_grow(pool, 0, 4 * U), -EINVAL);
	assert_int_equal(extent_capacity(pool), 4 * U);
	assert_sound(pool);
	extent_pool_free(pool);
}

static void test_pieces_in_any_order_become_one(void **state)
{
	(void)state;
	struct extent_pool *pool = pool_of(0, 4);
	assert_int_equal(extent_pool_grow(pool, 4 * U, 2 * U), 0);
	assert_int_equal(extent_pool_grow(pool, 0, 2 * U), 0);
	assert_int_equal(extent_largest(pool), 2 * U);
	assert_int_equal(extent_pool_grow(pool, 1 * U, 2 * U), -EINVAL);
	assert_int_equal(extent_pool_grow(pool, 3 * U, 1 * U), 0);
	assert_int_equal(extent_largest(pool), 3 * U);
	assert_int_equal(extent_pool_grow(pool, 2 * U, 1 * U), 0);
	assert_int_equal(extent_largest(pool), 6 * U);
	assert_int_equal(extent_capacity(pool), 6 * U);
	assert_sound(pool);
	extent_pool_free(pool);
}

static void test_pieces_are_bounded(void **state)
{
	(void)state;
	struct extent_pool *pool = pool_of(0, 1);
	for (uint64_t i = 0; i < EXTENT_PIECES; i++)
		assert_int_equal(extent_pool_grow(pool, 2 * i * U, U), 0);
	assert_int_equal(extent_pool_grow(pool, 2 * EXTENT_PIECES * U, U), -ENOSPC);
	assert_int_equal(extent_pool_grow(pool, U, U), 0);
	assert_int_equal(extent_pool_grow(pool, 2 * EXTENT_PIECES * U, U), 0);
	assert_sound(pool);
	extent_pool_free(pool);
}

static void test_take_refuses(void **state)
{
	(void)state;
	struct extent_pool *pool = pool_of(10, 2);

	assert_false(extent_take(pool, 0, 0, 1));
	assert_false(extent_take(pool, 1, U, 1));
	assert_false(extent_take(pool, U, U + 1, 1));
	assert_false(extent_take(pool, 9 * U, 2 * U, 1));
	assert_false(extent_take(pool, UINT64_MAX - U + 1, U, 1));
	assert_true(extent_take(pool, 3 * U, 2 * U, 1));
	assert_false(extent_take(pool, 2 * U, 2 * U, 1));
	assert_false(extent_take(pool, 4 * U, U, 1));
	assert_true(extent_take(pool, 9 * U, U, 1));
	assert_false(extent_take(pool, 0, U, 1)); /* as many as may be */
	assert_int_equal(extent_available(pool), 7 * U);
	extent_free(pool, 3 * U, 2 * U);
	assert_false(extent_take(pool, 0, 9 * U, 2));
	extent_free(pool, 9 * U, U);
	assert_true(extent_take(pool, 0, 9 * U, 2));
	extent_free(pool, 0, 4 * U);
	extent_free(pool, 4 * U, 5 * U);
	assert_true(extent_take(pool, 0, 10 * U, 1));
	assert_int_equal(extent_available(pool), 0);
	assert_sound(pool);
	extent_pool_free(pool);
}

static void test_whole_address_space(void **state)
{
	(void)state;
	struct extent_pool *pool = pool_of(0, 100);
	assert_int_equal(extent_pool_grow(pool, 0, EXTENT_END), 0);
	assert_int_equal(extent_alloc(pool, EXTENT_END), 0);
	assert_int_equal(extent_available(pool), 0);
	extent_free(pool, 0, EXTENT_END);
	assert_int_equal(extent_largest(pool), EXTENT_END);
	assert_int_equal(extent_alloc(pool, U), 0);
	assert_int_equal(extent_alloc(pool, EXTENT_END - U), U);
	assert_sound(pool);
	extent_pool_free(pool);
}

static void test_bookkeeping_is_small(void **state)
{
	(void)state;
	struct extent_pool *pool = pool_of(1000000, 4000000);
	uint64_t before = extent_memory(pool);
	for (uint64_t i = 0; i < 1000; i++)
		assert_int_equal(extent_alloc(pool, U), i * U);
	assert_int_equal(extent_memory(pool), before);
	for (uint64_t i = 0; i < 1000; i += 2)
		extent_free(pool, i * U, U);
	assert_int_equal(extent_memory(pool), before + 500 * 24);
	extent_pool_free(pool);
}

static void test_a_freed_pool_takes_its_table_along(void **state)
{
	(void)state;
	enum { POOLS = 100, TABLE_PAGES = 4000000ul * 24 / 4096 };

	unsigned long before = leaks_address_space();
	for (int i = 0; i < POOLS; i++)
		assert_null(extent_pool_free(pool_of(0, 4000000)));
	assert_in_range(leaks_address_space(), 0, before + 2 * TABLE_PAGES);
}

/* In a child: the signal that ends it when [offset, offset + units) is freed from a pool
 * of 10 units, 0 and 1 of them allocated. */
static int signal_of_free(uint64_t offset, uint64_t units)
{
	int status;
	pid_t pid = fork();
	if (pid == 0) {
		struct extent_pool *pool = pool_of(10, 10);

		extent_alloc(pool, 2 * U);
		extent_alloc(pool, 2 * U);
		extent_free(pool, 2 * U, 2 * U);
		close(STDERR_FILENO);
		extent_free(pool, offset * U, units * U);
		_exit(0);
	}

	assert_int_equal(waitpid(pid, &status, 0), pid);

	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void test_freeing_what_is_free_asserts(void **state)
{
	(void)state;
	assert_int_equal(signal_of_free(0, 2), 0);
	assert_int_equal(signal_of_free(2, 2), SIGABRT);
	assert_int_equal(signal_of_free(1, 2), SIGABRT);
	assert_int_equal(signal_of_free(9, 1), SIGABRT);
	assert_int_equal(signal_of_free(10, 1), SIGABRT);
}

/* The model: which units are free, and the ranges handed out. */
enum { UNITS = 1024, RANGES = 300 };

struct range {
	uint64_t start, units;
};

struct model {
	uint64_t bounds[3]; /* the first: 0 */
	unsigned bound_count;
	bool is_free[UNITS];
	uint64_t grown, count;
	struct range ranges[RANGES];
};

/* How long the free range is that goes on with unit i, if it is `run` units before it. */
static uint64_t model_run(const struct model *model, uint64_t i, uint64_t run)
{
	for (unsigned k = 0; k < model->bound_count; k++)
		run = i == model->bounds[k] ? 0 : run;
	return model->is_free[i] ? run + 1 : 0;
}

static uint64_t model_lowest(const struct model *model, uint64_t units, uint64_t from)
{
	uint64_t run = 0;
	for (uint64_t i = from; i < model->grown; i++) {
		run = model_run(model, i, run);
		if (run == units)
			return i + 1 - units;
	}

	return from > 0 ? model_lowest(model, units, 0) : EXTENT_NONE;
}

static void model_alloc(struct model *model, struct extent_pool *pool, uint64_t units,
			uint64_t from)
{
	uint64_t start = model->count < RANGES ? model_lowest(model, units, from) : EXTENT_NONE;
	uint64_t expected = start == EXTENT_NONE ? EXTENT_NONE : start * U;

	assert_int_equal(from > 0 ? extent_alloc_from(pool, units * U, from * U)
				  : extent_alloc(pool, units * U),
			 expected);
	if (start == EXTENT_NONE)
		return;

	memset(&model->is_free[start], false, units);
	model->ranges[model->count++] = (struct range){start, units};
}

/* Takes what a range of the model says, be it free or not. */
static void model_take(struct model *model, struct extent_pool *pool, uint64_t start,
		       uint64_t units)
{
	bool free = start + units <= model->grown && model->count < RANGES;

	for (uint64_t i = start, run = 0; free && i < start + units; i++) {
		run = model_run(model, i, run);
		free = run > i - start; /* no bound but at its begin */
	}

	assert_int_equal(extent_take(pool, start * U, units * U, 1), free);
	if (!free)
		return;

	memset(&model->is_free[start], false, units);
	model->ranges[model->count++] = (struct range){start, units};
}

static void model_free(struct model *model, struct extent_pool *pool, uint64_t nth)
{
	struct range range = model->ranges[nth];
	extent_free(pool, range.start * U, range.units * U);
	memset(&model->is_free[range.start], true, range.units);
	model->ranges[nth] = model->ranges[--model->count];
}

static void model_grow(struct model *model, struct extent_pool *pool, uint64_t units)
{
	units = units < UNITS - model->grown ? units : UNITS - model->grown;
	if (units == 0)
		return;

	assert_int_equal(extent_pool_grow(pool, model->grown * U, units * U), 0);
	memset(&model->is_free[model->grown], true, units);
	model->grown += units;
}

static void model_compare(const struct model *model, struct extent_pool *pool)
{
	uint64_t available = 0, run = 0, largest = 0;

	for (uint64_t i = 0; i < model->grown; i++) {
		available += model->is_free[i];
		run = model_run(model, i, run);
		largest = run > largest ? run : largest;
	}

	assert_int_equal(extent_available(pool), available * U);
	assert_int_equal(extent_largest(pool), largest * U);
	assert_int_equal(extent_capacity(pool), model->grown * U);
	assert_sound(pool);
}

static void compare_with_model(const char *name, const struct model *start)
{
	static struct model model;
	struct seed seed;
	seed_open(&seed, name);
	struct extent_pool *pool = pool_of(0, RANGES);

	model = *start;
	for (unsigned i = 1; i < model.bound_count; i++)
		extent_pool_divide(pool, model.bounds[i] * U);

	/* percent of operations that allocate: moves, so that full and empty are both
	 * met */
	unsigned eagerness = 50;
	for (int i = 0; i < 100000; i++) {
		if (i % 1000 == 0)
			eagerness = 10 + 20 * (unsigned)seed_below(&seed, 5);
		if (i % 5000 == 0)
			model_grow(&model, pool, 1 + seed_below(&seed, 100));

		uint64_t units = seed_below(&seed, 10) ? 1 + seed_below(&seed, 8)
						       : 1 + seed_below(&seed, 200);
		if (seed_below(&seed, 8) == 0)
			model_take(&model, pool, seed_below(&seed, UNITS), units);
		else if (seed_below(&seed, 100) < eagerness)
			model_alloc(&model, pool, units,
				    model.bounds[seed_below(&seed, model.bound_count)]);
		else if (model.count > 0)
			model_free(&model, pool, seed_below(&seed, model.count));

		if (i % 4 == 0)
			model_compare(&model, pool);
	}

	while (model.count > 0)
		model_free(&model, pool, seed_below(&seed, model.count));
	model_compare(&model, pool);
	if (model.bound_count == 1)
		assert_int_equal(extent_largest(pool), model.grown * U);
	extent_pool_free(pool);
}

static void test_against_a_model(void **state)
{
	(void)state;
	compare_with_model("test_against_a_model", &(struct model){.bound_count = 1});
}

static void test_a_divided_pool_against_a_model(void **state)
{
	(void)state;
	compare_with_model("test_a_divided_pool_against_a_model",
			   &(struct model){.bounds = {0, 300, 700}, .bound_count = 3});
}

/* Every second unit free is the most ranges there can be: freeing must find a node for
 * each. */
static void test_most_ranges(void **state)
{
	(void)state;
	struct extent_pool *pool = pool_of(200001, 200001);
	for (uint64_t i = 0; i < 200001; i++)
		assert_int_equal(extent_alloc(pool, U), i * U);
	for (uint64_t i = 0; i < 200001; i += 2)
		extent_free(pool, i * U, U);
	assert_sound(pool);
	assert_int_equal(extent_alloc(pool, 2 * U), EXTENT_NONE);
	for (uint64_t i = 1; i < 200001; i += 2)
		extent_free(pool, i * U, U);
	assert_int_equal(extent_largest(pool), 200001 * U);
	assert_sound(pool);
	extent_pool_free(pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_new_refuses_nonsense),
		cmocka_unit_test(test_empty_pool),
		cmocka_unit_test(test_lowest_first_and_rounding),
		cmocka_unit_test(test_shrinks),
		cmocka_unit_test(test_coalesces_from_both_sides),
		cmocka_unit_test(test_refuses_too_many_and_too_large),
		cmocka_unit_test(test_grow_refuses),
		cmocka_unit_test(test_pieces_in_any_order_become_one),
		cmocka_unit_test(test_pieces_are_bounded),
		cmocka_unit_test(test_take_refuses),
		cmocka_unit_test(test_whole_address_space),
		cmocka_unit_test(test_bookkeeping_is_small),
		cmocka_unit_test(test_a_freed_pool_takes_its_table_along),
		cmocka_unit_test(test_freeing_what_is_free_asserts),
		cmocka_unit_test(test_against_a_model),
		cmocka_unit_test(test_a_divided_pool_against_a_model),
		cmocka_unit_test(test_most_ranges),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
