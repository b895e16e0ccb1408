/* SPDX-License-Identifier: Apache-2.0 */
/* Ranges of a pool that go out of service and come back, by cases and against a model that is an
 * array of units. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/tier/extent.h"
#include "daemon/tier/extent_pool.h"
#include "tests/support/seed.h"

#define U ((uint64_t)EXTENT_UNIT)
#define assert_sound(pool) assert_ptr_equal(extent_check(pool), NULL)

static struct extent_pool *pool_of(uint64_t units, uint64_t ranges)
{
	struct extent_pool *pool = NULL;
	assert_int_equal(extent_pool_new(&pool, ranges), 0);
	assert_int_equal(extent_pool_grow(pool, 0, units * U), 0);
	return pool;
}

static void sort(struct extent_pool *pool)
{
	while (extent_sort_some(pool, 1))
		;
	assert_sound(pool);
}

static void test_what_is_free_goes_at_once(void **state)
{
	(void)state;
	struct extent_pool *pool = pool_of(10, 10);

	assert_int_equal(extent_alloc(pool, 2 * U), 0);
	assert_int_equal(extent_retire(pool, 6 * U, 4 * U), 0);
	sort(pool);
	assert_true(extent_is_away(pool, 6 * U, 4 * U));
	assert_int_equal(extent_capacity(pool), 6 * U);
	assert_int_equal(extent_available(pool), 4 * U);
	assert_int_equal(extent_largest(pool), 4 * U);
	assert_int_equal(extent_retiring(pool), 0);
	assert_int_equal(extent_alloc(pool, 5 * U), EXTENT_NONE);

	assert_int_equal(extent_recall(pool, 6 * U, 2 * U), 0);
	sort(pool);
	assert_int_equal(extent_capacity(pool), 8 * U);
	assert_int_equal(extent_alloc(pool, 6 * U), 2 * U);

	assert_int_equal(extent_cut(pool, 8 * U, 2 * U), 0);
	assert_sound(pool);
	assert_int_equal(extent_pool_grow(pool, 8 * U, 2 * U), 0);
	assert_int_equal(extent_capacity(pool), 10 * U);
	assert_int_equal(extent_alloc(pool, 2 * U), 8 * U);
	extent_pool_free(pool);
}

static void test_what_is_allocated_goes_when_it_is_freed(void **state)
{
	(void)state;
	struct extent_pool *pool = pool_of(8, 8);

	assert_int_equal(extent_alloc(pool, 3 * U), 0);
	assert_int_equal(extent_alloc(pool, 4 * U), 3 * U); /* across the bound */
	assert_int_equal(extent_retire(pool, 4 * U, 4 * U), 0);
	sort(pool);
	assert_false(extent_is_away(pool, 4 * U, 4 * U));
	assert_true(extent_is_retired(pool, 3 * U, 2 * U));
	assert_false(extent_is_retired(pool, 0, 4 * U));
	assert_int_equal(extent_retiring(pool), 3 * U);
	assert_int_equal(extent_capacity(pool), 7 * U);

	extent_shrink(pool, 3 * U, 4 * U, 2 * U);
	assert_int_equal(extent_capacity(pool), 5 * U);
	extent_free(pool, 3 * U, 2 * U);
	assert_true(extent_is_away(pool, 4 * U, 4 * U));
	assert_int_equal(extent_capacity(pool), 4 * U);
	assert_int_equal(extent_available(pool), U);
	assert_sound(pool);
	extent_pool_free(pool);
}

static void test_refuses_what_was_not_grown(void **state)
{
	(void)state;
	struct extent_pool *pool = pool_of(8, 8);

	assert_int_equal(extent_retire(pool, 4 * U, 5 * U), -EINVAL);
	assert_int_equal(extent_retire(pool, 4 * U, 0), -EINVAL);
	assert_int_equal(extent_retire(pool, 1, U), -EINVAL);
	assert_int_equal(extent_recall(pool, 8 * U, U), -EINVAL);
	assert_int_equal(extent_capacity(pool), 8 * U);
	extent_pool_free(pool);
}

static void test_too_many_apart(void **state)
{
	(void)state;
	struct extent_pool *pool = pool_of(2 * EXTENT_RETIRED + 2, 8);

	for (uint64_t i = 0; i < EXTENT_RETIRED; i++)
		assert_int_equal(extent_retire(pool, (2 * i + 1) * U, U), 0);
	sort(pool);
	assert_int_equal(extent_retire(pool, (2 * EXTENT_RETIRED + 1) * U, U), -ENOSPC);
	assert_int_equal(extent_capacity(pool), (EXTENT_RETIRED + 2) * U);
	assert_int_equal(extent_retire(pool, 0, (2 * EXTENT_RETIRED + 2) * U), 0); /* one range */
	sort(pool);
	assert_int_equal(extent_capacity(pool), 0);
	extent_pool_free(pool);
}

