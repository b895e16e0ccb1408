/* SPDX-License-Identifier: Apache-2.0 */
/* The index, by cases and against a model that is an array with a number for each key. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/cache/index.h"
#include "tests/support/leaks.h"
#include "tests/support/seed.h"

enum { BUDGET = 96 }; /* bytes of index a block may cost */

static struct hbm_wire_key key_of(uint64_t n)
{
	struct hbm_wire_key key = {{0}};
	memcpy(key.bytes, &n, sizeof(n));
	return key;
}

static uint32_t find(const struct index *index, uint16_t ns, uint64_t n)
{
	struct hbm_wire_key key = key_of(n);
	return index_find(index, ns, &key);
}

static uint32_t insert(struct index *index, uint16_t ns, uint64_t n)
{
	struct hbm_wire_key key = key_of(n);
	return index_insert(index, ns, &key);
}

static void take_out(struct index *index, uint32_t number)
{
	index_remove(index, number);
	index_release(index, number);
}

static struct index *index_of(uint64_t max)
{
	struct index *index = NULL;
	assert_int_equal(index_new(&index, max), 0);
	return index;
}

static void test_new_refuses_nonsense(void **state)
{
	(void)state;
	struct index *index = NULL;
	assert_int_equal(index_new(&index, 0), -EINVAL);
	assert_int_equal(index_new(&index, UINT32_MAX), -EINVAL);
	assert_null(index);
	assert_null(index_free(NULL));
}

/* The buckets are the smaller of the two: a hundred times them is more than what may stay. */
static void test_a_freed_index_takes_its_tables_along(void **state)
{
	(void)state;
	enum { INDEXES = 100, MAX = 1 << 20, BUCKET_PAGES = MAX * 4 / 4096 };

	unsigned long at_first = leaks_address_space();
	for (int i = 0; i < INDEXES; i++) {
		struct index *index = NULL;
		assert_int_equal(index_new(&index, MAX), 0);
		assert_null(index_free(index));
	}
	assert_in_range(leaks_address_space(), 0, at_first + INDEXES / 2 * BUCKET_PAGES);
}

static void test_an_empty_index(void **state)
{
	(void)state;
	struct index *index = index_of(10);
	assert_int_equal(find(index, 1, 1), 0);
	assert_int_equal(index_count(index), 0);
	assert_int_equal(index_highest(index), 0);
	assert_int_equal(index_max(index), 10);
	assert_int_equal(index_used(index, 0), false);
	assert_int_equal(index_used(index, 1), false);
	index_free(index);
}

static void test_the_namespace_is_part_of_the_key(void **state)
{
	(void)state;
	struct index *index = index_of(10);
	uint32_t a = insert(index, 1, 7), b = insert(index, 2, 7);
	assert_int_not_equal(a, b);
	assert_int_equal(find(index, 1, 7), a);
	assert_int_equal(find(index, 2, 7), b);
	assert_int_equal(find(index, 3, 7), 0);
	index_free(index);
}

static void test_a_full_table(void **state)
{
	(void)state;
	struct index *index = index_of(3);
	for (uint64_t n = 0; n < 3; n++)
		assert_int_not_equal(insert(index, 1, n), 0);
	assert_int_equal(insert(index, 1, 3), 0);
	assert_int_equal(index_count(index), 3);
	uint32_t number = find(index, 1, 1);
	take_out(index, number);
	assert_int_equal(insert(index, 1, 3), number);
	assert_int_equal(find(index, 1, 1), 0);
	assert_int_equal(find(index, 1, 3), number);
	index_free(index);
}

/* What is out of the hash keeps its number until it is released, and a new entry starts
 * from nothing. */
static void test_numbers_are_reused_only_when_released(void **state)
{
	(void)state;
	struct index *index = index_of(10);
	uint32_t first = insert(index, 1, 1);
	index_table(index)[first].refs = 5;
	index_table(index)[first].state = 3;
	index_remove(index, first);
	assert_int_equal(find(index, 1, 1), 0);
	assert_int_equal(index_used(index, first), true);
	assert_int_not_equal(insert(index, 1, 1), first);
	index_release(index, first);
	assert_int_equal(index_used(index, first), false);
	assert_int_equal(insert(index, 1, 2), first);
	assert_int_equal(index_table(index)[first].refs, 0);
	assert_int_equal(index_table(index)[first].state, 0);
	assert_int_equal(index_count(index), 2);
	index_free(index);
}

