/* SPDX-License-Identifier: Apache-2.0 */
/* Namespaces: equal specs share one, any difference makes another, and one that nobody uses is forgotten. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "daemon/space.h"

static struct spaces *spaces_of(uint64_t max)
{
	struct spaces *spaces = NULL;
	assert_int_equal(spaces_new(&spaces, max), 0);
	return spaces;
}

static void test_new_refuses_nonsense(void **state)
{
	(void)state;
	struct spaces *spaces = NULL;
	assert_int_equal(spaces_new(&spaces, 0), -EINVAL);
	assert_int_equal(spaces_new(&spaces, UINT16_MAX), -EINVAL);
	assert_null(spaces);
	assert_null(spaces_free(NULL));
}

/* Each byte of the spec counts, the salt's as well. */
static void test_any_difference_makes_another(void **state)
{
	(void)state;
	struct spaces *spaces = spaces_of(sizeof(struct hbm_wire_namespace) + 1);
	struct hbm_wire_namespace spec = {.block_bytes = 4096};
	uint16_t first = spaces_open(spaces, &spec);
	assert_int_equal(first, 1);
	assert_int_equal(spaces_open(spaces, &spec), first);
	assert_int_equal(spaces_get(spaces, first)->opens, 2);
	for (size_t i = 0; i < sizeof(spec); i++) {
		struct hbm_wire_namespace other = spec;
		((uint8_t *)&other)[i] ^= 1;
		uint16_t number = spaces_open(spaces, &other);
		assert_int_equal(number, 2 + i);
		assert_memory_not_equal(spaces_get(spaces, number)->fingerprint, spaces_get(spaces, first)->fingerprint,
					16);
	}
	assert_int_equal(spaces_count(spaces), 1 + sizeof(spec));
	spaces_free(spaces);
}

static void test_a_full_table(void **state)
{
	(void)state;
	struct spaces *spaces = spaces_of(2);
	struct hbm_wire_namespace spec = {.block_bytes = 4096};
	for (uint64_t i = 0; i < 2; i++) {
		spec.weights = i;
		assert_int_equal(spaces_open(spaces, &spec), 1 + i);
	}
	spec.weights = 2;
	assert_int_equal(spaces_open(spaces, &spec), 0);
	spaces_unref(spaces, 1);
	assert_int_equal(spaces_open(spaces, &spec), 1);
	assert_null(spaces_get(spaces, 0));
	assert_null(spaces_get(spaces, 3));
	assert_null(spaces_get(spaces, UINT32_MAX));
	spaces_free(spaces);
}

/* It stays while somebody has it open or it has blocks. */
static void test_it_is_forgotten_with_its_last_use(void **state)
{
	(void)state;
	struct spaces *spaces = spaces_of(4);
	struct hbm_wire_namespace spec = {.block_bytes = 8192};
	uint16_t number = spaces_open(spaces, &spec);
	spaces_ref(spaces, number);
	struct space *space = spaces_get(spaces, number);
	assert_int_equal(space->block_bytes, 8192);
	space->blocks = 2;
	spaces_unref(spaces, number);
	spaces_unref(spaces, number);
	assert_int_equal(spaces_count(spaces), 1);
	spaces_block_gone(spaces, number);
	assert_int_equal(spaces_open(spaces, &spec), number); /* found again */
	spaces_block_gone(spaces, number);
	assert_int_equal(spaces_count(spaces), 1);
	spaces_unref(spaces, number);
	assert_int_equal(spaces_count(spaces), 0);
	assert_null(spaces_get(spaces, number));
	spaces_free(spaces);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_new_refuses_nonsense),
		cmocka_unit_test(test_any_difference_makes_another),
		cmocka_unit_test(test_a_full_table),
		cmocka_unit_test(test_it_is_forgotten_with_its_last_use),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