static void test_pieces(void **state)
{
	(void)state;
	struct extent_pool *pool = pool_of(8, 8);
	uint64_t from, bytes;

	assert_int_equal(extent_pool_grow(pool, 10 * U, 2 * U), 0);
	assert_int_equal(extent_retire(pool, 4 * U, 4 * U), 0);
	sort(pool);
	assert_int_equal(extent_cut(pool, 6 * U, 2 * U), 0);
	assert_true(extent_piece(pool, 0, &from, &bytes));
	assert_true(from == 0 && bytes == 6 * U);
	assert_true(extent_piece(pool, 1, &from, &bytes));
	assert_true(from == 10 * U && bytes == 2 * U);
	assert_false(extent_piece(pool, 2, &from, &bytes));
	extent_pool_free(pool);
}

/* ---- against a model ---- */

#define UNITS 96
#define RANGES 24

struct model {
	struct extent_pool *pool;
	struct seed random;
	bool grown[UNITS], retired[UNITS], used[UNITS];
	struct {
		uint64_t start, units;
	} ranges[RANGES];
	uint32_t count;
};

static uint64_t below(struct model *model, uint64_t limit)
{
	return seed_below(&model->random, limit);
}

static void model_alloc(struct model *model)
{
	uint64_t units = 1 + below(model, 7);
	uint64_t at = extent_alloc(model->pool, units * U);
	if (at == EXTENT_NONE)
		return;

	for (uint64_t i = at / U; i < at / U + units; i++) {
		assert_true(model->grown[i] && !model->used[i]);
		model->used[i] = true;
	}

	assert_true(model->count < RANGES);
	model->ranges[model->count].start = at / U;
	model->ranges[model->count++].units = units;
}

static void model_free(struct model *model, bool some)
{
	if (model->count == 0)
		return;

	uint64_t i = below(model, model->count), start = model->ranges[i].start;
	uint64_t units = model->ranges[i].units, kept = some ? 1 + below(model, units) : 0;

	memset(&model->used[start + kept], 0, units - kept);
	if (some) {
		extent_shrink(model->pool, start * U, units * U, kept * U);
		model->ranges[i].units = kept;
		return;
	}

	extent_free(model->pool, start * U, units * U);
	model->ranges[i] = model->ranges[--model->count];
}

static bool model_all(const bool *flags, uint64_t start, uint64_t units, bool value)
{
	for (uint64_t i = start; i < start + units; i++)
		if (flags[i] != value)
			return false;
	return true;
}

static void model_set_retired(struct model *model, bool retired)
{
	uint64_t start = below(model, UNITS), units = 1 + below(model, UNITS - start);
	bool grown = model_all(model->grown, start, units, true);
	int r = retired ? extent_retire(model->pool, start * U, units * U)
			: extent_recall(model->pool, start * U, units * U);

	assert_int_equal(r, grown ? 0 : -EINVAL);
	if (grown)
		memset(&model->retired[start], retired, units);
}

/* Cuts what is away, and grows what is not there. */
static void model_resize(struct model *model)
{
	uint64_t start = below(model, UNITS), units = 1 + below(model, UNITS - start);

	if (extent_is_away(model->pool, start * U, units * U)) {
		assert_true(model_all(model->used, start, units, false));
		assert_int_equal(extent_cut(model->pool, start * U, units * U), 0);
		memset(&model->grown[start], false, units);
		memset(&model->retired[start], false, units);
	} else if (model_all(model->grown, start, units, false)) {
		assert_int_equal(extent_pool_grow(model->pool, start * U, units * U), 0);
		memset(&model->grown[start], true, units);
	}
}

static void model_compare(struct model *model, bool sorted)
{
	uint64_t capacity = 0, available = 0, retiring = 0;

	assert_sound(model->pool);
	if (!sorted)
		return;

	for (uint64_t i = 0; i < UNITS; i++) {
		bool away = model->grown[i] && model->retired[i] && !model->used[i];

		assert_int_equal(extent_is_away(model->pool, i * U, U), away);
		capacity += model->grown[i] && !away;
		available += model->grown[i] && !model->retired[i] && !model->used[i];
		retiring += model->retired[i] && model->used[i];
	}

	assert_int_equal(extent_capacity(model->pool), capacity * U);
	assert_int_equal(extent_available(model->pool), available * U);
	assert_int_equal(extent_retiring(model->pool), retiring * U);
}

static void test_against_model(void **state)
{
	(void)state;
	struct model model = {.pool = pool_of(UNITS, RANGES)};

	seed_open(&model.random, "extent_retire");
	memset(model.grown, true, sizeof(model.grown));
	for (unsigned step = 0; step < 40000; step++) {
		uint64_t what = below(&model, 16);
		bool sorted = false;

		if (what < 6)
			model_alloc(&model);
		else if (what < 11)
			model_free(&model, what == 10);
		else if (what < 13)
			model_set_retired(&model, what == 11);
		else if (what < 14)
			model_resize(&model);
		else
			sorted = !extent_sort_some(model.pool, what == 14 ? 1 : UINT32_MAX);
		model_compare(&model, sorted);
	}

	extent_pool_free(model.pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_free_goes_at_once),
		cmocka_unit_test(test_what_is_allocated_goes_when_it_is_freed),
		cmocka_unit_test(test_refuses_what_was_not_grown),
		cmocka_unit_test(test_too_many_apart),
		cmocka_unit_test(test_pieces),
		cmocka_unit_test(test_against_model),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