static void test_a_chain_ends_at_the_first_absent_key(void **state)
{
	(void)state;
	enum { LENGTH = 50 };

	for (size_t present = 0; present <= LENGTH; present++) {
		struct index *index = index_of(100);
		struct hbm_wire_key keys[LENGTH];
		uint32_t found[LENGTH] = {0};

		for (size_t i = 0; i < LENGTH; i++) {
			keys[i] = key_of(i);
			if (i != present)
				assert_int_not_equal(index_insert(index, 1, &keys[i]), 0);
		}

		assert_int_equal(index_find_chain(index, 1, keys, LENGTH, found), present);
		for (size_t i = 0; i < present; i++)
			assert_int_equal(found[i], index_find(index, 1, &keys[i]));
		assert_int_equal(index_find_chain(index, 2, keys, LENGTH, found), 0);
		assert_int_equal(index_find_chain(index, 1, keys, 0, found), 0);
		index_free(index);
	}
}

static void test_growing(void **state)
{
	(void)state;
	enum { MANY = 100000 };
	struct index *index = index_of(MANY);
	for (uint64_t n = 1; n <= MANY; n++) {
		assert_int_equal(insert(index, 1, n), n);
		assert_int_equal(find(index, 1, n), n);
		assert_int_equal(find(index, 1, 1 + n / 2), 1 + n / 2);
		if ((n & (n - 1)) == 0 || n % 9973 == 0) {
			for (uint64_t i = 1; i <= n; i++)
				assert_int_equal(find(index, 1, i), i);
			assert_in_range(index_memory(index) / n, 1, BUDGET);
		}
	}

	assert_int_equal(insert(index, 1, MANY + 1), 0);
	assert_int_equal(index_highest(index), MANY);
	for (uint32_t n = 1; n <= MANY; n++)
		take_out(index, n);
	assert_int_equal(index_count(index), 0);
	for (uint64_t n = 1; n <= MANY; n++)
		assert_int_not_equal(insert(index, 2, n), 0);
	for (uint64_t n = 1; n <= MANY; n++)
		assert_int_equal(find(index, 1, n), 0);
	assert_int_equal(index_highest(index), MANY);
	index_free(index);
}

/* ---- against a model ---- */

enum { KEYS = 3000, MAX = 2000, SPACES = 3 };

struct model {
	uint32_t number[SPACES][KEYS]; /* 0: absent */
	uint64_t count;
};

static void model_check(const struct model *model, const struct index *index)
{
	uint64_t used = 0;

	for (uint16_t ns = 0; ns < SPACES; ns++)
		for (uint64_t n = 0; n < KEYS; n++)
			assert_int_equal(find(index, ns, n), model->number[ns][n]);

	for (uint32_t number = 0; number <= index_highest(index); number++)
		used += index_used(index, number);
	assert_int_equal(used, model->count);
	assert_int_equal(index_count(index), model->count);
}

static void test_against_a_model(void **state)
{
	(void)state;
	static struct model model;
	memset(&model, 0, sizeof(model));
	struct seed seed;
	seed_open(&seed, "test_against_a_model");
	struct index *index = index_of(MAX);
	unsigned eagerness = 50; /* percent of operations that insert */
	for (int i = 0; i < 200000; i++) {
		if (i % 5000 == 0)
			eagerness = 10 + 20 * (unsigned)seed_below(&seed, 5);

		uint16_t ns = (uint16_t)seed_below(&seed, SPACES);
		uint64_t n = seed_below(&seed, KEYS);
		uint32_t *number = &model.number[ns][n];
		if (*number != 0 && seed_below(&seed, 100) >= eagerness) {
			take_out(index, *number);
			*number = 0;
			model.count--;
		} else if (*number == 0 && seed_below(&seed, 100) < eagerness) {
			*number = insert(index, ns, n);
			assert_int_equal(*number != 0, model.count < MAX);
			model.count += *number != 0;
		}

		assert_int_equal(find(index, ns, n), *number);
		if (i % 10000 == 0)
			model_check(&model, index);
	}

	model_check(&model, index);
	index_free(index);
}

