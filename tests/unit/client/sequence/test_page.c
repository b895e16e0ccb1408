/* SPDX-License-Identifier: Apache-2.0 */
/* Pages: how many slots have a slab, whichever comes and goes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client/sequence/page.h"
#include "client/sequence/pool.h"

#define SLAB (2ull << 20)

static void sharing_changed(const struct hbm_pool *pool, const struct page_table *table)
{
	(void)pool;
	(void)table;
}

static struct hbm_pool pool = {.slab = SLAB, .slot_slabs = 4, .sharing_changed = sharing_changed};

static void test_a_slab_is_shared_while_two_have_it(void **state)
{
	(void)state;
	struct page_table a = {0}, b = {0}, c = {0};

	assert_true(hbm_page_prepare(&pool, &a, 2) && hbm_page_prepare(&pool, &b, 2) &&
		    hbm_page_prepare(&pool, &c, 2));
	assert_int_equal(pool.spare_count, 2);
	assert_false(hbm_page_is_shared(&pool, &a, SLAB));

	hbm_page_share(&pool, &a, &b, SLAB);
	hbm_page_share(&pool, &b, &c, SLAB);
	assert_true(hbm_page_is_same(&pool, &a, &c, SLAB));
	assert_false(hbm_page_is_same(&pool, &a, &c, 0));
	assert_int_equal(pool.spare_count, 1);
	assert_int_equal(a.shared + b.shared + c.shared, 3);

	hbm_page_drop(&pool, &a, SLAB);
	assert_false(hbm_page_is_shared(&pool, &a, SLAB));
	assert_true(hbm_page_is_shared(&pool, &b, SLAB));
	hbm_page_drop(&pool, &b, SLAB);
	assert_false(hbm_page_is_shared(&pool, &c, SLAB));
	assert_int_equal(a.shared + b.shared + c.shared, 0);
	hbm_page_drop(&pool, &b, SLAB);

	hbm_page_clear(&pool, &a);
	hbm_page_clear(&pool, &b);
	hbm_page_clear(&pool, &c);
	hbm_page_free_spare(&pool);
	assert_int_equal(pool.spare_count, 0);
}

static void test_a_page_moves_with_its_slab(void **state)
{
	(void)state;
	struct page_table a = {0}, b = {0};

	assert_true(hbm_page_prepare(&pool, &a, 1) && hbm_page_prepare(&pool, &b, 0));
	struct page *page = hbm_page_hold(&pool, &a, 3 * SLAB);
	hbm_page_drop(&pool, &a, 3 * SLAB);
	hbm_page_put(&pool, &b, 3 * SLAB, page);
	assert_false(hbm_page_is_shared(&pool, &b, 3 * SLAB));
	hbm_page_clear(&pool, &a);
	hbm_page_clear(&pool, &b);
	hbm_page_free_spare(&pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_slab_is_shared_while_two_have_it),
		cmocka_unit_test(test_a_page_moves_with_its_slab),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
