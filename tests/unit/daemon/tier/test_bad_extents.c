/* SPDX-License-Identifier: Apache-2.0 */
/* Which extents are not used again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/tier/bad_extents.h"

static void test_the_second_failed_read(void **state)
{
	(void)state;
	struct bad_extents bad = {.count = 0};
	assert_false(bad_extents_take(&bad, 0));
	bad_extents_read_failed(&bad, 0);
	assert_false(bad_extents_take(&bad, 0));
	bad_extents_read_failed(&bad, 7);
	bad_extents_read_failed(&bad, 0);
	assert_int_equal(bad.count, 1);
	assert_false(bad_extents_take(&bad, 7));
	assert_true(bad_extents_take(&bad, 0));
	assert_false(bad_extents_take(&bad, 0));
	assert_int_equal(bad.count, 0);
}

/* The oldest make way, bad or not. */
static void test_more_than_it_remembers(void **state)
{
	(void)state;
	struct bad_extents bad = {.count = 0};
	for (uint32_t unit = 0; unit < BAD_EXTENTS_MAX; unit++)
		bad_extents_read_failed(&bad, unit);
	bad_extents_read_failed(&bad, 0);
	bad_extents_read_failed(&bad, 1);
	assert_int_equal(bad.count, 2);
	bad_extents_read_failed(&bad, BAD_EXTENTS_MAX);
	assert_int_equal(bad.count, 1);
	assert_false(bad_extents_take(&bad, 0));
	assert_true(bad_extents_take(&bad, 1));
	bad_extents_read_failed(&bad, BAD_EXTENTS_MAX);
	assert_true(bad_extents_take(&bad, BAD_EXTENTS_MAX));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_second_failed_read),
		cmocka_unit_test(test_more_than_it_remembers),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