static struct leaks leaks;

static int before(void **state)
{
	(void)state;
	leaks_begin(&leaks);
	return 0;
}

static int after(void **state)
{
	(void)state;
	return leaks_end(&leaks) == 0 ? 0 : -1;
}

/* A miss does as much for a key that another namespace has as for one that none has: the counts
 * of so many keys differ by chance alone, which is as good as never more than six times what it
 * usually is. */
static void test_a_miss_tells_nothing_of_other_namespaces(void **state)
{
	(void)state;
	enum { MANY = 20000, THEIRS = 1, OURS = 2 };
	struct index *index = index_of(4 * MANY);
	int64_t compared[2] = {0, 0};

	for (uint64_t n = 0; n < MANY; n++) {
		assert_int_not_equal(insert(index, THEIRS, n), 0);
		assert_int_not_equal(insert(index, OURS, 2 * MANY + n), 0);
	}

	for (uint64_t n = 0; n < 2 * MANY; n++) {
		const struct hbm_wire_key key = key_of(n);

		assert_int_equal(find(index, OURS, n), 0);
		compared[n >= MANY] += index_compared(index, OURS, &key);
	}

	int64_t differ = compared[0] - compared[1];

	assert_in_range(compared[0], MANY / 8, 8 * MANY);
	assert_in_range(differ * differ, 0, 36 * (compared[0] + compared[1]));

	/* and a hit compares its own entry at least */
	const struct hbm_wire_key own = key_of(2 * MANY);
	assert_in_range(index_compared(index, OURS, &own), 1, MANY);
	index_free(index);
}

/* The hash is as large as for so many from the beginning, and grows on with more. */
static void test_many_are_expected(void **state)
{
	static const uint64_t counts[] = {0, 1, 2, 3, 64, 1000, 1023, 1024, 1025, 5000};

	(void)state;
	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		struct index *index = index_of(3000);

		index_expect_many(index, counts[i]);
		uint64_t expected = counts[i] < 3000 ? counts[i] : 3000;
		assert_in_range(index_memory(index), expected * sizeof(uint32_t),
				(expected + 1) * sizeof(uint32_t));
		for (uint64_t n = 1; n <= 2000; n++)
			assert_int_equal(insert(index, 1, n), n);
		index_expect_many(index, 3000); /* too late */
		for (uint64_t n = 1; n <= 2000; n++)
			assert_int_equal(find(index, 1, n), n);
		assert_int_equal(find(index, 1, 2001), 0);
		for (uint32_t number = 1; number <= 2000; number += 2)
			take_out(index, number);
		for (uint64_t n = 1; n <= 2000; n++)
			assert_int_equal(find(index, 1, n), n % 2 == 0 ? n : 0);
		index_free(index);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_new_refuses_nonsense, before, after),
		cmocka_unit_test_setup_teardown(test_a_freed_index_takes_its_tables_along, before,
						after),
		cmocka_unit_test_setup_teardown(test_an_empty_index, before, after),
		cmocka_unit_test_setup_teardown(test_many_are_expected, before, after),
		cmocka_unit_test_setup_teardown(test_the_namespace_is_part_of_the_key, before,
						after),
		cmocka_unit_test_setup_teardown(test_a_full_table, before, after),
		cmocka_unit_test_setup_teardown(test_numbers_are_reused_only_when_released, before,
						after),
		cmocka_unit_test_setup_teardown(test_a_chain_ends_at_the_first_absent_key, before,
						after),
		cmocka_unit_test_setup_teardown(test_growing, before, after),
		cmocka_unit_test_setup_teardown(test_a_miss_tells_nothing_of_other_namespaces,
						before, after),
		cmocka_unit_test_setup_teardown(test_against_a_model, before, after),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
