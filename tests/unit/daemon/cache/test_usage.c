/* SPDX-License-Identifier: Apache-2.0 */
/* Usage: what is counted of a block, and what becomes of it with the block. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/cache/usage.h"
#include "tests/support/leaks.h"

enum { BLOCKS = 1 << 20 };

static struct leaks leaks;
static struct blocks blocks;
static struct usage usage;

static void start(void)
{
	leaks_begin(&leaks);
	list_init(&blocks.listeners);
	assert_int_equal(usage_open(&usage, &blocks, BLOCKS), 0);
}

static void finish(void)
{
	usage_close(&usage);
	usage_close(&usage);
	assert_true(list_empty(&blocks.listeners));
	assert_int_equal(leaks_end(&leaks), 0);
}

/* As block.c tells all who listen. */
static void drop(uint32_t number)
{
	list_for_each (node, &blocks.listeners) {
		struct block_listener *listener = container_of(node, struct block_listener, link);

		listener->dropped(listener, number);
	}
}

static void test_a_count_is_a_blocks_own(void **state)
{
	(void)state;
	start();
	assert_int_equal(usage_of(&usage, 1), 0);
	assert_int_equal(usage_of(&usage, BLOCKS), 0);
	for (unsigned i = 0; i < 3; i++)
		usage_add(&usage, 7);
	usage_add(&usage, 1);
	usage_add(&usage, BLOCKS);
	assert_int_equal(usage_of(&usage, 7), 3);
	assert_int_equal(usage_of(&usage, 1), 1);
	assert_int_equal(usage_of(&usage, BLOCKS), 1);
	assert_int_equal(usage_of(&usage, 6), 0);
	finish();
}

/* The next block of that number begins with none. */
static void test_a_count_goes_with_its_block(void **state)
{
	(void)state;
	start();
	usage_add(&usage, 7);
	usage_add(&usage, 8);
	drop(7);
	drop(9);
	assert_int_equal(usage_of(&usage, 7), 0);
	assert_int_equal(usage_of(&usage, 8), 1);
	usage_add(&usage, 7);
	assert_int_equal(usage_of(&usage, 7), 1);
	finish();
}

static void test_a_count_does_not_begin_again(void **state)
{
	(void)state;
	start();
	usage_add(&usage, 5);
	usage.counts[5] = UINT32_MAX - 1;
	usage_add(&usage, 5);
	usage_add(&usage, 5);
	assert_int_equal(usage_of(&usage, 5), UINT32_MAX);
	finish();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_count_is_a_blocks_own),
		cmocka_unit_test(test_a_count_goes_with_its_block),
		cmocka_unit_test(test_a_count_does_not_begin_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
