/* SPDX-License-Identifier: Apache-2.0 */
/* Extents that late copies may use: they stay out of service until those are over. Devices are
 * made up: the test says what is known of their copies. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/device/device.h"
#include "daemon/tier/late_extents.h"

static struct device first, second;

static int setup(void **state)
{
	(void)state;
	first = second = (struct device){0};
	return 0;
}

static void test_it_comes_back_when_its_copy_is_over(void **state)
{
	struct late_extents late = {0};
	uint32_t unit = 0;
	bool wipe;

	(void)state;
	assert_false(late_extents_free(&late, 7, 10));
	late_extents_add(&late, 7, &first);
	late_extents_add(&late, 9, &first);
	assert_false(late_extents_free(&late, 8, 10));
	assert_true(late_extents_free(&late, 9, 20));
	assert_int_equal(late_extents_take_over(&late, &unit, &wipe), 0);

	first.late.over = 1; /* of the one that is in use: nothing comes back */
	assert_int_equal(late_extents_take_over(&late, &unit, &wipe), 0);
	first.late.over = 2;
	assert_int_equal(late_extents_take_over(&late, &unit, &wipe), 20);
	assert_int_equal(unit, 9);
	assert_int_equal(late_extents_take_over(&late, &unit, &wipe), 0);

	assert_false(late_extents_free(&late, 7, 10)); /* it was over before */
	assert_int_equal(late.count, 0);
	late_extents_clear(&late);
}

/* The last copy counts, and that of each device. */
static void test_all_copies_are_waited_for(void **state)
{
	struct late_extents late = {0};
	uint32_t unit = 0;
	bool wipe;

	(void)state;
	late_extents_add(&late, 7, &first);
	late_extents_add(&late, 7, &second);
	late_extents_add(&late, 7, &first);
	first.late.over = second.late.over = 1;
	assert_true(late_extents_free(&late, 7, 10));
	assert_int_equal(late_extents_take_over(&late, &unit, &wipe), 0);
	first.late.over = 2;
	second.late.over = 0;
	assert_int_equal(late_extents_take_over(&late, &unit, &wipe), 0);
	second.late.over = 1;
	assert_int_equal(late_extents_take_over(&late, &unit, &wipe), 10);
	assert_int_equal(unit, 7);
	assert_int_equal(late.count, 0);
	late_extents_clear(&late);
}

static void test_none_of_many_is_forgotten(void **state)
{
	enum { MANY = 1000 };
	static bool back[MANY];
	struct late_extents late = {0};
	uint32_t unit = 0;
	bool wipe;

	(void)state;
	for (uint32_t i = 0; i < MANY; i++)
		late_extents_add(&late, i * 3, i % 2 ? &first : &second);
	for (uint32_t i = MANY; i-- > 0;) {
		assert_true(late_extents_free(&late, i * 3, 1 + i));
		assert_false(late_extents_free(&late, i * 3 + 1, 1 + i));
	}

	first.late.over = MANY / 4;
	second.late.over = MANY / 2;
	for (unsigned n = 0; n < MANY * 3 / 4; n++) {
		uint64_t bytes = late_extents_take_over(&late, &unit, &wipe);
		assert_int_equal(bytes, 1 + unit / 3);
		assert_false(back[unit / 3]);
		assert_true(unit / 3 % 2 == 0 || unit / 3 < MANY / 2);
		back[unit / 3] = true;
	}

	assert_int_equal(late_extents_take_over(&late, &unit, &wipe), 0);
	assert_int_equal(late.count, MANY / 4);
	late_extents_clear(&late);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_it_comes_back_when_its_copy_is_over, setup),
		cmocka_unit_test_setup(test_all_copies_are_waited_for, setup),
		cmocka_unit_test_setup(test_none_of_many_is_forgotten, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
