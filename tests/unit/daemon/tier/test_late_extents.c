/* SPDX-License-Identifier: Apache-2.0 */
/* Late extents: each is taken once, however often it was added, and many are remembered. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/tier/late_extents.h"

static void test_each_is_taken_once(void **state)
{
	struct late_extents late = {0};

	(void)state;
	assert_false(late_extents_take(&late, 7));
	late_extents_add(&late, 7);
	late_extents_add(&late, 7);
	late_extents_add(&late, 9);
	assert_false(late_extents_take(&late, 8));
	assert_true(late_extents_take(&late, 7));
	assert_false(late_extents_take(&late, 7));
	assert_true(late_extents_take(&late, 9));
	late_extents_clear(&late);
}

static void test_none_of_many_is_forgotten(void **state)
{
	struct late_extents late = {0};

	(void)state;
	for (uint32_t i = 0; i < 1000; i++)
		late_extents_add(&late, i * 3);
	for (uint32_t i = 1000; i-- > 0;) {
		assert_true(late_extents_take(&late, i * 3));
		assert_false(late_extents_take(&late, i * 3 + 1));
	}

	assert_int_equal(late.count, 0);
	late_extents_clear(&late);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_is_taken_once),
		cmocka_unit_test(test_none_of_many_is_forgotten),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
